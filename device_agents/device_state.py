"""What a device says of itself and of its state at one instant. Missing is None, never 0; all units are SI."""

from dataclasses import dataclass, field
from typing import Dict, Optional, Tuple


@dataclass(frozen=True)
class MachineInfo:
    """The device as it describes itself; `emulator` names what it runs on if that is not real hardware of its kind."""

    model: Optional[str]
    architecture: str
    kernel: str
    libc: str
    cpu: Optional[str]
    n_cpus: int
    memory_bytes: Optional[int]
    emulator: Optional[str] = None


@dataclass(frozen=True)
class Clocks:
    """One cpufreq policy; `time_in_state_s` maps a clock in Hz (as text) to the time spent there since boot."""

    cpus: str
    governor: Optional[str]
    current_hz: Optional[float]
    min_hz: Optional[float]
    max_hz: Optional[float]
    hardware_max_hz: Optional[float]
    time_in_state_s: Dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Conditions:
    """The device at one instant of its own monotonic clock; counters are since boot, `unreadable` says what and why.

    `throttled` is the Raspberry Pi firmware's bit field (bits 0-3 now, 16-19 since boot). `busy_s`, `steal_s` and
    `total_s` sum all CPUs; `process_s` is the CPU time of the measuring process. `pressure_s` maps cpu, memory, io
    to the kernel's PSI "some" total. `screen` is that of a phone, as "off, locked", where it may be asked. `cpuset` is
    the kernel's name of the measuring process' own, `allowed_cpus` the CPUs it may run on ("0-3").
    """

    at_s: float
    clocks: Tuple[Clocks, ...] = ()
    temperatures_c: Dict[str, float] = field(default_factory=dict)
    throttled: Optional[int] = None
    load_1min: Optional[float] = None
    busy_s: Optional[float] = None
    steal_s: Optional[float] = None
    total_s: Optional[float] = None
    process_s: Optional[float] = None
    pressure_s: Dict[str, float] = field(default_factory=dict)
    memory_available_bytes: Optional[int] = None
    power_source: Optional[str] = None
    screen: Optional[str] = None
    cpuset: Optional[str] = None
    allowed_cpus: Optional[str] = None
    unreadable: Dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class GateOutcome:
    """How waiting for the gate ended; `reasons` is empty exactly when it was passed."""

    passed: bool
    waited_s: float
    reasons: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Cpu:
    """One CPU. `capacity` is the kernel's (1024 is the fastest of the device); `midr` is Arm's main ID register.

    `policy` is the cpufreq policy whose clock it shares; `usable` is whether this agent may run on it (cpusets).
    """

    number: int
    online: bool
    usable: bool
    capacity: Optional[int] = None
    midr: Optional[int] = None
    policy: Optional[str] = None


@dataclass(frozen=True)
class ClockPolicy:
    """A cpufreq policy, as "policy0", of CPUs that share a clock. `settable` is whether this agent may cap its clock.

    `clocks_hz` are the steps that the driver lists, slowest first; empty where it lists none.
    """

    name: str
    cpus: Tuple[int, ...]
    clocks_hz: Tuple[float, ...]
    min_hz: Optional[float]
    max_hz: Optional[float]
    hardware_max_hz: Optional[float]
    governor: Optional[str]
    settable: bool
    not_settable: Optional[str] = None


@dataclass(frozen=True)
class Topology:
    """The CPUs of a device, and what may be done with them. `cpuset` is the kernel's name of the agent's own."""

    cpus: Tuple[Cpu, ...]
    policies: Tuple[ClockPolicy, ...]
    cpuset: Optional[str] = None
    unreadable: Dict[str, str] = field(default_factory=dict)
