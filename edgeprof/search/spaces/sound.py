"""Sound and sensors: separable convolutions over time.

In the manner of Zhang et al., Hello Edge: keyword spotting on microcontrollers, 2017 (DS-CNN), with the time as the
width of an image of height 1 and the channels of the sensor as its channels.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeprof.search.space import Architecture, Gene, SearchSpace
from latency_models.building import GraphBuilder, Value

__all__ = ["Sound"]

FIXED_GENES = 5


@dataclass(frozen=True)
class Sound(SearchSpace):
    """A first convolution, and separable ones behind it; `length` is in steps of time, `inputs` are its channels."""

    length: int = 98
    inputs: int = 40
    n_classes: int = 12
    depths: tuple[int, ...] = (1, 2, 3, 4, 5)
    widths: tuple[int, ...] = (8, 16, 24, 32, 48, 64)
    kernels: tuple[int, ...] = (3, 5, 9, 15)
    strides: tuple[int, ...] = (1, 2)
    name: str = "sound"

    @property
    def genes(self) -> tuple[Gene, ...]:
        found = [
            Gene("depth", self.depths, True),
            Gene("width", self.widths, True),
            Gene("first kernel", self.kernels, True),
            Gene("first stride", self.strides, True),
            Gene("activation", ("relu", "hard_swish")),
        ]
        for block in range(1, max(self.depths) + 1):
            found.append(Gene(f"kernel {block}", self.kernels, True))
            found.append(Gene(f"is separable {block}", (True, False)))
        return tuple(found)

    def canonical(self, architecture: Architecture) -> Architecture:
        n_used = FIXED_GENES + 2 * self.depths[architecture[0]]
        return (*architecture[:n_used], *[0] * (len(architecture) - n_used))

    def build(self, net: GraphBuilder, architecture: Architecture) -> Value:
        chosen = self.describe(architecture)
        width, activation = self.widths[architecture[1]], str(chosen["activation"])
        x = net.conv(
            net.image(1, self.length, self.inputs), width, (1, self.kernels[architecture[2]]),
            (1, self.strides[architecture[3]]), activation=activation,
        )  # fmt: skip
        for block in range(self.depths[architecture[0]]):
            kernel, is_dense = architecture[FIXED_GENES + 2 * block : FIXED_GENES + 2 + 2 * block]
            window = (1, self.kernels[kernel])
            with net.part(f"block {block + 1}"):
                if is_dense:
                    y = net.conv(x, width, window, activation=activation)
                else:
                    y = net.conv(net.depthwise(x, window, activation=activation), width, 1, activation=activation)
                x = net.add(x, y)
        return net.dense(net.global_average(x, keep=False), self.n_classes)
