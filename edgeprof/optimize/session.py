"""Optimize a model for a device: make, judge, race, and say what is left: the front, with proof from the device."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from device_agents import wire
from edgeprof.errors import InputError, UsageError
from edgeprof.fleet import Device
from edgeprof.models import read_model
from edgeprof.models.reading import ModelFile
from edgeprof.optimize.candidate import ORIGINAL, Candidate
from edgeprof.optimize.contest import Tried, best_of, front_of, raced, without_twins
from edgeprof.optimize.gate import RUNTIME_OF, Gate
from edgeprof.optimize.inference import Inference
from edgeprof.optimize.making import Workshop, quantised_already
from edgeprof.optimize.measuring import Bench
from edgeprof.optimize.metrics import metric_named
from edgeprof.optimize.ranking import Predictor, predicted, without_hopeless
from edgeprof.optimize.samples import LEAST_CALIBRATION, LEAST_EVALUATION, Samples, read_samples, require_enough, split
from edgeprof.optimize.seeded import seeded
from edgeprof.run import Run

__all__ = ["Optimized", "Plan", "Tried", "optimize"]

Tell = Callable[[str], None]
# Of files that are slower than the original, so many are looked into.
MOST_EXPLAINED = 3
# With the number of the process.
WORK = ".making-"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to do. `budget` is the share of the metric that may be lost, None: lossless changes alone.

    `data` and `calibration` are files or folders of samples; without calibration a part of the data is set aside for
    it. `most_s` is for the race on the device. `only`: beginnings of the names of candidates, all where it is empty.
    With a `predictor` those race that it does not rule out.
    """

    model: Path
    folder: Path
    runtime: str | None = None
    options: wire.RuntimeOptions = field(default_factory=wire.RuntimeOptions)
    budget: float | None = None
    data: Path | None = None
    calibration: Path | None = None
    metric: str | None = None
    beside: Path = field(default_factory=Path.cwd)
    energy: wire.EnergyPlan | None = None
    explain: bool = False
    seed: int = 0
    most_s: float = 900.0
    sensitivity_s: float = 300.0
    only: tuple[str, ...] = ()
    predictor: Predictor | None = None


@dataclass(frozen=True, kw_only=True)
class Optimized:
    """How it ended. `front` names what nothing else beats in latency, energy, size and loss; ties are not beaten.

    `best` is the fastest of them that is faster than the original for sure, None where there is none. `profiles` has
    the operators of some, by name, for `--explain`. `was_lost`: the device was, before the race was over.
    """

    model: ModelFile
    device: str
    runtime: str
    metric: str
    score: float | None
    n_samples: int
    n_calibration: int
    budget: float | None
    tried: tuple[Tried, ...]
    front: tuple[str, ...]
    best: str | None
    notes: tuple[str, ...] = ()
    profiles: Mapping[str, Run] = field(default_factory=dict)
    was_lost: bool = False


def optimize(
    plan: Plan,
    device: Device,
    keep: Callable[[Run], object] = lambda run: None,
    tell: Tell = lambda text: None,
    now: Callable[[], float] = time.monotonic,
    on_accepted: Callable[[str, Path], None] = lambda name, path: None,
) -> Optimized:
    """Do all of it. Files of the front are in the plan's folder at the end; an older one of that name is replaced.

    `on_accepted` is shown every file that passed the gate, while it is there.

    Raises:
        ModelError, InputError: the model or the data cannot be used.
        UsageError: what was asked for makes no sense together.
        InferenceFailed, MetricError: the original does not run here, or cannot be scored.
        LinkError, AgentError, DeviceGivenUp: the device is lost before every candidate was measured once.
    """
    model = read_model(plan.model, plan.options.shapes, plan.options.batch)
    runtime = plan.runtime or RUNTIME_OF[model.format]
    notes = list(model.inputs.assumptions)
    quantised = quantised_already(model)
    if quantised and plan.budget is not None:
        notes.append(f"it is quantised already ({quantised}): only lossless changes are tried")
    if device.board is not None:
        raise UsageError(
            f"{device.name} simulates a board, which computes no values and knows no kernels: nothing can be compared",
            "give a device, or leave -d out for this machine",
        )
    judged, calibration = _data(plan, model, lossy=plan.budget is not None and not quantised)
    if plan.data is None:
        notes.append(f"without --data candidates are compared on {len(judged)} seeded inputs, and none may be lossy")
    metric = metric_named(plan.metric, judged.labels is not None, plan.beside)
    gate = Gate(Inference(runtime), judged, metric, plan.budget or 0.0)
    with Bench(device, runtime, model.format, plan.options, judged.take([0]), plan.energy, keep, tell) as bench:
        own = bench.opened.any_agent().hello.machine.architecture == platform.machine()
        original = Candidate(name=ORIGINAL, kind=ORIGINAL, path=model.path, format=model.format)
        score = gate.prepare(original)
        with _work_folder(plan.folder) as work:
            workshop = Workshop(model, work, gate, calibration, own, plan.sensitivity_s, plan.only, tell)
            made = without_twins(list(workshop.candidates()))
            _require_known(plan.only, workshop.names)
            if plan.predictor is not None:
                made = without_hopeless(made, predicted(made, plan.predictor))
            for one in made:
                if one.candidate is not None and one.is_accepted:
                    on_accepted(one.name, one.candidate.path)
            tried, lost = raced(bench, original, made, plan.seed, plan.most_s, tell, now)
            if lost:
                notes.append(lost)
            front = front_of(tried)
            best = best_of(tried, front)
            profiles = _profiles(bench, tried, best, tell) if plan.explain and not lost else {}
            tried = _handed_over(tried, front, plan.folder)
    return Optimized(
        model=model,
        device=device.name,
        runtime=runtime,
        metric=metric.name,
        score=score,
        n_samples=len(judged),
        n_calibration=len(calibration) if calibration is not None else 0,
        budget=plan.budget,
        tried=tried,
        front=front,
        best=best,
        notes=tuple(notes),
        profiles=profiles,
        was_lost=bool(lost),
    )


def _require_known(only: Sequence[str], names: Sequence[str]) -> None:
    """Refuse beginnings that no candidate of this model has.

    Raises:
        UsageError: there are such.
    """
    unknown = [one for one in only if not any(name.startswith(one) for name in names)]
    if unknown:
        raise UsageError(
            f"no candidate of this model is called {' or '.join(unknown)}...", f"there are: {', '.join(names)}"
        )


@contextmanager
def _work_folder(folder: Path) -> Iterator[Path]:
    """Where files are made: inside the plan's folder, on its disk, and gone afterwards, whatever happens."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{WORK}*"):
        # Of a process that was killed; its number may be another's by now, whose folder is then left once more.
        if not Path("/proc", left.name.removeprefix(WORK).split("-")[0]).exists():
            shutil.rmtree(left, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=f"{WORK}{os.getpid()}-", dir=folder)).resolve()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        with suppress(OSError):
            folder.rmdir()  # if there is nothing in it


def _handed_over(tried: Sequence[Tried], front: Sequence[str], folder: Path) -> tuple[Tried, ...]:
    """The files of the front, moved into the plan's folder; the others have none any more."""
    found = []
    for one in tried:
        if one.candidate is not None and one.kind != ORIGINAL:
            path = folder / one.candidate.path.name
            if one.name in front:
                one.candidate.path.replace(path)
            one = replace(one, candidate=replace(one.candidate, path=path) if one.name in front else None)
        found.append(one)
    return tuple(found)


def _data(plan: Plan, model: ModelFile, lossy: bool) -> tuple[Samples, Samples | None]:
    """What to judge by, and what to calibrate with."""
    declared, shapes = model.graph.declared, model.inputs.shapes
    if plan.data is None:
        if plan.calibration is not None or plan.metric is not None:
            raise UsageError("there is no --data to judge by", "give it beside --calibration and --metric")
        if lossy:
            raise UsageError(
                "lossy changes are held against a budget, and there is no data to do that with",
                "give --data FILE with samples as the model sees them; or leave --max-accuracy-drop out",
            )
        return seeded(declared, shapes, plan.seed), None
    data = read_samples(plan.data, declared, shapes)
    if not lossy:
        require_enough(data, len(data), LEAST_EVALUATION, "to judge by")
        return data, None
    if plan.calibration is None:
        calibration, judged = split(data, plan.seed)
        return judged, calibration
    calibration = read_samples(plan.calibration, declared, shapes)
    require_enough(calibration, len(calibration), LEAST_CALIBRATION, "to calibrate with")
    require_enough(data, len(data), LEAST_EVALUATION, "to judge by")
    if plan.calibration.resolve() == plan.data.resolve():
        raise InputError(
            "the samples to calibrate with and those to judge by are the same",
            "leave --calibration out: a part of the data is then set aside for it",
        )
    return data, calibration


def _profiles(bench: Bench, tried: Sequence[Tried], best: str | None, tell: Tell) -> dict[str, Run]:
    """The operators of the original, of the best, and of what turned out slower, the slowest first."""
    alive = [one for one in tried if one.standing is not None and not one.reason]
    first = [one for one in alive if one.name in (ORIGINAL, best)]
    slower = [one for one in alive if one.standing is not None and one.standing.speedup.high < 1.0]
    slower.sort(key=lambda one: one.standing.speedup.value if one.standing else 0.0)
    found: dict[str, Run] = {}
    for one in (*first, *slower[:MOST_EXPLAINED]):
        if one.candidate is not None:
            tell(f"operators of {one.name}")
            run = bench.measure(one.candidate.path, operators=True)
            if isinstance(run, Run) and run.profile.operators is not None:
                found[one.name] = run
    return found
