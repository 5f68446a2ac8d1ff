"""Power rails of Pixel phones (ODPM), and what Termux tells of the battery.

ODPM counts uWs per rail since boot, downstream of the battery, so that a charger does not disturb it: below iio for
root, else by `dumpsys` (adb). Its clock is that since boot. Termux asks its app, a program for each value: slow.
"""

import json
import re
from typing import Dict, List, Optional, Tuple, Union

from device_agents.machine import Machine, OpenFile
from device_agents.power.files_meter import text
from device_agents.wire import BATTERY, ENERGY, POWER, SOC_RAILS, MeterInfo

IIO = "/sys/bus/iio/devices"
RAIL = re.compile(r"^CH\d+\(T=\d+\)\[([^\]]+)\], (\d+)", re.MULTILINE)
J_PER_UWS, W_PER_UA_MV = 1e-6, 1e-9
SERVICE = ("dumpsys", "android.hardware.power.stats.IPowerStats/default")
DUMPED = re.compile(r"^\s*\[([^\]]+)\]:\S*\s+([0-9.]+) mWs", re.MULTILINE)
J_PER_MWS = 1e-3
# The service prints 32-bit floats: at 10 kJ since boot a step is 1 mWs (hardware/interfaces, PowerStatsAidl).
DUMPED_STEP_J = 1e-3
# The rails contain each other on no device that is documented; display and radios are rails as well.
NOT_COVERED = ("what is on no rail",)
TERMUX = "termux-battery-status"
TERMUX_PERIOD_S = 1.0


class OdpmMeter:
    """Every rail of one chip; all come from one file."""

    def __init__(self, machine: Machine, info: MeterInfo, path: str) -> None:
        self.info = info
        self._machine = machine
        self._path = path
        self._file: Optional[OpenFile] = None

    def open(self) -> None:
        """Open the counters."""
        self.close()
        self._file = self._machine.open(self._path)

    def read(self) -> Tuple[float, ...]:
        """J of every rail since boot."""
        if self._file is None:
            raise OSError("the counters are not open")
        counted = _rails(self._file.read())
        return tuple(counted[rail] for rail in self.info.channels)

    def close(self) -> None:
        """Close the counters."""
        if self._file is not None:
            self._file.close()
            self._file = None


class ProgramMeter:
    """A meter that only a program can read: one start of it for each value."""

    def __init__(self, machine: Machine, info: MeterInfo, argv: Tuple[str, ...]) -> None:
        self.info = info
        self._machine = machine
        self._argv = argv

    def open(self) -> None:
        """Nothing is kept open."""

    def read(self) -> Tuple[float, ...]:
        """J of every rail (dumpsys), or W of the battery (Termux; signed as the phone does)."""
        code, answer = self._machine.run(self._argv)
        if code:
            raise OSError(f"{self._argv[0]} ended with code {code}")
        if self.info.source == "termux":
            return (_termux_w(answer),)
        counted = {rail: float(value) * J_PER_MWS for rail, value in DUMPED.findall(answer)}
        return tuple(counted[rail] for rail in self.info.channels)

    def close(self) -> None:
        """Nothing is kept open."""


AndroidMeter = Union[OdpmMeter, ProgramMeter]


def find(machine: Machine) -> List[AndroidMeter]:
    """Rails by file, or by dumpsys where the files are closed; and Termux' battery."""
    found: List[OdpmMeter | ProgramMeter] = []
    denied = None
    for device in machine.list(IIO):
        path = f"{IIO}/{device}/energy_value"
        if "energy_value" not in machine.list(f"{IIO}/{device}"):
            continue
        try:
            rails = tuple(_rails(machine.read(path)))
        except (OSError, ValueError) as error:
            denied = f"{path}: {error}"
            continue
        name = text(machine, f"{IIO}/{device}/name") or device
        found.append(OdpmMeter(machine, _odpm_info(machine, f"odpm:{name}", rails, f"{IIO}/{device}", None), path))
    if not found:
        found += _dumped(machine, denied)
    return found + _termux(machine)


def _odpm_info(machine: Machine, name: str, rails: Tuple[str, ...], base: str, unusable: Optional[str]) -> MeterInfo:
    rate = text(machine, f"{base}/sampling_rate")
    try:
        period_s = 1 / float(rate) if rate else None
    except (ValueError, ZeroDivisionError):
        period_s = None
    return MeterInfo(
        name=name,
        source="odpm",
        kind=ENERGY,
        boundary=SOC_RAILS,
        channels=rails,
        period_s=period_s,
        resolution=J_PER_UWS,
        not_covered=NOT_COVERED,
        unusable=unusable,
    )


def _rails(counters: str) -> Dict[str, float]:
    """J of every rail.

    Raises:
        ValueError: there is none.
    """
    found = {rail: int(value) * J_PER_UWS for rail, value in RAIL.findall(counters)}
    if not found:
        raise ValueError(f"no rail in {counters[:60]!r}")
    return found


def _dumped(machine: Machine, denied: Optional[str]) -> List[AndroidMeter]:
    try:
        code, answer = machine.run(SERVICE)
    except OSError:
        return []
    rails = tuple(rail for rail, _ in DUMPED.findall(answer)) if code == 0 else ()
    if not rails:
        return []
    info = MeterInfo(
        name="dumpsys:power-stats",
        source="odpm",
        kind=ENERGY,
        boundary=SOC_RAILS,
        channels=rails,
        period_s=1.0,
        resolution=DUMPED_STEP_J,
        not_covered=(*NOT_COVERED, *((denied,) if denied else ())),
    )
    return [ProgramMeter(machine, info, SERVICE)]


def _termux(machine: Machine) -> List[AndroidMeter]:
    try:
        code, answer = machine.run((TERMUX,))
    except OSError:
        return []
    reason = None if code == 0 else f"{TERMUX} ended with code {code}: is the app Termux:API installed?"
    if reason is None:
        try:
            _termux_w(answer)
        except (KeyError, ValueError, TypeError) as error:
            reason = f"{TERMUX} tells no current and voltage: {type(error).__name__} {error}"
    info = MeterInfo(
        name="termux:battery",
        source="termux",
        kind=POWER,
        boundary=BATTERY,
        channels=("battery",),
        period_s=TERMUX_PERIOD_S,
        on_charge=True,
        not_covered=("losses of charger and battery",),
        unusable=reason,
    )
    return [ProgramMeter(machine, info, (TERMUX,))]


def _termux_w(answer: str) -> float:
    """Signed as the phone does: uA x mV."""
    told = json.loads(answer)
    return float(told["current"]) * float(told["voltage"]) * W_PER_UA_MV
