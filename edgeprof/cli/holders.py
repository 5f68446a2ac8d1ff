"""`edgeprof devices list` and `unlock`: who has which device."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from edgeprof.cli.device_facts import fleet, plain, reached

if TYPE_CHECKING:
    from device_agents.wire import Lease
    from edgeprof.fleet import Device
    from edgeprof.holders import Holding

__all__ = ["list_devices", "unlock"]

SHORT_CHARACTERS = 60


@click.command(
    name="list",
    epilog="""\b
Examples:
  edgeprof devices list
  edgeprof devices list --offline --json""",
)
@click.option("--json", "as_json", is_flag=True, help="A list of devices as JSON.")
@click.option("--offline", is_flag=True, help="Only what fleet.toml says; nothing is connected.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0.1),
    default=5.0,
    show_default=True,
    help="Seconds for each step of asking a device; all are asked at once.",
)
def list_devices(as_json: bool, offline: bool, timeout_s: float) -> int:
    """List every device, and who has it."""
    from edgeprof.holders import Holding, holders

    devices = fleet().devices
    held = [Holding() for _ in devices] if offline else holders(devices, timeout_s)
    if as_json:
        found = [_plain(device, one, offline) for device, one in zip(devices, held, strict=True)]
        click.echo(json.dumps(found, indent=1))
        return 0
    rows = [("device", "address", "groups", *([] if offline else ["held by"]))]
    for device, one in zip(devices, held, strict=True):
        groups = ", ".join(device.groups) or "-"
        rows.append((device.name, reached(device), groups, *([] if offline else [_worded(one)])))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


@click.command(epilog="\b\nExample:\n  edgeprof devices unlock pi5")
@click.argument("name")
def unlock(name: str) -> int:
    """Throw out whoever has a device, and kill what measures there.

    What was measured and is not collected yet stays; the job that runs is lost to its owner, who is told.
    """
    from edgeprof import holders

    lease = holders.unlock(fleet().device(name))
    click.echo(f"{name}: nobody had it" if lease is None else f"{name}: thrown out: {_who(lease)}")
    if lease is not None and lease.purpose.startswith("campaign "):
        click.echo("edgeprof: a campaign tries again in a few seconds: begin your own job now, it then waits", err=True)
    return 0


def _plain(device: Device, held: Holding, offline: bool) -> dict[str, Any]:
    import dataclasses

    facts = plain(device)
    if offline:
        return facts
    lease = dataclasses.asdict(held.lease) if held.lease is not None else None
    return facts | {"lease": lease, "unreachable": held.unreachable}


def _worded(held: Holding) -> str:
    if held.unreachable is not None:
        text = held.unreachable
        return "? " + (text if len(text) <= SHORT_CHARACTERS else text[: SHORT_CHARACTERS - 3] + "...")
    return "-" if held.lease is None else _who(held.lease)


def _who(lease: Lease) -> str:
    left = "" if lease.expires_in_s is None else f", {max(0.0, lease.expires_in_s):.0f} s left"
    return f"{lease.owner} for {lease.purpose}{left}"
