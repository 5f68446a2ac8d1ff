"""The entry gate: wait until the device is quiet and cool enough for a round to begin."""

from typing import List, Optional, Tuple

from device_agents import conditions
from device_agents.machine import Machine
from device_agents.wire import Gate, GateOutcome

RETRY_S = 1.0
# Raspberry Pi firmware bits that say the clock is held down right now.
THROTTLED_NOW = 0b1110


def wait(machine: Machine, gate: Gate) -> GateOutcome:
    """Wait until the gate opens, or until its timeout: then the outcome names every reason that still held."""
    start = machine.now()
    trail: List[Tuple[float, float]] = []
    while True:
        reasons = _reasons(machine, gate, trail)
        waited = machine.now() - start
        if not reasons or waited >= gate.timeout_s:
            return GateOutcome(passed=not reasons, waited_s=waited, reasons=tuple(reasons))
        machine.sleep(min(RETRY_S, gate.timeout_s - waited))


def _reasons(machine: Machine, gate: Gate, trail: List[Tuple[float, float]]) -> List[str]:
    reasons = []
    load = busy_share(machine, gate.window_s)
    if load is not None and load > gate.max_load:
        reasons.append(f"other programs keep {load:.0%} of the CPUs busy (limit {gate.max_load:.0%})")
    temperatures = conditions.read_temperatures(machine)
    if temperatures:
        hottest = max(temperatures.values())
        trail.append((machine.now(), hottest))
        if hottest > gate.cool_c and not _has_settled(trail, gate):
            reasons.append(f"still cooling: {hottest:.0f} C (cool is {gate.cool_c:.0f} C)")
    if conditions.is_raspberry_pi(machine):
        try:
            bits = conditions.read_throttled(machine)
        except (OSError, ValueError):
            bits = 0
        if bits & THROTTLED_NOW:
            reasons.append(f"the firmware holds the clock down (get_throttled {bits:#x})")
    return reasons


def _has_settled(trail: List[Tuple[float, float]], gate: Gate) -> bool:
    """Whether the device has stopped cooling: it lost less than `settle_c` in the last `settle_s`."""
    now, temperature = trail[-1]
    old = [t for at, t in trail if now - at >= gate.settle_s]
    return bool(old) and old[-1] - temperature < gate.settle_c


def busy_share(machine: Machine, window_s: float) -> Optional[float]:
    """Share of all CPUs that is busy while this process sleeps for `window_s`; None where it can't be read."""
    try:
        busy, _, total = conditions.read_cpu_times(machine)
        machine.sleep(window_s)
        busy_after, _, total_after = conditions.read_cpu_times(machine)
    except (OSError, ValueError):
        return None
    return (busy_after - busy) / (total_after - total) if total_after > total else None
