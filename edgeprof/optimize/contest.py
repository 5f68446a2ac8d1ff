"""The contest: candidates race on the device, and what nothing else beats is the front."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edgeprof.errors import InputError
from edgeprof.optimize.candidate import LOSSY, Candidate, Step
from edgeprof.optimize.gate import Decision
from edgeprof.optimize.making import Made
from edgeprof.optimize.measuring import Bench, Refusal, found_in
from edgeprof.optimize.racing import Standing, standing, survivors
from edgeprof.run import Run
from edgeprof.spooled import AWAY
from edgeprof.values import Value

__all__ = ["Tried", "best_of", "front_of", "raced", "without_twins"]

Tell = Callable[[str], None]
# Of fewer sweeps an interval says little; they are made whatever time they take.
LEAST_SWEEPS, MOST_SWEEPS = 3, 6


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A candidate and all that became of it; without a file at the end if it is not on the front.

    `steps` led to it. `reason` says why it was rejected, and is empty where it was not.

    `memory_bytes` is the peak of its process on the device; `runs` are those in the store.
    """

    name: str
    kind: str
    decision: Decision
    candidate: Candidate | None = None
    steps: tuple[Step, ...] = ()
    reason: str = ""
    size_bytes: int | None = None
    standing: Standing | None = None
    energy: Value | None = None
    memory_bytes: int | None = None
    runs: tuple[str, ...] = ()

    @property
    def loss(self) -> float:
        """Of the metric, what may be lost on other samples; nothing of what is lossless."""
        return self.decision.loss.bound if self.decision.loss is not None and self.kind == LOSSY else 0.0


def without_twins(made: Sequence[Made]) -> list[Made]:
    """Of files that differ only in how they were calibrated, which is nothing that a device sees, the most accurate."""
    best: dict[str, Made] = {}
    for one in made:
        if one.is_accepted and one.twin:
            first = best.setdefault(one.twin, one)
            if one.bound < first.bound:
                best[one.twin] = one
    found = []
    for one in made:
        first = best.get(one.twin, one)
        if one.is_accepted and first is not one:
            reason = f"it has the operators of {first.name}, which loses less"
            one = replace(one, decision=replace(one.decision, accepted=False, reason=reason))
        found.append(one)
    return found


def raced(
    bench: Bench,
    source: Candidate,
    made: Sequence[Made],
    seed: int,
    most_s: float,
    tell: Tell,
    now: Callable[[], float],
) -> tuple[tuple[Tried, ...], str]:
    """Measure all that passed the gate, in turns with the original, until it is clear who wins or `most_s` are over.

    A device that is lost ends it; why, comes second. Sweeps that were whole by then count.

    Raises:
        InputError: the original itself does not run there.
        LinkError, AgentError, DeviceGivenUp: the device is lost before one sweep was whole.
    """
    original = Tried(
        name=source.name,
        kind=source.kind,
        decision=Decision(accepted=True),
        candidate=source,
        size_bytes=source.size_bytes,
    )
    tried = {original.name: original}
    for one in made:
        size = one.candidate.size_bytes if one.candidate is not None and one.candidate.path.exists() else None
        tried[one.name] = Tried(
            name=one.name,
            kind=one.kind,
            decision=one.decision,
            candidate=one.candidate,
            steps=one.candidate.steps if one.candidate is not None else (),
            reason=one.decision.reason,
            size_bytes=size,
        )
    sweeps: dict[str, list[tuple[Value, Value]]] = {name: [] for name, one in tried.items() if not one.reason}
    alive = [name for name in sweeps if name != original.name]
    rng, until = random.Random(seed), now() + most_s
    for k in range(MOST_SWEEPS):
        order = [original.name, *alive]
        rng.shuffle(order)
        try:
            found = _swept(bench, tried, order, k, tell)
        except AWAY as error:
            if k == 0:
                raise
            return tuple(tried.values()), f"the device was lost after {k} of {LEAST_SWEEPS} sweeps or more: {error}"
        if original.name not in found:
            raise InputError(
                f"the original itself cannot be measured on {bench.device.name}: {tried[original.name].reason}",
                "profile it there first: edgeprof profile",
            )
        for name, value in found.items():
            sweeps[name].append((value, found[original.name]))
        standings = {name: standing(name, sweeps[name]) for name in found}
        for name, of_one in standings.items():
            tried[name] = replace(tried[name], standing=of_one)
        running = [one for name, one in standings.items() if name != original.name]
        sizes = {name: tried[name].size_bytes or 0 for name in standings}
        losses = {name: tried[name].loss for name in standings}
        alive = survivors(running, sizes, losses) if running else []
        if not alive or (k + 1 >= LEAST_SWEEPS and now() >= until):
            break
    return tuple(tried.values()), ""


def _swept(bench: Bench, tried: dict[str, Tried], order: Sequence[str], k: int, tell: Tell) -> dict[str, Value]:
    """The latencies of one sweep, of those that could be measured."""
    found: dict[str, Value] = {}
    for place, name in enumerate(order):
        tell(f"sweep {k + 1}: {name} ({place + 1} of {len(order)})")
        latency = _measured(bench, tried, name, is_first=k == 0)
        if latency is not None:
            found[name] = latency
    return found


def _measured(bench: Bench, tried: dict[str, Tried], name: str, is_first: bool) -> Value | None:
    """Measure one once; what came of it is put into `tried`."""
    one = tried[name]
    if one.candidate is None:
        return None
    # What it computes, and the joules it takes, are asked once.
    run = bench.measure(one.candidate.path, check=is_first, energy=is_first and bench.energy is not None)
    values = found_in(run) if isinstance(run, Run) else run
    if isinstance(values, Refusal) or isinstance(run, Refusal):
        reason = values.reason if isinstance(values, Refusal) else ""
        tried[name] = replace(one, reason=reason)
        return None
    tried[name] = replace(
        one,
        energy=values.get("energy", one.energy),
        memory_bytes=max(one.memory_bytes or 0, run.profile.memory_peak_bytes or 0) or None,
        runs=(*one.runs, run.id),
    )
    return values["latency"]


def front_of(tried: Sequence[Tried]) -> tuple[str, ...]:
    """What no other beats: another is better in something for sure, and worse in nothing.

    Latencies (and energies) whose intervals overlap are the same; sizes and losses are exact.
    """
    alive = [one for one in tried if not one.reason and one.standing is not None]
    return tuple(one.name for one in alive if not any(_beats(other, one) for other in alive if other is not one))


def _beats(other: Tried, one: Tried) -> bool:
    if other.standing is None or one.standing is None:
        return False
    order = [_compared(other.standing.speedup, one.standing.speedup, more_is_better=True)]
    if other.energy is not None and one.energy is not None:
        order.append(_compared(other.energy, one.energy, more_is_better=False))
    order.append(_sign((one.size_bytes or 0) - (other.size_bytes or 0)))
    order.append(_sign(one.loss - other.loss))
    return min(order) >= 0 and max(order) > 0


def _compared(a: Value, b: Value, *, more_is_better: bool) -> int:
    """1 where a is better for sure, -1 where b is, 0 where they tie."""
    if a.overlaps(b):
        return 0
    return 1 if (a.value > b.value) == more_is_better else -1


def _sign(number: float) -> int:
    return (number > 0) - (number < 0)


def best_of(tried: Sequence[Tried], front: Sequence[str]) -> str | None:
    """The fastest that is faster than the original for sure; of those that tie with it, the one that loses least."""
    faster = [one for one in tried if one.name in front and one.standing is not None and one.standing.speedup.low > 1.0]
    if not faster:
        return None
    first = max(faster, key=lambda one: one.standing.speedup.value if one.standing else 0.0)
    ties = [
        one
        for one in faster
        if first.standing is not None
        and one.standing is not None
        and one.standing.speedup.overlaps(first.standing.speedup)
    ]
    return min(ties, key=lambda one: (one.loss, one.size_bytes or 0)).name
