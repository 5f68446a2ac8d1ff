"""Write a small text model with open dimensions, and values for it: python make_text_model.py text.onnx inputs.npz."""

import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(0)
weights = {
    "table": rng.standard_normal((1000, 256)).astype("float32"),
    "kernel": rng.standard_normal((256, 256)).astype("float32"),
}
nodes = [
    helper.make_node("Gather", ["table", "ids"], ["words"], name="lookup"),
    helper.make_node("Mul", ["words", "mask"], ["kept"], name="mask_out"),
    helper.make_node("MatMul", ["kept", "kernel"], ["mixed"], name="dense"),
    helper.make_node("Relu", ["mixed"], ["y"], name="relu"),
]
graph = helper.make_graph(
    nodes,
    "text",
    [
        helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "length"]),
        helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["batch", "length", 1]),
    ],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "length", 256])],
    [numpy_helper.from_array(value, name) for name, value in weights.items()],
)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), sys.argv[1])
np.savez(sys.argv[2], ids=rng.integers(0, 1000, (2, 64)), mask=np.ones((2, 64, 1), "float32"))
