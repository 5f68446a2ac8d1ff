"""What the measurements of a tuning come to: the best, what cannot be told from it, and how the default does beside it.

Of configurations that cannot be told apart the one that asks least is chosen: the default, then one without root; of
several of those the one whose interval ends lowest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from edgeprof.tuning.configuration import Configuration
from edgeprof.tuning.exactness import Exactness
from edgeprof.tuning.objective import ENERGY, Measured, Objective
from edgeprof.tuning.racing import Combined, combined, contenders
from edgeprof.values import Value

__all__ = ["Judged", "Outcome", "Seen", "cap_sentence", "conclusion", "judge"]

WORDS = {"latency": "time", "energy": "energy", "edp": "energy times time"}
# Below so many times the time a lower clock costs little.
LITTLE_SLOWER = 1.25
# An interval whose ends differ by so much says nothing of what is as good.
UNDECIDED = 1.5


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Everything that was measured of one configuration, in order: how thoroughly, what, and the ids of the runs."""

    configuration: Configuration
    levels: tuple[int, ...]
    measured: tuple[Measured, ...]
    runs: tuple[str, ...] = ()

    @property
    def failure(self) -> str | None:
        """Why nothing can be said of it."""
        return next((one.failure for one in self.measured if one.failure is not None), None)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One configuration with what all of its measurements say together. `value` is the objective's."""

    seen: Seen
    value: Value
    latency: Value
    energy: Value | None
    keeps_budget: bool

    @property
    def configuration(self) -> Configuration:
        return self.seen.configuration


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """`best` has the smallest value, `chosen` is what is handed over; `ties` cannot be told from the best.

    `default_failure` says why there is no `default`. `without_root` is the best that needs no permission, None where
    none was measured. `front` is that of latency against energy, fastest first. `uncapped` is the chosen one without
    its caps. `failed` are those that did not run.
    """

    objective: Objective
    best: Judged
    chosen: Judged
    ties: tuple[Judged, ...]
    default: Judged | None
    default_failure: str | None
    without_root: Judged | None
    uncapped: Judged | None
    front: tuple[Judged, ...]
    failed: tuple[Seen, ...]

    @property
    def is_default_as_good(self) -> bool:
        return self.default is not None and self.chosen.configuration == self.default.configuration

    @property
    def is_undecided(self) -> bool:
        """Whether the default is handed over only because too little is known of it."""
        value = self.chosen.value
        return (
            self.is_default_as_good
            and bool(self.ties or self.best is not self.chosen)
            and (value.low <= 0 or value.high / value.low > UNDECIDED)
        )


def judge(seen: Sequence[Seen], default: Configuration, objective: Objective) -> Outcome | None:
    """What all that was measured comes to; None where nothing gave the objective."""
    known: dict[Configuration, Judged] = {}
    places: list[Combined] = []
    by_place = {place: list(zip(one.levels, one.measured, strict=True)) for place, one in enumerate(seen)}
    exactness = Exactness(by_place)
    for place, one in enumerate(seen):
        steady = [exactness.steady(each) for each in by_place[place]]
        found = combined(place, steady, objective)
        if found is not None and found.latency is not None:
            places.append(found)
            known[one.configuration] = Judged(
                seen=one,
                value=found.value,
                latency=found.latency,
                energy=_energy(place, steady),
                keeps_budget=found.keeps_budget,
            )
    rivals = [known[seen[one.place].configuration] for one in contenders(places)]
    if not rivals:
        return None
    best = rivals[0]
    alike = [one for one in rivals if one.keeps_budget == best.keeps_budget]
    # The smallest may be the least certain: what another one surely beats is no tie.
    limit = min(one.value.high for one in alike)
    ties = tuple(one for one in alike[1:] if one.value.low <= limit)
    chosen = min((best, *ties), key=lambda one: (_asks(one.configuration, default), one.value.high))
    alone = contenders([one for one in places if not seen[one.place].configuration.needs])
    failed = tuple(one for one in seen if one.failure is not None)
    return Outcome(
        objective=objective,
        best=best,
        chosen=chosen,
        ties=ties,
        default=known.get(default),
        default_failure=next((one.failure for one in failed if one.configuration == default), None),
        without_root=known[seen[alone[0].place].configuration] if alone else None,
        uncapped=known.get(dataclasses.replace(chosen.configuration, caps=())) if chosen.configuration.caps else None,
        front=_front(list(known.values())),
        failed=failed,
    )


def _energy(place: int, measured: Sequence[Measured]) -> Value | None:
    found = combined(place, measured, Objective(name=ENERGY))
    return found.value if found is not None else None


def _asks(configuration: Configuration, default: Configuration) -> int:
    return 0 if configuration == default else 2 if configuration.needs else 1


def _front(judged: Sequence[Judged]) -> tuple[Judged, ...]:
    """Those than which none is both faster and leaner, by their values."""
    front: list[Judged] = []
    least_j = float("inf")
    for one in sorted((one for one in judged if one.energy is not None), key=lambda one: one.latency.value):
        if one.energy is not None and one.energy.value < least_j:
            front.append(one)
            least_j = one.energy.value
    return tuple(front)


# --- in words -------------------------------------------------------------------------------------------------------


def conclusion(outcome: Outcome) -> str:
    """What was found, in a sentence or two."""
    chosen, what = outcome.chosen, WORDS[outcome.objective.name]
    budget_s = outcome.objective.latency_budget_s
    missed = ""
    if budget_s is not None and not chosen.keeps_budget:
        missed = f"nothing that was measured surely keeps the latency budget of {budget_s * 1e3:.4g} ms; "
    if outcome.is_undecided:
        return (
            f"{missed}undecided: the default's own {what} was not steady enough to be told from others'; "
            "let the device come to rest, and tune again"
        )
    if outcome.is_default_as_good:
        return f"{missed}the default is as good: nothing that was measured takes surely less {what}"
    if outcome.default is None:
        return f"{missed}the default could not be measured: {outcome.default_failure or 'it was not reached'}"
    ratio = _ratio(chosen.value, outcome.default.value)
    text = f"{missed}it takes {ratio} of the default's {what}"
    if budget_s is not None and not outcome.default.keeps_budget:
        text += "; the default does not surely keep the latency budget"
    return text


def cap_sentence(outcome: Outcome) -> str | None:
    """Why clocks below the highest take less energy, where they were found to; None where nothing was capped."""
    chosen, uncapped = outcome.chosen, outcome.uncapped
    if not chosen.configuration.caps:
        return None
    caps = " and ".join(f"{cap.policy} at {cap.max_hz / 1e6:.0f} MHz" for cap in chosen.configuration.caps)
    why = "usually because a lower clock needs a lower voltage"
    if uncapped is None:
        return f"with {caps} it was found best, {why}; the same without caps was not measured"
    if chosen.latency.value < LITTLE_SLOWER * uncapped.latency.value:
        why += ", and what waits for memory anyway loses little time"
    time = _ratio(chosen.latency, uncapped.latency)
    if uncapped.energy is None or chosen.energy is None:
        return f"with {caps} it takes {time} of the time of the same without caps"
    energy = _ratio(chosen.energy, uncapped.energy)
    return f"with {caps} it takes {time} of the time and {energy} of the energy of the same without caps, {why}"


def _ratio(value: Value, other: Value) -> str:
    low, high = value.low / other.high, value.high / other.low
    return f"{value.value / other.value:.1%} ({low:.1%} to {high:.1%})"
