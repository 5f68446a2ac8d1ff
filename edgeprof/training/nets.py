"""Random whole nets: what the sum of kernels is corrected and its intervals calibrated with.

Each family is a way in which nets are put together; depth, widths, resolution and details are drawn. None of them is a
net that somebody published: those are for testing.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping

import numpy as np

from edgeprof.training.probes import anchor
from edgeprof.training.scenes import attention, squeeze_excite
from edgeprof.training.scenes_of_sound import as_it_comes, memory, sound
from edgeprof.training.sizes import Sizes
from latency_models.building import BuildError, GraphBuilder, Value, builder
from latency_models.graph import Graph

__all__ = ["FAMILIES", "draw_net", "family_at"]

Net = Callable[[GraphBuilder, Sizes], Value]
ACTIVATIONS = ("relu", "relu6", "hard_swish", "swish")
# Clamped from below runs inside of a convolution, from both sides perhaps behind it.
CLAMPING = ("relu", "relu", "relu6")
MOST_TRIES = 100
# A net that takes longer than some tenths of a second on a small board is left to those who have the time.
MOST_MACS = 2_000_000_000
# Nets are to be of every size: how much they move decides what stays in caches. Of so many draws the one is taken whose
# operators move nearest to what was drawn between these, evenly in the logarithm.
DRAWS = 8
LEAST_MOVED, MOST_MOVED = 2e5, 3e8


def family_at(turn: int, format: str, precision: str = "float32") -> str:
    """The family of a training's net `turn`, from 0: all that a format can have in a precision take turns."""
    names = _families_of(format, precision)
    return names[turn % len(names)]


@functools.cache
def _families_of(format: str, precision: str) -> tuple[str, ...]:
    return tuple(family for family in FAMILIES if _draws(0, 0, family, format, precision, 1))


def draw_net(seed: int, number: int, family: str, format: str, precision: str = "float32") -> Graph:
    """Net `number` of the training with this seed; beside it the graph has the anchor that probes have.

    Args:
        seed: of the training.
        number: of the net.
        family: one of `FAMILIES`.
        format: onnx or tflite.
        precision: float32 or int8.

    Raises:
        BuildError: the format has no such nets in this precision.
    """
    found = _draws(seed, number, family, format, precision, DRAWS)
    if not found:
        raise BuildError(f"no net of the family {family} can be built as {format} in {precision}")
    wanted = math.log(LEAST_MOVED) + np.random.default_rng([seed, number]).random() * math.log(MOST_MOVED / LEAST_MOVED)
    return min(found, key=lambda graph: abs(math.log(_moved_bytes(graph)) - wanted))


def _draws(seed: int, number: int, family: str, format: str, precision: str, n_draws: int) -> list[Graph]:
    """So many nets of a family, or fewer where most of what is drawn cannot be built."""
    found: list[Graph] = []
    for attempt in range(MOST_TRIES):
        rng = np.random.default_rng([seed, number, attempt, 1 + int(precision == "int8")])
        net = builder(format, name=f"{family}-{number}", precision=precision)
        try:
            beside = anchor(net)
            graph = net.graph(FAMILIES[family](net, Sizes(rng)), beside)
        except BuildError:
            continue
        if sum(one.macs or 0 for one in graph.operators) <= MOST_MACS:
            found.append(graph)
        if len(found) == n_draws:
            break
    return found


def _moved_bytes(graph: Graph) -> float:
    """What all operators read and write, each by itself."""
    names = (name for one in graph.operators for name in (*one.inputs, *one.outputs) if name in graph.tensors)
    return sum(float(graph.tensors[name].size_bytes or 0) for name in names)


def _classes(net: GraphBuilder, sizes: Sizes, x: Value) -> Value:
    return net.dense(net.global_average(x, keep=False), sizes.one_of((2, 10, 100, 365, 1000)))


def _start(net: GraphBuilder, sizes: Sizes, channels: int, activation: str) -> Value:
    side = 32 * sizes.one_of((3, 4, 5, 6, 7, 8))
    image = net.image(side, side, sizes.one_of((1, 3, 3)))
    return net.conv(image, channels, sizes.one_of((3, 3, 5, 7)), 2, activation=activation)


def _bottlenecks(net: GraphBuilder, sizes: Sizes) -> Value:
    """Wide inside, narrow between, with and without gates."""
    activation, width = sizes.one_of(ACTIVATIONS), sizes.one_of((8, 16, 24, 32, 40))
    gated, expand = sizes.chance(0.5), sizes.one_of((2, 3, 4, 5, 6))
    x = _start(net, sizes, width, activation)
    for stage in range(sizes.one_of((3, 4, 5))):
        width = 8 * max(1, round(width * sizes.one_of((1.3, 1.6, 2.0)) / 8))
        window = sizes.one_of((3, 3, 5, 7))
        for block in range(sizes.one_of((1, 2, 3, 4))):
            stride = 2 if block == 0 and stage < 4 else 1
            deep = net.conv(x, x.channels * expand, 1, activation=activation)
            deep = net.depthwise(deep, window, stride, activation=activation)
            if gated:
                deep = squeeze_excite(net, deep, max(4, deep.channels // 8), sizes.one_of(("sigmoid", "hard_sigmoid")))
            narrow = net.conv(deep, width, 1)
            x = net.add(x, narrow) if narrow.shape == x.shape else narrow
    return _classes(net, sizes, net.conv(x, 4 * width, 1, activation=activation))


def _plain_residual(net: GraphBuilder, sizes: Sizes) -> Value:
    """Pairs of convolutions with a short cut around them."""
    activation = sizes.one_of(CLAMPING)
    width = sizes.one_of((16, 24, 32, 48, 64))
    x = _start(net, sizes, width, activation)
    x = net.pool(x, "max", 3, 2, padding="same") if sizes.chance(0.5) else x
    for stage in range(sizes.one_of((2, 3, 4))):
        for block in range(sizes.one_of((1, 2, 3))):
            stride = 2 if stage and block == 0 else 1
            y = net.conv(x, width, 3, stride, activation=activation)
            y = net.conv(y, width, sizes.one_of((1, 3, 3)))
            short = x if y.shape == x.shape else net.conv(x, width, 1, stride)
            x = net.add(short, y, activation=activation)
        width = min(512, width * 2)
    return _classes(net, sizes, x)


def _stacked(net: GraphBuilder, sizes: Sizes) -> Value:
    """Convolutions and pooling one after the other, and dense layers at the end."""
    activation = sizes.one_of(CLAMPING)
    width = sizes.one_of((8, 16, 24, 32, 48))
    x = _start(net, sizes, width, activation)
    for _ in range(sizes.one_of((2, 3, 4))):
        for _ in range(sizes.one_of((1, 2, 3))):
            x = net.conv(x, width, sizes.one_of((3, 3, 5)), activation=activation)
        x = net.pool(x, "max", 2, 2)
        width = min(384, width * 2)
    flat = net.flatten(x)
    if flat.channels > 20_000:
        flat = net.global_average(x, keep=False)
    return net.dense(net.dense(flat, sizes.one_of((64, 128, 256, 512)), activation=activation), 10)


def _separable_chain(net: GraphBuilder, sizes: Sizes) -> Value:
    """Depthwise and pointwise in turn."""
    activation, width = sizes.one_of(ACTIVATIONS), sizes.one_of((12, 20, 24, 40, 56))
    x = _start(net, sizes, width, activation)
    for _ in range(sizes.one_of((3, 4, 5))):
        for block in range(sizes.one_of((1, 2, 4, 6))):
            x = net.depthwise(x, sizes.one_of((3, 3, 5)), 2 if block == 0 else 1, activation=activation)
            x = net.conv(x, width, 1, activation=activation)
        width = min(1000, 8 * max(1, round(width * sizes.one_of((1.5, 2.0)) / 8)))
    return _classes(net, sizes, x)


def _growing(net: GraphBuilder, sizes: Sizes) -> Value:
    """Every layer sees all before it."""
    activation = sizes.one_of(CLAMPING)
    growth = sizes.one_of((8, 12, 16, 20))
    x = _start(net, sizes, 2 * growth, activation)
    for _ in range(sizes.one_of((2, 3))):
        for _ in range(sizes.one_of((2, 3, 4, 6))):
            normal = net.activate(net.scale(x), activation) if sizes.chance(0.6) else x
            x = net.concat([x, net.conv(net.conv(normal, 3 * growth, 1, activation=activation), growth, 3)])
        x = net.pool(net.conv(x, max(8, x.channels // 2), 1, activation=activation), "average", 2, 2)
    return _classes(net, sizes, x)


def _branches(net: GraphBuilder, sizes: Sizes) -> Value:
    """Windows of several sizes side by side."""
    activation = sizes.one_of(CLAMPING)
    width = sizes.one_of((8, 16, 24, 40))
    x = _start(net, sizes, 2 * width, activation)
    for _ in range(sizes.one_of((2, 3, 4))):
        x = net.pool(x, "max", 3, 2, padding="same")
        for _ in range(sizes.one_of((1, 2, 4))):
            parts = [net.conv(x, width, 1, activation=activation)]
            narrow = net.conv(x, width, 1, activation=activation)
            window = sizes.one_of(((3, 3), (1, 5), (5, 1)))
            parts.append(net.conv(narrow, width + 8, window, activation=activation))
            if sizes.chance(0.6):
                parts.append(net.conv(net.pool(x, "average", 3, 1, padding="same"), width, 1, activation=activation))
            x = net.concat(parts)
        width *= 2
    return _classes(net, sizes, x)


def _dealt(net: GraphBuilder, sizes: Sizes) -> Value:
    """Grouped convolutions whose channels are dealt out in between."""
    activation = sizes.one_of(CLAMPING)
    groups = sizes.one_of((2, 3, 4))
    width = groups * 8 * sizes.one_of((1, 2, 3))
    x = _start(net, sizes, width, activation)
    for _ in range(sizes.one_of((2, 3))):
        x = net.conv(net.depthwise(x, 3, 2), 2 * width, 1, activation=activation)
        width *= 2
        for _ in range(sizes.one_of((1, 2, 3))):
            y = net.channel_shuffle(net.conv(x, width, 1, groups=groups, activation=activation), groups)
            x = net.add(x, net.conv(net.depthwise(y, 3), width, 1, groups=groups), activation=activation)
    return _classes(net, sizes, x)


def _hourglass(net: GraphBuilder, sizes: Sizes) -> Value:
    """Down to a small image and up again."""
    activation = sizes.one_of(CLAMPING)
    width, kept = sizes.one_of((8, 12, 16, 24, 40)), []
    x = _start(net, sizes, width, activation)
    for _ in range(sizes.one_of((2, 3))):
        x = net.conv(x, width, 3, activation=activation)
        kept.append(x)
        width *= 2
        x = net.conv(x, width, 3, 2, activation=activation)
    by_resize = sizes.chance(0.5)
    for before in reversed(kept):
        up = (
            net.resize(x, 2, sizes.one_of(("nearest", "bilinear")))
            if by_resize
            else net.transpose_conv(x, before.channels)
        )
        if up.shape[:3] != before.shape[:3]:
            raise BuildError("the sides do not meet")
        x = net.conv(net.concat([up, before]), before.channels, 3, activation=activation)
    return net.conv(x, sizes.one_of((1, 2, 21)), 1, activation="sigmoid")


def _tokens(net: GraphBuilder, sizes: Sizes) -> Value:
    """Tokens that look at each other, after an image or alone."""
    heads = sizes.one_of((2, 3, 4, 6))
    width = heads * sizes.one_of((16, 32, 48, 80))
    if sizes.chance(0.5):
        side, patch = sizes.one_of(((96, 16), (112, 8), (128, 16), (160, 16), (240, 16)))
        x = net.to_tokens(net.conv(net.image(side, side), width, patch, patch, padding="valid"))
    else:
        x = net.input((1, sizes.one_of((24, 48, 80, 160, 250)), width))
    activation = sizes.one_of(("relu", "gelu", "swish"))
    for _ in range(sizes.one_of((1, 2, 3, 5, 8))):
        x = net.add(x, attention(net, net.layer_norm(x), heads))
        inner = net.dense(net.layer_norm(x), width * sizes.one_of((2, 3)), activation=activation)
        x = net.add(x, net.dense(inner, width))
    return net.dense(net.mean(x), sizes.one_of((2, 10, 100)))


def _recurrent(net: GraphBuilder, sizes: Sizes) -> Value:
    """Sound or sensors: dense layers around a memory."""
    x = net.input((1, sizes.one_of((10, 25, 50, 100)), 8 * sizes.log_uniform(2, 16)))
    x = net.dense(x, 8 * sizes.log_uniform(2, 16), activation="relu")
    for _ in range(sizes.one_of((1, 2))):
        x = memory(net, sizes, x, 8 * sizes.log_uniform(2, 24))
    return net.dense(x, sizes.one_of((1, 12, 40)), activation="sigmoid")


def _sound(net: GraphBuilder, sizes: Sizes) -> Value:
    """Convolutions over time, and sometimes a memory of what came before."""
    x = sound(net, sizes, sizes.one_of((3, 4, 6, 9, 14)))
    if sizes.chance(0.5):
        x = memory(net, sizes, net.transpose(x, (0, 2, 1)), 8 * sizes.log_uniform(2, 24))
    return net.dense(net.mean(x), sizes.one_of((1, 12, 40)), activation="sigmoid")


def _streaming(net: GraphBuilder, sizes: Sizes) -> Value:
    """Sound as it comes, a few rows at a time: layers that each remember what they saw."""
    x = as_it_comes(net, sizes, sizes.one_of((2, 3, 4, 6, 8)))
    return net.dense(net.flatten(x), sizes.one_of((1, 1, 12)), activation="sigmoid")


FAMILIES: Mapping[str, Net] = {
    "bottlenecks": _bottlenecks,
    "plain residual": _plain_residual,
    "tokens": _tokens,
    "separable chain": _separable_chain,
    "growing": _growing,
    "hourglass": _hourglass,
    "branches": _branches,
    "stacked": _stacked,
    "dealt": _dealt,
    "recurrent": _recurrent,
    "sound": _sound,
    "streaming": _streaming,
}
