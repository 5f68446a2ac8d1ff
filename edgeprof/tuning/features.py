"""Configurations as numbers that physics would look at, from what the device tells of itself and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from device_agents import wire
from edgeprof.tuning.configuration import ANY, Configuration
from edgeprof.tuning.space import Cluster, clusters

__all__ = ["FEATURES", "features"]

Array = NDArray[np.float64]
# Columns before those of runtimes, providers and delegates, and of each cluster. Logarithms are natural.
FEATURES = (
    "log_threads", "log_sum_speed", "log_min_speed", "log_max_speed", "log_equal_parts_speed",
    "n_clusters", "is_left_to_kernel", "is_spinning_off", "log_dynamic_power", "has_xnnpack", "crowding",
)  # fmt: skip
OF_CLUSTER = ("share_of_cpus", "log_clock")


def features(configurations: Sequence[Configuration], topology: wire.Topology) -> Array:
    """One row for each configuration, (n, d); columns in which all agree are left out."""
    groups = clusters(topology)
    kinds = [f(one) for one in configurations for f in (_runtime, _provider, _delegate)]
    names = sorted({kind for kind in kinds if kind})
    rows = [[*_physical(one, groups), *_one_hot(one, names)] for one in configurations]
    columns = np.array(rows, dtype=np.float64)
    return columns[:, np.ptp(columns, axis=0) > 0]


def _physical(one: Configuration, groups: Sequence[Cluster]) -> list[float]:
    """What `FEATURES` says, then `OF_CLUSTER` for each cluster."""
    clocks = [_clock_share(one, group) for group in groups]
    used = _used(one, groups)
    speeds = [
        speed for group, clock, n in zip(groups, clocks, used, strict=True) for speed in [_speed(group) * clock] * n
    ]
    speeds = speeds or [1.0]  # a device that does not tell its CPUs
    # Voltage rises about in proportion to the clock between half of the highest and the highest.
    power = sum(
        _speed(g) * n * clock * (0.5 + 0.5 * clock) ** 2 for g, clock, n in zip(groups, clocks, used, strict=True)
    )
    row = [
        np.log(one.threads),
        np.log(sum(speeds)),
        np.log(min(speeds)),
        np.log(max(speeds)),
        np.log(min(speeds) * len(speeds)),
        float(sum(n > 0 for n in used)),
        float(one.placement == ANY),
        float(one.spinning is False),
        np.log(power or 1.0),
        float(one.xnnpack),
        max(0.0, one.threads / len(speeds) - 1.0),
    ]
    for group, clock, n in zip(groups, clocks, used, strict=True):
        row += [n / len(group.cpus), np.log(clock) if n else 0.0]
    return row


def _used(one: Configuration, groups: Sequence[Cluster]) -> list[int]:
    """How many CPUs of each cluster are busy; where the kernel chooses, it fills the fastest first."""
    if one.affinity:
        return [len(set(group.cpus) & set(one.affinity)) for group in groups]
    left, used = one.threads, []
    for group in groups:
        used.append(min(left, len(group.cpus)))
        left -= used[-1]
    return used


def _clock_share(one: Configuration, group: Cluster) -> float:
    """The cluster's highest clock under the caps, as a share of its highest."""
    caps = [cap.max_hz for cap in one.caps if cap.policy in group.policies]
    highest = group.max_hz or (group.steps_hz[-1] if group.steps_hz else None)
    return min(caps) / highest if caps and highest else 1.0


def _speed(group: Cluster) -> float:
    """Of one CPU at its highest clock, in whatever the device tells: only ratios count."""
    return float(group.capacity or group.max_hz or 1.0)


def _one_hot(one: Configuration, names: Sequence[str]) -> list[float]:
    own = {_runtime(one), _provider(one), _delegate(one)}
    return [float(name in own) for name in names]


def _runtime(one: Configuration) -> str:
    return f"runtime {one.runtime}"


def _provider(one: Configuration) -> str:
    return f"provider {one.provider}" if one.provider else ""


def _delegate(one: Configuration) -> str:
    return f"delegate {one.delegate}" if one.delegate else ""
