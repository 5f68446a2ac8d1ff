"""What XNNPACK makes of the nodes of a TFLite graph: which operators it should time, under which names.

Observed with XNNPACK in TFLite 2.14, 2.17 and LiteRT 2.3 by running ever longer beginnings of real models
(tests/truth/tflite_prefixes.py); names: xnn_operator_type_to_string in xnnpack/src/operator-utils.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from edgeprof.models.alignment import NEVER
from latency_models.graph import Graph
from latency_models.graph import Operator as Node

__all__ = ["ABSORBED_BACKWARD", "ABSORBED_FORWARD", "FUSING", "Slot", "expected", "is_squared_in_reduction", "score"]

# Which types of nodes an XNNPACK operator may stand for, by the beginning of its name, the likeliest first. A name that
# is missing here stays unmapped.
_CLASSES = {
    "Fully Connected": ("CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL"),
    "Dynamic Fully Connected": ("FULLY_CONNECTED", "BATCH_MATMUL"),
    "Batch Matrix Multiply": ("BATCH_MATMUL",),
    "Convolution": ("CONV_2D", "DEPTHWISE_CONV_2D"),
    "Deconvolution": ("TRANSPOSE_CONV",),
    "PReLU": ("PRELU",),
    "Leaky ReLU": ("LEAKY_RELU",),
    "Add": ("ADD",),
    "Multiply": ("MUL",),
    "Subtract": ("SUB",),
    "Divide": ("DIV",),
    "Maximum": ("MAXIMUM",),
    "Minimum": ("MINIMUM",),
    "Squared Difference": ("SQUARED_DIFFERENCE",),
    "Constant Pad": ("PAD", "PADV2"),
    "Max Pooling": ("MAX_POOL_2D",),
    "Average Pooling": ("AVERAGE_POOL_2D", "MEAN"),
    "Global": ("MEAN", "AVERAGE_POOL_2D", "SUM"),
    "Mean": ("MEAN",),
    "Sum": ("SUM",),
    "Copy": ("CONCATENATION", "RESHAPE", "EXPAND_DIMS", "SQUEEZE", "READ_VARIABLE", "SPLIT"),
    "Concatenate": ("CONCATENATION",),
    "Split": ("SPLIT",),
    "Static Reshape": ("RESHAPE", "EXPAND_DIMS", "SQUEEZE"),
    "Clamp": ("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "MINIMUM", "MAXIMUM"),
    "Transpose": ("TRANSPOSE",),
    "Resize Bilinear": ("RESIZE_BILINEAR",),
    "Sigmoid": ("LOGISTIC",),
    "HardSwish": ("HARD_SWISH",),
    "Softmax": ("SOFTMAX",),
    "Slice": ("STRIDED_SLICE", "SLICE", "SPLIT"),
    "Space To Depth": ("SPACE_TO_DEPTH",),
    "Depth To Space": ("DEPTH_TO_SPACE",),
    "Convert": ("QUANTIZE", "DEQUANTIZE", "CAST"),
    "Tanh": ("TANH",),
    "TanH": ("TANH",),
    "ELU": ("ELU",),
    "GELU": ("GELU",),
    "Abs": ("ABS",),
    "Negate": ("NEG",),
    "Square Root": ("SQRT",),
    "Reciprocal Square Root": ("RSQRT",),
    "Square": ("SQUARE",),
    "Floor": ("FLOOR",),
    "Ceiling": ("CEIL",),
    "Bankers Rounding": ("ROUND",),
    "Exp": ("EXP",),
    "Log": ("LOG",),
    "Sine": ("SIN",),
    "Cosine": ("COS",),
    "Unary Elementwise": (
        *("LOGISTIC", "TANH", "RELU", "RELU6", "HARD_SWISH", "DEQUANTIZE", "QUANTIZE", "ABS", "NEG", "EXP", "LOG"),
        *("SQRT", "RSQRT", "SQUARE", "FLOOR", "CEIL", "ROUND", "ELU", "GELU", "LEAKY_RELU", "SIN", "COS"),
    ),
    "Binary Elementwise": ("ADD", "MUL", "SUB", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "PRELU"),
}
_LONGEST_FIRST = sorted(_CLASSES, key=len, reverse=True)

# Nodes that XNNPACK runs inside a neighbour when it fuses them: activations inside what makes their input, padding
# inside what reads their output (xnn_subgraph_optimize in xnnpack/src/subgraph.c). State that never leaves a part is
# read and written in place.
ABSORBED_BACKWARD = frozenset(("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "ASSIGN_VARIABLE"))
ABSORBED_FORWARD = frozenset(("PAD", "PADV2", "READ_VARIABLE", "VAR_HANDLE"))
_CONVOLUTIONS = frozenset(("CONV_2D", "DEPTHWISE_CONV_2D"))
FUSING = _CONVOLUTIONS | {"FULLY_CONNECTED", "TRANSPOSE_CONV", "ADD", "SUB", "MUL", "DIV"}
FUSING = FUSING | {"MAX_POOL_2D", "AVERAGE_POOL_2D"}
_SILENT = frozenset(("VAR_HANDLE", "ASSIGN_VARIABLE", "CALL_ONCE"))
# Binary operators whose activation XNNPACK runs as an operator of its own; convolutions have it built in.
_CLAMPED = frozenset(("ADD", "SUB", "MUL", "DIV", "CONCATENATION"))

# Gains of a pair, in tenths. A node that stays silent unexpectedly costs more than two plausible pairs differ by.
_LIKELY, _POSSIBLE, _SECOND = 40, 30, 25
_FITS, _CONTRADICTS = 10, -15
_NEVER_SILENT, _SELDOM_SILENT, _OFTEN_SILENT = 10, 2, 0
_DTYPES = {"float32": ("F32", "X32"), "float16": ("F16", "X16"), "int8": ("QS8", "QC8", "QC8W", "X8")}
_DTYPES |= {"uint8": ("QU8", "X8"), "int32": ("X32",), "bool": ("X8",)}
_DTYPE = re.compile(r"\b(F32|F16|QS8|QU8|QC8W?|X8|X16|X32)\b")


@dataclass(frozen=True)
class Kind:
    """What tells operators apart: the type of the node, which step of it, its form and its element type."""

    type: str
    step: str = ""
    form: str = ""
    dtype: str | None = None


@dataclass(frozen=True)
class Slot:
    """A place in the sequence of events that a node may fill; `silence` is what it costs if it does not."""

    node: Node
    kind: Kind
    silence: int


def expected(graph: Graph, part: tuple[Node, ...], readers: dict[str, list[Node]]) -> Iterator[Slot]:
    """The operators that XNNPACK should make of one part of the graph, in the order in which it runs them."""
    inside = {node.name for node in part}
    for node in part:
        if node.is_folded or node.type in _SILENT:
            continue
        dtype = _dtype(graph, node)
        # Unless it keeps the dimensions, its input is first made a matrix, even where it is one already.
        if node.type == "FULLY_CONNECTED" and not node.attributes.get("keep_num_dims"):
            yield Slot(node, Kind("RESHAPE", "reshape", dtype=dtype), _SELDOM_SILENT)
        yield Slot(node, Kind(node.type, "", _form(graph, node), dtype), _silence(graph, node, readers, inside))
        if node.attributes.get("fused_activation_function") and node.type in _CLAMPED:
            yield Slot(node, Kind("RELU", "clamp", dtype=dtype), _OFTEN_SILENT)
        # Older versions time one copy for each input or output of these.
        n_more = {"CONCATENATION": len(node.inputs), "SPLIT": len(node.outputs)}.get(node.type, 1) - 1
        for _ in range(n_more):
            yield Slot(node, Kind(node.type, "more", dtype=dtype), _OFTEN_SILENT)


def _dtype(graph: Graph, node: Node) -> str | None:
    tensor = graph.tensors.get(node.outputs[0]) if node.outputs else None
    return tensor.dtype if tensor is not None else None


def _form(graph: Graph, node: Node) -> str:
    """A convolution that is a matrix product, or one that is not; a variable that leaves its part."""
    if node.type != "CONV_2D" or len(node.inputs) < 2:
        return ""
    weights = graph.shape(node.inputs[1])
    strides = node.attributes.get("stride_h"), node.attributes.get("stride_w")
    is_pointwise = weights is not None and tuple(weights[1:3]) == (1, 1) and strides == (1, 1)
    return "matrix product" if is_pointwise else "window"


def is_squared_in_reduction(node: Node, readers: dict[str, list[Node]]) -> bool:
    """Whether a node is a square that only a mean or a sum reads: XNNPACK times both as one "Mean Squared"."""
    is_square = node.type == "SQUARE" or (node.type == "MUL" and node.inputs[0] == node.inputs[1])
    used_by = readers.get(node.outputs[0], []) if node.outputs else []
    return is_square and len(used_by) == 1 and used_by[0].type in ("MEAN", "SUM")


def _silence(graph: Graph, node: Node, readers: dict[str, list[Node]], inside: set[str]) -> int:
    out = node.outputs[0] if node.outputs else ""
    used_by = readers.get(out, [])
    if node.type == "READ_VARIABLE":
        leaves = out in graph.outputs or any(reader.name not in inside for reader in used_by)
        return _NEVER_SILENT if leaves else _OFTEN_SILENT
    if node.type in ("PAD", "PADV2"):
        is_fused = len(used_by) == 1 and used_by[0].type in _CONVOLUTIONS
        return _OFTEN_SILENT if is_fused else _NEVER_SILENT
    if node.type in ABSORBED_BACKWARD or is_squared_in_reduction(node, readers):
        return _OFTEN_SILENT
    return _SELDOM_SILENT if node.type in ("RESHAPE", "EXPAND_DIMS", "SQUEEZE") else _NEVER_SILENT


@lru_cache(maxsize=65_536)
def score(name: str, kind: Kind) -> int:
    """How well an event of this name fits a slot; `NEVER` if it cannot be that node."""
    beginning = next((beginning for beginning in _LONGEST_FIRST if name.startswith(beginning)), None)
    classes = _CLASSES[beginning] if beginning is not None else ()
    if kind.type not in classes:
        return NEVER
    if kind.step:
        gain = _SECOND
    elif kind.type == classes[0] or len(classes) <= 3:
        gain = _LIKELY
    else:
        gain = _POSSIBLE
    return gain + _form_fits(name, kind) + _dtype_fits(name, kind.dtype)


def _form_fits(name: str, kind: Kind) -> int:
    if name.startswith("Convolution") and ("DWConv" in name) != (kind.type == "DEPTHWISE_CONV_2D"):
        return _CONTRADICTS
    if not kind.form:
        return 0
    is_product = name.startswith("Fully Connected") or re.search(r"\bGEMM", name) is not None
    return _FITS if is_product == (kind.form == "matrix product") else _CONTRADICTS


def _dtype_fits(name: str, dtype: str | None) -> int:
    told = set(_DTYPE.findall(name))
    wanted = _DTYPES.get(dtype or "")
    return _CONTRADICTS if told and wanted and not told.intersection(wanted) else 0
