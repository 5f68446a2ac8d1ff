"""The race on the device: candidates run in turns, again and again, and those that cannot win stop early.

Of every sweep only the ratio to the original of the same sweep is used, so that a device that grows warm, or busy, is
no candidate's luck. Pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeprof.statistics import student_t
from edgeprof.values import Value

__all__ = ["CONFIDENCE", "Standing", "standing", "survivors"]

CONFIDENCE = 0.95
# A ratio known so well, to either side, needs no more sweeps; what devices differ by from day to day is more.
WELL_KNOWN = 0.01
# Of sweeps that agree by chance the spread says too little: no interval is narrower than this, to either side.
LEAST_HALF_WIDTH = 0.002


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A candidate after some sweeps: how many times faster than the original it is, and what its latency is."""

    name: str
    n_sweeps: int
    speedup: Value
    latency: Value


def standing(name: str, sweeps: Sequence[tuple[Value, Value]], confidence: float = CONFIDENCE) -> Standing:
    """Of one or more (latency of the candidate, latency of the original in that sweep).

    Of several sweeps the interval is Student's over the logarithms of their ratios; of one it is what the two intervals
    allow.
    """
    logs = np.log([of_candidate.value / of_original.value for of_candidate, of_original in sweeps])
    middle = float(logs.mean())
    if len(logs) > 1:
        error = float(logs.std(ddof=1)) / math.sqrt(len(logs))
        half = student_t(confidence, len(logs) - 1) * error
    else:
        half = max(_half_width(value) for value in sweeps[0]) * math.sqrt(2.0)
    half = max(half, LEAST_HALF_WIDTH)
    origin = sweeps[0][0].origin
    own = np.log([of_candidate.value for of_candidate, _ in sweeps])
    latency = math.exp(float(own.mean()))
    spread = half
    if len(own) > 1:
        spread = max(
            student_t(confidence, len(own) - 1) * float(own.std(ddof=1)) / math.sqrt(len(own)), LEAST_HALF_WIDTH
        )
    return Standing(
        name=name,
        n_sweeps=len(sweeps),
        speedup=Value(math.exp(-middle), math.exp(-middle - half), math.exp(-middle + half), origin),
        latency=Value(latency, latency * math.exp(-spread), latency * math.exp(spread), origin),
    )


def _half_width(value: Value) -> float:
    """Of the interval, in logarithms."""
    return max(math.log(value.high / value.value), math.log(value.value / value.low)) if value.low > 0 else math.inf


def survivors(standings: Sequence[Standing], sizes: Mapping[str, int], losses: Mapping[str, float]) -> list[str]:
    """Who is worth another sweep.

    Not: who another is faster than for sure, and no larger and no less accurate; and who cannot be the fastest any
    more and is known well.
    """
    fastest = max(standings, key=lambda one: one.speedup.low)

    def is_beaten(one: Standing) -> bool:
        return any(
            other.speedup.low > one.speedup.high
            and sizes[other.name] <= sizes[one.name]
            and losses[other.name] <= losses[one.name]
            for other in standings
        )

    def is_settled(one: Standing) -> bool:
        width = math.log(one.speedup.high / one.speedup.low) / 2
        return one.n_sweeps > 1 and one.speedup.high < fastest.speedup.low and width < 3 * WELL_KNOWN

    def is_known(one: Standing) -> bool:
        return one.n_sweeps > 2 and math.log(one.speedup.high / one.speedup.low) / 2 < WELL_KNOWN

    return [one.name for one in standings if not (is_beaten(one) or is_settled(one) or is_known(one))]
