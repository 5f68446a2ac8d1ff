"""Groups of operators as a table on a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgeprof.grouping import operator_groups
from edgeprof.reports.quantities import count, duration, keep_end, percent, plain
from edgeprof.run import Run

__all__ = ["render_groups"]

WIDEST_NAME = 60


def render_groups(run: Run, by: str, top: int) -> RenderableType:
    """The `top` groups that take longest, and how many more there are."""
    groups = operator_groups(run, by)
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    table.add_column(by.capitalize(), no_wrap=True)
    for title in ("Kernels", "Time", "Share", "MACs"):
        table.add_column(title, justify="right", no_wrap=True, min_width=8)
    for group in groups[:top]:
        cells = (str(group.n_kernels), duration(group.time_s), percent(group.share), count(group.macs))
        table.add_row(Text(keep_end(plain(group.name), WIDEST_NAME)), *map(Text, cells))
    if len(groups) <= top:
        return table
    left = sum(group.share or 0.0 for group in groups[top:])
    more = f"and {len(groups) - top} more with {percent(left)} of the time: --top"
    return Group(table, Text(more, style="dim"))
