"""Read an ONNX file into a `Graph`, with shapes inferred and without loading the weights that lie outside the file."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto

from latency_models.graph import (
    DeclaredInput,
    Graph,
    GraphError,
    Operator,
    Shape,
    ShapeError,
    Tensor,
    size_of,
    with_work,
)
from latency_models.onnx_preparing import (
    bodies,
    drop_weights,
    open_dims,
    set_input_shapes,
    stored_tensors,
)

__all__ = ["declared_inputs", "dtype_name", "element_type", "external_files", "load", "of_model", "parse", "read"]

MAX_ATTRIBUTE_VALUES = 64
# Axes, bounds and scales have no more numbers than this.
MAX_SMALL_VALUES = 16
SCOPES_KEY = "pkg.torch.onnx.name_scopes"
MAX_SCOPES_LENGTH = 4096

_DTYPES: Mapping[int, str] = {
    code: {"FLOAT": "float32", "DOUBLE": "float64"}.get(name, name.lower())
    for name, code in TensorProto.DataType.items()
    if code != TensorProto.UNDEFINED
}


def read(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    batch: int | None = None,
    default_dim: int | None = None,
) -> Graph:
    """Read the graph of an ONNX file.

    Args:
        path: the file.
        shapes: the shape of inputs by name; dimensions with the same symbol in other places follow them.
        batch: the first dimension of every other input whose first dimension is not fixed.
        default_dim: what to put for input dimensions that are still unknown then; None leaves them unknown.

    Raises:
        OSError: the file cannot be read.
        GraphError: it is not an ONNX model, or (a ShapeError) `shapes` does not fit its inputs.
    """
    return of_model(load(path), path.name, shapes, batch, default_dim)


def load(path: Path) -> ModelProto:
    """Parse the file, leaving external weights where they are.

    Raises:
        OSError: the file cannot be read.
        GraphError: it is not an ONNX model.
    """
    return parse(path.read_bytes(), path.name)


def parse(data: bytes, name: str) -> ModelProto:
    """Parse a model from the bytes of its file; `name` is for messages.

    Raises:
        GraphError: it is not an ONNX model.
    """
    try:
        model = onnx.load_model_from_string(data)
    # protobuf's own exception differs between its implementations, and is not part of its public interface
    except Exception as error:
        raise GraphError(f"{name} is not an ONNX model: {error}") from error
    # Random bytes sometimes parse as an empty message, so look for what every model has.
    if not model.HasField("graph") or not model.opset_import or not (model.graph.node or model.graph.output):
        raise GraphError(f"{name} is not an ONNX model: there is no graph in it")
    return model


def external_files(model: ModelProto) -> dict[str, str]:
    """Locations of external data as the file writes them, each with the name of the first tensor that needs it."""
    found: dict[str, str] = {}
    for tensor in stored_tensors(model.graph):
        if tensor.data_location == TensorProto.EXTERNAL:
            location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
            # a damaged text comes as bytes
            found.setdefault(location if isinstance(location, str) else "", str(tensor.name))
    return found


def declared_inputs(model: ModelProto) -> tuple[DeclaredInput, ...]:
    """The inputs of a parsed model as its file declares them. Sizes below 0 count as open, as they do at run time.

    Raises:
        ShapeError: an input has a size of 0.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    return tuple(
        DeclaredInput(
            name=value.name,
            dtype=_dtype(value.type.tensor_type.elem_type) if value.type.HasField("tensor_type") else None,
            dims=_declared_dims(value.name, value.type.tensor_type),
        )
        for value in model.graph.input
        if value.name not in weights
    )


def _declared_dims(name: str, tensor: TypeProto.Tensor) -> tuple[int | str | None, ...] | None:
    if not tensor.HasField("shape"):
        return None
    if any(dim.HasField("dim_value") and dim.dim_value == 0 for dim in tensor.shape.dim):
        raise ShapeError(f"input {name!r} has a size of 0 in the file, so there is nothing to compute: export it anew")
    return tuple(dim.dim_value if dim.dim_value > 0 else dim.dim_param.strip("?") or None for dim in tensor.shape.dim)


def of_model(
    model: ModelProto,
    name: str,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    batch: int | None = None,
    default_dim: int | None = None,
    infer: bool = True,
) -> Graph:
    """Make the graph of a parsed model, which is changed on the way: large weights are dropped, shapes are set.

    Raises:
        ShapeError: `shapes` does not fit its inputs.
        GraphError: it is damaged.
    """
    try:
        return _read(model, name, dict(shapes or {}), batch, default_dim, infer)
    except GraphError:
        raise
    except (TypeError, ValueError, AttributeError, KeyError, OverflowError, RecursionError) as error:
        raise GraphError(f"{name} is damaged: {error}") from error  # names that are no text, tensors without their data


def _read(
    model: ModelProto,
    name: str,
    shapes: dict[str, tuple[int, ...]],
    batch: int | None,
    default_dim: int | None,
    infer: bool,
) -> Graph:
    reader = _Reader(declared=declared_inputs(model))
    reader.remember_constants(model.graph, "")
    drop_weights(model.graph)
    open_dims(model.graph)
    set_input_shapes(model.graph, shapes, batch, default_dim)
    try:
        model = onnx.shape_inference.infer_shapes(model, data_prop=True) if infer else model
    except Exception as error:  # anything from a type the checker dislikes to an operator set newer than this onnx
        reader.notes.append(f"shapes could not be inferred: {(str(error).strip() or repr(error)).splitlines()[0]}")
    reader.walk(model.graph, "", {})
    return reader.graph(model, name)


# --- reading it ----------------------------------------------------------------------------------------------------


def dtype_name(code: int) -> str | None:
    """The name that numpy has for an ONNX element type; None for one that is not known."""
    return _DTYPES.get(code)


def element_type(dtype: str) -> int:
    """The ONNX element type of numpy's name.

    Raises:
        KeyError: there is none.
    """
    return {name: code for code, name in _DTYPES.items()}[dtype]


_dtype = dtype_name


def _shape(tensor: TypeProto.Tensor) -> Shape:
    if not tensor.HasField("shape"):
        return None
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)


def _attribute(attribute: AttributeProto) -> object:
    """A plain value; large tensors keep only their description."""
    if attribute.type == AttributeProto.TENSOR:
        tensor = attribute.t
        if tensor.data_location == TensorProto.EXTERNAL or math.prod(tensor.dims) > MAX_ATTRIBUTE_VALUES:
            return f"{_dtype(tensor.data_type)}{list(tensor.dims)}"
        return onnx.numpy_helper.to_array(tensor).tolist()
    value: Any = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, str | int | float):
        return value
    if attribute.type in (AttributeProto.INTS, AttributeProto.FLOATS, AttributeProto.STRINGS):
        return [item.decode("utf-8", "replace") if isinstance(item, bytes) else item for item in value]
    return f"<{AttributeProto.AttributeType.Name(attribute.type).lower()}>"


def _small_values(tensor: TensorProto) -> tuple[float, ...] | None:
    """The numbers of a small stored tensor, in C order: axes, shapes, scales; None of any other."""
    if math.prod(tensor.dims) > MAX_SMALL_VALUES or tensor.data_location == TensorProto.EXTERNAL:
        return None
    if tensor.data_type in (TensorProto.STRING, TensorProto.UNDEFINED, TensorProto.COMPLEX64, TensorProto.COMPLEX128):
        return None
    try:
        return tuple(onnx.numpy_helper.to_array(tensor).reshape(-1).tolist())
    except (ValueError, TypeError, KeyError):
        return None  # data that is not there, or not as long as the shape says


def _scopes(node: NodeProto) -> tuple[str, ...]:
    """The modules that torch's dynamo exporter wrote beside a node; the last of its list is the operation itself."""
    text = next((entry.value for entry in node.metadata_props if entry.key == SCOPES_KEY), "")
    if not 0 < len(text) <= MAX_SCOPES_LENGTH:
        return ()
    try:
        names = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return ()
    return tuple(name for name in names[:-1] if name and not name.startswith("_empty_nn_module_stack"))


@dataclass
class _Reader:
    """Collects tensors and operators while walking through the graph and its bodies."""

    declared: tuple[DeclaredInput, ...] = ()
    tensors: dict[str, Tensor] = field(default_factory=dict)
    operators: list[Operator] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    # Names that the file gives: no invented name may take one away from a later node.
    given: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    n_graphs: int = 0

    def remember_constants(self, graph: GraphProto, path: str) -> None:
        """Keep type, shape and size of every weight before the weights are dropped."""
        for tensor in graph.initializer:
            self.add_constant(path + tensor.name, tensor)
        for sparse in graph.sparse_initializer:
            stored = [size_of(_dtype(t.data_type), tuple(t.dims)) for t in (sparse.values, sparse.indices)]
            self.tensors[path + sparse.values.name] = Tensor(
                name=path + sparse.values.name,
                dtype=_dtype(sparse.values.data_type),
                shape=tuple(sparse.dims),
                is_constant=True,
                size_bytes=None if None in stored else sum(size for size in stored if size is not None),
            )

    def add_constant(self, name: str, tensor: TensorProto) -> None:
        dtype, shape = _dtype(tensor.data_type), tuple(tensor.dims)
        self.tensors[name] = Tensor(
            name=name,
            dtype=dtype,
            shape=shape,
            is_constant=True,
            size_bytes=size_of(dtype, shape),
            values=_small_values(tensor),
        )

    def walk(self, graph: GraphProto, body: str, outer: Mapping[str, str]) -> None:
        """Add everything of `graph`; `outer` maps names that it may use from around it to their unique names."""
        number, path = self.n_graphs, f"{body}/" if body else ""
        self.n_graphs += 1
        if body:
            self.remember_constants(graph, path)
        scope = dict(outer)
        values = (*graph.input, *graph.value_info, *graph.output)
        own = [value.name for value in values] + [tensor.name for tensor in graph.initializer]
        own += [sparse.values.name for sparse in graph.sparse_initializer]
        own += [name for node in graph.node for name in node.output]
        scope.update({name: path + name for name in own if name})
        for value in values:
            self.add_value(path + value.name, value.type)
        self.given.update(path + node.name for node in graph.node if node.name)
        for index, node in enumerate(graph.node):
            self.add_node(node, index, number, body, scope)

    def add_value(self, name: str, type_proto: TypeProto) -> None:
        kind = type_proto.WhichOneof("value")
        if self.tensors.get(name) is not None and (self.tensors[name].is_constant or kind != "tensor_type"):
            return
        if kind != "tensor_type":
            self.tensors[name] = Tensor(name=name, dtype=kind.removesuffix("_type") if kind else None, shape=None)
            return
        dtype, shape = _dtype(type_proto.tensor_type.elem_type), _shape(type_proto.tensor_type)
        self.tensors[name] = Tensor(name=name, dtype=dtype, shape=shape, size_bytes=size_of(dtype, shape))

    def add_node(self, node: NodeProto, index: int, number: int, body: str, scope: Mapping[str, str]) -> None:
        path = f"{body}/" if body else ""
        name, invented = path + node.name, not node.name or path + node.name in self.names
        if invented:
            name = path + f"{node.op_type}_{index}"
            while name in self.names or name in self.given:
                name += "_"
        self.names.add(name)
        outputs = tuple(scope[output] if output else "" for output in node.output)
        if node.op_type == "Constant" and outputs:
            self.add_constant_output(outputs[0], node)
        for output in outputs:
            if output and output not in self.tensors:
                self.tensors[output] = Tensor(name=output, dtype=None, shape=None)
        operator = Operator(
            index=index,
            name=name,
            type=node.op_type,
            inputs=tuple(scope.get(tensor, tensor) for tensor in node.input),
            outputs=outputs,
            attributes={a.name: _attribute(a) for a in node.attribute if a.type not in _GRAPHS},
            domain="" if node.domain == "ai.onnx" else node.domain,
            subgraph=number,
            body=body,
            name_is_invented=invented,
            is_folded=node.op_type == "Constant",
            scopes=_scopes(node),
            results={
                attribute: tuple(f"{name}/{attribute}/{value.name}" for value in graph.output)
                for attribute, graph in bodies(node)
            },
        )
        self.operators.append(operator)
        for attribute, graph in bodies(node):
            self.walk(graph, f"{name}/{attribute}", scope)

    def add_constant_output(self, name: str, node: NodeProto) -> None:
        stored = next((a.t for a in node.attribute if a.type == AttributeProto.TENSOR), None)
        if stored is not None:
            self.add_constant(name, stored)
        elif name in self.tensors:
            old = self.tensors[name]
            self.tensors[name] = Tensor(
                name=name, dtype=old.dtype, shape=old.shape, is_constant=True, size_bytes=old.size_bytes
            )

    def graph(self, model: ModelProto, name: str) -> Graph:
        opsets = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in model.opset_import}
        known = onnx.defs.onnx_opset_version()
        if opsets.get("", 0) > known:
            self.notes.append(f"operator set {opsets['']} is newer than {known}, the newest that this onnx knows")
        if model.functions:
            self.notes.append(f"{len(model.functions)} functions of the model's own: work inside them is not counted")
        initialized = {tensor.name for tensor in model.graph.initializer}
        return Graph(
            format="onnx",
            name=name,
            inputs=tuple(value.name for value in model.graph.input if value.name not in initialized),
            outputs=tuple(value.name for value in model.graph.output),
            tensors=self.tensors,
            operators=tuple(with_work("onnx", operator, self.tensors) for operator in self.operators),
            version=opsets.get("", 0),
            declared=self.declared,
            opsets=opsets,
            notes=tuple(self.notes),
        )


_GRAPHS = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
