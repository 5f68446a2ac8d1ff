"""Intervals of a median over few windows, whose noise is known twice: by the meter's values, and by their scatter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from edgeprof.energy.results import Interval
from edgeprof.statistics import student_t

__all__ = ["CONFIDENCE", "around", "error_of", "median_interval"]

CONFIDENCE = 0.9
# So rare must a scatter be, if the meter's noise were all there is, for the scatter to be believed instead.
TOO_RARE = 0.05


def median_interval(values: Sequence[float], errors: Sequence[float], shared_error: float = 0.0) -> Interval:
    """The median, and where the true value lies with `CONFIDENCE`.

    `errors` are the standard uncertainties of the values, `shared_error` what they have in common (it does not average
    out). Where values scatter no more than their errors allow, these are taken, for they rest on many values of the
    meter; otherwise something else moves, and only the few windows tell how much: Student's t.
    """
    x, u = np.asarray(values, dtype=float), np.asarray(errors, dtype=float)
    n, middle = x.size, float(np.median(x))
    stated = float(np.mean(u**2))
    seen = float(x.var(ddof=1)) if n > 1 else 0.0
    is_more = n > 1 and seen > stated * _chi_square_ratio(n - 1)
    factor = student_t(CONFIDENCE, n - 1) if is_more else NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    error = math.sqrt((seen if is_more else stated) * _median_variance(n) + shared_error**2)
    return Interval(value=middle, low=middle - factor * error, high=middle + factor * error, confidence=CONFIDENCE)


def error_of(found: Interval) -> float:
    """The standard uncertainty that an interval of this confidence stands for, if it is a normal one's."""
    return (found.high - found.low) / 2 / NormalDist().inv_cdf((1 + found.confidence) / 2)


def around(value: float, error: float) -> Interval:
    """The interval of a normal value with this standard uncertainty."""
    half = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * error
    return Interval(value=value, low=value - half, high=value + half, confidence=CONFIDENCE)


def _median_variance(n: int) -> float:
    """Variance of the median of n normal values of variance 1, asymptotically pi / 2n; 0.95 brings it to within 1 % of
    the exact one for odd n from 3 on. For even n it is up to a fifth too large.
    """
    return 1.0 if n == 1 else 0.5 if n == 2 else math.pi / (2 * n + 0.95)


def _chi_square_ratio(degrees: int) -> float:
    """What a chi-square over its degrees exceeds with probability `TOO_RARE` (Wilson and Hilferty, 1931)."""
    part = 2 / (9 * degrees)
    return float((1 - part + NormalDist().inv_cdf(1 - TOO_RARE) * math.sqrt(part)) ** 3)
