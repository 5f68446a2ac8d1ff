"""What is done with one candidate: its costs, whether limits rule it out, how good it is, what the device says."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from edgeprof.errors import EvaluationFailed
from edgeprof.search.costs import Costs, across
from edgeprof.search.evaluation import Evaluation, Goal
from edgeprof.search.judging import GoesOn, Judge, error_of
from edgeprof.search.space import Architecture
from edgeprof.values import Value
from latency_models.building import BuildError

__all__ = ["Evaluator", "Measure", "Proxy"]

# A training is looked at after these shares of its epochs.
RUNGS = (1 / 3, 2 / 3)
# So many others must have been there before one is ended for being worse than most.
FEWEST_PEERS = 6
# Candidates are drawn to know what a proxy usually says; one is ruled out that so large a share of them beat.
REFERENCES, MOST_BETTER = 40, 0.25


class Measure(Protocol):
    """A device in the loop."""

    def measure(self, architecture: Architecture) -> dict[str, Value]:
        """What it measures of an architecture: latency, and energy where it has a meter.

        Raises:
            EvaluationFailed: the net does not run there.
        """


class Proxy(Protocol):
    """Says without training how good a net may be; more is better."""

    @property
    def name(self) -> str:
        """What it is called."""

    def score(self, architecture: Architecture) -> float:
        """Of one.

        Raises:
            EvaluationFailed: nothing can be said.
        """


@dataclass
class Evaluator:
    """Evaluates candidates for `goals`; `devices` and `when` ("always", "when-it-matters") are by target.

    `epochs` is how long a training is, `halving` how hard it is to go on (see `Accuracy` in plan.py).
    """

    goals: tuple[Goal, ...]
    costs: Costs
    judge: Judge | None
    across: str = "worst"
    devices: Mapping[str, Measure] = field(default_factory=dict)
    when: Mapping[str, str] = field(default_factory=dict)
    proxy: Proxy | None = None
    epochs: int = 1
    halving: float = 1.0
    seed: int = 0
    clock: Callable[[], float] = time.monotonic
    _references: list[tuple[float, ...]] = field(default_factory=list)

    def foreseen(self, architecture: Architecture) -> Evaluation:
        """What is known before anything dear is done: predicted costs, and what a proxy says.

        Raises:
            SearchError: nothing can be predicted of the nets of this space.
        """
        try:
            size, found, notes = self.costs.of(architecture)
        except BuildError as error:
            return Evaluation(architecture, failure=str(error))
        values = across(found, self.costs.targets, self.across, size)
        scores = {}
        if self.proxy is not None:
            try:
                scores[self.proxy.name] = self.proxy.score(architecture)
            except EvaluationFailed as error:
                return Evaluation(architecture, values, failure=str(error), notes=notes)
        return Evaluation(architecture, values, scores=scores, notes=notes)

    def rules_out(self, one: Evaluation) -> str | None:
        """Why a candidate is not worth an evaluation, or None."""
        if one.failure is not None:
            return one.failure
        for goal in self.goals:
            value = one.values.get(goal.name)
            # What the device may yet correct is not ruled out by a value alone.
            if goal.limit is not None and value is not None:
                least = value.low if self.devices else value.value
                if least > goal.limit:
                    return f"{goal.name} is {value.value:.3g} {goal.unit}, and {goal.limit:.3g} {goal.unit} is the most"
        if self.proxy is not None and self.proxy.name in one.scores:
            return self._beaten(one)
        return None

    def _beaten(self, one: Evaluation) -> str | None:
        """Whether many candidates seem better and are cheaper in everything."""
        assert self.proxy is not None  # noqa: S101, asked by the only caller
        names = [goal.name for goal in self.goals if goal.name in one.values]
        if not self._references:
            rng = np.random.default_rng([self.seed, REFERENCES])
            drawn = [self.foreseen(self.costs.space.sample(rng)) for _ in range(REFERENCES)]
            self._references = [
                (-other.scores[self.proxy.name], *(other.values[name].value for name in names))
                for other in drawn
                if other.failure is None and other.scores
            ]
        mine = (-one.scores[self.proxy.name], *(one.values[name].value for name in names))
        better = sum(all(a < b for a, b in zip(other, mine, strict=True)) for other in self._references)
        share = better / max(1, len(self._references))
        if share > MOST_BETTER:
            return f"{self.proxy.name}: {share:.0%} of the space seems better and costs less"
        return None

    def evaluate(self, foreseen: Evaluation, others: Sequence[Evaluation]) -> Evaluation:
        """Find out the rest. `others` are those that were evaluated before.

        Raises:
            LinkError, AgentError: a device is lost.
        """
        began_s, architecture = self.clock(), foreseen.architecture
        values, notes = dict(foreseen.values), list(foreseen.notes)
        curve: tuple[float, ...] = ()
        try:
            always = [name for name, when in self.when.items() if when == "always"]
            values = self._measured(architecture, values, always, notes)
            if self.judge is not None:
                judgement = self.judge.judge(architecture, self._goes_on(values, others))
                values["error"], curve = error_of(judgement), judgement.curve
            known = replace(foreseen, values=values)
            matters = [name for name, when in self.when.items() if when == "when-it-matters"]
            if matters and could_matter(known, others, self.goals):
                values = self._measured(architecture, values, matters, notes)
        except EvaluationFailed as error:
            return replace(
                foreseen, values=values, failure=str(error), curve=curve, notes=tuple(notes),
                took_s=self.clock() - began_s,
            )  # fmt: skip
        return replace(foreseen, values=values, curve=curve, notes=tuple(notes), took_s=self.clock() - began_s)

    def _measured(
        self, architecture: Architecture, values: dict[str, Value], names: Sequence[str], notes: list[str]
    ) -> dict[str, Value]:
        """With what the devices of these targets say, in place of what was predicted."""
        if not names:
            return values
        size, found, _ = self.costs.of(architecture)
        for name in names:
            measured = self.devices[name].measure(architecture)
            before = found[name].get("latency")
            found[name] = {**found[name], **measured}
            if before is not None and "latency" in measured:
                off = before.value / measured["latency"].value - 1.0
                notes.append(f"{name}: measured, the prediction was {off:+.0%} off")
        return {**values, **across(found, self.costs.targets, self.across, size)}

    def _goes_on(self, values: Mapping[str, Value], others: Sequence[Evaluation]) -> GoesOn | None:
        """Successive halving over fronts: a training goes on that few others beat in accuracy and costs at this point.

        Li et al., A system for massively parallel hyperparameter tuning, 2020, with ranks of domination.
        """
        if self.halving <= 1.0:
            return None
        names = [goal.name for goal in self.goals if goal.is_objective and goal.name in values]
        rungs = {math.ceil(share * self.epochs) for share in RUNGS}

        def point(accuracy: float, known: Mapping[str, Value]) -> tuple[float, ...]:
            return (1.0 - accuracy, *(known[name].value for name in names if name != "error"))

        def goes_on(epoch: int, accuracy: float) -> bool:
            if epoch not in rungs:
                return True
            peers = [point(one.curve[epoch - 1], one.values) for one in others if len(one.curve) >= epoch]
            if len(peers) < FEWEST_PEERS:
                return True
            everybody = np.array([*peers, point(accuracy, values)])
            beaten_by = [
                int(((everybody <= one).all(axis=1) & (everybody < one).any(axis=1)).sum()) for one in everybody
            ]
            better = sum(other < beaten_by[-1] for other in beaten_by[:-1])
            return better < len(everybody) / self.halving

        return goes_on


def could_matter(one: Evaluation, others: Sequence[Evaluation], goals: Sequence[Goal]) -> bool:
    """Whether where the truth lies in its interval decides if a candidate is on the front or within limits."""
    objectives = [goal.name for goal in goals if goal.is_objective]
    if any(name not in one.values for name in objectives):
        return False
    at_best = [one.values[name].low for name in objectives]
    for goal in goals:
        value = one.values.get(goal.name)
        if goal.limit is not None and value is not None and value.low > goal.limit:
            return False
    rivals = [
        [other.values[name].value for name in objectives]
        for other in others
        if other.failure is None and other.keeps(goals) and all(name in other.values for name in objectives)
    ]
    return not any(all(a <= b for a, b in zip(rival, at_best, strict=True)) for rival in rivals)
