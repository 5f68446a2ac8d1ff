"""The energy pass: the model in a loop between stretches of rest, with a power meter sampled all the while."""

import contextlib
import dataclasses
from typing import Any, Callable, Iterator, List, Optional, Sequence, Tuple

from device_agents import conditions, gate, inputs
from device_agents.machine import Machine, Ticker
from device_agents.measure import PassResult, Report, Stopwatch, set_inputs, timed_runs, warm_up
from device_agents.power import PowerMeter, choose
from device_agents.power.sampler import Sampler, period_of, usual_rate_hz
from device_agents.runtimes import RuntimeRefusal, Session, open_session
from device_agents.wire import (
    BUSY,
    EXTERNAL,
    IDLE,
    MARK,
    EnergyPlan,
    EnergyWindow,
    Job,
    Progress,
)

# Between two looks at the clock the loop runs for about so long: a look costs as much as a very small model.
BATCH_S = 0.02


def energy_pass(job: Job, model_path: str, input_paths: Sequence[str], machine: Machine, report: Report) -> PassResult:
    """Measure by the job's energy plan; the result has the fields of `EnergyPass`.

    Raises:
        RuntimeRefusal: no-meter, charging, or what the runtime cannot do.
    """
    plan = job.energy or EnergyPlan()
    meter = None if plan.meter == EXTERNAL else choose(machine, plan.meter)
    if meter is not None and meter.info.on_charge:
        require_discharging(machine)
    watch = Stopwatch(machine)
    session = open_session(job, model_path, machine, False)
    try:
        watch.lap("open")
        data = set_inputs(session, job, input_paths)
        loop = Loop(session, machine)
        warm_up(loop.timed, machine, job.schedule, report)
        watch.lap("warm-up")
        report(Progress("gate"))
        opened = gate.wait(machine, job.gate)
        watch.lap("gate")
        began = machine.clocks()
        with sampling(meter, plan, machine) as sampled:
            windows = Windows(machine, loop, sampled).measure(schedule(plan, meter), report)
        watch.lap("windows")
        notes = list(session.notes)
        if job.options.streams > 1:
            notes.append(f"energy is that of one stream alone, not of {job.options.streams}")
        body = {
            "trace": dataclasses.asdict(sampled.sampler.trace()) if sampled is not None else None,
            "windows": [dataclasses.asdict(window) for window in windows],
            "gate": dataclasses.asdict(opened),
            "began": dataclasses.asdict(began),
            "ended": dataclasses.asdict(machine.clocks()),
            "runtime_version": session.runtime_version,
            "in_force": session.in_force,
            "input_digest": inputs.digest(data),
            "notes": notes,
        }
        return body, watch.laps
    finally:
        session.close()


def require_discharging(machine: Machine) -> None:
    """Refuse while the battery is on a charger: what flows there then is not what the device takes.

    Raises:
        RuntimeRefusal: charging.
    """
    if conditions.is_on_charger(machine):
        source = conditions.read_power_source(machine)
        raise RuntimeRefusal(
            "charging",
            f"the device is on a charger ({source}): its battery's meter does not show what it takes",
            "unplug it, or name a meter that a charger does not disturb: --meter",
        )


# --- what is to be done -------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Step:
    """A window to come: its kind, how long, and how often the meter is asked in it (None: not at all)."""

    kind: str
    seconds: float
    rate_hz: Optional[float]


def schedule(plan: EnergyPlan, meter: Optional[PowerMeter]) -> List[Step]:
    """Every window in its order: busy ones between idle ones, with marks around all of them for a meter elsewhere."""
    if meter is None:
        rate_hz, update_s = None, 0.0
    else:
        update_s = period_of(meter)
        rate_hz = plan.rate_hz or usual_rate_hz(meter)
    busy_s = min(plan.max_window_s, max(plan.window_s, plan.min_updates * update_s))
    idle_s = min(plan.max_window_s, max(plan.idle_s, plan.min_updates * update_s / 2))
    steps = [Step(IDLE, idle_s, rate_hz)]
    for slow in slow_ones(plan, meter is not None):
        asked_hz = rate_hz / plan.observer_slowdown if slow and rate_hz is not None else rate_hz
        steps += [Step(BUSY, busy_s, asked_hz), Step(IDLE, idle_s, asked_hz)]
    if meter is not None:
        return steps
    marks = [Step(kind, plan.mark_s, None) for _ in range(plan.marks) for kind in (MARK, IDLE)]
    return [Step(IDLE, plan.mark_s, None), *marks, *steps, *marks]


def slow_ones(plan: EnergyPlan, is_sampled: bool) -> List[bool]:
    """For every busy window whether it is to show what asking costs; these lie evenly among the others."""
    n_slow = plan.observer_windows if is_sampled else 0
    total = plan.windows + n_slow
    slow = {round((k + 0.5) * total / n_slow - 0.5) for k in range(n_slow)}
    return [k in slow for k in range(total)]


# --- doing it -----------------------------------------------------------------------------------------------------


class Loop:
    """The model, run again and again. What goes around it is the same for every model, an empty one too."""

    def __init__(self, session: Session, machine: Machine) -> None:
        self._run: Callable[[], None] = session.run
        self._run_many: Optional[Callable[[int], None]] = getattr(session, "run_many", None)
        self._now = machine.now
        self._batch = 1

    def timed(self, min_runs: int, min_s: float, max_s: float) -> Tuple[List[float], float]:
        """Single runs, to warm up; how long one took sets the size of a batch."""
        samples, wall_s = timed_runs(self._run, self._now, min_runs, min_s, max_s)
        self._batch = max(1, int(BATCH_S / max(min(samples), 1e-9)))
        return samples, wall_s

    def until(self, end_s: float) -> int:
        """Run batches until that instant has passed; how many runs that were."""
        n_runs, run, batch = 0, self._run, self._batch
        while self._now() < end_s:
            if self._run_many is not None:
                self._run_many(batch)
            else:
                for _ in range(batch):
                    run()
            n_runs += batch
        return n_runs


class Sampled:
    """A trace that grows while windows are measured, and how often it is asked for more."""

    def __init__(self, sampler: Sampler, ticker: Ticker) -> None:
        self.sampler = sampler
        self.ticker = ticker


@contextlib.contextmanager
def sampling(meter: Optional[PowerMeter], plan: EnergyPlan, machine: Machine) -> Iterator[Any]:
    """Sample the meter for as long as this lasts; nothing where the meter is elsewhere.

    Raises:
        RuntimeRefusal: no-meter; it cannot be opened.
    """
    if meter is None:
        yield None
        return
    rate_hz = plan.rate_hz or usual_rate_hz(meter)
    sampler = Sampler(meter, machine)
    try:
        meter.open()
    except OSError as error:
        meter.close()
        raise RuntimeRefusal("no-meter", f"{meter.info.name}: {error}", "see `edgeprof devices doctor`") from error
    with contextlib.closing(meter):
        with machine.every(1 / rate_hz, sampler.sample) as ticker:
            yield Sampled(sampler, ticker)
        sampler.sample()  # so that the trace reaches the end of the last window


class Windows:
    """Measures one window after the other; the device is looked at between them, never inside."""

    def __init__(self, machine: Machine, loop: Loop, sampled: Optional[Sampled]) -> None:
        self._machine = machine
        self._loop = loop
        self._sampled = sampled

    def measure(self, steps: Sequence[Step], report: Report) -> List[EnergyWindow]:
        windows: List[EnergyWindow] = []
        before = conditions.read(self._machine)
        for k, step in enumerate(steps):
            report(Progress("energy", k, len(steps), sum(one.seconds for one in steps[k:])))
            if self._sampled is not None and step.rate_hz is not None:
                self._sampled.ticker.period_s = 1 / step.rate_hz
            start_s = self._machine.now()
            n_runs = 0
            if step.kind == IDLE:
                self._machine.sleep(step.seconds)
            else:
                n_runs = self._loop.until(start_s + step.seconds)
            end_s = self._machine.now()
            after = conditions.read(self._machine)
            windows.append(EnergyWindow(step.kind, start_s, end_s, before, after, n_runs, step.rate_hz))
            before = after
        return windows
