"""Ranges of inputs, pushed into the result by drawing from all of them at once. A seed fixes the numbers."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprof.carbon.inputs import Input, sample

__all__ = ["N_DRAWS", "Number", "Numbers", "Spread", "draw", "nominal", "spread", "variance_shares"]

N_DRAWS = 20_000
CONFIDENCE = 0.9

# What a formula is computed of, and what it gives: a float, or an array with an entry for each draw.
Number = Any
Numbers = Mapping[str, Number]
Formula = Callable[[Numbers], Number]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A result: `nominal` from the inputs' own values; `median`, `low` and `high` of the draws.

    `low` to `high` holds `confidence` of the draws. A skewed range moves the median away from the nominal value.
    """

    nominal: float
    median: float
    low: float
    high: float
    confidence: float = CONFIDENCE

    def times(self, factor: float) -> Spread:
        """The same for `factor` times as much."""
        return Spread(
            nominal=self.nominal * factor, median=self.median * factor, low=self.low * factor, high=self.high * factor
        )


def nominal(inputs: Sequence[Input]) -> dict[str, float]:
    """Each input's own value."""
    return {one.name: one.value for one in inputs}


def draw(
    inputs: Sequence[Input], *, seed: int, n: int = N_DRAWS, side: str = "", shared: Sequence[str] = ()
) -> dict[str, NDArray[np.float64]]:
    """`n` draws of each input.

    An input has its own stream by its name, so another input beside it does not change its draws. Of two sides that
    are compared each has its own draws, but of what both share (the same grid) they have the same.
    """
    return {one.name: sample(one, _stream(one.name, seed, "" if one.name in shared else side), n) for one in inputs}


def spread(formula: Formula, values: Numbers, draws: Numbers) -> Spread:
    """What a formula gives for the inputs' own values and for the draws."""
    results = np.asarray(formula(draws), dtype=float)
    tail = (1 - CONFIDENCE) / 2
    low, median, high = (float(found) for found in np.quantile(results, [tail, 0.5, 1 - tail]))
    return Spread(nominal=float(formula(values)), median=median, low=low, high=high)


def variance_shares(formula: Formula, values: Numbers, draws: Numbers) -> dict[str, float]:
    """How much of the result's variance each input brings, moved alone; shares of their sum, empty if nothing moves.

    First-order and one at a time: what inputs do together is not in it, so it ranks them and does not add up variance.
    """
    alone = {
        name: float(np.var(np.asarray(formula({**values, name: drawn}), dtype=float)))
        for name, drawn in draws.items()
        if np.ndim(drawn) and np.ptp(drawn) > 0
    }
    total = sum(alone.values())
    return {name: part / total for name, part in alone.items()} if total > 0 else {}


def _stream(name: str, seed: int, side: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(f"{side}/{name}".encode())])
