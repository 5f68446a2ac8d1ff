"""Power meters that are not on the device: wired to this host and asked while the device works, or only their traces.

A module of a kind of meter has one class or more that are a `Meter`. The clocks of meter and device are brought
together in edgeprof/meters/alignment.py; what reads a recorded trace is edgeprof/meters/csv_trace.py.
"""

from __future__ import annotations

from typing import Protocol, Self

from device_agents import wire
from edgeprof.errors import UsageError
from edgeprof.meters.address import FORMS, MeterAddress, read_address

__all__ = ["FORMS", "HOST_CLOCK", "Meter", "MeterAddress", "is_address", "open_meter", "read_address"]

# `PowerTrace.clock` of a trace whose times are this host's time.monotonic().
HOST_CLOCK = "host"


class Meter(Protocol):
    """A meter wired to this host. A context manager: entering connects and asks once, so that a wrong address is heard
    before the device begins to work.

    Raises (on entering, and from all that asks it):
        MeterError: it does not answer, or what it says is no power.
    """

    @property
    def info(self) -> wire.MeterInfo:
        """What it is; complete once it was entered."""

    def start(self) -> None:
        """Begin to record, in the background."""

    def stop(self) -> wire.PowerTrace:
        """End recording; what was seen, on the clock `HOST_CLOCK`. Reads that failed stand in it.

        Raises:
            MeterError: it said nothing at all since `start`, and why.
        """

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


def is_address(text: str) -> bool:
    """Whether `--meter` names a meter of this host, and not one of the device."""
    return text.partition(":")[0].partition("?")[0] in FORMS


def open_meter(address: str) -> Meter:
    """The meter at an address such as shelly:192.168.1.20, not yet connected.

    Raises:
        UsageError: it is no such address.
        MeterError: what it needs is not installed.
    """
    found = read_address(address)
    if found.kind == "joulescope":
        from edgeprof.meters.joulescope import Joulescope

        return Joulescope(found.place or None, boundary=found.boundary)
    from edgeprof.meters.plugs import Plug, Shelly, Tasmota

    if found.kind == "shelly":
        return Plug(Shelly(found.place, found.switch), boundary=found.boundary)
    if found.kind == "tasmota":
        return Plug(Tasmota(found.place), boundary=found.boundary)
    raise UsageError(f"meter {address!r}: no such kind of meter", "use " + " or ".join(FORMS.values()))
