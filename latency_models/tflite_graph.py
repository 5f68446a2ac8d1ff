"""Read a TFLite file into a `Graph` with the schema classes of the `tflite` package: no runtime is needed."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tflite

from latency_models.graph import DeclaredInput, Graph, GraphError, Operator, ShapeError, Tensor, size_of, with_work

__all__ = ["IDENTIFIER", "parse", "read", "with_input_shapes"]

# File identifier of the flatbuffer, bytes 4 to 7 (tensorflow/compiler/mlir/lite/schema/schema.fbs).
IDENTIFIER = b"TFL3"

# Options that name subgraphs, and what a subgraph is called in the path of its operators.
_BODIES = {
    "cond_subgraph_index": "cond",
    "body_subgraph_index": "body",
    "then_subgraph_index": "then_branch",
    "else_subgraph_index": "else_branch",
    "init_subgraph_index": "init",
    "subgraph": "callee",
    "decomposition_subgraph_index": "decomposition",
}

# Axes, bounds and scales have no more numbers than this; their types, as `struct` calls them.
MAX_SMALL_VALUES = 16
_NUMBERS = {"int32": "i", "int64": "q", "float32": "f", "int8": "b", "uint8": "B", "bool": "?"}

# What the generated code raises when an offset in a damaged file points outside of it.
_DAMAGE = (struct.error, IndexError, TypeError, ValueError, OverflowError, AttributeError, MemoryError, RecursionError)


def read(path: Path, shapes: Mapping[str, tuple[int, ...]] | None = None, batch: int | None = None) -> Graph:
    """Read the graph of a TFLite file.

    The shapes are those stored in the file, which are what the runtime allocates when nothing is resized. Where
    `shapes` or `batch` really resize an input, those behind it follow from the operators, as far as these are known.

    Args:
        path: the file.
        shapes: the shape of inputs by name.
        batch: the first dimension of every other input whose first dimension is marked as dynamic.

    Raises:
        OSError: the file cannot be read.
        GraphError: it is not a TFLite model, it is damaged, or (a ShapeError) `shapes` does not fit its inputs.
    """
    return parse(path.read_bytes(), path.name, shapes, batch)


def parse(
    data: bytes, name: str, shapes: Mapping[str, tuple[int, ...]] | None = None, batch: int | None = None
) -> Graph:
    """Read the graph from the bytes of a file; `name` is for messages. See `read`.

    Raises:
        GraphError: it is not a TFLite model, it is damaged, or (a ShapeError) `shapes` does not fit its inputs.
    """
    if data[4:8] != IDENTIFIER:
        raise GraphError(f"{name} is not a TFLite model: bytes 4 to 7 are not {IDENTIFIER.decode()}")
    try:
        reader = _Reader(tflite.Model.GetRootAsModel(data, 0), len(data))
        graph = reader.graph(name)
    except _DAMAGE as error:
        raise GraphError(
            f"{name} is damaged or cut off: its {len(data)} bytes point to places outside of them"
        ) from error
    wanted = {name: (batch, *dims[1:]) for name, dims in reader.dynamic_batches.items() if batch is not None}
    return with_input_shapes(graph, {**wanted, **(shapes or {})})


def _names(enum: type) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if isinstance(value, int)}


def with_input_shapes(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> Graph:
    """The graph with its inputs resized, and the shapes that follow from it; see `tflite_shapes`.

    Raises:
        ShapeError: a name is not an input, or a shape has another rank.
    """
    changed = {}
    for name, shape in shapes.items():
        if name not in graph.inputs:
            raise ShapeError(f"there is no input {name!r}; the inputs are {', '.join(map(repr, graph.inputs))}")
        old = graph.shape(name) or ()
        if len(old) != len(shape):
            raise ShapeError(f"input {name!r} is {list(old)}, it cannot be {list(shape)}")
        if old != shape:
            changed[name] = shape
    if not changed:
        return graph
    made = {name for operator in graph.operators for name in operator.outputs}
    tensors = {
        name: replace(tensor, shape=None, size_bytes=None) if name in made and not tensor.is_constant else tensor
        for name, tensor in graph.tensors.items()
    }
    from latency_models.tflite_shapes import followed

    return followed(replace(graph, tensors=tensors).with_shapes(changed))


@dataclass
class _Reader:
    """Walks through one model; every offset it follows may turn out to lead outside the file."""

    model: Any
    n_bytes: int
    tensors: dict[str, Tensor] = field(default_factory=dict)
    operators: list[Operator] = field(default_factory=list)
    visited: set[int] = field(default_factory=set)
    dynamic_batches: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.types = {code: name.lower() for code, name in _names(tflite.TensorType).items()}
        self.builtins = _names(tflite.BuiltinOperator)
        self.option_classes = (_names(tflite.BuiltinOptions), _names(tflite.BuiltinOptions2))
        self.n_subgraphs = self._bounded(self.model.SubgraphsLength())
        self.codes = [self._code(self.model.OperatorCodes(i)) for i in range(self.model.OperatorCodesLength())]

    def graph(self, name: str) -> Graph:
        if not self.n_subgraphs:
            raise GraphError(f"{name} is not a TFLite model: there is no graph in it")
        main = self.model.Subgraphs(0)
        tensor_names = self.walk(0, "")
        for number in range(1, self.n_subgraphs):
            self.walk(number, f"subgraph_{number}")
        for i in range(main.InputsLength()):
            tensor = main.Tensors(main.Inputs(i))
            if tensor.ShapeSignatureLength() and tensor.ShapeSignature(0) == -1:
                self.dynamic_batches[tensor_names[main.Inputs(i)]] = self._shape(tensor)
        declared = [(tensor_names[main.Inputs(i)], main.Tensors(main.Inputs(i))) for i in range(main.InputsLength())]
        version = int(self.model.Version())
        return Graph(
            format="tflite",
            name=name,
            inputs=tuple(tensor_names[main.Inputs(i)] for i in range(self._bounded(main.InputsLength()))),
            outputs=tuple(tensor_names[main.Outputs(i)] for i in range(self._bounded(main.OutputsLength()))),
            tensors=self.tensors,
            operators=tuple(with_work("tflite", operator, self.tensors) for operator in self.operators),
            version=version,
            declared=tuple(
                DeclaredInput(name=name, dtype=self.tensors[name].dtype, dims=self._declared_dims(tensor))
                for name, tensor in declared
            ),
            opsets={"": version},
        )

    def walk(self, number: int, body: str) -> list[str]:
        """Add one subgraph, and those it calls, each once; the unique names of its tensors by index."""
        if number in self.visited:
            return []
        self.visited.add(number)
        subgraph = self.model.Subgraphs(number)
        names = self._add_tensors(subgraph, f"{body}/" if body else "")
        for index in range(self._bounded(subgraph.OperatorsLength())):
            operator = self._operator(subgraph.Operators(index), index, number, body, names)
            self.operators.append(operator)
            for option, what in _BODIES.items():
                called = operator.attributes.get(option)
                if isinstance(called, int) and 0 <= called < self.n_subgraphs:
                    self.walk(called, f"{operator.name}/{what}")
        return names

    def _bounded(self, length: int) -> int:
        """No list in the file can be longer than the file: a damaged length must not keep us busy for minutes."""
        if length > self.n_bytes:
            raise ValueError(f"a list of {length} entries in a file of {self.n_bytes} bytes")
        return length

    def _code(self, code: Any) -> tuple[str, str]:
        """Operator type and domain. Files before schema 3a have only the deprecated field, of 8 bits."""
        builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if builtin == tflite.BuiltinOperator.CUSTOM:
            custom = code.CustomCode()
            return (custom.decode("utf-8", "replace") if custom else "CUSTOM"), "custom"
        return self.builtins.get(builtin, f"BUILTIN_{builtin}"), ""

    # --- tensors

    def _add_tensors(self, subgraph: Any, path: str) -> list[str]:
        names: list[str] = []
        for index in range(self._bounded(subgraph.TensorsLength())):
            tensor = subgraph.Tensors(index)
            plain = (tensor.Name() or b"").decode("utf-8", "replace")
            name = path + plain
            if not plain or name in self.tensors:
                name = f"{path}{plain or 'tensor'}_{index}"
            self.tensors[name] = self._tensor(tensor, name)
            names.append(name)
        return names

    def _tensor(self, tensor: Any, name: str) -> Tensor:
        shape = self._shape(tensor)
        dtype = self.types.get(tensor.Type())
        stored = self._stored_bytes(tensor.Buffer())
        return Tensor(
            name=name,
            dtype=dtype,
            shape=shape,
            is_constant=stored > 0,
            size_bytes=stored or size_of(dtype, shape),
            values=self._small_values(tensor.Buffer(), dtype, shape) if stored else None,
        )

    def _small_values(self, buffer: int, dtype: str | None, shape: tuple[int, ...]) -> tuple[float | int, ...] | None:
        """The numbers of a small stored tensor, in C order: axes, shapes, paddings; None of any other."""
        found = self.model.Buffers(buffer)
        count = math.prod(shape)
        if dtype not in _NUMBERS or count > MAX_SMALL_VALUES or found.Offset() > 1:
            return None
        form = f"<{count}{_NUMBERS[dtype]}"
        data = bytes(found.Data(i) for i in range(found.DataLength())) if found.DataLength() <= 8 * count else b""
        return struct.unpack(form, data) if len(data) == struct.calcsize(form) else None

    def _shape(self, tensor: Any) -> tuple[int, ...]:
        return tuple(int(tensor.Shape(i)) for i in range(self._bounded(tensor.ShapeLength())))

    def _declared_dims(self, tensor: Any) -> tuple[int | None, ...]:
        """With None for open dimensions; old files have no signature, and only the shape."""
        n = self._bounded(tensor.ShapeSignatureLength())
        dims = [int(tensor.ShapeSignature(i)) for i in range(n)] or self._shape(tensor)
        return tuple(dim if dim > 0 else None for dim in dims)

    def _stored_bytes(self, buffer: int) -> int:
        """Size of a buffer in the file; buffer 0 is empty by definition. Files over 2 GB keep it after the tables."""
        if not 0 < buffer < self.model.BuffersLength():
            return 0
        found = self.model.Buffers(buffer)
        # Offsets 0 and 1 mean "not outside" (schema.fbs).
        return int(found.Size()) if found.Offset() > 1 else self._bounded(found.DataLength())

    # --- operators

    def _operator(self, operator: Any, index: int, number: int, body: str, names: list[str]) -> Operator:
        kind, domain = self.codes[operator.OpcodeIndex()]
        inputs = self._tensor_names(operator.Inputs, operator.InputsLength(), names)
        outputs = self._tensor_names(operator.Outputs, operator.OutputsLength(), names)
        present = [name for name in inputs if name]
        folded = kind in ("DEQUANTIZE", "DENSIFY") and all(self.tensors[name].is_constant for name in present)
        if folded:
            for name in outputs:
                self.tensors[name] = replace(self.tensors[name], is_constant=True)
        return Operator(
            index=index,
            name=f"{body}/{kind}_{index}" if body else f"{kind}_{index}",
            type=kind,
            inputs=inputs,
            outputs=outputs,
            attributes=self._options(operator),
            domain=domain,
            subgraph=number,
            body=body,
            name_is_invented=True,
            is_folded=folded,
        )

    def _tensor_names(self, at: Callable[[int], int], length: int, names: list[str]) -> tuple[str, ...]:
        """Names of the tensors an operator refers to by index; -1 stands for an optional input that is left out."""
        indices = [at(i) for i in range(self._bounded(length))]
        return tuple(names[i] if i >= 0 else "" for i in indices)

    def _options(self, operator: Any) -> dict[str, object]:
        for classes, kind, table in (
            (self.option_classes[0], operator.BuiltinOptionsType(), operator.BuiltinOptions()),
            (self.option_classes[1], operator.BuiltinOptions2Type(), operator.BuiltinOptions2()),
        ):
            options_class = getattr(tflite, classes.get(kind, ""), None)
            if kind and table is not None and options_class is not None:
                options = options_class()
                options.Init(table.Bytes, table.Pos)
                return _fields(options)
        return {}


def _fields(options: Any) -> dict[str, object]:
    """All scalar and numeric list fields of an options table, under the names the schema gives them."""
    methods = [name for name in vars(type(options)) if name[0].isupper() and name != "Init"]
    lists = {name.removesuffix("Length") for name in methods if name.endswith("Length")}
    found: dict[str, object] = {}
    for name in methods:
        if name.startswith("GetRootAs") or name.endswith(("Length", "AsNumpy", "IsNone", "BufferHasIdentifier")):
            continue
        if name in lists:
            value: object = [getattr(options, name)(i) for i in range(getattr(options, name + "Length")())]
        else:
            value = getattr(options, name)()
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if isinstance(value, bool | int | float | str | list):
            found[re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()] = value
    return found
