"""Oddments of TFLite."""

from __future__ import annotations

from collections.abc import Mapping

from edgeprof.training.oddments.common import Oddment, axis_of, binary, resized, unary
from edgeprof.training.sizes import Sizes
from latency_models.building import BuildError, GraphBuilder, Value

__all__ = ["KEEPING", "TFLITE", "TFLITE_INT8"]


def _tflite_reduce(type: str) -> Oddment:
    def make(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
        axis = axis_of(sizes, x)
        return net.operator(type, [x, net.constant([axis], "int32")], [resized(x.shape, axis, 1)], {"keep_dims": True})[
            0
        ]

    return make


def _tflite_slice(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    axis = axis_of(sizes, x)
    shape = resized(x.shape, axis, max(1, x.shape[axis] // 2))
    return net.operator("SLICE", [x, net.constant([0] * len(shape), "int32"), net.constant(shape, "int32")], [shape])[0]


def _strided_slice(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    axis = axis_of(sizes, x)
    shape = resized(x.shape, axis, max(1, x.shape[axis] // 2))
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
    shapes = [resized(x.shape, axis, part) for part in parts]
    return net.operator("SPLIT_V", [x, *where], shapes, {"num_splits": 2})[0]


def _out_and_in(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    """To float32 and back, as at the ends of a net."""
    wide = net.operator("DEQUANTIZE", [x], [x.shape], dtype="float32")[0]
    return net.operator("QUANTIZE", [wide], [x.shape], dtype="int8")[0]


def _unsigned(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    """To unsigned numbers and back, as at the ends of nets that were made for them."""
    unsigned = net.operator("QUANTIZE", [x], [x.shape], dtype="uint8")[0]
    return net.operator("QUANTIZE", [unsigned], [x.shape], dtype="int8")[0]


def _tflite_gather(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    axis = axis_of(sizes, x)
    where = net.constant([0], "int32")
    return net.operator("GATHER", [x, where], [resized(x.shape, axis, 1)], {"axis": axis, "batch_dims": 0})[0]


def _tflite_cast(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    """To int32 and back (numbers 2 and 0 of TensorType)."""
    whole = net.operator("CAST", [x], [x.shape], {"in_data_type": 0, "out_data_type": 2}, dtype="int32")[0]
    return net.operator("CAST", [whole], [x.shape], {"in_data_type": 2, "out_data_type": 0})[0]


def _expand_dims(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    axis = axis_of(sizes, x)
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
    **{type: unary(type) for type in TFLITE_UNARY},
    **{type: binary(type) for type in ("MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "POW")},
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
    "QUANTIZE, unsigned": _unsigned,
}  # fmt: skip

# In both formats: those that give what they are given, changed number by number.
# Those that give what they are given, changed number by number.
KEEPING = frozenset(
    (*TFLITE_UNARY, "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "DIV", "ADD", "SUB", "MUL", "CAST")
)  # fmt: skip
