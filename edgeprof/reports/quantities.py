"""Quantities as people read them: a unit that fits, and no more digits than the number deserves."""

from __future__ import annotations

import math

__all__ = [
    "count",
    "duration",
    "energy",
    "energy_interval",
    "interval",
    "keep_end",
    "percent",
    "plain",
    "power_interval",
    "shape",
    "size",
]

Units = tuple[tuple[float, str], ...]
TIME_UNITS: Units = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
ENERGY_UNITS: Units = ((1e3, "kJ"), (1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ"), (1e-9, "nJ"))
POWER_UNITS: Units = ((1.0, "W"), (1e-3, "mW"))
SIZE_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
COUNT_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
DIGITS = 3
# More digits than this say nothing, however narrow an interval is: no device repeats to one part in 100,000.
MOST_DIGITS = 5


def duration(seconds: float | None, *, step_s: float = 0.0) -> str:
    """A time with three digits, or fewer where the clock that took it moves in steps of `step_s`."""
    if seconds is None:
        return "-"
    if not seconds:
        return "0 s"
    scale, unit = _unit(seconds, TIME_UNITS)
    decimals = _digits(seconds / scale)
    return f"{seconds / scale:.{min(decimals, _places(step_s / scale)) if step_s else decimals}f} {unit}"


def interval(middle_s: float, low_s: float, high_s: float) -> tuple[str, str]:
    """A time and its interval in one unit, to the first digit that is uncertain: ("1.501 ms", "1.499 to 1.502 ms")."""
    return _interval(middle_s, low_s, high_s, TIME_UNITS)


def energy(joules: float | None) -> str:
    """Joules with three digits."""
    if joules is None:
        return "-"
    scale, unit = _unit(joules, ENERGY_UNITS)
    return f"{_short(joules / scale)} {unit}"


def energy_interval(middle_j: float, low_j: float, high_j: float) -> tuple[str, str]:
    """Joules as `interval` shows seconds."""
    return _interval(middle_j, low_j, high_j, ENERGY_UNITS)


def power_interval(middle_w: float, low_w: float, high_w: float) -> tuple[str, str]:
    """Watts as `interval` shows seconds."""
    return _interval(middle_w, low_w, high_w, POWER_UNITS)


def _interval(middle: float, low: float, high: float, units: Units) -> tuple[str, str]:
    scale, unit = _unit(middle, units)
    half_width = (high - low) / 2 / scale
    decimals = _digits(middle / scale, MOST_DIGITS)
    if half_width:
        decimals = min(decimals, _places(half_width))
    low_text, high_text = f"{low / scale:.{decimals}f}", f"{high / scale:.{decimals}f}"
    return f"{middle / scale:.{decimals}f} {unit}", f"{low_text} to {high_text} {unit}"


def percent(share: float | None) -> str:
    """A share in per cent, with two digits where it is small."""
    if share is None:
        return "-"
    decimals = 0 if abs(share) >= 0.0995 else 1 if abs(share) >= 0.001 or not share else 2
    return f"{share:.{decimals}%}"


def size(n_bytes: int | None) -> str:
    """A number of bytes in decimal units."""
    if n_bytes is None:
        return "-"
    for scale, unit in SIZE_UNITS:
        if n_bytes >= scale:
            return f"{_short(n_bytes / scale)} {unit}"
    return f"{n_bytes} B"


def count(number: float | None) -> str:
    """A large count: 2.65 M."""
    if number is None:
        return "-"
    for scale, unit in COUNT_UNITS:
        if number >= scale:
            return f"{_short(number / scale)} {unit}"
    return f"{number:.0f}"


def shape(dimensions: tuple[int, ...]) -> str:
    return "x".join(map(str, dimensions)) or "scalar"


def plain(text: str) -> str:
    """Text from a model or a device without what a terminal would obey (escape sequences, line breaks)."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _unit(number: float, units: Units) -> tuple[float, str]:
    for scale, unit in units:
        # 999.6 µs rounds to 1000 µs at three digits: it is 1.00 ms.
        if abs(number) >= scale * 0.9995:
            return scale, unit
    return units[-1] if number else next(found for found in units if found[0] < 1)


def _digits(number: float, digits: int = DIGITS) -> int:
    """Decimal places that show a number with so many digits, once it is rounded to them."""
    exponent = int(f"{number:.{digits - 1}e}".partition("e")[2])
    return max(0, digits - 1 - exponent)


def _places(uncertainty: float) -> int:
    """Decimal places up to the first digit of an uncertainty."""
    return max(0, -math.floor(math.log10(uncertainty)))


def _short(number: float) -> str:
    return f"{number:.{_digits(number)}f}"


def keep_end(text: str, width: int) -> str:
    """Names of nodes differ at their end: /features/features.3/conv/Conv."""
    return text if len(text) <= width else "…" + text[len(text) - width + 1 :]
