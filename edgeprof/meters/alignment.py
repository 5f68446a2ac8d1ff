"""The clock of a meter brought to that of the device: by round trips over the link, then by the load it shows.

Round trips give the offset to half of the shortest one (as NTP does, RFC 5905). The load refines it: idle, busy and
mark windows say when the device worked; the offset at which their pattern explains the trace best is the right one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_agents import wire
from edgeprof.errors import MeterError

__all__ = ["Offset", "RoundTrip", "align", "between", "of_round_trips"]

Floats = NDArray[np.float64]
# Of the trace's variance, what the pattern must explain; and how much more than at any other place (log-likelihood).
LEAST_EXPLAINED = 0.3
LEAST_LEAD = 8.0
# The 99 % point of chi-square with one degree of freedom: the offsets that explain the trace about as well. Not 95 %,
# as the errors of a meter are no white noise: it rounds, and it filters.
LIKELY = 6.63
FINE_STEPS = 400
# The halves of a trace are looked at by themselves, with so much around them, for clocks that run at different rates:
# crystals differ by 1e-4 at most; what is more than this is a clock of another kind.
EDGE_S, MOST_DRIFT = 1.5, 2e-3
# As many values as the search looks at; of faster traces means are taken.
COARSE_VALUES, FINE_VALUES = 4000, 20_000


@dataclass(frozen=True, kw_only=True)
class RoundTrip:
    """The device's clock asked over the link: when on the host's, and what it said."""

    sent_s: float
    device_s: float
    received_s: float


@dataclass(frozen=True, kw_only=True)
class Offset:
    """Add `offset_s` to a time of the meter's clock for the device's, at `at_s` of the meter's; within `error_s`."""

    at_s: float
    offset_s: float
    error_s: float


def of_round_trips(trips: Sequence[RoundTrip]) -> Offset:
    """From the shortest of some round trips."""
    best = min(trips, key=lambda trip: trip.received_s - trip.sent_s)
    middle_s = (best.sent_s + best.received_s) / 2
    return Offset(at_s=middle_s, offset_s=best.device_s - middle_s, error_s=(best.received_s - best.sent_s) / 2)


def between(before: Offset, after: Offset) -> Offset:
    """One offset for all between two; what the clocks drifted from one to the other is in its error."""
    drift_s = abs(after.offset_s - before.offset_s)
    return Offset(
        at_s=(before.at_s + after.at_s) / 2,
        offset_s=(before.offset_s + after.offset_s) / 2,
        error_s=max(before.error_s, after.error_s) + drift_s / 2,
    )


def align(
    trace: wire.PowerTrace, windows: Sequence[wire.EnergyWindow], known: Offset | None, *, must_show: bool
) -> wire.PowerTrace:
    """The trace on the device's clock. `known` None: nothing is known of its clock, the load alone aligns it.

    Where the load cannot be recognised in the trace, `known` stands if not `must_show`, and the trace says so.

    Raises:
        MeterError: the trace does not show the load of these windows, or in several places.
    """
    at_s, power_w = np.array(trace.at_s), np.sum(np.array(trace.values), axis=0)
    pattern = _Pattern(windows)
    period_s = trace.meter.period_s or (float(np.median(np.diff(at_s))) if len(at_s) > 1 else 1.0)
    try:
        found, explained = _by_load(at_s, power_w, pattern, known, period_s)
    except MeterError as error:
        if known is None or must_show:
            raise
        # Nothing tells how old a value was when it was read: up to the meter's period.
        stale = dataclasses.replace(known, error_s=known.error_s + period_s)
        return _moved(trace, stale, f"round trips over the link; the load was not recognised in it: {error}")
    found = _with_rate(at_s, power_w, windows, found, period_s)
    how = f"the load's own pattern, which explains {explained:.0%} of the trace"
    if known is not None:
        how = f"round trips over the link (to {known.error_s:.2g} s), then {how}"
    return _moved(trace, found, how)


def _with_rate(
    at_s: Floats, power_w: Floats, windows: Sequence[wire.EnergyWindow], found: Offset, period_s: float
) -> Offset:
    """The offset with what its two halves differ by as an error: a clock that runs at another rate.

    Raises:
        MeterError: they differ so much that no offset is right for all of it.
    """
    half = len(windows) // 2
    offsets = []
    for part in (windows[:half], windows[half:]):
        pattern = _Pattern(part)
        inside = (at_s + found.offset_s > pattern.start_s - EDGE_S) & (at_s + found.offset_s < pattern.end_s + EDGE_S)
        reach = Offset(at_s=found.at_s, offset_s=found.offset_s, error_s=EDGE_S)
        try:
            offsets.append(_by_load(at_s[inside], power_w[inside], pattern, reach, period_s)[0])
        except MeterError:
            return found  # a half shows too little by itself
    first, second = offsets
    apart_s = second.offset_s - first.offset_s
    span_s = (windows[-1].end_s - windows[0].start_s) / 2
    if abs(apart_s) > max(MOST_DRIFT * span_s, 3 * (first.error_s + second.error_s)):
        raise MeterError(
            f"the trace's clock runs at another rate than the device's: its load moves by {abs(apart_s):.2g} s between "
            "the halves of the pass",
            "record with a clock that keeps time",
        )
    return dataclasses.replace(found, error_s=max(found.error_s, abs(apart_s) / 2))


def _moved(trace: wire.PowerTrace, offset: Offset, how: str) -> wire.PowerTrace:
    return dataclasses.replace(
        trace,
        at_s=tuple(at_s + offset.offset_s for at_s in trace.at_s),
        failed_at_s=tuple(at_s + offset.offset_s for at_s in trace.failed_at_s),
        clock="device",
        offset_s=offset.offset_s,
        offset_error_s=offset.error_s,
        alignment=f"by {how}; the offset is known to {offset.error_s:.2g} s",
    )


class _Pattern:
    """When the device worked: load 1 in busy and mark windows, 0 in idle ones and between marks, else unknown."""

    def __init__(self, windows: Sequence[wire.EnergyWindow]) -> None:
        if not windows:
            raise MeterError("the energy pass has no windows", "measure again with --energy --meter external")
        edges: list[float] = []
        loads: list[float] = []  # between edge k and k + 1
        previous: wire.EnergyWindow | None = None
        for window in sorted(windows, key=lambda window: window.start_s):
            if previous is not None and edges[-1] < window.start_s:
                both_marks = previous.kind == window.kind == wire.MARK
                loads.append(0.0 if both_marks else math.nan)
                edges.append(window.start_s)
            elif previous is None:
                edges.append(window.start_s)
            loads.append(0.0 if window.kind == wire.IDLE else 1.0)
            edges.append(window.end_s)
            previous = window
        self.edges_s = np.array(edges)
        self.loads = np.array(loads)
        known = np.isfinite(self.loads)
        durations_s = np.diff(self.edges_s)
        self._worked_s = np.concatenate([[0.0], np.cumsum(np.where(known, self.loads, 0.0) * durations_s)])
        self._known_s = np.concatenate([[0.0], np.cumsum(np.where(known, 1.0, 0.0) * durations_s)])

    @property
    def start_s(self) -> float:
        return float(self.edges_s[0])

    @property
    def end_s(self) -> float:
        return float(self.edges_s[-1])

    def means(self, from_s: Floats, to_s: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """The mean load of stretches, and which of them are wholly known."""
        lasting_s = np.maximum(to_s - from_s, 1e-9)
        known_s = np.interp(to_s, self.edges_s, self._known_s) - np.interp(from_s, self.edges_s, self._known_s)
        worked_s = np.interp(to_s, self.edges_s, self._worked_s) - np.interp(from_s, self.edges_s, self._worked_s)
        is_known = (known_s >= lasting_s * 0.999) & (from_s >= self.start_s) & (to_s <= self.end_s)
        return worked_s / lasting_s, is_known


def _by_load(
    at_s: Floats, power_w: Floats, pattern: _Pattern, known: Offset | None, period_s: float
) -> tuple[Offset, float]:
    """The offset that explains the trace best, and the share of its variance that it explains."""
    if len(at_s) < 8:
        raise MeterError(f"the trace has {len(at_s)} values only", "record through the whole energy pass")
    # What a value stands for: the time since the one before, but no more than the meter's period.
    lasting_s = np.minimum(np.diff(at_s, prepend=at_s[0] - period_s), 2 * period_s)
    step_s = max(period_s / 4, 0.01)
    if known is None:
        lowest, highest = pattern.end_s - float(at_s[-1]), pattern.start_s - float(at_s[0])
        if highest < lowest:
            raise MeterError(
                f"the trace lasts {at_s[-1] - at_s[0]:.1f} s, the energy pass {pattern.end_s - pattern.start_s:.1f} s",
                "record from before the pass to after it",
            )
        step_s = max(step_s, (highest - lowest) / 5000)
    else:
        reach_s = known.error_s + 3 * period_s
        lowest, highest = known.offset_s - reach_s, known.offset_s + reach_s
    offsets = np.linspace(lowest, highest, max(3, math.ceil((highest - lowest) / step_s) + 1))
    at_s, power_w, lasting_s = _means(at_s, power_w, lasting_s, FINE_VALUES)
    few = _means(at_s, power_w, lasting_s, COARSE_VALUES)
    coarse = np.array([_explained(*few, pattern, offset) for offset in offsets])
    best = int(np.argmax(coarse))
    if coarse[best] < LEAST_EXPLAINED:
        raise MeterError(
            f"the trace does not show the load of the energy pass, which explains {max(coarse[best], 0.0):.0%} at best",
            "is it this device that the meter measures, and this pass? Is the clock right? --clock own trusts none",
        )
    n_values = len(at_s)
    width_s = max(float(offsets[1] - offsets[0]), period_s)
    if known is None:
        _check_alone(coarse, offsets, best, n_values, 2 * width_s)
    low, high = float(offsets[best]) - 2 * width_s, float(offsets[best]) + 2 * width_s
    fine = np.linspace(low, high, FINE_STEPS + 1)
    scores = np.array([_explained(at_s, power_w, lasting_s, pattern, offset) for offset in fine])
    top = float(np.max(scores))
    likely = fine[n_values * np.log((1 - scores + 1e-12) / (1 - top + 1e-12)) <= LIKELY]
    offset_s = float(likely[0] + likely[-1]) / 2
    error_s = float(likely[-1] - likely[0]) / 2 + (fine[1] - fine[0]) + period_s / 10
    middle_s = float(at_s[0] + at_s[-1]) / 2
    return Offset(at_s=middle_s, offset_s=offset_s, error_s=float(error_s)), top


def _means(at_s: Floats, power_w: Floats, lasting_s: Floats, most: int) -> tuple[Floats, Floats, Floats]:
    """No more than `most` values, each the mean of as many neighbours."""
    stride = -(-len(at_s) // most)
    n = len(at_s) // stride * stride
    lasting_s = lasting_s[:n].reshape(-1, stride)
    mean_w = np.average(power_w[:n].reshape(-1, stride), axis=1, weights=lasting_s)
    return at_s[stride - 1 : n : stride], mean_w, lasting_s.sum(axis=1)


def _check_alone(coarse: Floats, offsets: Floats, best: int, n_values: int, apart_s: float) -> None:
    """Refuse where another place fits about as well: the rhythm of the windows repeats."""
    others = coarse[np.abs(offsets - offsets[best]) > max(apart_s, 2.0)]
    if not len(others):
        return
    lead = n_values / 2 * math.log((1 - float(np.max(others)) + 1e-12) / (1 - float(coarse[best]) + 1e-12))
    if lead < LEAST_LEAD:
        raise MeterError(
            "the load of the energy pass is found in the trace in more than one place",
            "give the trace a clock that is known (--clock unix), or cut it to the time of the pass",
        )


def _explained(at_s: Floats, power_w: Floats, lasting_s: Floats, pattern: _Pattern, offset_s: float) -> float:
    """The share of the variance that load and a linear drift explain together, load in the direction of more power."""
    to_s = at_s + offset_s
    load, is_known = pattern.means(to_s - lasting_s, to_s)
    n = int(np.count_nonzero(is_known))
    if n < 8:
        return -1.0
    x, y, t = load[is_known], power_w[is_known], at_s[is_known]
    t = t - t.mean()
    x, y = x - x.mean(), y - y.mean()
    tt = float(t @ t)
    if tt > 0:  # take the drift out of both
        x, y = x - t * (float(t @ x) / tt), y - t * (float(t @ y) / tt)
    xx, yy, xy = float(x @ x), float(y @ y), float(x @ y)
    if xx <= 1e-12 or yy <= 1e-18 or xy <= 0:
        return 0.0
    return xy * xy / (xx * yy)
