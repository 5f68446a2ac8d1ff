"""Whether a window of an energy pass counts: what the device's state before and after it says. Never corrects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from device_agents.wire import Conditions, EnergyWindow
from edgeprof.throttling import held_down

__all__ = ["against", "against_rest", "is_held_down"]

# Share of a window in which some task waited for a CPU: others worked beside the model (kernel: accounting/psi).
PRESSURE_SHARE = 0.05
# The mean clock of a window against the median one of its kind.
CLOCK_SHARE = 0.05
CHARGER_WORDS = ("battery Charging", "battery Full", "battery Not charging", " online")


def is_held_down(window: EnergyWindow) -> bool:
    """Whether a clock was held down in it: it says nothing of what the clock is otherwise."""
    return any(held_down((window.before, window.after), "the window"))


def against(window: EnergyWindow, others: Sequence[EnergyWindow], *, on_charge: bool) -> Iterator[str]:
    """Every reason against a window; `others` of its kind were not held down.

    `on_charge` says that a charger disturbs the meter.
    """
    yield from held_down((window.before, window.after), "the window")
    yield from _other_clock(window, others)
    yield from against_rest(window, on_charge=on_charge)


def against_rest(window: EnergyWindow, *, on_charge: bool) -> Iterator[str]:
    """Those of the reasons that hold at rest too, where clocks may do as they like."""
    waited = _pressure(window)
    if waited is not None and waited > PRESSURE_SHARE:
        yield f"tasks waited for a CPU in {waited:.0%} of it (limit {PRESSURE_SHARE:.0%})"
    sources = window.before.power_source, window.after.power_source
    if on_charge and any(word in (source or "") for source in sources for word in CHARGER_WORDS):
        yield f"the device was on a charger: {sources[1] or sources[0]}"
    elif _kind(sources[0]) != _kind(sources[1]):
        yield f"what feeds the device changed from {sources[0]} to {sources[1]}"


def _kind(source: str | None) -> str:
    """Without the level of the battery, which falls."""
    return (source or "").partition(" at ")[0]


def _pressure(window: EnergyWindow) -> float | None:
    before, after = window.before.pressure_s.get("cpu"), window.after.pressure_s.get("cpu")
    took_s = window.after.at_s - window.before.at_s
    return None if before is None or after is None or took_s <= 0 else (after - before) / took_s


def _other_clock(window: EnergyWindow, others: Sequence[EnergyWindow]) -> Iterator[str]:
    for cpus, mean_hz in mean_clocks(window.before, window.after).items():
        usual = [mean_clocks(one.before, one.after).get(cpus) for one in others]
        known = [hz for hz in usual if hz is not None]
        if not known or len(known) < 3:
            continue
        share = mean_hz / float(np.median(known)) - 1
        if abs(share) > CLOCK_SHARE:
            yield f"CPUs {cpus} ran {share:+.0%} off the clock of the other windows (limit {CLOCK_SHARE:.0%})"


def mean_clocks(before: Conditions, after: Conditions) -> dict[str, float]:
    """The mean clock of each policy in Hz, by the time it spent at each (kernel: cpufreq/stats/time_in_state)."""
    found = {}
    first = {clock.cpus: clock.time_in_state_s for clock in before.clocks}
    for clock in after.clocks:
        spent = {float(hz): s - first.get(clock.cpus, {}).get(hz, s) for hz, s in clock.time_in_state_s.items()}
        total = sum(spent.values())
        if total > 0:
            found[clock.cpus] = sum(hz * s for hz, s in spent.items()) / total
    return found
