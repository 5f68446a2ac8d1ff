"""Comparing two profiles, against scipy and simulated truth; and the ranked list of conditions that differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from device_agents.wire import MachineInfo, Profile
from edgeprof.comparison import Comparison, Difference, compare, mann_whitney, why
from edgeprof.differences import KINDS
from edgeprof.errors import MeasurementError
from tests.unit.profiles import CLOCKS, latencies, make_profile, make_run

MEASURING = Path(__file__).parents[2] / "docs" / "measuring.md"

distinct = st.lists(st.integers(0, 10**6).map(float), min_size=2, max_size=45, unique=True)
tied = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=30)


def steady(seed: int, factor: float = 1.0, n_rounds: int = 10, **changes: Any) -> Profile:
    return make_profile(latencies(seed, n_rounds=n_rounds, middle_s=0.01 * factor), **changes)


# --- Mann-Whitney


@given(distinct, st.data())
@settings(max_examples=60, deadline=None)
def test_without_ties_the_rank_test_agrees_with_scipy(values: list[float], data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(values) - 1))
    a, b = values[:cut], values[cut:]
    method = "exact" if max(len(a), len(b)) <= 25 else "asymptotic"

    assert mann_whitney(a, b) == pytest.approx(stats.mannwhitneyu(a, b, method=method).pvalue, rel=1e-9)


@given(tied, tied)
@settings(max_examples=60, deadline=None)
def test_with_ties_the_rank_test_agrees_with_scipys_normal_approximation(a: list[float], b: list[float]) -> None:
    if len({*a, *b}) == 1:
        assert mann_whitney(a, b) == 1
    elif len({*a, *b}) < len(a) + len(b):
        assert mann_whitney(a, b) == pytest.approx(stats.mannwhitneyu(a, b, method="asymptotic").pvalue, rel=1e-9)


def test_the_exact_and_the_approximate_rank_test_meet_where_one_takes_over() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(0, 1, 26), rng.normal(0.8, 1, 26)

    assert mann_whitney(a, b) == pytest.approx(stats.mannwhitneyu(a, b, method="exact").pvalue, abs=1e-3)


# --- compare


def test_a_clear_gain_is_called_faster_with_its_interval() -> None:
    found = compare(steady(1), steady(2, 0.9))

    assert found.conclusion == "faster"
    assert found.text.startswith("faster by 1")
    assert found.ratio_low is not None
    assert found.ratio_high is not None
    assert found.ratio_low < 0.9 < found.ratio_high < 1
    assert found.p_unit == "round medians"
    assert found.p_value < 0.001
    assert found.warnings == ()


def test_a_clear_loss_is_called_slower() -> None:
    found = compare(steady(1), steady(2, 1.1))

    assert (found.conclusion, found.p_value < 0.001) == ("slower", True)
    assert "slower by" in found.text


def test_equal_profiles_show_no_difference_and_how_small_a_one_they_would_have_shown() -> None:
    found = compare(steady(1), steady(2))

    assert found.conclusion == "no difference"
    assert found.smallest_effect is not None
    assert 0 < found.smallest_effect < 0.01
    assert f"no difference detectable below {found.smallest_effect:.1%}" in found.text


def test_a_profile_compared_with_itself_is_exactly_equal() -> None:
    profile = steady(1)

    found = compare(profile, profile)

    assert found.ratio == 1
    assert found.p_value == 1
    assert found.conclusion == "no difference"


@given(st.integers(0, 1000), st.floats(0.5, 2.0))
@settings(max_examples=25, deadline=None)
def test_the_ratio_lies_in_its_interval_and_turns_round_with_the_sides(seed: int, factor: float) -> None:
    a, b = steady(seed, n_rounds=4), steady(seed + 1, factor, n_rounds=4)

    forth, back = compare(a, b), compare(b, a)

    assert forth.ratio * back.ratio == pytest.approx(1)
    assert forth.p_value == pytest.approx(back.p_value)
    assert forth.ratio_low is not None
    assert forth.ratio_high is not None
    assert forth.ratio_low <= forth.ratio <= forth.ratio_high


def compared(trials: int, factor: float, **how: Any) -> list[Comparison]:
    return [
        compare(
            make_profile(latencies(2 * k, round_noise=0.01, noise=0.03, **how)),
            make_profile(latencies(2 * k + 1, round_noise=0.01, noise=0.03, middle_s=0.01 * factor, **how)),
            seed=k,
        )
        for k in range(trials)
    ]


def test_the_ratios_interval_contains_the_truth_about_95_times_in_100() -> None:
    found = compared(150, 1.0, n_runs=30, correlation=0.5)

    covered = sum((c.ratio_low or 2) <= 1 <= (c.ratio_high or 0) for c in found)

    assert 0.88 <= covered / len(found) <= 0.995


def test_a_difference_of_the_smallest_detectable_size_is_found_about_four_times_in_five() -> None:
    sizes = [c.smallest_effect for c in compared(60, 1.0, n_rounds=8, n_runs=30) if c.smallest_effect is not None]

    found = compared(150, 1 + float(np.mean(sizes)), n_rounds=8, n_runs=30)

    assert 0.70 <= sum(c.conclusion == "slower" for c in found) / len(found) <= 0.92


def test_constant_sides_have_an_interval_of_no_width() -> None:
    a, b = make_profile([[0.01] * 20] * 5), make_profile([[0.011] * 20] * 5)

    found = compare(a, b)

    assert found.ratio_low == found.ratio == found.ratio_high
    assert (found.conclusion, found.smallest_effect) == ("slower", 0.0)


def test_too_few_runs_leave_the_question_undecided() -> None:
    found = compare(make_profile([[0.01] * 3]), steady(1))

    assert (found.conclusion, found.ratio_low, found.smallest_effect) == ("undecided", None, None)
    assert "too few runs" in found.text


@pytest.mark.parametrize(("empty_side", "named"), [(0, "first"), (1, "second")])
def test_a_side_without_samples_is_named(empty_side: int, named: str) -> None:
    sides = [steady(1), steady(2)]
    sides[empty_side] = make_profile([[]])

    with pytest.raises(MeasurementError, match=f"the {named} profile has no usable"):
        compare(sides[0], sides[1])


def test_few_rounds_are_called_unreliable_and_fewer_fall_back_to_runs_with_a_warning() -> None:
    five, two = compare(steady(1, n_rounds=5), steady(2, n_rounds=5)), compare(steady(1, n_rounds=2), steady(2))

    assert five.p_unit == "round medians"
    assert any("unreliable: 5 rounds" in w for w in five.warnings)
    assert two.p_unit == "runs"
    assert any("p-value is too small" in w for w in two.warnings)


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"runtime_version": "1.20.0"}, "runtimes differ: onnxruntime 1.31.1 and onnxruntime 1.20.0"),
        ({"origin": "simulated"}, "origins differ: measured and simulated"),
        ({"machine": MachineInfo(None, "x86_64", "6.1", "glibc", "other CPU", 2, None)}, "devices differ"),
        ({"input_digest": "0" * 64}, "inputs differ"),
        ({"output_digest": "0" * 64}, "different outputs for the same inputs"),
    ],
)
def test_sides_that_answer_different_questions_are_warned_of(change: dict[str, Any], warning: str) -> None:
    found = compare(steady(1), replace(steady(2), **change))

    assert any(warning in w for w in found.warnings)


def test_other_models_and_options_are_warned_of() -> None:
    a, b = steady(1), steady(2)
    job = replace(b.job, model=replace(b.job.model, digest="e" * 64), options=replace(b.job.options, threads=4))

    warnings = compare(a, replace(b, job=job)).warnings

    assert any(w.startswith("models differ") for w in warnings)
    assert any(w.startswith("options differ") for w in warnings)


def test_a_side_that_is_not_trusted_is_warned_of() -> None:
    hot = steady(2, change=lambda _k, _after: {"throttled": 0b100})

    assert "the second profile is not trusted: throttled" in compare(steady(1), hot).warnings


# --- why


def conditions_of(found: Sequence[Difference]) -> list[str]:
    return [difference.condition for difference in found]


def test_equal_runs_differ_in_nothing() -> None:
    assert why(make_run(steady(1)), make_run(steady(1))) == []


def test_readings_that_always_differ_a_little_count_as_equal() -> None:
    warm = steady(1, change=lambda _k, _after: {"temperatures_c": {"cpu-thermal": 42.5}, "load_1min": 0.25})

    assert why(make_run(steady(1)), make_run(warm)) == []


def test_differences_are_ranked_with_both_values_and_a_cause() -> None:
    def hot(_k: int, _after: bool) -> dict[str, Any]:
        slow = replace(CLOCKS, governor="ondemand", current_hz=1.2e9)
        return {
            "throttled": 0x80008,
            "clocks": (slow,),
            "temperatures_c": {"cpu-thermal": 82.0},
            "power_source": "battery Discharging at 50 %",
        }

    a = make_run(steady(1))
    b = make_run(
        steady(
            1, change=hot, runtime_version="1.20.0", in_force={"threads": "4"}, python="3.9.2", agent_digest="f" * 64
        ),
        device="pi4",
    )

    found = why(a, b)

    assert [d.rank for d in found] == list(range(1, len(found) + 1))
    assert conditions_of(found) == [
        "device",
        "in force: threads",
        "throttle bits",
        "clock after the rounds, CPUs 0 1 2 3",
        "governor, CPUs 0 1 2 3",
        "runtime version",
        "hottest cpu-thermal",
        "power source",
        "python",
        "agent digest",
    ]
    by_name = {d.condition: (d.a, d.b) for d in found}
    assert by_name["throttle bits"] == ("0x0 (none now)", "0x80008 (soft temperature limit)")
    assert by_name["clock after the rounds, CPUs 0 1 2 3"] == ("1800 MHz", "1200 MHz")
    assert by_name["hottest cpu-thermal"] == ("41 C", "82 C")
    assert all(d.because for d in found)


def test_what_one_run_did_not_record_is_said_so() -> None:
    blind = steady(1, change=lambda _k, _after: {"temperatures_c": {}, "clocks": (), "power_source": None})

    found = {d.condition: (d.a, d.b) for d in why(make_run(steady(1)), make_run(blind))}

    assert found["hottest cpu-thermal"] == ("41 C", "not recorded")
    assert found["power source"] == ("mains", "not recorded")
    assert found["governor, CPUs 0 1 2 3"] == ("performance", "not recorded")


def test_every_option_and_every_part_of_the_schedule_is_compared() -> None:
    plain = steady(1)
    for record in ("options", "schedule", "gate"):
        for field in fields(getattr(plain.job, record)):
            changed = replace(
                getattr(plain.job, record), **{field.name: _another(getattr(getattr(plain.job, record), field.name))}
            )
            other = replace(plain, job=replace(plain.job, **{record: changed}))

            found = why(make_run(plain), make_run(other))

            prefix = "option" if record == "options" else record
            assert conditions_of(found) == [f"{prefix} {field.name}"]


def _another(value: object) -> object:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, dict):
        return {"key": "value"}
    return (3,) if isinstance(value, tuple) else "another"


def test_other_programs_and_pressure_are_compared_as_shares() -> None:
    def loaded(k: int, after: bool) -> dict[str, Any]:
        return {"busy_s": 100.0 * k + 50.0 * after, "pressure_s": {"cpu": 10.0 * k + 0.2 * after}}

    found = {d.condition: (d.a, d.b) for d in why(make_run(steady(1)), make_run(steady(1, change=loaded)))}

    assert found["cpu pressure"][0] == "0 %"
    assert found["cpu pressure"][1].startswith("5")
    assert "CPU share of other programs" in found


def test_the_page_about_measuring_explains_every_cause_in_the_order_of_the_ranking() -> None:
    page = MEASURING.read_text(encoding="utf-8")

    places = [page.index(kind.because) for kind in KINDS]
    assert places == sorted(places)
