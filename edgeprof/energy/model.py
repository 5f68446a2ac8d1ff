"""The energy of one inference, from the windows of an energy pass."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from device_agents.wire import BUSY, IDLE, EnergyPass, EnergyWindow, MeterInfo
from edgeprof.energy.calibration import calibrated
from edgeprof.energy.evidence import against, against_rest, is_held_down
from edgeprof.energy.intervals import CONFIDENCE, median_interval
from edgeprof.energy.results import Discarded, Interval, ModelEnergy, ObserverEffect, WindowEnergy
from edgeprof.energy.stale import require_moving, stale
from edgeprof.energy.traces import Shown, Stretch, mean_power, shown
from edgeprof.errors import MeasurementError
from edgeprof.statistics import student_t

__all__ = ["model_energy"]

# MLPerf Tiny takes the median of five windows; fewer than three have no middle.
USUAL_WINDOWS, LEAST_WINDOWS = 5, 3
# Below so many new values in a window the number is marked.
FEW_UPDATES = 20
REPEAT = "look at the reasons, then measure again"


def model_energy(energy: EnergyPass) -> ModelEnergy:
    """Gross and net joules of an inference.

    Raises:
        MeasurementError: the trace is missing or unusable, or too few windows count; the message has the reasons.
    """
    if energy.trace is None:
        raise MeasurementError("the meter's trace has not been attached", "edgeprof runs attach RUN TRACE.csv")
    meter = energy.trace.meter
    raw = shown(energy.trace)
    require_moving(raw, meter.name)
    reasons = _reasons(energy.windows, raw, meter)
    trace, calibration = _calibrated(energy.windows, reasons, raw, meter)
    fast, slow, discarded = _measured(energy.windows, reasons, trace)
    if len(fast) < LEAST_WINDOWS:
        why = "; ".join(dict.fromkeys(one.reason for one in discarded)) or "there were no more"
        what = f"{len(fast)} windows count, at least {LEAST_WINDOWS} must: {why}"
        raise MeasurementError(what, REPEAT)
    shared_s = energy.trace.offset_error_s or 0.0
    gross = _interval(fast, [one.gross_j for one in fast], [one.power_error_w for one in fast], shared_s, levels=1)
    rest_errors_w = [_shared_rest(fast) * one.idle_error_w for one in fast]
    net_errors_w = [math.hypot(one.power_error_w, rest_w) for one, rest_w in zip(fast, rest_errors_w, strict=True)]
    net = _interval(fast, [one.net_j for one in fast], net_errors_w, shared_s, levels=2)
    if net.high <= 0:
        raise MeasurementError("the meter shows less power under load than at rest", "is it the meter of this device?")
    latencies = [one.duration_s / one.n_runs for one in fast]
    step_w = float(np.median([one.step_error_w for one in fast]))
    return ModelEnergy(
        meter=meter,
        gross_j=gross,
        net_j=net,
        power_w=median_interval([one.power_w for one in fast], [one.power_error_w for one in fast], step_w),
        idle_w=median_interval([one.idle_w for one in fast], rest_errors_w, step_w),
        latency_s=median_interval(latencies, [0.0] * len(latencies)),
        windows=tuple(fast),
        discarded=tuple(discarded),
        observer=_observer(fast, slow, energy),
        calibration=calibration,
        notes=tuple(_notes(fast, net, energy)),
    )


def _interval(
    windows: Sequence[WindowEnergy],
    joules: Sequence[float],
    errors_w: Sequence[float],
    offset_error_s: float,
    levels: int,
) -> Interval:
    """`levels` of power were rounded to the meter's step: that of the load, and for net that of rest."""
    errors = [error_w * one.duration_s / one.n_runs for one, error_w in zip(windows, errors_w, strict=True)]
    # A window shifted by the error of the clocks takes in so much rest instead of load.
    shifted = [abs(one.power_w - one.idle_w) * offset_error_s / one.n_runs for one in windows]
    stepped = [math.sqrt(levels) * one.step_error_w * one.duration_s / one.n_runs for one in windows]
    return median_interval(joules, errors, math.hypot(float(np.median(shifted)), float(np.median(stepped))))


# --- windows ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rest:
    """Power at rest in the middle of an idle window."""

    middle_s: float
    stretch: Stretch


def _reasons(windows: Sequence[EnergyWindow], trace: Shown, meter: MeterInfo) -> dict[int, str]:
    """Why windows do not count, by index: their own reasons, and for those under load also those of the rest beside."""
    busy = [window for window in windows if window.kind == BUSY and not is_held_down(window)]
    frozen = stale(trace, windows)
    own: dict[int, list[str]] = {}
    for k, window in enumerate(windows):
        if window.kind in (BUSY, IDLE):
            is_busy = window.kind == BUSY
            seen = (
                against(window, busy, on_charge=meter.on_charge)
                if is_busy
                else against_rest(window, on_charge=meter.on_charge)
            )
            own[k] = [*seen, *([frozen[k]] if k in frozen else [])]
    found = {}
    for k, reasons in own.items():
        beside = [reason for n in (k - 1, k + 1) for reason in own.get(n, ())] if windows[k].kind == BUSY else []
        words = [*reasons, *(f"in the rest beside it {reason}" for reason in beside if reason not in reasons)]
        if words:
            found[k] = "; ".join(dict.fromkeys(words))
    return found


def _measured(
    windows: Sequence[EnergyWindow], reasons: dict[int, str], trace: Shown
) -> tuple[list[WindowEnergy], list[WindowEnergy], list[Discarded]]:
    """Windows that count at the usual rate, those at the lower one, and those that do not count."""
    usual_hz = max((window.rate_hz for window in windows if window.rate_hz is not None), default=None)
    fast: list[WindowEnergy] = []
    slow: list[WindowEnergy] = []
    discarded: list[Discarded] = []
    for k, window in enumerate(windows):
        if window.kind != BUSY:
            continue
        if k in reasons:
            discarded.append(Discarded(window=k, reason=reasons[k]))
            continue
        try:
            (fast if window.rate_hz == usual_hz else slow).append(_window(windows, k, trace))
        except MeasurementError as error:
            discarded.append(Discarded(window=k, reason=str(error)))
    return fast, slow, discarded


def _window(windows: Sequence[EnergyWindow], k: int, trace: Shown) -> WindowEnergy:
    window = windows[k]
    if window.n_runs < 1:
        raise MeasurementError("no inference ended in it", REPEAT)
    stretch = mean_power(trace, window.start_s, window.end_s)
    middle_s = (window.start_s + window.end_s) / 2
    before, after = _rest(windows[k - 1 : k], trace), _rest(windows[k + 1 : k + 2], trace)
    share = (middle_s - before.middle_s) / (after.middle_s - before.middle_s)
    return WindowEnergy(
        window=k,
        duration_s=window.end_s - window.start_s,
        n_runs=window.n_runs,
        n_updates=stretch.n_updates,
        power_w=stretch.power_w,
        idle_w=(1 - share) * before.stretch.power_w + share * after.stretch.power_w,
        power_error_w=stretch.error_w,
        idle_error_w=math.hypot((1 - share) * before.stretch.error_w, share * after.stretch.error_w),
        step_error_w=max(one.rounding_w for one in (stretch, before.stretch, after.stretch)),
    )


def _shared_rest(windows: Sequence[WindowEnergy]) -> float:
    """By how much errors of rest count more than windows' own: two neighbours have the rest between them in common.

    Standard error of the mean over the windows, over what it would be if each had two rests of its own.
    """
    uses = Counter(k for one in windows for k in (one.window - 1, one.window + 1))
    return math.sqrt(sum(n**2 for n in uses.values()) / sum(uses.values()))


def _rest(windows: Sequence[EnergyWindow], trace: Shown) -> _Rest:
    if not windows or windows[0].kind != IDLE:
        raise MeasurementError("it does not lie between two windows of rest", REPEAT)
    window = windows[0]
    try:
        stretch = mean_power(trace, window.start_s, window.end_s)
    except MeasurementError as error:
        raise MeasurementError(f"in the rest beside it {error}", error.advice) from error
    return _Rest((window.start_s + window.end_s) / 2, stretch)


def _calibrated(
    windows: Sequence[EnergyWindow], reasons: dict[int, str], trace: Shown, meter: MeterInfo
) -> tuple[Shown, str | None]:
    """With sign and unit that the load shows in the windows that count; on a charger it may show the opposite."""
    means: dict[str, list[float]] = {BUSY: [], IDLE: []}
    for k, window in enumerate(windows):
        inside = (trace.at_s > window.start_s + trace.period_s) & (trace.at_s <= window.end_s)
        if window.kind in means and k not in reasons and np.any(inside):
            means[window.kind].append(float(trace.values[inside].mean()))
    if not (means[BUSY] and means[IDLE]):
        return trace, None
    return calibrated(trace, meter.source, float(np.median(means[BUSY])), float(np.median(means[IDLE])))


# --- doubts -------------------------------------------------------------------------------------------------------


def _observer(fast: Sequence[WindowEnergy], slow: Sequence[WindowEnergy], energy: EnergyPass) -> ObserverEffect | None:
    rates = sorted({window.rate_hz for window in energy.windows if window.rate_hz is not None})
    if len(rates) < 2:
        return None
    return ObserverEffect(
        fast_hz=rates[-1],
        slow_hz=rates[0],
        latency_ratio=_ratio([w.duration_s / w.n_runs for w in fast], [w.duration_s / w.n_runs for w in slow]),
        power_ratio=_ratio([w.power_w - w.idle_w for w in fast], [w.power_w - w.idle_w for w in slow]),
    )


def _ratio(fast: Sequence[float], slow: Sequence[float]) -> Interval | None:
    """Of the means; both scatter alike, and the scatter of all tells how much."""
    if len(fast) < 2 or len(slow) < 2 or min(*fast, *slow) <= 0:
        return None
    one, other = np.log(fast), np.log(slow)
    degrees = one.size + other.size - 2
    pooled = float((one.var(ddof=1) * (one.size - 1) + other.var(ddof=1) * (other.size - 1)) / degrees)
    middle = float(one.mean() - other.mean())
    half = student_t(CONFIDENCE, degrees) * math.sqrt(pooled * (1 / one.size + 1 / other.size))
    return Interval(
        value=math.exp(middle), low=math.exp(middle - half), high=math.exp(middle + half), confidence=CONFIDENCE
    )


def _notes(windows: Sequence[WindowEnergy], net: Interval, energy: EnergyPass) -> Iterator[str]:
    if len(windows) < USUAL_WINDOWS:
        yield f"only {len(windows)} windows count (usually {USUAL_WINDOWS})"
    fewest = min(one.n_updates for one in windows)
    if fewest < FEW_UPDATES:
        yield f"a window has only {fewest} new values of the meter: longer ones would say more (--energy-window)"
    if net.low <= 0:
        yield "what the load adds cannot be told from the meter's noise: only the sum with rest means something"
    if not energy.gate.passed:
        yield "measuring began although the device was not quiet and cool: " + "; ".join(energy.gate.reasons)
    if energy.trace is not None and energy.trace.alignment:
        yield f"the trace is of another clock, brought to the device's {energy.trace.alignment}"
