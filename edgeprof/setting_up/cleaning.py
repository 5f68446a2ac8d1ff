"""Leave a device as it was found: remove all that edgeprof ever put there."""

from __future__ import annotations

import msgspec

from edgeprof.errors import AgentError
from edgeprof.fleet import Device, Fleet
from edgeprof.links import Link
from edgeprof.setting_up.there import Cleaned, There

__all__ = ["clean"]


def clean(fleet: Fleet, device: Device, link: Link, *, dry_run: bool = False, force: bool = False) -> Cleaned:
    """Remove agents, models, wheels, environments and results from the device, and their Pythons from fleet.toml.

    With `dry_run` nothing is removed; with `force` results that nobody has fetched yet are, too.

    Raises:
        AgentError: the device is in use, has results that nobody has fetched, or clocks that are not put back.
    """
    found = There(link, device).clean(dry_run=dry_run, force=force)
    if dry_run:
        return found
    name = device.name
    if found.held_by is not None:
        raise AgentError(
            f"{name}: nothing was removed: {found.held_by} has the device",
            f"wait until it is free, or take it: edgeprof devices unlock {name}",
        )
    if found.clocks:
        raise AgentError(
            f"{name}: nothing was removed: the record of clocks that a job has capped is still there",
            f"have them put back first: edgeprof devices doctor {name}",
        )
    if found.tickets and not force:
        raise AgentError(
            f"{name}: nothing was removed: {found.tickets} jobs or results are waiting there",
            f"fetch them: edgeprof runs collect -d {name}; or give them up: add --force",
        )
    ours = f"{found.path}/"
    pythons = {runtime: python for runtime, python in device.pythons.items() if not python.startswith(ours)}
    if pythons != device.pythons:
        fleet.add(msgspec.structs.replace(device, pythons=pythons))
    return found
