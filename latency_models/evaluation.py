"""How good predictions are, in the figures that the field compares (README of nn-Meter; HELP; LitePred)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Figures", "figures", "spearman"]

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Of n predictions: shares within 5 and 10 % of the truth, mean relative error, rank correlation, and intervals.

    `coverage` is the share of truths inside their intervals; `width` the mean of (high - low) / (2 x predicted).
    """

    n: int
    within5: float
    within10: float
    mape: float
    spearman: float | None
    coverage: float | None = None
    width: float | None = None


def figures(
    true_s: Sequence[float],
    predicted_s: Sequence[float],
    low_s: Sequence[float] | None = None,
    high_s: Sequence[float] | None = None,
) -> Figures | None:
    """The figures of n predictions, None of none. Nothing is trimmed."""
    if not len(true_s):
        return None
    true, predicted = np.asarray(true_s, dtype=np.float64), np.asarray(predicted_s, dtype=np.float64)
    errors = np.abs(predicted - true) / true
    coverage = width = None
    if low_s is not None and high_s is not None:
        low, high = np.asarray(low_s, dtype=np.float64), np.asarray(high_s, dtype=np.float64)
        coverage = float(((low <= true) & (true <= high)).mean())
        width = float(((high - low) / (2 * predicted)).mean())
    return Figures(
        n=len(true),
        within5=float((errors <= 0.05).mean()),
        within10=float((errors <= 0.1).mean()),
        mape=float(errors.mean()),
        spearman=spearman(true, predicted) if len(true) > 1 else None,
        coverage=coverage,
        width=width,
    )


def spearman(a: Array, b: Array) -> float | None:
    """Rank correlation, ties sharing their mean rank; None where one side is constant."""
    from scipy.stats import rankdata

    x, y = rankdata(a), rankdata(b)
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum()) / norm if norm > 0 else None
