"""One pass over one job: the latency pass (operator profiling off), the operator pass (on), or one inference for its
outputs.

Nothing is decided here but when a round may begin and end, by the rule in the job; what was seen is sent as it is.
"""

import contextlib
import dataclasses
import functools
import gc
import math
import statistics
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from device_agents import conditions, gate, inputs, outputs
from device_agents.machine import Machine
from device_agents.operator_batches import Batches, batch_runs
from device_agents.runtimes import RuntimeRefusal, Session, open_session
from device_agents.simultaneous import timed_together
from device_agents.wire import Conditions, GateOutcome, Job, OperatorPass, Progress, Round, Schedule

# Timed runs of a warm-up window: long enough that the clock's step does not matter, at least this many runs.
WINDOW_RUNS = 3
WINDOW_S = 0.05

# The operator pass waits no longer than this for quiet: the latency pass before it has waited already.
OPERATOR_GATE_S = 10.0

Report = Callable[[Progress], None]
# What a pass found, and how long its stages took.
PassResult = Tuple[Dict[str, Any], Dict[str, float]]
# Runs at least so many times (every stream) and seconds, or at most so many seconds: (latencies, seconds in all).
TimedRuns = Callable[[int, float, float], Tuple[List[float], float]]


def latency_pass(job: Job, model_path: str, input_paths: Sequence[str], machine: Machine, report: Report) -> PassResult:
    """Measure without operator profiling; the result has the fields of `Profile` that only this pass can know.

    `input_paths[i]` holds the values of `job.inputs[i]`.

    Raises:
        RuntimeRefusal: the runtime cannot do this job.
    """
    memory_before, _ = conditions.process_memory(machine)
    watch = Stopwatch(machine)
    report(Progress("load"))
    with contextlib.ExitStack() as open_sessions:
        session = _open(open_sessions, job, model_path, machine)
        watch.lap("open")
        data = _set_inputs(session, job, input_paths)
        start = machine.now()
        session.run()
        first = machine.now() - start
        found = session.read_outputs()
        session.run()
        again = session.read_outputs()
        watch.lap("first")
        timed: TimedRuns = functools.partial(timed_runs, session.run, machine.now)
        if job.options.streams > 1:
            others = _open_others(open_sessions, job, model_path, data, machine)
            timed = functools.partial(timed_together, [s.run for s in (session, *others)], machine.now)
            session.in_force["streams"] = f"{job.options.streams}, each with a session and a thread of its own"
            watch.lap("open streams")
        warmup, is_flat = warm_up(timed, machine, job.schedule, report)
        watch.lap("warm-up")
        rounds = _rounds(timed, job, machine, report, warmup[-1])
        watch.lap("rounds")
        _, memory_peak = conditions.process_memory(machine)
        body = {
            "runtime_version": session.runtime_version,
            "in_force": session.in_force,
            "import_s": session.import_s,
            "load_s": session.load_s,
            "initialise_s": session.initialise_s,
            "first_inference_s": first,
            "warmup_s": warmup,
            "warmup_is_flat": is_flat,
            "rounds": [dataclasses.asdict(r) for r in rounds],
            "inputs": [dataclasses.asdict(t) for t in session.inputs],
            "outputs": [dataclasses.asdict(t) for t in session.outputs],
            "input_digest": inputs.digest(data),
            "output_digest": inputs.digest(found),
            "outputs_are_finite": all(inputs.is_finite(t.dtype, d) for t, d in zip(session.outputs, found)),
            "outputs_repeat": found == again,
            "memory_before_bytes": memory_before,
            "memory_peak_bytes": memory_peak,
            "notes": session.notes,
        }
        if job.send_outputs:
            body["output_values"] = [dataclasses.asdict(v) for v in outputs.pack(session.outputs, found)]
        return body, watch.laps


def _open(stack: contextlib.ExitStack, job: Job, model_path: str, machine: Machine) -> Session:
    session = open_session(job, model_path, machine, False)
    stack.callback(session.close)
    return session


def _open_others(
    stack: contextlib.ExitStack, job: Job, model_path: str, data: Sequence[bytes], machine: Machine
) -> List[Session]:
    """A session for every stream but the first, each run once.

    Raises:
        RuntimeRefusal: out-of-memory; there is no room for one more such as the last. Better than being killed.
    """
    sessions: List[Session] = []
    took: Optional[int] = None
    while len(sessions) < job.options.streams - 1:
        available = conditions.read(machine).memory_available_bytes
        if took is not None and available is not None and available < took:
            raise RuntimeRefusal(
                "out-of-memory",
                f"{available} bytes of memory are left after {1 + len(sessions)} of {job.options.streams} streams, "
                f"and the last took {took}",
                f"ask for fewer: --streams {1 + len(sessions)}",
            )
        before, _ = conditions.process_memory(machine)
        session = _open(stack, job, model_path, machine)
        session.set_inputs(data)
        session.run()
        sessions.append(session)
        now, _ = conditions.process_memory(machine)
        took = now - before if now is not None and before is not None else None
    return sessions


class Stopwatch:
    """Named laps of the machine's clock; laps of one name are added up."""

    def __init__(self, machine: Machine) -> None:
        self._now = machine.now
        self._last = machine.now()
        self.laps: Dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = self._now()
        self.laps[name] = self.laps.get(name, 0.0) + now - self._last
        self._last = now


def _set_inputs(session: Session, job: Job, input_paths: Sequence[str]) -> Tuple[bytes, ...]:
    """The user's own values where the job has them, else those of its seed."""
    try:
        if job.inputs:
            data = inputs.load(session.inputs, job.inputs, input_paths)
        else:
            data = inputs.make(session.inputs, job.seed)
    except KeyError as error:
        raise RuntimeRefusal("unsupported-model", f"inputs of type {error} cannot be made from a seed") from error
    session.set_inputs(data)
    return data


def warm_up(timed: TimedRuns, machine: Machine, schedule: Schedule, report: Report) -> Tuple[Tuple[float, ...], bool]:
    """Run until two neighbouring windows agree, or the budget is spent; (every latency, whether they agreed)."""
    report(Progress("warm-up"))
    samples: List[float] = []
    previous: Optional[float] = None
    start = machine.now()
    while True:
        window, _ = timed(WINDOW_RUNS, WINDOW_S, math.inf)
        samples += window
        middle = statistics.median(window)
        if previous is not None and abs(middle / previous - 1) <= schedule.warmup_tolerance:
            if len(samples) >= schedule.warmup_min_runs:
                return tuple(samples), True
        elif machine.now() - start >= _warmup_budget_s(schedule, middle):
            return tuple(samples), False
        previous = middle


def _warmup_budget_s(schedule: Schedule, latency_s: float) -> float:
    one_round_s = min(schedule.max_s, max(schedule.min_s, schedule.min_runs * latency_s))
    return schedule.warmup_share * schedule.rounds * one_round_s


def _rounds(timed: TimedRuns, job: Job, machine: Machine, report: Report, latency_s: float) -> Tuple[Round, ...]:
    """Every round, each behind the gate; all of them together wait no longer than the gate's timeout."""
    schedule = job.schedule
    one_round_s = min(schedule.max_s, max(schedule.min_s, schedule.min_runs * latency_s))
    patience_s = job.gate.timeout_s
    rounds: List[Round] = []
    for k in range(schedule.rounds):
        report(Progress("gate", k, schedule.rounds, (schedule.rounds - k) * one_round_s))
        opened = gate.wait(machine, dataclasses.replace(job.gate, timeout_s=patience_s))
        patience_s = max(0.0, patience_s - opened.waited_s)
        report(Progress("rounds", k, schedule.rounds, (schedule.rounds - k) * one_round_s))
        before = conditions.read(machine)
        timed(WINDOW_RUNS, 0.0, math.inf)  # not counted: waiting for the gate let caches and clocks fall
        samples, wall_s = timed(schedule.min_runs, schedule.min_s, schedule.max_s)
        after = conditions.read(machine)
        rounds.append(Round(tuple(samples), before, after, opened, job.options.streams, wall_s))
    return tuple(rounds)


def timed_runs(
    run: Callable[[], None], now: Callable[[], float], min_runs: int, min_s: float, max_s: float
) -> Tuple[List[float], float]:
    """Latencies of at least `min_runs` runs and at least `min_s` seconds, and how long they took in all.

    At `max_s` it ends whatever was reached.
    """
    samples: List[float] = []
    gc.collect()
    gc.disable()  # a collection inside a run would be charged to the model
    try:
        start = now()
        while True:
            begin = now()
            run()
            end = now()
            samples.append(end - begin)
            elapsed = end - start
            if elapsed >= max_s or (elapsed >= min_s and len(samples) >= min_runs):
                return samples, elapsed
    finally:
        gc.enable()


def operator_pass(
    job: Job, model_path: str, input_paths: Sequence[str], machine: Machine, report: Report
) -> PassResult:
    """Measure with operator profiling on, one stream alone, in batches; the result is an `OperatorPass` as plain data.

    Raises:
        RuntimeRefusal: this runtime cannot profile operators of this model.
    """
    schedule = job.schedule
    report(Progress("operators", 0, schedule.operator_runs))
    watch = Stopwatch(machine)
    batches = Batches(schedule.operator_runs)
    opened: Optional[GateOutcome] = None
    before: Optional[Conditions] = None
    piled_up: Optional[int] = None
    while True:
        session = open_session(job, model_path, machine, True)
        watch.lap("open")
        try:
            _set_inputs(session, job, input_paths)
            known = session.piled_up_per_run if piled_up is None else piled_up
            n_warmup, n_runs = batch_runs(schedule, known, batches.n_left)
            for _ in range(n_warmup):
                session.run()
                session.after_run()
            watch.lap("warm-up")
            if opened is None or before is None:
                patience_s = min(job.gate.timeout_s, OPERATOR_GATE_S)
                opened = gate.wait(machine, dataclasses.replace(job.gate, timeout_s=patience_s))
                before = conditions.read(machine)
                end = machine.now() + schedule.operator_max_s
            session.begin_recording()
            latencies = _recorded_runs(session, n_runs, machine, end)
            after = conditions.read(machine)
            batches.add(session.end_recording(), latencies)
            piled_up = session.piled_up_per_run
            if batches.n_batches == 1:
                graph, in_force, notes = session.executed_graph(), session.in_force, session.notes
            watch.lap("record")
        finally:
            session.close()
        report(Progress("operators", len(batches.latencies_s), schedule.operator_runs))
        if batches.n_left < 1 or machine.now() >= end:
            break
    recorded = batches.merged()
    body = dataclasses.asdict(
        OperatorPass(
            method=recorded.method,
            latencies_s=tuple(batches.latencies_s),
            kernels=recorded.kernels,
            resolution_s=recorded.resolution_s,
            bias_s=recorded.bias_s,
            in_force=in_force,
            graph=graph,
            gate=opened,
            before=before,
            after=after,
            n_batches=batches.n_batches,
            notes=(*notes, *batches.notes()),
        )
    )
    return body, watch.laps


def outputs_pass(job: Job, model_path: str, input_paths: Sequence[str], machine: Machine, report: Report) -> PassResult:
    """One inference from a fresh state; the result has the fields of `Outputs` that only this pass can know.

    Raises:
        RuntimeRefusal: the runtime cannot do this job.
    """
    report(Progress("outputs"))
    watch = Stopwatch(machine)
    session = open_session(job, model_path, machine, False)
    try:
        data = _set_inputs(session, job, input_paths)
        session.run()
        found = session.read_outputs()
        body = {
            "runtime_version": session.runtime_version,
            "in_force": session.in_force,
            "outputs": [dataclasses.asdict(t) for t in session.outputs],
            "values": [dataclasses.asdict(v) for v in outputs.pack(session.outputs, found)],
            "input_digest": inputs.digest(data),
        }
        watch.lap("run")
        return body, watch.laps
    finally:
        session.close()


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
