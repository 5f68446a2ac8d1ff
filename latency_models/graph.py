"""A model as a list of operators with their tensors and their work, whatever file format it came from.

`onnx_graph.read` and `tflite_graph.read` make a `Graph`. How work is counted is told in `latency_models.work`:
`macs` are the multiply-accumulates of one run, `moved_bytes` what one run reads and writes if every tensor went
through memory exactly once, `weight_bytes` the part of it that is known when the model is loaded. Caches, fusion and
copies that a runtime adds are not in these numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from latency_models.work import Shape, count_macs, count_moved, element_count

__all__ = [
    "DeclaredInput",
    "Graph",
    "GraphError",
    "Operator",
    "Shape",
    "ShapeError",
    "Tensor",
    "branch_taken",
    "size_of",
]

# Width of an element in bits, under numpy's names where numpy has one. Strings, resources and variants have none.
BITS: Mapping[str, int] = {
    "bool": 8,
    "int2": 2,
    "uint2": 2,
    "int4": 4,
    "uint4": 4,
    "float4e2m1": 4,
    "int8": 8,
    "uint8": 8,
    "float8e4m3fn": 8,
    "float8e4m3fnuz": 8,
    "float8e5m2": 8,
    "float8e5m2fnuz": 8,
    "float8e8m0": 8,
    "int16": 16,
    "uint16": 16,
    "float16": 16,
    "bfloat16": 16,
    "int32": 32,
    "uint32": 32,
    "float32": 32,
    "int64": 64,
    "uint64": 64,
    "float64": 64,
    "complex64": 64,
    "complex128": 128,
}


class GraphError(ValueError):
    """A file is not the model that it claims to be, or a request does not fit the model."""


class ShapeError(GraphError):
    """Shapes were asked for that the model does not allow."""


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One tensor. `shape` is None if not even the rank is known, and has None for each unknown dimension.

    `is_constant` says that its value is known when the model is loaded: weights, and what is made from weights alone.
    `size_bytes` of a weight is what the file stores; of anything else it follows from type and shape. `values` are
    those of a small constant (axes, shapes, scales), in C order, where they are known. `scale` and `zero_point` are
    those of a quantised tensor built in code.
    """

    name: str
    dtype: str | None
    shape: Shape
    is_constant: bool = False
    size_bytes: int | None = None
    values: tuple[float | int, ...] | None = None
    scale: float | None = None
    zero_point: int = 0


@dataclass(frozen=True, kw_only=True)
class DeclaredInput:
    """An input as the file declares it: `dims` has sizes, symbols, and None for what is open; None: not even the rank.

    `dtype` is None for what is no tensor.
    """

    name: str
    dtype: str | None
    dims: tuple[int | str | None, ...] | None


# Of the operators that a runtime brings with it; "Conv" of any other domain is whatever its maker made it.
STANDARD_DOMAINS = frozenset(
    ("", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc", "com.microsoft.experimental")
)


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One node. `index` is its position in its own graph of the file: the main one, or number `subgraph`.

    `name` is unique in the whole model: a node in a body of control flow is named "If_3/then_branch/Conv_1", with
    `body` being "If_3/then_branch". `name_is_invented` where the file has no name (or not a unique one) and the type
    with the index stands for it. An omitted optional input is "". `is_folded`: it runs when the model is loaded, not
    when it is used. `scopes` are the modules around it, the outermost first, where the exporter kept them beside it.
    `results` are the names of what comes out of each of its bodies, by the body's attribute ("then_branch").
    """

    index: int
    name: str
    type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, object] = field(default_factory=dict)
    domain: str = ""
    subgraph: int = 0
    body: str = ""
    name_is_invented: bool = False
    is_folded: bool = False
    scopes: tuple[str, ...] = ()
    results: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    macs: int | None = None
    moved_bytes: int | None = None
    weight_bytes: int | None = None

    @property
    def is_custom(self) -> bool:
        """Whether somebody brought it along: what it does is not known, whatever it is called."""
        return self.domain not in STANDARD_DOMAINS

    @property
    def full_type(self) -> str:
        """The type, with the domain in front where it is custom."""
        return f"{self.domain}:{self.type}" if self.is_custom else self.type

    def local(self, name: str) -> str:
        """A name inside this operator's body as the file has it, without the path in front."""
        return name.removeprefix(self.body + "/") if self.body else name


@dataclass(frozen=True, kw_only=True)
class Graph:
    """All operators of a model in the order of the file, bodies right after the operator that owns them.

    `declared` has the inputs before any shape was set. `version` is the operator set of ONNX's own domain, or the
    schema version of a TFLite file; `opsets` has every domain. `notes` says in words what could not be found out.
    """

    format: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensors: Mapping[str, Tensor]
    operators: tuple[Operator, ...]
    version: int
    declared: tuple[DeclaredInput, ...] = ()
    opsets: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def shape(self, tensor: str) -> Shape:
        """The shape of a tensor by name, None if it is not known."""
        return self.tensors[tensor].shape if tensor in self.tensors else None

    def with_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> Graph:
        """The same graph with these tensors' shapes replaced and all work counted again.

        Nothing is inferred from the new shapes: tensors that are not named keep theirs.

        Raises:
            ShapeError: a name is not a tensor of this graph.
        """
        unknown = sorted(shapes.keys() - self.tensors.keys())
        if unknown:
            raise ShapeError(f"no tensor {unknown[0]!r} in {self.name}")
        tensors = dict(self.tensors)
        for name, shape in shapes.items():
            old = tensors[name]
            size = old.size_bytes if old.is_constant else size_of(old.dtype, shape)
            tensors[name] = replace(old, shape=shape, size_bytes=size)
        operators = tuple(with_work(self.format, operator, tensors) for operator in self.operators)
        return replace(self, tensors=tensors, operators=operators)


def branch_taken(choice: Operator, tensors: Mapping[str, Tensor]) -> str | None:
    """Of a choice (ONNX's If) the branch that it always takes, where shapes decide it; None where the data does."""
    condition = tensors.get(choice.inputs[0]) if choice.inputs else None
    if choice.type != "If" or condition is None or not condition.values:
        return None
    return "then_branch" if condition.values[0] else "else_branch"


def size_of(dtype: str | None, shape: Shape) -> int | None:
    """Bytes of a dense tensor, None if type or shape do not tell."""
    count = element_count(shape)
    if count is None or dtype is None or dtype not in BITS:
        return None
    return (count * BITS[dtype] + 7) // 8


def with_work(format: str, operator: Operator, tensors: Mapping[str, Tensor]) -> Operator:
    """The operator with its work counted from the shapes and sizes of `tensors`."""

    def shapes(names: Iterable[str]) -> list[Shape]:
        return [tensors[name].shape if name in tensors else None for name in names]

    def sizes(names: Iterable[str]) -> list[int | None]:
        return [tensors[name].size_bytes if name in tensors else None for name in dict.fromkeys(names) if name]

    weights = sizes(name for name in operator.inputs if name in tensors and tensors[name].is_constant)
    known_weights = [size for size in weights if size is not None]
    counted = count_macs(format, operator.type, operator.attributes, shapes(operator.inputs), shapes(operator.outputs))
    return replace(
        operator,
        macs=None if operator.is_custom else counted,
        moved_bytes=count_moved(operator.type, sizes(operator.inputs), sizes(operator.outputs)),
        weight_bytes=sum(known_weights) if len(known_weights) == len(weights) else None,
    )
