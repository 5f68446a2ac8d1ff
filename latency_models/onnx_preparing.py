"""Prepare a parsed ONNX model for shape inference: large weights away, dimensions opened, the inputs' shapes set."""

from __future__ import annotations

import math
from collections.abc import Iterator

from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, TypeProto

from latency_models.graph import ShapeError

__all__ = ["bodies", "drop_weights", "open_dims", "set_input_shapes", "stored_tensors"]

# Shape inference reads the values of shapes, axes, pads; nothing with more elements than this can be one of them.
MAX_SHAPE_VALUES = 1024

_WEIGHT_FIELDS = (
    "raw_data",
    "float_data",
    "int32_data",
    "int64_data",
    "double_data",
    "uint64_data",
    "string_data",
)


def bodies(node: NodeProto) -> Iterator[tuple[str, GraphProto]]:
    """The graphs inside of a node, each with the name of its attribute."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.name, attribute.g
        for number, graph in enumerate(attribute.graphs):
            yield f"{attribute.name}_{number}", graph


def stored_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """All tensors with values, in bodies too."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors
        for _, body in bodies(node):
            yield from stored_tensors(body)


def drop_weights(graph: GraphProto) -> None:
    """Shape inference copies the model several times; only the shapes of large weights matter to it."""
    for tensor in stored_tensors(graph):
        if math.prod(tensor.dims) > MAX_SHAPE_VALUES:
            for name in _WEIGHT_FIELDS:
                tensor.ClearField(name)


def open_dims(graph: GraphProto) -> None:
    """Exporters of Paddle write -1, or the symbol "?", for a dimension that is open, whatever the others are."""
    for value in (*graph.input, *graph.value_info, *graph.output):
        for dim in value.type.tensor_type.shape.dim if value.type.HasField("tensor_type") else ():
            if dim.dim_value < 0 or dim.dim_param == "?":
                dim.Clear()


def set_input_shapes(
    graph: GraphProto, shapes: dict[str, tuple[int, ...]], batch: int | None, default_dim: int | None
) -> None:
    weights = {tensor.name for tensor in graph.initializer}
    inputs = {value.name: value.type.tensor_type for value in graph.input if value.name not in weights}
    symbols: dict[str, int] = {}
    for name, shape in shapes.items():
        if name not in inputs:
            raise ShapeError(f"there is no input {name!r}; the inputs are {', '.join(map(repr, inputs)) or 'none'}")
        symbols.update(_set_shape(inputs[name], name, shape))
    for name, tensor in inputs.items():
        if batch is None or name in shapes or not tensor.shape.dim or tensor.shape.dim[0].HasField("dim_value"):
            continue
        symbols.setdefault(tensor.shape.dim[0].dim_param, batch)
        tensor.shape.dim[0].dim_value = batch
    values = [value.type.tensor_type for value in (*graph.value_info, *graph.output)]
    for dim in (dim for tensor in (*inputs.values(), *values) for dim in tensor.shape.dim):
        if dim.dim_param and dim.dim_param in symbols:
            dim.dim_value = symbols[dim.dim_param]
    for dim in (dim for tensor in inputs.values() for dim in tensor.shape.dim):
        if default_dim is not None and not dim.HasField("dim_value"):
            dim.dim_value = default_dim


def _set_shape(tensor: TypeProto.Tensor, name: str, shape: tuple[int, ...]) -> dict[str, int]:
    """Write a shape into an input's type; what its symbols now stand for."""
    if not tensor.HasField("shape"):
        for size in shape:
            tensor.shape.dim.add().dim_value = size
        return {}
    old = tensor.shape.dim
    text = ", ".join(str(dim.dim_value) if dim.HasField("dim_value") else dim.dim_param or "?" for dim in old)
    fits = len(old) == len(shape) and all(
        not dim.HasField("dim_value") or dim.dim_value == size for dim, size in zip(old, shape, strict=True)
    )
    if not fits:
        raise ShapeError(f"input {name!r} is [{text}], it cannot be {list(shape)}")
    symbols = {dim.dim_param: size for dim, size in zip(old, shape, strict=True) if dim.dim_param}
    for dim, size in zip(old, shape, strict=True):
        dim.dim_value = size
    return symbols
