"""Boards as data: one TOML file each, every figure with its source. A board is described here and nowhere else.

::

    description = "one sentence"

    [memory]
    bytes = { value = 4e9, source = "where the figure is from" }

    [clusters.big]
    clocks_hz = { value = [1.0e9, 1.5e9], source = "..." }

    [simulation.clusters.big]
    core_active_w = { value = 0.8, source = "assumed: why this value" }

A figure whose source cannot be cited is left out. What a simulation cannot do without stands under [simulation], by
the same name: an assumption of the model, and no property of the board. See `BOARD_FIGURES` and `CLUSTER_FIGURES`.
Figures of what threads and clocks do to each other (voltages, barriers, contention) may all be left out: then a
simulation has none of it.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from latency_models.boards.figures import BOARD_FIGURES, CLUSTER_FIGURES, Kind, Value

__all__ = ["Board", "BoardError", "Figure", "UnknownBoard", "load", "names", "parse"]

SIMULATION, CLUSTERS = "simulation", "clusters"
ASSUMED = ("assumed:", "invented")


class BoardError(ValueError):
    """A board's file has a figure without a source, or one that is unknown or makes no sense."""


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
class Figure:
    """One figure of a board in SI units; `is_assumed` if it is no property of the board but of its simulation."""

    value: Value
    unit: str
    source: str
    is_assumed: bool


@dataclass(frozen=True, kw_only=True)
class Board:
    """What is known of a board. Figures by path: `memory.bytes`, or `clusters.big.cores` (clusters in CPU order)."""

    name: str
    description: str
    clusters: tuple[str, ...]
    figures: Mapping[str, Figure]

    @property
    def missing(self) -> tuple[str, ...]:
        """The figures without which it cannot be simulated."""
        return tuple(
            path for path, kind in _known(self.clusters).items() if kind.is_needed and path not in self.figures
        )


def names() -> tuple[str, ...]:
    """The boards that come with this package, sorted."""
    files = resources.files(__name__).iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")))


def load(name: str) -> Board:
    """The board of this name.

    Raises:
        UnknownBoard: there is none.
        BoardError: its file makes no sense.
    """
    known = names()
    if name not in known:
        raise UnknownBoard(name, known)
    return parse(name, resources.files(__name__).joinpath(f"{name}.toml").read_text("utf-8"))


def parse(name: str, text: str) -> Board:
    """Read a board's TOML text.

    Raises:
        BoardError: it is not TOML, a source is missing, or a figure is unknown or makes no sense.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BoardError(f"board {name}: {error}") from error
    description = document.pop("description", None)
    if not isinstance(description, str) or not description.strip():
        raise BoardError(f"board {name}: description is missing")
    assumed = document.pop(SIMULATION, {})
    clusters = _clusters(name, document, assumed)
    known = _known(clusters)
    figures: dict[str, Figure] = {}
    for is_assumed, table in ((False, document), (True, assumed)):
        for path, entry in _entries(name, "", table):
            if path in figures:
                raise BoardError(f"board {name}: {path} is cited already; take it out of [{SIMULATION}]")
            if path not in known:
                near = difflib.get_close_matches(path, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"the figures are {', '.join(known)}"
                raise BoardError(f"board {name}: unknown figure {path!r}; {hint}")
            figures[path] = _figure(f"board {name}: {path}", known[path], entry, is_assumed)
    ordered = {path: figures[path] for path in known if path in figures}
    return Board(name=name, description=description, clusters=clusters, figures=ordered)


def _clusters(name: str, *documents: Any) -> tuple[str, ...]:
    """The names of all clusters, in the order of the file: that of the CPU numbers."""
    tables = [document.get(CLUSTERS, {}) for document in documents if isinstance(document, dict)]
    found = tuple(dict.fromkeys(cluster for table in tables if isinstance(table, dict) for cluster in table))
    if not found:
        raise BoardError(f"board {name}: it has no cluster; describe its cores under [clusters.NAME]")
    return found


def _known(clusters: tuple[str, ...]) -> dict[str, Kind]:
    """Every figure that a board with these clusters may have, in the order in which it is shown."""
    of_clusters = {
        f"{CLUSTERS}.{cluster}.{figure}": kind for cluster in clusters for figure, kind in CLUSTER_FIGURES.items()
    }
    return {**of_clusters, **BOARD_FIGURES}


def _entries(name: str, prefix: str, table: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The figures of a table and those below it, with their paths."""
    if not isinstance(table, dict):
        raise BoardError(f"board {name}: {prefix.rstrip('.')} is not a figure with value and source")
    if "value" in table or "source" in table:
        yield prefix.rstrip("."), table
        return
    for key, inner in table.items():
        yield from _entries(name, f"{prefix}{key}.", inner)


def _figure(where: str, kind: Kind, entry: dict[str, Any], is_assumed: bool) -> Figure:
    source = entry.get("source")
    if not isinstance(source, str) or not source.strip():
        raise BoardError(f"{where} has no source; a figure that cannot be cited is left out")
    if is_assumed and not source.startswith(ASSUMED):
        raise BoardError(f"{where} stands under [{SIMULATION}]; its source says why, as in 'assumed: ...'")
    if not is_assumed and source.startswith("assumed"):
        raise BoardError(f"{where} is assumed, so it belongs under [{SIMULATION}]")
    problem = kind.problem(entry.get("value"))
    if problem:
        raise BoardError(f"{where} is {entry.get('value')!r}, {problem}")
    return Figure(value=kind.read(entry["value"]), unit=kind.unit, source=source, is_assumed=is_assumed)
