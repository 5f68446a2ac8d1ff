"""Optuna's samplers (extra `search`): TPE for dear evaluations, NSGA-II and III."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from edgeprof.search.space import Architecture, SearchSpace
from edgeprof.search.strategies.base import Strategy, Told

if TYPE_CHECKING:
    from collections.abc import Sequence

    import optuna

__all__ = ["OptunaStrategy"]

EXCESS = "excess"


class OptunaStrategy(Strategy):
    """TPE ("tpe"), NSGA-II ("nsga2") or III ("nsga3"); limits are its constraints. It may ask for the same again."""

    def __init__(
        self, space: SearchSpace, n_objectives: int, seed: int = 0, *, sampler: str = "tpe", population: int = 50
    ) -> None:
        import optuna

        super().__init__(space, n_objectives, seed)
        self._names = [f"{place}: {gene.name}" for place, gene in enumerate(space.genes)]
        self._distributions: dict[str, optuna.distributions.BaseDistribution] = {
            name: optuna.distributions.CategoricalDistribution(tuple(range(size)))
            for name, size in zip(self._names, space.sizes, strict=True)
        }
        self._study = optuna.create_study(
            directions=["minimize"] * n_objectives, sampler=_sampler(sampler, seed, population)
        )
        self._open: dict[Architecture, list[optuna.Trial]] = {}

    def _next(self) -> Architecture:
        trial = self._study.ask(self._distributions)
        found = self.space.canonical(tuple(int(trial.params[name]) for name in self._names))
        self._open.setdefault(found, []).append(trial)
        return found

    def catch_up(self, n_asked: int, architecture: Architecture) -> None:
        """Optuna's samplers have generators of their own, which move on with every question."""
        while self.n_asked < n_asked:
            self.ask()
        self.asked.add(architecture)

    def tell(self, told: Told | Sequence[Told]) -> None:
        super().tell(told)
        for one in [told] if isinstance(told, Told) else told:
            self._to_optuna(one)

    def _to_optuna(self, one: Told) -> None:
        import optuna

        trials = self._open.get(one.architecture)
        if trials:
            trial = trials.pop(0)
            trial.set_constraint(EXCESS, one.excess)
            if one.values is None:
                self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                self._study.tell(trial, list(one.values))
        elif one.values is not None:
            params = dict(zip(self._names, one.architecture, strict=True))
            made = optuna.trial.create_trial(
                params=params, distributions=self._distributions, values=list(one.values),
                constraints={EXCESS: one.excess},
            )  # fmt: skip
            self._study.add_trial(made)


def _sampler(name: str, seed: int, population: int) -> optuna.samplers.BaseSampler:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if name == "tpe":
        return optuna.samplers.TPESampler(seed=seed, multivariate=True)
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=population)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # since version 3.2, of two years ago
        return optuna.samplers.NSGAIIISampler(seed=seed, population_size=population)
