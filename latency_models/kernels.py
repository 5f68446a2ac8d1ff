"""A kernel: what a runtime runs in one step, described by what it is given and not by how the file calls it.

Kernels are what predictors are trained on and asked for. They are made from the nodes of a graph (`of_nodes`): of the
graph that the runtime executed, where it is known, else of the file's nodes that the runtime is known to run together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeGuard

from latency_models.graph import BITS, Graph, Operator

__all__ = ["NAMES_ALONE", "KernelSpec", "Operand", "of_nodes", "plain_attributes"]

# Attributes of more entries than this are weights or tables, and tell nothing of the time.
MAX_ATTRIBUTE_ENTRIES = 16
MAX_TEXT = 64
# What hands over the name of a variable and no more (TFLite); no kernel is described by it.
NAMES_ALONE = frozenset(("VAR_HANDLE",))

Number = bool | int | float | str
Attribute = Number | list[Number]


@dataclass(frozen=True, kw_only=True)
class Operand:
    """A tensor that a kernel reads or writes; `values` of small constants (axes, scales), where they are known."""

    dtype: str | None
    shape: tuple[int, ...]
    is_constant: bool = False
    values: tuple[float, ...] | None = None

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> float:
        """Bytes; 4 for each element of an unknown type."""
        return self.count * BITS.get(self.dtype or "", 32) / 8


@dataclass(frozen=True, kw_only=True)
class KernelSpec:
    """One step of a runtime. All its shapes are known.

    `type`, `domain` and `attributes` are those of the node that does the work (the one with the most MACs), of `format`
    "onnx" or "tflite"; `fused` are the types of the other nodes that run with it, in order. `inputs` are what comes in
    from outside, first those of the working node in its own order (None for what is omitted, or made inside).
    """

    format: str
    type: str
    domain: str = ""
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    inputs: tuple[Operand | None, ...] = ()
    outputs: tuple[Operand, ...] = ()
    fused: tuple[str, ...] = ()
    macs: int | None = None

    @property
    def moved_bytes(self) -> float:
        """What it reads, weights among it, and writes."""
        return sum(one.size_bytes for one in (*self.inputs, *self.outputs) if one is not None)


def of_nodes(graph: Graph, nodes: Sequence[Operator]) -> KernelSpec | None:
    """The kernel that runs these nodes of a graph together; None where a shape that it needs is not known.

    The type of a custom operator has its domain in front: "com.acme:Conv" has nothing in common with "Conv".
    Constants that only the other nodes read (a bias that is added) come after the inputs of the working node.
    """
    working = max(nodes, key=lambda node: (node.macs or 0, -nodes.index(node)))
    made = {name for node in nodes for name in node.outputs if name}
    inside = {name for node in nodes for name in node.inputs if name in made}
    own = [name if name not in made else "" for name in working.inputs]
    others = dict.fromkeys(
        name for node in nodes for name in node.inputs if name and name not in made and name not in working.inputs
    )
    outputs = [name for node in nodes for name in node.outputs if name and name not in inside]
    try:
        return KernelSpec(
            format=graph.format,
            type=working.full_type,
            domain=working.domain,
            attributes=plain_attributes(working.attributes),
            inputs=tuple(_operand(graph, name) if name else None for name in (*own, *others)),
            outputs=tuple(_operand(graph, name) for name in outputs or working.outputs[:1]),
            fused=tuple(node.type for node in nodes if node is not working),
            macs=working.macs,
        )
    except _UnknownShape:
        return None


def plain_attributes(attributes: Mapping[str, object]) -> dict[str, Attribute]:
    """Those attributes that can matter to the time: numbers, short texts and lists of them."""
    plain: dict[str, Attribute] = {}
    for name, value in attributes.items():
        if _is_plain(value):
            plain[name] = value if not isinstance(value, str) else value[:MAX_TEXT]
        elif isinstance(value, list | tuple) and len(value) <= MAX_ATTRIBUTE_ENTRIES:
            entries = [one for one in value if _is_plain(one)]
            if len(entries) == len(value):
                plain[name] = entries
    return plain


def _is_plain(value: object) -> TypeGuard[Number]:
    """A number that JSON can carry, or a text."""
    return isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))


class _UnknownShape(Exception):
    """A tensor's shape is not known."""


def _operand(graph: Graph, name: str) -> Operand:
    tensor = graph.tensors.get(name)
    if tensor is None or tensor.shape is None:
        raise _UnknownShape
    shape = tuple(dim for dim in tensor.shape if dim is not None)
    if len(shape) != len(tensor.shape) or any(dim < 0 for dim in shape):
        raise _UnknownShape
    return Operand(dtype=tensor.dtype, shape=shape, is_constant=tensor.is_constant, values=_plain_values(tensor.values))


def _plain_values(values: Sequence[float] | None) -> tuple[float, ...] | None:
    """As numbers that JSON can carry (a bool as 0 or 1); None where one of them is infinite or no number."""
    if values is None or not all(map(_is_plain, values)):
        return None
    return tuple(map(float, values))
