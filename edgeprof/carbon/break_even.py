"""Keep the old device or buy a new one: after how many years its lower running has paid back its making."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeprof.carbon.embodied import EMBODIED, LIFETIME
from edgeprof.carbon.intensity import INTENSITY
from edgeprof.carbon.monte_carlo import CONFIDENCE, Number, Numbers, Spread, draw, nominal, spread
from edgeprof.carbon.quantity import YEAR_S
from edgeprof.carbon.sci import RESERVED
from edgeprof.carbon.statement import Case
from edgeprof.errors import CarbonError, UsageError

__all__ = ["BreakEven", "break_even"]

SHARED = (INTENSITY,)


@dataclass(frozen=True, kw_only=True)
class BreakEven:
    """Both devices are on all the time at one rate. The old one's making is sunk, so only the new one's counts.

    `years` is None where the new device saves nothing (never); `low_years` and `high_years` hold 90 % of the draws,
    None standing for never. `within_lifetime` is the share of draws that pay back before the new device's life ends.
    """

    old: str
    new: str
    rate_hz: float
    old_per_year_g: Spread
    new_per_year_g: Spread
    new_embodied_g: Spread
    years: float | None
    low_years: float | None
    high_years: float | None
    never: float
    within_lifetime: float
    is_lower_bound: bool

    @property
    def words(self) -> str:
        """The answer in one sentence."""
        if self.years is None:
            return f"never: {self.new} saves nothing in use against {self.old} at this rate"
        low, high = (_years(one) for one in (self.low_years, self.high_years))
        least = "at least " if self.is_lower_bound else ""
        return (
            f"{self.new} pays back its making after {least}{_years(self.years)} against keeping {self.old}"
            f" (90 %: {low} to {high}); within its own life in {self.within_lifetime:.0%} of draws,"
            f" never in {self.never:.0%}"
        )


def break_even(old: Case, new: Case, *, seed: int = 0) -> BreakEven:
    """When buying the new device pays back in carbon. Both cases have the same rate and the same grid.

    Raises:
        UsageError: no rate, or one that a device cannot keep.
        CarbonError: energies of different boundaries, or measured against modelled ones.
    """
    if old.rate_hz is None or old.rate_hz != new.rate_hz:
        raise UsageError("to pay back depends on how much there is to do", "give the inferences a second: --rate 10/s")
    require_comparable(old, new)
    old.require_possible()
    new.require_possible()
    a, b = nominal(old.inputs), nominal(new.inputs)
    draws_a = draw(old.inputs, seed=seed, side="old", shared=SHARED)
    draws_b = draw(new.inputs, seed=seed, side="new", shared=SHARED)
    per_year = old.rate_hz * YEAR_S

    def yearly(case: Case, numbers: Numbers) -> Number:
        return case.operational_g(RESERVED, numbers) * per_year

    saved = np.asarray(yearly(old, draws_a) - yearly(new, draws_b))
    years = np.full(saved.shape, np.inf)
    np.divide(draws_b[EMBODIED], saved, out=years, where=saved > 0)
    saved_nominal = yearly(old, a) - yearly(new, b)
    tail = (1 - CONFIDENCE) / 2
    # The inverted methods take a draw as it is: between a number and never there is nothing.
    low, high = np.quantile(years, [tail, 1 - tail], method="inverted_cdf")
    return BreakEven(
        old=old.usage.subject,
        new=new.usage.subject,
        rate_hz=old.rate_hz,
        old_per_year_g=spread(lambda numbers: yearly(old, numbers), a, draws_a),
        new_per_year_g=spread(lambda numbers: yearly(new, numbers), b, draws_b),
        new_embodied_g=spread(lambda numbers: numbers[EMBODIED], b, draws_b),
        years=b[EMBODIED] / saved_nominal if saved_nominal > 0 else None,
        low_years=_finite(low),
        high_years=_finite(high),
        never=float(np.mean(saved <= 0)),
        within_lifetime=float(np.mean(years <= draws_b[LIFETIME])),
        is_lower_bound=new.embodied.is_bound,
    )


def require_comparable(old: Case, new: Case) -> None:
    """Refuse to set energies against each other that do not mean the same.

    Raises:
        CarbonError: different boundaries, or one is measured and the other is not.
    """
    a, b = old.usage, new.usage
    if a.boundary != b.boundary:
        raise CarbonError(
            f"the energies are not comparable: {a.run_id} is of the {a.boundary} boundary, {b.run_id} of the"
            f" {b.boundary} boundary",
            "measure both with meters at the same place, best at the wall",
        )
    if a.is_measured != b.is_measured or a.origin != b.origin:
        raise CarbonError(
            f"the energies are not comparable: {_basis(old)} against {_basis(new)}",
            "measure both, or let both be modelled",
        )


def _basis(case: Case) -> str:
    kind = "metered" if case.usage.is_measured else "modelled or simulated"
    return f"{case.usage.run_id} is {kind} ({case.usage.origin})"


def _finite(years: float) -> float | None:
    return float(years) if np.isfinite(years) else None


def _years(years: float | None) -> str:
    if years is None:
        return "never"
    if years < 1 / 12:
        return f"{years * 365.25:.2g} days"
    return f"{years:.2g} years" if years < 100 else f"{years:.0f} years"
