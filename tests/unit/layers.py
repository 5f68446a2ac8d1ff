"""Every layer that builders have, each in a graph of its own: for tests of building and writing."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from latency_models.building import GraphBuilder, Value
from latency_models.building.base import ACTIVATIONS

__all__ = ["LAYERS"]


def image(net: GraphBuilder, channels: int = 16) -> Value:
    return net.image(16, 12, channels)


def tokens(net: GraphBuilder) -> Value:
    return net.input((1, 12, 32))


def activation(name: str) -> Callable[[GraphBuilder], Value]:
    return lambda net: net.activate(image(net), name)


LAYERS: Mapping[str, Callable[[GraphBuilder], Value]] = {
    "conv": lambda net: net.conv(image(net), 8, 3, 2, activation="relu"),
    "conv with all options": lambda net: net.conv(image(net), 8, (5, 3), (1, 2), dilation=(2, 1), padding="valid"),
    "grouped conv": lambda net: net.conv(image(net), 32, groups=4, activation="relu6"),
    "depthwise": lambda net: net.depthwise(image(net), 5, 2, activation="hard_swish"),
    "depthwise with more channels": lambda net: net.depthwise(image(net), 3, multiplier=2, bias=False),
    "transpose_conv": lambda net: net.transpose_conv(image(net), 8, 3, 2),
    "dense": lambda net: net.dense(net.input((2, 32)), 10, activation="relu"),
    "dense on tokens": lambda net: net.dense(tokens(net), 10, activation="gelu"),
    "dense without bias": lambda net: net.dense(net.input((2, 32)), 10, bias=False),
    "matmul": lambda net: net.matmul(tokens(net), net.input((1, 32, 5))),
    "matmul transposed": lambda net: net.matmul(tokens(net), net.input((1, 7, 32)), transpose_b=True),
    "lstm": lambda net: net.lstm(tokens(net), 20),
    "gru": lambda net: net.gru(tokens(net), 20),
    "add": lambda net: net.add(image(net), image(net), activation="relu"),
    "multiply broadcast": lambda net: net.multiply(image(net), net.image(1, 1, 16)),
    "subtract broadcast": lambda net: net.subtract(tokens(net), net.input((1, 12, 1))),
    "scale": lambda net: net.scale(image(net)),
    "softmax": lambda net: net.softmax(tokens(net)),
    "layer_norm": lambda net: net.layer_norm(tokens(net)),
    "max pool": lambda net: net.pool(image(net), "max", 3, 2, padding="same"),
    "average pool": lambda net: net.pool(image(net), "average", 2, 2),
    "global average": lambda net: net.global_average(image(net)),
    "global average as vector": lambda net: net.global_average(image(net), keep=False),
    "mean": lambda net: net.mean(tokens(net)),
    "concat": lambda net: net.concat([image(net), image(net, 3)]),
    "concat of tokens": lambda net: net.concat([tokens(net), tokens(net)], axis=1),
    "split": lambda net: net.split(image(net), 2)[1],
    "reshape": lambda net: net.reshape(tokens(net), (1, 6, 64)),
    "to_tokens": lambda net: net.to_tokens(image(net)),
    "to_image": lambda net: net.to_image(tokens(net), 3, 4),
    "transpose": lambda net: net.transpose(tokens(net), (0, 2, 1)),
    "flatten": lambda net: net.flatten(image(net)),
    "resize nearest": lambda net: net.resize(image(net), 2),
    "resize bilinear": lambda net: net.resize(image(net), 2, "bilinear"),
    "pad": lambda net: net.pad(image(net), 1),
    "remember": lambda net: net.remember(image(net), 5),
    "channel_shuffle": lambda net: net.channel_shuffle(image(net), 4),
    **{f"{name} activation": activation(name) for name in ACTIVATIONS},
}
