"""Running without rest, on a terminal and as JSON: one model's page, and how several stand to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import msgspec
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from device_agents.wire import MEASURED
from edgeprof.reports.quantities import duration, interval, plain
from edgeprof.standing import Standings, standings
from edgeprof.sustained import Stretch, Sustained

__all__ = ["Endured", "endured", "render_standings", "render_sustained", "write_endured"]

LABEL_WIDTH = 16
COURSE_COLUMNS = 60
# Eighths of a line, so that a course fits on it.
HEIGHTS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, kw_only=True)
class Endured:
    """All that `edgeprof profile --sustained` has to say; the raw rounds are in the runs of the store."""

    models: tuple[Sustained, ...]
    standings: tuple[Standings, ...]


def endured(found: Sequence[Sustained]) -> Endured:
    """With the standings of every device that ran more than one model."""
    devices = dict.fromkeys(one.device for one in found)
    per_device = (standings([one for one in found if one.device == device]) for device in devices)
    return Endured(models=tuple(found), standings=tuple(one for one in per_device if one is not None))


def write_endured(found: Endured) -> bytes:
    """As JSON text; docs/how-to/sustained.md explains every field."""
    return msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n"


def render_sustained(found: Sustained) -> RenderableType:
    """The page of one model."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=LABEL_WIDTH, style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("Without rest", Text(plain(_head(found)), style="bold"))
    if found.origin != MEASURED:
        grid.add_row("Origin", Text(f"{plain(found.origin).upper()}: says nothing of a real device", style="yellow"))
    grid.add_row("Ran", Text(plain(_ran(found))))
    grid.add_row("Throttled", _throttled(found))
    grid.add_row("First minute", Text(_stretch(found.first_minute)))
    grid.add_row("Last minute", Text(_stretch(found.last_minute)))
    grid.add_row("Last by first", Text(plain(_ratio(found))))
    grid.add_row("Steady", Text(plain(_steady(found))))
    grid.add_row("Temperature", Text(plain(_temperature(found))))
    middles_s = [moment.median_s for moment in found.course if moment.median_s is not None]
    grid.add_row("Latency course", f"{_bars(middles_s)}  {duration(min(middles_s))} to {duration(max(middles_s))}")
    warmths_c = [moment.temperature_c for moment in found.course if moment.temperature_c is not None]
    if warmths_c:
        grid.add_row("Heat course", f"{_bars(warmths_c)}  {min(warmths_c):.0f} to {max(warmths_c):.0f} C")
    for doubt in found.doubts:
        grid.add_row("Not trusted", Text(plain(doubt), style="yellow"))
    return grid


def render_standings(found: Standings) -> RenderableType:
    """The closing table of a device."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("Model", overflow="fold")
    for name in ("First minute", "Rank", "Last minute", "Rank"):
        table.add_column(name, justify="right")
    for model in found.models:
        first, last = duration(model.first_median_s), duration(model.last_median_s)
        table.add_row(Text(plain(model.model)), first, _place(model.first_rank), last, _place(model.last_rank))
    lines = [Text(f"Kendall's tau between the two orders: {_tau(found)}")]
    lines += [Text(plain(swap), style="bold") for swap in found.swaps]
    lines += [Text(plain(f"Beware: {doubt}"), style="yellow") for doubt in found.doubts]
    title = Text(plain(f"{found.device}: ranks in the first and in the last minute; equal ranks cannot be told apart"))
    return Group(Text.assemble((title.plain, "bold")), table, *lines)


def _place(rank: int) -> str:
    return f"{rank}."


def _tau(found: Standings) -> str:
    return f"{found.tau:.2f}" if found.tau is not None else f"none: {found.tau_missing}"


def _head(found: Sustained) -> str:
    return f"{found.model} on {found.device}, {found.runtime}, for {found.lasted_s:.0f} s (run {found.run})"


def _ran(found: Sustained) -> str:
    share = "an unknown share" if found.running_share is None else f"{found.running_share:.2%}"
    return f"{found.n_runs} runs in {found.n_rounds} rounds; the model was running for {share} of the time"


def _throttled(found: Sustained) -> Text:
    seen = found.throttling
    if seen is None:
        return Text(plain(f"no: {found.throttling_missing}"))
    when = f"after {seen.after_s:.0f} to {seen.seen_s:.0f} s: "
    return Text.assemble((when, "bold red"), plain(seen.evidence))


def _stretch(found: Stretch) -> str:
    rounds = f"{found.n_rounds} rounds from {found.from_s:.0f} to {found.to_s:.0f} s"
    if found.low_s is None or found.high_s is None:
        return f"{duration(found.median_s)}  median of {rounds}; {found.interval_missing}"
    middle, bounds = interval(found.median_s, found.low_s, found.high_s)
    return f"{middle}  median, 95% interval {bounds}, of {rounds}"


def _ratio(found: Sustained) -> str:
    if found.ratio_low is None or found.ratio_high is None:
        return f"{found.ratio:.3f}, without an interval: too few runs"
    words = {"slower": "slower in the end", "faster": "faster in the end", "no difference": "no difference shows"}
    return (
        f"{found.ratio:.3f} (95% interval {found.ratio_low:.3f} to {found.ratio_high:.3f}): "
        f"{words.get(found.change, found.change)}"
    )


def _steady(found: Sustained) -> str:
    return _stretch(found.steady) if found.steady is not None else f"none: {found.steady_missing}"


def _temperature(found: Sustained) -> str:
    if found.began_c is None or found.hottest_c is None or found.ended_c is None:
        return f"not known: {found.temperature_missing}"
    waited = f", after the gate waited {found.waited_s:.0f} s" if found.waited_s >= 1 else ""
    return f"{found.began_c:.0f} C at first{waited}; {found.hottest_c:.0f} C at most, {found.ended_c:.0f} C in the end"


def _bars(values: Sequence[float]) -> str:
    """A bar for each part of the time, from the lowest value to the highest."""
    low, high = min(values), max(values)
    n = min(COURSE_COLUMNS, len(values))
    parts = [values[k * len(values) // n : (k + 1) * len(values) // n] for k in range(n)]
    step = (high - low) / len(HEIGHTS) or 1.0
    return "".join(HEIGHTS[min(len(HEIGHTS) - 1, int((fmean(part) - low) / step))] for part in parts)
