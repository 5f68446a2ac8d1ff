"""Batteries' meters whose sign or unit is not that of the specification: found from the load, said, and never guessed
per sample.

By the kernel's ABI (sysfs-class-power) a current is negative while it flows out, in microamperes. Vendors disagree on
both; a load that is known to come and go tells.
"""

from __future__ import annotations

from dataclasses import replace

from edgeprof.energy.traces import Shown
from edgeprof.errors import MeasurementError

__all__ = ["calibrated"]

SOURCES = ("battery", "termux")
# No phone or board that runs a model takes less: a thousandth of what it takes was meant in mA (assumed limit).
LEAST_W = 0.05
THOUSAND = 1000.0


def calibrated(trace: Shown, source: str, busy_w: float, idle_w: float) -> tuple[Shown, str | None]:
    """The trace in watts taken from the battery, and what was changed; `busy_w` and `idle_w` are means of it as it is.

    Raises:
        MeasurementError: the load shows in neither direction.
    """
    if source not in SOURCES:
        return trace, None
    if busy_w == idle_w:
        raise MeasurementError("the battery's meter does not move with the load", "use another meter: --meter")
    sign = 1.0 if busy_w > idle_w else -1.0
    scale = THOUSAND if abs(busy_w) < LEAST_W else 1.0
    changes = []
    if sign < 0:
        changes.append("its sign was turned: what flows out of this battery counts as negative")
    if scale != 1.0:
        changes.append(f"multiplied by 1000: {abs(busy_w) * 1e3:.3g} mW under load can only be a current in mA for uA")
    if not changes:
        return trace, None
    factor = sign * scale
    return replace(trace, values=trace.values * factor, resolution=trace.resolution * scale), "; ".join(changes)
