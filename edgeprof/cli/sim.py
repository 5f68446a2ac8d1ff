"""`edgeprof sim`: the boards that can be simulated, and what is known of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from latency_models.boards import Board, Figure

__all__ = ["sim"]

ASSUMED = "assumed for the simulation, not a property of the board"


@click.group(
    epilog="\b\nExamples:\n  edgeprof sim list\n  edgeprof sim show pi-4\n  edgeprof devices add virtual sim:pi-4"
)
def sim() -> None:
    """Boards that can be simulated, for people who have none."""


@sim.command(name="list", epilog="\b\nExample:\n  edgeprof sim list --json")
@click.option("--json", "as_json", is_flag=True, help="A list of boards as JSON.")
def list_boards(as_json: bool) -> int:
    """List every board of the catalogue, with what a simulation lacks or assumes."""
    from latency_models import boards

    catalogue = [boards.load(name) for name in boards.names()]
    if as_json:
        click.echo(json.dumps([_summary(board) for board in catalogue], indent=1))
        return 0
    width = max(len(board.name) for board in catalogue)
    for board in catalogue:
        click.echo(f"{board.name:{width}}  {board.description}")
        clusters = "; ".join(_cluster_line(board, cluster) for cluster in board.clusters)
        click.echo(f"{'':{width}}  {clusters}")
        n_assumed = sum(figure.is_assumed for figure in board.figures.values())
        said = f"{len(board.figures) - n_assumed} figures with a source, {n_assumed} {ASSUMED}"
        lacks = f"cannot be simulated: lacks {', '.join(board.missing)}; " if board.missing else ""
        click.echo(f"{'':{width}}  {lacks}{said}")
    return 0


@sim.command(epilog="\b\nExamples:\n  edgeprof sim show pi-4\n  edgeprof sim show phone-sdm845 --json")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="The board as JSON.")
def show(name: str, as_json: bool) -> int:
    """Show every figure of a board with its unit and source."""
    from edgeprof.errors import FleetError
    from latency_models import boards

    try:
        board = boards.load(name)
    except boards.UnknownBoard as error:
        raise FleetError(str(error), "see them all: edgeprof sim list") from error
    if as_json:
        figures = {path: _plain(figure) for path, figure in board.figures.items()}
        click.echo(json.dumps(_summary(board) | {"figures": figures}, indent=1))
        return 0
    click.echo(f"{board.name}: {board.description}")
    for is_assumed, title in ((False, "From the sources named"), (True, ASSUMED.capitalize())):
        chosen = {path: figure for path, figure in board.figures.items() if figure.is_assumed is is_assumed}
        if chosen:
            click.echo(f"\n{title}:")
        for path, figure in chosen.items():
            click.echo(f"  {path} = {_worded(figure)}")
            click.echo(f"      {figure.source}")
    click.echo()
    if board.missing:
        click.echo(f"Cannot be simulated: it lacks {', '.join(board.missing)}")
    else:
        click.echo(f"Simulate it: edgeprof devices add virtual sim:{board.name}")
    return 0


def _summary(board: Board) -> dict[str, Any]:
    return {
        "name": board.name,
        "description": board.description,
        "clusters": list(board.clusters),
        "missing": list(board.missing),
        "assumed": [path for path, figure in board.figures.items() if figure.is_assumed],
    }


def _plain(figure: Figure) -> dict[str, Any]:
    return {
        "value": figure.value,
        "unit": figure.unit or None,
        "source": figure.source,
        "is_assumed": figure.is_assumed,
    }


def _cluster_line(board: Board, cluster: str) -> str:
    def value(figure: str) -> Any:
        found = board.figures.get(f"clusters.{cluster}.{figure}")
        return found.value if found is not None else None

    clocks_hz = value("clocks_hz")
    clocks = f"{clocks_hz[0] / 1e6:g} to {clocks_hz[-1] / 1e6:g} MHz in {len(clocks_hz)} steps" if clocks_hz else ""
    parts = (f"{value('cores') or 'an unknown number of'} x {value('core') or 'core'}", clocks)
    return f"{cluster}: {', '.join(part for part in parts if part)}"


def _worded(figure: Figure) -> str:
    value = figure.value
    text = ", ".join(f"{one:g}" for one in value) if isinstance(value, tuple) else str(value)
    if isinstance(value, float):
        text = f"{value:.10g}"
    return f"{text} {figure.unit}".rstrip()
