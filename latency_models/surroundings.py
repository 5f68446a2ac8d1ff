"""What a kernel runs in: how much the model moves, and where what the kernel reads and writes comes from and goes.

A kernel that reads what the one before it wrote finds it in a cache; what was written long before, or comes from
outside, it does not. How many bytes are moved in between is the stack distance that decides on a hit (Mattson et al.,
Evaluation techniques for storage hierarchies, 1970), here without telling apart what is moved twice. What leaves the
model is written to memory that is new each time.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from latency_models.kernels import KernelSpec, Operand

__all__ = ["Context", "Place", "places_of"]

_Key = tuple[str | None, tuple[int, ...]]


@dataclass(frozen=True)
class Context:
    """Bytes that a whole model moves, and those of them that are weights."""

    moved_bytes: float
    weight_bytes: float

    @classmethod
    def of(cls, kernels: Iterable[KernelSpec]) -> Context:
        """Of a model with these kernels."""
        moved = weights = 0.0
        for kernel in kernels:
            moved += kernel.moved_bytes
            weights += sum(one.size_bytes for one in kernel.inputs if one is not None and one.is_constant)
        return cls(moved, weights)


@dataclass(frozen=True)
class Place:
    """Where in a model a kernel stands.

    `idle_bytes` are moved between the last touch of what it reads and its turn, the geometric mean over tensors, by
    their sizes. `entering` is the share of what it reads that no kernel of the model wrote, `leaving` the share of what
    it writes that none reads.
    """

    idle_bytes: float
    entering: float
    leaving: float


def places_of(kernels: Sequence[KernelSpec], *, is_part: bool = False) -> list[Place]:
    """The place of each kernel of a model.

    Kernels have no names of tensors: one that is read is taken to be the latest with its type and shape.

    Args:
        kernels: in the order in which they run.
        is_part: they are a part of a model, which reads what the part before it just wrote, and is read by the next.
    """
    touched: dict[_Key, list[float]] = defaultdict(list)
    leaving = [0.0] * len(kernels) if is_part else _leaving(kernels)
    found, so_far = [], 0.0
    for place, kernel in enumerate(kernels):
        after = so_far + kernel.moved_bytes
        logs = total = entering = 0.0
        for key, operands in _read(kernel).items():
            times, size = touched[key], operands[0].size_bytes
            known = min(len(times), len(operands))
            logs += size * sum(math.log1p(so_far - one) for one in times[len(times) - known :])
            entering += size * (len(operands) - known)
            total += size * len(operands)
            touched[key] = [*times[: len(times) - known], *[after] * len(operands)]
        for written in kernel.outputs:
            touched[_key(written)].append(after)
        inside = total - entering
        found.append(
            Place(
                idle_bytes=math.expm1(logs / inside) if inside > 0 else 0.0,
                entering=entering / total if total > 0 and not is_part else 0.0,
                leaving=leaving[place],
            )
        )
        so_far = after
    return found


def _leaving(kernels: Sequence[KernelSpec]) -> list[float]:
    """The share of what each kernel writes that no later one reads."""
    wanted: set[_Key] = set()
    found = []
    for kernel in reversed(kernels):
        total = sum(one.size_bytes for one in kernel.outputs)
        unread = sum(one.size_bytes for one in kernel.outputs if _key(one) not in wanted)
        found.append(unread / total if total > 0 else 0.0)
        wanted.update(_read(kernel))
    return found[::-1]


def _read(kernel: KernelSpec) -> dict[_Key, list[Operand]]:
    """What a kernel reads that is not constant."""
    found: dict[_Key, list[Operand]] = defaultdict(list)
    for one in kernel.inputs:
        if one is not None and not one.is_constant:
            found[_key(one)].append(one)
    return found


def _key(one: Operand) -> _Key:
    return one.dtype, one.shape
