"""What layers may be built on, whatever the format."""

from __future__ import annotations

from collections.abc import Sequence

from latency_models.building.base import BuildError, Value

__all__ = ["joined", "require_image", "require_no_image", "require_positive"]


def require_image(x: Value, layer: str) -> tuple[int, int, int, int]:
    """Batch, height, width and channels of an image.

    Raises:
        BuildError: it is none.
    """
    if not x.is_image or len(x.shape) != 4:
        raise BuildError(f"{layer}: needs an image, not {list(x.shape)}")
    return x.shape[0], x.shape[1], x.shape[2], x.shape[3]


def require_no_image(x: Value, layer: str) -> None:
    """Refuse an image, whose dimensions stand in another order in each format.

    Raises:
        BuildError: it is one.
    """
    if x.is_image:
        raise BuildError(f"{layer}: is not for images: flatten it, or take to_tokens")


def require_positive(layer: str, sizes: Sequence[int]) -> None:
    """Refuse sizes below 1.

    Raises:
        BuildError: one is.
    """
    if any(size < 1 for size in sizes):
        raise BuildError(f"{layer}: {list(sizes)}: every size is 1 or more")


def joined(shapes: Sequence[tuple[int, ...]], axis: int) -> tuple[tuple[int, ...], int]:
    """The shape of what stands one behind the other along an axis, and the axis counted from the front.

    Raises:
        BuildError: they differ beside that axis.
    """
    first = shapes[0]
    place = axis % len(first)
    others = [k for k in range(len(first)) if k != place]
    for shape in shapes[1:]:
        if len(shape) != len(first) or any(shape[k] != first[k] for k in others):
            raise BuildError(f"concat: {list(first)} and {list(shape)} differ beside axis {axis}")
    return (*first[:place], sum(shape[place] for shape in shapes), *first[place + 1 :]), place
