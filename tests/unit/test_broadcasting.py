"""How long the runs of an operator on several tensors are, as the runtimes' own loops have them."""

from __future__ import annotations

import pytest

from latency_models.features import NAMES, form
from latency_models.features.broadcasting import run_length
from latency_models.kernels import KernelSpec, Operand

STEPS = NAMES.index("steps")


# Those of onnx were timed with ONNX Runtime 1.32 on x86-64: 31 to 61 ns for each run, from 1 to 4 elements long.
@pytest.mark.parametrize(
    ("shapes", "format", "expected"),
    [
        ([(1, 64, 28, 28), (1, 64, 28, 28)], "onnx", 64 * 28 * 28),
        ([(1, 64, 28, 28), (1, 64, 1, 1)], "onnx", 28 * 28),
        ([(1, 64, 28, 28), (1,)], "onnx", 64 * 28 * 28),
        ([(1, 64, 28, 28), ()], "onnx", 64 * 28 * 28),
        ([(1, 172, 309, 2), (1, 1, 309, 1)], "onnx", 2),
        ([(1, 1000, 4), (4,)], "onnx", 4),
        ([(1, 4, 1000), (1, 1, 1000)], "onnx", 1000),
        ([(1, 1, 200, 300), (1, 8, 1, 1)], "onnx", 200 * 300),
        # the shorter shape ends at a dimension of 1, where ONNX Runtime begins to count
        ([(1, 172, 309, 1), (1,)], "onnx", 1),
        ([(1, 172, 309, 1), ()], "onnx", 1),
        ([(1, 172, 309, 1), (1,)], "tflite", 172 * 309),
        ([(1, 172, 309, 1), (1, 172, 309, 1)], "onnx", 172 * 309),
        ([(), ()], "onnx", 1),
        ([(1, 1), (1, 1)], "onnx", 1),
    ],
)
def test_a_run_goes_on_as_long_as_each_tensor_does_the_same(
    shapes: list[tuple[int, ...]], format: str, expected: int
) -> None:
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    result = tuple(max(sizes) for sizes in zip(*padded, strict=True))
    assert run_length(shapes, result, format) == expected
    assert run_length(shapes[::-1], result, format) == expected


def of(type: str, *shapes: tuple[int, ...], result: tuple[int, ...]) -> KernelSpec:
    inputs = tuple(Operand(dtype="float32", shape=shape) for shape in shapes)
    return KernelSpec(format="onnx", type=type, inputs=inputs, outputs=(Operand(dtype="float32", shape=result),))


def test_the_number_of_runs_is_a_feature_of_what_works_element_by_element() -> None:
    one_run = form(of("Mul", (1, 50, 40), (1, 50, 40), result=(1, 50, 40)))
    many = form(of("Mul", (1, 50, 40), (1, 50, 1), result=(1, 50, 40)))
    assert (one_run.values[STEPS], round(2 ** many.values[STEPS])) == (1.0, 1 + 50)
    # the shape that Expand makes comes in as a list of numbers, which is nothing to work on
    expand = form(of("Expand", (1, 50, 1), (3,), result=(1, 50, 40)))
    assert round(2 ** expand.values[STEPS]) == 1 + 50
