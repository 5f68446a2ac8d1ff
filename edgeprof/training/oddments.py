"""Scenes of operators that no layer is made of: arithmetic, comparisons, reductions, and the moving of small numbers.

Real files are full of them, and most take microseconds; a predictor that has never seen them could but bound them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from edgeprof.training.sizes import Sizes
from latency_models.building import BuildError, GraphBuilder, Value

__all__ = ["ONNX", "TFLITE", "TFLITE_INT8", "Oddment", "hard_swish_in_parts", "oddments", "shape_of_data"]

Oddment = Callable[[GraphBuilder, Sizes, Value], Value]
PER_SCENE = 5
# So many of those that keep shape and type hand on what they made.
CHAINED = 0.6


def oddments(net: GraphBuilder, sizes: Sizes) -> Value:
    """A few such operators on one tensor, of about the size of activations or of a list of shapes."""
    is_int8 = net.precision == "int8"
    if is_int8 and net.format == "onnx":
        raise BuildError("oddments of ONNX are drawn in float32 alone")
    kinds = ONNX if net.format == "onnx" else TFLITE_INT8 if is_int8 else TFLITE
    names = list(kinds)
    x = net.input(shape_of_data(sizes))
    made = x
    for _ in range(PER_SCENE):
        name = sizes.one_of(names)
        made = kinds[name](net, sizes, x)
        # What the model computed itself, runtimes may change in its place; what came in they may not.
        if name in KEEPING and sizes.chance(CHAINED):
            x = made
    return made


def shape_of_data(sizes: Sizes) -> tuple[int, ...]:
    rank = sizes.one_of((2, 3, 3, 4, 4))
    total = sizes.log_uniform(8, sizes.one_of((4_000, 400_000)))
    dims = [1]
    for k in range(rank - 2):
        dims.append(sizes.log_uniform(1, max(1, round(total ** (1 / (rank - 1 - k))))))
        total = max(1, total // dims[-1])
    return (*dims, max(1, total))


# --- what both formats have, by other names ---


def _unary(type: str) -> Oddment:
    return lambda net, sizes, x: net.operator(type, [x], [x.shape])[0]


def _binary(type: str, dtype: str | None = None) -> Oddment:
    def make(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
        other = net.input(sizes.one_of((x.shape, x.shape, (*(1 for _ in x.shape[:-1]), x.shape[-1]), (1,))))
        return net.operator(type, [x, other], [x.shape], dtype=dtype)[0]

    return make


def _by_number(type: str, number: float) -> Oddment:
    return lambda net, sizes, x: net.operator(type, [x, net.constant([number], "float32", ())], [x.shape])[0]


def _axis(sizes: Sizes, x: Value) -> int:
    return sizes.one_of(range(1, len(x.shape)))


def _without(shape: Sequence[int], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], *shape[axis + 1 :])


def _with(shape: Sequence[int], axis: int, size: int) -> tuple[int, ...]:
    return (*shape[:axis], size, *shape[axis + 1 :])


# --- ONNX ---


def _reduce(type: str, axes_are_inputs: bool = False) -> Oddment:
    def make(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
        axis = _axis(sizes, x)
        shape = _with(x.shape, axis, 1)
        if axes_are_inputs:
            return net.operator(type, [x, net.constant([axis], "int64")], [shape], {"keepdims": 1})[0]
        return net.operator(type, [x], [shape], {"axes": [axis], "keepdims": 1})[0]

    return make


def _slice(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    axis = _axis(sizes, x)
    end = max(1, x.shape[axis] // 2)
    bounds = [net.constant([value], "int64") for value in (0, end, axis)]
    return net.operator("Slice", [x, *bounds], [_with(x.shape, axis, end)])[0]


def _gather(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    axis = _axis(sizes, x)
    where = net.constant([0], "int64", ())
    return net.operator("Gather", [x, where], [_without(x.shape, axis)], {"axis": axis})[0]


def _lookup(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    length, width = sizes.log_uniform(4, 256), 16 * sizes.log_uniform(1, 32)
    table = net.input((sizes.log_uniform(10, 1000), width))
    return net.operator("Gather", [table, net.input((1, length), "int64")], [(1, length, width)], {"axis": 0})[0]


def _whole_numbers(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    """What exporters compute with shapes while a model runs: pick one, change it, put it beside others."""
    n = sizes.one_of((2, 3, 4, 5))
    listed = net.input((n,), "int64")
    one = net.operator("Gather", [listed, net.constant([1], "int64", ())], [()], {"axis": 0}, dtype="int64")[0]
    kind = sizes.one_of(("Add", "Mul", "Sub", "Div", "Mod"))
    changed = net.operator(kind, [one, net.constant([2], "int64", ())], [()], dtype="int64")[0]
    alone = net.operator("Unsqueeze", [changed, net.constant([0], "int64")], [(1,)], dtype="int64")[0]
    both = net.operator("Concat", [alone, net.constant([1], "int64"), alone], [(3,)], {"axis": 0}, dtype="int64")[0]
    ends = [net.constant([value], "int64") for value in (0, 1, 0)]
    first = net.operator("Slice", [listed, *ends], [(1,)], dtype="int64")[0]
    net.operator("Squeeze", [first, net.constant([0], "int64")], [()], dtype="int64")
    same = net.operator("Equal", [one, net.constant([1], "int64", ())], [()], dtype="bool")[0]
    chosen = net.operator("Where", [same, one, changed], [()], dtype="int64")[0]
    as_float = net.operator("Cast", [chosen], [()], {"to": 1})[0]
    return net.operator("Add", [as_float, net.operator("Cast", [both], [(3,)], {"to": 1})[0]], [(3,)])[0]


def _pad(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    rank = len(x.shape)
    shape = (*x.shape[:-1], x.shape[-1] + 2)
    amounts = net.constant([*[0] * (rank - 1), 1, *[0] * (rank - 1), 1], "int64")
    mode = sizes.one_of(("constant", "reflect")) if x.shape[-1] > 2 else "constant"
    return net.operator("Pad", [x, amounts], [shape], {"mode": mode})[0]


def _cast(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    """To int64 and back to float32 (numbers 7 and 1 of TensorProto.DataType)."""
    whole = net.operator("Cast", [x], [x.shape], {"to": 7}, dtype="int64")[0]
    return net.operator("Cast", [whole], [x.shape], {"to": 1})[0]


def _unsqueeze(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    axis = _axis(sizes, x)
    shape = (*x.shape[:axis], 1, *x.shape[axis:])
    return net.operator("Unsqueeze", [x, net.constant([axis], "int64")], [shape])[0]


def _expand(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    small = net.input(_with(x.shape, len(x.shape) - 1, 1))
    return net.operator("Expand", [small, net.constant(x.shape, "int64")], [x.shape])[0]


def _where(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    larger = net.operator("Greater", [x, net.constant([0.0], "float32", ())], [x.shape], dtype="bool")[0]
    return net.operator("Where", [larger, x, net.constant([0.0], "float32", ())], [x.shape])[0]


def _compare(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    kind = sizes.one_of(("Equal", "Less", "GreaterOrEqual"))
    same = net.operator(kind, [x, net.constant([0.5], "float32", ())], [x.shape], dtype="bool")[0]
    return net.operator("Not", [same], [x.shape], dtype="bool")[0]


def _image_of(net: GraphBuilder, sizes: Sizes) -> tuple[Value, int]:
    height, width, channels = sizes.image(4, 256)
    return net.input((1, channels, height, width)), channels


def _per_channel(type: str) -> Oddment:
    def make(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
        image, channels = _image_of(net, sizes)
        n = 4 if type == "BatchNormalization" else 2
        ones = [net.input((channels,)) for _ in range(n)]
        return net.operator(type, [image, *ones], [image.shape], {"epsilon": 1e-5})[0]

    return make


def _response(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    image, _ = _image_of(net, sizes)
    return net.operator("LRN", [image], [image.shape], {"size": 5, "alpha": 1e-4, "beta": 0.75, "bias": 1.0})[0]


def _largest_pixel(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    image, channels = _image_of(net, sizes)
    return net.operator("GlobalMaxPool", [image], [(1, channels, 1, 1)])[0]


def _turned(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    image, _ = _image_of(net, sizes)
    order = sizes.one_of(((0, 2, 3, 1), (0, 3, 1, 2), (0, 2, 1, 3), (0, 1, 3, 2)))
    return net.operator("Transpose", [image], [[image.shape[k] for k in order]], {"perm": list(order)})[0]


def _over_time(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    """A convolution over one dimension, as in models of sound."""
    channels, length = sizes.channels(1, 256), sizes.log_uniform(8, 2000)
    size, stride = sizes.one_of(((1, 1), (3, 1), (5, 1), (7, 2), (9, 1), (64, 16)))
    length = max(length, size)
    outputs = sizes.outputs(length * channels * size / stride, 4, 256)
    sound = net.input((1, channels, length))
    count = (length - size) // stride + 1
    kernel = net.weights((outputs, channels, size))
    attributes = {"kernel_shape": [size], "strides": [stride], "pads": [0, 0], "dilations": [1], "group": 1}
    return net.operator("Conv", [sound, kernel], [(1, outputs, count)], attributes)[0]


def _several(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    return net.operator("Sum", [x, net.input(x.shape), net.input(x.shape)], [x.shape])[0]


def _argmax(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    last = len(x.shape) - 1
    return net.operator("ArgMax", [x], [x.shape[:-1]], {"axis": last, "keepdims": 0}, dtype="int64")[0]


def _clip(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    return _clipped(net, x)


def _clipped(net: GraphBuilder, x: Value) -> Value:
    return _same(net, "Clip", x, *(net.constant([bound], "float32", ()) for bound in (0.0, 6.0)))


def hard_swish_in_parts(net: GraphBuilder, x: Value) -> Value:
    """As exporters of ONNX wrote it before there was an operator for it."""
    three, six = (net.constant([number], "float32", ()) for number in (3.0, 6.0))
    return _same(net, "Div", _same(net, "Mul", x, _clipped(net, _same(net, "Add", x, three))), six)


def _same(net: GraphBuilder, type: str, x: Value, *others: Value) -> Value:
    """An operator on a tensor and others, which gives a tensor like the first; ONNX stores images channels first."""
    stored = (x.shape[0], x.shape[3], *x.shape[1:3]) if x.is_image else x.shape
    return Value(net.operator(type, [x, *others], [stored])[0].name, x.shape, x.is_image)


def _hard_swish(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    return hard_swish_in_parts(net, x)


def _reshape_to(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    shape = (1, math.prod(x.shape))
    return net.operator("Reshape", [x, net.constant(shape, "int64")], [shape])[0]


ONNX_UNARY = (
    "Sqrt", "Exp", "Abs", "Neg", "Log", "Reciprocal", "Floor", "Sigmoid", "Tanh", "Erf", "Softplus", "Identity", "Sin",
    "Cos", "Relu", "HardSigmoid",
)  # fmt: skip
ONNX: Mapping[str, Oddment] = {
    **{type: _unary(type) for type in ONNX_UNARY},
    **{type: _binary(type) for type in ("Div", "Max", "Min", "Add", "Sub", "Mul")},
    **{f"{type} by a number": _by_number(type, 2.0) for type in ("Pow", "Div", "Mul", "Add", "Sub")},
    **{type: _reduce(type) for type in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL2")},
    **{type: _per_channel(type) for type in ("BatchNormalization", "InstanceNormalization")},
    "Clip": _clip,
    "hard swish in parts": _hard_swish,
    "ReduceSum": _reduce("ReduceSum", axes_are_inputs=True),
    "Slice": _slice,
    "Gather": _gather,
    "look up": _lookup,
    "whole numbers": _whole_numbers,
    "Pad": _pad,
    "Cast": _cast,
    "Unsqueeze": _unsqueeze,
    "Expand": _expand,
    "Where": _where,
    "compare": _compare,
    "LRN": _response,
    "GlobalMaxPool": _largest_pixel,
    "Transpose": _turned,
    "Conv over time": _over_time,
    "Sum": _several,
    "ArgMax": _argmax,
    "Reshape": _reshape_to,
}


# --- TFLite ---


def _tflite_reduce(type: str) -> Oddment:
    def make(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
        axis = _axis(sizes, x)
        return net.operator(type, [x, net.constant([axis], "int32")], [_with(x.shape, axis, 1)], {"keep_dims": True})[0]

    return make


def _tflite_slice(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    axis = _axis(sizes, x)
    shape = _with(x.shape, axis, max(1, x.shape[axis] // 2))
    return net.operator("SLICE", [x, net.constant([0] * len(shape), "int32"), net.constant(shape, "int32")], [shape])[0]


def _strided_slice(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    axis = _axis(sizes, x)
    shape = _with(x.shape, axis, max(1, x.shape[axis] // 2))
    bounds = [net.constant(values, "int32") for values in ([0] * len(shape), shape, [1] * len(shape))]
    masks = dict.fromkeys(("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask"), 0)
    return net.operator("STRIDED_SLICE", [x, *bounds], [shape], masks)[0]


def _split_v(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    """Into two parts of different sizes."""
    axis = len(x.shape) - 1
    if x.shape[axis] < 3:
        raise BuildError("too little to split")
    parts = (x.shape[axis] // 3, x.shape[axis] - x.shape[axis] // 3)
    where = [net.constant(parts, "int32"), net.constant([axis], "int32", ())]
    shapes = [_with(x.shape, axis, part) for part in parts]
    return net.operator("SPLIT_V", [x, *where], shapes, {"num_splits": 2})[0]


def _out_and_in(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    """To float32 and back, as at the ends of a net."""
    wide = net.operator("DEQUANTIZE", [x], [x.shape], dtype="float32")[0]
    return net.operator("QUANTIZE", [wide], [x.shape], dtype="int8")[0]


def _tflite_gather(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    axis = _axis(sizes, x)
    where = net.constant([0], "int32")
    return net.operator("GATHER", [x, where], [_with(x.shape, axis, 1)], {"axis": axis, "batch_dims": 0})[0]


def _tflite_cast(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    """To int32 and back (numbers 2 and 0 of TensorType)."""
    whole = net.operator("CAST", [x], [x.shape], {"in_data_type": 0, "out_data_type": 2}, dtype="int32")[0]
    return net.operator("CAST", [whole], [x.shape], {"in_data_type": 2, "out_data_type": 0})[0]


def _expand_dims(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    axis = _axis(sizes, x)
    shape = (*x.shape[:axis], 1, *x.shape[axis:])
    return net.operator("EXPAND_DIMS", [x, net.constant([axis], "int32", ())], [shape])[0]


def _pack(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    packed = net.operator("PACK", [x, net.input(x.shape)], [(2, *x.shape)], {"values_count": 2, "axis": 0})[0]
    return net.operator("UNPACK", [packed], [x.shape] * 2, {"num": 2, "axis": 0})[0]


def _select(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    larger = net.operator("GREATER", [x, net.constant([0.0], "float32", ())], [x.shape], dtype="bool")[0]
    return net.operator("SELECT_V2", [larger, x, net.constant([0.0], "float32", ())], [x.shape])[0]


def _tflite_compare(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    kind = sizes.one_of(("EQUAL", "LESS", "GREATER_EQUAL"))
    same = net.operator(kind, [x, net.constant([0.5], "float32", ())], [x.shape], dtype="bool")[0]
    return net.operator("LOGICAL_NOT", [same], [x.shape], dtype="bool")[0]


def _mirror_pad(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    image = _tflite_image(net, sizes)
    _, height, width, channels = image.shape
    pads = net.constant([0, 0, 1, 1, 1, 1, 0, 0], "int32", (4, 2))
    shape = (1, height + 2, width + 2, channels)
    return net.operator("MIRROR_PAD", [image, pads], [shape], {"mode": 0})[0]


def _tflite_image(net: GraphBuilder, sizes: Sizes) -> Value:
    height, width, channels = sizes.image(4, 256)
    return net.input((1, max(2, height), max(2, width), channels))


def _blocks(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    height, width, channels = sizes.image(4, 64)
    image = net.input((1, height, width, 4 * channels))
    return net.operator("DEPTH_TO_SPACE", [image], [(1, 2 * height, 2 * width, channels)], {"block_size": 2})[0]


def _tflite_turned(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    image = _tflite_image(net, sizes)
    order = sizes.one_of(((0, 3, 1, 2), (0, 2, 1, 3), (0, 1, 3, 2)))
    return net.operator("TRANSPOSE", [image, net.constant(order, "int32")], [[image.shape[k] for k in order]])[0]


def _tflite_argmax(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    last = net.constant([len(x.shape) - 1], "int32", ())
    return net.operator("ARG_MAX", [x, last], [x.shape[:-1]], {"output_type": 2}, dtype="int32")[0]


def _with_options(type: str, attributes: Mapping[str, object]) -> Oddment:
    return lambda net, sizes, x: net.operator(type, [x], [x.shape], attributes)[0]


def _fused_binary(type: str) -> Oddment:
    def make(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
        other = net.input(sizes.one_of((x.shape, x.shape, (*(1 for _ in x.shape[:-1]), x.shape[-1]), (1,))))
        return net.operator(type, [x, other], [x.shape], {"fused_activation_function": 0})[0]

    return make


TFLITE_UNARY = (
    "SQRT", "EXP", "ABS", "NEG", "LOG", "RSQRT", "SQUARE", "FLOOR", "LOGISTIC", "TANH", "SIN", "COS", "RELU",
    "LOG_SOFTMAX",
)  # fmt: skip
TFLITE: Mapping[str, Oddment] = {
    **{type: _unary(type) for type in TFLITE_UNARY},
    **{type: _binary(type) for type in ("MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "POW")},
    **{type: _fused_binary(type) for type in ("DIV", "ADD", "SUB", "MUL")},
    **{type: _tflite_reduce(type) for type in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD")},
    "SLICE": _tflite_slice,
    "STRIDED_SLICE": _strided_slice,
    "SPLIT_V": _split_v,
    "GATHER": _tflite_gather,
    "CAST": _tflite_cast,
    "EXPAND_DIMS": _expand_dims,
    "PACK": _pack,
    "SELECT_V2": _select,
    "compare": _tflite_compare,
    "MIRROR_PAD": _mirror_pad,
    "DEPTH_TO_SPACE": _blocks,
    "TRANSPOSE": _tflite_turned,
    "ARG_MAX": _tflite_argmax,
    "L2_NORMALIZATION": _with_options("L2_NORMALIZATION", {"fused_activation_function": 0}),
    "SOFTMAX": _with_options("SOFTMAX", {"beta": 1.0}),
}
# Those of them that pass values on as they are, and so have the scale of what comes in.
TFLITE_INT8: Mapping[str, Oddment] = {
    **{
        type: TFLITE[type]
        for type in (
            "MAXIMUM", "MINIMUM", "REDUCE_MAX", "REDUCE_MIN", "SLICE", "STRIDED_SLICE", "SPLIT_V", "GATHER",
            "EXPAND_DIMS", "PACK", "MIRROR_PAD", "DEPTH_TO_SPACE", "TRANSPOSE", "ARG_MAX",
        )
    },
    "QUANTIZE": _out_and_in,
}  # fmt: skip

# In both formats: those that give what they are given, changed number by number.
KEEPING = frozenset(
    (
        *ONNX_UNARY, *TFLITE_UNARY, "Div", "Max", "Min", "Add", "Sub", "Mul", "Clip", "hard swish in parts", "Cast",
        *(f"{type} by a number" for type in ("Div", "Mul", "Add", "Sub")),
        "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "DIV", "ADD", "SUB", "MUL", "CAST",
    )
)  # fmt: skip
