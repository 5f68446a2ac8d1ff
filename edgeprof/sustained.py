"""What a model does that runs without rest: when the device throttles, and what is left of the speed of minute 1.

Pure functions of runs that were measured with `Schedule.without_rest_s`; docs/how-to/sustained.md explains every rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import median

import numpy as np

from device_agents.wire import Conditions, Profile, Round
from edgeprof.battery import LOW_BATTERY, battery_share, is_discharging, without_charge
from edgeprof.comparison import compare
from edgeprof.errors import MeasurementError
from edgeprof.run import Run
from edgeprof.statistics import summarise
from edgeprof.step import FEWEST, Step, first_beyond, step_up
from edgeprof.throttling import throttle_reasons
from edgeprof.verdict import (
    BUSY_LIMIT,
    DRIFT_LIMIT,
    DRIFT_P,
    GATE_TIMEOUT,
    INVALID,
    conditions,
    judge,
    mann_kendall,
    other_busy_share,
    stolen_share,
)

__all__ = [
    "MINUTE_S",
    "Moment",
    "Stretch",
    "Sustained",
    "Throttling",
    "hottest_c",
    "sustained",
]

MINUTE_S = 60.0
# Fewer than this many rounds cannot show a trend, so they cannot show that there is none.
MIN_STEADY_ROUNDS = 6
# Governors let a clock wander; one that is down by a tenth for so many rounds on end, with slower runs, was held down.
SAG, SAG_ROUNDS = 0.90, 3
MOST_REST = 0.05


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Some rounds on end, from `from_s` to `to_s` since the first began: their median and its 95 % interval."""

    from_s: float
    to_s: float
    n_rounds: int
    median_s: float
    low_s: float | None
    high_s: float | None
    interval_missing: str | None


@dataclass(frozen=True, kw_only=True)
class Throttling:
    """The first sign of it was seen at the end of a round, at `seen_s`; it came after `after_s`, when that round began.

    `is_inferred` where no clock can be read and the latencies alone speak, which may have other causes.
    """

    after_s: float
    seen_s: float
    evidence: str
    is_inferred: bool


@dataclass(frozen=True, kw_only=True)
class Moment:
    """The end of a round: `temperature_c` is the hottest sensor's, `clocks_hz` by the CPUs that share one."""

    at_s: float
    median_s: float | None
    temperature_c: float | None
    clocks_hz: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Sustained:
    """What became of one model. Times in seconds since the first round began.

    `ratio` is the last minute's median by the first's. `running_share` is the share of `lasted_s` in which the model
    ran; `waited_s` is what the gate waited before. Each `..._missing` says why its figure is None. `doubts` is
    empty where nothing but the model and its heat had a part in this.
    """

    run: str
    model: str
    model_digest: str
    batch: int | None
    device: str
    runtime: str
    origin: str
    asked_s: float
    lasted_s: float
    running_share: float | None
    n_runs: int
    n_rounds: int
    throttling: Throttling | None
    throttling_missing: str | None
    first_minute: Stretch
    last_minute: Stretch
    ratio: float
    ratio_low: float | None
    ratio_high: float | None
    change: str
    steady: Stretch | None
    steady_missing: str | None
    waited_s: float
    began_c: float | None
    hottest_c: float | None
    ended_c: float | None
    temperature_missing: str | None
    course: tuple[Moment, ...]
    doubts: tuple[str, ...]


def sustained(run: Run) -> Sustained:
    """What the rounds of a run say that was measured without rest.

    Raises:
        MeasurementError: it was not, or its rounds have no usable sample.
    """
    asked_s = run.profile.job.schedule.without_rest_s
    if asked_s is None:
        raise MeasurementError(
            f"run {run.id}: was measured round by round, with rests between them",
            "measure it without: edgeprof profile MODEL --sustained 20m",
        )
    profile = _with_usable_rounds(run)
    rounds, job = profile.rounds, profile.job
    began_s = rounds[0].before.at_s
    lasted_s = rounds[-1].after.at_s - began_s
    span_s = min(MINUTE_S, lasted_s / 2)
    first = _part(profile, [r for r in rounds if _middle_s(r) - began_s < span_s] or rounds[:1])
    last = _part(profile, [r for r in rounds if _middle_s(r) - began_s > lasted_s - span_s] or rounds[-1:])
    ratio = compare(first, last)
    throttling, not_throttled = _throttling(profile)
    steady, unsteady = _steady(profile, throttling)
    temperatures = [t for look in conditions(profile) if (t := hottest_c(look)) is not None]
    return Sustained(
        run=run.id,
        model=job.model.name,
        model_digest=job.model.digest,
        batch=job.options.batch,
        device=run.device,
        runtime=job.runtime,
        origin=profile.origin,
        asked_s=asked_s,
        lasted_s=lasted_s,
        running_share=_running_share(profile, lasted_s),
        n_runs=sum(r.n_runs or len(r.latencies_s) for r in rounds),
        n_rounds=len(rounds),
        throttling=throttling,
        throttling_missing=not_throttled,
        first_minute=_stretch(first, began_s),
        last_minute=_stretch(last, began_s),
        ratio=ratio.ratio,
        ratio_low=ratio.ratio_low,
        ratio_high=ratio.ratio_high,
        change=ratio.conclusion,
        steady=steady,
        steady_missing=unsteady,
        waited_s=rounds[0].gate.waited_s,
        began_c=hottest_c(rounds[0].before),
        hottest_c=max(temperatures, default=None),
        ended_c=hottest_c(rounds[-1].after),
        temperature_missing=None if temperatures else rounds[0].before.unreadable.get("temperature", "not told"),
        course=tuple(_moment(r, began_s) for r in rounds),
        doubts=tuple(_doubts(profile, asked_s, lasted_s)),
    )


def hottest_c(look: Conditions) -> float | None:
    """The temperature of the hottest sensor."""
    return max(look.temperatures_c.values(), default=None)


def _with_usable_rounds(run: Run) -> Profile:
    rounds = tuple(r for r in run.profile.rounds if any(np.isfinite(s) and s > 0 for s in r.latencies_s))
    if not rounds:
        raise MeasurementError(f"run {run.id}: has no usable latency sample", "profile the model again")
    return replace(run.profile, rounds=rounds)


def _part(profile: Profile, rounds: Sequence[Round]) -> Profile:
    return replace(profile, rounds=tuple(rounds))


def _middle_s(one: Round) -> float:
    return (one.before.at_s + one.after.at_s) / 2


def _stretch(profile: Profile, began_s: float) -> Stretch:
    found, rounds = summarise(profile), profile.rounds
    return Stretch(
        from_s=rounds[0].before.at_s - began_s,
        to_s=rounds[-1].after.at_s - began_s,
        n_rounds=len(rounds),
        median_s=found.median_s,
        low_s=found.median_low_s,
        high_s=found.median_high_s,
        interval_missing=found.interval_missing,
    )


def _middle(one: Round) -> float:
    return median(s for s in one.latencies_s if np.isfinite(s) and s > 0)


def _moment(one: Round, began_s: float) -> Moment:
    return Moment(
        at_s=one.after.at_s - began_s,
        median_s=_middle(one),
        temperature_c=hottest_c(one.after),
        clocks_hz={clock.cpus: clock.current_hz for clock in one.after.clocks if clock.current_hz},
    )


def _running_share(profile: Profile, lasted_s: float) -> float | None:
    ran_s = [r.wall_s for r in profile.rounds if r.wall_s is not None]
    return sum(ran_s) / lasted_s if len(ran_s) == len(profile.rounds) and lasted_s > 0 else None


# --- when it throttled ---------------------------------------------------------------------------------------------


def _throttling(profile: Profile) -> tuple[Throttling | None, str | None]:
    """The first round that shows it, or why there is none."""
    rounds = profile.rounds
    began_s, lasted_s = rounds[0].before.at_s, rounds[-1].after.at_s - rounds[0].before.at_s
    for k, r in enumerate(rounds):
        # From the very first look to the end of this round: whatever fell since the beginning shows.
        shown = [what for what, _ in throttle_reasons(_part(profile, [replace(r, before=rounds[0].before)]))]
        if shown or (sagged := _sagged(rounds, k)):
            return _seen(r, began_s, "; ".join(shown) if shown else sagged, is_inferred=False), None
    step = step_up([_middle(r) for r in rounds], DRIFT_LIMIT)
    if _can_be_read(rounds):
        return None, f"no clock was held down within {lasted_s:.0f} s" + (f", but {_slower(step)}" if step else "")
    if len(rounds) < FEWEST:
        return (
            None,
            f"no clock can be read, and {len(rounds)} rounds are too few for a rise to show (at least {FEWEST})",
        )
    if step is None:
        return None, f"no clock can be read, and latency did not rise for good within {lasted_s:.0f} s"
    base_s = median(_middle(r) for r in rounds if _middle_s(r) - began_s <= MINUTE_S)
    k = first_beyond([_middle(r) for r in rounds], step, base_s * (1 + DRIFT_LIMIT))
    evidence = f"inferred: no clock can be read, but {_slower(step)}{_other_causes(profile, step)}"
    return _seen(rounds[k], began_s, evidence, is_inferred=True), None


def _seen(one: Round, began_s: float, evidence: str, *, is_inferred: bool) -> Throttling:
    return Throttling(
        after_s=one.before.at_s - began_s,
        seen_s=one.after.at_s - began_s,
        evidence=evidence,
        is_inferred=is_inferred,
    )


def _can_be_read(rounds: Sequence[Round]) -> bool:
    looks = [look for r in rounds for look in (r.before, r.after)]
    clocks = [clock for look in looks for clock in look.clocks]
    return any(look.throttled is not None for look in looks) or any(
        clock.current_hz or clock.max_hz or clock.time_in_state_s for clock in clocks
    )


def _sagged(rounds: Sequence[Round], k: int) -> str:
    """A clock that stays down from round `k` on, with slower runs: under a governor that shows no limit, or a turbo."""
    following = rounds[k : k + SAG_ROUNDS]
    if k == 0 or len(following) < SAG_ROUNDS:
        return ""
    slower = median(map(_middle, following)) / _middle(rounds[0]) - 1
    for cpus, at_first_hz in _moment(rounds[0], 0.0).clocks_hz.items():
        hz = [_moment(r, 0.0).clocks_hz.get(cpus) for r in following]
        known = [one for one in hz if one is not None]
        if len(known) == SAG_ROUNDS and max(known) < SAG * at_first_hz and slower > DRIFT_LIMIT:
            return (
                f"the clock of CPUs {cpus} fell from {at_first_hz / 1e6:.0f} MHz after the first round to "
                f"{median(known) / 1e6:.0f} MHz and stayed there for {SAG_ROUNDS} rounds, {slower:.1%} slower ones"
            )
    return ""


def _slower(step: Step) -> str:
    return (
        f"runs take {step.rise:.1%} longer in the last {step.n_after} rounds than in the {step.n_before} before them "
        f"(Pettitt's test: p = {step.p_value:.1g})"
    )


def _other_causes(profile: Profile, step: Step) -> str:
    """What else took more of the CPU after the step than before."""
    early, late = _part(profile, profile.rounds[: step.n_before]), _part(profile, profile.rounds[step.n_before :])
    found = []
    for who, share in (("other programs", other_busy_share), ("the hypervisor's other machines", stolen_share)):
        before, after = share(early), share(late)
        if before is not None and after is not None and after - before > BUSY_LIMIT / 2:
            found.append(f"; {who} took {after:.0%} of the CPU time then, {before:.0%} before: that may be the cause")
    return "".join(found)


# --- what stays ----------------------------------------------------------------------------------------------------


def _steady(profile: Profile, throttling: Throttling | None) -> tuple[Stretch | None, str | None]:
    """The longest stretch at the end that has no trend and no other level at its ends; or why there is none."""
    rounds = profile.rounds
    began_s = rounds[0].before.at_s
    least_s = throttling.after_s if throttling is not None else 0.0
    for start in range(0, len(rounds) - MIN_STEADY_ROUNDS + 1):
        is_candidate = (len(rounds) - start) % MIN_STEADY_ROUNDS == 0 or start == 0
        if is_candidate and rounds[start].before.at_s - began_s >= least_s:
            stretch = rounds[start:]
            if _is_level([_middle(r) for r in stretch]):
                return _stretch(_part(profile, stretch), began_s), None
    if len(rounds) < MIN_STEADY_ROUNDS:
        return None, f"{len(rounds)} rounds are too few to show that latency is steady (at least {MIN_STEADY_ROUNDS})"
    return None, f"latency still changed in the last {MIN_STEADY_ROUNDS} rounds: measure longer"


def _is_level(middles_s: Sequence[float]) -> bool:
    level_s = median(middles_s)
    edges_s = median(middles_s[:MIN_STEADY_ROUNDS]), median(middles_s[-MIN_STEADY_ROUNDS:])
    if any(abs(edge_s / level_s - 1) > DRIFT_LIMIT for edge_s in edges_s):
        return False
    if mann_kendall(tuple(middles_s)) > DRIFT_P:
        return True
    slopes = [(b - a) / (j - i) for (i, a), (j, b) in combinations(enumerate(middles_s), 2)]
    return abs(median(slopes) * (len(middles_s) - 1) / level_s) <= DRIFT_LIMIT


# --- doubts --------------------------------------------------------------------------------------------------------


def _doubts(profile: Profile, asked_s: float, lasted_s: float) -> Iterator[str]:
    yield from (reason.what for reason in judge(profile).reasons if reason.level in (INVALID, GATE_TIMEOUT))
    for who, share in (("other programs", other_busy_share(profile)), ("other machines", stolen_share(profile))):
        if share is not None and share > BUSY_LIMIT:
            yield f"{who} took {share:.0%} of the CPU time (limit {BUSY_LIMIT:.0%})"
    running = _running_share(profile, lasted_s)
    if running is None or running < 1 - MOST_REST:
        told = "nobody knows how much" if running is None else f"{running:.1%}"
        yield f"the model was to run without rest, and ran {told} of the time (limit {1 - MOST_REST:.0%})"
    if lasted_s < (1 - MOST_REST) * asked_s:
        yield f"it lasted {lasted_s:.0f} s, and {asked_s:.0f} s were asked for"
    yield from _power_doubts(conditions(profile))


def _power_doubts(looks: Sequence[Conditions]) -> Iterator[str]:
    kinds = [without_charge(look.power_source) for look in looks]
    changed = next((k for k in range(1, len(kinds)) if kinds[k] != kinds[k - 1]), None)
    if changed is not None:
        at_s = looks[changed].at_s - looks[0].at_s
        before, after = (kinds[k] or "unknown" for k in (changed - 1, changed))
        yield f"the power source changed after {at_s:.0f} s, from {before} to {after}: devices choose other clocks then"
    low = [share for look in looks if is_discharging(look) and (share := battery_share(look)) is not None]
    if low and min(low) < LOW_BATTERY:
        yield f"the battery ran down to {min(low):.0%}: devices save power below {LOW_BATTERY:.0%}"
