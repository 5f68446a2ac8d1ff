"""The configurations worth a thought on a device, from what it says of its CPUs and clocks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from device_agents import wire
from edgeprof.tuning.configuration import MIXED, Configuration

__all__ = ["Choices", "Cluster", "clusters", "configurations", "default"]

# Parts by Arm's main ID register, bits 15 to 4 (Linux, arch/arm64/include/asm/cputype.h): the small cores
# (A53, A55, A510, A520, A34, A35) and the largest (X1, X2, X3, X4, X1C); for kernels that tell no capacities or clocks.
SMALL_PARTS = frozenset({0xD02, 0xD03, 0xD04, 0xD05, 0xD46, 0xD80})
LARGE_PARTS = frozenset({0xD44, 0xD48, 0xD4E, 0xD82, 0xD4C})
# Up to so many CPUs every number of threads is tried, beyond it powers of two and all.
EVERY_COUNT = 8
# At most so many clock steps of a cluster, and of steps where the driver lists none.
MOST_STEPS = 8
ALONE, BIG, MIDDLE, LITTLE = "all", "big", "middle", "little"
# Those whose idle threads may wait in a busy loop, and those that have XNNPACK to do without.
SPINNING, XNNPACK = ("onnxruntime", "simulated"), ("litert", "tflite")
# These run on one thread unless told otherwise, the others on every CPU.
ONE_THREAD = ("litert", "tflite")


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """CPUs that are alike and usable. `steps_hz` are clocks it can be capped to, slowest first; empty where it cannot.

    `capacity` is the kernel's (1024 is the fastest of the device); what the device does not tell is None.
    """

    name: str
    cpus: tuple[int, ...]
    policies: tuple[str, ...]
    capacity: int | None
    max_hz: float | None
    part: int | None
    steps_hz: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What may be varied. `threads` None stands for every sensible number; `caps` needs a device that allows them.

    There are no more than `most` configurations: steps of clocks are left out until there are not.
    """

    runtimes: tuple[str, ...]
    threads: tuple[int, ...] | None = None
    caps: bool = False
    spinning: bool = True
    xnnpack: bool = True
    providers: tuple[str, ...] = ()
    delegates: tuple[str, ...] = ()
    most: int = 2000


def clusters(topology: wire.Topology) -> tuple[Cluster, ...]:
    """The device's clusters of usable CPUs, fastest first: by capacity, else by highest clock, else by kind of core."""
    policies = {policy.name: policy for policy in topology.policies}
    alike: dict[tuple[int | None, float | None, int | None], list[wire.Cpu]] = {}
    for cpu in topology.cpus:
        if cpu.online and cpu.usable:
            policy = policies.get(cpu.policy or "")
            max_hz = policy.hardware_max_hz if policy is not None else None
            alike.setdefault((cpu.capacity, max_hz, _part(cpu.midr)), []).append(cpu)
    ordered = sorted(alike.items(), key=lambda item: (_slowness(*item[0]), item[1][0].number))
    found = []
    for name, ((capacity, max_hz, part), members) in zip(_names(len(ordered)), ordered, strict=True):
        own = tuple(dict.fromkeys(cpu.policy for cpu in members if cpu.policy in policies and cpu.policy is not None))
        cpus = tuple(sorted(cpu.number for cpu in members))
        steps_hz = _steps_hz([policies[one] for one in own])
        found.append(
            Cluster(name=name, cpus=cpus, policies=own, capacity=capacity, max_hz=max_hz, part=part, steps_hz=steps_hz)
        )
    return tuple(found)


def default(topology: wire.Topology, runtime: str) -> Configuration:
    """What this runtime does when it is told nothing."""
    usable = sum(cpu.online and cpu.usable for cpu in topology.cpus)
    return Configuration(runtime=runtime, threads=1 if runtime in ONE_THREAD else max(1, usable))


def configurations(topology: wire.Topology, choices: Choices) -> list[Configuration]:
    """Every sensible configuration, none twice, always in the same order; first what the runtime does untold."""
    first = default(topology, choices.runtimes[0])
    found: list[Configuration] = []
    for n_steps in range(MOST_STEPS if choices.caps else 1, 0, -1):
        found = list(dict.fromkeys([first, *_all(topology, choices, n_steps)]))
        if len(found) <= choices.most:
            return found
    kept = np.linspace(0, len(found) - 1, choices.most).round().astype(int)
    return [found[place] for place in kept]


def _all(topology: wire.Topology, choices: Choices, n_steps: int) -> Iterator[Configuration]:
    groups = clusters(topology)
    for runtime in choices.runtimes:
        for placed in _placed(groups, runtime, choices):
            used = [one for one in groups if not placed.affinity or set(one.cpus) & set(placed.affinity)]
            for variant in _variants(placed, choices):
                yield variant
                if variant.xnnpack and not variant.delegate and not variant.provider:
                    for caps in _caps(used, n_steps):
                        yield replace(variant, caps=caps)


def _placed(groups: Sequence[Cluster], runtime: str, choices: Choices) -> Iterator[Configuration]:
    """Threads left to the kernel, then so many on each cluster, with the calling thread on the fastest of them."""
    wanted = None if choices.threads is None else set(choices.threads)
    n_cpus = sum(len(group.cpus) for group in groups)
    for threads in _counts(n_cpus) if wanted is None else sorted(wanted):
        yield Configuration(runtime=runtime, threads=threads)
    for shares in itertools.product(*([0, *_counts(len(group.cpus))] for group in groups)):
        threads = sum(shares)
        if threads == 0 or (wanted is not None and threads not in wanted):
            continue
        cpus = tuple(cpu for group, share in zip(groups, shares, strict=True) for cpu in group.cpus[:share])
        names = [group.name for group, share in zip(groups, shares, strict=True) if share]
        placement = names[0] if len(names) == 1 else MIXED
        yield Configuration(runtime=runtime, threads=threads, affinity=cpus, placement=placement)


def _variants(placed: Configuration, choices: Choices) -> Iterator[Configuration]:
    yield placed
    if choices.spinning and placed.runtime in SPINNING and placed.threads > 1:
        yield replace(placed, spinning=False)
    if placed.runtime in XNNPACK:
        if choices.xnnpack:
            yield replace(placed, xnnpack=False)
        if not placed.affinity:
            yield from (replace(placed, delegate=one) for one in choices.delegates)
    elif placed.runtime == "onnxruntime" and not placed.affinity:
        yield from (replace(placed, provider=one) for one in choices.providers)


def _caps(used: Sequence[Cluster], n_steps: int) -> Iterator[tuple[wire.ClockCap, ...]]:
    """Every combination of capped clusters among those that are used, but none where nothing is capped."""
    each = max(1, round(n_steps / len(used))) if used else 1
    levels = [_levels(len(group.steps_hz), each) for group in used]
    for chosen in itertools.product(*levels):
        caps = tuple(
            wire.ClockCap(policy, group.steps_hz[place])
            for group, place in zip(used, chosen, strict=True)
            if group.steps_hz and place < len(group.steps_hz) - 1
            for policy in group.policies
        )
        if caps:
            yield caps


def _levels(n_steps: int, wanted: int) -> list[int]:
    """Places of so many steps, evenly spread, the fastest first."""
    if n_steps == 0 or wanted == 1:
        return [max(n_steps - 1, 0)]
    return sorted({round(place) for place in np.linspace(0, n_steps - 1, min(wanted, n_steps))}, reverse=True)


def _counts(n_cpus: int) -> list[int]:
    if n_cpus <= EVERY_COUNT:
        return list(range(1, n_cpus + 1))
    return sorted({*(2**k for k in range(n_cpus.bit_length()) if 2**k <= n_cpus), n_cpus})


def _steps_hz(policies: Sequence[wire.ClockPolicy]) -> tuple[float, ...]:
    """The steps that all of the policies have; evenly spread ones where the driver lists none, as intel_pstate."""
    if not policies or not all(policy.settable for policy in policies):
        return ()
    if all(policy.clocks_hz for policy in policies):
        common = set.intersection(*(set(policy.clocks_hz) for policy in policies))
        return tuple(sorted(common))
    low = [policy.min_hz for policy in policies if policy.min_hz]
    high = [policy.hardware_max_hz for policy in policies if policy.hardware_max_hz]
    if len(low) < len(policies) or len(high) < len(policies) or max(low) >= min(high):
        return ()
    return tuple(round(float(hz) / 1e3) * 1e3 for hz in np.linspace(max(low), min(high), MOST_STEPS))


def _slowness(capacity: int | None, max_hz: float | None, part: int | None) -> tuple[float, float, int]:
    kind = 0 if part in LARGE_PARTS else 2 if part in SMALL_PARTS else 1
    return -(capacity or 0), -(max_hz or 0.0), kind


def _part(midr: int | None) -> int | None:
    return None if midr is None else midr >> 4 & 0xFFF


def _names(n: int) -> list[str]:
    if n <= 1:
        return [ALONE] * n
    between = [MIDDLE] if n == 3 else [f"{MIDDLE}{k + 1}" for k in range(n - 2)]
    return [BIG, *between, LITTLE]
