"""Several runs on a terminal: the list of runs, two runs compared, what differs between them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from device_agents.wire import MEASURED
from edgeprof.comparison import Comparison, Difference
from edgeprof.reports.quantities import duration, plain
from edgeprof.store import StoredRun

__all__ = ["ListedRun", "render_comparison", "render_differences", "render_list"]

CONCLUSION_STYLES = {"faster": "bold green", "slower": "bold red"}
HIGHEST_RANKS = 3
# A whole id of our own making; those of others may be longer, and their beginning will do.
ID_WIDTH, MOST_WIDTH = 20, 40
# What a narrow terminal can do without, the most wanted first, with the least width that still tells something.
OPTIONAL_COLUMNS = (("Model", 12), ("Device", 8), ("Runtime", 11))
# The normal approximation of the test is not good enough to tell smaller ones apart.
SMALLEST_P = 0.0001


@dataclass(frozen=True, kw_only=True)
class ListedRun:
    """A line of the list: what the store knows, and what was computed from the raw samples.

    `unreadable` says why nothing could be computed, `do` what to do about it.
    """

    stored: StoredRun
    median_s: float | None = None
    verdict: str | None = None
    unreadable: str | None = None
    do: str = ""


def render_list(runs: Sequence[ListedRun], n_more: int) -> RenderableType:
    """Runs as they come, newest first; `n_more` were not asked for."""
    if not runs:
        return Text("no runs")
    parts: list[RenderableType] = [RunTable(runs)]
    for run in runs:
        if run.unreadable is not None:
            parts.append(Text(plain(f"unreadable: {run.unreadable} (made {_made(run.stored)})"), style="yellow"))
            parts.append(Text(plain(f"  -> {run.do}"), style="cyan"))
    if n_more > 0:
        parts.append(Text(f"and {n_more} older: --limit", style="dim"))
    return Group(*parts)


class RunTable:
    """Runs with as many columns as fit; median and verdict, with its origin, are never cut."""

    def __init__(self, runs: Sequence[ListedRun]) -> None:
        self._runs = runs

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        cells = [_list_cells(run) for run in self._runs]
        table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
        widths = _list_widths(cells, options.max_width)
        for title, width in widths.items():
            cut: Literal["fold", "ellipsis"] = "fold" if title == "Verdict" else "ellipsis"
            side: Literal["left", "right"] = "right" if title == "Median" else "left"
            table.add_column(title, width=width, justify=side, overflow=cut, no_wrap=cut == "ellipsis")
        for row in cells:
            table.add_row(*(Text(row[title]) for title in widths))
        yield table


def _list_cells(run: ListedRun) -> dict[str, str]:
    verdict = "unreadable" if run.verdict is None else run.verdict
    row = {
        "Run": run.stored.id,
        "Device": run.stored.device,
        "Model": run.stored.model_name,
        "Runtime": run.stored.runtime,
        "Median": duration(run.median_s),
        "Verdict": verdict if run.stored.origin == MEASURED else f"{verdict}, {run.stored.origin}",
    }
    return {title: plain(cell) for title, cell in row.items()}


def _list_widths(rows: Sequence[dict[str, str]], room: int) -> dict[str, int]:
    """The columns that fit into `room`, in the order they are shown in, with their widths."""
    whole = {title: max(len(title), *(cell_len(row[title]) for row in rows)) for title in rows[0]}
    chosen = {"Run": min(whole["Run"], ID_WIDTH), "Median": whole["Median"]}
    # One column is followed by the gap to the next; the last has none.
    left = room - sum(width + 1 for width in chosen.values())
    chosen["Verdict"] = max(len("Verdict"), min(whole["Verdict"], left))
    left -= chosen["Verdict"]
    for title, least in OPTIONAL_COLUMNS:
        needed = min(whole[title], least)
        if left > needed:
            chosen[title] = needed
            left -= needed + 1
    for title in ("Model", "Device", "Runtime", "Run"):
        if title in chosen:
            more = max(0, min(left, min(whole[title], MOST_WIDTH) - chosen[title]))
            chosen[title] += more
            left -= more
    return {title: chosen[title] for title in rows[0] if title in chosen}


def _made(run: StoredRun) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(run.created_at_s))
    except (ValueError, OverflowError, OSError):
        return f"at {run.created_at_s} s, which is no date"


def render_comparison(a: StoredRun, b: StoredRun, comparison: Comparison) -> RenderableType:
    """Run b against run a."""
    grid = _grid()
    grid.add_row("A", _side(a, comparison.median_a_s))
    grid.add_row("B", _side(b, comparison.median_b_s))
    style = CONCLUSION_STYLES.get(comparison.conclusion, "bold yellow")
    grid.add_row("B against A", Text(plain(comparison.text), style=style))
    grid.add_row("Ratio B / A", _ratio(comparison))
    grid.add_row("Mann-Whitney", f"{_p_value(comparison.p_value)}, comparing {comparison.p_unit}")
    if comparison.smallest_effect is not None:
        grid.add_row("Resolution", _resolution(comparison.smallest_effect))
    for warning in comparison.warnings:
        grid.add_row("Beware", Text(plain(warning), style="yellow"))
    return grid


def render_differences(differences: Sequence[Difference]) -> RenderableType:
    """Recorded conditions that differ, the likeliest cause of a difference in latency first."""
    if not differences:
        return Text("nothing that was recorded differs")
    parts: list[RenderableType] = []
    for difference in differences:
        style = "bold" if difference.rank <= HIGHEST_RANKS else ""
        parts.append(Text(f"{difference.rank}. {plain(difference.condition)}", style=style))
        grid = _grid()
        grid.add_row("   A", Text(plain(difference.a)))
        grid.add_row("   B", Text(plain(difference.b)))
        grid.add_row("", Text(plain(difference.because), style="dim"))
        parts.append(grid)
    return Group(*parts)


def _side(run: StoredRun, median_s: float) -> Text:
    made = _made(run)
    what = f"  {run.model_name} on {run.device}, {run.runtime} {run.runtime_version}, {run.origin}, {made}, {run.id}"
    return Text.assemble((duration(median_s), "bold"), plain(what))


def _ratio(comparison: Comparison) -> str:
    if comparison.ratio_low is None or comparison.ratio_high is None:
        return f"{comparison.ratio:.3f}"
    if comparison.ratio_high - comparison.ratio_low > comparison.ratio:
        return f"{comparison.ratio:.3f}, no useful interval: rounds differ too much"
    bounds = f"{comparison.ratio_low:.3f} to {comparison.ratio_high:.3f}"
    return f"{comparison.ratio:.3f}, {comparison.confidence:.0%} interval {bounds}"


def _resolution(smallest_effect: float) -> str:
    if smallest_effect > 1:
        return "not even twice the time would have shown, four times in five"
    return f"a change of {smallest_effect:.2%} would have shown, four times in five"


def _p_value(p: float) -> str:
    return f"p = {p:.2g}" if p >= SMALLEST_P else f"p < {SMALLEST_P}"


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True, min_width=12)
    grid.add_column(overflow="fold")
    return grid
