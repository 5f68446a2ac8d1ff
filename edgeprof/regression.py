"""Is B slower than A by more than is allowed? A sequential decision from pairs of blocks that were measured in turn.

Pure functions; docs/measuring.md, "The gate", explains the design and its error rates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeprof.errors import UsageError
from edgeprof.statistics import student_t

__all__ = [
    "BASELINE",
    "CANDIDATE",
    "FAILED",
    "INCONCLUSIVE",
    "MIN_PAIRS",
    "PASSED",
    "Estimate",
    "Plan",
    "decide",
    "estimate",
    "pair_orders",
]

PASSED, FAILED, INCONCLUSIVE = "passed", "failed", "inconclusive"
BASELINE, CANDIDATE = "baseline", "candidate"

# Pairs after which the evidence is looked at. Even, so that orders AB and BA are balanced at every look; the first is
# the least from which a standard deviation is worth something, the steps grow as intervals shrink with the root of n.
LOOKS = (6, 10, 16, 24, 40)
MIN_PAIRS = LOOKS[0]
CONFIDENCE = 0.95
POWER = 0.80
# Beyond e to the 500th a float overflows; such an interval says nothing anyway.
LARGEST_LOG = 500.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """After how many pairs the evidence is looked at, and the joint confidence of the intervals of all looks."""

    looks: tuple[int, ...] = LOOKS
    confidence: float = CONFIDENCE

    @classmethod
    def up_to(cls, max_pairs: int) -> Plan:
        """The usual looks below `max_pairs`, and one at it (rounded up to an even number).

        Raises:
            UsageError: fewer pairs than the first look needs.
        """
        last = max_pairs + max_pairs % 2
        if last < MIN_PAIRS:
            raise UsageError(f"{max_pairs} pairs are too few to decide anything", f"allow {MIN_PAIRS} or more")
        return cls(looks=(*(look for look in LOOKS if look < last), last))

    @property
    def look_confidence(self) -> float:
        """Of one look's interval: the error is shared out evenly (Bonferroni), so all of them hold jointly."""
        return 1 - (1 - self.confidence) / len(self.looks)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A ratio or a time with its interval; the intervals of all looks of a plan hold jointly at its confidence.

    `smallest_effect` is the relative change that this interval would have shown with 80 % probability.
    """

    middle: float
    low: float
    high: float
    n: int
    smallest_effect: float


def estimate(logarithms: Sequence[float], plan: Plan) -> Estimate:
    """The geometric mean of independent observations, from their logarithms, with Student's interval.

    Raises:
        ValueError: fewer than two observations, or one that is not finite.
    """
    values = np.asarray(logarithms, dtype=np.float64)
    if values.size < 2 or not np.isfinite(values).all():
        raise ValueError("an interval needs two or more finite logarithms")
    degrees = values.size - 1
    # Equal observations must give exactly zero, not the rounding error of their mean.
    error = 0.0 if np.ptp(values) == 0 else float(values.std(ddof=1)) / math.sqrt(values.size)
    middle = float(values[0]) if error == 0 else float(values.mean())
    margin = error * student_t(plan.look_confidence, degrees)
    smallest = margin + error * student_t(2 * POWER - 1, degrees)
    return Estimate(
        middle=_exp(middle),
        low=_exp(middle - margin),
        high=_exp(middle + margin),
        n=values.size,
        smallest_effect=math.expm1(min(smallest, LARGEST_LOG)),
    )


def _exp(x: float) -> float:
    return math.exp(min(max(x, -LARGEST_LOG), LARGEST_LOG))


def decide(found: Estimate, limit: float) -> str:
    """Passed if the whole interval is below the limit, failed if it is above, else inconclusive."""
    if found.high < limit:
        return PASSED
    return FAILED if found.low > limit else INCONCLUSIVE


def pair_orders(n_pairs: int, seed: int) -> list[tuple[str, str]]:
    """Which side of each pair is measured first: ABBA or BAAB, drawn anew for every two pairs.

    A steady drift then adds to one pair what it takes from the next, and nothing periodic can favour one side.
    """
    forward, backward = (BASELINE, CANDIDATE), (CANDIDATE, BASELINE)
    draws = np.random.default_rng(seed).integers(2, size=(n_pairs + 1) // 2)
    orders = [order for draw in draws for order in ((backward, forward) if draw else (forward, backward))]
    return orders[:n_pairs]
