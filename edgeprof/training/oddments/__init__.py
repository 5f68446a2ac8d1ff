"""Scenes of operators that no layer is made of: arithmetic, comparisons, reductions, and the moving of small numbers.

Real files are full of them, and most take microseconds; a predictor that has never seen them could but bound them.
"""

from __future__ import annotations

from edgeprof.training.oddments import onnx, tflite
from edgeprof.training.sizes import Sizes
from latency_models.building import BuildError, GraphBuilder, Value

__all__ = ["oddments", "shape_of_data"]

PER_SCENE = 5
# So many of those that keep shape and type hand on what they made.
CHAINED = 0.6


def oddments(net: GraphBuilder, sizes: Sizes) -> Value:
    """A few such operators on one tensor, of about the size of activations or of a list of shapes."""
    is_int8 = net.precision == "int8"
    if is_int8 and net.format == "onnx":
        raise BuildError("oddments of ONNX are drawn in float32 alone")
    kinds = onnx.ONNX if net.format == "onnx" else tflite.TFLITE_INT8 if is_int8 else tflite.TFLITE
    keeping = onnx.KEEPING if net.format == "onnx" else tflite.KEEPING
    names = list(kinds)
    x = net.input(shape_of_data(sizes))
    made = x
    for _ in range(PER_SCENE):
        name = sizes.one_of(names)
        made = kinds[name](net, sizes, x)
        # What the model computed itself, runtimes may change in its place; what came in they may not.
        if name in keeping and sizes.chance(CHAINED):
            x = made
    return made


def shape_of_data(sizes: Sizes) -> tuple[int, ...]:
    rank = sizes.one_of((2, 3, 3, 4, 4))
    total = sizes.log_uniform(8, sizes.one_of((4_000, 400_000)))
    dims = [1]
    for k in range(rank - 2):
        dims.append(sizes.log_uniform(1, max(1, round(total ** (1 / (rank - 1 - k))))))
        total = max(1, total // dims[-1])
    return (*dims, max(1, total))
