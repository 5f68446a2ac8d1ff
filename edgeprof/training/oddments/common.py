"""What oddments of both formats share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgeprof.training.sizes import Sizes
from latency_models.building import GraphBuilder, Value

__all__ = ["Oddment", "axis_of", "binary", "resized", "unary", "without"]

Oddment = Callable[[GraphBuilder, Sizes, Value], Value]


def unary(type: str) -> Oddment:
    """An operator that changes each number by itself."""
    return lambda net, sizes, x: net.operator(type, [x], [x.shape])[0]


def binary(type: str, dtype: str | None = None) -> Oddment:
    """An operator on two tensors, of one shape or not."""

    def make(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
        other = net.input(sizes.one_of((x.shape, x.shape, (*(1 for _ in x.shape[:-1]), x.shape[-1]), (1,))))
        return net.operator(type, [x, other], [x.shape], dtype=dtype)[0]

    return make


def axis_of(sizes: Sizes, x: Value) -> int:
    """Any dimension but the batch."""
    return sizes.one_of(range(1, len(x.shape)))


def without(shape: Sequence[int], axis: int) -> tuple[int, ...]:
    """The shape without one of its dimensions."""
    return (*shape[:axis], *shape[axis + 1 :])


def resized(shape: Sequence[int], axis: int, size: int) -> tuple[int, ...]:
    """The shape with another size of one dimension."""
    return (*shape[:axis], size, *shape[axis + 1 :])
