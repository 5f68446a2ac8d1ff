"""What is read from rounds without rest: when it throttled, what is left, what stays, and what makes it doubtful."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from edgeprof.battery import battery_share, is_discharging
from edgeprof.errors import MeasurementError
from edgeprof.models import board_to_simulate
from edgeprof.sustained import sustained
from tests.unit.profiles import CLOCKS, LOW_HZ, TOP_HZ, make_profile, make_run
from tests.unit.sustained_runs import NOTHING_READABLE, ROUND_S, at, of_numbers, on_board


def nothing_readable(_k: int) -> dict[str, Any]:
    return NOTHING_READABLE


# --- a board that heats up -----------------------------------------------------------------------------------------


def test_a_board_throttles_when_its_physics_say_so() -> None:
    board = board_to_simulate("pi-4")
    cluster = board.clusters[0]
    busy_w = board.idle_w + cluster.cores * cluster.core_active_w
    settled_c, rest_c = (board.ambient_c + watts * board.resistance_k_per_w for watts in (busy_w, board.idle_w))
    time_constant_s = board.resistance_k_per_w * board.capacitance_j_per_k
    trip_s = time_constant_s * math.log((settled_c - rest_c) / (settled_c - board.trip_c))

    found = sustained(on_board("pi-4"))

    assert found.throttling is not None
    assert found.throttling.after_s - ROUND_S <= trip_s <= found.throttling.seen_s
    assert "maximum clock of CPUs 0 1 2 3 fell from 1500 MHz" in found.throttling.evidence
    assert not found.throttling.is_inferred
    assert found.ratio_low is not None
    assert found.ratio_low > 1.1
    assert found.change == "slower"
    assert found.first_minute.median_s == pytest.approx(0.2, rel=0.01)
    assert found.last_minute.median_s == pytest.approx(0.2 * found.ratio, rel=0.02)
    assert found.steady is not None
    assert found.steady.from_s >= found.throttling.after_s
    assert found.steady.median_s == pytest.approx(found.last_minute.median_s, rel=0.02)
    assert found.hottest_c == pytest.approx(board.trip_c, abs=1.0)
    assert found.began_c == pytest.approx(rest_c, abs=1.0)
    assert found.running_share == pytest.approx(1.0)
    assert found.doubts == ()
    assert found.origin == "simulated"


def test_the_same_board_with_one_thread_stays_cool_and_as_fast_as_it_was() -> None:
    found = sustained(on_board("pi-4", threads=1))

    assert found.throttling is None
    assert found.throttling_missing == f"no clock was held down within {found.lasted_s:.0f} s"
    assert found.change == "no difference"
    assert found.steady is not None
    assert found.steady.from_s == 0.0


# --- when it throttled ---------------------------------------------------------------------------------------------


def test_bits_of_the_firmware_show_when_it_throttled() -> None:
    found = sustained(of_numbers([0.01] * 30, lambda k: {"throttled": 0b100 if k >= 12 else 0}))

    assert found.throttling is not None
    assert (found.throttling.after_s, found.throttling.seen_s) == (120.0, 130.0)
    assert "reported throttled" in found.throttling.evidence


def test_a_clock_that_stays_down_under_a_wandering_governor_is_throttling_only_where_runs_are_slower() -> None:
    def clock_falls(k: int) -> dict[str, Any]:
        hz = LOW_HZ if k >= 15 else TOP_HZ
        return {"clocks": (replace(CLOCKS, governor="schedutil", current_hz=hz),)}

    slower = sustained(of_numbers([0.01] * 15 + [0.018] * 15, clock_falls))
    as_fast = sustained(of_numbers([0.01] * 30, clock_falls))

    assert slower.throttling is not None
    assert slower.throttling.after_s == 150.0
    assert "fell from 1800 MHz after the first round to 1000 MHz" in slower.throttling.evidence
    assert as_fast.throttling is None


def test_a_clock_that_is_down_once_is_no_throttling() -> None:
    def dips(k: int) -> dict[str, Any]:
        return {"clocks": (replace(CLOCKS, governor="schedutil", current_hz=LOW_HZ if k == 15 else TOP_HZ),)}

    found = sustained(of_numbers([0.01] * 15 + [0.018] + [0.01] * 14, dips))

    assert found.throttling is None


def test_where_no_clock_can_be_read_a_step_in_the_latencies_is_inferred_and_called_so() -> None:
    found = sustained(of_numbers([0.01] * 40 + [0.012] * 80, nothing_readable))

    assert found.throttling is not None
    assert found.throttling.is_inferred
    assert found.throttling.after_s == 400.0
    assert found.throttling.evidence.startswith("inferred: no clock can be read, but runs take 20.")
    assert "Pettitt's test: p = " in found.throttling.evidence
    assert found.temperature_missing == "no sensor"
    assert found.hottest_c is None


def test_an_inferred_throttling_names_the_programs_that_came_at_the_same_time() -> None:
    def busier(k: int) -> dict[str, Any]:
        at_s = (k + 1) * ROUND_S
        return {**NOTHING_READABLE, "busy_s": at_s + max(0.0, at_s - 400.0)}

    found = sustained(of_numbers([0.01] * 40 + [0.012] * 80, busier))

    assert found.throttling is not None
    assert "other programs took 25% of the CPU time then, 0% before: that may be the cause" in found.throttling.evidence


def test_steady_latencies_of_a_device_that_tells_nothing_are_no_throttling() -> None:
    found = sustained(of_numbers([0.01] * 30, nothing_readable))

    assert found.throttling is None
    assert found.throttling_missing == "no clock can be read, and latency did not rise for good within 300 s"


def test_too_few_rounds_of_a_device_that_tells_nothing_are_told_as_too_few() -> None:
    found = sustained(of_numbers([0.01] * 6, nothing_readable))

    assert found.throttling_missing is not None
    assert "6 rounds are too few for a rise to show" in found.throttling_missing


def test_a_rise_without_a_clock_that_fell_is_told_and_not_called_throttling() -> None:
    found = sustained(of_numbers([0.01] * 30 + [0.012] * 30))

    assert found.throttling is None
    assert found.throttling_missing is not None
    assert found.throttling_missing.startswith("no clock was held down within 600 s, but runs take 2")


# --- minutes, and what stays ---------------------------------------------------------------------------------------


def test_the_first_minute_and_the_last_have_their_own_rounds_and_the_ratio_an_interval() -> None:
    found = sustained(of_numbers([0.010] * 6 + [0.011] * 18 + [0.013] * 6))

    assert (found.first_minute.from_s, found.first_minute.to_s, found.first_minute.n_rounds) == (0.0, 60.0, 6)
    assert (found.last_minute.from_s, found.last_minute.to_s, found.last_minute.n_rounds) == (240.0, 300.0, 6)
    assert found.ratio == pytest.approx(1.3, abs=0.01)
    assert found.ratio_low is not None
    assert found.ratio_high is not None
    assert found.ratio_low < 1.3 < found.ratio_high
    assert found.n_runs == 6 * 1000 + 18 * 909 + 6 * 769


def test_a_run_shorter_than_two_minutes_is_halved() -> None:
    found = sustained(of_numbers([0.010] * 4 + [0.011] * 4))

    assert (found.first_minute.to_s, found.last_minute.from_s) == (40.0, 40.0)


def test_a_model_that_gets_slower_to_the_end_has_no_steady_latency() -> None:
    found = sustained(of_numbers([0.01 * 1.02**k for k in range(30)]))

    assert found.steady is None
    assert found.steady_missing == "latency still changed in the last 6 rounds: measure longer"


def test_steady_latency_is_of_the_longest_stretch_at_the_end() -> None:
    found = sustained(of_numbers([0.01 + 0.0001 * k for k in range(20)] + [0.012] * 40))

    assert found.steady is not None
    assert 180.0 <= found.steady.from_s <= 300.0
    assert found.steady.to_s == 600.0
    assert found.steady.median_s == pytest.approx(0.012, rel=0.01)


def test_the_course_has_every_round_with_its_heat_and_its_clocks() -> None:
    found = sustained(of_numbers([0.01] * 20, lambda k: {"temperatures_c": {"cpu": 50.0 + k, "gpu": 40.0}}))

    assert [moment.at_s for moment in found.course] == [ROUND_S * (k + 1) for k in range(20)]
    assert [moment.temperature_c for moment in found.course] == [50.0 + k for k in range(20)]
    assert found.course[0].clocks_hz == {"0 1 2 3": TOP_HZ}
    assert (found.began_c, found.hottest_c, found.ended_c) == (49.0, 69.0, 69.0)
    assert found.waited_s == 12.0


# --- doubts --------------------------------------------------------------------------------------------------------


def test_a_quiet_run_has_no_doubts() -> None:
    assert sustained(of_numbers([0.01] * 12)).doubts == ()


def test_a_plug_that_is_pulled_is_a_doubt_with_its_time() -> None:
    found = sustained(
        of_numbers(
            [0.01] * 12,
            lambda k: {"power_source": "battery Charging at 90 %" if k < 7 else "battery Discharging at 90 %"},
        )
    )

    assert found.doubts == (
        "the power source changed after 80 s, from battery Charging to battery Discharging: devices choose other "
        "clocks then",
    )


def test_a_battery_that_only_runs_down_is_the_same_source_until_it_is_low() -> None:
    high = sustained(of_numbers([0.01] * 12, lambda k: {"power_source": f"battery Discharging at {60 - k} %"}))
    low = sustained(of_numbers([0.01] * 12, lambda k: {"power_source": f"battery Discharging at {20 - k} %"}))

    assert high.doubts == ()
    assert low.doubts == ("the battery ran down to 9%: devices save power below 15%",)


def test_pauses_and_a_run_that_ended_early_are_doubts() -> None:
    run = of_numbers([0.01] * 12)
    slow = replace(run.profile, rounds=tuple(replace(r, wall_s=8.0) for r in run.profile.rounds))
    longer = replace(run.profile.job, schedule=replace(run.profile.job.schedule, without_rest_s=600.0))

    assert sustained(make_run(slow)).doubts == (
        "the model was to run without rest, and ran 80.0% of the time (limit 95%)",
    )
    assert sustained(make_run(replace(run.profile, job=longer))).doubts == (
        "it lasted 120 s, and 600 s were asked for",
    )


def test_a_gate_that_was_not_passed_and_other_programs_are_doubts() -> None:
    run = of_numbers([0.01] * 12, lambda k: {"busy_s": 2.0 * (k + 1) * ROUND_S})
    first = replace(run.profile.rounds[0], gate=replace(run.profile.rounds[0].gate, passed=False, reasons=("hot",)))

    found = sustained(make_run(replace(run.profile, rounds=(first, *run.profile.rounds[1:]))))

    assert len(found.doubts) == 2
    assert "before round 1: hot" in found.doubts[0]
    assert found.doubts[1] == "other programs took 25% of the CPU time (limit 10%)"


@pytest.mark.parametrize(
    ("source", "share", "discharging"),
    [
        ("battery Discharging at 12 %", 0.12, True),
        ("battery Discharging", None, True),
        ("battery Not charging at 80 %, USB online", 0.80, False),
        ("Mains online, battery Discharging at 30 %, battery Full at 100 %", 0.30, True),
        ("Mains online", None, False),
        (None, None, False),
    ],
)
def test_the_battery_is_read_from_the_power_source(source: str | None, share: float | None, discharging: bool) -> None:
    seen = at(0.0, {"power_source": source})

    assert battery_share(seen) == share
    assert is_discharging(seen) is discharging


# --- what cannot be judged -----------------------------------------------------------------------------------------


def test_a_run_with_rests_is_refused_with_what_to_type() -> None:
    with pytest.raises(MeasurementError, match="with rests between them") as caught:
        sustained(make_run(make_profile()))

    assert "--sustained 20m" in caught.value.advice


def test_a_run_without_a_usable_sample_is_refused() -> None:
    run = of_numbers([0.01] * 3)
    empty = tuple(replace(r, latencies_s=(float("nan"),)) for r in run.profile.rounds)

    with pytest.raises(MeasurementError, match="no usable latency sample"):
        sustained(make_run(replace(run.profile, rounds=empty)))
