"""Scenes: a few operators as they stand beside each other in nets. Each begins at an input of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from edgeprof.training.oddments import oddments
from edgeprof.training.oddments.onnx import hard_swish_in_parts
from edgeprof.training.scenes_of_sound import over_time, recurrent, remembered, with_long_windows
from edgeprof.training.sizes import Sizes
from latency_models.building import BuildError, GraphBuilder, Value

__all__ = ["SCENES", "WEIGHTS", "attention", "squeeze_excite"]

Scene = Callable[[GraphBuilder, Sizes], Value]
PLAIN = ("relu", "relu", "relu6", "relu6", "hard_swish", "swish", "sigmoid", None, None)
UNARY = (
    "relu",
    "relu6",
    "hard_swish",
    "hard_sigmoid",
    "sigmoid",
    "tanh",
    "swish",
    "gelu",
    "leaky_relu",
    "elu",
    "prelu",
)
CURVED = ("hard_swish", "sigmoid", "tanh", "gelu", "leaky_relu", "elu", "prelu")
MOST_WEIGHTS = 4_000_000


def _convolutions(net: GraphBuilder, sizes: Sizes) -> Value:
    height, width, channels = sizes.image()
    x = net.image(height, width, channels)
    for _ in range(sizes.one_of((1, 2, 3))):
        window = sizes.window()
        stride = 2 if min(x.shape[1:3]) > 3 and sizes.chance(0.25) else 1
        dilation = 2 if stride == 1 and window[0] > 1 and sizes.chance(0.08) else 1
        pixels = x.shape[1] * x.shape[2] / stride**2
        outputs = sizes.outputs(pixels * window[0] * window[1] * x.channels)
        before = x
        x = net.conv(
            x, outputs, window, stride, dilation=dilation, activation=sizes.one_of(PLAIN),
            padding="valid" if sizes.chance(0.1) else "same",
        )  # fmt: skip
        if before.shape == x.shape and sizes.chance(0.5):
            x = net.add(before, x, activation=sizes.one_of(("relu", None)))
    return x


def _stem(net: GraphBuilder, sizes: Sizes) -> Value:
    """The first layer of a net: three channels or one, a large image, a stride."""
    side = sizes.one_of((96, 112, 128, 160, 192, 224, 224, 256, 320))
    x = net.image(side, side if sizes.chance(0.8) else sizes.one_of((48, 64, 192, 320)), sizes.one_of((1, 3, 3, 3)))
    if sizes.chance(0.2):
        patch = sizes.one_of((4, 8, 14, 16, 32))
        return net.conv(x, 16 * sizes.log_uniform(2, 32), patch, patch, padding="valid")
    window = sizes.one_of((3, 3, 5, 7, 11))
    x = net.conv(x, 8 * sizes.log_uniform(1, 8), window, sizes.one_of((1, 2, 2, 2, 4)), activation=sizes.one_of(PLAIN))
    return net.pool(x, "max", 3, 2, padding="same") if sizes.chance(0.3) else x


def _pointwise(net: GraphBuilder, sizes: Sizes) -> Value:
    height, width, channels = sizes.image(8, 2048)
    x = net.image(height, width, channels)
    for _ in range(sizes.one_of((1, 2, 2))):
        x = net.conv(x, sizes.outputs(x.shape[1] * x.shape[2] * x.channels), 1, activation=sizes.one_of(PLAIN))
    return x


def _separable(net: GraphBuilder, sizes: Sizes) -> Value:
    height, width, channels = sizes.image(8)
    x = net.image(height, width, channels)
    for _ in range(sizes.one_of((1, 2))):
        stride = 2 if min(x.shape[1:3]) > 3 and sizes.chance(0.3) else 1
        window = sizes.one_of(((3, 3), (3, 3), (5, 5), (7, 7), (1, 3), (3, 1), (1, 5), (5, 1)))
        x = net.depthwise(x, window, stride, activation=sizes.one_of(PLAIN))
        x = net.conv(x, sizes.outputs(x.shape[1] * x.shape[2] * x.channels), 1, activation=sizes.one_of(PLAIN))
    return x


def _inverted_residual(net: GraphBuilder, sizes: Sizes) -> Value:
    height, width, channels = sizes.image(8, 256)
    activation = sizes.one_of(PLAIN)
    inner = channels * sizes.one_of((1, 2, 3, 4, 6))
    if height * width * inner > sizes.most_elements:
        raise BuildError("too large")
    # In a net the block's input is what a convolution left, in the layout that the runtime likes.
    x = net.conv(net.image(height, width, channels), channels, 1)
    stride = 2 if min(height, width) > 3 and sizes.chance(0.3) else 1
    wide = net.conv(x, inner, 1, activation=activation)
    deep = net.depthwise(wide, sizes.one_of((3, 5, 7)), stride, activation=activation)
    if sizes.chance(0.4):
        deep = squeeze_excite(
            net, deep, max(4, inner // sizes.one_of((4, 8, 16))), sizes.one_of(("hard_sigmoid", "sigmoid"))
        )
    narrow = net.conv(deep, channels if stride == 1 else sizes.outputs(height * width * inner / 4), 1)
    return net.add(x, narrow) if narrow.shape == x.shape else narrow


def squeeze_excite(net: GraphBuilder, x: Value, inner: int, gate: str) -> Value:
    """Channels weighed by what the whole image says."""
    squeezed = net.conv(net.global_average(x), inner, 1, activation="relu")
    return net.multiply(x, net.conv(squeezed, x.channels, 1, activation=gate))


def _grouped(net: GraphBuilder, sizes: Sizes) -> Value:
    """Each group's channels are drawn as those of a net are: some runtimes have kernels for multiples of 8 or 16."""
    groups = sizes.one_of((2, 3, 4, 8, 16, 32))
    height, width, _ = sizes.image()
    inputs = sizes.channels(4, 128)
    outputs = inputs if sizes.chance(0.6) else sizes.channels(4, 128)
    window = sizes.one_of((1, 1, 3))
    if height * width * groups * max(inputs, outputs) > sizes.most_elements:
        raise BuildError("too large")
    sizes.allow(height * width * groups * inputs * outputs * window**2)
    x = net.image(height, width, groups * inputs)
    if sizes.chance(0.5):
        x = net.channel_shuffle(x, groups)
    if sizes.chance(0.5):
        x = net.conv(x, groups * inputs, 1)
    stride = 2 if min(height, width) > 3 and sizes.chance(0.2) else 1
    return net.conv(x, groups * outputs, window, stride, groups=groups, activation=sizes.one_of(PLAIN))


def _shuffled(net: GraphBuilder, sizes: Sizes) -> Value:
    """Half of the channels worked on, then dealt out again."""
    height, width, channels = sizes.image(16, 512)
    channels += channels % 2
    left, right = net.split(net.image(height, width, channels), 2)
    right = net.conv(right, right.channels, 1, activation="relu")
    return net.channel_shuffle(net.concat([left, net.depthwise(right)]), 2)


def _transposed(net: GraphBuilder, sizes: Sizes) -> Value:
    height, width, channels = sizes.image(8, 256)
    window, stride = sizes.one_of(((2, 2), (3, 2), (4, 2), (3, 1)))
    outputs = sizes.outputs(height * width * window**2 * channels, 4, 256)
    if height * width * stride**2 * outputs > sizes.most_elements:
        raise BuildError("too large")
    return net.transpose_conv(
        net.image(height, width, channels), outputs, window, stride, activation=sizes.one_of(PLAIN)
    )


def _dense(net: GraphBuilder, sizes: Sizes) -> Value:
    x = net.input((1 if sizes.chance(0.9) else sizes.log_uniform(2, 64), sizes.channels(8, 2048)))
    for _ in range(sizes.one_of((1, 2))):
        x = net.dense(
            x, sizes.outputs(x.shape[0] * x.channels * 30.0, 2, 2048), activation=sizes.one_of(("relu", None, "tanh"))
        )
    return x


def _feed_forward(net: GraphBuilder, sizes: Sizes) -> Value:
    length, width = sizes.tokens()
    inner = width * sizes.one_of((1, 2, 3, 4))
    sizes.allow(2 * length * width * inner)
    x = net.input((1, length, width))
    activation = sizes.one_of(("gelu", "gelu", "relu", "swish", None))
    if sizes.chance(0.5):
        return net.layer_norm(net.add(x, net.dense(net.dense(x, inner, activation=activation), width)))
    return net.add(x, net.dense(net.dense(net.layer_norm(x), inner, activation=activation), width))


def _attention(net: GraphBuilder, sizes: Sizes) -> Value:
    length, width = sizes.tokens()
    heads = sizes.one_of((1, 2, 3, 4, 6, 8))
    width = max(8, width // heads) * heads
    sizes.allow(4 * length * width * width)
    return attention(net, net.input((1, length, width)), heads)


def attention(net: GraphBuilder, x: Value, heads: int) -> Value:
    """Each token looks at all others, in so many ways."""
    batch, length, width = x.shape
    size = width // heads

    def head(value: Value) -> Value:
        return net.transpose(net.reshape(value, (batch, length, heads, size)), (0, 2, 1, 3))

    query, key, value = (head(net.dense(x, width)) for _ in range(3))
    scores = net.softmax(net.matmul(query, key, transpose_b=True))
    mixed = net.transpose(net.matmul(scores, value), (0, 2, 1, 3))
    return net.dense(net.reshape(mixed, (batch, length, width)), width)


def _products(net: GraphBuilder, sizes: Sizes) -> Value:
    heads, rows, depth = sizes.one_of((1, 2, 3, 4, 8, 12)), sizes.log_uniform(4, 256), 8 * sizes.log_uniform(1, 16)
    left, right = net.input((1, heads, rows, depth)), net.input((1, heads, sizes.log_uniform(4, 256), depth))
    x = net.matmul(left, right, transpose_b=True)
    return net.softmax(x) if sizes.chance(0.5) else x


def _norms(net: GraphBuilder, sizes: Sizes) -> Value:
    x = net.input((1, *sizes.tokens()))
    x = net.layer_norm(x) if sizes.chance(0.6) else net.softmax(x)
    return net.mean(x) if sizes.chance(0.3) else x


def _pools(net: GraphBuilder, sizes: Sizes) -> Value:
    height, width, channels = sizes.image(4)
    x = net.image(height, width, channels)
    window = sizes.one_of((2, 3, 3, 5))
    stride = sizes.one_of((1, 2, 2))
    x = net.pool(x, sizes.one_of(("max", "average")), window, stride, padding=sizes.one_of(("same", "valid")))
    return net.global_average(x, keep=sizes.chance(0.5)) if sizes.chance(0.4) else x


def _unary(net: GraphBuilder, sizes: Sizes) -> Value:
    """Activations one after another; of those that clamp one at most, since runtimes merge such."""
    x = net.image(*sizes.image()) if sizes.chance(0.75) else net.input((1, *sizes.tokens()))
    for activation in (sizes.one_of(UNARY), sizes.one_of(CURVED), sizes.one_of(CURVED)):
        x = net.activate(x, activation)
    return x


def _binary(net: GraphBuilder, sizes: Sizes) -> Value:
    height, width, channels = sizes.image()
    x = net.image(height, width, channels)
    other = net.image(1, 1, channels) if sizes.chance(0.35) else net.image(height, width, channels)
    operation = sizes.one_of((net.add, net.multiply, net.subtract))
    return operation(x, other)


def _token_binary(net: GraphBuilder, sizes: Sizes) -> Value:
    length, width = sizes.tokens()
    x = net.input((1, length, width))
    other = net.input(sizes.one_of(((1, length, width), (1, 1, width), (1, length, 1))))
    return sizes.one_of((net.add, net.multiply, net.subtract))(x, other)


def _broadcast(net: GraphBuilder, sizes: Sizes) -> Value:
    """One tensor laid over a larger one, in any of its dimensions."""
    shape = [1, sizes.log_uniform(1, 400), sizes.log_uniform(1, 400), sizes.one_of((1, 1, 2, 3, 4, 8, 16))]
    if math.prod(shape) > sizes.most_elements // 8:
        raise BuildError("too large")
    small = tuple(1 if sizes.chance(0.6) else size for size in shape)
    other = sizes.one_of(((1,), small, small[1:], small[2:]))
    operation = sizes.one_of((net.add, net.multiply, net.subtract))
    return operation(net.input(tuple(shape)), net.input(other))


def _scaled(net: GraphBuilder, sizes: Sizes) -> Value:
    x = net.scale(net.image(*sizes.image()))
    return net.activate(x, "relu") if sizes.chance(0.5) else x


def _scaled_by_numbers(net: GraphBuilder, sizes: Sizes) -> Value:
    """A scale and an offset that are one number for the whole tensor, as some nets learn them."""
    if net.precision != "float32":
        raise BuildError("one number for a whole tensor is drawn in float32 alone")
    x = net.image(*sizes.image())
    number = replace(net.constant([0.9], "float32", (1,)), is_image=True)
    return net.add(net.multiply(x, number), number)


def _dense_concat(net: GraphBuilder, sizes: Sizes) -> Value:
    """What a net with many short cuts does: norm, narrow, convolve, and put it beside what was there."""
    height, width, channels = sizes.image(16, 1024)
    x = net.image(height, width, channels)
    inner = 4 * sizes.one_of((12, 16, 24, 32))
    y = net.conv(net.activate(net.scale(x), "relu"), inner, 1, activation="relu")
    return net.concat([x, net.conv(y, inner // 4, 3)])


def _concatenated(net: GraphBuilder, sizes: Sizes) -> Value:
    height, width, channels = sizes.image(8, 512)
    x = net.image(height, width, channels)
    parts = [
        net.conv(x, sizes.outputs(height * width * channels * window**2 * 3, 4, 256), window, activation="relu")
        for window in sizes.one_of(((1, 3), (1, 3, 5), (1, 1, 3), (3, 3)))
    ]
    if sizes.chance(0.3):
        parts.append(net.pool(x, sizes.one_of(("max", "average")), 3, 1, padding="same"))
    return net.concat(parts)


def _splits(net: GraphBuilder, sizes: Sizes) -> Value:
    parts = sizes.one_of((2, 3, 4))
    height, width, channels = sizes.image(4, 512)
    pieces = net.split(net.image(height, width, parts * max(1, channels // parts)), parts)
    return net.add(net.activate(pieces[0], "relu"), pieces[-1])


def _resizes(net: GraphBuilder, sizes: Sizes) -> Value:
    height, width, channels = sizes.image(4, 256)
    factor = sizes.one_of((2, 2, 2, 4))
    if height * width * channels * factor**2 > sizes.most_elements:
        raise BuildError("too large")
    x = net.image(height, width, channels)
    if sizes.chance(0.5):
        x = net.conv(x, channels, 1, activation="relu")
    x = net.resize(x, factor, sizes.one_of(("nearest", "bilinear")))
    return net.conv(x, max(4, channels // 2), 1) if sizes.chance(0.5) else x


def _flattened(net: GraphBuilder, sizes: Sizes) -> Value:
    """The end of nets that keep the image to the last: all of it into a dense layer."""
    side, channels = sizes.one_of((1, 1, 2, 3, 4, 5, 6, 7, 8, 12, 14)), sizes.channels(8, 1024)
    inputs = side * side * channels
    sizes.allow(inputs * 64)
    units = sizes.log_uniform(2, max(2, min(1024, MOST_WEIGHTS // inputs)))
    x = net.flatten(net.image(side, side, channels))
    return net.dense(x, units, activation=sizes.one_of(("relu", None)))


def _moves(net: GraphBuilder, sizes: Sizes) -> Value:
    if sizes.chance(0.4):
        return net.pad(net.image(*sizes.image()), sizes.one_of((1, 1, 2, 3)))
    if sizes.chance(0.5):
        height, width, channels = sizes.image(4, 512)
        tokens = net.to_tokens(net.image(height, width, channels))
        return net.to_image(net.layer_norm(tokens), height, width)
    length, width = sizes.tokens()
    x = net.transpose(net.input((1, length, width)), (0, 2, 1))
    return net.reshape(x, (1, length * width))


def _in_parts(net: GraphBuilder, sizes: Sizes) -> Value:
    """Convolutions with an activation between them that is several operators."""
    if net.format != "onnx" or net.precision != "float32":
        raise BuildError("activations in parts are drawn in ONNX and float32 alone")
    height, width, channels = sizes.image()
    x = net.image(height, width, channels)
    for _ in range(sizes.one_of((1, 2))):
        x = net.conv(x, sizes.outputs(height * width * x.channels), 1)
        x = hard_swish_in_parts(net, x)
        x = hard_swish_in_parts(net, net.depthwise(x, sizes.one_of((3, 5))))
    return net.conv(x, sizes.outputs(height * width * x.channels), 1)


SCENES: Mapping[str, Scene] = {
    "convolutions": _convolutions,
    "stem": _stem,
    "pointwise": _pointwise,
    "separable": _separable,
    "inverted residual": _inverted_residual,
    "grouped": _grouped,
    "shuffled": _shuffled,
    "transposed": _transposed,
    "dense": _dense,
    "feed forward": _feed_forward,
    "attention": _attention,
    "products": _products,
    "norms": _norms,
    "pools": _pools,
    "unary": _unary,
    "binary": _binary,
    "token binary": _token_binary,
    "broadcast": _broadcast,
    "scaled": _scaled,
    "scaled by numbers": _scaled_by_numbers,
    "dense concat": _dense_concat,
    "concatenated": _concatenated,
    "splits": _splits,
    "resizes": _resizes,
    "flattened": _flattened,
    "moves": _moves,
    "recurrent": recurrent,
    "in parts": _in_parts,
    "long windows": with_long_windows,
    "over time": over_time,
    "remembered": remembered,
    "oddments": oddments,
}
# What takes most of the time of most nets is drawn more often.
WEIGHTS = {
    "convolutions": 4.0,
    "stem": 1.5,
    "pointwise": 3.0,
    "separable": 3.0,
    "inverted residual": 3.0,
    "dense": 1.5,
    "feed forward": 1.5,
    "attention": 1.5,
    "concatenated": 1.5,
    "dense concat": 1.5,
    "grouped": 2.0,
    "recurrent": 2.0,
    "over time": 1.5,
    "unary": 2.0,
    "moves": 1.5,
    "resizes": 1.5,
    "oddments": 5.0,
}
