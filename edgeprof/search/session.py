"""A search from its plan to a verified front: begin one, go on with one, help with one, end one."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from edgeprof import __version__
from edgeprof.carbon import Spread
from edgeprof.errors import SearchError
from edgeprof.own_cost import Joules, Recorder, recording
from edgeprof.search.assembling import Assembled, assemble, strategy_of
from edgeprof.search.clean_hours import CleanHours
from edgeprof.search.evaluation import Evaluation
from edgeprof.search.feasibility import require_feasible
from edgeprof.search.plan import Plan, parse_plan
from edgeprof.search.progress import Progress, progress_of
from edgeprof.search.proxies import Agreement, agreement
from edgeprof.search.running import Budget, Ended, Event, Worker
from edgeprof.search.spending import COST, costs_of, elapsed_s, grams_of, joules_of
from edgeprof.search.study import DONE, PLAN, Study
from edgeprof.search.verifying import Member, Regret, regret_of, stands, ties_of, verify

__all__ = ["Found", "Payback", "begin", "finish", "opened", "payback_of", "work"]

# So many architectures are looked at for one that keeps the limits.
LOOKED_AT = 200
PREPARING = "preparing"


def begin(plan: Plan, text: str, beside: Path, folder: Path, **changed: Any) -> None:
    """Make the folder of a search; nothing runs yet. `changed` are budgets in place of the plan's, for good.

    Raises:
        EdgeprofError: the plan names something that is not there, or the folder has a search.
    """
    with assemble(plan, beside, folder):
        pass
    budgets = {name: value for name, value in changed.items() if value is not None}
    facts = {"beside": str(beside.resolve()), "edgeprof_version": __version__, "budgets": budgets}
    Study.create(folder, text, facts)


def opened(folder: Path, tell: Callable[[str], None] = lambda text: None, **changed: Any) -> Assembled:
    """All parts of a search that is there; `changed` are budgets that replace those of its plan.

    Raises:
        EdgeprofError: there is none, or something that it names is gone.
    """
    facts = Study.facts(folder)
    try:
        text = (folder / PLAN).read_text()
    except OSError as error:
        raise SearchError(f"{folder} has lost its plan: {error.strerror or error}", "restore it from a copy") from error
    plan = parse_plan(text, f"{folder / PLAN}")
    given = {**facts.get("budgets", {}), **{name: value for name, value in changed.items() if value is not None}}
    return assemble(_with(plan, given), Path(facts["beside"]), folder, tell)


def _with(plan: Plan, changed: dict[str, Any]) -> Plan:
    return msgspec.structs.replace(plan, search=msgspec.structs.replace(plan.search, **changed)) if changed else plan


def work(
    search: Assembled,
    folder: Path,
    on_event: Callable[[Event], None] = lambda event: None,
) -> Ended:
    """Be one worker of a search until a budget is spent.

    Raises:
        SearchError: no candidate keeps the limits, or the folder is gone.
        EvaluationFailed: a supernet does not learn.
    """
    plan = search.plan

    with recording() as recorder, Study(folder, search.space, search.n_objectives) as study, _costing(study, recorder):

        def tell(text: str) -> None:
            on_event(Event("told", text=text))
            _save(study, recorder)  # a kill takes no more than what was since

        clean = CleanHours(plan.carbon, tell)
        if not study.trials():
            require_feasible(search.evaluator, LOOKED_AT, plan.search.seed)
        clean.wait()
        if search.judge is not None:
            with (folder / PREPARING).open("a") as file:  # one worker trains the supernet, the others wait for it
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    tell("waiting for the worker that trains the supernet")
                    fcntl.flock(file, fcntl.LOCK_EX)
                search.judge.prepare(tell)
        others = len(study.workers) - 1
        worker = Worker(
            study=study,
            strategy=strategy_of(plan, search.space, search.n_objectives, max(0, others)),
            evaluator=search.evaluator,
            budget=Budget(plan.search.evaluations, plan.search.time_s, plan.search.max_gco2e),
            recorder=recorder,
            grams=lambda costs: _grams(grams_of(costs, search.intensity)),
            until_clean=clean.wait,
            on_event=on_event,
        )
        return worker.run()


def _save(study: Study, recorder: Recorder) -> None:
    study.note(f"{COST} {study.worker}", asdict(recorder.cost()))


@contextmanager
def _costing(study: Study, recorder: Recorder) -> Iterator[None]:
    """However it ends, what it took until then is kept."""
    try:
        yield
    finally:
        with suppress(SearchError):  # the folder is gone: that was said already
            _save(study, recorder)


def _grams(found: Spread | None) -> float:
    return found.nominal if found is not None else 0.0


@dataclass(frozen=True)
class Payback:
    """After how many inferences of a member instead of the most accurate one the search is repaid; None for never.

    `low` and `high` follow from the ranges of the search's grams and of an inference's; `origin` is of the latter.
    """

    member: int
    target: str
    saved_g: float
    inferences: float | None
    low: float | None
    high: float | None
    origin: str


@dataclass(frozen=True)
class Found:
    """What a search has found. `on_front` and `ties` are by member, of what was verified."""

    progress: Progress
    members: tuple[Member, ...]
    on_front: tuple[bool, ...]
    ties: dict[int, list[int]]
    regrets: tuple[Regret, ...]
    agreement: Agreement | None
    elapsed_s: float
    joules: Joules | None
    grams: Spread | None
    paybacks: tuple[Payback, ...]


def finish(search: Assembled, folder: Path, tell: Callable[[str], None] = lambda text: None) -> Found:
    """Verify the front, and add up what it all took.

    Raises:
        LinkError, AgentError: a device is lost; what was verified is kept.
        SearchError: nothing was found that could be verified, or the folder is gone.
    """
    with recording() as recorder, Study(folder, search.space, search.n_objectives) as study, _costing(study, recorder):

        def say(text: str) -> None:
            tell(text)
            _save(study, recorder)

        progress = progress_of(study.trials(), search.goals)
        if not progress.front:
            raise SearchError(
                _why_nothing(study),
                "resume with more --evaluations, or change the limits in STUDY/plan.toml and resume",
            )
        if search.judge is not None:
            search.judge.prepare(say)
        members = verify(search, _spread(progress.front, search.plan.search.most_verified, say), folder, say)
        _save(study, recorder)
        results = [one.result for one in study.trials() if one.state == DONE and one.result is not None]
        costs = costs_of(study.notes())
    grams = grams_of(costs, search.intensity)
    name = search.evaluator.proxy.name if search.evaluator.proxy is not None else None
    on_front = stands(members, search.goals)
    return Found(
        progress=progress,
        members=tuple(members),
        on_front=tuple(on_front),
        ties=ties_of(members, search.goals),
        regrets=tuple(regret_of(members, search)),
        agreement=agreement(name, results) if name is not None else None,
        elapsed_s=elapsed_s(costs),
        joules=joules_of(costs),
        grams=grams,
        paybacks=tuple(payback_of(members, on_front, grams)),
    )


def _spread(front: Sequence[Evaluation], most: int, tell: Callable[[str], None]) -> list[Evaluation]:
    """So many of the front, both ends and what lies evenly between them."""
    if len(front) <= most:
        return list(front)
    tell(f"{most} of the {len(front)} on the front are verified (search.most_verified)")
    places = sorted({round(k * (len(front) - 1) / max(1, most - 1)) for k in range(most)})
    return [front[place] for place in places]


def _why_nothing(study: Study) -> str:
    failures = [one.result.failure for one in study.trials() if one.result is not None and one.result.failure]
    last = f"; the last failure: {failures[-1]}" if failures else ""
    return f"nothing that was evaluated keeps the limits{last}"


def payback_of(members: Sequence[Member], on_front: Sequence[bool], grams: Spread | None) -> list[Payback]:
    """Of each member against the most accurate one, on each target whose grams are known."""
    alive = [one for one, stays in zip(members, on_front, strict=True) if stays and one.accuracy is not None]
    if grams is None or len(alive) < 2:
        return []
    best = max(alive, key=lambda one: one.accuracy or 0.0)
    found = []
    for one in alive:
        for target, value in one.grams.items():
            if one is best or target not in best.grams:
                continue
            most = best.grams[target]
            saved = most.value - value.value
            if saved <= 0:
                found.append(Payback(one.number, target, saved, None, None, None, value.origin))
                continue
            # What is not known of one (power, the grid) is not known of the other in the same way.
            least, largest = saved * most.low / most.value, saved * most.high / most.value
            low, high = grams.low / largest, grams.high / least if least > 0 else None
            found.append(Payback(one.number, target, saved, grams.nominal / saved, low, high, value.origin))
    return found
