"""The published figures that come with this package, each file with its source, years and licence at its head."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from importlib import resources

__all__ = ["ATTRIBUTION", "act", "read_table"]

# What the licence of the table of countries asks to be printed with its figures (CC BY 4.0).
ATTRIBUTION = (
    "grid intensity of countries: Our World in Data; Ember; Energy Institute - Statistical Review of World Energy"
    " (CC BY 4.0, https://creativecommons.org/licenses/by/4.0/), by way of codecarbon 3.3.2 (MIT);"
    " the world's mean was derived from them"
)


@cache
def read_table(name: str) -> tuple[Mapping[str, str], ...]:
    """The rows of one file of `data/`, by column."""
    text = resources.files(__package__).joinpath("data", f"{name}.csv").read_text("utf-8")
    return tuple(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


def act(table: str, key: str) -> float:
    """One parameter of ACT, in the unit that its row states."""
    return next(
        float(row["value"]) for row in read_table("act_parameters") if (row["table"], row["key"]) == (table, key)
    )
