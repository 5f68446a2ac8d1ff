"""Meters that went on answering without measuring: the same value again and again, where it should have moved."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from device_agents.wire import BUSY, IDLE, EnergyWindow
from edgeprof.energy.traces import Shown
from edgeprof.errors import MeasurementError

__all__ = ["require_moving", "stale"]

# A value held for this share of a window is suspicious where in other windows of its kind none is held a tenth as long.
# A coarse meter holds its values long in all of them.
HELD_SHARE, USUAL_SHARE = 0.5, 0.1
LEAST_OTHERS = 3


def require_moving(trace: Shown, name: str) -> None:
    """Refuse a trace that is one value from end to end.

    Raises:
        MeasurementError: it is.
    """
    if np.all(trace.values == trace.values[0]):
        what = (
            f"{name} showed {trace.values[0]:.4g} W" if not trace.is_counter else f"the counter of {name} stood still"
        )
        raise MeasurementError(f"{what} from the first read to the last: it is frozen", "use another meter: --meter")


def stale(trace: Shown, windows: Sequence[EnergyWindow]) -> dict[int, str]:
    """The windows in which the meter was frozen, by index, and how it shows."""
    if trace.is_counter:
        return {}
    held_s = {k: _longest_s(trace, window) for k, window in enumerate(windows)}
    found = {}
    for k, window in enumerate(windows):
        # Windows after a meter has failed hold nothing for no time: they say nothing of what is usual.
        others = [held_s[n] for n, one in enumerate(windows) if one.kind == window.kind and n != k and held_s[n]]
        is_long = held_s[k] >= HELD_SHARE * (window.end_s - window.start_s)
        if len(others) >= LEAST_OTHERS and is_long and float(np.median(others)) <= USUAL_SHARE * held_s[k]:
            found[k] = f"the meter showed the same value for {held_s[k]:.3g} s: it was frozen"
        elif k and {window.kind, windows[k - 1].kind} == {BUSY, IDLE} and _is_same(trace, windows[k - 1], window):
            found[k] = found[k - 1] = "the meter's value did not move when the load did"
    return found


def _longest_s(trace: Shown, window: EnergyWindow) -> float:
    """The longest time for which one value was held; 0 where fewer than two reads tell."""
    inside = (trace.at_s >= window.start_s) & (trace.at_s <= window.end_s)
    at_s, values = trace.at_s[inside], trace.values[inside]
    if at_s.size < 2:
        return 0.0
    edges = np.concatenate([[at_s[0]], at_s[1:][np.diff(values) != 0], [at_s[-1]]])
    return float(np.diff(edges).max())


def _is_same(trace: Shown, one: EnergyWindow, other: EnergyWindow) -> bool:
    """Whether two windows in a row show one value and no other."""
    inside = (trace.at_s >= one.start_s) & (trace.at_s <= other.end_s)
    return bool(np.count_nonzero(inside) > 2 and np.ptp(trace.values[inside]) == 0)
