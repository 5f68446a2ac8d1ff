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
from device_agents.runtimes import RuntimeRefusal, Session, open_session
from device_agents.simultaneous import timed_together
from device_agents.wire import Conditions, GateOutcome, Job, Progress, Round, Schedule

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
        data = set_inputs(session, job, input_paths)
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


def set_inputs(session: Session, job: Job, input_paths: Sequence[str]) -> Tuple[bytes, ...]:
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
    if schedule.without_rest_s is not None:
        return _rounds_without_rest(timed, job, machine, report, schedule.without_rest_s)
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
        rounds.append(_round(timed, job, machine, before, opened))
    return tuple(rounds)


def _rounds_without_rest(
    timed: TimedRuns, job: Job, machine: Machine, report: Report, lasts_s: float
) -> Tuple[Round, ...]:
    """One round after the other behind a single gate. The device is looked at once between two of them."""
    schedule = job.schedule
    report(Progress("gate", 0, schedule.rounds, lasts_s))
    opened = gate.wait(machine, job.gate)
    before = conditions.read(machine)
    rounds: List[Round] = []
    while len(rounds) < schedule.rounds:
        left_s = lasts_s - (before.at_s - rounds[0].before.at_s) if rounds else lasts_s
        if rounds and left_s <= 0:
            break
        report(Progress("rounds", len(rounds), schedule.rounds, left_s))
        rounds.append(_round(timed, job, machine, before, opened))
        before, opened = rounds[-1].after, GateOutcome(passed=True, waited_s=0.0)
    return tuple(rounds)


def _round(timed: TimedRuns, job: Job, machine: Machine, before: Conditions, opened: GateOutcome) -> Round:
    schedule = job.schedule
    samples, wall_s = timed(schedule.min_runs, schedule.min_s, schedule.max_s)
    after = conditions.read(machine)
    kept = evenly(samples, schedule.keep_runs)
    n_runs = len(samples) if len(kept) < len(samples) else None
    return Round(kept, before, after, opened, job.options.streams, wall_s, n_runs)


def evenly(samples: Sequence[float], most: int) -> Tuple[float, ...]:
    """At most so many of them, evenly spaced and in their order: the middle one of each part; all where `most` is 0."""
    n = len(samples)
    if most <= 0 or n <= most:
        return tuple(samples)
    return tuple(samples[(2 * k + 1) * n // (2 * most)] for k in range(most))


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


def outputs_pass(job: Job, model_path: str, input_paths: Sequence[str], machine: Machine, report: Report) -> PassResult:
    """One inference from a fresh state; the result has the fields of `Outputs` that only this pass can know.

    Raises:
        RuntimeRefusal: the runtime cannot do this job.
    """
    report(Progress("outputs"))
    watch = Stopwatch(machine)
    session = open_session(job, model_path, machine, False)
    try:
        data = set_inputs(session, job, input_paths)
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
