"""Write a graph that was built in code as a TFLite file, with weights drawn at random."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import tflite
from numpy.typing import NDArray

from edgeprof.models.tflite_writer import Table, write_tflite
from latency_models.graph import Graph, Operator, Tensor

__all__ = ["tflite_bytes"]

DESCRIPTION = b"built by edgeprof"
# The table of an operator's options, where it is not its name in camel case.
OPTIONS: Mapping[str, str] = {
    "CONV_2D": "Conv2DOptions", "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions", "MAX_POOL_2D": "Pool2DOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions", "BATCH_MATMUL": "BatchMatMulOptions", "MEAN": "ReducerOptions",
    "SUM": "ReducerOptions", "REDUCE_MAX": "ReducerOptions", "REDUCE_MIN": "ReducerOptions",
    "REDUCE_PROD": "ReducerOptions", "MAXIMUM": "MaximumMinimumOptions", "MINIMUM": "MaximumMinimumOptions",
    "L2_NORMALIZATION": "L2NormOptions", "GATHER_ND": "GatherNdOptions",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTMOptions", "QUANTIZE": "QuantizeOptions",
}  # fmt: skip
# These have options that are empty, or none; the runtimes ask for neither.
WITHOUT = frozenset(("RELU", "RELU6", "LOGISTIC", "TANH", "ELU", "PRELU", "RSQRT", "HARD_SWISH"))
# The axis of the channels, each of which has a scale of its own, by operator.
CHANNEL_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "TRANSPOSE_CONV": 0}
# Versions that newer features of operators ask for (tensorflow/compiler/mlir/lite/tools/versioning/op_version.cc).
VERSIONS = {"TRANSPOSE_CONV": 3, "RESIZE_BILINEAR": 3, "RESIZE_NEAREST_NEIGHBOR": 3, "BATCH_MATMUL": 1}
INT8_VERSIONS = {
    "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4, "RESHAPE": 1, "HARD_SWISH": 1, "ELU": 1, "PRELU": 1,
    "EXPAND_DIMS": 1, "READ_VARIABLE": 1,
}  # fmt: skip
OTHER_INT8_VERSION = 2
LSTM_STATES = (18, 19)
INTEGER_REACH = {"int8": 100, "int32": 1000}


def tflite_bytes(graph: Graph, seed: int = 0, weights: Mapping[str, NDArray[np.float32]] | None = None) -> bytes:
    """The file of a graph that a builder made.

    Weights are drawn so that activations keep their size through deep nets (He et al., Delving deep into rectifiers,
    2015): numbers that fade away to nothing would be computed slower.

    Args:
        graph: of format tflite.
        seed: of the weights.
        weights: those that are known, by name, such as trained ones.
    """
    known = {
        name: np.ascontiguousarray(values, dtype=graph.tensors[name].dtype) for name, values in (weights or {}).items()
    }
    rng = np.random.default_rng(seed)
    names = list(graph.tensors)
    number = {name: k for k, name in enumerate(names)}
    codes = sorted({(node.type, _version(graph, node)) for node in graph.operators})
    code_of = {code: k for k, code in enumerate(codes)}
    buffers = [Table("Buffer")]
    axes = _channel_axes(graph)
    states = {
        node.inputs[place] for node in graph.operators if node.type.endswith("SEQUENCE_LSTM") for place in LSTM_STATES
    }
    tensors = [
        _tensor(graph.tensors[name], buffers, axes.get(name), name in states, rng, known.get(name)) for name in names
    ]
    operators = [_operator(node, code_of[node.type, _version(graph, node)], number) for node in graph.operators]
    main = {
        "Tensors": tensors,
        "Inputs": [number[name] for name in graph.inputs],
        "Outputs": [number[name] for name in graph.outputs],
        "Operators": operators,
        "Name": b"main",
    }
    subgraphs = [Table("SubGraph", main)]
    if any(node.type == "CALL_ONCE" for node in graph.operators):
        subgraphs.append(_first_values(graph, code_of, buffers))
    fields = {
        "Version": graph.version,
        "OperatorCodes": [_code(type, version) for type, version in codes],
        "Subgraphs": subgraphs,
        "Description": DESCRIPTION,
        "Buffers": buffers,
    }
    return write_tflite(Table("Model", fields))


def _first_values(graph: Graph, code_of: Mapping[tuple[str, int], int], buffers: list[Table]) -> Table:
    """The subgraph that runs once: it gives every variable zeros."""
    by_name = {node.outputs[0]: node for node in graph.operators if node.type == "VAR_HANDLE"}
    tensors: list[Table] = []
    operators: list[Table] = []
    for assigning in (node for node in graph.operators if node.type == "ASSIGN_VARIABLE"):
        variable, value = assigning.inputs
        zeros = replace(graph.tensors[value], name=f"{variable}/zeros", is_constant=True)
        zeros = replace(zeros, values=(0.0,) * math.prod(dim or 0 for dim in zeros.shape or ()))
        number = {variable: len(tensors), value: len(tensors) + 1}
        rng = np.random.default_rng(0)
        tensors += [_tensor(one, buffers, None, False, rng) for one in (graph.tensors[variable], zeros)]
        operators += [
            _operator(node, code_of[node.type, _version(graph, node)], number)
            for node in (by_name[variable], assigning)
        ]
    fields = {"Tensors": tensors, "Inputs": [], "Outputs": [], "Operators": operators, "Name": b"first values"}
    return Table("SubGraph", fields)


def _code(type: str, version: int) -> Table:
    number = getattr(tflite.BuiltinOperator, type)
    # Runtimes from before schema 3a read only the first, which ends at 127.
    return Table("OperatorCode", {"DeprecatedBuiltinCode": min(number, 127), "BuiltinCode": number, "Version": version})


def _version(graph: Graph, node: Operator) -> int:
    version = VERSIONS.get(node.type, 1)
    if node.outputs and graph.tensors[node.outputs[0]].dtype == "int8":
        version = max(version, INT8_VERSIONS.get(node.type, OTHER_INT8_VERSION))
    return version


def _operator(node: Operator, code: int, number: Mapping[str, int]) -> Table:
    fields: dict[str, Any] = {
        "OpcodeIndex": code,
        "Inputs": [number[name] if name else -1 for name in node.inputs],
        "Outputs": [number[name] for name in node.outputs],
    }
    kind = OPTIONS.get(node.type, "".join(part.capitalize() for part in node.type.split("_")) + "Options")
    if node.type not in WITHOUT and hasattr(tflite.BuiltinOptions, kind):
        texts = {name: value.encode() for name, value in node.attributes.items() if isinstance(value, str)}
        options = {_camel(name): value for name, value in {**node.attributes, **texts}.items()}
        fields["BuiltinOptionsType"] = getattr(tflite.BuiltinOptions, kind)
        fields["BuiltinOptions"] = Table(kind, options)
    return Table("Operator", fields)


def _camel(name: str) -> str:
    """As the schema's readers call a field: stride_w is StrideW."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def _channel_axes(graph: Graph) -> dict[str, int]:
    """Of the weights and biases of convolutions, the axis along which each has a scale."""
    axes: dict[str, int] = {}
    for node in graph.operators:
        if node.type in CHANNEL_AXIS:
            constants = [name for name in node.inputs if name and graph.tensors[name].is_constant]
            for name in constants:
                rank = len(graph.tensors[name].shape or ())
                axes[name] = CHANNEL_AXIS[node.type] if rank == 4 else 0
    return axes


def _tensor(
    tensor: Tensor,
    buffers: list[Table],
    axis: int | None,
    is_state: bool,
    rng: np.random.Generator,
    known: NDArray[Any] | None = None,
) -> Table:
    shape = [dim or 0 for dim in tensor.shape or ()]
    dtype = tensor.dtype or "float32"
    fields: dict[str, Any] = {
        "Shape": shape,
        "Type": getattr(tflite.TensorType, dtype.upper()),
        "Buffer": 0,
        "Name": tensor.name.encode(),
    }
    if is_state:
        fields["IsVariable"] = True
    if tensor.is_constant:
        fields["Buffer"] = len(buffers)
        values = _values(tensor, tuple(shape), rng) if known is None else known
        buffers.append(Table("Buffer", {"Data": values.reshape(-1).view(np.uint8)}))
    if tensor.scale is not None:
        n = shape[axis] if axis is not None and tensor.is_constant and shape else 1
        fields["Quantization"] = Table(
            "QuantizationParameters",
            {
                "Scale": np.full(n, tensor.scale, np.float32),
                "ZeroPoint": np.full(n, tensor.zero_point, np.int64),
                "QuantizedDimension": axis or 0,
            },
        )
    return Table("Tensor", fields)


def _values(tensor: Tensor, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[Any]:
    dtype = tensor.dtype or "float32"
    if tensor.values is not None:
        return np.array(tensor.values).astype(dtype)
    if dtype in INTEGER_REACH:
        reach = INTEGER_REACH[dtype]
        return rng.integers(-reach, reach + 1, shape).astype(dtype)
    fan_in = math.prod(shape[1:]) if len(shape) > 1 else 16
    if len(shape) == 4 and shape[0] == 1:
        fan_in = shape[1] * shape[2]  # of a depthwise convolution
    return (math.sqrt(2.0 / max(1, fan_in)) * rng.standard_normal(shape)).astype(dtype)
