"""What every command says of a device, in JSON and in a word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeprof.fleet import Device, Fleet

__all__ = ["fleet", "plain", "reached"]


def fleet() -> Fleet:
    """The user's fleet.toml."""
    from edgeprof.fleet import Fleet
    from edgeprof.places import fleet_file

    return Fleet.read(fleet_file())


def plain(device: Device) -> dict[str, Any]:
    """All that holds for the device, what its table in fleet.toml leaves out included."""
    import msgspec

    deadlines = msgspec.structs.asdict(device.deadlines) | {"connect_s": device.connect_s}
    implied = {"connect_timeout_s": device.connect_s, "deadlines": deadlines, "scheme": device.scheme}
    return {**msgspec.structs.asdict(device), **implied}


def reached(device: Device) -> str:
    """Its address, and the board that it only simulates."""
    return f"{device.address} (simulates {device.simulate})" if device.simulate else device.address
