"""What whole nets take of other things than time: joules and memory, as sums over their kernels with fitted weights.

Energy above rest is power times time for each kind of kernel. Peak memory is the weights, as the runtime keeps them,
and the largest kernel's tensors. Neither is ever guessed: without measurements there is no model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latency_models.correction import GROUPS
from latency_models.estimate import Interval
from latency_models.kernels import KernelSpec
from latency_models.scores import Scores

__all__ = ["FEWEST", "NetSums", "energy_columns", "memory_columns"]

Array = NDArray[np.float64]
# With fewer nets than this there is no model.
FEWEST = 6


def energy_columns(time_s: Array, group: NDArray[np.int64]) -> Array:
    """Of one net: the seconds of each group of kernels, and 1 for what a run takes whatever it does, (4,)."""
    return np.append(np.bincount(group, weights=time_s, minlength=len(GROUPS)), 1.0)


def memory_columns(kernels: Sequence[KernelSpec]) -> Array:
    """Of one net: bytes of its weights, bytes of the largest kernel's tensors, and 1, (3,)."""
    weights, largest = 0.0, 0.0
    for kernel in kernels:
        inputs = [one for one in kernel.inputs if one is not None]
        weights += sum(one.size_bytes for one in inputs if one.is_constant)
        moving = sum(one.size_bytes for one in inputs if not one.is_constant)
        largest = max(largest, moving + sum(one.size_bytes for one in kernel.outputs))
    return np.array([weights, largest, 1.0])


@dataclass(frozen=True)
class NetSums:
    """A sum with weights of 0 or more. `scores` are errors of nets left out, as logarithms of ratios."""

    weights: tuple[float, ...]
    scores: Scores
    n_nets: int

    @classmethod
    def fit(cls, columns: Array, values: Array) -> NetSums | None:
        """Fit to n nets with `columns` (n, c) that took `values` (n,), by relative errors; None of too few."""
        if len(values) < FEWEST:
            return None
        errors = []
        for k in range(len(values)):
            kept = np.arange(len(values)) != k
            left_out = float(columns[k] @ _solve(columns[kept], values[kept]))
            errors.append(abs(math.log(values[k] / max(left_out, 1e-3 * values[k]))))
        weights = _solve(columns, values)
        return cls(tuple(float(one) for one in weights), Scores(tuple(errors)), len(values))

    def interval(self, columns: Array, level: float) -> Interval:
        """What a net with these columns (c,) takes."""
        value = float(columns @ np.array(self.weights))
        factor = math.exp(min(20.0, self.scores.quantile(level)))
        return Interval(value=value, low=value / factor, high=value * factor, level=level)


def _solve(columns: Array, values: Array) -> Array:
    from scipy.optimize import nnls

    x = columns / values[:, None]
    scale = np.maximum(np.abs(x).max(axis=0), 1e-300)
    return np.asarray(nnls(x / scale, np.ones(len(values)))[0] / scale, dtype=np.float64)
