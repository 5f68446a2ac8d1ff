"""How far a profile can be trusted: the verdict with every reason, and what to do about each.

Pure functions; docs/measuring.md lists the rules. Where a number comes from (measured, emulated, simulated) is a field
of its own and never part of the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise
from statistics import NormalDist, median

from device_agents.wire import Conditions, Profile
from edgeprof.errors import MeasurementError
from edgeprof.phones import phone_notes
from edgeprof.statistics import MIN_ROUNDS, Summary, summarise
from edgeprof.throttling import clock_notes, operator_throttling, throttle_reasons

__all__ = [
    "LEVELS",
    "Reason",
    "Verdict",
    "conditions",
    "judge",
    "mann_kendall",
    "operator_notes",
    "other_busy_share",
    "stolen_share",
    "unreadable",
]

INVALID, THROTTLED, GATE_TIMEOUT, DRIFTING = "invalid", "throttled", "gate-timeout", "drifting"
NOISY, STEADY_UNVERIFIED, TRUSTED = "noisy", "steady-unverified", "trusted"
# Most severe first.
LEVELS = (INVALID, THROTTLED, GATE_TIMEOUT, DRIFTING, NOISY, STEADY_UNVERIFIED, TRUSTED)

# Latency that changes by more than this over the rounds has no one value; three times what rounds usually differ by.
DRIFT_LIMIT = 0.03
# Four rounds in strict order are p = 0.083: the fewest that can count as a trend.
DRIFT_P = 0.10
HALF_WIDTH_LIMIT = 0.02
# Archai and pyperf call a standard deviation of a tenth of the mean unstable.
SPREAD_LIMIT = 0.10
BUSY_LIMIT = 0.10
MIN_RUNS = 20
# /proc/stat counts in steps of 10 ms; over less CPU time than this a share of it means nothing.
MIN_CPU_TIME_S = 0.5
# The clock of the samples is the clock of the conditions: a round cannot hold more than it lasted, rounding apart.
CLOCK_SLACK = 1.01

REPEAT = "profile again"


@dataclass(frozen=True, kw_only=True)
class Reason:
    """One doubt: which level it asks for, what was seen against which limit, and what to do now."""

    level: str
    what: str
    do: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The most severe level that applies, with all reasons, most severe first.

    `unreadable` lists conditions that could not be read as "condition: why"; `notes` is worth knowing, but no doubt.
    """

    level: str
    reasons: tuple[Reason, ...]
    unreadable: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def is_trusted(self) -> bool:
        return self.level == TRUSTED

    @property
    def is_dependable(self) -> bool:
        """Whether the middle of its samples is that of the device: it may scatter, but nothing drove it one way."""
        return self.level in (TRUSTED, STEADY_UNVERIFIED, NOISY)


def judge(profile: Profile, summary: Summary | None = None) -> Verdict:
    """Judge a profile by its samples and conditions. `summary` saves computing it again."""
    if summary is None:
        try:
            summary = summarise(profile)
        except MeasurementError:
            summary = None
    found = [*_invalid(profile), *_throttled(profile), *_gate(profile)]
    if summary is not None:
        found += [*_drifting(profile, summary), *_noisy(profile, summary)]
    found += _unverified(profile)
    reasons = tuple(sorted(found, key=lambda reason: LEVELS.index(reason.level)))
    return Verdict(
        level=reasons[0].level if reasons else TRUSTED,
        reasons=reasons,
        unreadable=tuple(f"{what}: {why}" for what, why in unreadable(profile).items()),
        notes=tuple(_notes(profile)),
    )


# --- invalid -------------------------------------------------------------------------------------------------------


def _invalid(profile: Profile) -> Iterator[Reason]:
    samples = [s for r in profile.rounds for s in r.latencies_s]
    if not samples:
        yield Reason(level=INVALID, what="there is not one latency sample", do=REPEAT)
    bad = [s for s in samples if not (math.isfinite(s) and s > 0)]
    if bad:
        yield Reason(
            level=INVALID,
            what=f"{len(bad)} of {len(samples)} samples are no positive number, the first is {bad[0]}",
            do="the device's clock is broken or too coarse for this model: raise --batch, or use another device",
        )
    yield from _clock_faults(profile)


def _clock_faults(profile: Profile) -> Iterator[Reason]:
    do = "the device's monotonic clock is broken: restart it and " + REPEAT
    times = [c.at_s for c in conditions(profile)]
    if any(later < earlier for earlier, later in pairwise(times)):
        yield Reason(level=INVALID, what="the device's clock went backwards during the rounds", do=do)
        return
    for k, r in enumerate(profile.rounds, 1):
        lasted, total = r.after.at_s - r.before.at_s, sum(r.latencies_s)
        if total > lasted * r.streams * CLOCK_SLACK:
            at_once = f", with {r.streams} runs at once" if r.streams > 1 else ""
            what = f"the samples of round {k} add up to {total:.4g} s, but the round took {lasted:.4g} s{at_once}"
            yield Reason(level=INVALID, what=what, do=do)


# --- throttled, gate -----------------------------------------------------------------------------------------------


def _throttled(profile: Profile) -> Iterator[Reason]:
    for what, do in throttle_reasons(profile):
        yield Reason(level=THROTTLED, what=what, do=do)


def _gate(profile: Profile) -> Iterator[Reason]:
    late = [(k, r.gate) for k, r in enumerate(profile.rounds, 1) if not r.gate.passed]
    if late:
        numbers = ", ".join(str(k) for k, _ in late)
        causes = sorted({reason for _, gate in late for reason in gate.reasons}) or ["no reason recorded"]
        yield Reason(
            level=GATE_TIMEOUT,
            what=f"the device was not quiet and cool within {profile.job.gate.timeout_s:g} s before round {numbers}: "
            + "; ".join(causes),
            do="stop other programs and let the device cool, or wait longer: --gate-timeout",
        )


# --- drifting ------------------------------------------------------------------------------------------------------


def _drifting(profile: Profile, summary: Summary) -> Iterator[Reason]:
    yield from _drift_over_rounds(profile, summary)
    yield from _drift_within_rounds(profile)
    yield from _unfinished_warmup(profile, summary)


def _drift_over_rounds(profile: Profile, summary: Summary) -> Iterator[Reason]:
    middles = summary.round_medians_s
    if len(middles) < MIN_ROUNDS or mann_kendall(middles) > DRIFT_P:
        return
    slopes = [(b - a) / (j - i) for (i, a), (j, b) in combinations(enumerate(middles), 2)]
    change = median(slopes) * (len(middles) - 1) / summary.median_s
    if abs(change) > DRIFT_LIMIT:
        verb = "rose" if change > 0 else "fell"
        yield Reason(
            level=DRIFTING,
            what=f"the medians of the rounds {verb} by {abs(change):.1%} from first to last (limit {DRIFT_LIMIT:.0%})"
            + _accompanied(profile),
            do="let the device reach its steady state: more and longer rounds (--rounds, --min-time), which also "
            "give warm-up more time; a device that never settles has no one latency",
        )


def _accompanied(profile: Profile) -> str:
    """What else moved meanwhile: the usual suspect for a drift is heat."""
    seen = [max(c.temperatures_c.values()) for c in conditions(profile) if c.temperatures_c]
    if len(seen) < 2:
        return ""
    change = seen[-1] - seen[0]
    return f"; temperature {'rose' if change > 0 else 'fell'} {abs(change):.0f} C" if abs(change) >= 1 else ""


def _drift_within_rounds(profile: Profile) -> Iterator[Reason]:
    """Heat within each round, lost again while waiting at the gate, leaves the rounds equal to each other."""
    changes = []
    for r in profile.rounds:
        third = len(r.latencies_s) // 3
        if third < MIN_ROUNDS:
            return
        first, last = median(r.latencies_s[:third]), median(r.latencies_s[-third:])
        if first <= 0:
            return
        changes.append(last / first - 1)
    # One sign in all of five rounds happens by chance once in sixteen; of three, once in four.
    if len(changes) < MIN_ROUNDS or abs(sum(math.copysign(1, c) for c in changes)) < len(changes):
        return
    if abs(change := median(changes)) > DRIFT_LIMIT:
        yield Reason(
            level=DRIFTING,
            what=f"within every round latency {'rises' if change > 0 else 'falls'}, typically by {abs(change):.1%} "
            f"from its first to its last third (limit {DRIFT_LIMIT:.0%})",
            do="a burst and sustained use differ on this device: measure longer rounds: --min-time",
        )


def _unfinished_warmup(profile: Profile, summary: Summary) -> Iterator[Reason]:
    middles = summary.round_medians_s
    if profile.warmup_is_flat or len(middles) < 2:
        return
    change = middles[0] / median(middles[1:]) - 1
    if abs(change) > DRIFT_LIMIT:
        yield Reason(
            level=DRIFTING,
            what=f"warm-up ended before latency was flat, and the first round is {abs(change):.1%} "
            f"{'slower' if change > 0 else 'faster'} than the others (limit {DRIFT_LIMIT:.0%})",
            do="raise --min-time or --rounds: warm-up may take "
            f"{profile.job.schedule.warmup_share:.0%} of the time that the rounds take",
        )


def mann_kendall(values: tuple[float, ...]) -> float:
    """Two-sided p-value of Mann's (1945) rank test against trend.

    Exact where all values differ and are at most ten, by counting permutations with as many inversions (Kendall 1938);
    else the normal approximation with continuity and tie correction.
    """
    n = len(values)
    score = sum((b > a) - (b < a) for a, b in combinations(values, 2))
    ties = [values.count(v) for v in set(values)]
    if n <= 10 and max(ties, default=1) == 1:
        ways = [1]
        for k in range(2, n + 1):
            ways = [sum(ways[max(0, i - k + 1) : i + 1]) for i in range(len(ways) + k - 1)]
        pairs = n * (n - 1) // 2
        return min(1.0, 2 * sum(ways[: (pairs - abs(score)) // 2 + 1]) / math.factorial(n))
    variance = (n * (n - 1) * (2 * n + 5) - sum(t * (t - 1) * (2 * t + 5) for t in ties)) / 18
    if variance <= 0:
        return 1.0
    return min(1.0, 2 * NormalDist().cdf(-max(0, abs(score) - 1) / math.sqrt(variance)))


# --- noisy ---------------------------------------------------------------------------------------------------------


def _noisy(profile: Profile, summary: Summary) -> Iterator[Reason]:
    quiet = "stop other programs on the device and " + REPEAT + " with more --rounds"
    if (n_runs := _n_runs(profile, summary)) < MIN_RUNS:
        what = f"{n_runs} runs are too few to judge their spread (at least {MIN_RUNS})"
        yield Reason(level=NOISY, what=what, do="raise --min-runs, and --max-time if rounds end before they have them")
    width = summary.relative_half_width
    if width is not None and width > HALF_WIDTH_LIMIT:
        size = f"+-{width:.1%}" if summary.is_interval_useful else "wider than the median itself"
        what = f"the {summary.confidence:.0%} interval of the median is {size} (limit +-{HALF_WIDTH_LIMIT:.0%})"
        yield Reason(level=NOISY, what=what, do=quiet)
    if (spread := _spread(profile, summary)) > SPREAD_LIMIT:
        what = f"single runs spread by {spread:.1%} of the median (limit {SPREAD_LIMIT:.0%})"
        yield Reason(level=NOISY, what=what, do=quiet)
    yield from _disturbed(profile)
    yield from _cut_short(profile)


def _n_runs(profile: Profile, summary: Summary) -> int:
    told = [r.n_runs or 0 for r in profile.rounds if r.told is not None]
    return sum(told) if told else summary.n_runs


def _spread(profile: Profile, summary: Summary) -> float:
    """Of single runs, where the rounds are means: the middle one of the rounds' standard deviations."""
    told = [r.told.std_s for r in profile.rounds if r.told is not None]
    return median(told) / summary.median_s if told else summary.relative_spread


def _disturbed(profile: Profile) -> Iterator[Reason]:
    stolen, other = stolen_share(profile), other_busy_share(profile)
    if stolen is not None and stolen > BUSY_LIMIT:
        yield Reason(
            level=NOISY,
            what=f"the hypervisor gave {stolen:.1%} of the CPU time to other machines (limit {BUSY_LIMIT:.0%})",
            do="measure on a machine of your own, or when its neighbours are quiet",
        )
    if other is not None and other > BUSY_LIMIT:
        yield Reason(
            level=NOISY,
            what=f"other programs used {other:.1%} of the device's CPU time during the rounds (limit {BUSY_LIMIT:.0%})",
            do="stop them: `top` on the device shows which they are",
        )


def _cut_short(profile: Profile) -> Iterator[Reason]:
    schedule = profile.job.schedule
    short = [n for r in profile.rounds if (n := (r.n_runs or len(r.latencies_s)) // r.streams) < schedule.min_runs]
    if short:
        yield Reason(
            level=NOISY,
            what=f"{len(short)} of {len(profile.rounds)} rounds ended at their limit of {schedule.max_s:g} s with only "
            f"{min(short)} of {schedule.min_runs} runs",
            do="raise --max-time, or ask for fewer runs: --min-runs",
        )
    if len(profile.rounds) < schedule.rounds and schedule.without_rest_s is None:
        what = f"only {len(profile.rounds)} of {schedule.rounds} rounds were measured"
        yield Reason(level=NOISY, what=what, do=REPEAT + " with a larger --deadline")


def other_busy_share(profile: Profile) -> float | None:
    """Share of all CPU time in the rounds that neither the measured process nor the hypervisor took."""
    spans = [
        (
            _delta(r.before.busy_s, r.after.busy_s),
            _delta(r.before.process_s, r.after.process_s),
            _stolen(r.before, r.after),
        )
        for r in profile.rounds
    ]
    known = [(busy - own - (stolen or 0.0)) for busy, own, stolen in spans if busy is not None and own is not None]
    total = _cpu_time_s(profile)
    return max(0.0, sum(known)) / total if total is not None and len(known) == len(profile.rounds) else None


def stolen_share(profile: Profile) -> float | None:
    """Share of all CPU time in the rounds that a hypervisor gave to other machines."""
    stolen = [s for r in profile.rounds if (s := _stolen(r.before, r.after)) is not None]
    total = _cpu_time_s(profile)
    return sum(stolen) / total if total is not None and len(stolen) == len(profile.rounds) else None


def _cpu_time_s(profile: Profile) -> float | None:
    totals = [t for r in profile.rounds if (t := _delta(r.before.total_s, r.after.total_s)) is not None]
    enough = len(totals) == len(profile.rounds) and sum(totals) >= MIN_CPU_TIME_S
    return sum(totals) if enough else None


def _stolen(before: Conditions, after: Conditions) -> float | None:
    return _delta(before.steal_s, after.steal_s)


def _delta(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


# --- steady-unverified ---------------------------------------------------------------------------------------------


def _unverified(profile: Profile) -> Iterator[Reason]:
    missing = unreadable(profile)
    if {"governor", "clock", "temperature"} <= missing.keys():
        yield Reason(
            level=STEADY_UNVERIFIED,
            what="governor, clock and temperature can all not be read: throttling would have gone unseen",
            do="nothing in a virtual machine or container; on a board, see that /sys/devices/system/cpu/cpufreq and "
            "/sys/class/thermal are there for the agent's user",
        )
    if 0 < len(profile.rounds) < MIN_ROUNDS:
        yield Reason(
            level=STEADY_UNVERIFIED,
            what=f"{len(profile.rounds)} rounds cannot show whether rounds differ (at least {MIN_ROUNDS})",
            do=f"ask for more: --rounds {MIN_ROUNDS} at least",
        )


def conditions(profile: Profile) -> list[Conditions]:
    """Every look at the device, in order."""
    return [c for r in profile.rounds for c in (r.before, r.after)]


def unreadable(profile: Profile) -> dict[str, str]:
    """Conditions that no look at the device could read, with the reason."""
    seen = conditions(profile)
    reasons = {what: why for c in seen for what, why in c.unreadable.items()}
    readable = {
        "governor": any(clock.governor for c in seen for clock in c.clocks),
        "clock": any(clock.current_hz or clock.time_in_state_s for c in seen for clock in c.clocks),
        "temperature": any(c.temperatures_c for c in seen),
        "load": any(c.load_1min is not None for c in seen),
        "cpu time": any(c.total_s is not None for c in seen),
        "own cpu time": any(c.process_s is not None for c in seen),
        "pressure": any(c.pressure_s for c in seen),
        "memory": any(c.memory_available_bytes is not None for c in seen),
        "power source": any(c.power_source for c in seen),
    }
    if "Raspberry Pi" in (profile.machine.model or ""):
        readable["throttle bits"] = any(c.throttled is not None for c in seen)
    usual = {"power source": "the kernel knows of no power supply"}
    missing = {
        what: reasons.get(what, usual.get(what, "the device did not tell"))
        for what, known in readable.items()
        if not known
    }
    return missing | {what: why for what, why in reasons.items() if what not in readable}


# --- notes ---------------------------------------------------------------------------------------------------------


def _notes(profile: Profile) -> Iterator[str]:
    if not profile.outputs_are_finite:
        # The wire says that some output is not finite, not that all are, and seeded random inputs may lie outside what
        # a model was made for (a logarithm of a negative number): this alone does not make a time wrong.
        yield (
            "some outputs are NaN or infinite for the seeded inputs: the model may take shortcuts there; "
            "check it with inputs of your own (--input)"
            if not profile.job.inputs
            else "some outputs are NaN or infinite for the inputs that were given"
        )
    if not profile.outputs_repeat:
        yield "equal inputs gave different outputs: the model keeps state or draws random numbers"
    if not profile.warmup_is_flat and not any(r.told for r in profile.rounds):
        yield "warm-up spent its share of the time before latency was flat"
    yield from clock_notes(profile)
    yield from phone_notes(profile)


def operator_notes(profile: Profile) -> tuple[str, ...]:
    """What is doubtful about the operator times; the verdict is of the latency pass and knows nothing of it."""
    recorded = profile.operators
    if recorded is None:
        return ()
    found = []
    if recorded.gate is not None and not recorded.gate.passed:
        causes = "; ".join(recorded.gate.reasons) or "no reason recorded"
        found.append(f"the operator pass began although the device was not quiet and cool: {causes}")
    told = (note for note in recorded.notes if note not in profile.notes)
    return (*found, *operator_throttling(profile), *told)
