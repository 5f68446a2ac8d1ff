"""Small transformers: tokens of an image's patches, or of steps of time, that look at each other.

Dosovitskiy et al., An image is worth 16x16 words, 2021; elastic as in Chen et al., AutoFormer, 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeprof.search.space import Architecture, Gene, SearchSpace
from edgeprof.training.scenes import attention
from latency_models.building import GraphBuilder, Value

__all__ = ["Transformer"]

FIXED_GENES = 3


@dataclass(frozen=True)
class Transformer(SearchSpace):
    """`side` of a square image that is cut into patches, or else `length` steps of time of `inputs` channels each.

    The width of tokens is the number of heads times `head`.
    """

    side: int | None = 32
    length: int = 64
    inputs: int = 3
    n_classes: int = 10
    patches: tuple[int, ...] = (2, 4, 8)
    depths: tuple[int, ...] = (1, 2, 3, 4)
    heads: tuple[int, ...] = (1, 2, 3, 4)
    ratios: tuple[int, ...] = (1, 2, 3, 4)
    head: int = 16
    name: str = "transformer"

    @property
    def genes(self) -> tuple[Gene, ...]:
        patch = Gene("patch", self.patches if self.side is not None else (1,), True)
        found = [patch, Gene("depth", self.depths, True), Gene("heads", self.heads, True)]
        found += [Gene(f"ratio {block}", self.ratios, True) for block in range(1, max(self.depths) + 1)]
        return tuple(found)

    def canonical(self, architecture: Architecture) -> Architecture:
        n_used = FIXED_GENES + self.depths[architecture[1]]
        return (*architecture[:n_used], *[0] * (len(architecture) - n_used))

    def build(self, net: GraphBuilder, architecture: Architecture) -> Value:
        heads = self.heads[architecture[2]]
        width = heads * self.head
        if self.side is not None:
            patch = self.patches[architecture[0]]
            image = net.image(self.side, self.side, self.inputs)
            x = net.to_tokens(net.conv(image, width, patch, patch, padding="valid"))
        else:
            x = net.dense(net.input((1, self.length, self.inputs)), width)
        for block in range(self.depths[architecture[1]]):
            ratio = self.ratios[architecture[FIXED_GENES + block]]
            with net.part(f"block {block + 1}"):
                x = net.add(x, attention(net, net.layer_norm(x), heads))
                inner = net.dense(net.layer_norm(x), ratio * width, activation="gelu")
                x = net.add(x, net.dense(inner, width))
        return net.dense(net.mean(net.layer_norm(x)), self.n_classes)
