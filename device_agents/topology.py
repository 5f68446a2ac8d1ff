"""Read the CPUs of a device: how fast they are, which share a clock, which may be used, and whose clock may be capped.

Paths are those of the kernel's documentation: ABI/testing/sysfs-devices-system-cpu, admin-guide/pm/cpufreq,
arch/arm64/cpu-feature-registers (MIDR), filesystems/proc (Cpus_allowed_list) and admin-guide/cgroup-v1/cpusets.
"""

import re
from typing import Dict, Optional, Tuple

from device_agents.machine import Machine
from device_agents.wire import SIMULATED, ClockPolicy, Cpu, Topology

CPUS = "/sys/devices/system/cpu"
CPUFREQ = f"{CPUS}/cpufreq"
LIMIT = "scaling_max_freq"
POLICY = re.compile(r"policy[0-9]{1,4}")
CPU_LIST = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?([,\s]+[0-9]{1,5}(-[0-9]{1,5})?)*")
# What the kernel can be built for; a file that says more is none of its own.
MOST_CPUS = 8192
# Arm's MIDR: bits 19 to 16 say that the CPU's features stand in registers of their own, as they do since Armv7.
MIDR_BY_REGISTERS = 0xF << 16


def read(machine: Machine) -> Topology:
    """The CPUs and their clock policies; what cannot be read is in `unreadable` with the reason."""
    unreadable: Dict[str, str] = {}
    policies = read_policies(machine)
    if not policies:
        unreadable["clocks"] = f"no policy under {CPUFREQ}: the kernel does not manage the clocks"
    online = _cpu_list(machine, "online", unreadable) or _running(machine)
    # Not those that are possible: of a virtual machine that may be hundreds which it has not got.
    present = _cpu_list(machine, "present", {}) or _cpu_list(machine, "possible", unreadable) or online
    allowed = _allowed(machine, unreadable)
    parts = _cpuinfo_midrs(machine)
    cpus = tuple(
        Cpu(
            number=number,
            online=number in online,
            usable=number in online and (allowed is None or number in allowed),
            capacity=_number(machine, f"{CPUS}/cpu{number}/cpu_capacity", 10),
            midr=_number(machine, f"{CPUS}/cpu{number}/regs/identification/midr_el1", 16) or parts.get(number),
            policy=next((policy.name for policy in policies if number in policy.cpus), None),
        )
        for number in present
    )
    if not any(cpu.capacity for cpu in cpus):
        unreadable["capacity"] = f"no cpu_capacity under {CPUS}: the kernel does not rank the CPUs"
    return Topology(cpus, policies, _cpuset(machine, unreadable), unreadable)


def read_policies(machine: Machine) -> Tuple[ClockPolicy, ...]:
    """Every cpufreq policy, in the order of their numbers."""
    names = [name for name in machine.list(CPUFREQ) if POLICY.fullmatch(name)]
    return tuple(_policy(machine, name) for name in sorted(names, key=lambda name: int(name[len("policy") :])))


def limit_file(policy: str) -> str:
    """The file by which the clock of a policy is capped."""
    return f"{CPUFREQ}/{policy}/{LIMIT}"


def _policy(machine: Machine, name: str) -> ClockPolicy:
    base = f"{CPUFREQ}/{name}"
    steps = (_text(machine, f"{base}/scaling_available_frequencies") or "").split()
    # A simulated board has no file to write to: its job itself tells it.
    why_not = None if machine.origin == SIMULATED else _why_not_settable(machine, name)
    return ClockPolicy(
        name=name,
        cpus=_related(machine, name),
        clocks_hz=tuple(sorted({int(step) * 1e3 for step in steps if step.isdigit()})),
        min_hz=_hz(machine, f"{base}/scaling_min_freq"),
        max_hz=_hz(machine, f"{base}/{LIMIT}"),
        hardware_max_hz=_hz(machine, f"{base}/cpuinfo_max_freq"),
        governor=_text(machine, f"{base}/scaling_governor"),
        settable=why_not is None,
        not_settable=why_not,
    )


def _related(machine: Machine, name: str) -> Tuple[int, ...]:
    """The CPUs of a policy; that which it is named after where the kernel does not say."""
    try:
        return _numbers(machine.read(f"{CPUFREQ}/{name}/related_cpus"))
    except (OSError, ValueError):
        return (int(name[len("policy") :]),)


def _why_not_settable(machine: Machine, name: str) -> Optional[str]:
    error = machine.why_not_writable(limit_file(name))
    if isinstance(error, FileNotFoundError):
        return f"its driver has no {LIMIT}"
    return None if error is None else f"{limit_file(name)}: {error.strerror}"


def _cpu_list(machine: Machine, name: str, unreadable: Dict[str, str]) -> Tuple[int, ...]:
    try:
        return _numbers(machine.read(f"{CPUS}/{name}"))
    except (OSError, ValueError) as error:
        unreadable[f"{name} CPUs"] = str(error)
        return ()


def _running(machine: Machine) -> Tuple[int, ...]:
    """/proc/stat has a line for every CPU that is online."""
    lines = (_text(machine, "/proc/stat") or "").splitlines()
    return tuple(int(found.group(1)) for line in lines if (found := re.match(r"cpu([0-9]{1,4}) ", line)))


def _allowed(machine: Machine, unreadable: Dict[str, str]) -> Optional[Tuple[int, ...]]:
    """The CPUs that the agent may run on: those of its cpuset, which what it starts inherits."""
    try:
        lines = machine.read("/proc/self/status").splitlines()
        return _numbers(next(line.split(":", 1)[1] for line in lines if line.startswith("Cpus_allowed_list:")))
    except (OSError, ValueError, StopIteration) as error:
        unreadable["allowed CPUs"] = str(error) or "/proc/self/status has no Cpus_allowed_list"
        return None


def _cpuset(machine: Machine, unreadable: Dict[str, str]) -> Optional[str]:
    try:
        return machine.read("/proc/self/cpuset").strip() or None
    except OSError as error:
        unreadable["cpuset"] = str(error)
        return None


def _cpuinfo_midrs(machine: Machine) -> Dict[int, int]:
    """MIDRs put together from /proc/cpuinfo, for kernels without a file for it; empty on other architectures."""
    found: Dict[int, int] = {}
    for block in (_text(machine, "/proc/cpuinfo") or "").split("\n\n"):
        fields = dict(_field(line) for line in block.splitlines() if ":" in line)
        try:
            number = int(fields["processor"])
            code, variant = int(fields["CPU implementer"], 16), int(fields["CPU variant"], 16)
            part, revision = int(fields["CPU part"], 16), int(fields["CPU revision"])
        except (KeyError, ValueError):
            continue
        found[number] = code << 24 | variant << 20 | MIDR_BY_REGISTERS | part << 4 | revision
    return found


def _field(line: str) -> Tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(), value.strip()


def _numbers(text: str) -> Tuple[int, ...]:
    """CPU numbers of a kernel list: "0 1 2 3" (related_cpus) or "0-3,6".

    Raises:
        ValueError: it is none.
    """
    if not CPU_LIST.fullmatch(text.strip()):
        raise ValueError(f"{text[:100]!r} is not a list of CPUs")
    found: set[int] = set()
    for first, last in re.findall(r"([0-9]+)(?:-([0-9]+))?", text):
        if int(last or first) >= MOST_CPUS:
            raise ValueError(f"{text[:100]!r} has more CPUs than a kernel can")
        found.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(found))


def _number(machine: Machine, path: str, base: int) -> Optional[int]:
    try:
        return int(machine.read(path), base)
    except (OSError, ValueError):
        return None


def _hz(machine: Machine, path: str) -> Optional[float]:
    khz = _number(machine, path, 10)
    return khz * 1e3 if khz is not None and khz > 0 else None


def _text(machine: Machine, path: str) -> Optional[str]:
    try:
        return machine.read(path).strip()
    except OSError:
        return None
