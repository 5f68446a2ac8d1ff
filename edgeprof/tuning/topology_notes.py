"""What of a device's CPUs and clocks the agent may not use, in sentences: it decides what a tuning can find."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from device_agents import wire

__all__ = ["topology_notes"]

LITTLE_SHARE = 0.999


def topology_notes(topology: wire.Topology, *, caps: bool) -> tuple[str, ...]:
    """CPUs that are kept from the agent; with `caps`, clocks that it may not cap, and why."""
    return tuple([*_kept_away(topology), *(_not_settable(topology) if caps else ())])


def _kept_away(topology: wire.Topology) -> Iterator[str]:
    online = [cpu for cpu in topology.cpus if cpu.online]
    usable, away = [cpu for cpu in online if cpu.usable], [cpu for cpu in online if not cpu.usable]
    if not (usable and away):
        return
    where = f" (its cpuset is {topology.cpuset})" if topology.cpuset not in (None, "/") else ""
    text = f"the agent may not use the CPUs {_list(away)}{where}"
    fastest, fastest_away = _fastest(topology, usable), _fastest(topology, away)
    if fastest is not None and fastest_away is not None and fastest < LITTLE_SHARE * fastest_away:
        yield (
            f"{text}, and those are the fast ones: what is found is for little cores. An app in the foreground has "
            "them; give the agent the cpuset of one (on Android: top-app) and tune again"
        )
    else:
        yield f"{text}: they are left out"


def _fastest(topology: wire.Topology, cpus: Sequence[wire.Cpu]) -> float | None:
    """By capacity where all tell it, else by clock; None where neither is told."""
    capacities = [cpu.capacity for cpu in topology.cpus if cpu.online]
    if all(capacity is not None for capacity in capacities):
        return float(max(cpu.capacity or 0 for cpu in cpus))
    clocks_hz = {policy.name: policy.hardware_max_hz for policy in topology.policies}
    found = [clocks_hz.get(cpu.policy or "") for cpu in cpus]
    known = [hz for hz in found if hz is not None]
    return max(known) if len(known) == len(found) else None


def _not_settable(topology: wire.Topology) -> Iterator[str]:
    if not topology.policies:
        why = topology.unreadable.get("policies")
        yield "caps of clocks are left out: the kernel shows no cpufreq policy" + (f" ({why})" if why else "")
        return
    reasons: dict[str, list[str]] = {}
    usable = {cpu.number for cpu in topology.cpus if cpu.online and cpu.usable}
    for policy in topology.policies:
        if not policy.settable and usable & set(policy.cpus):
            reason = (policy.not_settable or "no reason was told").replace(f"/{policy.name}/", "/policy*/")
            reasons.setdefault(reason, []).append(policy.name)
    for reason, names in reasons.items():
        yield f"caps of clocks are left out of {', '.join(names)}: {reason} (who may: docs/how-to/clocks.md)"


def _list(cpus: Sequence[wire.Cpu]) -> str:
    return ", ".join(str(cpu.number) for cpu in cpus)
