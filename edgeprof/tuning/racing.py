"""What several measurements of one configuration say together, and which configurations may still be the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from edgeprof.tuning.objective import Measured, Objective
from edgeprof.values import Value

__all__ = ["Z_95", "Combined", "combined", "contenders", "log_error"]

# Intervals are of 95 %; one without width (nothing was seen to vary) still says no more than so much.
Z_95 = NormalDist().inv_cdf(0.975)
LEAST_LOG_ERROR = 1e-4


@dataclass(frozen=True, kw_only=True)
class Combined:
    """A configuration by its place, with what all of its measurements say: the objective and, if known, the latency."""

    place: int
    value: Value
    latency: Value | None
    keeps_budget: bool
    may_keep_budget: bool


def log_error(value: Value) -> float:
    """Standard error of the logarithm."""
    if value.low <= 0 or value.high <= value.low:
        return LEAST_LOG_ERROR
    return max(math.log(value.high / value.low) / (2 * Z_95), LEAST_LOG_ERROR)


def combined(place: int, measured: Sequence[Measured], objective: Objective) -> Combined | None:
    """What the measurements of one configuration say together; None where none of them tells its objective."""
    values = [value for value in map(objective.value, measured) if value is not None and value.value > 0]
    latencies = [one.latency for one in measured if one.latency is not None and one.latency.value > 0]
    if not values or any(one.failure is not None for one in measured):
        return None
    latency = _together(latencies) if latencies else None
    together = Measured(latency=latency)
    budget_s = objective.latency_budget_s
    return Combined(
        place=place,
        value=_together(values),
        latency=latency,
        keeps_budget=objective.keeps_budget(together),
        may_keep_budget=budget_s is None or (latency is not None and latency.low <= budget_s),
    )


def contenders(known: Sequence[Combined]) -> list[Combined]:
    """Those that may be the best, most likely first: no configuration that keeps the budget is surely better.

    Where none surely keeps the budget, those that may; where none may, the one that comes nearest.
    """
    sure = [one for one in known if one.keeps_budget]
    if not sure:
        possible = [one for one in known if one.may_keep_budget]
        if possible:
            return sorted(possible, key=lambda one: one.value.value)
        return sorted((one for one in known if one.latency is not None), key=_latency)[:1]
    best = min(sure, key=lambda one: one.value.value)
    others = [one for one in known if one is not best and one.may_keep_budget and one.value.low <= best.value.high]
    return [best, *sorted(others, key=lambda one: one.value.value)]


def _together(values: Sequence[Value]) -> Value:
    """Weighted by their errors; the interval is wider where they disagree by more than these explain (Birge, 1932)."""
    weights = [log_error(value) ** -2 for value in values]
    logs = [math.log(value.value) for value in values]
    mean = sum(w * x for w, x in zip(weights, logs, strict=True)) / sum(weights)
    error = sum(weights) ** -0.5
    if len(values) > 1:
        excess = sum(w * (x - mean) ** 2 for w, x in zip(weights, logs, strict=True)) / (len(values) - 1)
        error *= math.sqrt(max(1.0, excess))
    half = Z_95 * error
    return Value(math.exp(mean), math.exp(mean - half), math.exp(mean + half), values[-1].origin)


def _latency(one: Combined) -> float:
    return one.latency.value if one.latency is not None else math.inf
