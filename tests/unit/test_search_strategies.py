"""Every strategy: asked and told in any order, the same with the same seed, within limits, better than chance."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from edgeprof.search.front import hypervolume
from edgeprof.search.space import Architecture, Gene, SearchSpace
from edgeprof.search.strategies import Strategy, Told
from edgeprof.search.strategies.by_optuna import OptunaStrategy
from edgeprof.search.strategies.by_pymoo import PymooStrategy
from edgeprof.search.strategies.evolution import RegularisedEvolution
from edgeprof.search.strategies.guided import Guided
from edgeprof.search.strategies.local_search import LocalSearch
from edgeprof.search.strategies.random_search import RandomSearch
from latency_models.building import GraphBuilder, Value

STRATEGIES: dict[str, Callable[..., Strategy]] = {
    "random": RandomSearch,
    "evolution": partial(RegularisedEvolution, population=10),
    "tpe": partial(OptunaStrategy, sampler="tpe"),
    "nsga2": partial(OptunaStrategy, sampler="nsga2", population=10),
    "nsga3": partial(OptunaStrategy, sampler="nsga3", population=10),
    "pymoo": partial(PymooStrategy, population=10),
    "local": LocalSearch,
    "guided": Guided,
}


class Layers(SearchSpace):
    """Eight layers of one of four widths each: more is dearer and, up to a point, better."""

    name = "layers"
    genes = tuple(Gene(f"width {k}", (8, 16, 24, 32), True) for k in range(8))

    def build(self, net: GraphBuilder, architecture: Architecture) -> Value:
        x = net.image(8, 8)
        for value, gene in zip(architecture, self.genes, strict=True):
            x = net.conv(x, int(str(gene.choices[value])), 1)
        return x


SPACE = Layers()


def evaluate(architecture: Architecture) -> tuple[float, float]:
    widths = np.array(architecture, dtype=float)
    cost = float((widths * np.arange(1, 9)).sum()) / 108
    error = float(np.exp(-widths.sum() / 8) + 0.1 * np.abs(np.diff(widths)).sum() / 21)
    return error, cost


def searched(strategy: Strategy, n: int, limit: float | None = None) -> list[Told]:
    for _ in range(n):
        architecture = strategy.ask()
        values = evaluate(architecture)
        strategy.tell(Told(architecture, values, () if limit is None else (values[1] / limit - 1,)))
    return strategy.told


def ruled(told: list[Told]) -> float:
    return hypervolume(np.array([one.values for one in told]), np.array([1.2, 1.0]))


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_same_seed_asks_the_same_and_another_one_something_else(name: str) -> None:
    first, again, other = (
        [one.architecture for one in searched(STRATEGIES[name](SPACE, 2, seed), 30)] for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("name", STRATEGIES)
def test_several_may_be_asked_for_before_the_first_is_told(name: str) -> None:
    strategy = STRATEGIES[name](SPACE, 2, 0)
    for _ in range(6):
        batch = [strategy.ask() for _ in range(7)]
        assert all(SPACE.require(one) == one for one in batch)
        strategy.tell([Told(one, evaluate(one)) for one in reversed(batch)])
    assert len(strategy.told) == 42


@pytest.mark.parametrize("name", STRATEGIES)
def test_failed_evaluations_and_what_was_never_asked_for_are_taken(name: str) -> None:
    strategy = STRATEGIES[name](SPACE, 2, 0)
    strategy.tell([Told((k % 4,) * 8, evaluate((k % 4,) * 8)) for k in range(3)])
    for k in range(25):
        architecture = strategy.ask()
        strategy.tell(Told(architecture, None if k % 3 == 0 else evaluate(architecture)))
    assert len(strategy.told) == 28


@pytest.mark.parametrize("name", ["random", "evolution", "pymoo", "guided"])
def test_nothing_is_asked_for_twice_while_there_are_others(name: str) -> None:
    told = searched(STRATEGIES[name](SPACE, 2, 0), 60)
    assert len({one.architecture for one in told}) == 60


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_space_that_is_used_up_is_asked_again(name: str) -> None:
    class Tiny(Layers):
        genes = (Gene("a", (1, 2)), Gene("b", (1,)))

    strategy = STRATEGIES[name](Tiny(), 2, 0)
    for k in range(20):
        architecture = strategy.ask()
        strategy.tell(Told(architecture, (float(architecture[0]), float(k))))
    assert {one.architecture for one in strategy.told} == {(0, 0), (1, 0)}


@pytest.mark.parametrize("name", ["evolution", "tpe", "nsga2", "pymoo", "guided"])
def test_what_learns_is_better_than_chance(name: str) -> None:
    mine = np.mean([ruled(searched(STRATEGIES[name](SPACE, 2, seed), 120)) for seed in range(2)])
    chance = np.mean([ruled(searched(RandomSearch(SPACE, 2, seed), 120)) for seed in range(2)])
    assert mine > chance


@pytest.mark.parametrize("name", ["evolution", "tpe", "pymoo", "guided"])
def test_hard_limits_are_searched_within(name: str) -> None:
    told = searched(STRATEGIES[name](SPACE, 2, 0), 100, limit=0.25)
    late = told[60:]
    within = np.mean([one.excess == 0 for one in late])
    by_chance = np.mean([one.excess == 0 for one in searched(RandomSearch(SPACE, 2, 0), 100, limit=0.25)[60:]])
    assert within > by_chance + 0.2
    assert any(one.excess == 0 for one in told)


@pytest.mark.parametrize("name", STRATEGIES)
def test_who_goes_on_asks_what_would_have_been_asked(name: str) -> None:
    whole = [one.architecture for one in searched(STRATEGIES[name](SPACE, 2, 3), 40)]
    begun = searched(STRATEGIES[name](SPACE, 2, 3), 27)
    again = STRATEGIES[name](SPACE, 2, 3)
    again.replay(list(enumerate(begun, 1)))

    assert [one.architecture for one in searched(again, 13)] == whole
