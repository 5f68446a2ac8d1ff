"""Regularised evolution: the oldest dies, whatever it was worth.

Real et al., Regularized evolution for image classifier architecture search, 2019, with several objectives: of a
sample of the living, a parent is drawn from those that nothing in the sample is better than.
"""

from __future__ import annotations

import numpy as np

from edgeprof.search.front import is_on_front
from edgeprof.search.space import Architecture, SearchSpace
from edgeprof.search.strategies.base import Strategy, Told

__all__ = ["RegularisedEvolution"]


class RegularisedEvolution(Strategy):
    """A population of `population`, of which `sample` compete to be parents."""

    def __init__(
        self, space: SearchSpace, n_objectives: int, seed: int = 0, *, population: int = 30, sample: int = 8
    ) -> None:
        super().__init__(space, n_objectives, seed)
        self._population, self._sample = population, sample

    def _next(self) -> Architecture:
        living = [one for one in self.told if one.values is not None][-self._population :]
        if len(self.asked) < self._population or not living:
            return self._fresh()
        for _ in range(50):
            parent = self._parent(living)
            child = self.space.mutate(parent, self.rng)
            if child not in self.asked:
                return child
        return self._fresh()

    def _parent(self, living: list[Told]) -> Architecture:
        chosen = [living[place] for place in self.rng.permutation(len(living))[: self._sample]]
        least = min(one.excess for one in chosen)
        chosen = [one for one in chosen if one.excess <= least]
        best = is_on_front(np.array([one.values for one in chosen], dtype=np.float64))
        winners: list[Architecture] = [one.architecture for one, is_best in zip(chosen, best, strict=True) if is_best]
        return winners[int(self.rng.integers(len(winners)))]
