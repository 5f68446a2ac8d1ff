"""Which energies may be put side by side: only what one kind of meter saw at one boundary."""

from __future__ import annotations

from device_agents.wire import UNSTATED, MeterInfo

__all__ = ["comparable", "not_one_meter"]


def comparable(a: MeterInfo, b: MeterInfo) -> str | None:
    """Why the energies of two runs, of one device or of two, must not be compared; None if they may be."""
    for meter in (a, b):
        if meter.boundary == UNSTATED and (a.name, a.source) != (b.name, b.source):
            return f"nobody says what {meter.name} measures (boundary {UNSTATED})"
    if a.boundary != b.boundary:
        return f"one is of the boundary {a.boundary} ({a.name}), the other of {b.boundary} ({b.name})"
    if set(a.not_covered) != set(b.not_covered):
        one, other = (", ".join(sorted(meter.not_covered)) or "nothing" for meter in (a, b))
        return f"{a.name} leaves out {one}, {b.name} leaves out {other}"
    return None


def not_one_meter(a: MeterInfo, b: MeterInfo) -> str | None:
    """Why what two passes of one run say must not be added or subtracted: for that it must be the very same meter."""
    reason = comparable(a, b)
    if reason is None and (a.name, a.channels) != (b.name, b.channels):
        reason = (
            f"one was measured by {a.name} ({', '.join(a.channels)}), the other by {b.name} ({', '.join(b.channels)})"
        )
    return reason
