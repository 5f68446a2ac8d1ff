"""The regression of one family of kernels: roofline, and of what it leaves a Gaussian process and boosted trees.

All three see the same samples. How much the process and the trees count is decided by their errors on models that they
were not fitted to. The interval's width comes from the process, scaled so that it held on those.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from latency_models.features import N_OWN, NAMES, Form
from latency_models.predictors.gaussian_process import GaussianProcess
from latency_models.predictors.roofline import Roofline
from latency_models.predictors.trees import Trees

__all__ = ["FEWEST", "NORMAL_90", "Family", "Prediction"]

Array = NDArray[np.float64]
# A family with fewer samples has a bound and no prediction; with fewer than `FEWEST_FOR_TREES` it has no trees.
FEWEST = 5
FEWEST_FOR_TREES = 40
# Each factor of two beyond what was measured adds so much to the standard deviation of the logarithm.
BEYOND = 0.25
# The clock of a runtime's profiler has steps of 1 us; a mean of 30 is good to about this.
CLOCK_S = 1e-7
# How many standard deviations of a normal distribution hold 90 % of it, on each side of the mean.
NORMAL_90 = 1.6449


@dataclass(frozen=True)
class Prediction:
    """Of n kernels: log latency, its standard deviation, and the distance from what was measured, each (n,)."""

    log_s: Array
    sd: Array
    distance: Array


@dataclass
class Family:
    """The fitted regression of one family. `columns` are the places in `features.NAMES` that vary in it.

    `low` and `high` are the measured range of every feature, and `sometimes` are those that applied to some samples and
    not to others, each (features,). `widen` scales the process's standard deviation.
    """

    name: str
    roofline: Roofline
    columns: NDArray[np.int64]
    fill: Array
    low: Array
    high: Array
    sometimes: NDArray[np.bool_]
    process: GaussianProcess
    trees: Trees | None
    process_share: float
    widen: float
    n_samples: int

    @classmethod
    def fit(
        cls,
        name: str,
        forms: Sequence[Form],
        time_s: Array,
        spread: Array,
        n_runs: Array,
        folds: NDArray[np.int64],
        seed: int = 0,
    ) -> tuple[Family, dict[int, Family]]:
        """Fit to n samples.

        Args:
            name: of the family.
            forms: the kernels.
            time_s: mean seconds of each, (n,).
            spread: relative standard deviation of a run, (n,).
            n_runs: how many runs each mean is of, (n,).
            folds: samples with the same number are held out together, (n,).
            seed: of the trees.

        Returns:
            The family, and for each fold the family without it, where enough is left. What few numbers describe (the
            roofline, the lengths of the process, how much each part counts) comes from all of them.
        """
        values = np.stack([one.values for one in forms])
        macs = np.array([one.macs for one in forms])
        moved = np.array([one.moved_bytes for one in forms])
        roofline = Roofline.fit(macs, moved, time_s)
        left = np.log(time_s) - roofline.log_latency(macs, moved)
        noise = spread**2 / n_runs + (CLOCK_S / time_s) ** 2
        low, high, sometimes, columns, fill = _ranges(values)
        x = _filled(values[:, columns], fill)
        process = GaussianProcess.fit(x, left, noise, seed)
        held, variance = _held_out_process(process, x, folds)
        # A sample that does not fit at all was disturbed, or is of a kind of its own: it counts less.
        off = (left - held) / np.sqrt(variance)
        noise = noise + variance * np.maximum(0.0, (off / 2.5) ** 2 - 1.0)
        process = GaussianProcess.fit(x, left, noise, seed)
        held, variance = _held_out_process(process, x, folds)
        trees, share, without = None, 1.0, dict[int, Trees]()
        if len(left) >= FEWEST_FOR_TREES:
            weights = 1.0 / (0.01 + noise)
            raw = values[:, columns]
            without = _trees_without(raw, left, weights, folds, seed)
            held_by_trees = _held_out_trees(without, raw, folds)
            trees = Trees.fit(raw, left, weights, seed)
            share = _share(left - held, left - held_by_trees)
            held = share * held + (1 - share) * held_by_trees
        ratios = np.abs(left - held) / np.sqrt(variance)
        widen = max(0.3, float(np.quantile(ratios, 0.9)) / NORMAL_90)
        fitted = cls(name, roofline, columns, fill, low, high, sometimes, process, trees, share, widen, len(left))
        return fitted, dict(fitted._without_each(values, folds, without))

    def _without_each(
        self, values: Array, folds: NDArray[np.int64], trees: dict[int, Trees]
    ) -> Iterator[tuple[int, Family]]:
        """Each fold, and the family that the others make, with the range that they have."""
        for fold in map(int, np.unique(folds)):
            outside = folds == fold
            held_out = outside[self.process.chosen]
            if held_out.all() or len(folds) - outside.sum() < FEWEST:
                continue  # too few are left: nothing is predicted
            low, high, sometimes, _, _ = _ranges(values[~outside])
            process = self.process.without(held_out)
            yield (
                fold,
                replace(self, low=low, high=high, sometimes=sometimes, process=process, trees=trees.get(fold)),
            )

    def predict(self, forms: Sequence[Form]) -> Prediction:
        """Predict n kernels of this family."""
        values = self._inside(np.stack([one.values for one in forms]))
        macs = np.array([one.macs for one in forms])
        moved = np.array([one.moved_bytes for one in forms])
        left, variance = self.process.predict(_filled(values[:, self.columns], self.fill))
        if self.trees is not None and self.process_share < 1.0:
            by_trees = self.trees.predict(values[:, self.columns])
            left = self.process_share * left + (1 - self.process_share) * by_trees
        distance = self.distance(values)
        sd = np.sqrt(self.widen**2 * variance + (BEYOND * distance) ** 2)
        return Prediction(self.roofline.log_latency(macs, moved) + left, sd, distance)

    def _inside(self, values: Array) -> Array:
        """Kernels (n, features) whose surroundings are no larger than any that was measured: caches hold no less."""
        limited = values.copy()
        limited[:, N_OWN:] = np.clip(values[:, N_OWN:], self.low[N_OWN:], self.high[N_OWN:])
        return limited

    def distance(self, values: Array) -> Array:
        """How far kernels (n, features) lie beyond the measured range: the largest number of factors of two."""
        own, low, high = values[:, :N_OWN], self.low[:N_OWN], self.high[:N_OWN]
        with np.errstate(invalid="ignore"):
            beyond = np.maximum(own - high, low - own)
        # A feature that never applied, or that always did and now does not: as far as one factor of two.
        is_new = (np.isnan(own) != np.isnan(low)) & ~self.sometimes[:N_OWN]
        beyond = np.where(is_new, 1.0, np.nan_to_num(beyond, nan=0.0))
        found: Array = np.maximum(beyond, 0.0).max(axis=1, initial=0.0)
        return found


def _ranges(values: Array) -> tuple[Array, Array, NDArray[np.bool_], NDArray[np.int64], Array]:
    """Of each feature the lowest, the highest and whether it is there but sometimes; columns that vary, and their fill.

    The fill is what stands for a missing value.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of columns that are NaN throughout
        low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
        middle = np.nanmedian(values, axis=0)
    is_missing = np.isnan(values)
    partly: NDArray[np.bool_] = np.logical_and(is_missing.any(axis=0), ~is_missing.all(axis=0))
    columns = np.flatnonzero((high > low) | partly)
    if not len(columns):
        columns = np.array([NAMES.index("bytes")])
    return low, high, partly, columns, middle[columns]


def _filled(x: Array, fill: Array) -> Array:
    return np.where(np.isnan(x), np.nan_to_num(fill, nan=0.0), x)


def _held_out_process(process: GaussianProcess, x: Array, folds: NDArray[np.int64]) -> tuple[Array, Array]:
    mean, variance = np.empty(len(x)), np.empty(len(x))
    for fold in np.unique(folds):
        outside = folds == fold
        held_out = outside[process.chosen]
        if held_out.all():
            # All from one source: nothing can be held out, so each is predicted from the prior alone.
            mean[outside], variance[outside] = process.mean, np.exp(2 * process.log_amplitude)
            continue
        mean[outside], variance[outside] = process.without(held_out).predict_standardised(
            (x[outside] - process.center) / process.scale
        )
    return mean, variance


def _trees_without(x: Array, y: Array, weights: Array, folds: NDArray[np.int64], seed: int) -> dict[int, Trees]:
    """Of each fold the trees that were fitted to the others; none where these are too few."""
    found = {}
    for fold in np.unique(folds):
        others = folds != fold
        if others.sum() >= FEWEST:
            found[int(fold)] = Trees.fit(x[others], y[others], weights[others], seed)
    return found


def _held_out_trees(without: dict[int, Trees], x: Array, folds: NDArray[np.int64]) -> Array:
    found = np.zeros(len(x))
    for fold, trees in without.items():
        found[folds == fold] = trees.predict(x[folds == fold])
    return found


def _share(by_process: Array, by_trees: Array) -> float:
    """The process's share of a mean of both that errs least on what was held out, drawn towards a half."""
    limit = np.quantile(np.abs(np.concatenate([by_process, by_trees])), 0.95)
    a, b = np.clip(by_process, -limit, limit), np.clip(by_trees, -limit, limit)
    difference = a - b
    # Least squares of share * a + (1 - share) * b, with 10 samples' worth of belief in a half.
    belief = 10.0 * float(np.mean(difference**2)) + 1e-12
    best = (-(b * difference).sum() + 0.5 * belief) / ((difference**2).sum() + belief)
    return float(np.clip(best, 0.0, 1.0))
