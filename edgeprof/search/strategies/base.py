"""What every strategy offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeprof.search.space import Architecture, SearchSpace

__all__ = ["Strategy", "Told"]


@dataclass(frozen=True)
class Told:
    """What an architecture turned out to be: `values`, one for each objective, all to be small.

    `over` is, for each hard limit, by how much it is exceeded, as a share of it; below 0 where it is kept. `values` is
    None where the evaluation failed.
    """

    architecture: Architecture
    values: tuple[float, ...] | None
    over: tuple[float, ...] = ()

    @property
    def excess(self) -> float:
        """By how much limits are exceeded in all; 0 where all are kept."""
        return sum(max(0.0, one) for one in self.over)


class Strategy(ABC):
    """Asked and told, in any order: several may be asked for before the first is told.

    The same seed and the same answers give the same questions, whether or not the process was started anew in between:
    what is drawn depends on the seed and on how many were asked for, and whoever goes on calls `replay`. An
    architecture is asked for again only where the space has no other.
    """

    def __init__(self, space: SearchSpace, n_objectives: int, seed: int = 0) -> None:
        self.space = space
        self.n_objectives = n_objectives
        self.seed = seed
        self.rng = np.random.default_rng(seed)
        self.n_asked = 0
        self.told: list[Told] = []
        self.asked: set[Architecture] = set()

    def ask(self) -> Architecture:
        """The next architecture to evaluate."""
        self.rng = np.random.default_rng([self.seed, self.n_asked])
        found = self._next()
        self.n_asked += 1
        self.asked.add(found)
        return found

    def catch_up(self, n_asked: int, architecture: Architecture) -> None:
        """Another process asked for so many in all, the last of them this one: go on as if it had been this one."""
        self.n_asked = max(self.n_asked, n_asked)
        self.asked.add(architecture)

    def replay(self, told: Sequence[tuple[int, Told]]) -> None:
        """Take the answers of an earlier process, each with how many had been asked for by then."""
        for n_asked, one in told:
            self.catch_up(n_asked, one.architecture)
            self.tell(one)

    def tell(self, told: Told | Sequence[Told]) -> None:
        """What was found; also of architectures that this strategy never asked for."""
        for one in [told] if isinstance(told, Told) else told:
            self.told.append(one)
            self.asked.add(one.architecture)

    @abstractmethod
    def _next(self) -> Architecture:
        """What to ask for."""

    def _fresh(self) -> Architecture:
        """At random, one that was not asked for yet where there is one."""
        for _ in range(200):
            found = self.space.sample(self.rng)
            if found not in self.asked:
                return found
        return found
