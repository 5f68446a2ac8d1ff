"""A device's battery, as its conditions tell of it: one that runs empty has the device save power."""

from __future__ import annotations

import re

from device_agents.wire import Conditions

__all__ = ["LOW_BATTERY", "battery_share", "is_discharging", "running_empty", "without_charge"]

# Below this phones and laptops begin to save power.
LOW_BATTERY = 0.15
BATTERY = re.compile(r"battery ([A-Za-z ]+?)(?: at (\d+) %)?(?:, |$)")


def battery_share(look: Conditions) -> float | None:
    """How full the device's battery is, of several the emptiest; None without one, or where it does not tell."""
    shares = [int(found[2]) / 100 for found in BATTERY.finditer(look.power_source or "") if found[2]]
    return min(shares, default=None)


def is_discharging(look: Conditions) -> bool:
    """Whether the device lives on its battery."""
    return any(found[1] == "Discharging" for found in BATTERY.finditer(look.power_source or ""))


def running_empty(look: Conditions) -> float | None:
    """How full a battery is that is discharging and low; None for any other, and where there is none."""
    share = battery_share(look)
    return share if is_discharging(look) and share is not None and share < LOW_BATTERY else None


def without_charge(power_source: str | None) -> str:
    """What feeds the device, without the charge, which changes all the time."""
    return BATTERY.sub(r"battery \1, ", power_source or "").strip(", ")
