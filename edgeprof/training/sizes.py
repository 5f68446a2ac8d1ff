"""The sizes that are drawn for probes: those that real nets and search spaces have, and what lies between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from latency_models.building import BuildError

__all__ = ["Sizes"]

T = TypeVar("T")

# Sides of images that nets are made for; what they work on is these, halved up to five times.
SIDES = (96, 112, 128, 160, 192, 224, 224, 240, 256, 299, 320, 384)
KERNELS = (1, 3, 3, 3, 5, 7)


@dataclass(frozen=True)
class Sizes:
    """Draws sizes; no tensor has more elements than `most_elements`, no layer more MACs than `most_macs`."""

    rng: np.random.Generator
    most_elements: int = 1_500_000
    most_macs: int = 250_000_000

    def chance(self, share: float) -> bool:
        """True in this share of all calls."""
        return bool(self.rng.random() < share)

    def one_of(self, values: Sequence[T]) -> T:
        """One of these, each as likely."""
        return values[int(self.rng.integers(len(values)))]

    def log_uniform(self, low: int, high: int) -> int:
        """A whole number, each ratio as likely."""
        if high <= low:
            return low
        return round(math.exp(self.rng.uniform(math.log(low), math.log(high))))

    def allow(self, macs: int) -> None:
        """Refuse a layer that would take too long.

        Raises:
            BuildError: it has too many MACs.
        """
        if macs > self.most_macs:
            raise BuildError(f"a layer of {macs} MACs is too large for a probe")

    def channels(self, low: int = 3, high: int = 1024) -> int:
        """Mostly multiples of 8, as nets for devices have them."""
        drawn = self.log_uniform(low, high)
        if drawn > 8 and self.chance(0.8):
            step = 16 if drawn > 64 and self.chance(0.5) else 8
            drawn = max(8, round(drawn / step) * step)
        return max(1, drawn)

    def side(self) -> int:
        """Height or width of an image somewhere in a net."""
        if self.chance(0.15):
            return self.log_uniform(2, 256)
        halved: int = 2 ** int(self.rng.integers(0, 6))
        return max(1, math.ceil(self.one_of(SIDES) / halved))

    def image(self, low_channels: int = 3, high_channels: int = 1024) -> tuple[int, int, int]:
        """Height, width and channels: the larger the image, the fewer channels."""
        height = self.side()
        width = height if self.chance(0.85) else self.side()
        most = max(low_channels, min(high_channels, self.most_elements // (height * width)))
        # Nets double their channels where they halve the image.
        typical = max(low_channels, min(most, int(16 * 224 / max(1, height) * 4)))
        return height, width, self.channels(low_channels, typical if self.chance(0.7) else most)

    def window(self) -> tuple[int, int]:
        """Height and width of a convolution's kernel."""
        size = self.one_of(KERNELS)
        if self.chance(0.12):
            return (1, max(3, size)) if self.chance(0.5) else (max(3, size), 1)
        return size, size

    def outputs(self, macs_per_channel: float, low: int = 4, high: int = 2048) -> int:
        """Output channels, as many as the MACs allow."""
        return self.channels(low, max(low, min(high, int(self.most_macs / max(1.0, macs_per_channel)))))

    def tokens(self) -> tuple[int, int]:
        """Length and width of tokens."""
        length = self.one_of((16, 32, 49, 50, 64, 77, 100, 128, 196, 197, 256, 384))
        length = self.log_uniform(4, 512) if self.chance(0.3) else length
        width = 32 * self.log_uniform(1, 24) if self.chance(0.8) else self.log_uniform(16, 768)
        return length, width
