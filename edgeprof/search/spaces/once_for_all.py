"""Inverted residual blocks of elastic depth, kernel and expansion, at several resolutions and widths.

The space of Cai et al., Once-for-all, 2020, over the stages of Howard et al., Searching for MobileNetV3, 2019.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from edgeprof.search.space import Architecture, Gene, SearchSpace
from edgeprof.training.scenes import squeeze_excite
from latency_models.building import GraphBuilder, Value, builder
from latency_models.graph import Graph
from latency_models.tables import Slot

__all__ = ["OnceForAll", "Stage"]


class Stage(NamedTuple):
    """What is fixed in a stage: channels, the stride of its first block, the activation, and whether it is gated."""

    channels: int
    stride: int
    activation: str
    is_gated: bool


MOBILENET_V3 = (
    Stage(24, 2, "relu", False),
    Stage(40, 2, "relu", True),
    Stage(80, 2, "hard_swish", False),
    Stage(112, 1, "hard_swish", True),
    Stage(160, 2, "hard_swish", True),
)
DIVISOR = 8


@dataclass(frozen=True)
class OnceForAll(SearchSpace):
    """The space. All but `stages` and what is behind them are the choices that genes have.

    A block that is deeper than its stage has no kernel and no expansion: both are 0 in the canonical form.
    """

    resolutions: tuple[int, ...] = (128, 160, 192, 224)
    widths: tuple[float, ...] = (0.75, 1.0)
    depths: tuple[int, ...] = (2, 3, 4)
    kernels: tuple[int, ...] = (3, 5, 7)
    expansions: tuple[int, ...] = (3, 4, 6)
    stages: tuple[Stage, ...] = MOBILENET_V3
    stem: int = 16
    stem_stride: int = 2
    last: int = 960
    head: int = 1280
    image_channels: int = 3
    n_classes: int = 1000
    name: str = "once-for-all"

    @property
    def genes(self) -> tuple[Gene, ...]:
        found = [Gene("resolution", self.resolutions, True), Gene("width", self.widths, True)]
        for number in range(1, len(self.stages) + 1):
            found.append(Gene(f"depth {number}", self.depths, True))
            for block in range(1, max(self.depths) + 1):
                found.append(Gene(f"kernel {number}.{block}", self.kernels, True))
                found.append(Gene(f"expansion {number}.{block}", self.expansions, True))
        return tuple(found)

    def canonical(self, architecture: Architecture) -> Architecture:
        found = list(architecture)
        for start in self._starts():
            first_missing = start + 1 + 2 * self.depths[architecture[start]]
            found[first_missing : start + 1 + 2 * max(self.depths)] = [0] * (
                2 * (max(self.depths) - self.depths[architecture[start]])
            )
        return tuple(found)

    def build(self, net: GraphBuilder, architecture: Architecture) -> Value:
        side, width = self.resolutions[architecture[0]], self.widths[architecture[1]]
        x = self._begun(net, side, width)
        for number, (stage, start) in enumerate(zip(self.stages, self._starts(), strict=True), 1):
            for block in range(self.depths[architecture[start]]):
                kernel, expansion = architecture[start + 1 + 2 * block : start + 3 + 2 * block]
                stride, channels = stage.stride if block == 0 else 1, _rounded(stage.channels * width)
                with net.part(f"{number}.{block + 1}"):
                    x = _block(net, x, stage, channels, self.kernels[kernel], self.expansions[expansion], stride)
        return self._ended(net, x, width)

    def _ended(self, net: GraphBuilder, x: Value, width: float) -> Value:
        x = net.conv(x, _rounded(self.last * width), 1, activation="hard_swish")
        x = net.global_average(x, keep=False)
        x = net.dense(x, self.head, activation="hard_swish") if self.head else x
        return net.dense(x, self.n_classes)

    def slots(self) -> list[Slot]:
        """Its parts, each of few genes, for a `GeneTable` of whole populations at once."""

        def stem(genes: tuple[int, ...]) -> Graph:
            net = builder("onnx", name=self.name)
            return net.graph(self._begun(net, self.resolutions[genes[0]], self.widths[genes[1]]))

        def head(genes: tuple[int, ...]) -> Graph:
            net = builder("onnx", name=self.name)
            side, channels = self._entering(len(self.stages), *genes)
            return net.graph(self._ended(net, net.image(side, side, channels), self.widths[genes[1]]))

        found = [Slot((0, 1), stem)]
        for number, start in enumerate(self._starts()):
            for block in range(max(self.depths)):
                genes = (0, 1, start, start + 1 + 2 * block, start + 2 + 2 * block)
                found.append(Slot(genes, functools.partial(self._block_alone, number, block)))
        return [*found, Slot((0, 1), head)]

    def _block_alone(self, number: int, block: int, genes: tuple[int, ...]) -> Graph | None:
        resolution, width, depth, kernel, expansion = genes
        if block >= self.depths[depth]:
            return None
        stage, net = self.stages[number], builder("onnx", name=self.name)
        channels = _rounded(stage.channels * self.widths[width])
        side, inputs = self._entering(number, resolution, width)
        if block:
            side, inputs = -(-side // stage.stride), channels
        stride = 1 if block else stage.stride
        x = net.image(side, side, inputs)
        return net.graph(_block(net, x, stage, channels, self.kernels[kernel], self.expansions[expansion], stride))

    def _entering(self, number: int, resolution: int, width: int) -> tuple[int, int]:
        """Side and channels of what enters a stage."""
        side = -(-self.resolutions[resolution] // self.stem_stride)
        for stage in self.stages[:number]:
            side = -(-side // stage.stride)
        channels = self.stages[number - 1].channels if number else self.stem
        return side, _rounded(channels * self.widths[width])

    def _begun(self, net: GraphBuilder, side: int, width: float) -> Value:
        x = net.image(side, side, self.image_channels)
        return net.conv(x, _rounded(self.stem * width), 3, self.stem_stride, activation="hard_swish")

    def _starts(self) -> Sequence[int]:
        """The places of the genes of depth."""
        return range(2, 2 + len(self.stages) * (1 + 2 * max(self.depths)), 1 + 2 * max(self.depths))


def _rounded(channels: float) -> int:
    """The nearest multiple of 8, which is no more than a tenth below what was wanted (Howard et al., 2017)."""
    found = max(DIVISOR, int(channels + DIVISOR / 2) // DIVISOR * DIVISOR)
    return found + DIVISOR if found < 0.9 * channels else found


def _block(net: GraphBuilder, x: Value, stage: Stage, channels: int, kernel: int, expansion: int, stride: int) -> Value:
    wide = net.conv(x, x.channels * expansion, 1, activation=stage.activation)
    deep = net.depthwise(wide, kernel, stride, activation=stage.activation)
    if stage.is_gated:
        deep = squeeze_excite(net, deep, _rounded(deep.channels / 4), "hard_sigmoid")
    narrow = net.conv(deep, channels, 1)
    return net.add(x, narrow) if narrow.shape == x.shape else narrow
