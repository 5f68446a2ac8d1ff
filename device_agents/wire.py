"""What host and device say to each other: frozen dataclasses, one JSON object per line.

The host sends requests, the device replies; both travel in an envelope::

    {"id": 7, "request": "profile", "body": {...Job...}}
    {"id": 7, "reply": "progress", "body": {...Progress...}}
    {"id": 7, "reply": "profile", "body": {...Profile...}}

Only the standard library is used here, and only what Python 3.9 has: this file runs on the device. The host
validates the same classes with msgspec; the device with `decoding.build`, which knows the few shapes used below.
Raw samples travel; statistics live on the host. Missing is None, never 0. All units are SI and in the name.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Dict, Optional, Tuple, Type, Union

from device_agents.decoding import WireError, build

# Raised whenever an old peer could misread a new one; agents are pushed by content, so both ends agree in practice.
PROTOCOL = 1
# A request holds a job at most; a reply may hold 300,000 times of 100,000 kernels, their
# names and shapes, the executed graph and 100,000 latencies (about 35 MB).
MAX_REQUEST_BYTES = 8 * 1024 * 1024
MAX_REPLY_BYTES = 64 * 1024 * 1024

MEASURED, EMULATED, SIMULATED = "measured", "emulated", "simulated"
# The passes of a job, each in a worker of its own; "outputs" is one inference whose values are what is wanted.
LATENCY, OPERATORS, OUTPUTS = "latency", "operators", "outputs"


# --- the job -------------------------------------------------------------------------------------------------------


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
    inferences that run at once, each in a session of its own with `threads` threads.
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
class Work:
    """What one operator asks of a device: its multiply-accumulates and the bytes it moves (for simulated boards)."""

    name: str
    type: str
    macs: int
    moved_bytes: int


@dataclass(frozen=True)
class Cluster:
    """Cores of a simulated board that share a clock. `clocks_hz` are its DVFS steps, slowest first.

    `macs_per_cycle` is that of one core in float32; `core_active_w` is what a busy core adds at the highest clock.
    """

    name: str
    cores: int
    clocks_hz: Tuple[float, ...]
    macs_per_cycle: float
    core_active_w: float


@dataclass(frozen=True)
class Board:
    """A board to simulate; its CPUs are numbered in the order of `clusters`.

    `memory_bytes_per_s` is what all cores share. `operator_overhead_s` is at the highest clock of the fastest cluster;
    noise is the relative standard deviation of a run. The chip is one thermal mass: `capacitance_j_per_k`, warmed by
    all power, loses heat to the air over `resistance_k_per_w`. Every `poll_s` the clocks go down by one step if it is
    at `trip_c`, and up by one if it is `hysteresis_k` below.
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


@dataclass(frozen=True)
class Job:
    """One model, one runtime, one configuration.

    `seed` makes the inputs (and a simulated board's noise), unless `inputs` has the values of every one of them.
    `send_outputs` asks for the values of the first inference, which the host compares with its own.
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


# --- what the device is --------------------------------------------------------------------------------------------


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
class RuntimeInfo:
    """A runtime as seen by the Python that runs the agent; `reason` says why it cannot be used."""

    name: str
    version: Optional[str]
    reason: Optional[str] = None


@dataclass(frozen=True)
class Hello:
    """The agent's first line."""

    protocol: int
    agent_digest: str
    python: str
    machine: MachineInfo
    runtimes: Tuple[RuntimeInfo, ...]
    meters: Tuple[str, ...]
    cache_dir: str
    free_bytes: int
    user_id: Optional[int] = None


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
    to the kernel's PSI "some" total.
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
    unreadable: Dict[str, str] = field(default_factory=dict)


# --- the profile ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TensorInfo:
    name: str
    dtype: str
    shape: Tuple[int, ...]


@dataclass(frozen=True)
class GateOutcome:
    """How waiting for the gate ended; `reasons` is empty exactly when it was passed."""

    passed: bool
    waited_s: float
    reasons: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Round:
    """Raw latencies of one round, between two looks at the device.

    With several `streams` they are those of all of them, in the order in which the runs ended. `wall_s` is the time
    from the start of the first run to the end of the last; None in documents that lack it.
    """

    latencies_s: Tuple[float, ...]
    before: Conditions
    after: Conditions
    gate: GateOutcome
    streams: int = 1
    wall_s: Optional[float] = None


@dataclass(frozen=True)
class Kernel:
    """One thing the runtime timed. `times_s` has one entry per profiled run (the sum, where it ran more than once).

    `level` is "kernel" (ONNX Runtime), "node" (a TFLite node; `node` is its index in `subgraph` and exact) or
    "delegate" (an operator inside a delegate such as XNNPACK, in execution order).
    """

    name: str
    type: str
    level: str
    times_s: Tuple[float, ...]
    node: Optional[int] = None
    subgraph: int = 0
    provider: Optional[str] = None
    input_shapes: Tuple[Tuple[int, ...], ...] = ()
    output_shapes: Tuple[Tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class OperatorPass:
    """The pass with operator profiling on. `latencies_s` are whole runs of that pass, profiler included.

    `bias_s` was already subtracted from every kernel time; `resolution_s` is the step of the runtime's clock.
    `graph` is the graph the runtime really executed, where it can tell: ONNX without weights, zlib, base64.
    `gate`, `before` and `after` are those of the recorded runs, as in a `Round`; None in documents that lack them.
    The runs come from `n_batches` sessions; kernels bear the names of the first. `notes` tells what is doubtful.
    """

    method: str
    latencies_s: Tuple[float, ...]
    kernels: Tuple[Kernel, ...]
    resolution_s: float
    bias_s: float = 0.0
    in_force: Dict[str, str] = field(default_factory=dict)
    graph: Optional[str] = None
    gate: Optional[GateOutcome] = None
    before: Optional[Conditions] = None
    after: Optional[Conditions] = None
    n_batches: int = 1
    notes: Tuple[str, ...] = ()


@dataclass(frozen=True)
class OutputValues:
    """The values of one output: little-endian, zlib, base64; only every `step`-th element where there are many.

    `data` is None where there are no raw values (text), and `missing` says so.
    """

    data: Optional[str]
    step: int = 1
    missing: Optional[str] = None


@dataclass(frozen=True)
class Outputs:
    """Reply `outputs`: what a model computes from the job's inputs, from a fresh state, in one inference."""

    python: str
    runtime_version: str
    in_force: Dict[str, str]
    outputs: Tuple[TensorInfo, ...]
    values: Tuple[OutputValues, ...]
    input_digest: str


@dataclass(frozen=True)
class Profile:
    """Everything the device saw while it ran one job.

    `stages_s` tells where the job's time went: for each pass its stages and, as "<pass> pass", the whole of it with
    the start of its process. `output_values` has the outputs of the first inference, where the job asks for them; the
    host compares them and drops them.
    """

    job: Job
    origin: str
    agent_digest: str
    python: str
    machine: MachineInfo
    runtime_version: str
    in_force: Dict[str, str]
    started_at_s: float
    import_s: float
    load_s: float
    initialise_s: float
    first_inference_s: float
    warmup_s: Tuple[float, ...]
    warmup_is_flat: bool
    rounds: Tuple[Round, ...]
    inputs: Tuple[TensorInfo, ...]
    outputs: Tuple[TensorInfo, ...]
    input_digest: str
    output_digest: str
    outputs_are_finite: bool
    outputs_repeat: bool
    memory_before_bytes: Optional[int]
    memory_peak_bytes: Optional[int]
    operators: Optional[OperatorPass] = None
    operators_missing: Optional[str] = None
    notes: Tuple[str, ...] = ()
    stages_s: Dict[str, float] = field(default_factory=dict)
    output_values: Tuple[OutputValues, ...] = ()


@dataclass(frozen=True)
class Progress:
    """Where a job is: `stage` (gate, load, warm-up, rounds, operators, outputs), `done` of `total` in it.

    The host itself says `upload` in this form, in bytes.
    """

    stage: str
    done: int = 0
    total: int = 0
    remaining_s: Optional[float] = None


@dataclass(frozen=True)
class Refused:
    """A request that could not be carried out. `kind` is stable: see docs/protocol.md."""

    kind: str
    message: str
    advice: str = ""
    detail: str = ""


@dataclass(frozen=True)
class FilesWanted:
    """Request `missing`: which of these does the device not have?"""

    files: Tuple[FileRef, ...]


@dataclass(frozen=True)
class FilesMissing:
    """Reply `missing`: these; put each into `upload_dir`, then ask to adopt it.

    Under its digest as its name, an upload that was interrupted goes on where it stopped: `partial_bytes` of them are
    there already.
    """

    missing: Tuple[str, ...]
    upload_dir: str
    free_bytes: int
    partial_bytes: int = 0


@dataclass(frozen=True)
class Adopt:
    """Request `adopt`: verify the uploaded file against its sha256 and keep it, or remove it and refuse."""

    upload: str
    file: FileRef


@dataclass(frozen=True)
class Nothing:
    """The body of requests and replies that need none (ping, pong, adopted, conditions)."""


REQUESTS: Dict[str, Type[Any]] = {
    "ping": Nothing,
    "conditions": Nothing,
    "missing": FilesWanted,
    "adopt": Adopt,
    "profile": Job,
    "outputs": Job,
}
REPLIES: Dict[str, Type[Any]] = {
    "hello": Hello,
    "pong": Nothing,
    "conditions": Conditions,
    "missing": FilesMissing,
    "adopted": Nothing,
    "progress": Progress,
    "profile": Profile,
    "outputs": Outputs,
    "refused": Refused,
}


@dataclass(frozen=True)
class Request:
    id: int
    request: str
    body: Any


@dataclass(frozen=True)
class Reply:
    id: int
    reply: str
    body: Any


# --- lines ---------------------------------------------------------------------------------------------------------


def encode(message: Union[Request, Reply]) -> bytes:
    """One line, newline included. Raises ValueError on NaN or infinity: they are not JSON."""
    return json.dumps(dataclasses.asdict(message), allow_nan=False, separators=(",", ":")).encode() + b"\n"


def decode_request(line: bytes) -> Request:
    """Read one request line on the device.

    Raises:
        WireError: the line is not JSON, not a known request, or its body has a wrong shape.
    """
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not JSON: {error}") from error
    if not isinstance(raw, dict) or not isinstance(raw.get("id"), int) or raw.get("request") not in REQUESTS:
        raise WireError("not a request: expected an object with a whole-number id and one of " + ", ".join(REQUESTS))
    return Request(raw["id"], raw["request"], build(REQUESTS[raw["request"]], raw.get("body"), "$"))
