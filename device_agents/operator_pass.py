"""The pass with operator profiling on: one stream alone, in batches of a session each (`operator_batches`)."""

import dataclasses
from typing import Dict, List, Optional, Sequence

from device_agents import conditions, gate
from device_agents.machine import Machine
from device_agents.measure import PassResult, Report, Stopwatch, set_inputs
from device_agents.operator_batches import Batches, batch_runs
from device_agents.runtimes import RuntimeRefusal, Session, open_session
from device_agents.wire import Conditions, GateOutcome, Job, OperatorPass, Progress

# This pass waits no longer than this for quiet: the latency pass before it has waited already.
OPERATOR_GATE_S = 10.0


def operator_pass(
    job: Job, model_path: str, input_paths: Sequence[str], machine: Machine, report: Report
) -> PassResult:
    """Measure with operator profiling on; the result is an `OperatorPass` as plain data.

    A batch that is refused when there are others costs its runs alone.

    Raises:
        RuntimeRefusal: this runtime cannot profile operators of this model.
    """
    wanted = job.schedule.operator_runs
    report(Progress("operators", 0, wanted))
    recorder = _Recorder(job, model_path, input_paths, machine)
    while not recorder.is_done():
        try:
            recorder.record_batch()
        except RuntimeRefusal as refusal:
            if recorder.batches.n_batches == 0:
                raise
            recorder.notes.append(f"no further batch of profiled runs: {refusal}")
            break
        report(Progress("operators", len(recorder.batches.latencies_s), wanted))
    return dataclasses.asdict(recorder.result()), recorder.watch.laps


class _Recorder:
    """Batch after batch, behind one gate; what is the same for all of them is of the first."""

    def __init__(self, job: Job, model_path: str, input_paths: Sequence[str], machine: Machine) -> None:
        self.batches = Batches(job.schedule.operator_runs)
        self.notes: List[str] = []
        self.watch = Stopwatch(machine)
        self._job = job
        self._model_path = model_path
        self._input_paths = input_paths
        self._machine = machine
        self._in_force: Dict[str, str] = {}
        self._graph: Optional[str] = None
        self._gate: Optional[GateOutcome] = None
        self._before: Optional[Conditions] = None
        self._after: Optional[Conditions] = None
        self._piled_up: Optional[int] = None
        self._end_s: Optional[float] = None

    def is_done(self) -> bool:
        is_late = self._end_s is not None and self._machine.now() >= self._end_s
        return self.batches.n_batches > 0 and (self.batches.n_left < 1 or is_late)

    def record_batch(self) -> None:
        session = open_session(self._job, self._model_path, self._machine, True)
        self.watch.lap("open")
        try:
            set_inputs(session, self._job, self._input_paths)
            known = session.piled_up_per_run if self._piled_up is None else self._piled_up
            n_warmup, n_runs = batch_runs(self._job.schedule, known, self.batches.n_left)
            for _ in range(n_warmup):
                session.run()
                session.after_run()
            self.watch.lap("warm-up")
            end_s = self._wait_once()
            session.begin_recording()
            latencies = _recorded_runs(session, n_runs, self._machine, end_s)
            self._after = conditions.read(self._machine)
            self.batches.add(session.end_recording(), latencies)
            self._piled_up = session.piled_up_per_run
            if self.batches.n_batches == 1:
                self._graph, self._in_force = session.executed_graph(), session.in_force
                self.notes += session.notes
            self.watch.lap("record")
        finally:
            session.close()

    def _wait_once(self) -> float:
        """Wait for quiet before the first batch; when the pass must end."""
        if self._end_s is None:
            patience_s = min(self._job.gate.timeout_s, OPERATOR_GATE_S)
            self._gate = gate.wait(self._machine, dataclasses.replace(self._job.gate, timeout_s=patience_s))
            self._before = conditions.read(self._machine)
            self._end_s = self._machine.now() + self._job.schedule.operator_max_s
        return self._end_s

    def result(self) -> OperatorPass:
        recorded = self.batches.merged()
        return OperatorPass(
            method=recorded.method,
            latencies_s=tuple(self.batches.latencies_s),
            kernels=recorded.kernels,
            resolution_s=recorded.resolution_s,
            bias_s=recorded.bias_s,
            in_force=self._in_force,
            graph=self._graph,
            gate=self._gate,
            before=self._before,
            after=self._after,
            n_batches=self.batches.n_batches,
            notes=(*self.notes, *self.batches.notes()),
        )


def _recorded_runs(session: Session, n_runs: int, machine: Machine, end_s: float) -> List[float]:
    """Latencies of `n_runs` runs, or of fewer, but one, when the clock has reached `end_s`."""
    latencies: List[float] = []
    while len(latencies) < n_runs:
        begin = machine.now()
        session.run()
        end = machine.now()
        session.after_run()
        latencies.append(end - begin)
        if end >= end_s:
            break
    return latencies
