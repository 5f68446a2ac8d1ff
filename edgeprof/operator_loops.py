"""Measure every distinct operator of a run in a loop of its own on the device, beside a model that does nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Callable, Sequence

from device_agents import wire
from edgeprof.agent import Agent
from edgeprof.errors import AgentLost, JobRefused, LinkError, MeterError, ModelError, NoSpace, TransferError
from edgeprof.metering import energy_alone
from edgeprof.meters import is_address
from edgeprof.models import ModelFile
from edgeprof.models.cutting import Cut, distinct_operators, empty_model
from edgeprof.profiling import OpenDevice
from edgeprof.run import OperatorLoop, OperatorLoops, Run

__all__ = ["expected_s", "loop_s", "measure_loops"]

# Beside its windows a loop takes: starting a worker and a session, warming up, waiting for quiet; once more to look.
AROUND_S = 6.0
# A cut may run kernels of its own beside the operator's (to rearrange what comes in): of its time no more than this.
MOST_OTHER_SHARE = 0.1
# The device's deadline is so much later than what is expected, for boards that start slowly.
PATIENCE = 2.0
LOOK = wire.Schedule(rounds=1, min_runs=3, min_s=0.0, warmup_min_runs=1, operator_runs=5, operator_max_s=5.0)

OnLoop = Callable[[int, int], None]


def loop_s(plan: wire.EnergyPlan, meter: wire.MeterInfo | None) -> float:
    """Seconds that one loop is expected to take."""
    period_s = (meter.period_s if meter is not None else None) or 0.0
    busy_s = min(plan.max_window_s, max(plan.window_s, plan.min_updates * period_s))
    idle_s = min(plan.max_window_s, max(plan.idle_s, plan.min_updates * period_s / 2))
    is_elsewhere = plan.meter == wire.EXTERNAL or is_address(plan.meter)
    marks_s = 4 * plan.marks * plan.mark_s if is_elsewhere else 0.0
    n_busy = plan.windows + (0 if is_elsewhere else plan.observer_windows)
    return n_busy * busy_s + (n_busy + 1) * idle_s + marks_s + AROUND_S


def expected_s(plan: wire.EnergyPlan, meter: wire.MeterInfo | None, n_operators: int) -> float:
    """Seconds that loops of so many operators are expected to take, with those of the empty model."""
    return (n_operators + 1) * loop_s(_of_loops(plan), meter)


def with_loops(
    opened: OpenDevice,
    model: ModelFile,
    run: Run,
    *,
    meter: str = "",
    budget_s: float | None = None,
    on_loop: OnLoop | None = None,
    on_progress: Callable[[wire.Progress], None] | None = None,
) -> Run:
    """The run with the energy of its operators, by the meter that measured the whole model, or with why there is none.

    `meter` is what the user asked for: the address of one that is not on the device.
    """
    energy, plan = run.profile.energy, run.profile.job.energy
    if energy is None or plan is None:
        missing = f"the whole model has no energy: {run.profile.energy_missing}"
        return dataclasses.replace(run, loops_missing=missing)
    if energy.trace is None:
        missing = "operators need a meter that is read while they run, and the trace of this one is attached later"
        return dataclasses.replace(run, loops_missing=missing)
    if run.profile.operators is None:
        return dataclasses.replace(run, loops_missing=f"no operators: {run.profile.operators_missing}")
    measured_by = energy.trace.meter
    address = meter or opened.device.meter or ""
    chosen = address if is_address(address) else measured_by.name
    try:
        loops = measure_loops(
            opened,
            model,
            run,
            dataclasses.replace(plan, meter=chosen),
            seed=run.profile.job.seed,
            on_loop=on_loop,
            on_progress=on_progress,
            # A simulated board's seconds cost nobody's time.
            budget_s=None if run.profile.origin == wire.SIMULATED else budget_s,
            meter=measured_by,
        )
    except ModelError as error:
        return dataclasses.replace(run, loops_missing=str(error))
    return dataclasses.replace(run, loops=loops, loops_missing=None)


def measure_loops(
    opened: OpenDevice,
    model: ModelFile,
    run: Run,
    plan: wire.EnergyPlan,
    *,
    seed: int = 0,
    on_loop: OnLoop | None = None,
    on_progress: Callable[[wire.Progress], None] | None = None,
    most_operators: int | None = None,
    budget_s: float | None = None,
    meter: wire.MeterInfo | None = None,
) -> OperatorLoops:
    """Measure the operators of a run, in an order shuffled by `seed`, the empty model among them.

    Where not all of them fit into `most_operators` or `budget_s`, those that take most of the model's time go first.
    What fails is `missing`, and why; an agent that is lost ends the measuring with what there is. `on_loop` hears
    before each loop how many are done, of how many.

    Args:
        opened: the device that made the run.
        model: the file it ran.
        run: the profile, with operators.
        plan: how every loop is measured.
        seed: for the order.
        on_loop: told before each loop.
        on_progress: told what the agent says.
        most_operators: at most so many distinct operators.
        budget_s: at most so many seconds, as `expected_s` counts them.
        meter: the one that will be used, for its period; None if that is not known.

    Raises:
        ModelError: the file cannot be taken apart, or the run has no operators.
    """
    cuts = distinct_operators(model, run)
    plan = _of_loops(plan)
    chosen, left_out = _choose(cuts, _room(most_operators, budget_s, loop_s(plan, meter)))
    bench = _Bench(opened, model, run, plan, PATIENCE * loop_s(plan, meter), on_progress)
    order: list[Cut | None] = [None, *chosen]
    random.Random(seed).shuffle(order)
    found: list[OperatorLoop] = [*left_out, *(_none(cut, cut.missing) for cut in cuts if cut.missing is not None)]
    empty: wire.EnergyPass | None = None
    empty_missing: str | None = "the measuring ended before it"
    lost: str | None = None
    for done, cut in enumerate(order):
        if lost is not None:
            if cut is not None:
                found.append(_none(cut, lost))
            continue
        if on_loop is not None:
            on_loop(done, len(order))
        try:
            if cut is None:
                empty, empty_missing = bench.empty(), None
            else:
                found.append(bench.loop(cut))
        except (JobRefused, MeterError, NoSpace, TransferError) as error:
            if cut is None:
                empty_missing = str(error)
            else:
                found.append(_none(cut, str(error)))
        except (AgentLost, LinkError) as error:
            lost = f"not measured: the device was lost before: {error}"
            if cut is None:
                empty_missing = str(error)
            else:
                found.append(_none(cut, f"the device was lost in it: {error}"))
    found.sort(key=lambda loop: loop.kernels)
    return OperatorLoops(seed=seed, operators=tuple(found), empty=empty, empty_missing=empty_missing)


def _of_loops(plan: wire.EnergyPlan) -> wire.EnergyPlan:
    """What asking the meter costs is known from the whole model: no windows for it in every loop."""
    return dataclasses.replace(plan, observer_windows=0)


def _room(most_operators: int | None, budget_s: float | None, each_s: float) -> int | None:
    """How many operators there is time for beside the empty model; None for all."""
    rooms = [most_operators] if most_operators is not None else []
    if budget_s is not None:
        rooms.append(max(0, int(budget_s / each_s) - 1))
    return min(rooms) if rooms else None


def _choose(cuts: Sequence[Cut], room: int | None) -> tuple[list[Cut], list[OperatorLoop]]:
    able = sorted((cut for cut in cuts if cut.missing is None), key=lambda cut: -cut.time_s)
    if room is None or len(able) <= room:
        return able, []
    why = f"not measured: there was time for {room} of {len(able)} operators, and the others take longer in the model"
    return able[:room], [_none(cut, why) for cut in able[room:]]


def _none(cut: Cut, why: str | None) -> OperatorLoop:
    digest = _digest(cut.data) if cut.data is not None else None
    return OperatorLoop(kernels=cut.kernels, model_digest=digest, missing=why)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class _Bench:
    """Makes the jobs of single operators, as the whole model's was made, and has them measured."""

    def __init__(
        self,
        opened: OpenDevice,
        model: ModelFile,
        run: Run,
        plan: wire.EnergyPlan,
        deadline_s: float,
        on_progress: Callable[[wire.Progress], None] | None,
    ) -> None:
        self._opened = opened
        self._meter = plan.meter
        self._format = model.format
        self._on_progress = on_progress
        self._job = dataclasses.replace(
            run.profile.job,
            options=dataclasses.replace(run.profile.job.options, shapes={}, batch=None, streams=1),
            inputs=(),
            operators=False,
            send_outputs=False,
            energy=plan,
            deadline_s=deadline_s,
        )

    def empty(self) -> wire.EnergyPass:
        """The loop around nothing."""
        if self._job.runtime == "simulated":
            return self._measured(self._simulated_job("empty", ()))
        data = empty_model(self._format)
        return self._measured(self._pushed("empty", data))

    def loop(self, cut: Cut) -> OperatorLoop:
        """An operator's loop."""
        if cut.work is not None:
            return OperatorLoop(kernels=cut.kernels, energy=self._measured(self._simulated_job("cut", (cut.work,))))
        data = cut.data or b""
        job = self._pushed("cut", data)
        other = self._other_than(job, cut.types)
        if other is not None:
            return _none(cut, other)
        return OperatorLoop(kernels=cut.kernels, model_digest=_digest(data), energy=self._measured(job))

    def _agent(self) -> Agent:
        return self._opened.agent(self._job.runtime)

    def _measured(self, job: wire.Job) -> wire.EnergyPass:
        return energy_alone(self._opened, job, self._meter, self._on_progress)

    def _simulated_job(self, name: str, work: tuple[wire.Work, ...]) -> wire.Job:
        return dataclasses.replace(self._job, model=self._ref(name, b""), work=work)

    def _pushed(self, name: str, data: bytes) -> wire.Job:
        ref = self._ref(name, data)
        self._agent().push([(ref.files[0], data)])
        return dataclasses.replace(self._job, model=ref)

    def _ref(self, name: str, data: bytes) -> wire.ModelRef:
        file = wire.FileRef(f"{name}.{self._format}", _digest(data), len(data))
        return wire.ModelRef(file.name, self._format, file.sha256, (file,))

    def _other_than(self, job: wire.Job, types: Sequence[str]) -> str | None:
        """Whether the runtime makes of the cut what it made of the operator; in words what else it makes, or None."""
        look = dataclasses.replace(job, energy=None, operators=True, schedule=LOOK)
        recorded = self._agent().profile(look).operators
        if recorded is None:
            return None  # the runtime cannot tell; that it could for the whole model does not hold for every cut
        times_s = [(kernel.type, sum(kernel.times_s)) for kernel in recorded.kernels]
        wanted = list(types)
        other_s = 0.0
        for kind, time_s in times_s:
            if kind in wanted:
                wanted.remove(kind)
            else:
                other_s += time_s
        total_s = sum(time_s for _, time_s in times_s)
        if wanted or other_s > MOST_OTHER_SHARE * total_s:
            ran = ", ".join(kind for kind, _ in times_s) or "nothing"
            return f"cut out it runs as {ran}; in the model as {', '.join(types)}"
        return None
