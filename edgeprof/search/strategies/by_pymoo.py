"""pymoo's NSGA-II (extra `search`), for evaluations that cost nothing: tables and predictors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeprof.search.space import Architecture, SearchSpace
from edgeprof.search.strategies.base import Strategy, Told

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["PymooStrategy"]

CROSSING = 0.9


class PymooStrategy(Strategy):
    """Generations of `population`, crossed and mutated by the space's own operators (Deb et al., 2002).

    Whoever asks for more than a generation before all of it was told gets random ones in between.
    """

    def __init__(self, space: SearchSpace, n_objectives: int, seed: int = 0, *, population: int = 40) -> None:
        super().__init__(space, n_objectives, seed)
        self._population = population
        self._parents: list[Told] = []
        self._waiting: list[Architecture] = []
        self._open: dict[Architecture, Told | None] = {}

    def _next(self) -> Architecture:
        if not self._waiting and not any(one is None for one in self._open.values()):
            self._waiting = self._generation()
            self._open = dict.fromkeys(self._waiting)
        return self._waiting.pop(0) if self._waiting else self._fresh()

    def catch_up(self, n_asked: int, architecture: Architecture) -> None:
        """Generations are made as they were."""
        while self.n_asked < n_asked:
            self.ask()
        self.asked.add(architecture)

    def tell(self, told: Told | Sequence[Told]) -> None:
        super().tell(told)
        for one in [told] if isinstance(told, Told) else told:
            self._open[one.architecture] = one

    def _generation(self) -> list[Architecture]:
        known = {one.architecture: one for one in [*self._parents, *filter(None, self._open.values())]}
        alive = [one for one in known.values() if one.values is not None]
        if not alive:
            return [self._fresh() for _ in range(self._population)]
        self._parents, ranks = self._survivors(alive)
        children = dict[Architecture, None]()
        for _ in range(20 * self._population):
            one, other = (self._winner(ranks) for _ in range(2))
            child = self.space.cross(one, other, self.rng) if self.rng.random() < CROSSING else one
            child = self.space.mutate(child, self.rng) if self.rng.random() < 0.5 or child in self.asked else child
            if child not in self.asked:
                children[child] = None
            if len(children) == self._population:
                break
        return list(children) or [self._fresh()]

    def _survivors(self, alive: Sequence[Told]) -> tuple[list[Told], np.ndarray]:
        """The best by rank and crowding, feasible ones first, and their places in that order."""
        from pymoo.core.population import Population
        from pymoo.core.problem import Problem
        from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

        problem = Problem(n_var=1, n_obj=self.n_objectives, n_ieq_constr=1)
        population = Population.new(
            X=np.arange(len(alive))[:, None],
            F=np.array([one.values for one in alive], dtype=np.float64),
            G=np.array([[one.excess] for one in alive]),
        )
        n_survive = min(self._population, len(alive))
        kept = RankAndCrowding().do(problem, population, n_survive=n_survive, random_state=self.rng)
        chosen = [alive[int(place)] for place in kept.get("X")[:, 0]]
        # What exceeds limits comes last and has no rank, in the order of how much.
        ranks = [n_survive + place if one.get("rank") is None else one.get("rank") for place, one in enumerate(kept)]
        crowding = [one.get("crowding") or 0.0 for one in kept]
        order = np.lexsort([-np.array(crowding, dtype=np.float64), np.array(ranks, dtype=np.float64)])
        return chosen, np.argsort(order)

    def _winner(self, ranks: np.ndarray) -> Architecture:
        """Of two, the one that came first."""
        one, other = self.rng.integers(len(self._parents), size=2)
        return self._parents[int(one if ranks[one] < ranks[other] else other)].architecture
