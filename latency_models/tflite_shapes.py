"""Shapes of a TFLite graph whose inputs were resized: the file has those of its own inputs alone.

Followed are the operators that nets for devices are made of, as TFLite itself prepares them (tensorflow/lite/kernels,
the Prepare function of each). What an operator makes that is not known here stays unknown, and so does all behind it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from latency_models.graph import Graph, Operator, Tensor, size_of, with_work

__all__ = ["followed"]

Shape = tuple[int, ...]
Rule = Callable[[Operator, Sequence[Tensor | None], Sequence[Shape]], Sequence[Shape]]
SAME = 0


class _Unknown(Exception):
    """A shape does not follow from what is known."""


def followed(graph: Graph) -> Graph:
    """The graph with every unknown shape that follows from the known ones; a note names what does not follow."""
    tensors = dict(graph.tensors)
    stopped: dict[str, None] = {}
    for node in graph.operators:
        missing = [name for name in node.outputs if name and not _is_known(tensors.get(name))]
        if not missing or node.body:
            continue
        try:
            shapes = _shapes(node, tensors)
        except (_Unknown, IndexError, ValueError):
            if all(_is_known(tensors.get(name)) for name in node.inputs if name):
                stopped[node.type] = None
            continue
        for name, shape in zip(node.outputs, shapes, strict=False):
            old = tensors[name]
            tensors[name] = replace(old, shape=shape, size_bytes=size_of(old.dtype, shape))
    notes = graph.notes
    if stopped:
        notes = (*notes, f"shapes behind {', '.join(sorted(stopped))} do not follow from the new input shapes")
    operators = tuple(with_work(graph.format, node, tensors) for node in graph.operators)
    return replace(graph, tensors=tensors, operators=operators, notes=notes)


def _is_known(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.shape is not None and None not in tensor.shape


def _shapes(node: Operator, tensors: Mapping[str, Tensor]) -> Sequence[Shape]:
    inputs = [tensors.get(name) if name else None for name in node.inputs]
    known = [_shape(one) for one in inputs if one is not None]
    if node.type in _UNARY:
        return [known[0]] * len(node.outputs)
    if node.type in _ELEMENTWISE:
        return [_broadcast(known)]
    if node.type not in _RULES:
        raise _Unknown
    return _RULES[node.type](node, inputs, known)


def _shape(tensor: Tensor) -> Shape:
    if tensor.shape is None or any(dim is None for dim in tensor.shape):
        raise _Unknown
    return tuple(dim for dim in tensor.shape if dim is not None)


def _broadcast(shapes: Sequence[Shape]) -> Shape:
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return tuple(max(dims) for dims in zip(*padded, strict=True))


def _values(tensor: Tensor | None) -> list[int]:
    if tensor is None or tensor.values is None:
        raise _Unknown
    return [int(value) for value in tensor.values]


def _option(node: Operator, name: str, default: int = 0) -> int:
    value = node.attributes.get(name, default)
    return int(value) if isinstance(value, bool | int) else default


def _slid(node: Operator, size: int, window: int, axis: str) -> int:
    stride, hole = _option(node, f"stride_{axis}", 1), _option(node, f"dilation_{axis}_factor", 1)
    if _option(node, "padding") == SAME:
        return math.ceil(size / stride)
    return (size - (hole * (window - 1) + 1)) // stride + 1


def _image(node: Operator, shape: Shape, window: tuple[int, int], channels: int) -> list[Shape]:
    return [(shape[0], _slid(node, shape[1], window[0], "h"), _slid(node, shape[2], window[1], "w"), channels)]


def _conv(node: Operator, inputs: Sequence[Tensor | None], known: Sequence[Shape]) -> Sequence[Shape]:
    weights = known[1]
    channels = weights[3] if node.type == "DEPTHWISE_CONV_2D" else weights[0]
    return _image(node, known[0], (weights[1], weights[2]), channels)


def _pool(node: Operator, inputs: Sequence[Tensor | None], known: Sequence[Shape]) -> Sequence[Shape]:
    window = _option(node, "filter_height", 1), _option(node, "filter_width", 1)
    return _image(node, known[0], window, known[0][3])


def _dense(node: Operator, inputs: Sequence[Tensor | None], known: Sequence[Shape]) -> Sequence[Shape]:
    units, width = known[1][0], known[1][1]
    if _option(node, "keep_num_dims"):
        return [(*known[0][:-1], units)]
    return [(math.prod(known[0]) // width, units)]


def _product(node: Operator, inputs: Sequence[Tensor | None], known: Sequence[Shape]) -> Sequence[Shape]:
    a, b = known[:2]
    rows = a[-1] if _option(node, "adj_x") else a[-2]
    columns = b[-2] if _option(node, "adj_y") else b[-1]
    return [(*_broadcast([a[:-2] or (1,), b[:-2] or (1,)])[-max(len(a), len(b)) + 2 :], rows, columns)]


def _reduced(node: Operator, inputs: Sequence[Tensor | None], known: Sequence[Shape]) -> Sequence[Shape]:
    shape = known[0]
    axes = {axis % len(shape) for axis in _values(inputs[1])}
    if _option(node, "keep_dims"):
        return [tuple(1 if place in axes else dim for place, dim in enumerate(shape))]
    return [tuple(dim for place, dim in enumerate(shape) if place not in axes)]


def _concatenated(node: Operator, inputs: Sequence[Tensor | None], known: Sequence[Shape]) -> Sequence[Shape]:
    axis = _option(node, "axis") % len(known[0])
    return [(*known[0][:axis], sum(shape[axis] for shape in known), *known[0][axis + 1 :])]


def _reshaped(node: Operator, inputs: Sequence[Tensor | None], known: Sequence[Shape]) -> Sequence[Shape]:
    listed = node.attributes.get("new_shape")
    wanted = _values(inputs[1]) if len(inputs) > 1 else list(listed) if isinstance(listed, list) else []
    count = math.prod(known[0])
    rest = math.prod(dim for dim in wanted if dim != -1)
    found = tuple(count // rest if dim == -1 else dim for dim in wanted)
    # A stored shape holds for the file's own inputs; resized, TFLite refuses it where it does not fit.
    if math.prod(found) != count:
        raise _Unknown
    return [found]


def _transposed(node: Operator, inputs: Sequence[Tensor | None], known: Sequence[Shape]) -> Sequence[Shape]:
    return [tuple(known[0][place] for place in _values(inputs[1]))]


def _padded(node: Operator, inputs: Sequence[Tensor | None], known: Sequence[Shape]) -> Sequence[Shape]:
    amounts = _values(inputs[1])
    return [tuple(dim + amounts[2 * place] + amounts[2 * place + 1] for place, dim in enumerate(known[0]))]


def _split(node: Operator, inputs: Sequence[Tensor | None], known: Sequence[Shape]) -> Sequence[Shape]:
    shape, n = known[1], len(node.outputs)
    axis = _values(inputs[0])[0] % len(shape)
    return [(*shape[:axis], shape[axis] // n, *shape[axis + 1 :])] * n


def _resized(node: Operator, inputs: Sequence[Tensor | None], known: Sequence[Shape]) -> Sequence[Shape]:
    height, width = _values(inputs[1])
    return [(known[0][0], height, width, known[0][3])]


def _spread(node: Operator, inputs: Sequence[Tensor | None], known: Sequence[Shape]) -> Sequence[Shape]:
    return [tuple(_values(inputs[0]))]


def _expanded(node: Operator, inputs: Sequence[Tensor | None], known: Sequence[Shape]) -> Sequence[Shape]:
    shape, axis = known[0], _values(inputs[1])[0]
    place = axis % (len(shape) + 1)
    return [(*shape[:place], 1, *shape[place:])]


def _squeezed(node: Operator, inputs: Sequence[Tensor | None], known: Sequence[Shape]) -> Sequence[Shape]:
    listed = node.attributes.get("squeeze_dims")
    shape = known[0]
    axes = {int(axis) % len(shape) for axis in listed} if isinstance(listed, list) and listed else None
    return [tuple(dim for place, dim in enumerate(shape) if (dim != 1 if axes is None else place not in axes))]


def _packed(node: Operator, inputs: Sequence[Tensor | None], known: Sequence[Shape]) -> Sequence[Shape]:
    axis = _option(node, "axis") % (len(known[0]) + 1)
    return [(*known[0][:axis], len(known), *known[0][axis:])]


def _unpacked(node: Operator, inputs: Sequence[Tensor | None], known: Sequence[Shape]) -> Sequence[Shape]:
    axis = _option(node, "axis") % len(known[0])
    return [(*known[0][:axis], *known[0][axis + 1 :])] * len(node.outputs)


def _sliced(node: Operator, inputs: Sequence[Tensor | None], known: Sequence[Shape]) -> Sequence[Shape]:
    begins, sizes = _values(inputs[1]), _values(inputs[2])
    return [tuple(d - b if s == -1 else s for d, b, s in zip(known[0], begins, sizes, strict=True))]


def _gathered(node: Operator, inputs: Sequence[Tensor | None], known: Sequence[Shape]) -> Sequence[Shape]:
    axis = _option(node, "axis") % len(known[0])
    if _option(node, "batch_dims"):
        raise _Unknown
    return [(*known[0][:axis], *known[1], *known[0][axis + 1 :])]


def _recurrent(node: Operator, inputs: Sequence[Tensor | None], known: Sequence[Shape]) -> Sequence[Shape]:
    return [(*known[0][:2], known[2][0])]


def _blocks(node: Operator, inputs: Sequence[Tensor | None], known: Sequence[Shape]) -> Sequence[Shape]:
    n, (batch, height, width, channels) = _option(node, "block_size", 1), known[0]
    if node.type == "DEPTH_TO_SPACE":
        return [(batch, height * n, width * n, channels // n**2)]
    return [(batch, height // n, width // n, channels * n**2)]


_UNARY = frozenset(
    [
        "ABS",
        "CAST",
        "CEIL",
        "COS",
        "DEQUANTIZE",
        "ELU",
        "EXP",
        "FLOOR",
        "GELU",
        "HARD_SWISH",
        "L2_NORMALIZATION",
        "LEAKY_RELU",
        "LOCAL_RESPONSE_NORMALIZATION",
        "LOG",
        "LOGICAL_NOT",
        "LOGISTIC",
        "LOG_SOFTMAX",
        "NEG",
        "PRELU",
        "QUANTIZE",
        "RELU",
        "RELU6",
        "RELU_0_TO_1",
        "RELU_N1_TO_1",
        "ROUND",
        "RSQRT",
        "SIGN",
        "SIN",
        "SOFTMAX",
        "SQRT",
        "SQUARE",
        "TANH",
        "ZEROS_LIKE",
    ]
)
_ELEMENTWISE = frozenset(
    [
        "ADD",
        "ADD_N",
        "ATAN2",
        "DIV",
        "EQUAL",
        "FLOOR_DIV",
        "FLOOR_MOD",
        "GREATER",
        "GREATER_EQUAL",
        "LESS",
        "LESS_EQUAL",
        "LOGICAL_AND",
        "LOGICAL_OR",
        "MAXIMUM",
        "MINIMUM",
        "MUL",
        "NOT_EQUAL",
        "POW",
        "SELECT_V2",
        "SQUARED_DIFFERENCE",
        "SUB",
    ]
)
_RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D"), _conv),
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"), _pool),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "REDUCE_ANY", "REDUCE_ALL"), _reduced),
    **dict.fromkeys(("PAD", "PADV2", "MIRROR_PAD"), _padded),
    **dict.fromkeys(("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"), _resized),
    **dict.fromkeys(("DEPTH_TO_SPACE", "SPACE_TO_DEPTH"), _blocks),
    "FULLY_CONNECTED": _dense,
    "BATCH_MATMUL": _product,
    "CONCATENATION": _concatenated,
    "RESHAPE": _reshaped,
    "TRANSPOSE": _transposed,
    "SPLIT": _split,
    "TRANSPOSE_CONV": _spread,
    "EXPAND_DIMS": _expanded,
    "SQUEEZE": _squeezed,
    "PACK": _packed,
    "UNPACK": _unpacked,
    "SLICE": _sliced,
    "GATHER": _gathered,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _recurrent,
}
