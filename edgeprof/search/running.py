"""The work of one worker of a study: ask, evaluate, tell, until a budget is spent; go on where others were killed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace

from edgeprof.errors import AgentError, DeviceGivenUp, LinkError
from edgeprof.own_cost import OwnCost, Recorder
from edgeprof.search.evaluating import Evaluator
from edgeprof.search.evaluation import Evaluation
from edgeprof.search.progress import Progress, progress_of
from edgeprof.search.spending import COST, costs_of, elapsed_s
from edgeprof.search.strategies.base import Strategy
from edgeprof.search.study import ABANDONED, DONE, RUNNING, Study, Trial

__all__ = ["Budget", "Ended", "Event", "Worker"]

# So many candidates in a row that limits rule out: the strategy will not find others.
MOST_RULED_OUT = 2000
# So often a candidate is begun anew whose process died; whoever kills them by hand has this often as well.
MOST_DEATHS = 3
# So many that fail alike, and none that does not, are no longer about single candidates.
MOST_ALIKE = 5


@dataclass(frozen=True)
class Budget:
    """What may be spent: evaluations, seconds over all sittings of one worker, grams of the search itself."""

    evaluations: int
    time_s: float | None = None
    grams: float | None = None


@dataclass(frozen=True)
class Event:
    """Something happened: `what` is "evaluated", "ruled out", "taken over" or "told".

    After an evaluation `progress` has what all workers found so far, and `grams` what it all took.
    """

    what: str
    n_done: int = 0
    result: Evaluation | None = None
    text: str = ""
    progress: Progress | None = None
    grams: float = 0.0


@dataclass(frozen=True)
class Ended:
    """Why a worker ended: "evaluations", "time", "grams", "space" (nothing is left), "failing" or "lost"."""

    by: str
    text: str = ""


@dataclass
class Worker:
    """One process of a search. `grams` says how many grams stand for what was recorded; `until_clean` waits."""

    study: Study
    strategy: Strategy
    evaluator: Evaluator
    budget: Budget
    recorder: Recorder
    grams: Callable[[Sequence[OwnCost]], float]
    until_clean: Callable[[], None] = lambda: None
    on_event: Callable[[Event], None] = lambda event: None
    clock: Callable[[], float] = time.monotonic
    _began_s: float = 0.0
    _known: set[int] = field(default_factory=set)
    _n_ruled_out: int = 0

    def run(self) -> Ended:
        """Work until a budget is spent.

        Raises:
            SearchError: the study's folder is gone, or nothing can be predicted.
        """
        self._began_s = self.clock()
        self._replay()
        while True:
            spent = self._spent()
            if spent is not None:
                return spent
            self.until_clean()
            chosen = self._choose()
            if isinstance(chosen, Ended):
                return chosen
            number, foreseen = chosen
            try:
                result = self.evaluator.evaluate(foreseen, self._results())
            except (LinkError, AgentError, DeviceGivenUp) as error:
                self._save_cost()
                return Ended("lost", f"{error}; what to do: {error.advice or 'look at the device, then resume'}")
            self._end(number, result)
            if (reason := self._fails_alike()) is not None:
                return Ended("failing", reason)

    # --- choosing ---

    def _replay(self) -> None:
        """What was found in earlier sittings, in the order in which it was asked for."""
        with self.study.alone():
            ended = [one for one in self.study.trials() if one.result is not None and one.state != RUNNING]
        goals = self.evaluator.goals
        self.strategy.replay([(one.n_asked, one.result.told(goals)) for one in ended if one.result is not None])
        self._known = {one.number for one in ended}

    def _choose(self) -> tuple[int, Evaluation] | Ended:
        """The next candidate worth an evaluation, which is noted as begun."""
        while True:
            with self.study.alone():
                trials = self._synchronised()
                n_counted = sum(one.state in (DONE, RUNNING) for one in trials)
                orphan = self._taken_over(trials)
                architecture = orphan.architecture if orphan is not None else None
                if orphan is not None and self._killed(orphan, trials):
                    continue
                if architecture is None:
                    if n_counted >= self.budget.evaluations:
                        return Ended("evaluations")
                    architecture = self.strategy.ask()
                    if architecture in {one.architecture for one in trials if one.state != ABANDONED}:
                        self._n_ruled_out += 1
                        if self._n_ruled_out > MOST_RULED_OUT:
                            return Ended("space", "every architecture that the strategy asks for was evaluated")
                        continue
                foreseen = self.evaluator.foreseen(architecture)
                reason = self.evaluator.rules_out(foreseen)
                number = self.study.begin(architecture, orphan.n_asked if orphan is not None else self.strategy.n_asked)
                if reason is None:
                    self._n_ruled_out = 0
                    return number, foreseen
                self._rule_out(number, replace(foreseen, failure=reason))
            self._n_ruled_out += 1
            if self._n_ruled_out > MOST_RULED_OUT:
                return Ended("space", f"{MOST_RULED_OUT} candidates in a row were ruled out; the last: {reason}")
            ended = self._spent()
            if ended is not None:
                return ended

    def _synchronised(self) -> list[Trial]:
        """All trials; the strategy is told what others found meanwhile."""
        trials = self.study.trials()
        for one in trials:
            if one.number not in self._known and one.result is not None and one.state != RUNNING:
                self.strategy.tell(one.result.told(self.evaluator.goals))
                self._known.add(one.number)
            elif one.state == RUNNING:
                self.strategy.asked.add(one.architecture)
        return trials

    def _taken_over(self, trials: Sequence[Trial]) -> Trial | None:
        """What a worker that is gone was at; where it was done but for a word, that word is said."""
        for orphan in self.study.orphans():
            if orphan.result is not None:
                self.study.end(orphan.number, orphan.result, self._values(orphan.result))
                continue
            self.study.give_up(orphan.number)
            self.on_event(Event("taken over", text=f"trial {orphan.number} of {orphan.worker or 'a worker'}"))
            self.strategy.catch_up(orphan.n_asked, orphan.architecture)
            return orphan
        return None

    def _killed(self, orphan: Trial, trials: Sequence[Trial]) -> bool:
        """Whether a candidate took too many processes with it: it failed then, and nobody tries again."""
        n_before = sum(one.state == ABANDONED and one.architecture == orphan.architecture for one in trials)
        if n_before + 1 < MOST_DEATHS:
            return False
        reason = f"{n_before + 1} processes that evaluated it were killed, or died"
        number = self.study.begin(orphan.architecture, orphan.n_asked)
        self.study.end(number, Evaluation(orphan.architecture, failure=reason), None)
        self.on_event(Event("evaluated", result=Evaluation(orphan.architecture, failure=reason)))
        return True

    def _rule_out(self, number: int, result: Evaluation) -> None:
        self.study.end(number, result, None, ruled_out=True)
        self.strategy.tell(result.told(self.evaluator.goals))
        self._known.add(number)
        self.on_event(Event("ruled out", result=result))

    # --- ending ---

    def _end(self, number: int, result: Evaluation) -> None:
        with self.study.alone():
            self.study.end(number, result, self._values(result))
            self._save_cost()
            progress = progress_of(self.study.trials(), self.evaluator.goals)
            grams = self.grams(costs_of(self.study.notes()))
        self.on_event(Event("evaluated", progress.n_done, result, progress=progress, grams=grams))

    def _fails_alike(self) -> str | None:
        """Why the first ones failed, if all did for the same reason."""
        results = self._results()
        reasons = {one.failure for one in results}
        return results[-1].failure if len(results) == MOST_ALIKE and len(reasons) == 1 else None

    def _values(self, result: Evaluation) -> tuple[float, ...] | None:
        return result.told(self.evaluator.goals).values

    def _results(self) -> list[Evaluation]:
        return [one.result for one in self.study.trials() if one.state == DONE and one.result is not None]

    def _save_cost(self) -> None:
        self.study.note(f"{COST} {self.study.worker}", asdict(self.recorder.cost()))

    def _spent(self) -> Ended | None:
        costs = costs_of(self.study.notes(), but=self.study.worker)
        spent_s = elapsed_s(costs) + self.clock() - self._began_s
        if self.budget.time_s is not None and spent_s >= self.budget.time_s:
            return Ended("time")
        if self.budget.grams is not None and self.grams([*costs, self.recorder.cost()]) >= self.budget.grams:
            return Ended("grams")
        return None
