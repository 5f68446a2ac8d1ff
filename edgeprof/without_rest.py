"""Have a device run models without rest, one after the other, each from as cool a start as the first had."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from device_agents import wire
from edgeprof.battery import LOW_BATTERY, running_empty
from edgeprof.errors import EdgeprofError, JobRefused
from edgeprof.models import ModelFile
from edgeprof.profiling import Measure, OnProgress, OpenDevice, Settings, attached
from edgeprof.run import Run
from edgeprof.spooled import ALONE_LOST_S, Patience, Spooled, usual_patience
from edgeprof.sustained import hottest_c

__all__ = ["LONGEST_S", "SHORTEST_S", "Cooling", "Endurance", "cool_down", "lasting", "without_rest"]

# A first minute and a last one that is another; what is longer has rounds too long to see a minute in.
SHORTEST_S, LONGEST_S = 120.0, 7200.0
ROUND_S, FEWEST_ROUNDS, MOST_ROUNDS = 10.0, 24, 360
# What statistics of so many rounds can hold in memory; 250 runs of a round give its median to a tenth of their spread.
MOST_KEPT, MOST_KEPT_OF_ROUND = 30_000, 250
# It heats the device before anything is recorded.
WARMUP_S = 2.0

# As cool as at first: sensors have steps of up to a degree, and the agent that looks is some load itself.
AS_COOL_K = 2.0
# cpufreq's limits are in kHz; readings of one limit may differ by a rounding.
SAME_CLOCK = 0.999
# Raspberry Pi firmware bits of what holds now (get_throttled).
HELD_NOW = 0b1111
LOOK_EVERY_S = 5.0
MOST_COOLING_S = 900.0
# MLPerf Mobile rests so long between two tests.
BLIND_REST_S = 300.0
RATE_OVER_S = 30.0


def without_rest(settings: Settings, lasts_s: float) -> Settings:
    """The same settings for one stretch of `lasts_s` without rest, which comes on top of the deadline."""
    round_s = max(min(ROUND_S, lasts_s / FEWEST_ROUNDS), lasts_s / MOST_ROUNDS)
    rounds = math.ceil(lasts_s / round_s)
    schedule = dataclasses.replace(
        settings.schedule,
        rounds=rounds,
        min_runs=1,
        min_s=round_s,
        max_s=round_s,
        warmup_share=WARMUP_S / lasts_s,
        keep_runs=min(MOST_KEPT_OF_ROUND, MOST_KEPT // rounds),
        without_rest_s=lasts_s,
    )
    return dataclasses.replace(
        settings, schedule=schedule, operators=False, energy=None, deadline_s=settings.deadline_s + lasts_s
    )


def lasting(lasts_s: float) -> Measure:
    """A way of measuring for `OpenDevice` that a lost link does not end: over SSH the device has the job to itself."""

    def measure(opened: OpenDevice, model: ModelFile, job: wire.Job, on_progress: OnProgress | None) -> wire.Profile:
        if opened.device.scheme != "ssh" or job.runtime == "simulated":
            return attached(opened, model, job, on_progress)
        patience = Patience(lasts_s + ALONE_LOST_S, threading.Event().wait)
        way = Spooled(f"sustained-{secrets.token_hex(6)}", model.name, 0.0, patience)
        try:
            return way(opened, model, job, on_progress)
        finally:
            # Done, failed or interrupted from the keyboard: nothing of it shall stay there.
            with contextlib.suppress(EdgeprofError):
                for ticket in way.tickets:
                    opened.any_agent().discard(ticket)

    return measure


class Endurance:
    """Runs models on one open device, each for `lasts_s` without rest. Of a simulated board each begins at rest."""

    def __init__(
        self,
        opened: OpenDevice,
        lasts_s: float,
        *,
        pause: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._opened = opened
        self._lasts_s = lasts_s
        self._pause = pause
        self._now = now
        self._start: wire.Conditions | None = None
        self._heated_s = 0.0

    def run(
        self,
        model: ModelFile,
        settings: Settings,
        on_progress: OnProgress | None = None,
        on_cooling: Callable[[Cooling], None] | None = None,
    ) -> Run:
        """Wait until the device is as cool as before its first model, and run this one; a note says how that went.

        Raises:
            JobRefused: no runtime here can do it; or "battery-low".
        """
        notes = [] if self._opened.device.board is not None else self._ready(on_cooling)
        began_s = self._now()
        try:
            run = self._opened.profile(model, without_rest(settings, self._lasts_s), on_progress)
        finally:
            self._heated_s = self._now() - began_s
        if any(r.n_runs is not None for r in run.profile.rounds):
            n_runs = sum(r.n_runs or len(r.latencies_s) for r in run.profile.rounds)
            kept = run.profile.job.schedule.keep_runs
            notes.append(f"{n_runs} runs without rest, of which at most {kept} latencies of each round are kept")
        return dataclasses.replace(run, notes=(*run.notes, *notes))

    def _ready(self, on_cooling: Callable[[Cooling], None] | None) -> list[str]:
        """See to the battery, and let the device cool down if it ran a model before; how that went."""
        seen = self._look()
        _require_power(self._opened.device.name, seen)
        if self._start is None:
            self._start = seen
            return []
        ended = cool_down(self._look, self._start, self._heated_s, self._pause, self._now, on_cooling)
        return [f"before it, {ended}"]

    def _look(self) -> wire.Conditions:
        return usual_patience().persist(self._opened, lambda: self._opened.any_agent().conditions())


def _require_power(name: str, seen: wire.Conditions) -> None:
    share = running_empty(seen)
    if share is not None:
        raise JobRefused(
            f"{name}: its battery is down to {share:.0%} and discharging: it would save power, and may not last",
            f"plug it in, or charge it above {LOW_BATTERY:.0%}",
            "battery-low",
        )


@dataclass(frozen=True, kw_only=True)
class Cooling:
    """How far a device is that cools down. `left_s` is no less than it will take: the cooler, the slower it cools."""

    waited_s: float
    reasons: tuple[str, ...]
    left_s: float | None


def cool_down(
    look: Callable[[], wire.Conditions],
    start: wire.Conditions,
    heated_s: float,
    pause: Callable[[float], None],
    now: Callable[[], float],
    on_cooling: Callable[[Cooling], None] | None = None,
    most_s: float = MOST_COOLING_S,
) -> str:
    """Wait until the device is as at `start`, or for `most_s`; what came of it, in words.

    A device that tells neither temperature nor clocks rests for as long as it was heated, at most five minutes.
    """
    began_s = now()
    is_blind = not start.temperatures_c and not any(clock.max_hz for clock in start.clocks)
    blind_s = min(heated_s, BLIND_REST_S, most_s)
    trail: list[tuple[float, float]] = []
    while True:
        seen = look()
        waited_s = now() - began_s
        reasons = _not_as_at_first(seen, start)
        if (waited_s >= blind_s) if is_blind else not reasons:
            return _told(waited_s, seen, start, is_blind)
        if waited_s >= most_s:
            return f"the device rested {waited_s:.0f} s and was not as at first: " + "; ".join(reasons)
        if (warm_c := hottest_c(seen)) is not None:
            trail.append((waited_s, warm_c))
        if on_cooling is not None:
            left_s = blind_s - waited_s if is_blind else _left_s(trail, start)
            on_cooling(Cooling(waited_s=waited_s, reasons=tuple(reasons), left_s=left_s))
        pause(LOOK_EVERY_S)


def _told(waited_s: float, seen: wire.Conditions, start: wire.Conditions, is_blind: bool) -> str:
    rested = f"the device rested {waited_s:.0f} s"
    if is_blind:
        return rested + ": it tells neither its temperature nor its clocks, so nobody knows how warm it began"
    now_c, first_c = hottest_c(seen), hottest_c(start)
    if now_c is None or first_c is None:
        return rested + " and had its clocks back"
    return f"{rested} and was at {now_c:.0f} C ({first_c:.0f} C before the first model)"


def _not_as_at_first(seen: wire.Conditions, start: wire.Conditions) -> list[str]:
    reasons = []
    now_c, first_c = hottest_c(seen), hottest_c(start)
    if now_c is not None and first_c is not None and now_c > first_c + AS_COOL_K:
        reasons.append(f"it is at {now_c:.0f} C, {first_c:.0f} C at first")
    if (seen.throttled or 0) & HELD_NOW & ~(start.throttled or 0):
        reasons.append(f"the firmware holds the clock down (get_throttled {seen.throttled:#x})")
    limits_hz = {clock.cpus: clock.max_hz for clock in start.clocks}
    for clock in seen.clocks:
        first_hz = limits_hz.get(clock.cpus)
        if clock.max_hz and first_hz and clock.max_hz < SAME_CLOCK * first_hz:
            reasons.append(f"the clock of CPUs {clock.cpus} is limited to {clock.max_hz / 1e6:.0f} MHz")
    return reasons


def _left_s(trail: list[tuple[float, float]], start: wire.Conditions) -> float | None:
    """At the pace of the last half minute; None while nothing can be said."""
    first_c = hottest_c(start)
    if len(trail) < 2 or first_c is None:
        return None
    now_s, now_c = trail[-1]
    then_s, then_c = next(point for point in trail if now_s - point[0] <= RATE_OVER_S)
    if now_s <= then_s or then_c <= now_c:
        return None
    return max(0.0, now_c - first_c - AS_COOL_K) * (now_s - then_s) / (then_c - now_c)
