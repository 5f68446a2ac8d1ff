"""Small ONNX models with known work, made on the spot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Dims = Sequence[int | str]
FloatArray = NDArray[np.float32]


def weights(*shape: int, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Dims],
    outputs: Mapping[str, Dims],
    constants: Mapping[str, NDArray[np.generic]],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "made",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(dims)) for name, dims in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(dims)) for name, dims in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def save(made: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(made.SerializeToString())
    return path


def residual_block(named: bool = True) -> onnx.ModelProto:
    """Conv, BatchNormalization, Relu, Conv, Add with the block's input, Relu; 8 channels of 16 x 16."""
    kinds = ("Conv", "BatchNormalization", "Relu", "Conv", "Add", "Relu")
    wiring = (
        (["x", "w1"], "a"),
        (["a", "scale", "shift", "mean", "variance"], "b"),
        (["b"], "c"),
        (["c", "w2"], "d"),
        (["d", "x"], "e"),
        (["e"], "y"),
    )
    nodes = []
    for number, (kind, (sources, target)) in enumerate(zip(kinds, wiring, strict=True)):
        pads = {"pads": [1, 1, 1, 1]} if kind == "Conv" else {}
        nodes.append(helper.make_node(kind, sources, [target], name=f"n{number}" if named else "", **pads))
    constants = {"w1": weights(8, 8, 3, 3), "w2": weights(8, 8, 3, 3, seed=1), "variance": np.ones(8, np.float32)}
    constants |= {name: weights(8, seed=2) for name in ("scale", "shift", "mean")}
    return model(nodes, {"x": ["N", 8, 16, 16]}, {"y": ["N", 8, 16, 16]}, constants)


def two_layers(path: Path) -> Path:
    """A MatMul and a Gemm, saved with external data in `weights/data.bin` beside the file."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="first"),
        helper.make_node("Gemm", ["h", "v", "b"], ["y"], name="second", transB=1),
    ]
    constants = {"w": weights(32, 64), "v": weights(10, 64), "b": weights(10)}
    made = model(nodes, {"x": [1, 32]}, {"y": [1, 10]}, constants)
    (path.parent / "weights").mkdir()
    onnx.save_model(made, str(path), save_as_external_data=True, location="weights/data.bin", size_threshold=0)
    return path


def residual_network() -> onnx.ModelProto:
    """A convolution, then `residual_block` on what it makes, with 32 channels so that every layout has whole blocks."""
    kinds = ("Conv", "Conv", "BatchNormalization", "Relu", "Conv", "Add", "Relu")
    wiring = (
        (["x", "w0"], "r"),
        (["r", "w1"], "a"),
        (["a", "scale", "shift", "mean", "variance"], "b"),
        (["b"], "c"),
        (["c", "w2"], "d"),
        (["d", "r"], "e"),
        (["e"], "y"),
    )
    nodes = [
        helper.make_node(kind, sources, [target], name=f"n{i}", **({"pads": [1, 1, 1, 1]} if kind == "Conv" else {}))
        for i, (kind, (sources, target)) in enumerate(zip(kinds, wiring, strict=True))
    ]
    constants = {f"w{i}": weights(32, 32, 3, 3, seed=i) for i in range(3)}
    constants |= {name: weights(32, seed=5) for name in ("scale", "shift", "mean")}
    constants["variance"] = np.ones(32, np.float32)
    return model(nodes, {"x": [1, 32, 16, 16]}, {"y": [1, 32, 16, 16]}, constants)


def quantized_convolution() -> onnx.ModelProto:
    """A convolution in QDQ form: every tensor passes through QuantizeLinear and DequantizeLinear."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"], name="q_in"),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"], name="dq_in"),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], name="dq_w"),
        helper.make_node("Conv", ["xd", "wd"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("QuantizeLinear", ["c", "s", "z"], ["cq"], name="q_out"),
        helper.make_node("DequantizeLinear", ["cq", "s", "z"], ["y"], name="dq_out"),
    ]
    constants: dict[str, NDArray[np.generic]] = {
        "s": np.array(0.05, np.float32),
        "z": np.array(128, np.uint8),
        "w": (weights(8, 8, 3, 3) * 20).astype(np.int8),
        "ws": np.array(0.05, np.float32),
        "wz": np.array(0, np.int8),
    }
    return model(nodes, {"x": [1, 8, 16, 16]}, {"y": [1, 8, 16, 16]}, constants)
