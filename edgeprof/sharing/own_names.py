"""The names that would tell who made a bundle, and where."""

from __future__ import annotations

import contextlib
import getpass
import socket
from pathlib import Path

from edgeprof.errors import FleetError
from edgeprof.fleet import Fleet

__all__ = ["own_names"]


def own_names(fleet_file: Path) -> set[str]:
    """Those of this machine and its user, and whatever fleet.toml knows; a fleet that cannot be read has none."""
    host = socket.gethostname()
    names = {host, host.partition(".")[0], Path.home().name}
    with contextlib.suppress(KeyError, OSError):  # a user without a name
        names.add(getpass.getuser())
    with contextlib.suppress(FleetError):
        for device in Fleet.read(fleet_file).devices:
            names |= {device.name, device.host or "", device.user or "", *device.groups}
    return names
