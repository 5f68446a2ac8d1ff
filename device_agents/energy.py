"""What a device says about power: the meters it has, and the raw trace and windows of an energy pass.

Raw samples, no joules: those are the host's to compute. All units are SI and in the name. Missing is None, never 0.
"""

from dataclasses import dataclass
from typing import Dict, Optional, Tuple

from device_agents.device_state import Conditions, GateOutcome
from device_agents.job import Job

# What a meter shows: watts, or joules counted since some moment.
POWER, ENERGY = "power", "energy"
# Where it sits. What is not inside the boundary is not in the number; numbers of different boundaries are never pooled.
CORE, SOC_RAILS, MODULE, BATTERY, DC_INPUT, WALL = "core", "soc-rails", "module", "battery", "dc-input", "wall"
UNSTATED = "unstated"  # a chip on a bus does not say what its shunt is in; the user may
BOUNDARIES = (CORE, SOC_RAILS, MODULE, BATTERY, DC_INPUT, WALL, UNSTATED)
# The kinds of window in an energy pass: at rest, the model in a loop, and the rhythm by which a trace is aligned.
IDLE, BUSY, MARK = "idle", "busy", "mark"
# The plan's name for a meter that is not on the device.
EXTERNAL = "external"


@dataclass(frozen=True)
class MeterInfo:
    """A meter and what its numbers mean. `name` is stable across boots, and what `--meter` takes.

    Its `channels` are read together and their sum is what `boundary` takes. `period_s` is how often the sensor itself
    has a new value, `resolution` its step (W, or J for an energy counter) per channel; None where nothing tells.
    `averages` says that a value is the mean over the period before it, not the power at an instant. An energy counter
    begins anew above `wraps_at_j`. `on_charge` says that while charging it shows something else than the device's
    power. `not_covered` is in words; `unusable` says why it cannot be read now, None if it can.
    """

    name: str
    source: str
    kind: str
    boundary: str
    channels: Tuple[str, ...]
    period_s: Optional[float] = None
    resolution: Optional[float] = None
    averages: bool = False
    wraps_at_j: Optional[float] = None
    on_charge: bool = False
    not_covered: Tuple[str, ...] = ()
    unusable: Optional[str] = None


@dataclass(frozen=True)
class Meters:
    """Reply `meters`: every meter of the device, the preferred one first; unusable ones too."""

    meters: Tuple[MeterInfo, ...]


@dataclass(frozen=True)
class ClockReading:
    """One instant on three clocks: that of latencies and samples, since boot with suspend, and wall-clock time."""

    at_s: float
    boot_s: Optional[float] = None
    wall_s: Optional[float] = None


@dataclass(frozen=True)
class PowerTrace:
    """What a meter showed: `values[c][k]` is channel c (W or J, wraps not removed) at `at_s[k]`, mid-point of the read.

    `read_s` is the median duration of a read. Reads that failed stand in `failed_at_s`; `failure` is what the first
    said. `clock` is "device" for times of the device's own clock. Of a meter elsewhere, times were brought to it by
    adding `offset_s`, known to within `offset_error_s`; `alignment` says in words how.
    """

    meter: MeterInfo
    at_s: Tuple[float, ...]
    values: Tuple[Tuple[float, ...], ...]
    read_s: Optional[float] = None
    failed_at_s: Tuple[float, ...] = ()
    failure: Optional[str] = None
    clock: str = "device"
    offset_s: Optional[float] = None
    offset_error_s: Optional[float] = None
    alignment: Optional[str] = None


@dataclass(frozen=True)
class EnergyWindow:
    """A stretch of an energy pass on the device's clock: `kind` is "idle", "busy" or "mark" (busy, to be recognised).

    `n_runs` inferences were begun and ended in it. `rate_hz` is how often the meter was asked, None without one.
    """

    kind: str
    start_s: float
    end_s: float
    before: Conditions
    after: Conditions
    n_runs: int = 0
    rate_hz: Optional[float] = None


@dataclass(frozen=True)
class EnergyPass:
    """The pass for energy: windows in their order, with one trace through all of them.

    A busy window always lies between two idle ones. `trace` is None where the meter is elsewhere and its trace has not
    been attached. `began` and `ended` tie the device's clock to others. A session of its own: `in_force` is its.
    """

    trace: Optional[PowerTrace]
    windows: Tuple[EnergyWindow, ...]
    gate: GateOutcome
    began: ClockReading
    ended: ClockReading
    runtime_version: str
    in_force: Dict[str, str]
    input_digest: str
    notes: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Energy:
    """Reply `energy`: an energy pass alone, of a job that was asked for nothing else."""

    job: Job
    origin: str
    python: str
    agent_digest: str
    energy: EnergyPass
