"""Reading kernels, whichever format and layout they are in."""

from __future__ import annotations

import math
from collections.abc import Mapping

from latency_models.kernels import Attribute, KernelSpec, Operand

__all__ = ["fill", "fills", "image_axes", "number", "pair", "shape_of", "values_of"]


def image_axes(kernel: KernelSpec) -> tuple[int, int]:
    """Where height and channels stand in the shape of an image; width stands after the height."""
    is_last = (
        kernel.format == "tflite" or bool(kernel.attributes.get("channels_last")) or kernel.type == "NhwcFusedConv"
    )
    return (1, 3) if is_last else (2, 1)


def fills(inputs: int, outputs: int, rows: int) -> dict[str, float]:
    """How full the last tile is, 0 to 1, of what is summed over, of what comes out, and of how often."""
    return {
        "input_fill_8": fill(inputs, 8),
        "input_fill_16": fill(inputs, 16),
        "output_fill_8": fill(outputs, 8),
        "output_fill_16": fill(outputs, 16),
        "output_fill_64": fill(outputs, 64),
        "row_fill_6": fill(rows, 6),
    }


def fill(size: int, tile: int) -> float:
    return size / (tile * max(1, math.ceil(size / tile)))


def pair(attributes: Mapping[str, Attribute], both: str, first: str, second: str) -> tuple[float, float]:
    listed = attributes.get(both)
    if isinstance(listed, list | tuple) and len(listed) >= 2:
        return float(listed[0]), float(listed[1])
    if isinstance(listed, list | tuple) and len(listed) == 1:
        return 1.0, float(listed[0])
    return number(attributes, first, 1.0), number(attributes, second, 1.0)


def values_of(kernel: KernelSpec, place: int) -> tuple[float, ...] | None:
    one = kernel.inputs[place] if place < len(kernel.inputs) else None
    return one.values if one is not None else None


def shape_of(operands: tuple[Operand | None, ...] | tuple[Operand, ...], place: int) -> tuple[int, ...]:
    one = operands[place] if place < len(operands) else None
    return one.shape if one is not None else ()


def number(attributes: Mapping[str, Attribute], name: str, default: float) -> float:
    value = attributes.get(name, default)
    return float(value) if isinstance(value, int | float) else default
