"""The inputs of a carbon figure: each with its unit, what kind of knowledge it is, where it is from, and its range."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DATA_SHEET",
    "DEFAULT",
    "FIXED",
    "KINDS",
    "MEASURED",
    "MODELLED",
    "NORMAL",
    "TRIANGULAR",
    "UNIFORM",
    "USER",
    "Input",
    "sample",
]

# Kinds of knowledge. A data sheet is any figure published about the thing itself: a maker's report, a public table.
# A default stands where nobody said anything: it is an assumption of this program.
MEASURED, DATA_SHEET, MODELLED, DEFAULT, USER = "measured", "data sheet", "modelled", "default", "user"
KINDS = (MEASURED, DATA_SHEET, MODELLED, DEFAULT, USER)

# Shapes of a range. Normal: low and high hold 90 %, each side by itself. Triangular and uniform: nothing lies outside.
FIXED, NORMAL, TRIANGULAR, UNIFORM = "fixed", "normal", "triangular", "uniform"
Z_90 = 1.6448536269514722  # the 95 % quantile of the normal distribution


@dataclass(frozen=True, kw_only=True)
class Input:
    """One number that goes into a carbon figure; `low` <= `value` <= `high`, as `shape` says.

    `year` is that of the figure as its source gives it, None where it has none. `note` is a doubt a reader must see.
    """

    name: str
    value: float
    unit: str
    kind: str
    source: str
    low: float
    high: float
    shape: str = FIXED
    year: str | None = None
    note: str | None = None

    @classmethod
    def exactly(
        cls, name: str, value: float, unit: str, kind: str, source: str, *, year: str | None = None,
        note: str | None = None,
    ) -> Input:  # fmt: skip
        """An input that is taken as it is."""
        return cls(
            name=name, value=value, unit=unit, kind=kind, source=source, low=value, high=value, year=year, note=note
        )

    def within(self, low: float, high: float, shape: str) -> Input:
        """The same input with a range."""
        return replace(self, low=low, high=high, shape=shape)


def sample(one: Input, generator: np.random.Generator, n: int) -> NDArray[np.float64]:
    """`n` values from an input's range. No input of carbon can be negative, so a normal one ends at 0."""
    if one.shape == FIXED or one.low == one.high:
        return np.full(n, one.value)
    if one.shape == UNIFORM:
        return generator.uniform(one.low, one.high, n)
    if one.shape == TRIANGULAR:
        return generator.triangular(one.low, one.value, one.high, n)
    if one.shape != NORMAL:
        raise ValueError(f"{one.name}: there is no shape {one.shape!r}")
    z = generator.standard_normal(n)
    side = np.where(z > 0, one.high - one.value, one.value - one.low)
    return np.maximum(one.value + z * side / Z_90, 0.0)
