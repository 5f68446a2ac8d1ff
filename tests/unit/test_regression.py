"""The gate's statistics: laws that hold for all numbers, and error rates that are simulated."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from edgeprof.budgets import KEYS, read_budget, read_margin
from edgeprof.errors import UsageError
from edgeprof.regression import (
    BASELINE,
    CANDIDATE,
    FAILED,
    INCONCLUSIVE,
    PASSED,
    Plan,
    decide,
    estimate,
    pair_orders,
)

LOGS = st.lists(st.floats(-1.0, 1.0), min_size=2, max_size=40)
PLAN = Plan()


@given(LOGS)
def test_swapping_the_sides_turns_the_ratio_and_its_interval_over(logs: list[float]) -> None:
    forward, backward = estimate(logs, PLAN), estimate([-x for x in logs], PLAN)

    assert forward.middle == pytest.approx(1 / backward.middle)
    assert forward.low == pytest.approx(1 / backward.high)
    assert forward.smallest_effect == pytest.approx(backward.smallest_effect)


@given(LOGS, st.floats(1e-6, 1e3))
def test_a_unit_of_time_scales_the_estimate_and_nothing_else(logs: list[float], unit: float) -> None:
    plain, scaled = estimate(logs, PLAN), estimate([x + math.log(unit) for x in logs], PLAN)

    assert scaled.middle == pytest.approx(plain.middle * unit)
    assert scaled.low == pytest.approx(plain.low * unit, rel=1e-6)
    assert scaled.high == pytest.approx(plain.high * unit, rel=1e-6)


@given(LOGS)
def test_the_interval_holds_its_middle_and_is_the_same_each_time(logs: list[float]) -> None:
    found = estimate(logs, PLAN)

    assert found.low <= found.middle * (1 + 1e-12)
    assert found.middle <= found.high * (1 + 1e-12)
    assert found == estimate(logs, PLAN)


def test_the_interval_is_students_at_the_confidence_of_one_look() -> None:
    logs = [0.01, 0.03, -0.01, 0.02, 0.05, 0.0]

    found = estimate(logs, PLAN)

    low, high = stats.t.interval(0.99, 5, np.mean(logs), stats.sem(logs))
    assert (found.low, found.high) == pytest.approx((math.exp(low), math.exp(high)))


def test_equal_observations_have_an_interval_of_no_width() -> None:
    found = estimate([0.1] * 6, PLAN)

    assert found.low == found.middle == found.high


@pytest.mark.parametrize("logs", [[], [0.1], [0.1, math.nan], [0.1, math.inf]])
def test_too_little_or_no_numbers_have_no_estimate(logs: list[float]) -> None:
    with pytest.raises(ValueError, match="two or more"):
        estimate(logs, PLAN)


@pytest.mark.parametrize(
    ("ratio", "spread", "decision"),
    [(1.0, 0.005, PASSED), (1.05, 0.005, FAILED), (1.03, 0.005, INCONCLUSIVE), (1.0, 0.2, INCONCLUSIVE)],
)
def test_only_an_interval_on_one_side_of_the_limit_decides(ratio: float, spread: float, decision: str) -> None:
    logs = [math.log(ratio) + spread * x for x in (-1, 1, -1, 1, -1, 1)]

    assert decide(estimate(logs, PLAN), 1.03) == decision


@given(st.integers(0, 2**32), st.integers(1, 60))
def test_orders_are_balanced_and_the_same_for_a_seed(seed: int, n_pairs: int) -> None:
    orders = pair_orders(n_pairs, seed)

    assert len(orders) == n_pairs
    assert orders == pair_orders(n_pairs, seed)
    for first, second in zip(orders[::2], orders[1::2], strict=False):
        assert first == second[::-1]
    assert all(set(order) == {BASELINE, CANDIDATE} for order in orders)


def test_orders_differ_between_seeds() -> None:
    assert len({tuple(pair_orders(16, seed)) for seed in range(20)}) > 10


@pytest.mark.parametrize(
    ("most", "looks"), [(6, (6,)), (7, (6, 8)), (16, (6, 10, 16)), (40, (6, 10, 16, 24, 40)), (5, (6,))]
)
def test_a_plan_ends_at_the_pairs_that_are_allowed(most: int, looks: tuple[int, ...]) -> None:
    assert Plan.up_to(most).looks == looks


def test_a_plan_of_too_few_pairs_is_refused() -> None:
    with pytest.raises(UsageError, match="too few"):
        Plan.up_to(4)


def outcomes(true_ratio: float, spread: float, n_trials: int = 2000) -> dict[str, float]:
    """How often each decision is made over all looks of the plan, of normal pairs."""
    rng = np.random.default_rng(7)
    counted = dict.fromkeys((PASSED, FAILED, INCONCLUSIVE), 0)
    for _ in range(n_trials):
        logs = math.log(true_ratio) + spread * rng.standard_normal(PLAN.looks[-1])
        decision = INCONCLUSIVE
        for look in PLAN.looks:
            decision = decide(estimate(logs[:look].tolist(), PLAN), 1.03)
            if decision != INCONCLUSIVE:
                break
        counted[decision] += 1
    return {name: n / n_trials for name, n in counted.items()}


@pytest.mark.parametrize("spread", [0.005, 0.02, 0.1])
def test_exactly_at_the_limit_either_wrong_certainty_comes_in_at_most_one_check_of_forty(spread: float) -> None:
    rates = outcomes(1.03, spread)

    # Three standard errors of 2000 trials above the nominal 2.5 %.
    assert max(rates[PASSED], rates[FAILED]) <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / 2000)


def test_five_percent_are_caught_and_no_change_passes_where_pairs_differ_by_two_percent() -> None:
    assert outcomes(1.05, 0.02)[PASSED] == 0
    assert outcomes(1.00, 0.02)[PASSED] >= 0.99


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("latency=20ms", 0.020),
        ("latency=250us", 250e-6),
        ("latency=1.5 s", 1.5),
        ("first_inference=1s", 1.0),
        ("memory=200MB", 200e6),
        ("size=4MiB", 4 * 2**20),
        ("size=10B", 10),
    ],
)
def test_budgets_are_read_in_their_units(text: str, limit: float) -> None:
    assert read_budget(text).limit == pytest.approx(limit)


@pytest.mark.parametrize(
    "text",
    ["latency", "latency=", "latency=20", "latency=20MB", "memory=5ms", "latency=0ms", "latency=-1ms", "latency=nanms"],
)
def test_a_budget_without_a_positive_amount_in_its_unit_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="positive amount"):
        read_budget(text)


@pytest.mark.parametrize("text", ["energy=5mJ", "Latency=1ms", "", "=1ms"])
def test_a_budget_for_something_unknown_names_what_is_known(text: str) -> None:
    with pytest.raises(UsageError, match="is known yet") as refused:
        read_budget(text)

    assert all(key in refused.value.advice for key in KEYS)


@given(st.text(max_size=20))
def test_no_text_breaks_the_reading_of_budgets_and_margins(text: str) -> None:
    for read in (read_budget, read_margin):
        with contextlib.suppress(UsageError):
            assert read(text)


@pytest.mark.parametrize("text", ["3", "0%", "-3%", "0.0 %", "x%", "", "nan%", "inf%"])
def test_a_margin_must_be_a_positive_percentage(text: str) -> None:
    with pytest.raises(UsageError, match="not a positive percentage"):
        read_margin(text)


def test_a_margin_is_read() -> None:
    assert read_margin("2.5%") == pytest.approx(0.025)
