"""Power traces as arrays: what a meter showed, when it had something new, and what that says about a stretch of time.

A meter shows each of its values until it has the next one. Reads see a new value up to one read later than it came; so
a change lies between two reads. Values that stay the same may be new ones that are equal: time, not counting, weighs
them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_agents.wire import ENERGY, PowerTrace
from edgeprof.errors import MeasurementError

__all__ = ["Shown", "Stretch", "integral_j", "mean_power", "shown"]

Array = NDArray[np.float64]
# From its first step to its last a counter must tell of this share of a window.
COUNTED_SHARE = 0.5
# A hole in the reads of a window is not covered if it is longer than so many of the usual spaces between them, than so
# many of the meter's periods, and than a lateness: half a second, or this share of a short window. On a busy board one
# read in a hundred came 0.15 to 0.2 s apart (measured, two cores); under a steady load that tells no less.
HOLE_READS, HOLE_PERIODS, LATE_S, LATE_SHARE = 5, 3, 0.5, 0.1
# A counter that falls by less than this share of its range has not wrapped: it was reset. Nor has one that would have
# counted so many times faster across its fall than ever else.
WRAP_SHARE, WRAP_RATE = 0.5, 10
# What the changes of a trace say about its period: so many of them, and this much rarer than the meter says.
MANY_CHANGES, RARER = 50, 1.5
ATTACH = "sample the meter through the whole pass"


@dataclass(frozen=True)
class Shown:
    """What a meter showed: `values` (W, or J since the first read) at `at_s`; wraps are removed.

    `period_s` is how often it has a new value, as it says or as its changes show. `resets_s` are the moments at which
    an energy counter began anew. `spacing_s` is the usual time between two reads.
    """

    is_counter: bool
    averages: bool
    at_s: Array
    values: Array
    period_s: float
    spacing_s: float
    resolution: float
    failed_at_s: Array
    failure: str | None
    resets_s: tuple[float, ...] = ()


@dataclass(frozen=True)
class Stretch:
    """The mean power of a stretch and how many new values the meter had in it; `n_effective` of them are independent.

    `error_w` is the standard uncertainty from noise, which more values make smaller, `rounding_w` that from the step,
    which they do not where the noise is too small to reach the next step.
    """

    power_w: float
    error_w: float
    n_updates: int
    n_effective: float
    rounding_w: float = 0.0


def shown(trace: PowerTrace) -> Shown:
    """The total of all channels.

    Raises:
        MeasurementError: there is nothing in the trace, or its times do not go forward.
    """
    at_s = np.asarray(trace.at_s, dtype=float)
    columns = np.asarray(trace.values, dtype=float)
    if at_s.size < 2 or columns.shape != (len(trace.meter.channels), at_s.size):
        what = f"it has {at_s.size} reads" if at_s.size < 2 else "its channels and its reads do not fit together"
        said = f" ({trace.failure})" if trace.failure else ""
        raise MeasurementError(f"the trace of {trace.meter.name} cannot be used: {what}{said}", ATTACH)
    if not (np.all(np.isfinite(at_s)) and np.all(np.isfinite(columns))):
        raise MeasurementError(f"the trace of {trace.meter.name} has values that are no numbers", ATTACH)
    if np.any(np.diff(at_s) <= 0):
        raise MeasurementError(f"the trace of {trace.meter.name} goes back in time", "give it in the order of time")
    is_counter = trace.meter.kind == ENERGY
    resets: tuple[float, ...] = ()
    if is_counter:
        columns, resets = _unwrapped(columns, at_s, trace.meter.wraps_at_j)
    values = columns.sum(axis=0)
    spacing_s = float(np.median(np.diff(at_s)))
    n_channels = len(trace.meter.channels)
    return Shown(
        is_counter=is_counter,
        averages=trace.meter.averages,
        at_s=at_s,
        values=values,
        period_s=_period_s(at_s, columns, spacing_s, trace.meter.period_s),
        spacing_s=spacing_s,
        resolution=(trace.meter.resolution or 0.0) * math.sqrt(n_channels),
        failed_at_s=np.asarray(trace.failed_at_s, dtype=float),
        failure=trace.failure,
        resets_s=resets,
    )


def _unwrapped(counters: Array, at_s: Array, wraps_at_j: float | None) -> tuple[Array, tuple[float, ...]]:
    """Counters from 0 without falls, and when they were reset."""
    found, resets = np.empty_like(counters), []
    took_s = np.diff(at_s)
    for k, counter in enumerate(counters):
        steps = np.diff(counter)
        fastest_w = float((steps[steps > 0] / took_s[steps > 0]).max(initial=0.0))
        for at in np.flatnonzero(steps < 0):
            if wraps_at_j is not None and _has_wrapped(steps[at], took_s[at], wraps_at_j, fastest_w):
                steps[at] += wraps_at_j
            else:
                steps[at] = 0.0
                resets.append(float(at_s[at + 1]))
        found[k] = np.concatenate([[0.0], np.cumsum(steps)])
    return found, tuple(sorted(set(resets)))


def _has_wrapped(fall_j: float, took_s: float, wraps_at_j: float, fastest_w: float) -> bool:
    """Whether a fall leaves a step that the counter could have made; otherwise it began anew."""
    power_w = (fall_j + wraps_at_j) / took_s
    return -fall_j > WRAP_SHARE * wraps_at_j and power_w >= 0 and (fastest_w == 0 or power_w <= WRAP_RATE * fastest_w)


def _period_s(at_s: Array, columns: Array, spacing_s: float, stated_s: float | None) -> float:
    """As the meter says, unless its values change clearly more rarely; never less than the time between reads.

    New values may be equal to the old: a coarse meter changes rarely, but not regularly, and is no slow one.
    """
    gaps_s = np.diff(at_s[1:][np.any(np.diff(columns, axis=1) != 0, axis=0)])
    if stated_s is None:
        # Gaps of two or more periods are repeats.
        single_s = gaps_s[gaps_s <= RARER * np.quantile(gaps_s, 0.1)] if gaps_s.size > 2 else gaps_s[:0]
        return max(spacing_s, float(single_s.mean())) if single_s.size else spacing_s
    if gaps_s.size >= MANY_CHANGES:
        few_s, usual_s, many_s = np.quantile(gaps_s, [0.1, 0.5, 0.9])
        if usual_s > RARER * max(stated_s, spacing_s) and many_s - few_s <= 2 * spacing_s:
            return float(usual_s)
    return max(stated_s, spacing_s)


def integral_j(trace: Shown, start_s: float, end_s: float) -> float:
    """Joules between two moments: of a counter the difference, else the trapezoid rule, interpolated at the edges.

    Raises:
        MeasurementError: the trace does not cover it.
    """
    _require_covered(trace, start_s, end_s)
    if trace.is_counter:
        first, last = np.interp([start_s, end_s], trace.at_s, trace.values)
        return float(last - first)
    # A value that is the mean over the period before it belongs to the middle of that period.
    at_s = trace.at_s - (trace.period_s / 2 if trace.averages else 0.0)
    inside = (at_s > start_s) & (at_s < end_s)
    times = np.concatenate([[start_s], at_s[inside], [end_s]])
    watts = np.concatenate(
        [[np.interp(start_s, at_s, trace.values)], trace.values[inside], [np.interp(end_s, at_s, trace.values)]]
    )
    return float(np.sum((watts[1:] + watts[:-1]) / 2 * np.diff(times)))


def mean_power(trace: Shown, start_s: float, end_s: float) -> Stretch:
    """The mean power of a stretch in which the load is steady, from those new values alone that lie wholly inside.

    Raises:
        MeasurementError: the trace does not cover it, or has fewer than two new values in it.
    """
    spacing_s = _require_covered(trace, start_s, end_s)
    # A value seen at a read came after the read before it, and shows a period that ended then.
    lag_s = trace.period_s + spacing_s if trace.averages and not trace.is_counter else 0.0
    inside = np.flatnonzero((trace.at_s > start_s + lag_s) & (trace.at_s <= end_s))
    if inside.size < 3:
        raise MeasurementError(
            f"the meter has {inside.size} reads in {end_s - start_s:.3g} s, of which each shows {trace.period_s:.3g} s",
            "ask for longer windows: --energy-window",
        )
    at_s, values = trace.at_s[inside], trace.values[inside]
    changes = np.flatnonzero(np.diff(values) != 0) + 1
    if trace.is_counter:
        return _of_counter(trace, at_s, values, changes, spacing_s)
    # Whole values only, each weighed by how long it was shown. Where none changed near an edge it was a repeat that is
    # as good as any: to leave it out would favour those that differ.
    edge_s = trace.period_s + spacing_s
    first, last = (changes[0], changes[-1]) if changes.size else (0, at_s.size - 1)
    first = first if at_s[first] - at_s[0] <= edge_s else 0
    last = last if at_s[-1] - at_s[last] <= edge_s and last > first else at_s.size - 1
    return _noisy_mean(trace, at_s[first : last + 1], values[first : last + 1], max(trace.period_s, spacing_s))


def _noisy_mean(trace: Shown, at_s: Array, values: Array, period_s: float) -> Stretch:
    """With the uncertainty of the mean of the values that came, corrected for what neighbours have in common."""
    mean_w = float(np.average(values[:-1], weights=np.diff(at_s)))
    n_values = max(1, round((at_s[-1] - at_s[0]) / period_s))
    moments = at_s[0] + (np.arange(n_values) + 0.5) * (at_s[-1] - at_s[0]) / n_values
    each = values[np.searchsorted(at_s, moments, side="right") - 1]
    spread = float(each.std(ddof=1)) if n_values > 1 else 0.0
    n_effective = max(1.0, n_values * _independence(each))
    # Rounding is drowned in noise larger than a step; without noise every value is wrong by the same.
    rounding_w = trace.resolution / math.sqrt(12) if spread < trace.resolution / 2 else 0.0
    return Stretch(mean_w, spread / math.sqrt(n_effective), n_values, n_effective, rounding_w)


def _independence(values: Array) -> float:
    """(1 - r) / (1 + r) with r the correlation of neighbours, where it is positive: the share of values that count."""
    centred = values - values.mean()
    power = float(np.dot(centred, centred))
    if values.size < 10 or power == 0:
        return 1.0
    r = float(np.dot(centred[1:], centred[:-1])) / power
    # What white noise shows of correlation is no reason to believe in less.
    r = 0.0 if r < 2 / math.sqrt(values.size) else min(r, 0.99)
    return (1 - r) / (1 + r)


def _of_counter(trace: Shown, at_s: Array, values: Array, changes: NDArray[np.int64], spacing_s: float) -> Stretch:
    """From the first step of the counter to the last; each came within one read."""
    if changes.size < 2:
        raise MeasurementError(
            "the meter's counter has not moved" if not changes.size else "the meter's counter moved once only",
            "ask for longer windows: --energy-window",
        )
    first, last = changes[0], changes[-1]
    took_s = float(at_s[last] - at_s[first])
    if took_s < COUNTED_SHARE * (at_s[-1] - at_s[0]):
        raise MeasurementError("the meter's counter stood still for most of the window", "is the meter still there?")
    power_w = float(values[last] - values[first]) / took_s
    step_j = trace.resolution
    error_w = math.hypot(power_w * spacing_s / took_s, step_j / took_s) / math.sqrt(6)
    return Stretch(power_w, error_w, int(changes.size), float(changes.size))


def _require_covered(trace: Shown, start_s: float, end_s: float) -> float:
    """The usual time between reads in there.

    Raises:
        MeasurementError: a hole, a reset, or reads that failed.
    """
    inside = trace.at_s[(trace.at_s >= start_s) & (trace.at_s <= end_s)]
    spacing_s = float(np.median(np.diff(inside))) if inside.size > 2 else trace.spacing_s
    reads = np.concatenate([trace.at_s[trace.at_s < start_s][-1:], inside, trace.at_s[trace.at_s > end_s][:1]])
    edges = np.clip(np.concatenate([[start_s], reads, [end_s]]), start_s, end_s)
    hole_s = float(np.diff(edges).max())
    said = f": {trace.failure}" if trace.failure else ""
    late_s = min(LATE_S, LATE_SHARE * (end_s - start_s))
    if hole_s > max(HOLE_READS * spacing_s, HOLE_PERIODS * trace.period_s, late_s):
        raise MeasurementError(f"the meter's trace has a hole of {hole_s:.3g} s in the window{said}", ATTACH)
    if any(start_s <= at_s <= end_s for at_s in trace.resets_s):
        raise MeasurementError("the meter's energy counter was reset in the window", "measure again")
    n_failed = int(np.sum((trace.failed_at_s >= start_s) & (trace.failed_at_s <= end_s)))
    if n_failed:
        raise MeasurementError(f"{n_failed} reads of the meter failed in the window{said}", "look at the meter")
    return spacing_s
