"""A number with an interval and its origin, and those that a run has: of its latency, and of its energy."""

from __future__ import annotations

from dataclasses import dataclass

from edgeprof.energy.model import model_energy
from edgeprof.errors import MeasurementError
from edgeprof.run import Run
from edgeprof.statistics import summarise

__all__ = ["Value", "values_of"]


@dataclass(frozen=True)
class Value:
    """A number between `low` and `high`; `origin` is measured, predicted, emulated, simulated, or how trained."""

    value: float
    low: float
    high: float
    origin: str

    def overlaps(self, other: Value) -> bool:
        """Whether the two cannot be told apart."""
        return self.low <= other.high and other.low <= self.high


def values_of(run: Run) -> dict[str, Value]:
    """`latency` in seconds with the interval of its median, and `energy` in joules above rest where it was measured.

    Raises:
        MeasurementError: nothing can be said of the run.
    """
    found = summarise(run.profile)
    origin = run.profile.origin
    low, high = found.median_low_s, found.median_high_s
    if low is None or high is None:  # too few runs for an interval: all that was seen
        low, high = found.min_s, found.max_s
    values = {"latency": Value(found.median_s, low, high, origin)}
    if run.profile.energy is not None:
        try:
            energy = model_energy(run.profile.energy)
        except MeasurementError:
            return values  # a pass without a number says nothing
        per_run = energy.net_j
        values["energy"] = Value(per_run.value, per_run.low, per_run.high, origin)
    return values
