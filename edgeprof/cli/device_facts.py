"""What every command says of a device, in JSON and in a word."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from device_agents.wire import ClockPolicy, Cpu, Topology
    from edgeprof.fleet import Device, Fleet

# More steps than these are not printed one by one.
MOST_STEPS = 8

__all__ = ["cluster_lines", "clusters", "fleet", "plain", "reached", "topology"]


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


def topology(device: Device) -> Topology:
    """What the device itself says of its CPUs, or those of the board that it simulates."""
    from edgeprof.models import board_to_simulate
    from edgeprof.profiling import OpenDevice

    with OpenDevice(device) as opened:
        return opened.any_agent().topology(board_to_simulate(device.board) if device.board is not None else None)


def clusters(found: Topology) -> list[dict[str, Any]]:
    """CPUs that are alike and share a clock, by number, each with its clock policy; None for what is not told."""
    alike: dict[tuple[str | None, int | None, int | None], list[Cpu]] = {}
    for cpu in found.cpus:
        alike.setdefault((cpu.policy, cpu.capacity, cpu.midr), []).append(cpu)
    policies = {policy.name: dataclasses.asdict(policy) for policy in found.policies}
    return [
        {
            "cpus": [cpu.number for cpu in members],
            "usable": [cpu.number for cpu in members if cpu.usable],
            "offline": [cpu.number for cpu in members if not cpu.online],
            "capacity": capacity,
            "midr": midr,
            "policy": policies.get(policy or ""),
        }
        for (policy, capacity, midr), members in alike.items()
    ]


def cluster_lines(found: Topology) -> Iterator[str]:
    """A line for each cluster."""
    policies = {policy.name: policy for policy in found.policies}
    for cluster in clusters(found):
        parts = [f"CPUs {_list(cluster['cpus'])}"]
        if cluster["capacity"] is not None:
            parts.append(f"capacity {cluster['capacity']}")
        if cluster["midr"] is not None:
            parts.append(f"MIDR {cluster['midr']:#010x}")
        offline = cluster["offline"]
        barred = [cpu for cpu in cluster["cpus"] if cpu not in cluster["usable"] and cpu not in offline]
        parts += [f"offline: {_list(offline)}"] if offline else []
        parts += [f"outside the agent's cpuset: {_list(barred)}"] if barred else []
        parts.append(_clock(policies[cluster["policy"]["name"]]) if cluster["policy"] else "clock unknown")
        yield ", ".join(parts)


def _clock(policy: ClockPolicy) -> str:
    limited = f", now up to {_mhz(policy.max_hz)}" if policy.max_hz != policy.hardware_max_hz else ""
    may = "may be capped" if policy.settable else f"may NOT be capped: {policy.not_settable}"
    return f"{policy.name} at {_steps(policy)}{limited} ({policy.governor or 'governor unknown'}), {may}"


def _steps(policy: ClockPolicy) -> str:
    steps = [f"{hz / 1e6:.0f}" for hz in policy.clocks_hz]
    if not steps:
        return f"up to {_mhz(policy.hardware_max_hz)}"
    return (
        f"{steps[0]} to {steps[-1]} MHz in {len(steps)} steps" if len(steps) > MOST_STEPS else f"{', '.join(steps)} MHz"
    )


def _mhz(hz: float | None) -> str:
    return "unknown" if hz is None else f"{hz / 1e6:.0f} MHz"


def _list(numbers: list[int]) -> str:
    """Neighbours as a range: 0-3,6."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
