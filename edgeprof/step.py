"""One step in a series of values: whether there is one, and where. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

__all__ = ["FEWEST", "Step", "first_beyond", "step_up"]

Array = NDArray[np.float64]

# A series is asked once in its life whether it steps; one in a hundred that do not may be taken for one that does.
SIGNIFICANT = 0.01
# A median of fewer values is one value's word.
MIN_SIDE = 3
# Of fewer values not even a perfect step in the middle is significant.
FEWEST = 16
# A steady drift looks like a higher correlation than this, and is a rise all the same.
MOST_ALIKE = 0.75
# Share of the differences between values that may be steps.
TRIMMED = 0.1


@dataclass(frozen=True, kw_only=True)
class Step:
    """After `n_before` values the `n_after` others are higher: `rise` is the change of the median."""

    n_before: int
    n_after: int
    rise: float
    p_value: float


def step_up(values: Sequence[float], least: float) -> Step | None:
    """Where positive values step up by more than the share `least`; None where they do not.

    Pettitt, A non-parametric approach to the change-point problem (Applied Statistics 28, 1979): the place at which the
    ranks before and after differ most, and his approximation of the chance that this happens without a step. It is for
    independent values; those that follow each other on a busy device are alike, and count for fewer (`_inflation`).
    """
    n = len(values)
    if n < FEWEST:
        return None
    series = np.asarray(values, dtype=np.float64)
    _, inverse, sizes = np.unique(series, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2)[inverse]
    lower_before = np.arange(1, n) * (n + 1) - 2 * np.cumsum(ranks)[:-1]
    inside = lower_before[MIN_SIDE - 1 : n - MIN_SIDE]
    place = int(np.argmax(inside)) + MIN_SIDE
    strength = max(0.0, float(inside.max()))
    p_value = min(1.0, 2 * math.exp(-6 * strength**2 / (n**3 + n**2) / _inflation(series)))
    rise = median(values[place:]) / median(values[:place]) - 1
    if p_value > SIGNIFICANT or rise <= least:
        return None
    return Step(n_before=place, n_after=n - place, rise=rise, p_value=p_value)


def _inflation(values: Array) -> float:
    """By how much the variance of a mean grows where neighbours are alike: (1 + r) / (1 - r), r their correlation.

    (Bayley & Hammersley, J. Royal Statistical Society 8, 1946.) Two steps apart, values of a first-order process differ
    by a variance that is 1 + r times that of neighbours. The largest differences are left out: they may be steps, which
    the usual estimate of r would take for likeness.
    """
    one, two = (_trimmed_square(values[lag:] - values[:-lag]) for lag in (1, 2))
    alike = min(MOST_ALIKE, max(0.0, two / one - 1)) if one else 0.0
    return (1 + alike) / (1 - alike)


def _trimmed_square(differences: Array) -> float:
    kept = max(1, math.floor((1 - TRIMMED) * differences.size))
    return float(np.mean(np.sort(differences**2)[:kept]))


def first_beyond(values: Sequence[float], step: Step, limit: float) -> int:
    """The index from which on, up to the step, every value is beyond `limit`: steps in several stages begin there."""
    k = step.n_before
    while k > 0 and values[k - 1] > limit:
        k -= 1
    return k
