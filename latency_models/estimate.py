"""What a predictor answers: a latency with its interval, a bill for each operator, and what it has never seen."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["BOUND", "DATA_SHEET", "LEARNED", "Estimate", "Interval", "OperatorEstimate", "Uncovered"]

# Where an estimate comes from: learned from measurements (which `Estimate.origin` of the predictor tells more of), or
# reckoned from a board's data sheet.
LEARNED, DATA_SHEET = "learned", "data-sheet"
# The basis of a kernel whose like was never measured.
BOUND = "bound"


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A value with the interval in which the truth lies with probability `level`, if what was calibrated holds."""

    value: float
    low: float
    high: float
    level: float


@dataclass(frozen=True, kw_only=True)
class Uncovered:
    """A kernel that the predictor has not seen the like of, and why; `latency_s` is a bound and no prediction.

    Where its shapes are not known before the model runs, it is what kernels of its type take in the median.
    """

    operator: str
    reason: str
    latency_s: float


@dataclass(frozen=True, kw_only=True)
class OperatorEstimate:
    """One kernel of the model: its share of the bill.

    `nodes` are the names of the graph's nodes that it runs, `family` how the predictor classes it. `basis` is "look-up"
    (this very kernel was measured), "learned", "extrapolated" (beyond what was measured), "bound" (see `Uncovered`), or
    "data-sheet". `distance` is how far it lies from what was measured: 0 inside, 1 a factor of two beyond. `low_s` and
    `high_s` are for this kernel alone, at the level of the whole estimate.
    """

    nodes: tuple[str, ...]
    family: str
    latency_s: float
    low_s: float
    high_s: float
    basis: str
    distance: float = 0.0
    macs: int | None = None
    energy_j: float | None = None


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The prediction for one model on one target.

    `latency_s` lies between `low_s` and `high_s` with probability `level` where the model is like those that the
    predictor was calibrated on; `distance` tells how far it is from that: the time-weighted mean of its kernels' (0 is
    inside). The interval widens with it. The sum over `operators` is not the latency: what they cost together is
    corrected (`explain` shows by how much). `energy` and `peak_memory` are None where nothing was trained, and the
    field with `_missing` says why. `uncovered` counts for its bound, never as zero. `notes` tell what does not fit:
    another version of the runtime, an assumed shape.
    """

    latency_s: float
    low_s: float
    high_s: float
    level: float
    origin: str
    target: str
    operators: tuple[OperatorEstimate, ...] = ()
    uncovered: tuple[Uncovered, ...] = ()
    distance: float = 0.0
    energy: Interval | None = None
    energy_missing: str | None = None
    peak_memory: Interval | None = None
    peak_memory_missing: str | None = None
    notes: tuple[str, ...] = field(default_factory=tuple)

    @property
    def is_covered(self) -> bool:
        """Whether every kernel is of a kind that was measured."""
        return not self.uncovered

    @property
    def undescribed_s(self) -> float:
        """Seconds of what is in no kernel of `operators`, its shapes not being known: bounds, as in `uncovered`."""
        bounded_s = sum(one.latency_s for one in self.operators if one.basis == BOUND)
        return max(0.0, sum(one.latency_s for one in self.uncovered) - bounded_s)

    @property
    def summed_s(self) -> float:
        """Seconds of all kernels and of what is in none, one after the other: before the correction for whole nets."""
        return sum(one.latency_s for one in self.operators) + self.undescribed_s

    @property
    def uncovered_share(self) -> float:
        """The part of that sum which stands on bounds alone."""
        total = self.summed_s
        return sum(one.latency_s for one in self.uncovered) / total if total else 0.0
