"""Write a graph as an ONNX file, with weights drawn at random: one that was built in code has none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from latency_models.graph import Graph, GraphError, Tensor
from latency_models.onnx_graph import element_type

__all__ = ["onnx_bytes"]

# Read by every ONNX Runtime since 1.13.
IR_VERSION = 8
# No optimiser takes such weights out again, as it would those of 0 and 1.
ALIKE = 0.01
REACH = {"int8": (-100, 100), "uint8": (28, 228)}
INTEGERS = ("int8", "uint8", "int32", "int64")


def onnx_bytes(graph: Graph, seed: int | None = 0, weights: Mapping[str, NDArray[np.float32]] | None = None) -> bytes:
    """The file of a graph that a builder made.

    Weights are drawn so that activations keep their size through deep nets (He et al., Delving deep into rectifiers,
    2015): numbers that fade away to nothing would be computed slower.

    Args:
        graph: of format onnx.
        seed: of the weights; None for weights that are all alike, where only the graph matters.
        weights: those that are known, by name, such as trained ones.

    Raises:
        GraphError: the graph is of another format, or has something that a file cannot have.
    """
    if graph.format != "onnx":
        raise GraphError(f"{graph.name} is a {graph.format} graph: it cannot be an ONNX file")
    try:
        return _file(graph, None if seed is None else np.random.default_rng(seed), weights or {})
    except (ValueError, TypeError, KeyError) as error:
        raise GraphError(f"{graph.name} cannot be written as a file: {error}") from error


def _file(graph: Graph, rng: np.random.Generator | None, known: Mapping[str, NDArray[np.float32]]) -> bytes:
    weights = [
        numpy_helper.from_array(_known(tensor, known) if tensor.name in known else _values(tensor, rng), tensor.name)
        for tensor in graph.tensors.values()
        if tensor.is_constant
    ]
    nodes = [
        helper.make_node(node.type, node.inputs, node.outputs, name=node.name, domain=node.domain, **node.attributes)
        for node in graph.operators
    ]
    proto = helper.make_graph(
        nodes,
        graph.name,
        [_value(graph.tensors[name]) for name in graph.inputs],
        [_value(graph.tensors[name]) for name in graph.outputs],
        weights,
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in graph.opsets.items()]
    model = helper.make_model(proto, opset_imports=opsets, producer_name="edgeprof")
    model.ir_version = IR_VERSION
    return bytes(model.SerializeToString())


def _value(tensor: Tensor) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(tensor.name, element_type(tensor.dtype or "float32"), tensor.shape)


def _known(tensor: Tensor, known: Mapping[str, NDArray[np.float32]]) -> NDArray[Any]:
    values = np.ascontiguousarray(known[tensor.name], dtype=tensor.dtype or "float32")
    if values.shape != tensor.shape:
        raise ValueError(f"{tensor.name} has the shape {tensor.shape}, and its weights {values.shape}")
    return values


def _values(tensor: Tensor, rng: np.random.Generator | None) -> NDArray[Any]:
    shape = tuple(dim or 0 for dim in tensor.shape or ())
    dtype = tensor.dtype or "float32"
    if tensor.values is not None:
        return np.array(tensor.values).reshape(shape).astype(dtype)
    if rng is None and tensor.scale is None:
        return np.full(shape, ALIKE if dtype not in INTEGERS else 1).astype(dtype)
    if dtype in INTEGERS:
        if tensor.scale == 0.0 or rng is None:
            return np.full(shape, tensor.zero_point, dtype)
        low, high = REACH.get(dtype, (-1000, 1000))
        return rng.integers(low, high + 1, shape).astype(dtype)
    if tensor.scale is not None:
        return np.full(shape, tensor.scale, dtype)
    if rng is None:
        return np.full(shape, ALIKE).astype(dtype)
    fan_in = math.prod(shape[1:]) if len(shape) > 2 else shape[-1] if len(shape) == 2 else 16
    spread = math.sqrt(2.0 / max(1, fan_in))
    return (spread * rng.standard_normal(shape)).astype(dtype)
