"""Batteries of the kernel's power_supply class (Documentation/ABI/testing/sysfs-class-power).

By that a current is in uA and negative while it flows out; vendors disagree, so values leave here as they are, and the
host finds sign and unit from the load.
"""

from typing import List, Tuple

from device_agents.machine import Machine
from device_agents.power.files_meter import FilesMeter, text, why_unreadable
from device_agents.wire import BATTERY, POWER, MeterInfo

POWER_SUPPLY = "/sys/class/power_supply"
W_PER_UA_UV, W_PER_UW = 1e-12, 1e-6
# An assumption: gauges renew their current some 0.2 s to some seconds apart, and no file says how often.
PERIOD_S = 1.0
DENIED = "not for this user (Android's SELinux denies it to apps): install Termux:API, or measure over adb"


def find(machine: Machine) -> List[FilesMeter]:
    """Every battery that feeds the device and shows a current or a power."""
    found = []
    for supply in machine.list(POWER_SUPPLY):
        base = f"{POWER_SUPPLY}/{supply}"
        # "Device" is the battery of a mouse or a pen.
        if text(machine, f"{base}/type") != "Battery" or text(machine, f"{base}/scope") == "Device":
            continue
        names = machine.list(base)
        paths: Tuple[str, ...]
        # power_now comes second: where there is both it often is what a charger negotiated, or has no sign.
        if "current_now" in names and "voltage_now" in names:
            paths, factor = (f"{base}/current_now", f"{base}/voltage_now"), W_PER_UA_UV
        elif "power_now" in names:
            paths, factor = (f"{base}/power_now",), W_PER_UW
        else:
            continue
        info = MeterInfo(
            name=f"battery:{supply}",
            source="battery",
            kind=POWER,
            boundary=BATTERY,
            channels=(supply,),
            period_s=PERIOD_S,
            on_charge=True,
            not_covered=("losses of charger and battery",),
            unusable=why_unreadable(machine, (paths,), DENIED),
        )
        found.append(FilesMeter(machine, info, (paths,), factor))
    return found
