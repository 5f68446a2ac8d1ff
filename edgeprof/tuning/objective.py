"""What a tuning is after, and what measuring a configuration tells of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeprof.errors import UsageError
from edgeprof.values import Value

__all__ = ["EDP", "ENERGY", "LATENCY", "OBJECTIVES", "Measured", "Objective"]

LATENCY, ENERGY, EDP = "latency", "energy", "edp"
# With the unit of each: seconds, joules an inference, and their product.
OBJECTIVES = {LATENCY: "s", ENERGY: "J", EDP: "J s"}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What measuring a configuration gave: seconds and joules an inference. `failure` says why there is nothing."""

    latency: Value | None = None
    energy: Value | None = None
    failure: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What shall be small: latency, energy or their product, and how long an inference may take at most.

    Raises:
        UsageError: there is no such objective, or nothing can keep the budget.
    """

    name: str = LATENCY
    latency_budget_s: float | None = None

    def __post_init__(self) -> None:
        if self.name not in OBJECTIVES:
            raise UsageError(f"there is no objective {self.name!r}", f"use one of {', '.join(OBJECTIVES)}")
        if self.latency_budget_s is not None and not 0 < self.latency_budget_s < math.inf:
            raise UsageError(f"a latency budget cannot be {self.latency_budget_s} s", "give a positive time")

    @property
    def unit(self) -> str:
        return OBJECTIVES[self.name]

    @property
    def needs_energy(self) -> bool:
        return self.name != LATENCY

    def value(self, measured: Measured) -> Value | None:
        """What shall be small, of a measurement; None where it does not tell."""
        if measured.failure is not None:
            return None
        if self.name == LATENCY:
            return measured.latency
        if self.name == ENERGY:
            return measured.energy
        if measured.latency is None or measured.energy is None:
            return None
        s, j = measured.latency, measured.energy
        return Value(s.value * j.value, s.low * j.low, s.high * j.high, j.origin)

    def keeps_budget(self, measured: Measured) -> bool:
        """Whether the whole interval of the latency lies within the budget."""
        if self.latency_budget_s is None:
            return True
        return measured.latency is not None and measured.latency.high <= self.latency_budget_s
