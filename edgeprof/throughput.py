"""How many inferences a second all streams made together. Pure functions; docs/measuring.md explains the interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from device_agents.wire import Profile
from edgeprof.statistics import MIN_ROUNDS, student_t

__all__ = ["Throughput", "throughput"]


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Inferences per second of all streams together: the geometric mean over rounds, and its interval at `confidence`.

    The interval is missing below `MIN_ROUNDS` rounds: within a round there is but one wall time.
    """

    streams: int
    inferences_per_s: float
    low_per_s: float | None
    high_per_s: float | None
    confidence: float


def throughput(profile: Profile, *, confidence: float = 0.95) -> Throughput | None:
    """How many inferences a second were made in the rounds; None where their wall time was not recorded.

    The interval is Student's, of the logarithms of the rounds' rates.
    """
    rounds = profile.rounds
    rates = [(r.n_runs or len(r.latencies_s)) / r.wall_s for r in rounds if r.wall_s is not None and r.wall_s > 0]
    if not rates or len(rates) < len(profile.rounds):
        return None
    logs = np.log(np.asarray(rates))
    margin = None
    if len(rates) >= MIN_ROUNDS:
        margin = student_t(confidence, len(rates) - 1) * float(logs.std(ddof=1)) / math.sqrt(len(rates))
    middle = float(np.exp(logs.mean()))
    return Throughput(
        streams=profile.job.options.streams,
        inferences_per_s=middle,
        low_per_s=None if margin is None else middle * math.exp(-margin),
        high_per_s=None if margin is None else middle * math.exp(min(margin, 500.0)),
        confidence=confidence,
    )
