"""Guided by surrogates: ask for what is expected to add most to the front.

Every objective has a Gaussian process over genes. Candidates are mutations and crosses of the
front, and random ones. The one with the largest expected gain in hypervolume is asked for (Emmerich et
al., 2011), times the probability that it keeps the limits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeprof.search.front import Boxes, is_on_front
from edgeprof.search.space import Architecture, SearchSpace
from edgeprof.search.strategies.base import Strategy, Told
from edgeprof.search.surrogate import GeneProcess, squared_distances

__all__ = ["Guided"]

Array = NDArray[np.float64]
# So many candidates each time: near the front, and anywhere.
N_NEAR, N_ANYWHERE = 700, 300
# The first ones are drawn at random: two for each gene, between these.
FEWEST_FIRST, MOST_FIRST = 8, 24
# The reference of the hypervolume lies so far beyond the worst of the front, as a share of its extent.
BEYOND = 0.1
# Lengths and amplitudes are fitted anew when there are so many times as many as the last time.
REFIT_AT = 1.1
# Of the candidates near the front, so many come of two of its members.
CROSSED = 0.3


class Guided(Strategy):
    """See the module."""

    def __init__(self, space: SearchSpace, n_objectives: int, seed: int = 0) -> None:
        super().__init__(space, n_objectives, seed)
        self._n_first = int(np.clip(2 * len(space.genes), FEWEST_FIRST, MOST_FIRST))
        # Of fewer nothing is concluded.
        self._fewest = max(self._n_first // 2, n_objectives + 2)
        # After how many it was fitted the last time, and what was most evident then, for each column of what is told.
        self._fitted_at = 0
        self._theta: list[Array | None] = []

    def _next(self) -> Architecture:
        known = [one for one in self.told if one.values is not None]
        if len(self.asked) < self._n_first or len(known) < self._fewest:
            return self._fresh()
        kept = [one for one in known if one.excess == 0] or known
        best = is_on_front(np.array([one.values for one in kept], dtype=np.float64))
        candidates = self._candidates([one.architecture for one, is_best in zip(kept, best, strict=True) if is_best])
        if not candidates:
            return self._fresh()
        mean, sd = self._predicted(known, candidates)
        m, values = self.n_objectives, _columns(known)[:, : self.n_objectives]
        worth = _probability_below_0(mean[:, m:], sd[:, m:])
        ruling = values[[one.excess == 0 for one in known]]
        if len(ruling):
            worth *= _boxes(ruling).expected_gain(mean[:, :m], sd[:, :m])
        return candidates[int(np.argmax(worth))]

    def _predicted(self, known: Sequence[Told], candidates: Sequence[Architecture]) -> tuple[Array, Array]:
        """Mean and standard deviation of each column (n, c) for candidates, both (candidates, c)."""
        self._fit(known)
        x, groups = self.space.encode([one.architecture for one in known])
        z, _ = self.space.encode(candidates)
        columns, found, distances = _columns(known), [], squared_distances(x, z, groups)
        for k, theta in enumerate(self._theta):
            found.append(GeneProcess.fit(x, groups, columns[:, k], theta, keep=True).predict(z, distances))
        return np.stack([mean for mean, _ in found], axis=1), np.stack([sd for _, sd in found], axis=1)

    def _fit(self, known: Sequence[Told]) -> None:
        """Lengths and amplitudes, now and then, each time from what was known at that point: so it can be replayed."""
        while (n := max(math.ceil(REFIT_AT * self._fitted_at), self._fewest)) <= len(known):
            x, groups = self.space.encode([one.architecture for one in known[:n]])
            columns = _columns(known[:n])
            before = self._theta or [None] * columns.shape[1]
            self._theta = [GeneProcess.fit(x, groups, columns[:, k], before[k]).theta for k in range(columns.shape[1])]
            self._fitted_at = n

    def _candidates(self, best: Sequence[Architecture]) -> list[Architecture]:
        """Not asked for yet: near the front, and anywhere."""
        found = dict[Architecture, None]()
        for _ in range(N_NEAR):
            one, other = (best[int(self.rng.integers(len(best)))] for _ in range(2))
            start = self.space.cross(one, other, self.rng) if self.rng.random() < CROSSED else one
            found[self.space.mutate(start, self.rng, int(self.rng.geometric(0.5)))] = None
        for _ in range(N_ANYWHERE):
            found[self.space.sample(self.rng)] = None
        return [one for one in found if one not in self.asked]


def _columns(known: Sequence[Told]) -> Array:
    """Objectives, spread out, and by how much limits are exceeded, (n, c)."""
    values = _spread_out(np.array([one.values for one in known], dtype=np.float64))
    over = np.array([one.over for one in known], dtype=np.float64).reshape(len(known), -1)
    return np.concatenate([values, over], axis=1)


def _boxes(values: Array) -> Boxes:
    """What is free below a reference that lies a little beyond the worst of the front."""
    front = values[is_on_front(values)]
    extent = np.maximum(front.max(axis=0) - front.min(axis=0), 1e-6)
    return Boxes.of(front, front.max(axis=0) + BEYOND * extent)


def _probability_below_0(mean: Array, sd: Array) -> Array:
    """That all limits are kept, (n,)."""
    from scipy.special import ndtr

    found: Array = ndtr(-mean / sd).prod(axis=1)
    return found


def _spread_out(values: Array) -> Array:
    """Each objective (n, m) on a scale on which the good half is spread out and failures do not stretch it."""
    middle = np.median(values, axis=0)
    off = (values - middle) / np.maximum(middle - values.min(axis=0), 1e-12)
    found: Array = np.where(off > 0, np.log1p(np.maximum(off, 0.0)), off)
    return found
