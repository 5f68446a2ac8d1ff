"""What a kernel says of the small constants it reads must survive being written as JSON."""

import math

import msgspec
import pytest

from latency_models.features import form
from latency_models.graph import Graph, Operator, Tensor
from latency_models.kernels import KernelSpec, of_nodes


def kernel_reading(dtype: str, *values: float) -> KernelSpec:
    tensors = {
        "x": Tensor(name="x", dtype=dtype, shape=(2, 3)),
        "c": Tensor(name="c", dtype=dtype, shape=(len(values),), is_constant=True, values=values),
        "y": Tensor(name="y", dtype=dtype, shape=(2, 3)),
    }
    node = Operator(index=0, name="n", type="And", inputs=("x", "c"), outputs=("y",))
    graph = Graph(name="g", format="onnx", version=9, tensors=tensors, operators=(node,), inputs=("x",), outputs=("y",))
    kernel = of_nodes(graph, [node])
    assert kernel is not None
    return kernel


@pytest.mark.parametrize(
    ("dtype", "values", "kept"),
    [
        ("bool", (True, False), (1.0, 0.0)),
        ("int64", (1, -1), (1.0, -1.0)),
        ("float32", (0.5, 2.0), (0.5, 2.0)),
        ("float32", (1.0, math.inf), None),
        ("float32", (math.nan,), None),
    ],
)
def test_small_constants_are_kept_as_finite_numbers(
    dtype: str, values: tuple[float, ...], kept: tuple[float, ...] | None
) -> None:
    kernel = kernel_reading(dtype, *values)
    read = msgspec.json.decode(msgspec.json.encode(kernel), type=KernelSpec)
    assert read == kernel
    constant = read.inputs[1]
    assert constant is not None
    assert constant.values == kept


def test_what_reads_and_writes_nothing_has_a_family_and_features() -> None:
    found = form(KernelSpec(format="tflite", type="CALL_ONCE"))

    assert found.family.startswith("CALL_ONCE")
    assert found.moved_bytes == 0
