"""Energy counters of x86 processors (kernel: Documentation/power/powercap/powercap.rst).

A package zone contains its core and uncore, psys contains the packages: children are never added to their parents. dram
stands beside its package, but wraps elsewhere on servers. So packages, memory and psys are meters of their own.
"""

from typing import Dict, List, Tuple

from device_agents.machine import Machine
from device_agents.power.files_meter import FilesMeter, text, why_unreadable
from device_agents.wire import ENERGY, SOC_RAILS, UNSTATED, MeterInfo

POWERCAP = "/sys/class/powercap"
J_PER_UNIT = 1e-6
# "The energy counters are updated approximately every 1 ms" (Intel SDM volume 3, 15.10: RAPL interfaces).
PERIOD_S = 0.001
# They have 32 bits: the range tells their step (drivers/powercap/intel_rapl_common.c).
COUNTS = 2**32
KINDS = {
    "package": (SOC_RAILS, "memory, disks, network, screen and the losses of converters"),
    "psys": (UNSTATED, "what it contains depends on the board, and is not told"),
    "dram": (UNSTATED, "all but the memory"),
}
DENIED = "root's alone since CVE-2020-8694: give your group the right by a udev rule, or run the agent as root"


def find(machine: Machine) -> List[FilesMeter]:
    """All packages together, all memory, and psys."""
    zones: Dict[str, List[Tuple[str, str]]] = {}
    for zone in machine.list(POWERCAP):
        base = f"{POWERCAP}/{zone}"
        name = text(machine, f"{base}/name") or ""
        kind = name.partition("-")[0]
        # intel-rapl-mmio is the same package by another way.
        if zone.startswith("intel-rapl:") and kind in KINDS:
            zones.setdefault(kind, []).append((name if name != kind else f"{kind} {zone}", base))
    return [_meter(machine, kind, members) for kind, members in sorted(zones.items())]


def _meter(machine: Machine, kind: str, zones: List[Tuple[str, str]]) -> FilesMeter:
    paths = tuple((f"{base}/energy_uj",) for _, base in zones)
    ranges = {text(machine, f"{base}/max_energy_range_uj") or "" for _, base in zones}
    known = ranges.pop() if len(ranges) == 1 else ""
    wraps_at_j = int(known) * J_PER_UNIT if known.isdigit() else None
    boundary, not_covered = KINDS[kind]
    info = MeterInfo(
        name=f"rapl:{kind}",
        source="rapl",
        kind=ENERGY,
        boundary=boundary,
        channels=tuple(zone for zone, _ in zones),
        period_s=PERIOD_S,
        resolution=wraps_at_j / COUNTS if wraps_at_j else None,
        wraps_at_j=wraps_at_j,
        not_covered=(not_covered,),
        unusable=why_unreadable(machine, paths, DENIED),
    )
    return FilesMeter(machine, info, paths, J_PER_UNIT)
