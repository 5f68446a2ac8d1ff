"""From what a meter showed to mean power and joules of a stretch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agents.wire import POWER, MeterInfo, PowerTrace
from edgeprof.energy.traces import integral_j, mean_power, shown
from edgeprof.errors import MeasurementError
from tests.unit.energy_cases import Truth, counter, simulated


def trace_of(at_s: list[float], power_w: list[float], *, averages: bool = False, **changes: float) -> PowerTrace:
    meter = MeterInfo("meter", "hwmon", POWER, "module", ("total",), averages=averages, **changes)  # type: ignore[arg-type]
    return PowerTrace(meter, tuple(at_s), (tuple(power_w),))


def test_the_trapezoid_interpolates_at_the_edges() -> None:
    trace = shown(trace_of([0.0, 1.0, 2.0, 3.0], [1.0, 1.0, 3.0, 3.0]))

    assert integral_j(trace, 0.5, 2.5) == pytest.approx(4.0)


@given(
    power_w=st.floats(0.01, 1000),
    steps_s=st.lists(st.floats(0.05, 0.15), min_size=10, max_size=60),
    edges=st.tuples(st.floats(0.05, 0.45), st.floats(0.55, 0.95)),
)
def test_constant_power_integrates_to_power_times_time_whatever_the_reads(
    power_w: float, steps_s: list[float], edges: tuple[float, float]
) -> None:
    at_s = np.cumsum(steps_s)
    start_s, end_s = at_s[0] + np.array(edges) * (at_s[-1] - at_s[0])
    trace = shown(trace_of(at_s.tolist(), [power_w] * at_s.size))

    assert integral_j(trace, start_s, end_s) == pytest.approx(power_w * (end_s - start_s))


@given(
    power_w=st.lists(st.floats(0, 50), min_size=20, max_size=60),
    cuts=st.tuples(st.floats(0.05, 0.3), st.floats(0.35, 0.6), st.floats(0.65, 0.95)),
    averages=st.booleans(),
)
def test_joules_of_two_neighbouring_stretches_add_up(
    power_w: list[float], cuts: tuple[float, float, float], averages: bool
) -> None:
    trace = shown(trace_of([0.1 * k for k in range(len(power_w))], power_w, averages=averages))
    first, middle, last = (cut * 0.1 * (len(power_w) - 1) for cut in cuts)

    parts = integral_j(trace, first, middle) + integral_j(trace, middle, last)

    assert parts == pytest.approx(integral_j(trace, first, last))


@given(rate_w=st.floats(0.5, 50), begin=st.floats(0, 0.99), wraps_at_j=st.floats(50, 1000))
def test_a_counter_that_wraps_counts_on(rate_w: float, begin: float, wraps_at_j: float) -> None:
    at_s = [0.1 * k for k in range(100)]
    counted = [(begin * wraps_at_j + rate_w * t) % wraps_at_j for t in at_s]

    trace = shown(counter(at_s, counted, wraps_at_j))

    assert trace.resets_s == ()
    assert mean_power(trace, 0.5, 9.5).power_w == pytest.approx(rate_w, rel=1e-6)


@pytest.mark.parametrize(("before_j", "range_j"), [(100.0, 262_143.0), (100.0, None), (200_000.0, 262_143.0)])
def test_a_counter_that_begins_anew_refuses_windows_across_it_and_no_others(
    before_j: float, range_j: float | None
) -> None:
    at_s = [0.1 * k for k in range(200)]
    counted = [before_j + t if t < 10 else t - 10 for t in at_s]
    trace = shown(counter(at_s, counted, range_j))

    with pytest.raises(MeasurementError, match="reset"):
        mean_power(trace, 5.0, 15.0)
    assert mean_power(trace, 1.0, 9.0).power_w == pytest.approx(1.0)


def test_a_counter_that_stops_in_the_middle_of_a_window_is_refused() -> None:
    at_s = [0.1 * k for k in range(100)]
    trace = shown(counter(at_s, [min(t, 3.0) for t in at_s]))

    with pytest.raises(MeasurementError, match="stood still"):
        mean_power(trace, 0.0, 9.9)


@pytest.mark.parametrize("gone_s", [(4.0, 6.0), (8.0, 20.0), (-1.0, 2.0), (-1.0, 20.0)])
def test_a_window_that_the_trace_does_not_cover_is_refused(gone_s: tuple[float, float]) -> None:
    at_s = [0.1 * k for k in range(100) if not gone_s[0] < 0.1 * k < gone_s[1]] or [30.0, 30.1, 30.2, 30.3]
    trace = shown(trace_of([*at_s, 40.0], [5.0] * (len(at_s) + 1)))

    with pytest.raises(MeasurementError, match="hole"):
        mean_power(trace, 1.0, 9.0)


def test_reads_that_come_late_on_a_busy_board_cost_no_window() -> None:
    at_s = [0.025 * k for k in range(400) if not 4.0 < 0.025 * k < 4.4]
    trace = shown(trace_of(at_s, [5.0] * len(at_s), period_s=0.1))

    assert mean_power(trace, 0.5, 9.5).power_w == pytest.approx(5.0)


def test_a_window_in_which_a_read_failed_is_refused_with_what_the_read_said() -> None:
    trace = PowerTrace(
        trace_of([0.0, 1.0], [1.0, 1.0]).meter,
        tuple(0.1 * k for k in range(100)),
        ((5.0,) * 100,),
        failed_at_s=(4.03,),
        failure="OSError: No such device",
    )

    with pytest.raises(MeasurementError, match="No such device"):
        mean_power(shown(trace), 1.0, 9.0)


@pytest.mark.parametrize(
    ("trace", "said"),
    [
        (trace_of([], []), "0 reads"),
        (trace_of([0.0, 1.0, 0.5], [1.0, 1.0, 1.0]), "back in time"),
        (trace_of([0.0, 1.0, 2.0], [1.0, float("nan"), 1.0]), "no numbers"),
        (trace_of([0.0, 1.0, 2.0], [1.0, 1.0]), "do not fit"),
    ],
)
def test_a_trace_that_makes_no_sense_is_refused(trace: PowerTrace, said: str) -> None:
    with pytest.raises(MeasurementError, match=said):
        shown(trace)


def test_the_power_of_all_channels_is_added() -> None:
    meter = MeterInfo("ina3221", "hwmon", POWER, "module", ("cpu", "soc"))
    trace = PowerTrace(meter, tuple(0.1 * k for k in range(50)), ((2.0,) * 50, (1.5,) * 50))

    assert mean_power(shown(trace), 0.5, 4.5).power_w == pytest.approx(3.5)


@pytest.mark.parametrize("reads_per_value", [2, 4, 10])
@pytest.mark.parametrize("period_s", [0.1, 1.0])
def test_the_period_of_a_meter_that_does_not_tell_it_shows_in_its_changes(
    period_s: float, reads_per_value: int
) -> None:
    truth = Truth(period_s=period_s, reads_per_value=reads_per_value, busy_s=30, idle_s=30, step_w=0.1)
    recorded = simulated(truth, seed=1).trace
    assert recorded is not None
    untold = PowerTrace(MeterInfo("x", "hwmon", POWER, "module", ("total",)), recorded.at_s, recorded.values)

    assert shown(untold).period_s == pytest.approx(period_s, rel=0.15)


def test_a_meter_that_is_slower_than_it_says_is_found_out() -> None:
    at_s = np.arange(0, 120, 0.025)
    slow_w = np.random.default_rng(2).normal(5, 0.2, 121)[at_s.astype(int)]

    assert shown(trace_of(at_s.tolist(), slow_w.tolist(), period_s=0.1)).period_s == pytest.approx(1.0, abs=0.05)


def test_a_coarse_meter_is_not_taken_for_a_slow_one() -> None:
    recorded = simulated(Truth(noise_w=0.03, step_w=0.1), seed=3).trace
    assert recorded is not None

    assert shown(recorded).period_s == 0.1


@pytest.mark.parametrize("seed", range(5))
def test_repeats_of_a_coarse_meter_weigh_as_much_as_its_changes(seed: int) -> None:
    """Leaving out what was held at the edges would keep the exceptions only."""
    random = np.random.default_rng(seed)
    at_s = np.arange(0, 10, 0.1)
    values = np.full(at_s.size, 3.0)
    values[random.integers(30, 60)] = 3.5
    found = mean_power(shown(trace_of(at_s.tolist(), values.tolist(), period_s=0.1, resolution=0.5)), 0.5, 9.5)

    assert found.power_w == pytest.approx(3.0, abs=0.01)


def test_values_that_straddle_a_change_of_load_do_not_count() -> None:
    energy = simulated(Truth(noise_w=0.0, step_w=0.0, drift_w_per_s=0.0, period_s=1.0, busy_s=20, idle_s=10), seed=4)
    assert energy.trace is not None
    trace = shown(energy.trace)

    for window in energy.windows:
        expected_w = 6.0 if window.kind == "busy" else 3.0
        assert mean_power(trace, window.start_s, window.end_s).power_w == pytest.approx(expected_w, rel=1e-9)


def test_the_stated_error_of_a_mean_is_that_of_its_noise() -> None:
    truth = Truth(drift_w_per_s=0.0)
    off, stated = [], []
    for seed in range(100):
        energy = simulated(truth, seed)
        assert energy.trace is not None
        found = mean_power(shown(energy.trace), energy.windows[1].start_s, energy.windows[1].end_s)
        off.append(found.power_w - truth.busy_w)
        stated.append(found.error_w)

    assert np.mean(stated) == pytest.approx(np.sqrt(np.mean(np.square(off))), rel=0.25)
    assert abs(np.mean(off)) < 3 * np.mean(stated) / 10
