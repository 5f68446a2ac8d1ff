"""Rails of NVIDIA Jetson boards, measured by INA3221 chips, in both generations of paths.

JetPack 4 (L4T up to 32) has them below iio, with a power in mW; later ones as hwmon chips with volts and amperes. Where
a rail is the module's input, it is the total and no other is added to it; else the rails add up (NVIDIA Jetson Linux
Developer Guide, "Software-based power consumption modeling").
"""

from typing import List, Optional, Tuple

from device_agents.machine import Machine
from device_agents.power.files_meter import FilesMeter, text, why_unreadable
from device_agents.power.hwmon import I2C, TOTAL_RAILS, period_s
from device_agents.wire import MODULE, POWER, SOC_RAILS, MeterInfo

OLD_DRIVER = "/sys/bus/i2c/drivers/ina3221x"
CHIP = "ina3221"
# Boards' device trees leave it out of the hardware's sum (mainline p3701); which others it contains nobody documents.
LEFT_OUT = ("VIN_SYS_5V0",)
W_PER_MW, W_PER_MV_MA = 1e-3, 1e-6
# 3 channels x (1100 + 1100) us with one average: the driver's default configuration 0x7127.
CONVERSION_S = 0.0066

Rail = Tuple[str, Tuple[str, ...], float]


def find(machine: Machine) -> List[FilesMeter]:
    """The module's total; nothing on what is no Jetson."""
    if "NVIDIA" not in (text(machine, "/proc/device-tree/model") or ""):
        return []
    rails, base = _old_rails(machine), None
    if not rails:
        rails, base = _new_rails(machine)
    total = [rail for rail in rails if rail[0] in TOTAL_RAILS]
    chosen = total[:1] or [rail for rail in rails if rail[0] not in LEFT_OUT]
    if not chosen:
        return []
    channels = tuple(rail[1] for rail in chosen)
    info = MeterInfo(
        name="jetson" if not total else f"jetson:{total[0][0]}",
        source="jetson",
        kind=POWER,
        boundary=MODULE if total else SOC_RAILS,
        channels=tuple(rail[0] for rail in chosen),
        period_s=(period_s(machine, base) if base is not None else None) or CONVERSION_S,
        averages=True,
        not_covered=("the carrier board",) if total else ("the carrier board", *LEFT_OUT, "rails without a sensor"),
        unusable=why_unreadable(machine, channels),
    )
    return [FilesMeter(machine, info, channels, chosen[0][2])]


def _old_rails(machine: Machine) -> List[Rail]:
    found: List[Rail] = []
    for device in machine.list(OLD_DRIVER):
        for folder in machine.list(f"{OLD_DRIVER}/{device}"):
            if not folder.startswith("iio:device"):
                continue
            base = f"{OLD_DRIVER}/{device}/{folder}"
            for k in "012":
                name = text(machine, f"{base}/rail_name_{k}")
                if name and "NC" not in name:
                    found.append((name, (f"{base}/in_power{k}_input",), W_PER_MW))
    return found


def _new_rails(machine: Machine) -> Tuple[List[Rail], Optional[str]]:
    """Channel 7 is the sum of the shunts' voltages and no rail; labels with NC are not connected."""
    found: List[Rail] = []
    base = None
    for device in machine.list(I2C):
        if text(machine, f"{I2C}/{device}/name") != CHIP:
            continue
        for folder in machine.list(f"{I2C}/{device}/hwmon"):
            base = f"{I2C}/{device}/hwmon/{folder}"
            for k in "123":
                name = text(machine, f"{base}/in{k}_label")
                if name and "NC" not in name:
                    found.append((name, (f"{base}/in{k}_input", f"{base}/curr{k}_input"), W_PER_MV_MA))
    return found, base
