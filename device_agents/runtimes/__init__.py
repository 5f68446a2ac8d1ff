"""The inference runtimes a device may have, each imported only when a job asks for it.

A runtime module has one function::

    open_session(job, model_path, machine, profiled) -> Session

Which of them could be used is found out in `available`, without importing any.

An error that the user can act on is raised as `RuntimeRefusal`; anything else is a defect and is reported as one.
"""

import importlib
from typing import Any, Dict, List, Optional, Protocol, Sequence, Tuple

from device_agents.machine import Machine, this_machine
from device_agents.wire import Job, Kernel, TensorInfo

RUNTIMES: Dict[str, str] = {
    "onnxruntime": "device_agents.runtimes.onnxruntime",
    "litert": "device_agents.runtimes.litert",
    "tflite": "device_agents.runtimes.tflite",
    "benchmark_model": "device_agents.runtimes.benchmark_model",
    "simulated": "device_agents.runtimes.simulated",
}


class RuntimeRefusal(Exception):
    """The runtime cannot do this job. `kind` is the stable code that travels in `Refused`.

    Kinds: runtime-missing, model-invalid, unsupported-operator, unsupported-opset, unsupported-model, bad-option,
    bad-input, delegate-failed, out-of-memory, no-meter, charging, unknown-output, device-error.
    """

    def __init__(self, kind: str, message: str, advice: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.advice = advice
        self.detail = detail


class Session(Protocol):
    """A loaded model, ready to run.

    `load_s` is the time to read the model into the runtime, `initialise_s` the time until it could run (where the
    runtime does both in one call, `load_s` is 0 and `in_force` has `load_and_initialise: "one call"`).
    `in_force` tells what the runtime really does (threads, providers, whether XNNPACK is active, API used).
    `piled_up_per_run` is how many events a profiled run adds to those that the runtime keeps in memory: 0 where they
    are taken after every run, None while it is not known.
    """

    runtime_version: str
    import_s: float
    load_s: float
    initialise_s: float
    in_force: Dict[str, str]
    notes: List[str]
    inputs: Tuple[TensorInfo, ...]
    outputs: Tuple[TensorInfo, ...]
    piled_up_per_run: Optional[int]

    def set_inputs(self, data: Sequence[bytes]) -> None:
        """Copy raw little-endian tensor data, one buffer per input, into the session."""

    def run(self) -> None:
        """Run one inference, nothing else: this is what is timed."""

    def read_outputs(self) -> List[bytes]:
        """Raw bytes of every output of the latest run, in order; also brings `outputs` up to date."""

    def begin_recording(self) -> None:
        """Profiled sessions only: forget what was recorded so far."""

    def after_run(self) -> None:
        """Profiled sessions only: called, untimed, after every recorded run."""

    def end_recording(self) -> "Recorded":
        """Profiled sessions only: what was recorded since `begin_recording`."""

    def executed_graph(self) -> Optional[str]:
        """Profiled sessions only: `OperatorPass.graph`, None where the runtime does not tell."""

    def close(self) -> None:
        """Release everything, temporary files included."""


class Recorded:
    """What a profiled session recorded; the fields are those of `OperatorPass`.

    `kernels[i].times_s` has one entry per recorded run.
    """

    def __init__(
        self,
        method: str,
        kernels: Sequence[Kernel],
        resolution_s: float,
        bias_s: float = 0.0,
    ) -> None:
        self.method = method
        self.kernels = tuple(kernels)
        self.resolution_s = resolution_s
        self.bias_s = bias_s


def machine_for(job: Job) -> Machine:
    """The machine this job runs on: the board in the job if it is to be simulated, else the one we are on."""
    if job.runtime == "simulated" and job.board is not None:
        from device_agents.runtimes.simulated_machine import SimulatedMachine

        return SimulatedMachine(job.board, job.seed)
    return this_machine()


def open_session(job: Job, model_path: str, machine: Machine, profiled: bool) -> Session:
    """Open the model in the runtime that the job names.

    Raises:
        RuntimeRefusal: unknown runtime, or whatever the runtime refuses.
    """
    if job.runtime not in RUNTIMES:
        raise RuntimeRefusal("runtime-missing", f"unknown runtime {job.runtime!r}", "known: " + ", ".join(RUNTIMES))
    module: Any = importlib.import_module(RUNTIMES[job.runtime])
    session: Session = module.open_session(job, model_path, machine, profiled)
    return session
