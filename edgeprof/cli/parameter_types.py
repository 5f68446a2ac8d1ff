"""What people type as a value of an option: durations, shares."""

from __future__ import annotations

import re
from typing import Any

import click

__all__ = ["Duration", "Share"]

DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h)", re.IGNORECASE)
SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
LONGEST_S = 7 * 24 * 3600.0


class Duration(click.ParamType[float]):
    """Seconds, as in 90s, 30m or 2h."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, float):
            return value
        found = DURATION.fullmatch(str(value).strip())
        if found is None:
            self.fail(f"{value!r} is no duration: write it as 90s, 30m or 2h", param, ctx)
        seconds = float(found[1]) * SECONDS[found[2].lower()]
        if not 0 < seconds <= LONGEST_S:
            self.fail(f"{value} is not between a moment and a week", param, ctx)
        return seconds


class Share(click.ParamType[float]):
    """A share, as in 8% or 0.08."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, float):
            return value
        text = str(value).strip()
        try:
            share = float(text.removesuffix("%")) / (100.0 if text.endswith("%") else 1.0)
        except ValueError:
            self.fail(f"{value!r} is no share: write it as 8% or 0.08", param, ctx)
        if not 0 < share < 1:
            self.fail(f"{value} is not between 0 and 100 % (one percent is 1% or 0.01)", param, ctx)
        return share
