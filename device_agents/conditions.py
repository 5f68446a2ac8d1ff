"""Read what a device's numbers depend on: clocks, temperatures, throttling, load, power source. Never guesses.

Paths and units are those of the kernel's documentation: admin-guide/pm/cpufreq, driver-api/thermal/sysfs-api,
hwmon/sysfs-interface, accounting/psi, filesystems/proc, ABI/testing/sysfs-class-power.
"""

import os
from typing import Callable, Dict, List, Optional, Tuple, TypeVar

from device_agents import android
from device_agents.machine import Machine
from device_agents.wire import Clocks, Conditions

T = TypeVar("T")

CPUFREQ = "/sys/devices/system/cpu/cpufreq"
THERMAL = "/sys/class/thermal"
HWMON = "/sys/class/hwmon"
POWER_SUPPLY = "/sys/class/power_supply"
# States of a battery on a charger.
CHARGING = ("Charging", "Full", "Not charging")
# vcgencmd comes first: the sysfs node is stuck at 0 on some kernels (raspberrypi/linux issue 2367).
PI_THROTTLED = "/sys/devices/platform/soc/soc:firmware/get_throttled"


def read(machine: Machine) -> Conditions:
    """Everything that can be read now; what cannot be is listed in `unreadable` with the reason."""
    unreadable: Dict[str, str] = {}

    def attempt(what: str, reader: Callable[[], T]) -> Optional[T]:
        try:
            return reader()
        except (OSError, ValueError, IndexError, KeyError) as error:
            unreadable[what] = str(error) or type(error).__name__
            return None

    clocks = attempt("clocks", lambda: read_clocks(machine)) or ()
    if not any(clock.governor for clock in clocks):
        unreadable["governor"] = f"no scaling_governor under {CPUFREQ}"
    if not any(clock.current_hz for clock in clocks):
        unreadable["clock"] = f"no scaling_cur_freq under {CPUFREQ}"
    temperatures = attempt("temperatures", lambda: read_temperatures(machine)) or {}
    if not temperatures:
        unreadable["temperature"] = f"no sensor under {THERMAL} or {HWMON}"
    stat = attempt("cpu time", lambda: read_cpu_times(machine))
    throttled = attempt("throttle bits", lambda: read_throttled(machine)) if is_raspberry_pi(machine) else None
    return Conditions(
        at_s=machine.now(),
        clocks=clocks,
        temperatures_c=temperatures,
        throttled=throttled,
        load_1min=attempt("load", lambda: float(machine.read("/proc/loadavg").split()[0])),
        busy_s=stat[0] if stat else None,
        steal_s=stat[1] if stat else None,
        total_s=stat[2] if stat else None,
        process_s=machine.process_s(),
        pressure_s=attempt("pressure", lambda: read_pressure(machine)) or {},
        memory_available_bytes=attempt("memory", lambda: read_meminfo(machine, "MemAvailable")),
        power_source=read_power_source(machine),
        screen=android.screen(machine),
        cpuset=_text(machine, "/proc/self/cpuset") or None,
        allowed_cpus=read_allowed_cpus(machine),
        unreadable=unreadable,
    )


def _text(machine: Machine, path: str) -> Optional[str]:
    try:
        return machine.read(path).strip()
    except OSError:
        return None


def _khz(machine: Machine, path: str) -> Optional[float]:
    text = _text(machine, path)
    return float(text) * 1e3 if text and text.isdigit() else None


def read_clocks(machine: Machine) -> Tuple[Clocks, ...]:
    """One entry per cpufreq policy (a cluster of CPUs that share a clock)."""
    found = []
    for policy in machine.list(CPUFREQ):
        if not policy.startswith("policy"):
            continue
        base = f"{CPUFREQ}/{policy}"
        found.append(
            Clocks(
                cpus=_text(machine, f"{base}/related_cpus") or policy[len("policy") :],
                governor=_text(machine, f"{base}/scaling_governor"),
                current_hz=_khz(machine, f"{base}/scaling_cur_freq"),
                min_hz=_khz(machine, f"{base}/scaling_min_freq"),
                max_hz=_khz(machine, f"{base}/scaling_max_freq"),
                hardware_max_hz=_khz(machine, f"{base}/cpuinfo_max_freq"),
                time_in_state_s=_time_in_state(_text(machine, f"{base}/stats/time_in_state") or ""),
            )
        )
    return tuple(found)


def _time_in_state(text: str) -> Dict[str, float]:
    """Lines of "<kHz> <time in 10 ms>" (admin-guide/pm: cpufreq-stats)."""
    pairs = [line.split() for line in text.splitlines()]
    return {f"{int(khz) * 1000}": int(ticks) * 0.01 for khz, ticks in (p for p in pairs if len(p) == 2)}


def read_temperatures(machine: Machine) -> Dict[str, float]:
    """Degrees by zone type, or by hwmon chip and sensor where there is no thermal zone."""
    found: Dict[str, float] = {}
    for zone in machine.list(THERMAL):
        kind, milli = _text(machine, f"{THERMAL}/{zone}/type"), _text(machine, f"{THERMAL}/{zone}/temp")
        if zone.startswith("thermal_zone") and kind and _is_plausible(milli):
            found[kind if kind not in found else f"{kind} ({zone})"] = int(milli or 0) / 1000
    if found:
        return found
    for chip in machine.list(HWMON):
        name = _text(machine, f"{HWMON}/{chip}/name") or chip
        for item in machine.list(f"{HWMON}/{chip}"):
            milli = (
                _text(machine, f"{HWMON}/{chip}/{item}")
                if item.startswith("temp") and item.endswith("_input")
                else None
            )
            if _is_plausible(milli):
                found[f"{name} {item[: -len('_input')]}"] = int(milli or 0) / 1000
    return found


def _is_plausible(milli: Optional[str]) -> bool:
    """Disabled zones answer with errors or absurd constants."""
    try:
        return milli is not None and -40_000 < int(milli) < 150_000 and int(milli) != 0
    except ValueError:
        return False


def is_raspberry_pi(machine: Machine) -> bool:
    return "Raspberry Pi" in (_text(machine, "/proc/device-tree/model") or "")


def read_throttled(machine: Machine) -> int:
    """The Raspberry Pi firmware's bits: 0 under-voltage, 1 capped, 2 throttled, 3 soft limit; 16-19: since boot.

    Raises:
        OSError: neither vcgencmd nor the sysfs node answers.
    """
    try:
        code, text = machine.run(["vcgencmd", "get_throttled"])
        if code == 0 and "=" in text:
            return int(text.split("=")[1].strip(), 16)
    except OSError:
        pass
    return int(machine.read(PI_THROTTLED).strip(), 16)


def read_cpu_times(machine: Machine) -> Tuple[float, float, float]:
    """(busy, stolen by the hypervisor, total) seconds since boot, over all CPUs; stolen time counts as busy."""
    fields = machine.read("/proc/stat").split("\n", 1)[0].split()[1:9]
    user, nice, system, idle, iowait, irq, softirq, steal = (int(x) / _ticks_per_s() for x in fields)
    busy = user + nice + system + irq + softirq + steal
    return busy, steal, busy + idle + iowait


def _ticks_per_s() -> int:
    return os.sysconf("SC_CLK_TCK")


def read_pressure(machine: Machine) -> Dict[str, float]:
    """Seconds since boot in which some task waited for the resource (PSI "some total", microseconds)."""
    found = {}
    for resource in ("cpu", "memory", "io"):
        line = machine.read(f"/proc/pressure/{resource}").split("\n", 1)[0]
        found[resource] = int(line.rsplit("total=", 1)[1]) * 1e-6
    return found


def read_meminfo(machine: Machine, key: str) -> int:
    for line in machine.read("/proc/meminfo").splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(f"no {key} in /proc/meminfo")


def read_power_source(machine: Machine) -> Optional[str]:
    """What feeds the device, in words; None where the kernel knows of no supply (most boards, all virtual machines)."""
    found: List[str] = []
    for supply in machine.list(POWER_SUPPLY):
        base = f"{POWER_SUPPLY}/{supply}"
        kind, status = _text(machine, f"{base}/type"), _text(machine, f"{base}/status")
        online, capacity = _text(machine, f"{base}/online"), _text(machine, f"{base}/capacity")
        if _text(machine, f"{base}/scope") == "Device":
            continue  # of a mouse or a pen
        if kind == "Battery":
            found.append(f"battery {status or 'in unknown state'}" + (f" at {capacity} %" if capacity else ""))
        elif kind and online == "1":
            found.append(f"{kind} online")
    # Android's SELinux denies these files to apps.
    return ", ".join(found) or android.power_source(machine)


def is_on_charger(machine: Machine) -> bool:
    """Whether a battery is charged, or kept from discharging, or another supply is there."""
    source = read_power_source(machine) or ""
    return any(f"battery {state}" in source for state in CHARGING) or " online" in source


def read_allowed_cpus(machine: Machine) -> Optional[str]:
    """The CPUs that this process may run on, as the kernel lists them; None where it does not tell."""
    lines = (_text(machine, "/proc/self/status") or "").splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("Cpus_allowed_list:")), None)


def process_memory(machine: Machine) -> Tuple[Optional[int], Optional[int]]:
    """(resident now, largest resident so far) bytes of this process; None where the kernel does not tell."""
    try:
        lines = machine.read("/proc/self/status").splitlines()
    except OSError:
        return None, None
    values = {
        line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith(("VmRSS:", "VmHWM:"))
    }
    return values.get("VmRSS"), values.get("VmHWM")
