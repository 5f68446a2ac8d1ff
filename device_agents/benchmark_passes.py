"""The passes of a job that `benchmark_model` runs: it is started once for each round, and times itself.

What it tells of a round is how many runs there were, their mean, smallest, largest and standard deviation: the mean is
the round's one sample, and the rest stands beside it (`Round.told`). The looks at the device enclose the whole start,
its warm-up included.
"""

import dataclasses
import math
from typing import List, Sequence

from device_agents import conditions, gate, inputs
from device_agents.machine import Machine
from device_agents.measure import PassResult, Report, Stopwatch
from device_agents.operator_batches import Batches
from device_agents.operator_pass import OPERATOR_GATE_S
from device_agents.runtimes import Recorded
from device_agents.runtimes.benchmark_model import BenchmarkModel, prepared
from device_agents.runtimes.benchmark_output import Row, Timings, without_delegates
from device_agents.wire import Job, OperatorPass, Progress, Round, Told

# Starts with profiling: of each operator every one gives a mean, and their differences show what it scatters.
OPERATOR_STARTS = 3
# Tables end at a microsecond; in CSV the sums behind the means are whole microseconds.
RESOLUTION_S = 1e-6


def latency_pass(job: Job, model_path: str, input_paths: Sequence[str], machine: Machine, report: Report) -> PassResult:
    """As measure.latency_pass; what the program does not tell is empty, and said in `in_force`.

    Raises:
        RuntimeRefusal: the program cannot do this job.
    """
    watch = Stopwatch(machine)
    report(Progress("load"))
    with prepared(job, model_path, machine) as tool:
        watch.lap("open")
        told: List[Timings] = []
        rounds: List[Round] = []
        for _ in range(job.schedule.rounds):
            rounds.append(_round(tool, job, machine, report, rounds, told))
        watch.lap("rounds")
        first = told[0]
        difference = abs(first.warmup.mean_s / first.regular.mean_s - 1) if first.regular.mean_s > 0 else math.inf
        body = {
            "runtime_version": tool.version,
            "in_force": tool.in_force(first),
            "import_s": 0.0,
            "load_s": 0.0,
            "initialise_s": first.initialise_s,
            "first_inference_s": first.first_inference_s,
            "warmup_s": (first.warmup.mean_s,),
            "warmup_is_flat": difference <= job.schedule.warmup_tolerance,
            "rounds": [dataclasses.asdict(r) for r in rounds],
            "inputs": [],
            "outputs": [],
            "input_digest": inputs.digest(()),
            "output_digest": inputs.digest(()),
            # Of no outputs: the program shows none.
            "outputs_are_finite": True,
            "outputs_repeat": True,
            "memory_before_bytes": None,
            "memory_peak_bytes": None,
            "notes": [
                f"warm-up before every round: {first.warmup.n_runs} runs before the first, of which the mean is known"
            ],
        }
        return body, watch.laps


def _round(
    tool: BenchmarkModel, job: Job, machine: Machine, report: Report, before_it: Sequence[Round], told: List[Timings]
) -> Round:
    """One start; what it told is appended to `told`. All rounds together wait no longer than the gate's timeout."""
    schedule, k = job.schedule, len(before_it)
    report(Progress("gate", k, schedule.rounds))
    patience_s = max(0.0, job.gate.timeout_s - sum(one.gate.waited_s for one in before_it))
    opened = gate.wait(machine, dataclasses.replace(job.gate, timeout_s=patience_s))
    report(Progress("rounds", k, schedule.rounds))
    before = conditions.read(machine)
    told.append(tool.time(schedule.min_runs, schedule.min_s, schedule.max_s))
    after = conditions.read(machine)
    spent = told[-1].regular
    return Round(
        latencies_s=(spent.mean_s,),
        before=before,
        after=after,
        gate=opened,
        wall_s=spent.mean_s * spent.n_runs,
        n_runs=spent.n_runs,
        told=Told(spent.min_s, spent.max_s, spent.std_s),
    )


def operator_pass(
    job: Job, model_path: str, input_paths: Sequence[str], machine: Machine, report: Report
) -> PassResult:
    """As operator_pass.operator_pass, in a few starts of the program; each gives one mean for every operator.

    Raises:
        RuntimeRefusal: the program cannot do this job, or gives no operators.
    """
    watch = Stopwatch(machine)
    report(Progress("operators", 0, OPERATOR_STARTS))
    schedule = job.schedule
    n_runs = max(1, schedule.operator_runs // OPERATOR_STARTS)
    max_s = max(1.0, schedule.operator_max_s / OPERATOR_STARTS)
    batches, forms = Batches(OPERATOR_STARTS), set()
    notes: List[str] = []
    with prepared(job, model_path, machine) as tool:
        patience_s = min(job.gate.timeout_s, OPERATOR_GATE_S)
        opened = gate.wait(machine, dataclasses.replace(job.gate, timeout_s=patience_s))
        before = conditions.read(machine)
        for k in range(OPERATOR_STARTS):
            told, rows, form = tool.operators(n_runs, max_s)
            kept, notes = without_delegates(rows)
            batches.add(_recorded(kept), (told.regular.mean_s,))
            forms.add(form)
            report(Progress("operators", k + 1, OPERATOR_STARTS))
        after = conditions.read(machine)
        in_force = tool.in_force(told)
        watch.lap("record")
    recorded = batches.merged()
    found = OperatorPass(
        method=f"benchmark_model --enable_op_profiling, {' and '.join(sorted(forms))}",
        latencies_s=tuple(batches.latencies_s),
        kernels=recorded.kernels,
        resolution_s=RESOLUTION_S,
        in_force=in_force,
        gate=opened,
        before=before,
        after=after,
        n_batches=batches.n_batches,
        notes=(f"each time is the mean of about {told.regular.n_runs} runs", *notes, *batches.notes()),
    )
    return dataclasses.asdict(found), watch.laps


def _recorded(rows: Sequence[Row]) -> Recorded:
    kernels = [dataclasses.replace(row.kernel, times_s=(row.time_s,)) for row in rows]
    return Recorded("benchmark_model", kernels, RESOLUTION_S)
