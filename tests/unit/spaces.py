"""Small spaces for tests."""

from __future__ import annotations

from edgeprof.search.space import Architecture, Gene, SearchSpace
from edgeprof.search.spaces import OnceForAll, Stage
from latency_models.building import GraphBuilder, Value

__all__ = ["Widths", "small_images"]


class Widths(SearchSpace):
    """Ten lines of a user's own: two layers of four widths and two kernels."""

    name = "widths"
    n_classes = 10
    genes = (
        Gene("width 1", (4, 8, 12, 16), True),
        Gene("width 2", (4, 8, 12, 16), True),
        Gene("kernel", (1, 3), True),
    )

    def build(self, net: GraphBuilder, architecture: Architecture) -> Value:
        chosen = self.describe(architecture)
        kernel = int(str(chosen["kernel"]))
        x = net.conv(net.image(8, 8, 1), int(str(chosen["width 1"])), kernel, 2, activation="relu")
        x = net.conv(x, int(str(chosen["width 2"])), kernel, activation="relu")
        return net.dense(net.global_average(x, keep=False), self.n_classes)


def small_images() -> OnceForAll:
    """Images of 8 x 8 in one channel, ten classes: digits."""
    return OnceForAll(
        resolutions=(8,), widths=(0.5, 1.0), depths=(1, 2), kernels=(3, 5), expansions=(1, 2),
        stages=(Stage(16, 1, "relu", False), Stage(24, 2, "relu", True)), stem=8, stem_stride=1, last=48, head=0,
        image_channels=1, n_classes=10,
    )  # fmt: skip
