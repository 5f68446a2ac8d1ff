"""Several runs on a terminal: the list of runs, two runs compared, what differs between them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from device_agents.wire import MEASURED
from edgeprof.comparison import Comparison, Difference
from edgeprof.reports.quantities import duration, plain
from edgeprof.store import StoredRun

__all__ = ["ListedRun", "render_comparison", "render_differences", "render_list"]

CONCLUSION_STYLES = {"faster": "bold green", "slower": "bold red"}
HIGHEST_RANKS = 3
# The normal approximation of the test is not good enough to tell smaller ones apart.
SMALLEST_P = 0.0001


@dataclass(frozen=True, kw_only=True)
class ListedRun:
    """A line of the list: what the store knows, and what was computed from the raw samples."""

    stored: StoredRun
    median_s: float | None
    verdict: str


def render_list(runs: Sequence[ListedRun], n_more: int) -> RenderableType:
    """Runs as they come, newest first; `n_more` were not asked for."""
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    table.add_column("Run", no_wrap=True, min_width=20)
    table.add_column("Device", overflow="ellipsis", no_wrap=True, max_width=16)
    table.add_column("Model", overflow="ellipsis", no_wrap=True, max_width=32)
    table.add_column("Runtime", no_wrap=True, min_width=11)
    table.add_column("Median", justify="right", no_wrap=True, min_width=7)
    table.add_column("Verdict", no_wrap=True, min_width=8)
    for run in runs:
        verdict = run.verdict if run.stored.origin == MEASURED else f"{run.verdict}, {run.stored.origin}"
        cells = (
            run.stored.id,
            run.stored.device,
            run.stored.model_name,
            run.stored.runtime,
            duration(run.median_s),
            verdict,
        )
        table.add_row(*(Text(plain(cell)) for cell in cells))
    if not runs:
        return Text("no runs")
    return Group(table, Text(f"and {n_more} older: --limit", style="dim")) if n_more > 0 else table


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
        grid.add_row("Resolution", f"a change of {comparison.smallest_effect:.2%} would have shown, four times in five")
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
    made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(run.created_at_s))
    what = f"  {run.model_name} on {run.device}, {run.runtime} {run.runtime_version}, {run.origin}, {made}, {run.id}"
    return Text.assemble((duration(median_s), "bold"), plain(what))


def _ratio(comparison: Comparison) -> str:
    if comparison.ratio_low is None or comparison.ratio_high is None:
        return f"{comparison.ratio:.3f}"
    bounds = f"{comparison.ratio_low:.3f} to {comparison.ratio_high:.3f}"
    return f"{comparison.ratio:.3f}, {comparison.confidence:.0%} interval {bounds}"


def _p_value(p: float) -> str:
    return f"p = {p:.2g}" if p >= SMALLEST_P else f"p < {SMALLEST_P}"


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True, min_width=12)
    grid.add_column(overflow="fold")
    return grid
