"""Probes: small models of a few operators that feed each other as they do in nets, for their kernels to be timed.

In a net an operator finds its input where the one before left it, and the runtime fuses it with its neighbours; so
most probes are short chains, and some are one operator alone. A probe is determined by its seed and number.
"""

from __future__ import annotations

import math

import numpy as np

from edgeprof.training.scenes import SCENES, WEIGHTS
from edgeprof.training.sizes import Sizes
from latency_models.building import BuildError, GraphBuilder, Value, builder
from latency_models.graph import Graph

__all__ = ["ANCHOR_MACS", "ANCHOR_SHAPE", "anchor", "draw_probe"]

# Every probe begins with the same convolution: what it takes tells whether something else ran beside it.
ANCHOR_SHAPE = (1, 28, 28, 16)
ANCHOR_MACS = 28 * 28 * 16 * 16 * 3 * 3
# What stands between the operators of a quantised model, and mostly runs with them.
BETWEEN = ("QuantizeLinear", "DequantizeLinear")
# A probe has scenes until it has about so many other operators, or takes so many MACs: starting to measure takes longer
# than measuring, so that many at once are cheap.
MANY_OPERATORS = 40
# In nets, next to nothing leaves the model: of so many scenes what comes out is read by one more operator.
READ = 0.6
MOST_TRIES = 80
# Of so many probes all scenes move no more than `LITTLE_BYTES` each: what is kept in the nearest caches is another
# matter, and wake words and gestures take microseconds.
LITTLE, LITTLE_BYTES = 0.2, 100_000
MANY_MACS = 500_000_000


def draw_probe(seed: int, number: int, format: str, precision: str = "float32", only: str | None = None) -> Graph:
    """Probe `number` of the training with this seed.

    Args:
        seed: of the training.
        number: of the probe.
        format: onnx or tflite.
        precision: float32 or int8.
        only: the name of the only scene (see `SCENES`); None draws from all.
    """
    rng = np.random.default_rng([seed, number, int(precision == "int8")])
    sizes = Sizes(rng)
    net = builder(format, name=f"probe-{number}", precision=precision)
    names = list(SCENES)
    weights = np.array([WEIGHTS.get(name, 1.0) for name in names])
    n_operators = 1 if sizes.chance(0.05) else MANY_OPERATORS
    most_bytes = LITTLE_BYTES if sizes.chance(LITTLE) else math.inf
    outputs: list[Value] = [anchor(net)]
    for _ in range(MOST_TRIES):
        name = only or names[int(rng.choice(len(names), p=weights / weights.sum()))]
        before = rng.bit_generator.state
        try:
            # First by itself: what is in a builder cannot be taken out again.
            alone = builder(format, precision=precision)
            _scene(name, alone, sizes)
        except BuildError:
            continue  # what was drawn does not fit together, or the format has no such operator: draw again
        if max((one.macs or 0 for one in alone.operators), default=0) > 2 * sizes.most_macs:
            continue
        if sum(one.moved_bytes or 0 for one in alone.operators) > most_bytes:
            continue
        rng.bit_generator.state = before
        outputs.append(_scene(name, net, sizes))
        working = [one for one in net.operators if one.type not in BETWEEN]
        if len(working) > n_operators or sum(one.macs or 0 for one in working) > MANY_MACS:
            break
    if len(outputs) == 1:
        raise BuildError(f"{only or 'no scene'} cannot be built as {format} in {precision}")
    return net.graph(*_unread(net.graph(*outputs)))


def _scene(name: str, net: GraphBuilder, sizes: Sizes) -> Value:
    made = SCENES[name](net, sizes)
    if name == "oddments" or not sizes.chance(READ):
        return made  # oddments may end in integers
    if made.is_image:
        return net.global_average(made, keep=False)
    return net.mean(made) if len(made.shape) == 3 else made


def _unread(graph: Graph) -> list[Value]:
    """All that nothing reads, as outputs: what leads nowhere, a runtime would not run."""
    read = {name for node in graph.operators for name in node.inputs}
    return [Value(name, ()) for node in graph.operators for name in node.outputs if name not in read]


def anchor(net: GraphBuilder) -> Value:
    """The work that is the same in every probe: two million MACs."""
    batch, height, width, channels = ANCHOR_SHAPE
    return net.conv(net.image(height, width, channels, batch), channels, 3, bias=False)
