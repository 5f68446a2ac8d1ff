"""Power rails of Pixel phones (ODPM), and what Termux tells of the battery.

ODPM counts uWs per rail since boot, downstream of the battery, so that a charger does not disturb it: below iio for
root, else by `dumpsys` (adb). Its clock is that since boot. Termux asks its app, a program for each value: slow.
"""

import json
import math
import re
from typing import Dict, Iterable, List, Optional, Sequence, Tuple, Union

from device_agents.machine import Machine, OpenFile
from device_agents.power.files_meter import text
from device_agents.wire import BATTERY, ENERGY, POWER, SOC_RAILS, MeterInfo

IIO = "/sys/bus/iio/devices"
RAIL = re.compile(r"^CH\d+\(T=\d+\)\[([^\]]+)\], (\d+)", re.MULTILINE)
J_PER_UWS, W_PER_UA_MV = 1e-6, 1e-9
SERVICE = ("dumpsys", "android.hardware.power.stats.IPowerStats/default")
DUMPED = re.compile(r"^\s*\[([^\]]+)\]:\S*\s+([0-9.]+) mWs", re.MULTILINE)
J_PER_MWS = 1e-3
# The rails contain each other on no device that is documented; display and radios are rails as well.
NOT_COVERED = ("what is on no rail",)
TERMUX = "termux-battery-status"
UNPLUGGED = "UNPLUGGED"
ADVICE = "is the app Termux:API installed, from where Termux came from?"
# As often as a program may be started without becoming a load of its own.
PROGRAM_PERIOD_S = 1.0


class OdpmMeter:
    """Every rail of every chip; those of a chip come from one file."""

    def __init__(self, machine: Machine, info: MeterInfo, paths: Sequence[str]) -> None:
        self.info = info
        self._machine = machine
        self._paths = paths
        self._files: List[OpenFile] = []

    def open(self) -> None:
        """Open the counters."""
        self.close()
        for path in self._paths:
            self._files.append(self._machine.open(path))

    def read(self) -> Tuple[float, ...]:
        """J of every rail since boot."""
        if not self._files:
            raise OSError("the counters are not open")
        counted = _rails(file.read() for file in self._files)
        return tuple(counted[rail] for rail in self.info.channels)

    def close(self) -> None:
        """Close the counters."""
        for file in self._files:
            file.close()
        self._files = []


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
    """Rails by file, and by dumpsys where the files are closed; and Termux' battery."""
    found: List[AndroidMeter] = []
    chips = [f"{IIO}/{one}" for one in machine.list(IIO) if "energy_value" in machine.list(f"{IIO}/{one}")]
    if chips:
        found.append(_odpm(machine, chips))
    if not found or found[0].info.unusable is not None:
        found += _dumped(machine)
    return found + _termux(machine)


def _odpm(machine: Machine, chips: Sequence[str]) -> OdpmMeter:
    """One meter for all chips: a phone has two, and its rails are spread over both."""
    paths = [f"{chip}/energy_value" for chip in chips]
    rails: Dict[str, float] = {}
    reason = None
    try:
        rails = _rails(machine.read(path) for path in paths)
    except PermissionError as error:
        reason = f"{error}: root alone may read the rails"
    except (OSError, ValueError) as error:
        reason = f"{IIO}: {error}"
    try:
        period_s = max(1 / float(text(machine, f"{chip}/sampling_rate") or "") for chip in chips)
    except (ValueError, ZeroDivisionError):
        period_s = None
    return OdpmMeter(machine, _rails_info("odpm", tuple(rails), period_s, J_PER_UWS, reason), paths)


def _rails_info(
    name: str, rails: Tuple[str, ...], period_s: Optional[float], step_j: float, reason: Optional[str] = None
) -> MeterInfo:
    return MeterInfo(
        name=name,
        source="odpm",
        kind=ENERGY,
        boundary=SOC_RAILS,
        channels=rails,
        period_s=period_s,
        resolution=step_j,
        not_covered=NOT_COVERED,
        unusable=reason,
    )


def _rails(counters: Iterable[str]) -> Dict[str, float]:
    """J of every rail.

    Raises:
        ValueError: there is none.
    """
    found = {rail: int(value) * J_PER_UWS for one in counters for rail, value in RAIL.findall(one)}
    if not found:
        raise ValueError("no rail has a counter")
    return found


def _dumped(machine: Machine) -> List[AndroidMeter]:
    try:
        code, answer = machine.run(SERVICE)
    except OSError:
        return []
    counted = {rail: float(value) for rail, value in DUMPED.findall(answer)} if code == 0 else {}
    if not counted:
        return []
    # It prints 32-bit floats: the step grows with what was counted (hardware/interfaces, PowerStatsAidl).
    step_j = 2.0 ** (math.frexp(max(counted.values()))[1] - 24) * J_PER_MWS
    info = _rails_info("odpm:dumpsys", tuple(counted), PROGRAM_PERIOD_S, step_j)
    return [ProgramMeter(machine, info, SERVICE)]


def _termux(machine: Machine) -> List[AndroidMeter]:
    reason = None
    try:
        code, answer = machine.run((TERMUX,))
        if code or not answer.strip():
            reason = f"{TERMUX} does not answer: {ADVICE}"
        else:
            _termux_w(answer)
    except (FileNotFoundError, PermissionError):
        return []
    except TimeoutError as error:
        reason = f"{error}: {ADVICE}"
    except (OSError, ValueError) as error:
        reason = str(error)
    info = MeterInfo(
        name="battery:termux",
        source="termux",
        kind=POWER,
        boundary=BATTERY,
        channels=("battery",),
        period_s=PROGRAM_PERIOD_S,
        on_charge=True,
        not_covered=("losses of charger and battery",),
        unusable=reason,
    )
    return [ProgramMeter(machine, info, (TERMUX,))]


def _termux_w(answer: str) -> float:
    """Signed as the phone does: uA x mV.

    Raises:
        ValueError: there is none, or the phone is plugged in: /sys does not tell apps, so that nothing else would know.
    """
    told = json.loads(answer)
    try:
        watts = float(told["current"]) * float(told["voltage"]) * W_PER_UA_MV
    except (KeyError, TypeError) as error:
        raise ValueError(f"{TERMUX} tells no current and voltage: {error}") from error
    if told.get("plugged", UNPLUGGED) != UNPLUGGED:
        raise ValueError(f"the phone is charging ({told['plugged']}): unplug it")
    return watts
