"""Limits that contradict each other are found before anything dear is done."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict

import numpy as np

from edgeprof.errors import SearchError
from edgeprof.search.evaluating import Evaluator
from edgeprof.search.evaluation import Evaluation
from latency_models.building import BuildError

__all__ = ["require_feasible"]

# Where more of a net's time than this stands on bounds alone, nothing is predicted.
MOST_UNKNOWN = 0.5
LOOKED_AT = 9


def require_feasible(evaluator: Evaluator, n: int, seed: int) -> None:
    """Look for a candidate that keeps all limits that can be foreseen, before anything dear is done.

    Draws `n`, then changes the best ones step by step in the direction of less.

    Raises:
        SearchError: there seems to be none, with the least that was found of each; or too little is known of the space.
    """
    space = evaluator.costs.space
    rng = np.random.default_rng([seed, n])
    _require_known(evaluator, rng)
    limited = [goal for goal in evaluator.goals if goal.limit is not None]
    least: dict[str, float] = {}
    best: tuple[float, Evaluation] | None = None
    failures = Counter[str]()
    for number in range(n):
        start = space.sample(rng) if number < n // 2 or best is None else best[1].architecture
        one = evaluator.foreseen(start if number < n // 2 or best is None else space.mutate(start, rng, 2))
        if one.failure is not None:
            failures[one.failure] += 1
            continue
        for goal in limited:
            if goal.name in one.values:
                least[goal.name] = min(least.get(goal.name, float("inf")), one.values[goal.name].value)
        excess = sum(max(0.0, over) for over in one.over(evaluator.goals))
        if best is None or excess < best[0]:
            best = (excess, one)
        if evaluator.rules_out(one) is None:
            return
    if best is None:
        words = failures.most_common(1)[0][0] if failures else "nothing was drawn"
        raise SearchError(f"no architecture of {space.name} can be built: {words}", "mend the space")
    found = ", ".join(
        f"{goal.name} of {goal.limit:.3g} {goal.unit} (the least found: {least[goal.name]:.3g} {goal.unit})"
        for goal in limited
        if goal.name in least and goal.limit is not None
    )
    n_there = min(n, space.n_architectures)
    raise SearchError(
        f"none of {n_there} architectures keeps the limits together: {found or evaluator.rules_out(best[1])}",
        "raise the limits, or give the space smaller choices",
    )


def _require_known(evaluator: Evaluator, rng: np.random.Generator) -> None:
    """Refuse a space that a predictor was not trained for.

    Raises:
        SearchError: most of the time of its nets stands on bounds alone; the operators are named.
    """
    found: dict[str, list[tuple[float, tuple[str, ...]]]] = defaultdict(list)
    for _ in range(LOOKED_AT):
        with contextlib.suppress(BuildError):
            for target, unknown in evaluator.costs.unknown(evaluator.costs.space.sample(rng)).items():
                found[target].append(unknown)
    for target, shares in found.items():
        middle = float(np.median([share for share, _ in shares]))
        if middle > MOST_UNKNOWN:
            kinds = sorted({kind for _, of_one in shares for kind in of_one})
            raise SearchError(
                f"{target} knows too little of nets of {evaluator.costs.space.name}: {middle:.0%} of their time stands "
                f"on bounds, of {', '.join(kinds)}",
                "train its predictor for longer, or with --for a model of this space",
            )
