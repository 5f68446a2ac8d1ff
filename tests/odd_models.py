"""Models that nobody would export and somebody will send: very long, very deep, cyclic, nameless or badly named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

# Kernels that ONNX Runtime neither fuses with each other nor drops.
CHAIN = ("Sin", "Atan", "Tanh", "Softsign")
SHAPE = (1, 4)


def write_onnx(
    path: Path,
    nodes: Sequence[NodeProto],
    *,
    inputs: Sequence[str] = ("x",),
    outputs: Sequence[str] = ("y",),
    domains: Sequence[str] = ("",),
    functions: Sequence[onnx.FunctionProto] = (),
    constants: Sequence[TensorProto] = (),
) -> Path:
    """A model whose inputs and outputs are all float32 of SHAPE."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in outputs],
        list(constants),
    )
    opsets = [helper.make_opsetid(domain, 17 if not domain else 1) for domain in domains]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=list(functions)), path)
    return path


def write_chain(path: Path, n_nodes: int, names: Sequence[str] | None = None) -> Path:
    """Nodes one after the other, called block0/op and so on unless `names` has others."""
    tensors = ["x", *(f"t{k}" for k in range(n_nodes - 1)), "y"]
    nodes = [
        helper.make_node(CHAIN[k % 4], [tensors[k]], [tensors[k + 1]], name=names[k] if names else f"block{k}/op")
        for k in range(n_nodes)
    ]
    return write_onnx(path, nodes)


def write_loop(path: Path, n_rounds: int) -> Path:
    """A Loop whose body of one node runs `n_rounds` times."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Sin", ["before"], ["after"], name="sin")],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, SHAPE),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, SHAPE),
        ],
    )
    constants = [
        numpy_helper.from_array(np.array(n_rounds, np.int64), "rounds"),
        numpy_helper.from_array(np.array(True), "yes"),
    ]
    loop = helper.make_node("Loop", ["rounds", "yes", "x"], ["y"], name="loop", body=body)
    return write_onnx(path, [loop], constants=constants)


def write_nested_ifs(path: Path, depth: int) -> Path:
    """An If in an If in an If, the innermost of which runs Sin. By hand: protobuf writes no deep ones."""
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, SHAPE)
    other = helper.make_graph([helper.make_node("Tanh", ["x"], ["y"], name="tanh")], "else", [], [output])
    empty = helper.make_graph([], "then", [], [output]).SerializeToString()
    node = helper.make_node("Sin", ["x"], ["y"], name="sin").SerializeToString()
    for k in range(depth):
        branch = onnx.AttributeProto(name="then_branch", type=onnx.AttributeProto.GRAPH).SerializeToString()
        branch += _field(onnx.AttributeProto, "g", empty + _field(onnx.GraphProto, "node", node))
        outer = helper.make_node("If", ["yes"], ["y"], name=f"if{k}", else_branch=other)
        node = outer.SerializeToString() + _field(NodeProto, "attribute", branch)
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE),
        helper.make_tensor_value_info("yes", TensorProto.BOOL, []),
    ]
    graph = helper.make_graph([], "g", inputs, [output]).SerializeToString() + _field(onnx.GraphProto, "node", node)
    model = onnx.ModelProto(ir_version=8, opset_import=[helper.make_opsetid("", 17)])
    path.write_bytes(model.SerializeToString() + _field(onnx.ModelProto, "graph", graph))
    return path


def _field(message: Any, name: str, payload: bytes) -> bytes:
    """A field of a message whose number is under 16, as protobuf writes it."""
    length, left = b"", len(payload)
    while left > 127:
        length += bytes([left & 127 | 128])
        left >>= 7
    return bytes([message.DESCRIPTOR.fields_by_name[name].number << 3 | 2]) + length + bytes([left]) + payload
