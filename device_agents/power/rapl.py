"""Energy counters of x86 processors (kernel: Documentation/power/powercap/powercap.rst).

A package zone contains its core and uncore, psys contains the packages; dram stands beside them. So children are never
added to their parents: the meters are packages (with dram where there is some), and psys for itself.
"""

from typing import List, Tuple

from device_agents.machine import Machine
from device_agents.power.files_meter import FilesMeter, text, why_unreadable
from device_agents.wire import ENERGY, MODULE, SOC_RAILS, MeterInfo

POWERCAP = "/sys/class/powercap"
J_PER_UNIT = 1e-6
# "The energy counters are updated approximately every 1 ms" (Intel SDM volume 3, 15.10: RAPL interfaces).
PERIOD_S = 0.001
DENIED = "root's alone since CVE-2020-8694: give your group the right by a udev rule, or run the agent as root"


def find(machine: Machine) -> List[FilesMeter]:
    """psys, which sees most, and all packages together with their memory."""
    whole: List[Tuple[str, str]] = []
    packages: List[Tuple[str, str]] = []
    for zone in machine.list(POWERCAP):
        base = f"{POWERCAP}/{zone}"
        name = text(machine, f"{base}/name") or ""
        if not zone.startswith("intel-rapl:"):
            continue
        if name == "psys":
            whole.append((name, base))
        elif name.startswith("package") and zone.count(":") == 1:
            packages.append((name, base))
        elif name == "dram":
            packages.append((f"dram {zone}", base))
    found = []
    if whole:
        found.append(_meter(machine, "rapl:psys", MODULE, whole[:1], ("what psys contains depends on the board",)))
    if packages:
        beside = ("disks, network, screen and the losses of converters",)
        found.append(_meter(machine, "rapl:package", SOC_RAILS, packages, beside))
    return found


def _meter(
    machine: Machine, name: str, boundary: str, zones: List[Tuple[str, str]], not_covered: Tuple[str, ...]
) -> FilesMeter:
    paths = tuple((f"{base}/energy_uj",) for _, base in zones)
    ranges = [text(machine, f"{base}/max_energy_range_uj") for _, base in zones]
    known = [int(one) * J_PER_UNIT for one in ranges if one is not None and one.isdigit()]
    info = MeterInfo(
        name=name,
        source="rapl",
        kind=ENERGY,
        boundary=boundary,
        channels=tuple(zone for zone, _ in zones),
        period_s=PERIOD_S,
        resolution=J_PER_UNIT,
        # Of several counters with different ranges each would need its own: a wrap is then taken for a reset.
        wraps_at_j=known[0] if len(set(known)) == 1 and len(known) == len(zones) else None,
        not_covered=not_covered,
        unusable=why_unreadable(machine, paths, DENIED),
    )
    return FilesMeter(machine, info, paths, J_PER_UNIT)
