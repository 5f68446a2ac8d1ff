"""Two profiles side by side: which is faster and how surely, and which recorded conditions differ.

Pure functions; docs/measuring.md explains the tests and the ranking.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from device_agents.wire import Profile
from edgeprof.differences import Difference, why
from edgeprof.errors import MeasurementError
from edgeprof.statistics import Array, MedianError, median_error, student_t, summarise, usable_rounds
from edgeprof.verdict import TRUSTED, judge

__all__ = ["Comparison", "Difference", "compare", "mann_whitney", "why"]

# Two sides of four units can reach p = 2/70 at best; with fewer the test could never call anything different at 5 %.
MIN_TEST_UNITS = 4
# Google's benchmark library prints "Results unreliable" below nine repetitions of a side.
RELIABLE_ROUNDS = 9
SIGNIFICANT = 0.05
POWER = 0.80
# Up to here every arrangement of ranks is counted; above, the normal approximation is good to a thousandth.
EXACT_UNITS = 25

FASTER, SLOWER, NO_DIFFERENCE, UNDECIDED = "faster", "slower", "no difference", "undecided"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Profile b against profile a. `ratio` is median b / median a, its interval is at `confidence`.

    `smallest_effect` is the relative change that these two profiles would have shown with 80 % probability.
    `p_value` is Mann and Whitney's; `p_unit` says whether it compares "round medians" or single "runs".
    `conclusion` is about b: faster, slower, no difference, or undecided where there is no interval.
    """

    median_a_s: float
    median_b_s: float
    ratio: float
    ratio_low: float | None
    ratio_high: float | None
    confidence: float
    p_value: float
    p_unit: str
    smallest_effect: float | None
    conclusion: str
    text: str
    warnings: tuple[str, ...]


def compare(a: Profile, b: Profile, *, seed: int = 0, confidence: float = 0.95) -> Comparison:
    """Compare the latency of two profiles.

    Raises:
        MeasurementError: one of them has no usable sample.
    """
    rounds_a, rounds_b = usable_rounds(a), usable_rounds(b)
    if not rounds_a or not rounds_b:
        side, profile = ("first", a) if not rounds_a else ("second", b)
        raise MeasurementError(
            f"{profile.job.model.name}: the {side} profile has no usable latency sample", "profile the model again"
        )
    middle_a, middle_b = float(np.median(np.concatenate(rounds_a))), float(np.median(np.concatenate(rounds_b)))
    ratio = middle_b / middle_a
    # Different seeds: the same draws on both sides would correlate what is independent.
    errors = median_error(rounds_a, seed), median_error(rounds_b, seed + 1)
    low, high, smallest = _interval(ratio, errors, confidence)
    p_value, p_unit = _test(rounds_a, rounds_b)
    conclusion = _conclusion(low, high)
    return Comparison(
        median_a_s=middle_a,
        median_b_s=middle_b,
        ratio=ratio,
        ratio_low=low,
        ratio_high=high,
        confidence=confidence,
        p_value=p_value,
        p_unit=p_unit,
        smallest_effect=smallest,
        conclusion=conclusion,
        text=_text(conclusion, ratio, low, high, smallest),
        warnings=(*_unlike(a, b), *_doubts(a, b), *_unreliable(rounds_a, rounds_b, p_value, p_unit, conclusion)),
    )


def _interval(
    ratio: float, errors: tuple[MedianError | None, MedianError | None], confidence: float
) -> tuple[float | None, float | None, float | None]:
    """(low, high, smallest detectable effect) from the standard errors of both log medians.

    The degrees of freedom are Welch's (1947), rounded down; the smallest effect adds the quantile of the power to that
    of the confidence (Cohen 1988; Bloom 1995).
    """
    a, b = errors
    if a is None or b is None:
        return None, None, None
    variance_a, variance_b = a.log_error**2, b.log_error**2
    error = math.sqrt(variance_a + variance_b)
    if error == 0:
        return ratio, ratio, 0.0
    # Weights rather than variances: the square of a tiny variance would be rounded to zero.
    weight_a, weight_b = variance_a / error**2, variance_b / error**2
    degrees = math.floor(1 / (weight_a**2 / (a.n_units - 1) + weight_b**2 / (b.n_units - 1)) + 1e-9)
    margin = error * student_t(confidence, degrees)
    smallest = margin + error * student_t(2 * POWER - 1, degrees)
    return ratio * math.exp(-min(margin, 500)), ratio * math.exp(min(margin, 500)), math.expm1(min(smallest, 500))


def _conclusion(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return UNDECIDED
    if high < 1:
        return FASTER
    return SLOWER if low > 1 else NO_DIFFERENCE


def _text(conclusion: str, ratio: float, low: float | None, high: float | None, smallest: float | None) -> str:
    if low is None or high is None or smallest is None:
        return f"too few runs to tell: the ratio of the medians is {ratio:.3f}, without an interval"
    if conclusion == NO_DIFFERENCE:
        return f"no difference detectable below {smallest:.1%}: ratio {ratio:.3f} ({low:.3f} to {high:.3f})"
    # Both ends as a change of the time, the smaller change first.
    ends = sorted(abs(end - 1) for end in (low, high))
    return f"{conclusion} by {abs(ratio - 1):.1%} ({ends[0]:.1%} to {ends[1]:.1%})"


# --- the rank test -------------------------------------------------------------------------------------------------


def _test(rounds_a: Sequence[Array], rounds_b: Sequence[Array]) -> tuple[float, str]:
    if min(len(rounds_a), len(rounds_b)) >= MIN_TEST_UNITS:
        return mann_whitney([float(np.median(r)) for r in rounds_a], [float(np.median(r)) for r in rounds_b]), (
            "round medians"
        )
    return mann_whitney(np.concatenate(rounds_a), np.concatenate(rounds_b)), "runs"


def mann_whitney(a: Sequence[float] | Array, b: Sequence[float] | Array) -> float:
    """Two-sided p-value of the rank test of Mann and Whitney (1947).

    Exact for small sides without ties; else the normal approximation with tie and continuity correction (Hollander &
    Wolfe, Nonparametric Statistical Methods, section 4.1).
    """
    pool = np.concatenate([np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)])
    n, m = len(a), len(b)
    _, inverse, sizes = np.unique(pool, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    ranks = (last - (sizes - 1) / 2)[inverse]
    u = float(ranks[:n].sum()) - n * (n + 1) / 2
    larger = max(u, n * m - u)
    if sizes.max() == 1 and max(n, m) <= EXACT_UNITS:
        ways = _arrangements(n, m)
        return min(1.0, 2 * sum(ways[round(larger) :]) / sum(ways))
    size = n + m
    ties = float((sizes.astype(np.float64) ** 3 - sizes).sum())
    variance = n * m / 12 * (size + 1 - ties / (size * (size - 1)))
    if variance <= 0:
        return 1.0
    return min(1.0, 2 * NormalDist().cdf(-(larger - n * m / 2 - 0.5) / math.sqrt(variance)))


def _arrangements(n: int, m: int) -> list[int]:
    """How many arrangements of n and m ranks give U = 0, 1, ..., n m: the Gaussian binomial coefficient (n+m, n)."""
    ways = [1] + [0] * (n * m)
    for k in range(1, n + 1):
        for u in range(n * m, m + k - 1, -1):
            ways[u] -= ways[u - m - k]
        for u in range(k, n * m + 1):
            ways[u] += ways[u - k]
    return ways


# --- warnings ------------------------------------------------------------------------------------------------------


def _unlike(a: Profile, b: Profile) -> list[str]:
    """What makes the two profiles answers to different questions; often on purpose, never to be overlooked."""
    pairs = [
        ("models differ", a.job.model.digest, b.job.model.digest),
        ("runtimes differ", f"{a.job.runtime} {a.runtime_version}", f"{b.job.runtime} {b.runtime_version}"),
        ("devices differ", _device(a), _device(b)),
        ("origins differ", a.origin, b.origin),
        ("inputs differ", a.input_digest, b.input_digest),
    ]
    found = [f"{what}: {left} and {right}" for what, left, right in pairs if left != right]
    if a.job.options != b.job.options:
        found.append("options differ: `edgeprof runs why` lists them")
    same_question = a.job.model.digest == b.job.model.digest and a.input_digest == b.input_digest
    if same_question and a.output_digest != b.output_digest and a.outputs_repeat and b.outputs_repeat:
        found.append("the same model gave different outputs for the same inputs")
    return found


def _device(profile: Profile) -> str:
    machine = profile.machine
    name = machine.model or machine.cpu or "unnamed machine"
    return f"{name} ({machine.architecture}, {machine.n_cpus} CPUs, {machine.kernel})"


def _doubts(a: Profile, b: Profile) -> list[str]:
    levels = [(name, judge(p, summarise(p)).level) for name, p in (("first", a), ("second", b))]
    return [f"the {name} profile is not trusted: {level}" for name, level in levels if level != TRUSTED]


def _unreliable(
    rounds_a: Sequence[Array], rounds_b: Sequence[Array], p_value: float, p_unit: str, conclusion: str
) -> list[str]:
    found = []
    fewest = min(len(rounds_a), len(rounds_b))
    if p_unit == "runs":
        found.append(
            f"with {fewest} rounds the rank test had to use single runs; runs of one round are alike, so its p-value "
            "is too small"
        )
    if fewest < RELIABLE_ROUNDS:
        found.append(f"unreliable: {fewest} rounds on one side, {RELIABLE_ROUNDS} or more on both are better")
    if conclusion != UNDECIDED and p_unit != "runs" and (p_value < SIGNIFICANT) != (conclusion != NO_DIFFERENCE):
        found.append(
            f"interval and rank test disagree (p = {p_value:.3g}): the difference is at the edge of what shows"
        )
    return found
