"""What a device is asked to measure: one model, one runtime, one configuration. All units are SI and in the name."""

from dataclasses import dataclass, field
from typing import Dict, Optional, Tuple


@dataclass(frozen=True)
class FileRef:
    """One file of a model; `name` is relative to the model's folder, as the model itself refers to it."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class ModelRef:
    """A model by content: `files[0]` is the model, the others its external data."""

    name: str
    format: str
    digest: str
    files: Tuple[FileRef, ...]


@dataclass(frozen=True)
class RuntimeOptions:
    """How the runtime shall run the model; what was really in force comes back in `Profile.in_force`.

    `optimization` is ONNX Runtime's graph level (all, extended, basic, none); `xnnpack` switches TFLite's delegate;
    `delegate` and `library` are paths on the device; `affinity` lists CPU numbers; `shapes` sets dynamic inputs;
    `batch` replaces the first dimension of every input whose first dimension is dynamic; `streams` is the number of
    inferences that run at once, each in a session of its own with `threads` threads. `spinning` says whether ONNX
    Runtime's idle threads wait for work in a busy loop, None leaves it to the runtime.
    """

    threads: int = 1
    optimization: str = "all"
    xnnpack: bool = True
    provider: Optional[str] = None
    provider_options: Dict[str, str] = field(default_factory=dict)
    delegate: Optional[str] = None
    delegate_options: Dict[str, str] = field(default_factory=dict)
    library: Optional[str] = None
    affinity: Tuple[int, ...] = ()
    batch: Optional[int] = None
    shapes: Dict[str, Tuple[int, ...]] = field(default_factory=dict)
    streams: int = 1
    spinning: Optional[bool] = None


@dataclass(frozen=True)
class ClockCap:
    """For as long as a job runs, the clock of a cpufreq policy (as "policy0") goes no higher than `max_hz`."""

    policy: str
    max_hz: float


@dataclass(frozen=True)
class InputFile:
    """The user's own values of one input: raw little-endian data in C order, as a file that travels by content.

    The model's input of this name takes exactly this type and shape.
    """

    name: str
    dtype: str
    shape: Tuple[int, ...]
    file: FileRef


@dataclass(frozen=True)
class Schedule:
    """When a round may begin and end.

    A round ends after `min_runs` (of every stream) AND `min_s`, or at `max_s` whatever was reached. Warm-up takes at
    least `warmup_min_runs`, then goes on until two neighbouring windows of runs agree within `warmup_tolerance`, and
    spends at most `warmup_share` of the time the rounds will take. The operator pass takes `operator_runs`, or
    fewer when `operator_max_s` is over. Where a runtime keeps all events of a session in memory, it takes them in
    batches, a session each, of at most `operator_batch_events` (but at least one run of warm-up and one recorded).
    Of each round at most `keep_runs` latencies, evenly spaced, are sent (0: all of them). With `without_rest_s` the
    gate holds the first round alone; each of the others begins where the one before it ended, and none once so many
    seconds have passed since the first began.
    """

    rounds: int = 5
    min_runs: int = 20
    min_s: float = 1.0
    max_s: float = 30.0
    warmup_min_runs: int = 3
    warmup_tolerance: float = 0.02
    warmup_share: float = 0.2
    operator_runs: int = 30
    operator_max_s: float = 20.0
    operator_batch_events: int = 20_000
    keep_runs: int = 0
    without_rest_s: Optional[float] = None


@dataclass(frozen=True)
class Gate:
    """What the device must look like before a round may begin.

    `max_load` is the busy share of all CPUs while the agent itself sleeps. A device warmer than `cool_c` may still
    pass once it has stopped cooling: less than `settle_c` lost within `settle_s`, its idle baseline. All
    rounds together wait no longer than `timeout_s`; then they begin anyway and the profile says so.
    """

    max_load: float = 0.2
    cool_c: float = 45.0
    settle_c: float = 1.0
    settle_s: float = 10.0
    window_s: float = 0.1
    timeout_s: float = 60.0


@dataclass(frozen=True)
class EnergyPlan:
    """How the energy pass measures: idle, busy, idle, busy, ... idle, sampled from the first moment to the last.

    `meter` names one of the device's; empty for the best that can be read, "external" for one that is elsewhere: then
    nothing is sampled here, and `marks` pulses of load and rest, `mark_s` each, before and after the windows make a
    rhythm by which its trace is aligned. There are `windows` busy windows. Each lasts `window_s` AND until the meter
    had time for `min_updates` new values, but at most `max_window_s`; idle ones last `idle_s`, or half as many updates.
    The meter is asked `rate_hz` times a second (None: four times for each new value, at most 50 times a second). For
    the effect of asking, `observer_windows` more busy windows are spread among them in which it is asked
    `observer_slowdown` times less often.
    """

    meter: str = ""
    windows: int = 5
    window_s: float = 10.0
    idle_s: float = 5.0
    min_updates: int = 20
    max_window_s: float = 60.0
    rate_hz: Optional[float] = None
    observer_windows: int = 2
    observer_slowdown: float = 4.0
    marks: int = 3
    mark_s: float = 0.5


@dataclass(frozen=True)
class Work:
    """What one operator asks of a device: its multiply-accumulates and the bytes it moves (for simulated boards).

    `time_s` and `active_w` (above rest) go before what the board would say, for tests whose truth must be known;
    in a model of several operators it takes `in_model_power` times that power.
    """

    name: str
    type: str
    macs: int
    moved_bytes: int
    time_s: Optional[float] = None
    active_w: Optional[float] = None
    in_model_power: float = 1.0


@dataclass(frozen=True)
class Cluster:
    """Cores of a simulated board that share a clock. `clocks_hz` are its DVFS steps, slowest first.

    `macs_per_cycle` is that of one core in float32; `core_active_w` is what a busy core adds at the highest clock: it
    goes with the clock, and with the square of the voltage where `volts` has one for each step. `shared_active_w` is
    what the cluster adds as soon as one core is busy, whatever its clock. One core moves at most `core_bytes_per_s`,
    all of them together `bytes_per_s` (None: as much as the memory); the memory is at its own full clock when any
    busy cluster is at `full_memory_from_hz` or above.
    """

    name: str
    cores: int
    clocks_hz: Tuple[float, ...]
    macs_per_cycle: float
    core_active_w: float
    shared_active_w: float = 0.0
    volts: Tuple[float, ...] = ()
    core_bytes_per_s: Optional[float] = None
    bytes_per_s: Optional[float] = None
    full_memory_from_hz: float = 0.0


@dataclass(frozen=True)
class Sensor:
    """A simulated board's power sensor: `rate_hz` new values a second, each the mean power since the last one.

    White noise of `noise_w` is added to each, and a drift that grows by `drift_w_per_s`; then it is rounded to
    multiples of `step_w`.
    """

    boundary: str
    rate_hz: float
    noise_w: float
    step_w: float
    drift_w_per_s: float = 0.0


@dataclass(frozen=True)
class Board:
    """A board to simulate; its CPUs are numbered in the order of `clusters`.

    `memory_bytes_per_s` is what all cores share. `operator_overhead_s` is at the highest clock of the fastest cluster;
    noise is the relative standard deviation of a run. The chip is one thermal mass: `capacitance_j_per_k`, warmed by
    all power, loses heat to the air over `resistance_k_per_w`. Every `poll_s` the clocks go down by one step if it is
    at `trip_c`, and up by one if it is `hysteresis_k` below. A run takes `run_overhead_s` beside its operators.

    What threads do to each other; the defaults stand for boards on which they do nothing. Every core beyond the first
    that moves data adds `contention` to the time it takes, and the memory is slower by `slow_memory_share` below its
    full clock. Every operator ends in a barrier: `barrier_s` for each thread beyond the first, `crossing_s` for each
    cluster beyond the first, `wake_s` where threads slept (all three at the highest clock). Parts of an operator are
    equal, and with `balance` (0 to 1) rather in proportion to the speed of the cores. Threads that are left to the
    kernel on unlike cores compute longer by the share `migration`; those that spin on fewer cores than threads take
    longer by `collision` for each that is too many, as a share of the cores. A core takes `stalled_share` of its power
    while it waits for memory, and `asleep_share` while its thread waits for others without spinning.
    """

    name: str
    clusters: Tuple[Cluster, ...]
    memory_bytes: int
    memory_bytes_per_s: float
    operator_overhead_s: float
    noise: float
    idle_w: float
    ambient_c: float
    resistance_k_per_w: float
    capacitance_j_per_k: float
    trip_c: float
    hysteresis_k: float
    poll_s: float
    run_overhead_s: float = 0.0
    sensor: Optional[Sensor] = None
    contention: float = 0.0
    slow_memory_share: float = 1.0
    barrier_s: float = 0.0
    crossing_s: float = 0.0
    wake_s: float = 0.0
    balance: float = 0.0
    migration: float = 0.0
    collision: float = 0.0
    stalled_share: float = 1.0
    asleep_share: float = 1.0


@dataclass(frozen=True)
class Job:
    """One model, one runtime, one configuration.

    `seed` makes the inputs (and a simulated board's noise), unless `inputs` has the values of every one of them.
    `send_outputs` asks for the values of the first inference, which the host compares with its own. With a plan for
    `energy` a pass for it comes last. What `clock_caps` change on the device is as it was when the job ends, however it
    ends (clock_caps.py).
    """

    model: ModelRef
    runtime: str
    options: RuntimeOptions = RuntimeOptions()
    schedule: Schedule = Schedule()
    gate: Gate = Gate()
    operators: bool = False
    seed: int = 0
    deadline_s: float = 900.0
    board: Optional[Board] = None
    work: Tuple[Work, ...] = ()
    send_outputs: bool = False
    inputs: Tuple[InputFile, ...] = ()
    energy: Optional[EnergyPlan] = None
    clock_caps: Tuple[ClockCap, ...] = ()
