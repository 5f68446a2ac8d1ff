"""Times from a board's figures instead of a board: every operator takes what a roofline says, plus seeded noise.

Every operator is cut into equal parts for the threads, which run on the fastest of the allowed cores, a core each;
the slowest of them says how long computing takes. Moving data takes the bandwidth that all cores share.

Nothing here measures anything; profiles made by it carry the origin "simulated".
"""

import hashlib
from typing import Dict, List, Optional, Sequence, Tuple

from device_agents.machine import Machine
from device_agents.runtimes import Recorded, RuntimeRefusal
from device_agents.runtimes.options import require_options
from device_agents.runtimes.simulated_machine import SimulatedMachine
from device_agents.runtimes.tensors import concrete_shapes, require_sizes
from device_agents.wire import Job, Kernel, TensorInfo, Work

NAME = "simulated"
VERSION = "2"
# Invented proportions, so that starting up takes time as it does on real boards: clock cycles to import a runtime,
# reading a file compared with copying memory, and preparing an operator compared with dispatching it.
IMPORT_CYCLES = 3e8
FILE_SLOWDOWN = 20.0
PREPARE_OVERHEADS = 50.0
# One step of the virtual clock's arithmetic; there is no clock to resolve.
RESOLUTION_S = 1e-9


def open_session(job: Job, model_path: str, machine: Machine, profiled: bool) -> "SimulatedSession":
    """Open a model on the board in the job.

    Raises:
        RuntimeRefusal: the job has no board or no work, or an option that a simulation does not have.
    """
    require_options(job.options, NAME, ())
    if job.board is None or not isinstance(machine, SimulatedMachine):
        raise RuntimeRefusal("bad-option", "a simulation needs a board, and this job has none", "use -d sim:BOARD")
    if not job.work:
        raise RuntimeRefusal(
            "bad-option", "a simulation needs the work of every operator, and this job has none", "use -d sim:BOARD"
        )
    cores = len(machine.cluster_of())
    wrong = [cpu for cpu in job.options.affinity if not 0 <= cpu < cores]
    if wrong:
        raise RuntimeRefusal("bad-option", f"{job.board.name} has no CPU {wrong[0]}", f"it has {cores}")
    return SimulatedSession(job, machine, profiled)


class SimulatedSession:
    """A model on a simulated board. Its output is a digest of model and input: repeatable, and nothing more."""

    runtime_version = VERSION
    piled_up_per_run: Optional[int] = 0

    def __init__(self, job: Job, machine: SimulatedMachine, profiled: bool) -> None:
        board = machine.board
        self._machine = machine
        self._job = job
        self._profiled = profiled
        self._cluster_of = machine.cluster_of()
        self._cpus = self._fastest_cpus()
        self._busy = self._busy_cores(self._cpus)
        self._times_at: Dict[Tuple[float, ...], Tuple[float, ...]] = {}
        self._runs: List[Tuple[float, ...]] = []
        shapes, _ = concrete_shapes([("input", (None,))], job.options)
        self.inputs: Tuple[TensorInfo, ...] = (TensorInfo("input", "float32", shapes[0]),)
        self.outputs: Tuple[TensorInfo, ...] = (TensorInfo("digest", "uint8", (hashlib.sha256().digest_size,)),)
        self.notes: List[str] = ["input and output are stand-ins: a simulation computes times, not values"]
        self._data: List[bytes] = []
        size_bytes = sum(file.size_bytes for file in job.model.files)
        if size_bytes > board.memory_bytes:
            raise RuntimeRefusal(
                "out-of-memory",
                f"{job.model.name} takes {size_bytes} bytes, {board.name} has {board.memory_bytes}",
                "use a smaller model, or a larger board",
            )
        self.import_s = self._spend(IMPORT_CYCLES / machine.clocks_hz[self._cluster_of[self._cpus[0]]])
        self.load_s = self._spend(size_bytes * FILE_SLOWDOWN / board.memory_bytes_per_s)
        self.initialise_s = self._spend(len(job.work) * PREPARE_OVERHEADS * board.operator_overhead_s)
        self.in_force: Dict[str, str] = {
            "api": "roofline model",
            "board": board.name,
            "threads": str(job.options.threads),
            "busy_cores": str(len(self._cpus)),
            "busy_cpus": ",".join(map(str, sorted(self._cpus))),
        }

    def _spend(self, seconds: float) -> float:
        start = self._machine.now()
        self._machine.work(seconds, self._busy_cores(self._cpus[:1]))
        return self._machine.now() - start

    def _fastest_cpus(self) -> List[int]:
        clusters = self._machine.board.clusters

        def speed(cpu: int) -> float:
            cluster = clusters[self._cluster_of[cpu]]
            return cluster.macs_per_cycle * cluster.clocks_hz[-1]

        allowed = set(self._job.options.affinity) or range(len(self._cluster_of))
        return sorted(sorted(allowed), key=speed, reverse=True)[: self._job.options.threads]

    def _busy_cores(self, cpus: Sequence[int]) -> Tuple[int, ...]:
        used = [self._cluster_of[cpu] for cpu in cpus]
        return tuple(used.count(k) for k in range(len(self._machine.board.clusters)))

    def set_inputs(self, data: Sequence[bytes]) -> None:
        require_sizes(self.inputs, data)
        self._data = [bytes(block) for block in data]

    def run(self) -> None:
        """Let virtual time pass. One draw of noise for the whole run: what disturbs a run disturbs all of it.

        An operator takes what it takes at the clocks at its start.
        """
        machine = self._machine
        factor = machine.random.lognormvariate(0.0, machine.board.noise)
        times = tuple(time * factor for time in self._operator_times())
        total = sum(times)
        if machine.keeps_clocks_for(total):
            machine.work(total, self._busy)
        else:
            times = tuple(self._run_operator(k, factor) for k in range(len(times)))
        if self._profiled:
            self._runs.append(times)

    def _run_operator(self, k: int, factor: float) -> float:
        time = self._operator_times()[k] * factor
        self._machine.work(time, self._busy)
        return time

    def _operator_times(self) -> Tuple[float, ...]:
        """Seconds of every operator at the clocks of now."""
        clocks_hz = self._machine.clocks_hz
        if clocks_hz not in self._times_at:
            self._times_at[clocks_hz] = tuple(self._operator_s(item, clocks_hz) for item in self._job.work)
        return self._times_at[clocks_hz]

    def _operator_s(self, item: Work, clocks_hz: Tuple[float, ...]) -> float:
        board = self._machine.board
        used = {self._cluster_of[cpu] for cpu in self._cpus}
        slowest_macs_per_s = min(board.clusters[k].macs_per_cycle * clocks_hz[k] for k in used)
        compute_s = item.macs / (slowest_macs_per_s * len(self._cpus))
        fastest_hz = max(board.clusters, key=lambda c: c.macs_per_cycle * c.clocks_hz[-1]).clocks_hz[-1]
        slowdown = fastest_hz / clocks_hz[self._cluster_of[self._cpus[0]]]
        return max(compute_s, item.moved_bytes / board.memory_bytes_per_s) + board.operator_overhead_s * slowdown

    def read_outputs(self) -> List[bytes]:
        state = hashlib.sha256(self._job.model.digest.encode())
        for block in self._data:
            state.update(block)
        return [state.digest()]

    def begin_recording(self) -> None:
        self._runs.clear()

    def after_run(self) -> None:
        """Nothing to do: times were kept when they were drawn."""

    def end_recording(self) -> Recorded:
        kernels = [
            Kernel(item.name, item.type, "kernel", tuple(times[k] for times in self._runs))
            for k, item in enumerate(self._job.work)
        ]
        return Recorded("simulated", kernels, RESOLUTION_S)

    def executed_graph(self) -> Optional[str]:
        return None

    def close(self) -> None:
        """Nothing is held."""
