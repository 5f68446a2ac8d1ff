"""Power monitor chips that the kernel's hwmon class shows: units and names of Documentation/hwmon/sysfs-interface.

A chip says what flows through its shunt, not what the shunt is in: the boundary is unstated unless a label tells.
"""

from typing import Dict, List, Optional

from device_agents.machine import Machine
from device_agents.power.files_meter import FilesMeter, text, why_unreadable
from device_agents.wire import ENERGY, MODULE, POWER, UNSTATED, MeterInfo

HWMON = "/sys/class/hwmon"
I2C = "/sys/bus/i2c/devices"
# Drivers whose power is that of a shunt. Others (graphics chips, disks, USB ports with what they negotiated) show
# something else than this device's power.
INA_2XX = ("09", "19", "20", "26", "28", "30", "31", "32", "33", "34", "37", "38", "60")
CHIPS = frozenset(f"ina2{k}" for k in INA_2XX)
# Has no powerN_input in mainline: volts times amperes (Documentation/hwmon/ina3221).
VOLTS_AND_AMPERES = "ina3221"
SIMULATED = "simulated"
TOTAL_RAILS = ("VDD_IN", "POM_5V_IN")
# (power_lsb_factor, shunt_div) of drivers/hwmon/ina2xx.c: a step of power is factor x 1000 / (div x shunt in uOhm) W.
INA2XX_STEPS = {
    "ina219": (20, 100),
    "ina220": (20, 100),
    "ina226": (25, 400),
    "ina230": (25, 400),
    "ina231": (25, 400),
}


def find(machine: Machine) -> List[FilesMeter]:
    """Every chip that measures power or energy, in the order of their names."""
    addresses = _addresses(machine)
    # There these chips are one meter, which knows which rail contains the others: jetson.py.
    is_jetson = "NVIDIA" in (text(machine, "/proc/device-tree/model") or "")
    found: List[FilesMeter] = []
    for folder in machine.list(HWMON):
        base = f"{HWMON}/{folder}"
        chip = text(machine, f"{base}/name")
        where = addresses.get(folder)
        if chip == VOLTS_AND_AMPERES and not is_jetson:
            found += _ina3221(machine, base, where)
        elif chip is not None and (chip in CHIPS or chip == SIMULATED):
            found += _chip(machine, base, chip, where)
    return sorted(found, key=lambda meter: meter.info.name)


def _chip(machine: Machine, base: str, chip: str, where: Optional[str]) -> List[FilesMeter]:
    names = machine.list(base)
    label = text(machine, f"{base}/power1_label") or ""
    name = f"hwmon:{chip}" + (f"@{where}" if where else "")
    found = []
    for item, kind in (("energy1_input", ENERGY), ("power1_input", POWER), ("power1_average", POWER)):
        if item not in names:
            continue
        path = f"{base}/{item}"
        info = MeterInfo(
            name=name,
            source="hwmon",
            kind=kind,
            boundary=_boundary(label),
            channels=(label.partition("=")[0] or chip,),
            period_s=period_s(machine, base),
            resolution=_resolution(machine, base, chip) if kind == POWER else 1e-6,
            averages=kind == POWER,
            not_covered=() if label else ("the chip does not say where its shunt is",),
            unusable=why_unreadable(machine, ((path,),)),
        )
        found.append(FilesMeter(machine, info, ((path,),), 1e-6))
    # A counter that is switched off answers ENODATA: its power can be read all the same.
    return sorted(found, key=lambda meter: meter.info.unusable is not None)[:1]


def _ina3221(machine: Machine, base: str, where: Optional[str]) -> List[FilesMeter]:
    """A meter for each of its three shunts: nobody but a label says whether one contains another.

    in4 to in7 are shunt voltages and their sum, not rails.
    """
    found = []
    for k in "123":
        volts, amperes = f"{base}/in{k}_input", f"{base}/curr{k}_input"
        label = text(machine, f"{base}/in{k}_label") or f"channel {k}"
        if label.startswith("NC") or text(machine, amperes) is None:
            continue
        info = MeterInfo(
            name=f"hwmon:ina3221{'@' + where if where else ''}/{label.replace(' ', '-')}",
            source="hwmon",
            kind=POWER,
            boundary=_boundary(label),
            channels=(label,),
            period_s=period_s(machine, base),
            averages=True,
            unusable=why_unreadable(machine, ((volts, amperes),)),
        )
        found.append(FilesMeter(machine, info, ((volts, amperes),), 1e-6))
    return found


def _addresses(machine: Machine) -> Dict[str, str]:
    """The place on its bus of every hwmonN: N changes from boot to boot, 1-0040 does not."""
    return {folder: device for device in machine.list(I2C) for folder in machine.list(f"{I2C}/{device}/hwmon")}


def _boundary(label: str) -> str:
    """A simulated sensor's label says it ("rail=module"); a Jetson's total rail is the module's input."""
    name, _, stated = label.partition("=")
    return stated or (MODULE if name in TOTAL_RAILS else UNSTATED)


def period_s(machine: Machine, base: str) -> Optional[float]:
    """How often the chip has a new value, by `update_interval` in ms."""
    interval = text(machine, f"{base}/update_interval")
    return int(interval) * 1e-3 if interval and interval.isdigit() and int(interval) else None


def _resolution(machine: Machine, base: str, chip: str) -> Optional[float]:
    """The step of the power register: by the driver a fixed voltage over the shunt that it was told."""
    told, shunt = text(machine, f"{base}/power1_resolution"), text(machine, f"{base}/shunt_resistor")
    if told is not None:
        return float(told) * 1e-6
    if shunt is None or not shunt.isdigit() or not int(shunt) or chip not in INA2XX_STEPS:
        return None
    factor, divisor = INA2XX_STEPS[chip]
    return factor * 1000 / (divisor * int(shunt))
