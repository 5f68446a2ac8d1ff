"""How exact the measurements of a tuning are, judged by all of them and not by a few rounds of one.

An interval of three rounds is now and then far too narrow by luck, and wide on average (Student's t). So every error is
drawn towards what is usual at its level, as is done for genes of which each was seen a few times (Smyth, 2004), and all
of them are scaled by how much configurations that were measured again differed from themselves.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgeprof.tuning.objective import Measured
from edgeprof.tuning.racing import Z_95, log_error
from edgeprof.values import Value

__all__ = ["Exactness"]

# What is usual counts as much as so many degrees of freedom, beside the two of a measurement's own three rounds.
USUAL, OWN = 4.0, 2.0
# That errors are right as they are told counts as much as so many repetitions; they never shrink to less than a share.
AS_TOLD, LEAST_SCALE = 6.0, 0.4

Seen = tuple[int, Measured]


class Exactness:
    """Of the measurements of a tuning, (how thoroughly, what was seen) by configuration."""

    def __init__(self, seen: Mapping[int, Sequence[Seen]]) -> None:
        self._usual: dict[tuple[str, int], float] = {}
        self._scale = {"latency": 1.0, "energy": 1.0}
        for what in self._scale:
            by_level: dict[int, list[float]] = {}
            for repeated in seen.values():
                for level, measured in repeated:
                    value = getattr(measured, what)
                    if value is not None and value.value > 0:
                        by_level.setdefault(level, []).append(log_error(value))
            self._usual.update({(what, level): statistics.median(errors) for level, errors in by_level.items()})
            self._scale[what] = self._scale_of(what, list(seen.values()))

    def steady(self, seen: Seen) -> Measured:
        """The measurement with the errors that are to be expected of it."""
        level, measured = seen
        return replace(
            measured,
            latency=self._steadied("latency", level, measured.latency),
            energy=self._steadied("energy", level, measured.energy),
        )

    def _steadied(self, what: str, level: int, value: Value | None) -> Value | None:
        if value is None or value.value <= 0:
            return value
        half = Z_95 * self._error(what, level, value) * self._scale[what]
        return Value(value.value, value.value * math.exp(-half), value.value * math.exp(half), value.origin)

    def _error(self, what: str, level: int, value: Value) -> float:
        own, usual = log_error(value), self._usual.get((what, level))
        if usual is None:
            return own
        return math.sqrt((OWN * own**2 + USUAL * usual**2) / (OWN + USUAL))

    def _scale_of(self, what: str, seen: Sequence[Sequence[Seen]]) -> float:
        """By how much what was measured again differed from itself, in units of the errors."""
        excess, n = AS_TOLD, AS_TOLD
        for repeated in seen:
            known = [(getattr(one, what), level) for level, one in repeated if getattr(one, what) is not None]
            known = [(value, level) for value, level in known if value.value > 0]
            if len(known) < 2:
                continue
            errors = [self._error(what, level, value) for value, level in known]
            logs = [math.log(value.value) for value, _ in known]
            weights = [error**-2 for error in errors]
            mean = sum(w * x for w, x in zip(weights, logs, strict=True)) / sum(weights)
            excess += sum(w * (x - mean) ** 2 for w, x in zip(weights, logs, strict=True))
            n += len(known) - 1
        return max(math.sqrt(excess / n), LEAST_SCALE)
