"""Quantities as people type them: "56 g/kWh", "8-12 kg", "4 y", "10/s"."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from edgeprof.errors import UsageError

__all__ = ["YEAR_S", "parse_range", "parse_rate"]

DAY_S = 86_400.0
YEAR_S = 365.25 * DAY_S
NUMBER = r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?"
RANGE = re.compile(rf"\s*({NUMBER})\s*(?:(?:-|to|\.\.)\s*({NUMBER})\s*)?([^\d\s].*?)?\s*")
RATE = re.compile(rf"\s*({NUMBER})\s*(?:/|per)?\s*([a-z]*)\s*")
PER_S = {"": 1.0, "s": 1.0, "second": 1.0, "min": 60.0, "minute": 60.0, "h": 3600.0, "hour": 3600.0, "d": DAY_S,
         "day": DAY_S, "y": YEAR_S, "year": YEAR_S}  # fmt: skip


def parse_range(text: str, what: str, units: Mapping[str, float], example: str) -> tuple[float, float, bool]:
    """Low, high (in the unit of factor 1) and whether a range was typed: "56 g/kWh" or "40-70 g/kWh".

    Raises:
        UsageError: it is no such quantity, or not above 0.
    """
    found = RANGE.fullmatch(text)
    unit = (found.group(3) or "").strip().casefold() if found else ""
    factors = {name.casefold(): factor for name, factor in units.items()}
    if found is None or unit not in factors:
        known = ", ".join(name for name in units if name)
        raise UsageError(f"{text!r} is no {what}", f"write it as {example!r}; units: {known}")
    low = float(found.group(1)) * factors[unit]
    high = float(found.group(2)) * factors[unit] if found.group(2) else low
    if not (0 < low <= high and math.isfinite(high)):
        raise UsageError(f"{text!r} is no {what}: it must be above 0 and rise", f"write it as {example!r}")
    return low, high, found.group(2) is not None


def parse_rate(text: str) -> float:
    """Inferences a second, of "10/s", "5/min", "200/h", "1000/day".

    Raises:
        UsageError: it is no rate.
    """
    found = RATE.fullmatch(text.casefold())
    if found is None or found.group(2) not in PER_S:
        raise UsageError(
            f"{text!r} is no rate", "write how many inferences, and per what: 10/s, 5/min, 200/h, 1000/day"
        )
    rate_hz = float(found.group(1)) / PER_S[found.group(2)]
    if not (0 < rate_hz < math.inf):
        raise UsageError(f"{text!r} is no rate above 0", "write 10/s, 5/min, 200/h or 1000/day")
    return rate_hz
