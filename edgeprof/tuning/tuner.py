"""Find the best configuration by measuring few of them: a spread-out start, then where most is expected, then a race.

It sees what is measured and what the device tells of its CPUs, and nothing else. The same seed and the same
measurements give the same tuning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprof.errors import TuningError
from edgeprof.tuning.configuration import Configuration
from edgeprof.tuning.exactness import Exactness, Seen
from edgeprof.tuning.objective import Measured, Objective
from edgeprof.tuning.proposing import Process, expected_gain, probability_below, spread_out
from edgeprof.tuning.racing import Combined, combined, contenders, log_error
from edgeprof.values import Value
from latency_models.one_thread import one_thread

__all__ = ["Measure", "Measured", "Measurement", "Objective", "Progress", "Tuned", "tune"]

Array = NDArray[np.float64]
# Measures a configuration; the number says how thoroughly: 1 while looking around, more for finalists.
Measure = Callable[[Configuration, int], Measured]
# The phases, in their order.
DEFAULT, START, SEARCH, RACE = "default", "start", "search", "race"
# Of the budget so much is for the start and so much is kept for the race, which has no more than so many.
SHARE_OF_START, FEWEST_IN_START = 0.25, 6
SHARE_OF_RACE, MOST_IN_RACE = 0.2, 16
# When no more than so much, as a share, is expected of any candidate, what is expected is put to the test where nothing
# was measured yet; the search ends when so many tests in a row, or such a share of the budget, brought nothing better.
WORTH, FEWEST_TESTS, SHARE_OF_TESTS = 1e-3, 12, 0.15
# Lengths and amplitudes are fitted anew when there are so many times as many measurements as the last time.
REFIT_AT = 1.15
MOST_THOROUGH, FINALISTS = 3, 6
# A finalist is measured so many times at most, and not for a difference below so much, as a share.
MOST_TIMES, TELLING = 10, 0.005
# No chance is taken to be less, and a failure may be one of chance: its variance.
LEAST_CHANCE, DOUBT_OF_FAILURES = 1e-3, 0.01


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One configuration, measured: its place among all, how thoroughly, in which phase, and what was seen."""

    place: int
    configuration: Configuration
    level: int
    phase: str
    measured: Measured


@dataclass(frozen=True, kw_only=True)
class Progress:
    """After each measurement: how many of the budget are spent, and the best so far (None before there is one)."""

    n_measured: int
    budget: int
    last: Measurement
    best: Value | None


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """How a tuning ended. `measurements` are all there were, in their order.

    `value` and `latency` are those of the best configuration from all its measurements (exactness.py). `ties` cannot be
    told from it. `keeps_budget` is whether its whole interval does. `default` is the objective's value of the
    configuration that came first, None where it could not be measured.
    """

    objective: Objective
    n_configurations: int
    budget: int
    seed: int
    measurements: tuple[Measurement, ...]
    best: Configuration
    value: Value
    latency: Value | None
    keeps_budget: bool
    ties: tuple[Configuration, ...]
    default: Value | None
    why_stopped: str


def tune(
    configurations: Sequence[Configuration],
    features: Array,
    measure: Measure,
    objective: Objective,
    *,
    budget: int,
    seed: int,
    on_progress: Callable[[Progress], None] | None = None,
) -> Tuned:
    """Measure at most `budget` times, the first configuration first, and say which is the best.

    Args:
        configurations: what may be measured; the first is what all are compared with.
        features: a row for each (features.py).
        measure: called with a configuration and how thoroughly; a failure is an answer, an exception ends the tuning.
        objective: what shall be small, and the latency budget.
        budget: measurements in all, those of the race too.
        seed: decides ties and the start.
        on_progress: told after every measurement.

    Raises:
        TuningError: nothing to choose from, or not one configuration could be measured.
    """
    if not configurations or len(features) != len(configurations):
        raise TuningError(
            f"there are {len(configurations)} configurations with {len(features)} rows of features",
            "make both by edgeprof.tuning.space and features",
        )
    if budget < 1:
        raise TuningError(f"nothing can be chosen with {budget} measurements", "allow at least one")
    tuning = _Tuning(configurations, features, measure, objective, budget, on_progress)
    with one_thread():
        return tuning.run(seed)


class _Tuning:
    """One tuning as it goes on."""

    def __init__(
        self,
        configurations: Sequence[Configuration],
        features: Array,
        measure: Measure,
        objective: Objective,
        budget: int,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._configurations = configurations
        self._where = [one.where for one in configurations]
        self._features = features
        self._z = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-9)
        self._looks = [row.tobytes() for row in np.ascontiguousarray(features)]
        self._measure = measure
        self._objective = objective
        self._budget = budget
        self._on_progress = on_progress
        self._done: list[Measurement] = []
        self._by_place: dict[int, list[Seen]] = {}
        self._exactness = Exactness({})
        self._known: dict[int, Combined] = {}
        self._values, self._latencies = Process(features), Process(features)
        self._failures = Process(features)
        self._fitted_at = self._judged = 0

    def run(self, seed: int) -> Tuned:
        n, random = len(self._configurations), np.random.default_rng(seed)
        for_race = min(round(SHARE_OF_RACE * self._budget), MOST_IN_RACE)
        self._look_at(0, 1, DEFAULT)
        n_start = max(round(SHARE_OF_START * self._budget), FEWEST_IN_START)
        for place in spread_out(self._features, [0], n_start - 1, random):
            if len(self._done) < self._budget:
                self._look_at(place, 1, START)
        why = self._search(min(self._budget - for_race, n), random)
        why = self._race() or why
        return self._tuned(seed, why)

    # --- measuring -------------------------------------------------------------------------------------------------

    def _look_at(self, place: int, level: int, phase: str) -> None:
        configuration = self._configurations[place]
        measured = self._measure(configuration, level)
        done = Measurement(place=place, configuration=configuration, level=level, phase=phase, measured=measured)
        self._done.append(done)
        self._by_place.setdefault(place, []).append((level, measured))
        self._judge(place)
        if phase == RACE:
            self._judge_all()
        if self._on_progress is not None:
            best = contenders(list(self._known.values()))
            value = best[0].value if best else None
            self._on_progress(Progress(n_measured=len(self._done), budget=self._budget, last=done, best=value))

    def _judge(self, place: int) -> None:
        found = combined(place, [self._exactness.steady(seen) for seen in self._by_place[place]], self._objective)
        if found is not None:
            self._known[place] = found
        else:
            self._known.pop(place, None)

    def _judge_all(self) -> None:
        """With what all measurements so far say of how exact they are."""
        self._exactness = Exactness(self._by_place)
        for place in self._by_place:
            self._judge(place)

    # --- looking for the best ----------------------------------------------------------------------------------------

    def _search(self, most: int, random: np.random.Generator) -> str:
        """Measure where most is expected, until so many were measured in all; says why it ended."""
        tests, wanted = 0, max(FEWEST_TESTS, round(SHARE_OF_TESTS * self._budget))
        while len(self._done) < most:
            open_places = [k for k in range(len(self._configurations)) if k not in self._by_place]
            if not open_places:
                return "every configuration was measured"
            if len(self._known) < 2:
                self._look_at(spread_out(self._features, list(self._by_place), 1, random)[0], 1, SEARCH)
                continue
            worth = self._worth()[open_places]
            place = open_places[int(np.argmax(worth))]
            if worth.max() < WORTH:
                if tests == wanted:
                    return f"none of the others is expected to be better by {WORTH:.1%}, and tests agreed"
                tests, place = tests + 1, self._test(open_places, tests)
            before = self._best_value()
            self._look_at(place, 1, SEARCH)
            self._learn(place)
            if (after := self._best_value()) is not None and (before is None or after < before * (1 - WORTH)):
                tests = 0
        return "the share of searching is spent, and the rest was not needed to tell the best apart"

    def _test(self, open_places: list[int], turn: int) -> int:
        """In turns: the nearest to the best, the best by what is expected, the same where threads were not yet placed.

        What looks just as something that was measured is left for the end.
        """
        seen = {self._looks[place] for place in self._by_place}
        fresh = [place for place in open_places if self._looks[place] not in seen] or open_places
        best = contenders(list(self._known.values()))
        if turn % 3 == 0 and best:
            away = ((self._z - self._z[best[0].place]) ** 2).sum(axis=1)
            return min(fresh, key=lambda place: float(away[place]))
        placed = {self._where[place] for place in self._by_place}
        new = [place for place in fresh if self._where[place] not in placed]
        chance = self._chance_to_run() * np.maximum(self._chance_in_time(), LEAST_CHANCE)
        expected = self._values.mean - np.log(chance)
        return min(new if turn % 3 == 1 and new else fresh, key=lambda place: float(expected[place]))

    def _best_value(self) -> float | None:
        kept = [one.value.value for one in self._known.values() if one.keeps_budget]
        return min(kept, default=None)

    def _worth(self) -> Array:
        """Of each configuration, the share by which it is expected to beat the best, where it may be chosen."""
        chance = self._chance_to_run()
        if self._fitted_at == 0 or len(self._known) >= REFIT_AT * self._fitted_at:
            self._fit()
        if self._objective.latency_budget_s is None:
            best = min(self._values.mean[place] for place in self._known)
            return chance * expected_gain(self._values.mean, self._values.sd, best)
        in_time = self._chance_in_time()
        kept = [self._values.mean[place] for place, one in self._known.items() if one.keeps_budget]
        if not kept:  # first something that may be chosen at all
            return chance * in_time
        return chance * in_time * expected_gain(self._values.mean, self._values.sd, min(kept))

    def _chance_in_time(self) -> Array:
        limit_s = self._objective.latency_budget_s
        if limit_s is None:
            return np.ones(len(self._configurations))
        return probability_below(self._latencies.mean, self._latencies.sd, math.log(limit_s))

    def _fit(self) -> None:
        self._judge_all()
        known = list(self._known.values())
        places = [one.place for one in known]
        self._fitted_at = len(known)
        self._values.fit(places, *_logs([one.value for one in known]))
        timed = [one for one in known if one.latency is not None]
        if self._objective.latency_budget_s is not None and timed:
            self._latencies.fit([one.place for one in timed], *_logs([one.latency for one in timed if one.latency]))

    def _learn(self, place: int) -> None:
        found = self._known.get(place)
        if found is None or self._fitted_at == 0:
            return
        self._values.add(place, math.log(found.value.value), log_error(found.value) ** 2)
        if self._objective.latency_budget_s is not None and found.latency is not None:
            self._latencies.add(place, math.log(found.latency.value), log_error(found.latency) ** 2)

    def _chance_to_run(self) -> Array:
        """What failed makes its like doubtful: a process over failures, which are 1 or 0."""
        places = list(self._by_place)
        failed = np.array([place not in self._known for place in places], dtype=np.float64)
        if not failed.any() or failed.all():
            return np.ones(len(self._configurations))
        if self._judged != len(places):
            self._failures.fit(places, failed, np.full(len(places), DOUBT_OF_FAILURES))
            self._judged = len(places)
        return np.clip(1.0 - self._failures.mean, LEAST_CHANCE, 1.0)

    def _race(self) -> str | None:
        """Measure those that may be the best again, and more thoroughly; says why it ended, None for the budget."""
        while len(self._done) < self._budget:
            rivals = contenders(list(self._known.values()))[:FINALISTS]
            if not rivals:
                return None
            best = rivals[0]
            if self._times(best) == 1:  # what is best of many is so by luck as well
                self._look_at(best.place, 2, RACE)
                continue
            unclear = [one for one in rivals if self._is_unclear(one, best)]
            if len(unclear) < 2 and best.keeps_budget:
                return None
            unclear = [one for one in unclear if self._times(one) < MOST_TIMES]
            if not unclear:
                return "the finalists cannot be told apart by measuring more"
            fewest = min(unclear, key=lambda one: (self._times(one), one.value.value))
            self._look_at(fewest.place, min(self._times(fewest) + 1, MOST_THOROUGH), RACE)
        return None

    def _is_unclear(self, one: Combined, best: Combined) -> bool:
        """Whether it may be better than the best by as much as matters, or is the best itself."""
        return one is best or one.value.low < best.value.value * (1 - TELLING)

    def _times(self, one: Combined) -> int:
        return len(self._by_place[one.place])

    def _tuned(self, seed: int, why_stopped: str) -> Tuned:
        rivals = contenders(list(self._known.values()))
        if not rivals:
            first = self._done[0].measured.failure or "it does not tell what is asked for"
            raise TuningError(
                f"none of {len(self._by_place)} configurations gave {self._objective.name}; the first: {first}",
                "measure it alone: edgeprof profile" + (" --energy" if self._objective.needs_energy else ""),
            )
        best = rivals[0]
        default = self._known.get(0)
        return Tuned(
            objective=self._objective,
            n_configurations=len(self._configurations),
            budget=self._budget,
            seed=seed,
            measurements=tuple(self._done),
            best=self._configurations[best.place],
            value=best.value,
            latency=best.latency,
            keeps_budget=best.keeps_budget,
            ties=tuple(self._configurations[one.place] for one in rivals[1:] if one.value.overlaps(best.value)),
            default=default.value if default is not None else None,
            why_stopped=why_stopped,
        )


def _logs(values: Sequence[Value]) -> tuple[Array, Array]:
    """Logarithms and the variances of their errors."""
    logs = np.array([math.log(value.value) for value in values])
    return logs, np.array([log_error(value) ** 2 for value in values])
