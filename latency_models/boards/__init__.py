"""Boards as data: one TOML file each, every figure with its source. A board is described here and nowhere else.

::

    description = "one sentence"

    [cores]
    value = 4
    source = "where the figure is from"

A figure whose source cannot be cited is left out of a file, and a file that lacks a figure is refused.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import resources

__all__ = ["BoardError", "BoardFigures", "UnknownBoard", "load", "names", "parse"]


class BoardError(ValueError):
    """A board's file lacks a figure or its source, or has one that makes no sense."""


class UnknownBoard(KeyError):
    """There is no board of this name; `near` has names that look like it."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(name)
        self.name = name
        self.known = known
        self.near = tuple(difflib.get_close_matches(name, known, n=3, cutoff=0.5))

    def __str__(self) -> str:
        hint = f"did you mean {', '.join(self.near)}?" if self.near else f"known: {', '.join(self.known)}"
        return f"no board {self.name!r}; {hint}"


@dataclass(frozen=True, kw_only=True)
class BoardFigures:
    """What a prediction or a simulation needs to know of a board.

    `macs_per_s` is per core and thread, `memory_bytes_per_s` for all cores together. `operator_overhead_s` is spent
    once for each operator. `noise` is the relative standard deviation of a run. `heating_c_per_s` is gained per busy
    second and `cooling_per_s` the share of the excess over `ambient_c` lost per second; from `throttle_c` on clocks
    fall by `throttle_share`. `sources` has the source of every figure by its name.
    """

    name: str
    description: str
    cores: int
    clock_hz: float
    macs_per_s: float
    memory_bytes_per_s: float
    operator_overhead_s: float
    noise: float
    memory_bytes: int
    ambient_c: float
    heating_c_per_s: float
    cooling_per_s: float
    throttle_c: float
    throttle_share: float
    sources: Mapping[str, str]


_WHOLE = ("cores", "memory_bytes")
_POSITIVE = ("cores", "clock_hz", "macs_per_s", "memory_bytes_per_s", "memory_bytes")
_FIGURES = tuple(f.name for f in fields(BoardFigures) if f.name not in ("name", "description", "sources"))


def names() -> tuple[str, ...]:
    """The boards that come with this package, sorted."""
    files = resources.files(__name__).iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")))


def load(name: str) -> BoardFigures:
    """The board of this name.

    Raises:
        UnknownBoard: there is none.
        BoardError: its file is incomplete.
    """
    known = names()
    if name not in known:
        raise UnknownBoard(name, known)
    return parse(name, resources.files(__name__).joinpath(f"{name}.toml").read_text("utf-8"))


def parse(name: str, text: str) -> BoardFigures:
    """Read a board's TOML text.

    Raises:
        BoardError: it is not TOML, a figure or its source is missing, unknown or makes no sense.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BoardError(f"board {name}: {error}") from error
    unknown = sorted(document.keys() - {*_FIGURES, "description"})
    if unknown:
        raise BoardError(f"board {name}: unknown figure {unknown[0]!r}; the figures are {', '.join(_FIGURES)}")
    description = document.get("description")
    if not isinstance(description, str) or not description.strip():
        raise BoardError(f"board {name}: description is missing")
    values = {figure: _figure(name, figure, document.get(figure)) for figure in _FIGURES}
    if not 0 <= values["throttle_share"] < 1:
        raise BoardError(f"board {name}: throttle_share is the share of the clock that is lost, from 0 up to below 1")
    return BoardFigures(
        name=name,
        description=description,
        sources={figure: str(document[figure]["source"]) for figure in _FIGURES},
        **{figure: int(value) if figure in _WHOLE else value for figure, value in values.items()},  # type: ignore[arg-type]
    )


def _figure(name: str, figure: str, entry: object) -> float:
    if not isinstance(entry, dict):
        raise BoardError(f"board {name}: [{figure}] with value and source is missing")
    value, source = entry.get("value"), entry.get("source")
    if not isinstance(source, str) or not source.strip():
        raise BoardError(f"board {name}: {figure} has no source; a figure that cannot be cited is not used")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BoardError(f"board {name}: {figure} is {value!r}, not a number")
    if figure in _WHOLE and value != int(value):
        raise BoardError(f"board {name}: {figure} is {value!r}, not a whole number")
    # Only the temperatures may be below zero.
    if (figure in _POSITIVE and value <= 0) or (value < 0 and figure not in ("ambient_c", "throttle_c")):
        raise BoardError(f"board {name}: {figure} is {value!r}, which is too small")
    return float(value)
