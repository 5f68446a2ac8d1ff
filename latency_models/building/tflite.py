"""Builds graphs in the operators of TFLite, as TensorFlow converts them: images are stored channels last."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from latency_models.building.base import ACTIVATIONS, BuildError, GraphBuilder, Pair, Value, broadcast, pair, windows
from latency_models.building.checks import joined, require_image, require_no_image, require_positive
from latency_models.building.recording import Recorder
from latency_models.graph import Graph, Operator, Tensor

__all__ = ["TfliteBuilder"]

# Version of the schema (tensorflow/compiler/mlir/lite/schema/schema.fbs).
VERSION = 3
SAME, VALID = 0, 1
# ActivationFunctionType of the schema: what an operator may do with its result itself.
FUSED = {"relu": 1, "relu6": 3}
LSTM_TANH = 4
SIMPLE = {
    "relu": "RELU", "relu6": "RELU6", "hard_swish": "HARD_SWISH", "sigmoid": "LOGISTIC", "tanh": "TANH", "gelu": "GELU",
    "leaky_relu": "LEAKY_RELU", "elu": "ELU",
}  # fmt: skip
OPTIONS: Mapping[str, Mapping[str, object]] = {"gelu": {"approximate": False}, "leaky_relu": {"alpha": 0.1}}
# Scales of int8 tensors: about unit size for what flows, and what TFLite fixes for what is squeezed between bounds.
FLOWING = (0.05, 0)
FLOWING_AS: Mapping[str, tuple[float, int]] = {"int8": FLOWING, "uint8": (FLOWING[0], 128)}
BOUNDED: Mapping[str, tuple[float, int]] = {
    "LOGISTIC": (1 / 256, -128), "SOFTMAX": (1 / 256, -128), "TANH": (1 / 128, 0),
}  # fmt: skip
WEIGHT_SCALE = 0.002
# These pass values on as they are, so that what comes out has the scale of what came in.
PASSING = frozenset(
    ("RESHAPE", "TRANSPOSE", "SPLIT", "PAD", "MAX_POOL_2D", "AVERAGE_POOL_2D", "RESIZE_BILINEAR",
     "RESIZE_NEAREST_NEIGHBOR", "CONCATENATION", "STRIDED_SLICE")
)  # fmt: skip


class TfliteBuilder(GraphBuilder):
    """See `GraphBuilder`."""

    format = "tflite"

    def __init__(self, name: str, precision: str) -> None:
        super().__init__(name, precision)
        self._made = Recorder("tflite")
        self._is_int8 = precision == "int8"

    # --- what comes in and goes out ---

    def image(self, height: int, width: int, channels: int = 3, batch: int = 1) -> Value:
        shape = (batch, height, width, channels)
        require_positive("an image", shape)
        return Value(self._entered(shape), shape, is_image=True)

    def input(self, shape: Sequence[int], dtype: str = "float32") -> Value:
        require_positive("an input", shape)
        if dtype != "float32":
            return Value(self._made.input(tuple(shape), dtype), tuple(shape))
        return Value(self._entered(tuple(shape)), tuple(shape))

    def _entered(self, shape: tuple[int, ...]) -> str:
        if self._is_int8:
            return self._made.input(shape, "int8", *FLOWING)
        return self._made.input(shape)

    @property
    def operators(self) -> tuple[Operator, ...]:
        return self._made.operators

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self._made.tensors

    def graph(self, *outputs: Value) -> Graph:
        if not outputs:
            raise BuildError("a graph needs an output")
        return self._made.graph(self.name, [value.name for value in outputs], VERSION)

    def operator(
        self,
        type: str,
        inputs: Sequence[Value],
        shapes: Sequence[Sequence[int]],
        attributes: Mapping[str, object] | None = None,
        dtype: str | None = None,
    ) -> tuple[Value, ...]:
        dims, names = [tuple(shape) for shape in shapes], [value.name for value in inputs]
        scale, zero = FLOWING_AS.get(dtype or "", (None, 0))
        if dtype is None and self._is_int8:
            first = self._made.tensor(names[0])
            dtype, scale, zero = "int8", first.scale, first.zero_point
        made = self._made.add(type, names, dims, attributes, dtype=dtype or "float32", scale=scale, zero_point=zero)
        return tuple(Value(name, shape) for name, shape in zip(made, dims, strict=True))

    def constant(self, values: Sequence[float], dtype: str, shape: Sequence[int] | None = None) -> Value:
        name = self._made.constant(values, dtype, shape)
        return Value(name, self._shape(name))

    def weights(self, shape: Sequence[int]) -> Value:
        return Value(self._made.weights(shape), tuple(shape))

    # --- layers that multiply ---

    def conv(
        self,
        x: Value,
        channels: int,
        kernel: Pair = 3,
        stride: Pair = 1,
        *,
        dilation: Pair = 1,
        groups: int = 1,
        padding: str = "same",
        bias: bool = True,
        activation: str | None = None,
    ) -> Value:
        inputs = require_image(x, "conv")[3]
        if groups < 1 or inputs % groups or channels % groups or channels < 1:
            raise BuildError(f"conv: {inputs} channels to {channels} cannot be {groups} groups")
        window, steps, holes = pair(kernel), pair(stride), pair(dilation)
        shape = (*self._slid(x, window, steps, holes, padding), channels)
        weights = self._weights((channels, *window, inputs // groups))
        options = {**_sliding(steps, padding), "dilation_h_factor": holes[0], "dilation_w_factor": holes[1]}
        made = self._layer("CONV_2D", [x.name, weights, *self._bias(channels)], shape, options, activation)
        return Value(made, shape, is_image=True)

    def depthwise(
        self,
        x: Value,
        kernel: Pair = 3,
        stride: Pair = 1,
        *,
        multiplier: int = 1,
        dilation: Pair = 1,
        padding: str = "same",
        bias: bool = True,
        activation: str | None = None,
    ) -> Value:
        require_image(x, "depthwise")
        require_positive("depthwise", (multiplier,))
        window, steps, holes = pair(kernel), pair(stride), pair(dilation)
        channels = x.channels * multiplier
        shape = (*self._slid(x, window, steps, holes, padding), channels)
        options = {
            **_sliding(steps, padding),
            "depth_multiplier": multiplier,
            "dilation_h_factor": holes[0],
            "dilation_w_factor": holes[1],
        }
        inputs = [x.name, self._weights((1, *window, channels)), *self._bias(channels)]
        return Value(self._layer("DEPTHWISE_CONV_2D", inputs, shape, options, activation), shape, is_image=True)

    def transpose_conv(
        self, x: Value, channels: int, kernel: Pair = 2, stride: Pair = 2, *, activation: str | None = None
    ) -> Value:
        batch, height, width, inputs = require_image(x, "transpose_conv")
        require_positive("transpose_conv", (channels,))
        window, steps = pair(kernel), pair(stride)
        shape = (batch, height * steps[0], width * steps[1], channels)
        wanted = self._made.constant(shape, "int32")
        sources = [wanted, self._weights((channels, *window, inputs)), x.name, *self._bias(channels)]
        return Value(self._layer("TRANSPOSE_CONV", sources, shape, _sliding(steps, "same"), activation), shape, True)

    def dense(self, x: Value, units: int, *, bias: bool = True, activation: str | None = None) -> Value:
        require_no_image(x, "dense")
        require_positive("dense", (units,))
        shape = (*x.shape[:-1], units)
        inputs = [x.name, self._weights((units, x.channels)), *(self._bias(units) if bias else [])]
        options = {"weights_format": 0, "keep_num_dims": len(shape) > 2, "asymmetric_quantize_inputs": False}
        return Value(self._layer("FULLY_CONNECTED", inputs, shape, options, activation), shape)

    def matmul(self, a: Value, b: Value, *, transpose_b: bool = False) -> Value:
        require_no_image(a, "matmul")
        require_no_image(b, "matmul")
        depth, columns = (b.shape[-1], b.shape[-2]) if transpose_b else (b.shape[-2], b.shape[-1])
        if len(a.shape) < 2 or len(b.shape) < 2 or a.shape[-1] != depth:
            raise BuildError(f"matmul: {list(a.shape)} and {list(b.shape)} do not fit")
        shape = (*broadcast(a.shape[:-2], b.shape[:-2]), a.shape[-2], columns)
        options = {"adj_x": False, "adj_y": transpose_b, "asymmetric_quantize_inputs": False}
        return Value(self._layer("BATCH_MATMUL", [a.name, b.name], shape, options), shape)

    def lstm(self, x: Value, units: int) -> Value:
        """Its 24 inputs are named in tensorflow/lite/kernels/lstm_shared.h; those of a plain cell are given."""
        self._float_only("lstm")
        if len(x.shape) != 3 or x.is_image:
            raise BuildError(f"lstm: needs tokens of (batch, length, width), not {list(x.shape)}")
        batch, length, width = x.shape
        of_input = [self._made.weights((units, width)) for _ in range(4)]
        of_state = [self._made.weights((units, units)) for _ in range(4)]
        biases = [self._made.weights((units,)) for _ in range(4)]
        states = [self._made.state((batch, units)) for _ in range(2)]
        inputs = [x.name, *of_input, *of_state, "", "", "", *biases, "", "", *states, "", "", "", ""]
        options = {
            "fused_activation_function": LSTM_TANH, "cell_clip": 0.0, "proj_clip": 0.0, "time_major": False,
            "asymmetric_quantize_inputs": False, "diagonal_recurrent_tensors": False,
        }  # fmt: skip
        shape = (batch, length, units)
        return Value(self._made.add("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [shape], options)[0], shape)

    def gru(self, x: Value, units: int) -> Value:
        raise BuildError("gru: TFLite has no such operator")

    # --- layers of one number after another ---

    def activate(self, x: Value, activation: str) -> Value:
        return Value(self._activated(x.name, activation), x.shape, x.is_image)

    def _activated(self, name: str, activation: str) -> str:
        if activation not in ACTIVATIONS:
            raise BuildError(f"no activation {activation!r}: it is one of {', '.join(ACTIVATIONS)}")
        shape = self._shape(name)
        if activation == "hard_sigmoid":
            three, sixth = self._scalar(3.0), self._scalar(1 / 6)
            moved = self._layer("ADD", [name, three], shape, _elementwise("ADD"), "relu6")
            return self._layer("MUL", [moved, sixth], shape, _elementwise("MUL"))
        if activation == "swish":
            return self._layer("MUL", [name, self._layer("LOGISTIC", [name], shape)], shape, _elementwise("MUL"))
        if activation == "prelu":
            slopes = self._weights((*(1 for _ in shape[1:-1]), shape[-1]))
            return self._layer("PRELU", [name, slopes], shape)
        options: Mapping[str, object] = OPTIONS.get(activation, {})
        return self._layer(SIMPLE[activation], [name], shape, options)

    def add(self, a: Value, b: Value, *, activation: str | None = None) -> Value:
        return self._binary("ADD", a, b, activation)

    def multiply(self, a: Value, b: Value) -> Value:
        return self._binary("MUL", a, b)

    def subtract(self, a: Value, b: Value) -> Value:
        return self._binary("SUB", a, b)

    def _binary(self, type: str, a: Value, b: Value, activation: str | None = None) -> Value:
        if a.is_image != b.is_image:
            raise BuildError(f"{type}: an image and what is none, {list(a.shape)} and {list(b.shape)}")
        shape = broadcast(a.shape, b.shape)
        made = self._layer(type, [a.name, b.name], shape, _elementwise(type), activation)
        return Value(made, shape, a.is_image)

    def scale(self, x: Value) -> Value:
        scaled = self._layer("MUL", [x.name, self._data((x.channels,))], x.shape, _elementwise("MUL"))
        made = self._layer("ADD", [scaled, self._data((x.channels,))], x.shape, _elementwise("ADD"))
        return Value(made, x.shape, x.is_image)

    def softmax(self, x: Value) -> Value:
        require_no_image(x, "softmax")
        return Value(self._layer("SOFTMAX", [x.name], x.shape, {"beta": 1.0}), x.shape)

    def layer_norm(self, x: Value) -> Value:
        """As Keras' layer is converted: the mean and the variance, and the rest as products and sums."""
        require_no_image(x, "layer_norm")
        self._float_only("layer_norm")
        one = (*x.shape[:-1], 1)
        mean = self._reduced(x.name, [len(x.shape) - 1], one, keep=True)
        variance = self._reduced(
            self._layer("SQUARED_DIFFERENCE", [x.name, mean], x.shape), [len(x.shape) - 1], one, keep=True
        )
        raised = self._layer("ADD", [variance, self._scalar(1e-5)], one, _elementwise("ADD"))
        root = self._layer("RSQRT", [raised], one)
        gain = self._layer("MUL", [root, self._data((x.channels,))], x.shape, _elementwise("MUL"))
        scaled = self._layer("MUL", [x.name, gain], x.shape, _elementwise("MUL"))
        moved = self._layer("MUL", [mean, gain], x.shape, _elementwise("MUL"))
        offset = self._layer("SUB", [self._data((x.channels,)), moved], x.shape, _elementwise("SUB"))
        return Value(self._layer("ADD", [scaled, offset], x.shape, _elementwise("ADD")), x.shape)

    # --- layers that gather ---

    def pool(self, x: Value, kind: str, kernel: Pair = 2, stride: Pair = 2, *, padding: str = "valid") -> Value:
        require_image(x, "pool")
        if kind not in ("max", "average"):
            raise BuildError(f"pool: no kind {kind!r}: it is max or average")
        window, steps = pair(kernel), pair(stride)
        shape = (*self._slid(x, window, steps, (1, 1), padding), x.channels)
        options = {**_sliding(steps, padding), "filter_height": window[0], "filter_width": window[1]}
        type = "MAX_POOL_2D" if kind == "max" else "AVERAGE_POOL_2D"
        return Value(self._layer(type, [x.name], shape, {**options, "fused_activation_function": 0}), shape, True)

    def global_average(self, x: Value, *, keep: bool = True) -> Value:
        batch, _, _, channels = require_image(x, "global_average")
        shape = (batch, 1, 1, channels) if keep else (batch, channels)
        return Value(self._reduced(x.name, [1, 2], shape, keep=keep), shape, is_image=keep)

    def mean(self, x: Value) -> Value:
        if len(x.shape) != 3 or x.is_image:
            raise BuildError(f"mean: needs tokens of (batch, length, width), not {list(x.shape)}")
        shape = (x.shape[0], x.shape[2])
        return Value(self._reduced(x.name, [1], shape, keep=False), shape)

    def _reduced(self, name: str, axes: Sequence[int], shape: tuple[int, ...], *, keep: bool) -> str:
        return self._layer("MEAN", [name, self._made.constant(axes, "int32")], shape, {"keep_dims": keep})

    # --- layers that move ---

    def concat(self, values: Sequence[Value], axis: int = -1) -> Value:
        if not values:
            raise BuildError("concat: needs at least one value")
        shape, place = joined([value.shape for value in values], axis)
        names = [self._rescaled(value.name) for value in values]
        options = {"axis": place, "fused_activation_function": 0}
        return Value(self._layer("CONCATENATION", names, shape, options), shape, values[0].is_image)

    def split(self, x: Value, parts: int, axis: int = -1) -> tuple[Value, ...]:
        place = axis % len(x.shape)
        if parts < 1 or x.shape[place] % parts:
            raise BuildError(f"split: {x.shape[place]} cannot be {parts} equal parts")
        shape = (*x.shape[:place], x.shape[place] // parts, *x.shape[place + 1 :])
        where = self._made.constant([place], "int32", ())
        dtype, scale, zero = self._kind("SPLIT", x.name)
        made = self._made.add(
            "SPLIT", [where, x.name], [shape] * parts, {"num_splits": parts}, dtype=dtype, scale=scale, zero_point=zero
        )
        return tuple(Value(name, shape, x.is_image) for name in made)

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        require_no_image(x, "reshape")
        return Value(self._reshaped(x.name, tuple(shape)), tuple(shape))

    def to_tokens(self, x: Value) -> Value:
        batch, height, width, channels = require_image(x, "to_tokens")
        shape = (batch, height * width, channels)
        return Value(self._reshaped(x.name, shape), shape)

    def to_image(self, x: Value, height: int, width: int) -> Value:
        if len(x.shape) != 3 or x.is_image or x.shape[1] != height * width:
            raise BuildError(f"to_image: {list(x.shape)} is no image of {height} x {width}")
        shape = (x.shape[0], height, width, x.shape[2])
        return Value(self._reshaped(x.name, shape), shape, is_image=True)

    def transpose(self, x: Value, permutation: Sequence[int]) -> Value:
        require_no_image(x, "transpose")
        return Value(self._moved(x.name, permutation), tuple(x.shape[place] for place in permutation))

    def flatten(self, x: Value) -> Value:
        shape = (x.shape[0], math.prod(x.shape[1:]))
        return Value(self._reshaped(x.name, shape), shape)

    def remember(self, x: Value, rows: int) -> Value:
        batch, height, width, channels = require_image(x, "remember")
        require_positive("remember", (rows,))
        if not any(one.type == "CALL_ONCE" for one in self._made.operators):
            self._made.add("CALL_ONCE", [], [], {"init_subgraph_index": 1})
        named = {"container": "", "shared_name": f"rows_{len(self._made.operators)}"}
        variable = self._made.add("VAR_HANDLE", [], [()], named, dtype="resource")[0]
        dtype, scale, zero = self._kind("RESHAPE", x.name)
        made = self._made.add(
            "READ_VARIABLE", [variable], [(batch, rows, width, channels)], dtype=dtype, scale=scale, zero_point=zero
        )
        before = Value(made[0], (batch, rows, width, channels), is_image=True)
        both = self._layer(
            "CONCATENATION",
            [before.name, x.name],
            (batch, rows + height, width, channels),
            {"axis": 1, "fused_activation_function": 0},
        )
        ends = [(0, height, 0, 0), (0, rows + height, 0, 0), (1, 1, 1, 1)]
        all_but_rows = {"begin_mask": 0b1101, "end_mask": 0b1101}
        masks = {**dict.fromkeys(("ellipsis_mask", "new_axis_mask", "shrink_axis_mask"), 0), **all_but_rows}
        bounds = [self._made.constant(values, "int32") for values in ends]
        kept = self._layer("STRIDED_SLICE", [both, *bounds], before.shape, masks)
        self._made.add("ASSIGN_VARIABLE", [variable, kept], [])
        return Value(both, (batch, rows + height, width, channels), is_image=True)

    def resize(self, x: Value, factor: int, mode: str = "nearest") -> Value:
        batch, height, width, channels = require_image(x, "resize")
        types = {"nearest": "RESIZE_NEAREST_NEIGHBOR", "bilinear": "RESIZE_BILINEAR"}
        if mode not in types or factor < 1:
            raise BuildError(f"resize: {mode!r} by {factor}: it is nearest or bilinear, by 1 or more")
        shape = (batch, height * factor, width * factor, channels)
        size = self._made.constant(shape[1:3], "int32")
        options = {"align_corners": False, "half_pixel_centers": mode == "bilinear"}
        return Value(self._layer(types[mode], [x.name, size], shape, options), shape, is_image=True)

    def pad(self, x: Value, pixels: int) -> Value:
        batch, height, width, channels = require_image(x, "pad")
        paddings = self._made.constant([0, 0, pixels, pixels, pixels, pixels, 0, 0], "int32", (4, 2))
        shape = (batch, height + 2 * pixels, width + 2 * pixels, channels)
        return Value(self._layer("PAD", [x.name, paddings], shape), shape, is_image=True)

    def channel_shuffle(self, x: Value, groups: int) -> Value:
        batch, height, width, channels = require_image(x, "channel_shuffle")
        if groups < 1 or channels % groups:
            raise BuildError(f"channel_shuffle: {channels} channels cannot be {groups} groups")
        dealt = self._reshaped(x.name, (batch, height, width, groups, channels // groups))
        return Value(self._reshaped(self._moved(dealt, (0, 1, 2, 4, 3)), x.shape), x.shape, is_image=True)

    # --- what they share ---

    def _layer(
        self,
        type: str,
        inputs: Sequence[str],
        shape: tuple[int, ...],
        options: Mapping[str, object] | None = None,
        activation: str | None = None,
    ) -> str:
        """One operator, which does the activation itself where TFLite's can; the name of the last output."""
        if activation is not None and activation not in ACTIVATIONS:
            raise BuildError(f"no activation {activation!r}: it is one of {', '.join(ACTIVATIONS)}")
        attributes = dict(options or {})
        if activation in FUSED or "stride_w" in attributes or type == "FULLY_CONNECTED":
            attributes["fused_activation_function"] = FUSED.get(activation or "", 0)
        source = inputs[1] if type == "SPLIT" else inputs[0]
        dtype, scale, zero = self._kind(type, source)
        made = self._made.add(type, inputs, [shape], attributes, dtype=dtype, scale=scale, zero_point=zero)[0]
        return made if activation is None or activation in FUSED else self._activated(made, activation)

    def _kind(self, type: str, source: str) -> tuple[str, float | None, int]:
        """Element type, scale and zero point of what an operator gives."""
        if not self._is_int8:
            return "float32", None, 0
        if type in PASSING:
            tensor = self._made.tensor(source)
            return "int8", tensor.scale, tensor.zero_point
        return "int8", *BOUNDED.get(type, FLOWING)

    def _rescaled(self, name: str) -> str:
        """With the scale that tensors have which are put beside each other."""
        tensor = self._made.tensor(name)
        if not self._is_int8 or (tensor.scale, tensor.zero_point) == FLOWING:
            return name
        return self._layer("QUANTIZE", [name], self._shape(name))

    def _weights(self, shape: tuple[int, ...]) -> str:
        return self._made.weights(shape, "int8", WEIGHT_SCALE) if self._is_int8 else self._made.weights(shape)

    def _data(self, shape: tuple[int, ...]) -> str:
        """A stored tensor that is data and no weights."""
        return self._made.weights(shape, "int8", *FLOWING) if self._is_int8 else self._made.weights(shape)

    def _scalar(self, value: float) -> str:
        if self._is_int8:
            return self._made.weights((1,), "int8", *FLOWING)
        return self._made.constant([value], "float32", ())

    def _bias(self, channels: int) -> list[str]:
        """Converters write one for every convolution, of zeros where the net has none: the kernels want it."""
        if self._is_int8:
            return [self._made.weights((channels,), "int32", FLOWING[0] * WEIGHT_SCALE)]
        return [self._made.weights((channels,))]

    def _reshaped(self, name: str, shape: tuple[int, ...]) -> str:
        if math.prod(self._shape(name)) != math.prod(shape):
            raise BuildError(f"reshape: {list(self._shape(name))} has not as many elements as {list(shape)}")
        return self._layer("RESHAPE", [name, self._made.constant(shape, "int32")], shape, {"new_shape": list(shape)})

    def _moved(self, name: str, permutation: Sequence[int]) -> str:
        shape = self._shape(name)
        if sorted(permutation) != list(range(len(shape))):
            raise BuildError(f"transpose: {list(permutation)} is no order of {len(shape)} dimensions")
        order = self._made.constant(permutation, "int32")
        return self._layer("TRANSPOSE", [name, order], tuple(shape[place] for place in permutation))

    def _slid(
        self, x: Value, window: tuple[int, int], steps: tuple[int, int], holes: tuple[int, int], padding: str
    ) -> tuple[int, int, int]:
        rows, _ = windows(x.shape[1], window[0], steps[0], holes[0], padding)
        columns, _ = windows(x.shape[2], window[1], steps[1], holes[1], padding)
        return x.shape[0], rows, columns

    def _shape(self, name: str) -> tuple[int, ...]:
        return tuple(dim or 0 for dim in self._made.tensor(name).shape or ())

    def _float_only(self, layer: str) -> None:
        if self._is_int8:
            raise BuildError(f"{layer} has no int8 form")


def _sliding(steps: tuple[int, int], padding: str) -> dict[str, object]:
    return {"padding": SAME if padding == "same" else VALID, "stride_h": steps[0], "stride_w": steps[1]}


def _elementwise(type: str) -> dict[str, object]:
    fused: dict[str, object] = {"fused_activation_function": 0}
    return fused if type == "MUL" else {**fused, "pot_scale_int16": True}
