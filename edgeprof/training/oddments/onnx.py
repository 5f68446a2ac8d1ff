"""Oddments of ONNX."""

from __future__ import annotations

import math
from collections.abc import Mapping

from edgeprof.training.oddments.common import Oddment, axis_of, binary, resized, unary, without
from edgeprof.training.sizes import Sizes
from latency_models.building import GraphBuilder, Value

__all__ = ["KEEPING", "ONNX", "convolved", "hard_swish_in_parts", "in_windows"]


def _by_number(type: str, number: float) -> Oddment:
    return lambda net, sizes, x: net.operator(type, [x, net.constant([number], "float32", ())], [x.shape])[0]


def _reduce(type: str, axes_are_inputs: bool = False) -> Oddment:
    def make(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
        axis = axis_of(sizes, x)
        shape = resized(x.shape, axis, 1)
        if axes_are_inputs:
            return net.operator(type, [x, net.constant([axis], "int64")], [shape], {"keepdims": 1})[0]
        return net.operator(type, [x], [shape], {"axes": [axis], "keepdims": 1})[0]

    return make


def _slice(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    axis = axis_of(sizes, x)
    end = max(1, x.shape[axis] // 2)
    bounds = [net.constant([value], "int64") for value in (0, end, axis)]
    return net.operator("Slice", [x, *bounds], [resized(x.shape, axis, end)])[0]


def _gather(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    axis = axis_of(sizes, x)
    where = net.constant([0], "int64", ())
    return net.operator("Gather", [x, where], [without(x.shape, axis)], {"axis": axis})[0]


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
    axis = axis_of(sizes, x)
    shape = (*x.shape[:axis], 1, *x.shape[axis:])
    return net.operator("Unsqueeze", [x, net.constant([axis], "int64")], [shape])[0]


def _expand(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    small = net.input(resized(x.shape, len(x.shape) - 1, 1))
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


def convolved(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    """A convolution over the last dimension of three, as in models of sound, and mostly an activation."""
    _, channels, length = x.shape
    size, stride = sizes.one_of((1, 3, 3, 3, 5, 7, 9)), 2 if length > 3 and sizes.chance(0.3) else 1
    groups = channels if channels > 1 and sizes.chance(0.2) else 1
    outputs = channels if groups > 1 else sizes.outputs(length * channels * size / stride, 4, 512)
    weights = [net.weights((outputs, channels // groups, size)), net.weights((outputs,))]
    count = (length - 1) // stride + 1
    attributes = {
        "kernel_shape": [size], "strides": [stride], "pads": [size // 2, size // 2], "dilations": [1], "group": groups
    }  # fmt: skip
    made = net.operator("Conv", [x, *weights], [(1, outputs, count)], attributes)[0]
    activation = sizes.one_of(("Relu", "Relu", "Sigmoid", "Tanh", ""))
    return net.operator(activation, [made], [made.shape])[0] if activation else made


def in_windows(net: GraphBuilder, sizes: Sizes) -> Value:
    """Sound in overlapping windows, each multiplied by waves: a spectrogram as exporters write it, one convolution."""
    size = sizes.one_of((64, 128, 256, 256, 400, 512))
    step = size // sizes.one_of((2, 2, 4))
    count = sizes.log_uniform(1, 60)
    sound = net.input((1, 1, size + (count - 1) * step))
    attributes = {"kernel_shape": [size], "strides": [step], "pads": [0, 0], "dilations": [1], "group": 1}
    return net.operator("Conv", [sound, net.weights((size + 2, 1, size))], [(1, size + 2, count)], attributes)[0]


def _states(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    """Both states of a recurrent layer in one tensor: taken apart, changed, and put together again."""
    n = 8 * sizes.log_uniform(2, 64)
    ones, first = net.constant([1, 1], "int64"), net.constant([0], "int64")
    parts = net.operator("Split", [net.input((2, 1, n)), ones], [(1, 1, n)] * 2, {"axis": 0})
    row = net.operator("Squeeze", [net.operator("Add", list(parts), [(1, 1, n)])[0], first], [(1, n)])[0]
    again = net.operator("Unsqueeze", [row, first], [(1, 1, n)])[0]
    return net.operator("Concat", [again, parts[1]], [(2, 1, n)], {"axis": 0})[0]


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
    **{type: unary(type) for type in ONNX_UNARY},
    **{type: binary(type) for type in ("Div", "Max", "Min", "Add", "Sub", "Mul")},
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
    "states": _states,
    "Sum": _several,
    "ArgMax": _argmax,
    "Reshape": _reshape_to,
}
# Those that give what they are given, changed number by number.
KEEPING = frozenset(
    (
        *ONNX_UNARY, "Div", "Max", "Min", "Add", "Sub", "Mul", "Clip", "hard swish in parts", "Cast",
        *(f"{type} by a number" for type in ("Div", "Mul", "Add", "Sub")),
    )
)  # fmt: skip
