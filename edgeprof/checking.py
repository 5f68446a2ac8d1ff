"""Measure a baseline and a candidate in turn on one device until it is clear whether the candidate may be released."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from device_agents import wire
from edgeprof.budgets import Budget
from edgeprof.comparison import compare, why
from edgeprof.errors import MeasurementError, UsageError
from edgeprof.models import ModelFile
from edgeprof.profiling import OpenDevice, Settings
from edgeprof.regression import (
    BASELINE,
    CANDIDATE,
    FAILED,
    INCONCLUSIVE,
    PASSED,
    Estimate,
    Plan,
    decide,
    estimate,
    pair_orders,
)
from edgeprof.run import Run
from edgeprof.statistics import usable_rounds
from edgeprof.verdict import judge

__all__ = [
    "Check",
    "Limits",
    "Outcome",
    "Side",
    "as_blocks",
    "check_against_stored",
    "check_interleaved",
    "merge_blocks",
    "settings_of",
]

REGRESSION = "regression"
# A block by default: as many runs as a round has, in half the time, because there are many blocks.
BLOCK_RUNS, BLOCK_S = 20, 0.5
# Seconds of a simulated board's own time that a block may wait for it to cool down.
SIMULATED_PATIENCE_S = 3600.0

OnProgress = Callable[[wire.Progress], None]


@dataclass(frozen=True, kw_only=True)
class Side:
    """A model and how to measure it."""

    model: ModelFile
    settings: Settings


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the candidate must keep: `max_regression` is the share by which its latency may exceed the baseline's."""

    max_regression: float
    budgets: tuple[Budget, ...] = ()
    require_trusted: bool = False


@dataclass(frozen=True, kw_only=True)
class Check:
    """One question and its answer. `found` is a ratio, seconds or bytes, as the limit; low and high are its interval.

    Where there is no interval (a count of bytes, a verdict) low and high are None. `text` says the answer in words.
    """

    name: str
    decision: str
    text: str
    found: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    smallest_effect: float | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Both runs with every check. `baseline` and `candidate` are whole runs, kept so that anybody can look again.

    `log_ratios` has the logarithm of candidate over baseline for every pair, in order; empty if not interleaved.
    """

    baseline: Run
    candidate: Run
    checks: tuple[Check, ...]
    max_regression: float
    confidence: float
    n_pairs: int
    max_pairs: int
    log_ratios: tuple[float, ...] = ()
    is_interleaved: bool = True
    warnings: tuple[str, ...] = ()

    @property
    def regression(self) -> Check:
        return self.checks[0]

    @property
    def decision(self) -> str:
        """Failed if any check failed, else inconclusive if any is, else passed."""
        decisions = {check.decision for check in self.checks}
        return next((d for d in (FAILED, INCONCLUSIVE) if d in decisions), PASSED)


def settings_of(base: Run) -> Settings:
    """How a baseline was measured, without its shapes, which come with the model that is read."""
    job = base.profile.job
    return Settings(
        runtime=job.runtime,
        options=replace(job.options, shapes={}),
        schedule=job.schedule,
        gate=job.gate,
        seed=job.seed,
        deadline_s=job.deadline_s,
        check_outputs=False,
        clock_caps=job.clock_caps,
    )


def as_blocks(settings: Settings, min_runs: int = BLOCK_RUNS, min_s: float = BLOCK_S) -> Settings:
    """The same in one short round. Every block starts cold, so warm-up may take as long as the block."""
    schedule = replace(
        settings.schedule,
        rounds=1,
        min_runs=min_runs,
        min_s=min_s,
        max_s=max(settings.schedule.max_s, min_s),
        warmup_share=1.0,
    )
    return replace(settings, schedule=schedule)


# --- interleaved ---------------------------------------------------------------------------------------------------


def check_interleaved(
    opened: OpenDevice,
    baseline: Side,
    candidate: Side,
    limits: Limits,
    *,
    plan: Plan | None = None,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Outcome:
    """Measure pairs of blocks until every limit is decided, or as many as the plan has.

    Each block is a profile of its own with one round, in a process of its own.

    Raises:
        MeasurementError: a block has no usable sample.
        EdgeprofError: whatever keeps the device from measuring.
    """
    plan = plan or Plan()
    sides = {BASELINE: baseline, CANDIDATE: candidate}
    blocks: dict[str, list[Run]] = {BASELINE: [], CANDIDATE: []}
    patience_s = {name: side.settings.gate.timeout_s for name, side in sides.items()}
    ratios: list[float] = []
    checks: tuple[Check, ...] = ()
    for k, order in enumerate(pair_orders(plan.looks[-1], seed)):
        for name in order:
            _tell(on_progress, k, plan, name)
            settings = _of_block(opened, sides[name].settings, patience_s[name], seed, 2 * k + (name == CANDIDATE))
            run = opened.profile(sides[name].model, settings)
            patience_s[name] = max(0.0, patience_s[name] - sum(r.gate.waited_s for r in run.profile.rounds))
            blocks[name].append(run)
        ratios.append(_log_median(blocks[CANDIDATE][-1]) - _log_median(blocks[BASELINE][-1]))
        if k + 1 in plan.looks:
            checks = (_regression(ratios, limits, plan), *_budget_checks(blocks[CANDIDATE], limits.budgets, plan))
            if all(check.decision != INCONCLUSIVE for check in checks):
                break
    runs = [
        merge_blocks(blocks[name], f"{len(ratios)} blocks, measured in turn with {_named(sides[other])}")
        for name, other in ((BASELINE, CANDIDATE), (CANDIDATE, BASELINE))
    ]
    return Outcome(
        baseline=runs[0],
        candidate=runs[1],
        checks=(*checks, *_trust(runs, limits)),
        max_regression=limits.max_regression,
        confidence=plan.confidence,
        n_pairs=len(ratios),
        max_pairs=plan.looks[-1],
        log_ratios=tuple(ratios),
        warnings=tuple(_doubts(runs)),
    )


def _tell(on_progress: OnProgress | None, k: int, plan: Plan, name: str) -> None:
    if on_progress is not None:
        on_progress(wire.Progress(f"pair {k + 1} of at most {plan.looks[-1]}: {name}", k, plan.looks[-1]))


def _of_block(opened: OpenDevice, settings: Settings, patience_s: float, seed: int, index: int) -> Settings:
    """One block's settings: what is left of the waiting, and on a simulated board noise of its own.

    On real devices the seed makes the inputs, which must stay the same.
    """
    if opened.device.board is None:
        return replace(settings, gate=replace(settings.gate, timeout_s=patience_s))
    # Its time costs nothing, so it may always cool down.
    gate = replace(settings.gate, timeout_s=SIMULATED_PATIENCE_S)
    drawn = int(np.random.default_rng([abs(settings.seed), seed, index]).integers(2**31))
    return replace(settings, gate=gate, seed=drawn)


def _log_median(run: Run) -> float:
    rounds = usable_rounds(run.profile)
    if not rounds:
        raise MeasurementError(
            f"{run.device}: {run.profile.job.model.name}: a block has no usable latency sample", "check again"
        )
    return math.log(float(np.median(np.concatenate(rounds))))


def _log_first(run: Run) -> float:
    first_s = run.profile.first_inference_s
    if not first_s > 0:
        raise MeasurementError(
            f"{run.device}: {run.profile.job.model.name}: the first inference took {first_s} s by the device's clock",
            "the clock is too coarse for this model: leave the budget for first_inference out",
        )
    return math.log(first_s)


def _named(side: Side) -> str:
    return f"{side.model.name} ({side.model.digest[:12]})"


def merge_blocks(blocks: Sequence[Run], note: str) -> Run:
    """One run of all blocks, a round each; load and first inference are those of the first block."""
    first = blocks[0]
    profiles = [block.profile for block in blocks]
    peaks = [p.memory_peak_bytes for p in profiles]
    rounds = [r for p in profiles for r in p.rounds]
    job = first.profile.job
    merged = replace(
        first.profile,
        job=replace(job, schedule=replace(job.schedule, rounds=len(rounds))),
        rounds=tuple(_one_after_another(rounds) if first.profile.origin == wire.SIMULATED else rounds),
        warmup_is_flat=all(p.warmup_is_flat for p in profiles),
        outputs_are_finite=all(p.outputs_are_finite for p in profiles),
        outputs_repeat=all(p.outputs_repeat for p in profiles),
        memory_peak_bytes=max((peak for peak in peaks if peak is not None), default=None),
    )
    start = "each a process of its own; load and first inference are those of the first"
    return replace(first, profile=merged, notes=(*first.notes, f"{note}, {start}"))


def _one_after_another(rounds: Iterable[wire.Round]) -> list[wire.Round]:
    """A simulated board's clock starts at zero with every block: let each go on where the one before it ended."""
    moved: list[wire.Round] = []
    offset_s = 0.0
    for r in rounds:
        before = replace(r.before, at_s=r.before.at_s + offset_s)
        after = replace(r.after, at_s=r.after.at_s + offset_s)
        moved.append(replace(r, before=before, after=after))
        offset_s = after.at_s
    return moved


# --- answers -------------------------------------------------------------------------------------------------------


def _regression(ratios: Sequence[float], limits: Limits, plan: Plan) -> Check:
    return _regression_check(estimate(ratios, plan), limits.max_regression)


def _regression_check(found: Estimate, margin: float) -> Check:
    decision = decide(found, 1 + margin)
    ratio = f"ratio {found.middle:.4f} ({found.low:.4f} to {found.high:.4f})"
    allowed = f"{margin * 100:.3g} %"
    words = {
        PASSED: f"not slower by {allowed} or more: {ratio}",
        FAILED: f"slower by more than {allowed}: {ratio}",
        INCONCLUSIVE: f"cannot be decided: {ratio} holds the limit {1 + margin:.4g}; the smallest difference that this "
        f"comparison shows is {found.smallest_effect:.1%}",
    }
    return Check(
        name=REGRESSION,
        decision=decision,
        text=words[decision],
        found=found.middle,
        low=found.low,
        high=found.high,
        limit=1 + margin,
        smallest_effect=found.smallest_effect,
    )


def _budget_checks(blocks: Sequence[Run], budgets: Sequence[Budget], plan: Plan) -> list[Check]:
    return [_budget_check(blocks, budget, plan) for budget in budgets]


def _budget_check(blocks: Sequence[Run], budget: Budget, plan: Plan) -> Check:
    if budget.key == "latency":
        return _time_check([_log_median(block) for block in blocks], budget, plan)
    if budget.key == "first_inference":
        return _time_check([_log_first(block) for block in blocks], budget, plan)
    if budget.key == "size":
        return _count_check(sum(f.size_bytes for f in blocks[0].profile.job.model.files), budget)
    peaks = [p for block in blocks if (p := block.profile.memory_peak_bytes) is not None]
    return _count_check(max(peaks, default=None), budget)


def _time_check(logarithms: Sequence[float], budget: Budget, plan: Plan) -> Check:
    if len(logarithms) < 2:
        return _count_check(math.exp(logarithms[0]), budget)
    found = estimate(logarithms, plan)
    decision = decide(found, budget.limit)
    words = {PASSED: "within", FAILED: "over", INCONCLUSIVE: "too close to decide to"}[decision]
    return Check(
        name=f"budget {budget.key}",
        decision=decision,
        text=f"{words} {budget.text}: {found.middle:.4g} s ({found.low:.4g} to {found.high:.4g} s)",
        found=found.middle,
        low=found.low,
        high=found.high,
        limit=budget.limit,
        smallest_effect=found.smallest_effect,
    )


def _count_check(found: float | None, budget: Budget) -> Check:
    """Of a figure without an interval: the size of a file, the highest peak, a single observation."""
    name = f"budget {budget.key}"
    if found is None:
        return Check(
            name=name, decision=INCONCLUSIVE, text=f"the device does not tell its {budget.key}", limit=budget.limit
        )
    unit = "s" if budget.is_time else "bytes"
    decision = PASSED if found <= budget.limit else FAILED
    figure = f"{found:.4g}" if budget.is_time else f"{found:.0f}"
    text = f"{'within' if decision == PASSED else 'over'} {budget.text}: {figure} {unit}"
    return Check(name=name, decision=decision, text=text, found=found, limit=budget.limit)


def _trust(runs: Sequence[Run], limits: Limits) -> list[Check]:
    if not limits.require_trusted:
        return []
    found = []
    for name, run in zip((BASELINE, CANDIDATE), runs, strict=True):
        level, origin = judge(run.profile).level, run.profile.origin
        is_trusted = level == "trusted" and origin == wire.MEASURED
        decision = PASSED if is_trusted else FAILED
        found.append(Check(name=f"trusted {name}", decision=decision, text=f"the verdict is {level}, {origin}"))
    return found


def _doubts(runs: Sequence[Run]) -> Iterable[str]:
    for name, run in zip((BASELINE, CANDIDATE), runs, strict=True):
        verdict = judge(run.profile)
        if not verdict.is_trusted:
            levels = ", ".join(dict.fromkeys(reason.level for reason in verdict.reasons))
            yield f"the {name}'s verdict is {levels}; the reasons: edgeprof runs show {run.id}"
        if run.profile.origin != wire.MEASURED:
            yield f"the {name} is {run.profile.origin}, not measured on real hardware"


# --- against stored samples ----------------------------------------------------------------------------------------


def check_against_stored(
    opened: OpenDevice,
    stored: Run,
    candidate: Side,
    limits: Limits,
    *,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Outcome:
    """Measure the candidate alone, as the baseline once was, and compare with the baseline's stored samples.

    What changed on the device since then counts as if the model had changed; the warnings list what is known of it.

    Raises:
        UsageError: the baseline was measured on another device.
        MeasurementError: there are too few samples for an interval.
    """
    run = opened.profile(candidate.model, candidate.settings, on_progress)
    _require_same_device(stored, run)
    comparison = compare(stored.profile, run.profile, seed=seed)
    low, high, smallest = comparison.ratio_low, comparison.ratio_high, comparison.smallest_effect
    if low is None or high is None or smallest is None:
        raise MeasurementError(f"{comparison.text}", "measure both with more rounds")
    plan = Plan(looks=(len(run.profile.rounds),))
    ratio = Estimate(middle=comparison.ratio, low=low, high=high, n=1, smallest_effect=smallest)
    text = "measured on another occasion than the baseline, not in turn with it: a change of the device looks the same"
    differing = [f"differs: {d.condition}: {d.a} and {d.b}" for d in why(stored, run)]
    rounds = [_one_round(run, k) for k in range(len(run.profile.rounds))]
    budgets = [_budget_check(rounds if budget.key == "latency" else [run], budget, plan) for budget in limits.budgets]
    return Outcome(
        baseline=stored,
        candidate=run,
        checks=(_regression_check(ratio, limits.max_regression), *budgets, *_trust([stored, run], limits)),
        max_regression=limits.max_regression,
        confidence=comparison.confidence,
        n_pairs=0,
        max_pairs=0,
        is_interleaved=False,
        warnings=(text, *differing, *_doubts([stored, run])),
    )


def _one_round(run: Run, k: int) -> Run:
    return replace(run, profile=replace(run.profile, rounds=(run.profile.rounds[k],)))


def _require_same_device(stored: Run, run: Run) -> None:
    left, right = stored.profile.machine, run.profile.machine
    same = (left.model, left.architecture, left.cpu, left.n_cpus) == (
        right.model,
        right.architecture,
        right.cpu,
        right.n_cpus,
    )
    if not same or stored.device != run.device or stored.profile.origin != run.profile.origin:
        raise UsageError(
            f"the baseline was measured on {stored.device} ({left.model or left.cpu}, {stored.profile.origin}), not on "
            f"{run.device} ({right.model or right.cpu}, {run.profile.origin})",
            "measure both in turn on one device: name the baseline's file with --baseline-model",
        )
