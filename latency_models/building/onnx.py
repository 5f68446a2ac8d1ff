"""Builds graphs in the operators of ONNX, as PyTorch exports them: images are (batch, channels, height, width)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from latency_models.building.base import ACTIVATIONS, BuildError, GraphBuilder, Pair, Value, broadcast, pair, windows
from latency_models.building.checks import joined, require_image, require_no_image, require_positive
from latency_models.building.quantising import Quantiser
from latency_models.building.recording import Recorder
from latency_models.graph import Graph, Operator, Tensor

__all__ = ["OPSET", "OnnxBuilder"]

# The first that has LayerNormalization; every ONNX Runtime since 1.13 reads it.
OPSET = 17
SIMPLE = {"relu": "Relu", "hard_swish": "HardSwish", "sigmoid": "Sigmoid", "tanh": "Tanh", "elu": "Elu"}
# What activations reach that are clamped at 0: the bound of relu6, and about what others come to.
HIGHEST = 6.0
CLAMPING: Mapping[str, tuple[str, tuple[float, ...]]] = {"relu": ("Relu", ()), "relu6": ("Clip", (0.0, HIGHEST))}
MIDDLE = 0.5


class OnnxBuilder(GraphBuilder):
    """See `GraphBuilder`."""

    format = "onnx"

    def __init__(self, name: str, precision: str) -> None:
        super().__init__(name, precision)
        self._made = Recorder("onnx")
        self._quantiser = Quantiser(self._made) if precision == "int8" else None

    # --- what comes in and goes out ---

    def image(self, height: int, width: int, channels: int = 3, batch: int = 1) -> Value:
        require_positive("an image", (batch, height, width, channels))
        return self._entered((batch, channels, height, width), (batch, height, width, channels), is_image=True)

    def input(self, shape: Sequence[int], dtype: str = "float32") -> Value:
        require_positive("an input", shape)
        if dtype != "float32":
            return Value(self._made.input(tuple(shape), dtype), tuple(shape))
        return self._entered(tuple(shape), tuple(shape))

    def _entered(self, stored: tuple[int, ...], shape: tuple[int, ...], is_image: bool = False) -> Value:
        name = self._made.input(stored)
        return Value(self._quantiser.settled(name) if self._quantiser else name, shape, is_image)

    @property
    def operators(self) -> tuple[Operator, ...]:
        return self._made.operators

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self._made.tensors

    def graph(self, *outputs: Value) -> Graph:
        if not outputs:
            raise BuildError("a graph needs an output")
        return self._made.graph(self.name, [value.name for value in outputs], OPSET)

    def operator(
        self,
        type: str,
        inputs: Sequence[Value],
        shapes: Sequence[Sequence[int]],
        attributes: Mapping[str, object] | None = None,
        dtype: str | None = None,
    ) -> tuple[Value, ...]:
        dims = [tuple(shape) for shape in shapes]
        made = self._made.add(type, [value.name for value in inputs], dims, attributes, dtype=dtype or "float32")
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
        batch, height, width, inputs = require_image(x, "conv")
        if groups < 1 or inputs % groups or channels % groups or channels < 1:
            raise BuildError(f"conv: {inputs} channels to {channels} cannot be {groups} groups")
        window, steps, holes = pair(kernel), pair(stride), pair(dilation)
        rows, above = windows(height, window[0], steps[0], holes[0], padding)
        columns, beside = windows(width, window[1], steps[1], holes[1], padding)
        attributes = {
            "dilations": list(holes),
            "group": groups,
            "kernel_shape": list(window),
            "pads": [above // 2, beside // 2, above - above // 2, beside - beside // 2],
            "strides": list(steps),
        }
        weights = self._weights((channels, inputs // groups, *window))
        inputs_of = [x.name, weights, *([self._bias(x.name, channels)] if bias else [])]
        stored = (batch, channels, rows, columns)
        made = self._layer("Conv", inputs_of, stored, attributes, activation)
        return Value(made, (batch, rows, columns, channels), is_image=True)

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
        return self.conv(
            x, x.channels * multiplier, kernel, stride, dilation=dilation, groups=x.channels, padding=padding,
            bias=bias, activation=activation,
        )  # fmt: skip

    def transpose_conv(
        self, x: Value, channels: int, kernel: Pair = 2, stride: Pair = 2, *, activation: str | None = None
    ) -> Value:
        batch, height, width, inputs = require_image(x, "transpose_conv")
        self._float_only("transpose_conv")
        window, steps = pair(kernel), pair(stride)
        require_positive("transpose_conv", (channels,))
        excess = [max(0, w - s) for w, s in zip(window, steps, strict=True)]
        attributes = {
            "dilations": [1, 1],
            "group": 1,
            "kernel_shape": list(window),
            "output_padding": [max(0, s - w) for w, s in zip(window, steps, strict=True)],
            "pads": [excess[0] // 2, excess[1] // 2, excess[0] - excess[0] // 2, excess[1] - excess[1] // 2],
            "strides": list(steps),
        }
        stored = (batch, channels, height * steps[0], width * steps[1])
        weights = [self._weights((inputs, channels, *window)), self._bias(x.name, channels)]
        made = self._layer("ConvTranspose", [x.name, *weights], stored, attributes, activation)
        return Value(made, (batch, *stored[2:], channels), is_image=True)

    def dense(self, x: Value, units: int, *, bias: bool = True, activation: str | None = None) -> Value:
        require_no_image(x, "dense")
        require_positive("dense", (units,))
        shape = (*x.shape[:-1], units)
        if len(x.shape) == 2:
            weights = self._weights((units, x.channels))
            inputs = [x.name, weights, *([self._bias(x.name, units)] if bias else [])]
            attributes = {"alpha": 1.0, "beta": 1.0, "transB": 1}
            return Value(self._layer("Gemm", inputs, shape, attributes, activation), shape)
        made = self._layer("MatMul", [x.name, self._weights((x.channels, units), axis=1)], shape)
        if bias:
            made = self._layer("Add", [self._plain_weights((units,)), made], shape)
        value = Value(made, shape)
        return self.activate(value, activation) if activation else value

    def matmul(self, a: Value, b: Value, *, transpose_b: bool = False) -> Value:
        require_no_image(a, "matmul")
        require_no_image(b, "matmul")
        if transpose_b:
            rank = len(b.shape)
            b = self.transpose(b, [*range(rank - 2), rank - 1, rank - 2])
        if len(a.shape) < 2 or len(b.shape) < 2 or a.shape[-1] != b.shape[-2]:
            raise BuildError(f"matmul: {list(a.shape)} and {list(b.shape)} do not fit")
        shape = (*broadcast(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
        return Value(self._layer("MatMul", [a.name, b.name], shape), shape)

    def lstm(self, x: Value, units: int) -> Value:
        return self._recurrent("LSTM", x, units, 4)

    def gru(self, x: Value, units: int) -> Value:
        return self._recurrent("GRU", x, units, 3)

    def _recurrent(self, type: str, x: Value, units: int, gates: int) -> Value:
        """As PyTorch with batch_first exports it: length first, with an axis for directions that is taken out again."""
        self._float_only(type.lower())
        if len(x.shape) != 3 or x.is_image:
            raise BuildError(f"{type.lower()}: needs tokens of (batch, length, width), not {list(x.shape)}")
        batch, length, width = x.shape
        steps_first = self._made.add("Transpose", [x.name], [(length, batch, width)], {"perm": [1, 0, 2]})[0]
        weights = [
            self._plain_weights((1, gates * units, width)),
            self._plain_weights((1, gates * units, units)),
            self._plain_weights((1, 2 * gates * units)),
        ]
        attributes: dict[str, object] = {"hidden_size": units}
        if type == "GRU":
            attributes["linear_before_reset"] = 1
        state = (1, batch, units)
        shapes = [(length, 1, batch, units), state, *([state] if type == "LSTM" else [])]
        outputs = self._made.add(type, [steps_first, *weights], shapes, attributes)
        axes = self._made.constant([1], "int64")
        squeezed = self._made.add("Squeeze", [outputs[0], axes], [(length, batch, units)])[0]
        shape = (batch, length, units)
        return Value(self._made.add("Transpose", [squeezed], [shape], {"perm": [1, 0, 2]})[0], shape)

    # --- layers of one number after another ---

    def activate(self, x: Value, activation: str) -> Value:
        if activation not in ACTIVATIONS:
            raise BuildError(f"no activation {activation!r}: it is one of {', '.join(ACTIVATIONS)}")
        return Value(self._activated(x.name, activation), x.shape, x.is_image)

    def _activated(self, name: str, activation: str) -> str:
        shape = self._shape(name)
        if activation == "relu6":
            bounds = [self._made.constant([value], "float32", ()) for value in (0.0, 6.0)]
            return self._layer("Clip", [name, *bounds], shape)
        if activation == "hard_sigmoid":
            return self._layer("HardSigmoid", [name], shape, {"alpha": 1 / 6})
        if activation == "swish":
            return self._layer("Mul", [name, self._layer("Sigmoid", [name], shape)], shape)
        if activation == "gelu":
            return self._gelu(name, shape)
        if activation == "leaky_relu":
            return self._layer("LeakyRelu", [name], shape, {"alpha": 0.1})
        if activation == "prelu":
            slope = (shape[1], *(1 for _ in shape[2:])) if len(shape) > 2 else shape[-1:]
            return self._layer("PRelu", [name, self._plain_weights(slope)], shape)
        attributes = {"alpha": 1.0} if activation == "elu" else {}
        return self._layer(SIMPLE[activation], [name], shape, attributes)

    def _gelu(self, name: str, shape: tuple[int, ...]) -> str:
        """Half of x * (1 + erf(x / sqrt 2)), as it is written below operator set 20."""
        root, one, half = (self._made.constant([value], "float32", ()) for value in (math.sqrt(2.0), 1.0, MIDDLE))
        erf = self._layer("Erf", [self._layer("Div", [name, root], shape)], shape)
        product = self._layer("Mul", [name, self._layer("Add", [erf, one], shape)], shape)
        return self._layer("Mul", [product, half], shape)

    def add(self, a: Value, b: Value, *, activation: str | None = None) -> Value:
        return self._elementwise("Add", a, b, activation)

    def multiply(self, a: Value, b: Value) -> Value:
        return self._elementwise("Mul", a, b)

    def subtract(self, a: Value, b: Value) -> Value:
        return self._elementwise("Sub", a, b)

    def _elementwise(self, type: str, a: Value, b: Value, activation: str | None = None) -> Value:
        if a.is_image != b.is_image:
            raise BuildError(f"{type}: an image and what is none, {list(a.shape)} and {list(b.shape)}")
        stored = broadcast(self._shape(a.name), self._shape(b.name))
        made = self._layer(type, [a.name, b.name], stored, activation=activation)
        return Value(made, broadcast(a.shape, b.shape), a.is_image)

    def scale(self, x: Value) -> Value:
        shape = self._shape(x.name)
        per_channel = (1, x.channels, 1, 1) if x.is_image else (x.channels,)
        scaled = self._layer("Mul", [x.name, self._plain_weights(per_channel)], shape)
        return Value(self._layer("Add", [scaled, self._plain_weights(per_channel)], shape), x.shape, x.is_image)

    def softmax(self, x: Value) -> Value:
        require_no_image(x, "softmax")
        return Value(self._layer("Softmax", [x.name], x.shape, {"axis": -1}), x.shape)

    def layer_norm(self, x: Value) -> Value:
        require_no_image(x, "layer_norm")
        weights = [self._plain_weights((x.channels,)), self._plain_weights((x.channels,))]
        attributes = {"axis": -1, "epsilon": 1e-5}
        return Value(self._layer("LayerNormalization", [x.name, *weights], x.shape, attributes), x.shape)

    # --- layers that gather ---

    def pool(self, x: Value, kind: str, kernel: Pair = 2, stride: Pair = 2, *, padding: str = "valid") -> Value:
        batch, height, width, channels = require_image(x, "pool")
        if kind not in ("max", "average"):
            raise BuildError(f"pool: no kind {kind!r}: it is max or average")
        window, steps = pair(kernel), pair(stride)
        rows, above = windows(height, window[0], steps[0], 1, padding)
        columns, beside = windows(width, window[1], steps[1], 1, padding)
        attributes: dict[str, object] = {
            "kernel_shape": list(window),
            "pads": [above // 2, beside // 2, above - above // 2, beside - beside // 2],
            "strides": list(steps),
        }
        if kind == "average":
            attributes["count_include_pad"] = 0
        type = "MaxPool" if kind == "max" else "AveragePool"
        made = self._layer(type, [x.name], (batch, channels, rows, columns), attributes)
        return Value(made, (batch, rows, columns, channels), is_image=True)

    def global_average(self, x: Value, *, keep: bool = True) -> Value:
        batch, _, _, channels = require_image(x, "global_average")
        made = self._layer("GlobalAveragePool", [x.name], (batch, channels, 1, 1))
        value = Value(made, (batch, 1, 1, channels), is_image=True)
        return value if keep else self.flatten(value)

    def mean(self, x: Value) -> Value:
        if len(x.shape) != 3 or x.is_image:
            raise BuildError(f"mean: needs tokens of (batch, length, width), not {list(x.shape)}")
        shape = (x.shape[0], x.shape[2])
        return Value(self._layer("ReduceMean", [x.name], shape, {"axes": [1], "keepdims": 0}), shape)

    # --- layers that move ---

    def concat(self, values: Sequence[Value], axis: int = -1) -> Value:
        if not values:
            raise BuildError("concat: needs at least one value")
        shape, place = joined([value.shape for value in values], axis)
        stored_axis = self._stored_axis(values[0], place)
        stored, _ = joined([self._shape(value.name) for value in values], stored_axis)
        made = self._layer("Concat", [value.name for value in values], stored, {"axis": stored_axis})
        return Value(made, shape, values[0].is_image)

    def split(self, x: Value, parts: int, axis: int = -1) -> tuple[Value, ...]:
        place = axis % len(x.shape)
        if parts < 1 or x.shape[place] % parts:
            raise BuildError(f"split: {x.shape[place]} cannot be {parts} equal parts")
        size = x.shape[place] // parts
        stored_axis, stored = self._stored_axis(x, place), list(self._shape(x.name))
        stored[stored_axis] = size
        sizes = self._made.constant([size] * parts, "int64")
        made = self._made.add("Split", [x.name, sizes], [tuple(stored)] * parts, {"axis": stored_axis})
        shape = (*x.shape[:place], size, *x.shape[place + 1 :])
        names = [self._quantiser.settled(name) if self._quantiser else name for name in made]
        return tuple(Value(name, shape, x.is_image) for name in names)

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        require_no_image(x, "reshape")
        return Value(self._reshaped(x.name, tuple(shape)), tuple(shape))

    def to_tokens(self, x: Value) -> Value:
        batch, height, width, channels = require_image(x, "to_tokens")
        flat = self._reshaped(x.name, (batch, channels, height * width))
        shape = (batch, height * width, channels)
        return Value(self._layer("Transpose", [flat], shape, {"perm": [0, 2, 1]}), shape)

    def to_image(self, x: Value, height: int, width: int) -> Value:
        if len(x.shape) != 3 or x.is_image or x.shape[1] != height * width:
            raise BuildError(f"to_image: {list(x.shape)} is no image of {height} x {width}")
        batch, length, channels = x.shape
        moved = self._layer("Transpose", [x.name], (batch, channels, length), {"perm": [0, 2, 1]})
        return Value(self._reshaped(moved, (batch, channels, height, width)), (batch, height, width, channels), True)

    def transpose(self, x: Value, permutation: Sequence[int]) -> Value:
        require_no_image(x, "transpose")
        if sorted(permutation) != list(range(len(x.shape))):
            raise BuildError(f"transpose: {list(permutation)} is no order of {len(x.shape)} dimensions")
        shape = tuple(x.shape[place] for place in permutation)
        return Value(self._layer("Transpose", [x.name], shape, {"perm": list(permutation)}), shape)

    def flatten(self, x: Value) -> Value:
        shape = (x.shape[0], math.prod(x.shape[1:]))
        return Value(self._layer("Flatten", [x.name], shape, {"axis": 1}), shape)

    def remember(self, x: Value, rows: int) -> Value:
        raise BuildError("remember: ONNX has no variables")

    def resize(self, x: Value, factor: int, mode: str = "nearest") -> Value:
        batch, height, width, channels = require_image(x, "resize")
        self._float_only("resize")
        modes = {"nearest": "nearest", "bilinear": "linear"}
        if mode not in modes or factor < 1:
            raise BuildError(f"resize: {mode!r} by {factor}: it is nearest or bilinear, by 1 or more")
        attributes = {
            "coordinate_transformation_mode": "asymmetric" if mode == "nearest" else "half_pixel",
            "mode": modes[mode],
            "nearest_mode": "floor",
        }
        scales = self._made.constant([1.0, 1.0, float(factor), float(factor)], "float32")
        stored = (batch, channels, height * factor, width * factor)
        made = self._layer("Resize", [x.name, "", scales], stored, attributes)
        return Value(made, (batch, *stored[2:], channels), is_image=True)

    def pad(self, x: Value, pixels: int) -> Value:
        batch, height, width, channels = require_image(x, "pad")
        pads = self._made.constant([0, 0, pixels, pixels] * 2, "int64")
        stored = (batch, channels, height + 2 * pixels, width + 2 * pixels)
        made = self._layer("Pad", [x.name, pads], stored, {"mode": "constant"})
        return Value(made, (batch, *stored[2:], channels), is_image=True)

    def channel_shuffle(self, x: Value, groups: int) -> Value:
        batch, height, width, channels = require_image(x, "channel_shuffle")
        if groups < 1 or channels % groups:
            raise BuildError(f"channel_shuffle: {channels} channels cannot be {groups} groups")
        dealt = self._reshaped(x.name, (batch, groups, channels // groups, height, width))
        moved_shape = (batch, channels // groups, groups, height, width)
        moved = self._layer("Transpose", [dealt], moved_shape, {"perm": [0, 2, 1, 3, 4]})
        return Value(self._reshaped(moved, (batch, channels, height, width)), x.shape, is_image=True)

    # --- what they share ---

    def _layer(
        self,
        type: str,
        inputs: Sequence[str],
        shape: tuple[int, ...],
        attributes: Mapping[str, object] | None = None,
        activation: str | None = None,
    ) -> str:
        """One operator, in int8 between its rounding; the name of its output."""
        if activation is not None and activation not in ACTIVATIONS:
            raise BuildError(f"no activation {activation!r}: it is one of {', '.join(ACTIVATIONS)}")
        made = self._made.add(type, inputs, [shape], attributes)[0]
        if self._quantiser is None:
            return made if activation is None else self._activated(made, activation)
        if activation is not None and activation in CLAMPING:
            # Quantisers round behind what only clamps, so that the runtime has nothing left to do for it.
            clamp, bounds = CLAMPING[activation]
            limits = [self._made.constant([value], "float32", ()) for value in bounds]
            return self._quantiser.settled(self._made.add(clamp, [made, *limits], [shape])[0], highest=HIGHEST)
        settled = self._quantiser.settled(made)
        return settled if activation is None else self._activated(settled, activation)

    def _weights(self, shape: tuple[int, ...], axis: int = 0) -> str:
        return self._quantiser.weights(shape, axis) if self._quantiser else self._made.weights(shape)

    def _plain_weights(self, shape: tuple[int, ...]) -> str:
        """Weights that are stored as float32 whatever the precision; in int8 they are rounded as data is."""
        return self._quantiser.plain(shape) if self._quantiser else self._made.weights(shape)

    def _bias(self, data: str, channels: int) -> str:
        return self._quantiser.bias(data, channels) if self._quantiser else self._made.weights((channels,))

    def _reshaped(self, name: str, shape: tuple[int, ...]) -> str:
        if math.prod(self._shape(name)) != math.prod(shape):
            raise BuildError(f"reshape: {list(self._shape(name))} has not as many elements as {list(shape)}")
        return self._layer("Reshape", [name, self._made.constant(shape, "int64")], shape)

    def _shape(self, name: str) -> tuple[int, ...]:
        return tuple(dim or 0 for dim in self._made.tensor(name).shape or ())

    def _stored_axis(self, x: Value, place: int) -> int:
        return (0, 2, 3, 1)[place] if x.is_image else place

    def _float_only(self, layer: str) -> None:
        if self.precision != "float32":
            raise BuildError(f"{layer} has no int8 form")
