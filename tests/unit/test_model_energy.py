"""Joules of an inference from an energy pass: intervals that hold, and refusals that say why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from device_agents.wire import BATTERY, BUSY, IDLE, Clocks, EnergyPass, EnergyWindow, MeterInfo
from edgeprof.energy import comparable, model_energy
from edgeprof.energy.intervals import error_of, median_interval
from edgeprof.errors import MeasurementError
from tests.unit.energy_cases import METER, Truth, looked, simulated, times, values, with_values

PHONE = MeterInfo("battery", "battery", "power", BATTERY, ("battery",), averages=True, on_charge=True)


def changed(energy: EnergyPass, which: set[int], change: Callable[[EnergyWindow], EnergyWindow]) -> EnergyPass:
    return replace(energy, windows=tuple(change(w) if k in which else w for k, w in enumerate(energy.windows)))


def seen(**after: object) -> Callable[[EnergyWindow], EnergyWindow]:
    """What a look after the window shows."""
    return lambda window: replace(window, after=replace(window.after, **after))  # type: ignore[arg-type]


def quiet(window: EnergyWindow) -> EnergyWindow:
    """A first look at which nothing was wrong."""
    return replace(window, before=replace(window.before, throttled=0, pressure_s={"cpu": 0.0}))


def held(n_trials: int, trial: Callable[[int], EnergyPass], truth_j: float) -> float:
    """The share of trials whose interval holds the truth."""
    found = [model_energy(trial(seed)).net_j for seed in range(n_trials)]
    return float(np.mean([one.low <= truth_j <= one.high for one in found]))


# --- numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("period_s", "busy_s", "idle_s"), [(0.1, 10.0, 5.0), (1.0, 20.0, 10.0)])
def test_nine_of_ten_intervals_hold_the_truth(period_s: float, busy_s: float, idle_s: float) -> None:
    truth = Truth(period_s=period_s, busy_s=busy_s, idle_s=idle_s)

    assert 0.85 <= held(300, lambda seed: simulated(truth, 10_000 + seed), truth.net_j) <= 0.97


def test_intervals_hold_when_windows_scatter_by_more_than_the_meter_explains() -> None:
    truth = Truth(drift_w_per_s=0.0)

    def restless(seed: int) -> EnergyPass:
        energy = simulated(truth, seed)
        random, shown_w, at_s = np.random.default_rng(seed), values(energy), times(energy)
        for window in energy.windows:
            if window.kind == BUSY:
                shown_w[(at_s >= window.start_s) & (at_s < window.end_s)] += random.normal(0, 0.3)
        return with_values(energy, shown_w)

    assert 0.83 <= held(300, restless, truth.net_j) <= 0.97


def test_intervals_of_a_meter_without_noise_are_as_wide_as_its_step() -> None:
    random = np.random.default_rng(5)

    def held_by(seed: int) -> bool:
        truth = Truth(noise_w=0.0, step_w=0.5, drift_w_per_s=0.0, busy_w=random.uniform(5, 8))
        found = model_energy(simulated(truth, seed)).net_j
        return found.low <= truth.net_j <= found.high

    assert np.mean([held_by(seed) for seed in range(200)]) >= 0.8


def test_rest_that_drifts_is_interpolated() -> None:
    truth = Truth(drift_w_per_s=1.0 / 60, noise_w=0.01, step_w=0.0)

    found = model_energy(simulated(truth, 1))

    assert found.net_j.value == pytest.approx(truth.net_j, rel=0.003)


def test_gross_is_net_and_the_rest_for_as_long() -> None:
    found = model_energy(simulated(Truth(drift_w_per_s=0.0), 2))

    rest_j = found.idle_w.value * found.latency_s.value
    assert found.gross_j.value == pytest.approx(found.net_j.value + rest_j, rel=0.01)
    assert found.latency_s.value == pytest.approx(0.01)
    assert found.notes == ()


def test_one_odd_window_makes_the_interval_wide_and_leaves_the_median() -> None:
    assert median_interval([1.0, 1.0, 1.01, 0.99, 5.0], [0.01] * 5).value == 1.0
    assert median_interval([1.0, 1.0, 1.01, 0.99, 5.0], [0.01] * 5).high > 3


@pytest.mark.parametrize("n", [3, 5, 7, 9])
def test_the_median_of_an_odd_number_has_the_variance_that_is_used(n: int) -> None:
    medians = np.median(np.random.default_rng(n).normal(size=(200_000, n)), axis=1)
    interval = median_interval([0.0] * n, [1.0] * n)

    assert error_of(interval) == pytest.approx(medians.std(), rel=0.01)


def test_the_observer_effect_compares_fast_and_slow_windows() -> None:
    energy = simulated(Truth(windows=7, drift_w_per_s=0.0), 3)
    slow = {3, 11}
    energy = changed(energy, slow, lambda w: replace(w, rate_hz=10.0, n_runs=round(w.n_runs * 1.02)))

    observer = model_energy(energy).observer

    assert observer is not None
    assert observer.latency_ratio is not None
    assert observer.power_ratio is not None
    assert observer.latency_ratio.value == pytest.approx(1.02)
    assert observer.power_ratio.low < 1 < observer.power_ratio.high


# --- evidence -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (seen(throttled=0x1), "under-voltage"),
        (seen(throttled=0x4), "throttled"),
        (seen(pressure_s={"cpu": 0.9}), "waited for a CPU"),
        (seen(power_source="Mains online"), "what feeds the device changed"),
        (lambda w: replace(w, n_runs=0), "no inference"),
    ],
)
@pytest.mark.parametrize("n_bad", [1, 3])
def test_a_bad_window_is_discarded_and_counted_and_too_many_leave_no_number(
    change: Callable[[EnergyWindow], EnergyWindow], said: str, n_bad: int
) -> None:
    energy = simulated(Truth(), 4)
    bad = {1, 3, 5} if n_bad == 3 else {3}
    energy = changed(energy, bad, lambda window: change(quiet(window)))

    if n_bad == 3:
        with pytest.raises(MeasurementError, match=f"2 windows count.*{said}"):
            model_energy(energy)
        return
    found = model_energy(energy)
    assert [one.window for one in found.discarded] == [3]
    assert said in found.discarded[0].reason
    assert "only 4 windows count" in found.notes[0]


def test_a_window_at_another_clock_than_the_others_is_discarded() -> None:
    def clocked(k: int, window: EnergyWindow) -> EnergyWindow:
        spent = {"1000000000": 10.0, "2000000000": 0.0} if k == 5 else {"1000000000": 0.0, "2000000000": 10.0}
        clock = Clocks("0-3", "ondemand", 2e9, 1e9, 2e9, 2e9, {})
        before = replace(clock, time_in_state_s=dict.fromkeys(spent, 0.0))
        return replace(
            window,
            before=replace(window.before, clocks=(before,)),
            after=replace(window.after, clocks=(replace(clock, time_in_state_s=spent),)),
        )

    energy = simulated(Truth(), 5)
    energy = replace(
        energy, windows=tuple(clocked(k, w) if w.kind == BUSY else w for k, w in enumerate(energy.windows))
    )

    (discarded,) = model_energy(energy).discarded

    assert discarded.window == 5
    assert "-50% off the clock" in discarded.reason


def test_work_of_others_in_a_window_of_rest_counts_against_both_its_neighbours() -> None:
    energy = changed(
        simulated(Truth(), 6), {4}, lambda w: replace(w, before=looked(w.start_s, pressure_s={"cpu": 0.0}))
    )
    energy = changed(energy, {4}, seen(pressure_s={"cpu": 2.0}))

    found = model_energy(energy)

    assert [one.window for one in found.discarded] == [3, 5]
    assert all("in the rest beside it" in one.reason for one in found.discarded)


def test_a_meter_that_is_unplugged_in_the_middle_leaves_what_was_measured_before() -> None:
    energy = simulated(Truth(windows=7), 7)
    assert energy.trace is not None
    gone = times(energy) < energy.windows[9].start_s + 2
    at_s, shown_w = times(energy)[gone], values(energy)[gone]
    cut = replace(energy.trace, at_s=tuple(at_s.tolist()), values=(tuple(shown_w.tolist()),), failure="OSError: gone")

    found = model_energy(replace(energy, trace=cut))

    assert len(found.windows) == 4
    assert all("OSError: gone" in one.reason for one in found.discarded)


def test_a_coarse_meter_that_is_unplugged_was_not_frozen_before() -> None:
    energy = simulated(Truth(windows=7, noise_w=0.01, step_w=0.1, drift_w_per_s=0.0, busy_w=6.04), 12)
    assert energy.trace is not None
    gone = times(energy) < energy.windows[7].start_s + 2
    at_s, shown_w = times(energy)[gone], values(energy)[gone]
    cut = replace(energy.trace, at_s=tuple(at_s.tolist()), values=(tuple(shown_w.tolist()),), failure="OSError: gone")

    found = model_energy(replace(energy, trace=cut))

    assert [one.window for one in found.windows] == [1, 3, 5]
    assert not any("frozen" in one.reason for one in found.discarded)


def test_a_meter_that_freezes_in_the_middle_is_found_out() -> None:
    energy = simulated(Truth(windows=7), 8)
    shown_w, since = values(energy), times(energy) > energy.windows[11].start_s + 2
    shown_w[since] = shown_w[since][0]

    found = model_energy(with_values(energy, shown_w))

    assert [one.window for one in found.discarded] == [11, 13]
    assert "frozen" in found.discarded[0].reason


def test_a_meter_that_shows_one_value_only_is_called_frozen() -> None:
    energy = simulated(Truth(), 9)

    with pytest.raises(MeasurementError, match="it is frozen"):
        model_energy(with_values(energy, np.full(values(energy).size, 3.0)))


def test_a_coarse_meter_that_holds_its_values_is_not_called_frozen() -> None:
    found = model_energy(simulated(Truth(noise_w=0.01, step_w=0.1, drift_w_per_s=0.0, busy_w=6.04), 10))

    assert found.discarded == ()
    assert found.net_j.low <= 0.0304 <= found.net_j.high


def test_less_power_under_load_than_at_rest_is_refused() -> None:
    with pytest.raises(MeasurementError, match="less power under load than at rest"):
        model_energy(simulated(Truth(busy_w=2.0), 11))


def test_a_load_that_is_lost_in_the_noise_is_said() -> None:
    notes = model_energy(simulated(Truth(busy_w=3.0), 14)).notes

    assert any("cannot be told from the meter's noise" in note for note in notes)


def test_few_new_values_in_a_window_are_said() -> None:
    notes = model_energy(simulated(Truth(period_s=1.0), 13)).notes

    assert any("new values of the meter" in note for note in notes)


def test_a_pass_whose_trace_is_still_to_come_says_how_to_attach_it() -> None:
    with pytest.raises(MeasurementError, match="not been attached"):
        model_energy(replace(simulated(Truth(), 1), trace=None))


# --- batteries ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "said"), [(-1.0, "sign was turned"), (1e-3, "mA for uA"), (-1e-3, "mA for uA")])
def test_a_battery_with_the_other_sign_or_a_thousandth_is_set_right_and_said(factor: float, said: str) -> None:
    energy = simulated(Truth(), 14, PHONE)
    right = model_energy(energy)

    found = model_energy(with_values(energy, factor * values(energy)))

    assert right.calibration is None
    assert found.calibration is not None
    assert said in found.calibration
    assert found.net_j.value == pytest.approx(right.net_j.value)


def test_other_meters_are_never_set_right() -> None:
    energy = simulated(Truth(), 15)

    assert model_energy(with_values(energy, 1e-3 * values(energy))).calibration is None


def test_a_charger_that_comes_in_mid_run_costs_the_windows_and_does_not_turn_the_sign() -> None:
    truth = Truth(windows=7)
    energy = simulated(truth, 16, PHONE)
    charged = range(7, len(energy.windows))
    shown_w = values(energy)
    since = times(energy) > energy.windows[7].start_s
    shown_w[since] = -shown_w[since]
    energy = changed(energy, set(charged), seen(power_source="battery Charging at 60 %, USB online"))

    found = model_energy(with_values(energy, shown_w))

    assert found.calibration is None
    assert found.net_j.low <= truth.net_j <= found.net_j.high
    assert len(found.windows) == 3
    assert all("charger" in one.reason for one in found.discarded)


# --- boundaries ---------------------------------------------------------------------------------------------------


def test_energies_of_different_boundaries_are_not_compared() -> None:
    wall = replace(METER, name="plug", boundary="wall")
    short = replace(METER, not_covered=("USB",))

    assert comparable(METER, replace(METER, name="hwmon:other")) is None
    assert "module" in str(comparable(METER, wall))
    assert "wall" in str(comparable(METER, wall))
    assert "USB" in str(comparable(METER, short))


def test_a_boundary_that_nobody_stated_is_comparable_with_itself_alone() -> None:
    unstated = replace(METER, boundary="unstated")

    assert comparable(unstated, unstated) is None
    assert "nobody says" in str(comparable(unstated, replace(unstated, name="hwmon:other")))


def test_windows_of_the_generator_are_as_an_agent_makes_them() -> None:
    kinds = [window.kind for window in simulated(Truth(), 1).windows]

    assert kinds == [IDLE, *[BUSY, IDLE] * 5]
