"""`edgeprof devices`: the devices one can reach, and first contact with them."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from edgeprof.cli.device_facts import cluster_lines, clusters, fleet, plain, topology
from edgeprof.cli.doctor import doctor
from edgeprof.cli.holders import list_devices, unlock
from edgeprof.cli.setting_up import clean, setup

if TYPE_CHECKING:
    from device_agents.wire import MeterInfo, Topology
    from edgeprof.fleet import Device, Fleet
    from edgeprof.links.host_keys import HostKey
    from edgeprof.links.trust import FirstContact

__all__ = ["devices"]


@click.group(
    epilog="""\b
Examples:
  edgeprof devices add pi5 ssh://pi@raspberrypi.local --install-key
  edgeprof devices doctor pi5
  edgeprof devices list"""
)
def devices() -> None:
    """The devices edgeprof can reach."""


devices.add_command(doctor)
devices.add_command(setup)
devices.add_command(clean)
devices.add_command(list_devices)
devices.add_command(unlock)


@devices.command(
    epilog="""\b
Examples:
  edgeprof devices add pi5 ssh://pi@raspberrypi.local --install-key
  edgeprof devices add pi5 ssh://pi@raspberrypi.local --group kitchen --runtime-python tflite=/home/pi/tflite/bin/python
  edgeprof devices add virtual sim:pi-4
  edgeprof devices add phone adb: --benchmark-model /data/local/tmp/benchmark_model
  edgeprof devices add stand-in ssh://me@server --simulate pi-5"""
)
@click.argument("name")
@click.argument("address")
@click.option("--python", help="Python on the device: a path, or a name on its PATH.  [default: python3]")
@click.option("--group", "groups", multiple=True, help="A group it belongs to; may be repeated.")
@click.option(
    "--runtime-python",
    "runtime_pythons",
    multiple=True,
    metavar="RUNTIME=PATH",
    help="The Python of a runtime that lives in an environment of its own; may be repeated.",
)
@click.option("--simulate", metavar="BOARD", help="Have this device simulate a board of `edgeprof sim list`.")
@click.option(
    "--benchmark-model", metavar="PATH", help="TFLite's program of that name on the device (runtime benchmark_model)."
)
@click.option("--install-key", is_flag=True, help="Ask for the password once, and let your SSH key in from then on.")
def add(
    name: str,
    address: str,
    python: str | None,
    groups: tuple[str, ...],
    runtime_pythons: tuple[str, ...],
    simulate: str | None,
    benchmark_model: str | None,
    install_key: bool,
) -> int:
    """Add a device, or change one that is there.

    ADDRESS is ssh://user@host (a host of ~/.ssh/config will do), adb:SERIAL (adb: where there is one phone), local: or
    sim:BOARD.
    """
    everything = fleet()
    given: dict[str, Any] = {"python": python, "simulate": simulate, "benchmark_model": benchmark_model}
    device = _described(everything, name, address, {**given, "groups": list(groups)}, _pythons(runtime_pythons))
    if install_key:
        device = _with_key(device)
    everything.add(device)
    click.echo(f"{name} is in {everything.path}")
    if device.scheme == "ssh" and not install_key:
        click.echo(f"next: edgeprof devices trust {name}, then: edgeprof devices doctor {name}")
    else:
        click.echo(f"next: edgeprof devices doctor {name}")
    return 0


@devices.command(
    epilog="\b\nExamples:\n  edgeprof devices show pi5\n  edgeprof devices show pi5 --meters\n  "
    "edgeprof devices show phone --clusters --json"
)
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="The device as JSON.")
@click.option(
    "--meters", "with_meters", is_flag=True, help="Connect, and list its own power meters, the preferred first."
)
@click.option(
    "--clusters",
    "with_clusters",
    is_flag=True,
    help="Connect, and list its clusters of CPUs: which may be used, their clocks, and whether those may be capped.",
)
def show(name: str, as_json: bool, with_meters: bool, with_clusters: bool) -> int:
    """Show a device and the way to it, as fleet.toml and ~/.ssh/config have it.

    Nothing is connected, but for --meters and --clusters.
    """
    device = fleet().device(name)
    facts = plain(device) | {"hops": _hops(device)}
    found = _meters(device) if with_meters else None
    if found is not None:
        facts["meters"] = [dataclasses.asdict(meter) for meter in found]
    cpus = topology(device) if with_clusters else None
    if cpus is not None:
        facts["topology"] = {"clusters": clusters(cpus), "cpuset": cpus.cpuset, "unreadable": cpus.unreadable}
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return 0
    for key, value in facts.items():
        if key not in ("hops", "meters", "topology") and value not in (None, [], {}):
            click.echo(f"{key:18} {_worded(value)}")
    for hop in facts["hops"]:
        key = "key on file" if hop["key_on_file"] else "no key on file"
        click.echo(f"{'reached through':18} {hop['user']}@{hop['host']}:{hop['port']} ({key})")
    _print_meters(found)
    _print_clusters(cpus)
    return 0


@devices.command(
    epilog="""\b
Examples:
  edgeprof devices trust pi5
  edgeprof devices trust pi5 --fingerprint SHA256:2yS1vV0b9TzW7HnQ5mJ1kRzv8ZrX3c0uQ4pLsD6eFgY"""
)
@click.argument("name")
@click.option("--fingerprint", "fingerprints", multiple=True, help="Trust this key only; repeat it for jump hosts.")
@click.option(
    "--yes", is_flag=True, help="Trust the key that is shown, unasked: you have compared it, or nobody is in between."
)
def trust(name: str, fingerprints: tuple[str, ...], yes: bool) -> int:
    """Decide whether the key that a device shows is really its own.

    Compare the fingerprint with what the device itself prints: ssh-keygen -l -f /etc/ssh/ssh_host_ed25519_key.pub
    """
    _trust(fleet().device(name), fingerprints, yes)
    return 0


@devices.command(epilog="\b\nExample:\n  edgeprof devices remove pi5")
@click.argument("name")
def remove(name: str) -> int:
    """Take a device out of fleet.toml; the profiles measured on it stay."""
    everything = fleet()
    everything.remove(name)
    click.echo(f"{name} is no longer in {everything.path}")
    return 0


def _worded(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={one}" for key, one in value.items())
    return ", ".join(value) if isinstance(value, list) else str(value)


def _meters(device: Device) -> tuple[MeterInfo, ...]:
    from edgeprof.doctor import meters

    return meters(device)


def _print_meters(found: tuple[MeterInfo, ...] | None) -> None:
    from edgeprof.doctor import described

    if found == ():
        click.echo(f"{'own power meters':18} none (docs/how-to/meters.md: those beside it)")
    for meter in found or ():
        why_not = f"; CANNOT BE READ: {meter.unusable}" if meter.unusable else ""
        click.echo(f"{'own power meter':18} {described(meter)}{why_not}")


def _print_clusters(cpus: Topology | None) -> None:
    if cpus is None:
        return
    for line in cluster_lines(cpus):
        click.echo(f"{'cluster':18} {line}")
    if cpus.cpuset not in (None, "/"):
        click.echo(f"{'cpuset':18} {cpus.cpuset}")
    for what, why in cpus.unreadable.items():
        click.echo(f"{'not told':18} {what}: {why}")


def _hops(device: Device) -> list[dict[str, Any]]:
    if device.scheme != "ssh":
        return []
    from edgeprof.links.trust import FirstContact

    contact = FirstContact(device)
    return [
        {"user": hop.user, "host": hop.host, "port": hop.port, "key_on_file": contact.is_on_file(hop)}
        for hop in contact.hops
    ]


def _pythons(pairs: tuple[str, ...]) -> dict[str, str]:
    from edgeprof.errors import UsageError

    pythons = {}
    for pair in pairs:
        runtime, equals, path = pair.partition("=")
        if not (runtime and equals and path):
            raise UsageError(f"--runtime-python {pair!r} is not of the form RUNTIME=PATH", "write tflite=/path/python")
        pythons[runtime] = path
    return pythons


def _described(
    fleet: Fleet,
    name: str,
    address: str,
    given: dict[str, Any],
    pythons: dict[str, str],
) -> Device:
    """The device as it shall be: what is known of it already, changed by what was given (empty: not given)."""
    import msgspec

    from edgeprof.errors import UsageError
    from edgeprof.fleet import LOCAL, Device

    device = Device(name=name, address=address)
    for old in fleet.devices:
        if old.name != name:
            continue
        if old.address == address:
            device = old
        elif name != LOCAL:
            raise UsageError(
                f"{name} is there already, with the address {old.address}",
                f"choose another name, or: edgeprof devices remove {name}",
            )
    changed = {key: value for key, value in given.items() if value}
    device = msgspec.structs.replace(device, pythons=device.pythons | pythons, **changed)
    fleet.check(device)
    if device.board is not None:
        from edgeprof.models import board_to_simulate

        board_to_simulate(device.board)
    return device


def _trust(device: Device, fingerprints: tuple[str, ...], yes: bool) -> None:
    """Walk to the device and decide about each key on the way that nobody has trusted yet."""
    from edgeprof.errors import UsageError
    from edgeprof.links.trust import FirstContact

    if device.scheme != "ssh":
        raise UsageError(f"{device.name} ({device.address}) is not reached over SSH", "there is nothing to trust")
    contact = FirstContact(device)
    while not (offered := contact.ask()).is_trusted:
        _decide(contact, offered.key, device, fingerprints, yes)
    _check_given(offered.key, fingerprints)
    click.echo(f"{device.name} is trusted: {offered.key.type} {offered.key.fingerprint}")


def _decide(contact: FirstContact, key: HostKey, device: Device, fingerprints: tuple[str, ...], yes: bool) -> None:
    from edgeprof.errors import UnknownHostKey, UsageError

    if fingerprints:
        _check_given(key, fingerprints)
    elif not yes:
        click.echo(f"The host {key.host} shows this {key.type} key, which is not trusted yet:\n  {key.fingerprint}")
        if not _has_terminal():
            raise UsageError(
                "there is no terminal to ask on whether this key is the device's own",
                f"compare it with the device's own, then: edgeprof devices trust {device.name} "
                f"--fingerprint {key.fingerprint}",
            )
        click.echo(f"The device itself prints its own by: ssh-keygen -l -f {_host_key_file(key.type)}")
        answer = click.prompt("Are they the same? (yes, no, or the fingerprint that you expect)").strip()
        if answer != key.fingerprint and answer.lower() not in ("yes", "y"):
            raise UnknownHostKey(
                f"{device.name}: the key of {key.host} was not trusted", "find out whose key it is", key.fingerprint
            )
    contact.trust(key)


def _check_given(key: HostKey, fingerprints: tuple[str, ...]) -> None:
    from edgeprof.errors import UnknownHostKey

    if fingerprints and key.fingerprint not in fingerprints:
        raise UnknownHostKey(
            f"{key.host} shows the {key.type} key {key.fingerprint}, not the expected {' or '.join(fingerprints)}",
            "do not connect before you know why: it may be another device, or somebody in between",
            key.fingerprint,
        )


def _host_key_file(key_type: str) -> str:
    name = {"ssh-ed25519": "ed25519", "ssh-rsa": "rsa"}.get(key_type, "ecdsa")
    return f"/etc/ssh/ssh_host_{name}_key.pub"


def _with_key(device: Device) -> Device:
    """The device once our key is let in there; asks for the password unless a key is let in already."""
    from edgeprof.errors import AuthenticationFailed, UsageError
    from edgeprof.links.key_install import choose_key, install_key
    from edgeprof.links.ssh import SshLink
    from edgeprof.places import identity_file

    if device.scheme != "ssh":
        raise UsageError(f"{device.name} ({device.address}) is not reached over SSH", "leave --install-key out")
    if not _has_terminal():
        raise UsageError(
            "--install-key asks for a password, on a terminal only", "run it yourself, or use ssh-copy-id beforehand"
        )
    _trust(device, (), yes=False)
    try:
        with SshLink(device):
            click.echo("a key of yours is let in already")
            return device
    except AuthenticationFailed:
        key = choose_key(device, identity_file())
    user = device.user or "your user"
    password = click.prompt(f"password of {user} on {device.host} (used once, kept nowhere)", hide_input=True)
    installed = install_key(device, password, key)
    click.echo(f"{device.name} lets you in with the key {key.source}")
    return installed


def _has_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()
