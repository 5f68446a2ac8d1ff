"""Energy passes made of a known truth by a simulated meter: seeded, and no machine behind them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from device_agents.wire import (
    BUSY,
    ENERGY,
    IDLE,
    POWER,
    ClockReading,
    Conditions,
    EnergyPass,
    EnergyWindow,
    GateOutcome,
    MeterInfo,
    PowerTrace,
)

METER = MeterInfo("hwmon:test", "hwmon", POWER, "module", ("total",), period_s=0.1, resolution=0.02, averages=True)


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What is measured and by what; `latency_s` is that of one inference."""

    idle_w: float = 3.0
    busy_w: float = 6.0
    latency_s: float = 0.01
    noise_w: float = 0.15
    step_w: float = 0.02
    drift_w_per_s: float = 0.1 / 60
    period_s: float = 0.1
    reads_per_value: int = 4
    busy_s: float = 10.0
    idle_s: float = 5.0
    windows: int = 5

    @property
    def net_j(self) -> float:
        return (self.busy_w - self.idle_w) * self.latency_s


def looked(at_s: float, power_source: str | None = None, **changes: object) -> Conditions:
    return Conditions(at_s=at_s, power_source=power_source, **changes)  # type: ignore[arg-type]


def windows_of(truth: Truth) -> tuple[EnergyWindow, ...]:
    """Idle, busy, idle, ... idle, without gaps, from second 1 on."""
    found, at_s = [], 1.0
    for kind in [IDLE, *[BUSY, IDLE] * truth.windows]:
        end_s = at_s + (truth.idle_s if kind == IDLE else truth.busy_s)
        n_runs = round(truth.busy_s / truth.latency_s) if kind == BUSY else 0
        rate_hz = truth.reads_per_value / truth.period_s
        found.append(EnergyWindow(kind, at_s, end_s, looked(at_s), looked(end_s), n_runs, rate_hz))
        at_s = end_s
    return tuple(found)


def simulated(truth: Truth, seed: int, meter: MeterInfo = METER) -> EnergyPass:
    """A meter that averages over its period, with noise, drift and steps; read more often than it has new values."""
    random = np.random.default_rng(seed)
    windows = windows_of(truth)
    end_s = windows[-1].end_s + 1.0
    updates_s = np.arange(random.uniform(0, truth.period_s), end_s, truth.period_s)
    # The energy at every moment: its differences are exactly what a meter that averages shows.
    corners_s = np.array([0.0, *[window.start_s for window in windows], windows[-1].end_s, end_s])
    powers_w = np.array(
        [truth.idle_w, *[truth.busy_w if window.kind == BUSY else truth.idle_w for window in windows], truth.idle_w]
    )
    energy_j = np.interp(updates_s, corners_s, np.concatenate([[0.0], np.cumsum(powers_w * np.diff(corners_s))]))
    shown_w = np.diff(energy_j) / truth.period_s
    shown_w = shown_w + random.normal(0, truth.noise_w, shown_w.size) + truth.drift_w_per_s * updates_s[1:]
    if truth.step_w:
        shown_w = np.round(shown_w / truth.step_w) * truth.step_w
    reads_s = np.arange(updates_s[1], end_s, truth.period_s / truth.reads_per_value)
    values = shown_w[np.searchsorted(updates_s[1:], reads_s, side="right") - 1]
    stated = replace(meter, period_s=truth.period_s, resolution=truth.step_w or None)
    return passed(windows, PowerTrace(stated, tuple(reads_s.tolist()), (tuple(values.tolist()),)))


def passed(windows: tuple[EnergyWindow, ...], trace: PowerTrace | None) -> EnergyPass:
    return EnergyPass(
        trace=trace,
        windows=windows,
        gate=GateOutcome(passed=True, waited_s=0.0),
        began=ClockReading(0.0),
        ended=ClockReading(windows[-1].end_s),
        runtime_version="1",
        in_force={},
        input_digest="",
    )


def counter(at_s: list[float], values_j: list[float], wraps_at_j: float | None = None) -> PowerTrace:
    meter = MeterInfo(
        "rapl:test", "powercap", ENERGY, "core", ("package",), period_s=0.001, resolution=6.1e-5, wraps_at_j=wraps_at_j
    )
    return PowerTrace(meter, tuple(at_s), (tuple(values_j),))


def with_values(energy: EnergyPass, values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> EnergyPass:
    assert energy.trace is not None
    return replace(energy, trace=replace(energy.trace, values=(tuple(values.tolist()),)))


def times(energy: EnergyPass) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    assert energy.trace is not None
    return np.asarray(energy.trace.at_s)


def values(energy: EnergyPass) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    assert energy.trace is not None
    return np.asarray(energy.trace.values[0])
