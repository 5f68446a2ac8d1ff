"""How many elements an operator on several tensors can take in one go, when their shapes are not the same.

Runtimes work through such operators in runs: from the last dimension on, as long as every tensor either goes on or
repeats throughout. A new run costs some tens of nanoseconds, whatever its length: of [1, 172, 309, 2] times
[1, 1, 309, 1] each run is 2 elements long, and it takes fifty times what the same number of elements take in one run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["BROADCASTING", "SHAPED_BY_INPUT", "run_length"]

# Operators on several tensors, element by element.
BROADCASTING = frozenset(
    (
        "Add", "Sub", "Mul", "Div", "Pow", "Mod", "Max", "Min", "Sum", "PRelu", "Where", "Expand", "And", "Or", "Xor",
        "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual",
        "ADD", "SUB", "MUL", "DIV", "POW", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "PRELU", "SELECT_V2",
        "FLOOR_DIV", "FLOOR_MOD", "EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL", "LOGICAL_AND",
        "LOGICAL_OR", "BROADCAST_TO",
    )
)  # fmt: skip

# Those of them whose second input is no tensor to work on, but the shape that comes out.
SHAPED_BY_INPUT = frozenset(("Expand", "BROADCAST_TO"))


def run_length(shapes: Sequence[tuple[int, ...]], result: tuple[int, ...], format: str) -> int:
    """The length of a run; all elements of the result where every tensor has its shape, or is one number.

    Args:
        shapes: of what comes in.
        result: the shape that comes out.
        format: onnx or tflite: ONNX Runtime's loop (class Broadcaster, core/providers/cpu/math/element_wise_ops.h)
            passes over dimensions that are 1 everywhere as long as all shapes have more; at the end of the shorter one
            it begins, and its runs are 1 long. XNNPACK's passes over all of them.
    """
    rank = len(result)
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    shortest = min((len(shape) for shape in shapes), default=0)
    length, going_on = 1, None
    for back in range(1, rank + 1):
        if result[-back] == 1:
            if going_on is None and format == "onnx" and back >= max(1, shortest) and rank > back:
                return 1
            continue
        now = tuple(shape[-back] == result[-back] for shape in padded)
        if going_on is not None and now != going_on:
            return length
        length, going_on = length * result[-back], now
    return max(1, math.prod(result)) if going_on is not None else 1
