"""Small ONNX models with inputs of every kind, and with control flow, made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["MODELS"]

FLOAT, HALF, INT64, INT8, UINT8, BOOL = (
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.INT64,
    TensorProto.INT8,
    TensorProto.UINT8,
    TensorProto.BOOL,
)


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    **constants: np.ndarray[Any, Any],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes, "made", inputs, outputs, [numpy_helper.from_array(value, name) for name, value in constants.items()]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


_value = helper.make_tensor_value_info


def two_inputs() -> onnx.ModelProto:
    node = helper.make_node("MatMul", ["a", "b"], ["y"], name="product")
    return _model([node], [_value("a", FLOAT, ["N", 8]), _value("b", FLOAT, [8, 4])], [_value("y", FLOAT, ["N", 4])])


def embedding() -> onnx.ModelProto:
    """Token ids and a mask, as a text model takes them; the table has two rows alone."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"], name="lookup"),
        helper.make_node("Where", ["mask", "rows", "zero"], ["y"], name="masked"),
    ]
    inputs = [_value("ids", INT64, ["N", 16]), _value("mask", BOOL, ["N", 16, 1])]
    table = np.ones((2, 32), np.float32)
    return _model(nodes, inputs, [_value("y", FLOAT, ["N", 16, 32])], table=table, zero=np.zeros((), np.float32))


def half() -> onnx.ModelProto:
    node = helper.make_node("Add", ["x", "one"], ["y"], name="plus")
    return _model([node], [_value("x", HALF, [4, 8])], [_value("y", HALF, [4, 8])], one=np.ones((), np.float16))


def integer_matmul() -> onnx.ModelProto:
    """An int8 input, quantised by whoever calls."""
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"], name="product")
    weights = np.arange(64, dtype=np.int8).reshape(8, 8)
    return _model([node], [_value("x", INT8, [4, 8])], [_value("y", TensorProto.INT32, [4, 8])], w=weights)


def qlinear() -> onnx.ModelProto:
    """Operators that are quantised themselves (QLinear), the other form beside QDQ."""
    names = ["x", "xs", "xz", "w", "xs", "xz", "ys", "xz"]
    constants: dict[str, np.ndarray[Any, Any]] = {
        "xs": np.array(0.1, np.float32),
        "ys": np.array(1.0, np.float32),
        "xz": np.array(128, np.uint8),
        "w": np.arange(64, dtype=np.uint8).reshape(8, 8),
    }
    node = helper.make_node("QLinearMatMul", names, ["y"], name="product")
    return _model([node], [_value("x", UINT8, [4, 8])], [_value("y", UINT8, [4, 8])], **constants)


def loop() -> onnx.ModelProto:
    """The input added to itself three times."""
    body = helper.make_graph(
        [
            helper.make_node("Add", ["sum", "x"], ["more"], name="add"),
            helper.make_node("Identity", ["on"], ["still_on"], name="on"),
        ],
        "body",
        [_value("i", INT64, []), _value("on", BOOL, []), _value("sum", FLOAT, [4, 8])],
        [_value("still_on", BOOL, []), _value("more", FLOAT, [4, 8])],
    )
    node = helper.make_node("Loop", ["three", "true", "x"], ["y"], name="loop", body=body)
    constants = {"three": np.array(3, np.int64), "true": np.array(True)}
    return _model([node], [_value("x", FLOAT, [4, 8])], [_value("y", FLOAT, [4, 8])], **constants)


def scan() -> onnx.ModelProto:
    """A running sum along the first dimension."""
    body = helper.make_graph(
        [
            helper.make_node("Add", ["sum", "row"], ["more"], name="add"),
            helper.make_node("Identity", ["more"], ["row_sum"], name="keep"),
        ],
        "body",
        [_value("sum", FLOAT, [8]), _value("row", FLOAT, [8])],
        [_value("more", FLOAT, [8]), _value("row_sum", FLOAT, [8])],
    )
    node = helper.make_node("Scan", ["zero", "x"], ["last", "y"], name="scan", body=body, num_scan_inputs=1)
    return _model([node], [_value("x", FLOAT, [4, 8])], [_value("y", FLOAT, [4, 8])], zero=np.zeros(8, np.float32))


def unknown_rank() -> onnx.ModelProto:
    node = helper.make_node("Relu", ["x"], ["y"], name="relu")
    return _model([node], [_value("x", FLOAT, None)], [_value("y", FLOAT, None)])


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    maker.__name__: maker for maker in (two_inputs, embedding, half, integer_matmul, qlinear, loop, scan)
}
