"""The tuner, on a simulated board whose every configuration is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.tuner import BOARDS, BUDGETED, Bench, Scene, scene
from edgeprof.errors import TuningError
from edgeprof.tuning.configuration import Configuration
from edgeprof.tuning.objective import ENERGY, LATENCY, Measured, Objective
from edgeprof.tuning.tuner import DEFAULT, RACE, SEARCH, START, Measure, Progress, Tuned, tune
from edgeprof.values import Value

BUDGET = 36


@pytest.fixture(scope="module")
def board() -> Scene:
    return scene(BOARDS / "symmetric.toml", "convolutions")


@pytest.fixture(scope="module")
def narrow() -> Scene:
    return scene(BOARDS / "symmetric.toml", "products")


def tuned(
    board: Scene, objective: Objective, *, seed: int = 0, budget: int = BUDGET, measure: Measure | None = None
) -> Tuned:
    return tune(
        board.configurations, board.features, measure or Bench(board, seed), objective, budget=budget, seed=seed
    )


@pytest.mark.parametrize("goal", [LATENCY, ENERGY, BUDGETED])
@pytest.mark.parametrize("seed", [1, 2])
def test_it_comes_near_the_best_by_measuring_few(board: Scene, narrow: Scene, goal: str, seed: int) -> None:
    for one in (board, narrow):
        found = tuned(one, one.objective(goal), seed=seed)

        assert len(found.measurements) <= BUDGET == 0.15 * len(one.configurations)
        assert one.regret(goal, one.configurations.index(found.best)) <= 0.08
        assert found.keeps_budget


def test_the_default_comes_first_then_a_start_then_the_search_then_the_race(board: Scene) -> None:
    found = tuned(board, Objective())
    phases = [one.phase for one in found.measurements]

    assert phases[0] == DEFAULT
    assert found.measurements[0].configuration == board.configurations[0]
    assert list(dict.fromkeys(phases)) == [DEFAULT, START, SEARCH, RACE]
    assert found.default is not None
    assert all(one.level == 1 for one in found.measurements if one.phase != RACE)
    assert all(one.level > 1 for one in found.measurements if one.phase == RACE)
    assert found.best in [one.configuration for one in found.measurements if one.phase == RACE]


def test_the_same_seed_and_measurements_give_the_same_tuning(board: Scene) -> None:
    assert tuned(board, Objective(), seed=4) == tuned(board, Objective(), seed=4)
    assert tuned(board, Objective(), seed=4).measurements != tuned(board, Objective(), seed=5).measurements


@pytest.mark.parametrize("budget", [1, 2, 5, 20])
def test_a_budget_is_never_exceeded(board: Scene, budget: int) -> None:
    told: list[Progress] = []

    found = tune(
        board.configurations,
        board.features,
        Bench(board, 0),
        Objective(),
        budget=budget,
        seed=0,
        on_progress=told.append,
    )

    assert len(found.measurements) == len(told) <= budget
    assert [one.n_measured for one in told] == list(range(1, len(told) + 1))
    assert told[-1].best == found.value


def failing(board: Scene, fails: Callable[[Configuration], bool]) -> Measure:
    bench = Bench(board, 0)

    def measure(one: Configuration, level: int) -> Measured:
        return Measured(failure="the runtime crashed") if fails(one) else bench(one, level)

    return measure


def test_what_fails_is_a_result_and_its_like_are_avoided(board: Scene) -> None:
    found = tuned(board, Objective(), measure=failing(board, lambda one: one.spinning is None and one.threads > 1))
    failed = [one.measured.failure is not None for one in found.measurements]
    share = np.mean([one.spinning is None and one.threads > 1 for one in board.configurations])

    assert found.default is None
    assert found.best.spinning is False
    assert 0 < np.mean(failed[10:]) < 0.5 * share


def test_where_everything_fails_the_reason_is_told(board: Scene) -> None:
    with pytest.raises(TuningError, match=r"none of .* the runtime crashed") as error:
        tuned(board, Objective(), measure=failing(board, lambda one: True))

    assert error.value.advice


def test_where_no_configuration_keeps_the_budget_the_fastest_that_was_found_is_told_so(board: Scene) -> None:
    found = tuned(board, Objective(name=ENERGY, latency_budget_s=1e-6))
    fastest = min(one.measured.latency.value for one in found.measurements if one.measured.latency is not None)

    assert not found.keeps_budget
    assert found.latency is not None
    assert found.latency.value == pytest.approx(fastest, rel=0.05)


def test_what_cannot_be_told_apart_is_told_so(board: Scene) -> None:
    def alike(one: Configuration, level: int) -> Measured:
        return Measured(latency=Value(1.0, 0.95, 1.05, "simulated"))

    found = tuned(board, Objective(), measure=alike)

    assert found.ties
    assert found.best not in found.ties
    assert found.value.overlaps(Value(1.0, 1.0, 1.0, "simulated"))


def test_a_lucky_measurement_is_found_out_by_the_race(board: Scene) -> None:
    bench = Bench(board, 0)
    lucky = board.configurations[0]

    def measure(one: Configuration, level: int) -> Measured:
        seen = bench(one, level)
        if one != lucky or level > 1 or seen.latency is None:
            return seen
        low = 0.5 * float(board.latency_s.min())
        return replace(seen, latency=Value(low, low * 0.5, low * 2.0, "simulated"))

    found = tuned(board, Objective(name=LATENCY), measure=measure)

    assert [one.level for one in found.measurements if one.configuration == lucky][:2] == [1, 2]
    assert found.value.value > 0.9 * float(board.latency_s.min())


def test_a_single_configuration_is_the_best(board: Scene) -> None:
    found = tune(board.configurations[:1], np.zeros((1, 0)), Bench(board, 0), Objective(), budget=10, seed=0)

    assert found.best == board.configurations[0]
    assert found.why_stopped


def test_nothing_to_choose_from_is_an_error(board: Scene) -> None:
    with pytest.raises(TuningError):
        tune([], np.zeros((0, 0)), Bench(board, 0), Objective(), budget=10, seed=0)
    with pytest.raises(TuningError, match="nothing can be chosen with 0 measurements"):
        tuned(board, Objective(), budget=0)
