"""Measurements put together, and who may still be the best."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from edgeprof.errors import UsageError
from edgeprof.tuning.objective import ENERGY, Measured, Objective
from edgeprof.tuning.racing import Combined, combined, contenders, log_error
from edgeprof.values import Value

FAST = Objective()


def value(middle: float, half: float = 0.01) -> Value:
    return Value(middle, middle * math.exp(-half), middle * math.exp(half), "simulated")


def one(place: int, middle: float, half: float = 0.01, *, keeps: bool = True, may: bool = True) -> Combined:
    known = value(middle, half)
    return Combined(place=place, value=known, latency=known, keeps_budget=keeps, may_keep_budget=may)


def test_measurements_that_agree_make_the_interval_narrower() -> None:
    together = combined(0, [Measured(latency=value(1.0)), Measured(latency=value(1.001))], FAST)

    assert together is not None
    assert together.value.value == pytest.approx(1.0005)
    assert log_error(together.value) == pytest.approx(log_error(value(1.0)) / math.sqrt(2))
    assert together.value.origin == "simulated"


def test_the_more_exact_one_counts_more_and_disagreement_makes_the_interval_wider() -> None:
    together = combined(0, [Measured(latency=value(1.0, 0.01)), Measured(latency=value(1.2, 0.1))], FAST)

    assert together is not None
    assert 1.0 < together.value.value < 1.01
    assert together.value.high > math.exp(0.01)


def test_what_failed_once_or_does_not_tell_its_objective_is_not_known() -> None:
    assert combined(0, [Measured(latency=value(1.0)), Measured(failure="the runtime crashed")], FAST) is None
    assert combined(0, [Measured(latency=value(1.0))], Objective(name=ENERGY)) is None


def test_the_product_of_energy_and_time_has_an_interval_of_both() -> None:
    measured = Measured(latency=value(2.0, 0.01), energy=value(3.0, 0.02))

    product = Objective(name="edp").value(measured)

    assert product is not None
    assert product.value == pytest.approx(6.0)
    assert math.log(product.high / product.value) == pytest.approx(0.03)


@pytest.mark.parametrize(("limit_s", "keeps", "may"), [(1.02, True, True), (1.005, False, True), (0.98, False, False)])
def test_a_budget_is_kept_by_the_whole_interval(limit_s: float, keeps: bool, may: bool) -> None:
    objective = Objective(name=ENERGY, latency_budget_s=limit_s)

    found = combined(3, [Measured(latency=value(1.0), energy=value(5.0))], objective)

    assert found is not None
    assert (found.place, found.keeps_budget, found.may_keep_budget) == (3, keeps, may)


def test_contenders_are_those_that_are_not_surely_worse_the_best_first() -> None:
    known = [one(0, 1.5), one(1, 1.015), one(2, 1.0), one(3, 1.01)]

    assert [each.place for each in contenders(known)] == [2, 3, 1]


def test_what_may_keep_the_budget_and_would_be_better_is_a_contender_but_not_the_best() -> None:
    known = [one(0, 1.0), one(1, 0.8, keeps=False), one(2, 0.7, keeps=False, may=False)]

    assert [each.place for each in contenders(known)] == [0, 1]


def test_where_nothing_surely_keeps_the_budget_those_that_may_come_first_and_else_the_one_that_comes_nearest() -> None:
    doubtful = [one(0, 1.0, keeps=False), one(1, 0.9, keeps=False), one(2, 0.5, keeps=False, may=False)]
    hopeless = [replace(each, may_keep_budget=False, latency=value(9.0 - each.place)) for each in doubtful]

    assert [each.place for each in contenders(doubtful)] == [1, 0]
    assert [each.place for each in contenders(hopeless)] == [2]
    assert contenders([]) == []


@pytest.mark.parametrize(("name", "budget_s"), [("speed", None), (ENERGY, 0.0), (ENERGY, math.inf), (ENERGY, math.nan)])
def test_objectives_that_make_no_sense_are_refused(name: str, budget_s: float | None) -> None:
    with pytest.raises(UsageError) as error:
        Objective(name=name, latency_budget_s=budget_s)

    assert error.value.advice
