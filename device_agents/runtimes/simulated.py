"""Times from a board's figures instead of a board: every operator takes what a roofline says, plus seeded noise.

What it takes stands in simulated_costs.py. Nothing here measures anything; profiles made by it carry the origin
"simulated".
"""

import hashlib
import math
from typing import Dict, List, Optional, Sequence, Tuple

from device_agents.machine import Machine
from device_agents.runtimes import Recorded, RuntimeRefusal
from device_agents.runtimes.options import require_options
from device_agents.runtimes.simulated_costs import Placed, Rates
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
        RuntimeRefusal: the job has no board, an option that a simulation does not have, or a cap of no cluster's clock.
    """
    require_options(job.options, NAME, ("spinning",))
    if job.board is None or not isinstance(machine, SimulatedMachine):
        raise RuntimeRefusal("bad-option", "a simulation needs a board, and this job has none", "use -d sim:BOARD")
    cores = len(machine.cluster_of())
    wrong = [cpu for cpu in job.options.affinity if not 0 <= cpu < cores]
    if wrong:
        raise RuntimeRefusal("bad-option", f"{job.board.name} has no CPU {wrong[0]}", f"it has {cores}")
    machine.cap(job.clock_caps)
    return SimulatedSession(job, machine, profiled)


class AtClocks:
    """At certain clocks: time and power of every operator, and time and mean power of a whole run."""

    def __init__(
        self, times_s: Tuple[float, ...], powers_w: Tuple[float, ...], total_s: float, energy_j: float
    ) -> None:
        self.times_s = times_s
        self.powers_w = powers_w
        self.total_s = max(total_s, RESOLUTION_S)  # time must pass even where there is nothing to do
        self.mean_w = energy_j / self.total_s


class SimulatedSession:
    """A model on a simulated board. Its output is a digest of model and input: repeatable, and nothing more."""

    runtime_version = VERSION
    piled_up_per_run: Optional[int] = 0

    def __init__(self, job: Job, machine: SimulatedMachine, profiled: bool) -> None:
        board = machine.board
        self._machine = machine
        self._job = job
        self._profiled = profiled
        self._placed = Placed(board, machine.cluster_of(), job.options)
        self._busy = self._placed.busy
        first = self._placed.first
        self._alone = tuple(int(k == first) for k in range(len(board.clusters)))
        self._known: Dict[Tuple[float, ...], AtClocks] = {}
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
        self.import_s = self._spend(IMPORT_CYCLES / machine.clocks_hz[first])
        self.load_s = self._spend(size_bytes * FILE_SLOWDOWN / board.memory_bytes_per_s)
        self.initialise_s = self._spend(len(job.work) * PREPARE_OVERHEADS * board.operator_overhead_s)
        self.in_force: Dict[str, str] = {
            "api": "roofline model",
            "board": board.name,
            "threads": str(job.options.threads),
            "busy_cores": str(len(self._placed.cpus)),
            "busy_cpus": ",".join(map(str, sorted(self._placed.cpus))),
        }
        if job.options.spinning is not None:
            self.in_force["spinning"] = "on" if job.options.spinning else "off"
        if job.clock_caps:
            self.in_force["clock_caps"] = machine.limits_in_words(job.clock_caps)

    def _spend(self, seconds: float) -> float:
        start = self._machine.now()
        self._machine.work(seconds, self._alone)
        return self._machine.now() - start

    def set_inputs(self, data: Sequence[bytes]) -> None:
        require_sizes(self.inputs, data)
        self._data = [bytes(block) for block in data]

    def run(self) -> None:
        """Let virtual time pass. One draw of noise for the whole run: what disturbs a run disturbs all of it.

        An operator takes what it takes at the clocks at its start.
        """
        machine = self._machine
        factor = machine.random.lognormvariate(0.0, machine.board.noise)
        at_clocks = self._at_clocks()
        if machine.keeps_clocks_for(at_clocks.total_s * factor):
            times = tuple(time * factor for time in at_clocks.times_s)
            machine.work(at_clocks.total_s * factor, self._busy, at_clocks.mean_w)
        else:
            self._machine.work(machine.board.run_overhead_s * factor, self._busy)
            times = tuple(self._run_operator(k, factor) for k in range(len(at_clocks.times_s)))
        if self._profiled:
            self._runs.append(times)

    def run_many(self, n: int) -> None:
        """As `run` so many times, at the clocks of now; the sum of their noise is drawn at once, as a normal one."""
        machine, at_clocks = self._machine, self._at_clocks()
        sigma = machine.board.noise
        mean = math.exp(sigma**2 / 2)
        deviation = mean * math.sqrt(math.expm1(sigma**2) / n)
        factor = max(0.0, machine.random.gauss(mean, deviation))
        machine.work(n * at_clocks.total_s * factor, self._busy, at_clocks.mean_w)

    def _run_operator(self, k: int, factor: float) -> float:
        at_clocks = self._at_clocks()
        time = at_clocks.times_s[k] * factor
        self._machine.work(time, self._busy, at_clocks.powers_w[k])
        return time

    def _at_clocks(self) -> "AtClocks":
        """What every operator takes at the clocks of now."""
        clocks_hz = self._machine.clocks_hz
        if clocks_hz not in self._known:
            rates = self._placed.at(clocks_hz)
            times_s = tuple(rates.seconds(item) for item in self._job.work)
            powers_w = tuple(self._operator_w(item, rates) for item in self._job.work)
            overhead_s = self._machine.board.run_overhead_s
            energy_j = sum(time * power for time, power in zip(times_s, powers_w))
            energy_j += overhead_s * self._machine.power_w(self._busy)
            self._known[clocks_hz] = AtClocks(times_s, powers_w, overhead_s + sum(times_s), energy_j)
        return self._known[clocks_hz]

    def _operator_w(self, item: Work, rates: Rates) -> float:
        """Power while it runs; what a job says of it holds at the highest clock."""
        machine, cluster = self._machine, self._placed.first
        slowed = machine.clocks_hz[cluster] / machine.board.clusters[cluster].clocks_hz[-1]
        active_w = rates.active_w(item) if item.active_w is None else item.active_w * slowed
        return machine.board.idle_w + active_w * (item.in_model_power if len(self._job.work) > 1 else 1.0)

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
