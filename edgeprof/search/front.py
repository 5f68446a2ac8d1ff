"""The front of what was found: what nothing else is better than in everything, and how much of the space it rules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Boxes", "hypervolume", "is_on_front"]

Array = NDArray[np.float64]


def is_on_front(values: Array) -> NDArray[np.bool_]:
    """Which of n points (n, m), all to be small, no other point is better than; of equal ones the first, (n,)."""
    import moocore

    if not len(values):
        return np.zeros(0, dtype=np.bool_)
    found: NDArray[np.bool_] = np.asarray(moocore.is_nondominated(values, keep_weakly=False), dtype=np.bool_)
    return found


def hypervolume(values: Array, reference: Array) -> float:
    """The volume between points (n, m), all to be small, and the reference (m,); beyond that, nothing counts.

    Zitzler and Thiele, Multiobjective evolutionary algorithms, 1999.
    """
    import moocore

    inside = values[(values < reference).all(axis=1)]
    return float(moocore.hypervolume(inside, ref=reference)) if len(inside) else 0.0


@dataclass(frozen=True)
class Boxes:
    """The region that a front leaves free, cut into boxes that do not overlap: `low` and `high`, each (k, m).

    Lacour, Klamroth and Fonseca, A box decomposition algorithm to compute the hypervolume indicator, 2017: of each
    local upper bound one box. What they have is the ruled part of each box; the free part is below it in objective 0.
    """

    low: Array
    high: Array

    @classmethod
    def of(cls, front: Array, reference: Array) -> Boxes:
        """The boxes below the reference (m,) that points of the front (n, m) do not rule."""
        m = len(reference)
        inside = front[(front < reference).all(axis=1)]
        # Every bound has, for each objective, the point that defines it there; of the first ones these lie nowhere.
        bounds = reference[None, :].copy()
        nowhere = np.full((m, m), -np.inf)
        nowhere[np.diag_indices(m)] = reference
        definers = nowhere[None, :, :].copy()
        for point in inside[np.lexsort(inside.T[::-1])] if len(inside) else inside:
            bounds, definers = _cut(bounds, definers, point)
        low = np.full_like(bounds, -np.inf)
        for k in range(1, m):
            low[:, k] = definers[:, :k, k].max(axis=1)
        keep = (low < bounds).all(axis=1)
        return cls(low[keep], bounds[keep])

    def expected_gain(self, mean: Array, sd: Array) -> Array:
        """The expected gain in hypervolume of n candidates (n,), with independent normal `mean` and `sd` (n, m).

        Emmerich, Deutz and Klinkenberg, Hypervolume-based expected improvement, 2011: of each box the product over
        objectives of the expected length that a candidate rules in it.
        """
        lengths = []
        for k in range(mean.shape[1]):
            limits, places = np.unique(np.stack([self.low[:, k], self.high[:, k]]), return_inverse=True)
            below = np.stack([_expected_below(limit, mean[:, k], sd[:, k]) for limit in limits])
            of_low, of_high = places.reshape(2, -1)
            lengths.append((below, of_low, of_high))
        gain = np.zeros(len(mean))
        for box in range(len(self.low)):
            ruled = np.ones(len(mean))
            for below, of_low, of_high in lengths:
                ruled *= below[of_high[box]] - below[of_low[box]]
            gain += ruled
        return gain


def _cut(bounds: Array, definers: Array, point: Array) -> tuple[Array, Array]:
    """Local upper bounds after one more point."""
    m = len(point)
    ruled = (point < bounds).all(axis=1)
    new_bounds, new_definers = [bounds[~ruled]], [definers[~ruled]]
    for k in range(m):
        old, of_old = bounds[ruled], definers[ruled]
        others = [j for j in range(m) if j != k]
        # A bound may be lowered in objective k if it stays above what defines it in the others.
        ends = of_old[:, others, k].max(axis=1) if others else np.full(len(old), -np.inf)
        fits = point[k] >= ends
        made, of_made = old[fits].copy(), of_old[fits].copy()
        made[:, k] = point[k]
        of_made[:, k, :] = point
        new_bounds.append(made)
        new_definers.append(of_made)
    return np.concatenate(new_bounds), np.concatenate(new_definers)


def _expected_below(limit: float, mean: Array, sd: Array) -> Array:
    """E[max(0, limit - y)] of normal y, (n,); 0 where the limit is minus infinity."""
    from scipy.special import ndtr

    if not np.isfinite(limit):
        return np.zeros_like(mean)
    z = (limit - mean) / sd
    found: Array = (limit - mean) * ndtr(z) + sd * np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)
    return found
