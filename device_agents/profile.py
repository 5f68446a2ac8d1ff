"""What a device answers: everything it saw while it ran one job.

Raw samples, no statistics. Missing is None, never 0. All units are SI and in the name.
"""

from dataclasses import dataclass, field
from typing import Dict, Optional, Tuple

from device_agents.device_state import Conditions, GateOutcome, MachineInfo
from device_agents.energy import EnergyPass
from device_agents.job import Job


@dataclass(frozen=True)
class TensorInfo:
    name: str
    dtype: str
    shape: Tuple[int, ...]


@dataclass(frozen=True)
class Told:
    """What a program that times itself tells of a round's runs, of which it shows the mean alone."""

    min_s: float
    max_s: float
    std_s: float


@dataclass(frozen=True)
class Round:
    """Raw latencies of one round, between two looks at the device.

    With several `streams` they are those of all of them, in the order in which the runs ended. `wall_s` is the time
    from the start of the first run to the end of the last; None in documents that lack it. `n_runs` counts the runs
    where `latencies_s` has only some of them (`Schedule.keep_runs`); None where it has them all. With `told` the one
    latency is the mean of `n_runs`, and the looks at the device enclose the start and warm-up of a program as well.
    """

    latencies_s: Tuple[float, ...]
    before: Conditions
    after: Conditions
    gate: GateOutcome
    streams: int = 1
    wall_s: Optional[float] = None
    n_runs: Optional[int] = None
    told: Optional[Told] = None


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
    energy: Optional[EnergyPass] = None
    energy_missing: Optional[str] = None
