"""Local search: all neighbours of what is on the front, one after another, nearest to the best first.

White et al., Exploring the loss landscape in neural architecture search, 2021, with a front in place of one best.
"""

from __future__ import annotations

import numpy as np

from edgeprof.search.front import is_on_front
from edgeprof.search.space import Architecture, SearchSpace
from edgeprof.search.strategies.base import Strategy

__all__ = ["LocalSearch"]


class LocalSearch(Strategy):
    """Begins with `first` at random; where all neighbours of the front were asked for, it begins anew at random."""

    def __init__(self, space: SearchSpace, n_objectives: int, seed: int = 0, *, first: int = 10) -> None:
        super().__init__(space, n_objectives, seed)
        self._first = first

    def _next(self) -> Architecture:
        known = [one for one in self.told if one.values is not None]
        if len(self.asked) < self._first or not known:
            return self._fresh()
        least = min(one.excess for one in known)
        kept = [one for one in known if one.excess <= least]
        best = is_on_front(np.array([one.values for one in kept], dtype=np.float64))
        front = [one.architecture for one, is_best in zip(kept, best, strict=True) if is_best]
        for place in self.rng.permutation(len(front)):
            fresh = [one for one in self.space.neighbours(front[place]) if one not in self.asked]
            if fresh:
                return fresh[int(self.rng.integers(len(fresh)))]
        return self._fresh()
