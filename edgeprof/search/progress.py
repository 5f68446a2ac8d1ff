"""What the trials so far have found: the front, how much it rules, the best of each objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeprof.search.evaluation import Evaluation, Goal
from edgeprof.search.front import hypervolume, is_on_front
from edgeprof.search.study import DONE, RULED_OUT, Trial
from edgeprof.values import Value

__all__ = ["Progress", "front_of", "progress_of"]

# The reference of the hypervolume is so far beyond the worst of the first evaluations that keep the limits.
FIRST, BEYOND = 8, 1.1


def front_of(results: Sequence[Evaluation], goals: Sequence[Goal]) -> list[Evaluation]:
    """Those that keep all limits and that nothing else is better than, the first objective first."""
    names = [goal.name for goal in goals if goal.is_objective]
    kept = [
        one for one in results if one.failure is None and one.keeps(goals) and all(name in one.values for name in names)
    ]
    values = np.array([[one.values[name].value for name in names] for one in kept], dtype=np.float64)
    front = [
        one for one, is_best in zip(kept, is_on_front(values.reshape(len(kept), len(names))), strict=True) if is_best
    ]
    return sorted(front, key=lambda one: tuple(one.values[name].value for name in names))


@dataclass(frozen=True)
class Progress:
    """How far a search is. `hypervolume` is the share of the box from 0 to the reference that the front rules."""

    n_done: int
    n_failed: int
    n_ruled_out: int
    front: tuple[Evaluation, ...]
    best: dict[str, Value]
    hypervolume: float | None


def progress_of(trials: Sequence[Trial], goals: Sequence[Goal]) -> Progress:
    """What the trials so far have found."""
    results = [one.result for one in trials if one.state == DONE and one.result is not None]
    alive = [one for one in results if one.failure is None]
    front = front_of(alive, goals)
    names = [goal.name for goal in goals if goal.is_objective]
    kept = [one for one in alive if one.keeps(goals)]
    volume = None
    if len(kept) >= FIRST:
        reference = np.array([BEYOND * max(one.values[name].value for one in kept[:FIRST]) for name in names])
        found = np.array([[one.values[name].value for name in names] for one in front])
        volume = hypervolume(found / reference, np.ones(len(names))) if (reference > 0).all() else None
    best = (
        {name: min((one.values[name] for one in front), key=lambda one: one.value) for name in names} if front else {}
    )
    n_ruled_out = sum(one.state == RULED_OUT for one in trials)
    return Progress(len(results), len(results) - len(alive), n_ruled_out, tuple(front), best, volume)
