"""The power meters a device may have, each read through kept descriptors and never by a program per sample.

A module of a kind of meter has one function::

    find(machine) -> List[PowerMeter]

which looks for its meters without disturbing them, and lists those that cannot be read with the reason.
"""

from typing import List, Protocol, Tuple

from device_agents.machine import Machine
from device_agents.runtimes import RuntimeRefusal
from device_agents.wire import MeterInfo


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
    """Every meter, the preferred one first: by how well it resolves what the device takes, usable ones first."""
    return []


def discover(machine: Machine) -> Tuple[MeterInfo, ...]:
    """What every meter says of itself."""
    return tuple(meter.info for meter in meters(machine))


def choose(machine: Machine, name: str) -> PowerMeter:
    """The meter of this name; without a name the first that can be read.

    Raises:
        RuntimeRefusal: no-meter; there is none, or it cannot be read, and why.
    """
    raise RuntimeRefusal("no-meter", "this device has no power meter that can be read")
