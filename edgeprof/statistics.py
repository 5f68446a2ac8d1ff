"""From raw samples to numbers: medians with intervals, and percentiles that the count carries.

Pure functions; docs/measuring.md explains every formula and constant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from device_agents.wire import Profile
from edgeprof.errors import MeasurementError

__all__ = [
    "MedianError",
    "Summary",
    "early_stopping_estimate",
    "median_error",
    "student_t",
    "summarise",
    "usable_rounds",
]

Array = NDArray[np.float64]

RESAMPLES = 2000
# Below this many rounds their differences say too little; contiguous blocks of runs are resampled instead. Ten
# blocks: more gain little and each becomes too short to hold the correlation (Schmeiser 1982, batch means).
MIN_ROUNDS = 3
BLOCKS = 10
# Makes the median absolute deviation of a normal distribution its standard deviation: 1 / Phi^-1(3/4).
MAD_TO_SIGMA = 1.4826
# An interval wider than its median says only that nothing is known; its digits would look like knowledge.
USELESS_HALF_WIDTH = 0.5
# MLPerf loadgen's confidence for its early-stopping percentile estimate.
TAIL_CONFIDENCE = 0.99


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What the latency samples of a profile say. The interval is for the median, at `confidence`.

    `error_unit` tells what was resampled: "round", "block of runs" (fewer than three rounds), or None where there
    were too few runs for an interval. A percentile that the count does not carry is None, with the reason beside it.
    `relative_spread` is 1.4826 MAD / median. Samples that no clock could have given are left out and counted.
    """

    n_runs: int
    n_discarded: int
    n_rounds: int
    confidence: float
    median_s: float
    median_low_s: float | None
    median_high_s: float | None
    interval_missing: str | None
    error_unit: str | None
    mean_s: float
    min_s: float
    max_s: float
    mad_s: float
    relative_spread: float
    p90_s: float | None
    p90_missing: str | None
    p99_s: float | None
    p99_missing: str | None
    round_medians_s: tuple[float, ...]
    first_inference_s: float
    import_s: float
    load_s: float
    initialise_s: float

    @property
    def relative_half_width(self) -> float | None:
        """Half the interval's width as a share of the median; None without an interval."""
        if self.median_low_s is None or self.median_high_s is None:
            return None
        return (self.median_high_s - self.median_low_s) / 2 / self.median_s

    @property
    def is_interval_useful(self) -> bool:
        """Whether there is an interval, and one that is no wider than the median itself."""
        half_width = self.relative_half_width
        return half_width is not None and half_width <= USELESS_HALF_WIDTH


@dataclass(frozen=True, kw_only=True)
class MedianError:
    """Standard error of the logarithm of the median, estimated from `n_units` units with one degree less."""

    log_error: float
    n_units: int
    unit: str


def usable_rounds(profile: Profile) -> list[Array]:
    """The positive, finite latencies of every round that has any."""
    rounds = [np.asarray(r.latencies_s, dtype=np.float64) for r in profile.rounds]
    usable = [r[np.isfinite(r) & (r > 0)] for r in rounds]
    return [r for r in usable if r.size]


def summarise(profile: Profile, *, seed: int = 0, confidence: float = 0.95) -> Summary:
    """Summarise the latency pass; the same profile and seed give the same numbers.

    Raises:
        MeasurementError: there is not one usable sample.
    """
    rounds = usable_rounds(profile)
    if not rounds:
        raise MeasurementError(
            f"{profile.job.model.name}: the profile has no usable latency sample", "profile the model again"
        )
    samples = np.concatenate(rounds)
    middle = float(np.median(samples))
    mad = float(np.median(np.abs(samples - middle)))
    error = median_error(rounds, seed)
    margin = None if error is None else error.log_error * student_t(confidence, error.n_units - 1)
    p90, p90_missing = _percentile(samples, 0.90)
    p99, p99_missing = _percentile(samples, 0.99)
    return Summary(
        n_runs=samples.size,
        n_discarded=sum(len(r.latencies_s) for r in profile.rounds) - samples.size,
        n_rounds=len(rounds),
        confidence=confidence,
        median_s=middle,
        median_low_s=None if margin is None else middle * _exp(-margin),
        median_high_s=None if margin is None else middle * _exp(margin),
        interval_missing=None if error else f"an interval needs at least 4 runs, there are {samples.size}",
        error_unit=error.unit if error else None,
        mean_s=float(samples.mean()),
        min_s=float(samples.min()),
        max_s=float(samples.max()),
        mad_s=mad,
        relative_spread=MAD_TO_SIGMA * mad / middle,
        p90_s=p90,
        p90_missing=p90_missing,
        p99_s=p99,
        p99_missing=p99_missing,
        round_medians_s=tuple(float(np.median(r)) for r in rounds),
        first_inference_s=profile.first_inference_s,
        import_s=profile.import_s,
        load_s=profile.load_s,
        initialise_s=profile.initialise_s,
    )


def _exp(x: float) -> float:
    # Two wildly different blocks can ask for more than a float holds; the interval is then just very wide.
    return math.exp(min(x, 500.0))


# --- the interval of the median ------------------------------------------------------------------------------------


def median_error(rounds: Sequence[Array], seed: int) -> MedianError | None:
    """Standard error of log(median) by resampling whole rounds; None where there are fewer than two units.

    Runs of one round share caches, clocks and temperature, so the round is the unit that is resampled (strategy 1 of
    Davison & Hinkley, Bootstrap Methods, 1997, section 3.8). Resampling n units underestimates the variance by
    (n-1)/n, which is corrected.
    """
    units, unit = list(rounds), "round"
    if len(rounds) < MIN_ROUNDS:
        units, unit = _blocks(rounds), "block of runs"
    if len(units) < 2:
        return None
    n = len(units)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    logs = np.log(_weighted_medians(units, weights))
    # Equal resamples must give exactly zero, not the rounding error of their mean.
    spread = 0.0 if np.ptp(logs) == 0 else float(logs.std(ddof=1))
    return MedianError(log_error=spread * math.sqrt(n / (n - 1)), n_units=n, unit=unit)


def _blocks(rounds: Sequence[Array]) -> list[Array]:
    """Cut few rounds into about `BLOCKS` contiguous blocks of at least two runs each."""
    per_round = BLOCKS // max(1, len(rounds))
    return [block for r in rounds for block in np.array_split(r, max(1, min(per_round, r.size // 2)))]


def _weighted_medians(units: Sequence[Array], weights: NDArray[np.int64]) -> Array:
    """The median of every resample, where row i of `weights` says how often each unit is in resample i.

    Found by bisection over the sorted pool: 100,000 samples cost 17 steps, not 2000 sorts.
    """
    pool = np.concatenate(units)
    order = np.argsort(pool, kind="stable")
    values = pool[order]
    owner = np.repeat(np.arange(len(units)), [u.size for u in units])[order]
    # counts[k, u]: how many samples of unit u are among the first k of the pool.
    counts = np.zeros((pool.size + 1, len(units)), dtype=np.int64)
    counts[np.arange(1, pool.size + 1), owner] = 1
    np.cumsum(counts, axis=0, out=counts)
    totals = weights @ counts[-1]
    lower = _rank_values(values, counts, weights, (totals + 1) // 2)
    upper = _rank_values(values, counts, weights, totals // 2 + 1)
    return (lower + upper) / 2


def _rank_values(
    values: Array, counts: NDArray[np.int64], weights: NDArray[np.int64], ranks: NDArray[np.int64]
) -> Array:
    low = np.zeros(len(weights), dtype=np.int64)
    high = np.full(len(weights), values.size, dtype=np.int64)
    while np.any(low < high):
        middle = (low + high) // 2
        reached = np.einsum("ij,ij->i", weights, counts[middle]) >= ranks
        high = np.where(reached, middle, high)
        low = np.where(reached, low, np.minimum(middle + 1, high))
    return values[high - 1]


def student_t(confidence: float, degrees: int) -> float:
    """The t for which a Student variable of whole `degrees` lies in (-t, t) with probability `confidence`.

    Closed form of the distribution: Abramowitz & Stegun 26.7.3 and 26.7.4; inverted by bisection on the angle.
    """
    if degrees > 200:
        return NormalDist().inv_cdf((1 + confidence) / 2)
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        angle = (low + high) / 2
        low, high = (angle, high) if _student_probability(angle, degrees) < confidence else (low, angle)
    return math.sqrt(degrees) * math.tan((low + high) / 2)


def _student_probability(angle: float, degrees: int) -> float:
    sine, cosine = math.sin(angle), math.cos(angle)
    is_odd = degrees % 2 == 1
    term = total = cosine if is_odd else 1.0
    for k in range(3 if is_odd else 2, degrees - 1, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    if is_odd:
        return 2 / math.pi * (angle + (sine * total if degrees > 1 else 0.0))
    return sine * total


# --- percentiles ---------------------------------------------------------------------------------------------------


def _percentile(samples: Array, share: float) -> tuple[float | None, str | None]:
    estimate = early_stopping_estimate(samples, share)
    if estimate is not None:
        return estimate, None
    return None, f"p{share * 100:.0f} needs at least {_runs_needed(share)} runs, there are {samples.size}"


def early_stopping_estimate(samples: Array, share: float) -> float | None:
    """A percentile by MLPerf's early-stopping rule; None where the count does not carry it.

    With t the largest count for which Binomial(n, 1 - share) is at most t with probability 1 %, the t - 1 worst
    samples are left out and the worst of the rest is the estimate: with 99 % confidence the percentile is no higher
    (MLCommons inference rules, loadgen/early_stopping.cc with d = 0, c = 0.99).
    """
    t = _tolerated(samples.size, share)
    return None if t < 1 else float(np.sort(samples)[samples.size - t])


def _tolerated(n: int, share: float) -> int:
    """The largest t with P(Binomial(n, 1 - share) <= t) <= 1 %, or less than 1 where there is none worth using."""
    k = np.arange(1, int(n * (1 - share)) + 2)
    logs = n * math.log(share) + np.cumsum(np.log((n - k + 1) / k) + math.log((1 - share) / share))
    probabilities = share**n + np.cumsum(np.exp(logs))
    return int(np.searchsorted(probabilities, 1 - TAIL_CONFIDENCE, side="right"))


def _runs_needed(share: float) -> int:
    n = 2
    while _tolerated(n, share) < 1:
        n += 1
    return n
