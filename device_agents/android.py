"""What an Android phone tells of its battery and its screen, where the kernel's files are closed.

Over adb `dumpsys` tells; in Termux the app Termux:API does (`termux-battery-status`). Nothing here is asked on other
systems: neither program is there.
"""

import json
import re
from typing import Callable, Dict, Optional, Sequence, Tuple

from device_agents.machine import Machine

# BatteryManager.BATTERY_STATUS_*, in the kernel's words.
STATES = {"1": "Unknown", "2": "Charging", "3": "Discharging", "4": "Not charging", "5": "Full"}
FEEDS = {"AC powered": "Mains", "USB powered": "USB", "Wireless powered": "Wireless", "Dock powered": "Dock"}
TERMUX_FEEDS = {"PLUGGED_AC": "Mains", "PLUGGED_USB": "USB", "PLUGGED_WIRELESS": "Wireless", "PLUGGED_DOCK": "Dock"}
# `dumpsys battery unplug` and `set` make the service say what it is told to, until `dumpsys battery reset`.
FROZEN = "UPDATES STOPPED"
# Both ask another process, which may be asleep; a Termux without its app never answers.
ANSWER_S = 4.0
AWAKE = re.compile(r"^\s*mWakefulness=(\w+)", re.MULTILINE)
LOCKED = re.compile(r"\(current\).*?\bdeviceLocked=(\d)", re.DOTALL)


def power_source(machine: Machine) -> Optional[str]:
    """What feeds the phone, in the words of `conditions.read_power_source`; None where nothing tells."""
    ways: Sequence[Tuple[Tuple[str, ...], Callable[[str], Optional[str]]]] = (
        (("dumpsys", "battery"), _of_dumpsys),
        (("termux-battery-status",), _of_termux),
    )
    for argv, read in ways:
        answer = machine.ask(argv, ANSWER_S)
        told = read(answer) if answer is not None else None
        if told is not None:
            return told
    return None


def _of_dumpsys(answer: str) -> Optional[str]:
    """Lines of "  level: 57"; the charge is `level` of `scale`."""
    fields = _fields(answer)
    if "status" not in fields or "level" not in fields:
        return None
    found = [f"battery {STATES.get(fields['status'], 'Unknown')}{_charge(fields['level'], fields.get('scale', '100'))}"]
    found += [f"{word} online" for name, word in FEEDS.items() if fields.get(name) == "true"]
    if FROZEN in answer:
        found.append("as somebody told the phone to say (dumpsys battery reset ends that)")
    return ", ".join(found)


def _fields(answer: str) -> Dict[str, str]:
    split = (line.split(":", 1) for line in answer.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in split}


def _charge(level: str, scale: str) -> str:
    if not level.isdigit() or not scale.isdigit() or int(scale) == 0:
        return ""
    return f" at {round(100 * int(level) / int(scale))} %"


def _of_termux(answer: str) -> Optional[str]:
    try:
        told = json.loads(answer)
    except ValueError:
        return None
    if not isinstance(told, dict) or not isinstance(told.get("status"), str):
        return None
    share = told.get("percentage")
    charge = f" at {share} %" if isinstance(share, int) else ""
    found = [f"battery {told['status'].replace('_', ' ').capitalize()}{charge}"]
    plugged = told.get("plugged")
    if plugged in TERMUX_FEEDS:
        found.append(f"{TERMUX_FEEDS[plugged]} online")
    return ", ".join(found)


def screen(machine: Machine) -> Optional[str]:
    """Whether the screen is on, and locked, as "off, locked"; None where nobody may ask, and on other systems."""
    power = machine.ask(("dumpsys", "power"), ANSWER_S)
    awake = AWAKE.search(power or "")
    if awake is None:
        return None
    lock = LOCKED.search(machine.ask(("dumpsys", "trust"), ANSWER_S) or "")
    state = "on" if awake[1] == "Awake" else "off"
    return state if lock is None else f"{state}, {'locked' if lock[1] == '1' else 'unlocked'}"
