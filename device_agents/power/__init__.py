"""The power meters a device may have, each read through kept descriptors and never by a program per sample.

A module of a kind of meter has one function::

    find(machine) -> List[PowerMeter]

which looks for its meters without disturbing them, and lists those that cannot be read with the reason.
"""

import importlib
from typing import List, Protocol, Tuple

from device_agents import conditions
from device_agents.machine import Machine
from device_agents.runtimes import RuntimeRefusal
from device_agents.wire import BATTERY, CORE, DC_INPUT, MODULE, SOC_RAILS, UNSTATED, WALL, MeterInfo

KINDS = ("jetson", "hwmon", "pi_pmic", "rapl", "battery", "android")
PREFERRED = (WALL, DC_INPUT, MODULE, BATTERY, SOC_RAILS, UNSTATED, CORE)
NO_METER = "attach one (docs/how-to/meters.md), or take what the data sheet says: edgeprof carbon RUN"


class PowerMeter(Protocol):
    """A meter of this device."""

    info: MeterInfo

    def open(self) -> None:
        """Get ready to be read; files stay open until `close`.

        Raises:
            OSError: it cannot be opened.
        """

    def read(self) -> Tuple[float, ...]:
        """One value per channel: W, or J counted so far (wraps not removed).

        Raises:
            OSError: the sensor does not answer, or has gone.
            ValueError: it answers nonsense.
        """

    def close(self) -> None:
        """Release everything; safe to call twice."""


def meters(machine: Machine) -> List[PowerMeter]:
    """Every meter, usable ones first, and those first that see most of what the device takes.

    What a charger disturbs comes after the others while there is one.
    """
    found: List[PowerMeter] = []
    for kind in KINDS:
        found += importlib.import_module(f"device_agents.power.{kind}").find(machine)
    is_charging = any(meter.info.on_charge for meter in found) and conditions.is_on_charger(machine)

    def rank(meter: PowerMeter) -> Tuple[bool, bool, int]:
        info = meter.info
        return info.unusable is not None, is_charging and info.on_charge, PREFERRED.index(info.boundary)

    return sorted(found, key=rank)


def discover(machine: Machine) -> Tuple[MeterInfo, ...]:
    """What every meter says of itself."""
    return tuple(meter.info for meter in meters(machine))


def choose(machine: Machine, name: str) -> PowerMeter:
    """The meter of this name; without a name the first that can be read.

    Raises:
        RuntimeRefusal: no-meter; there is none, or it cannot be read, and why.
    """
    found = meters(machine)
    usable = [meter for meter in found if meter.info.unusable is None and name in ("", meter.info.name)]
    if usable:
        return usable[0]
    reasons = "; ".join(f"{meter.info.name}: {meter.info.unusable or 'can be read'}" for meter in found)
    if not found:
        raise RuntimeRefusal("no-meter", "this device has no power meter that is known", NO_METER)
    is_known = not name or name in [meter.info.name for meter in found]
    what = "no meter can be read" if is_known else f"no meter here is called {name!r}"
    raise RuntimeRefusal("no-meter", f"{what}; there are: {reasons}", "see `edgeprof devices doctor`")
