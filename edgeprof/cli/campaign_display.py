"""What a running campaign looks like: a line for every device on a terminal, a line for every job elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import click
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from device_agents.wire import MEASURED
from edgeprof.campaign.events import DeviceState, Event, JobBegun, JobDone, JobFailed, JobProgress
from edgeprof.reports.quantities import duration
from edgeprof.statistics import summarise
from edgeprof.verdict import judge

__all__ = ["display"]

REFRESH_PER_S = 4
QUIET_STATES = ("connecting", "finished")


@dataclass
class _Row:
    """One device: `left` jobs of `total`, what it does now and since when."""

    total: int
    left: int
    doing: str = ""
    detail: str = ""
    since_s: float = 0.0
    took_s: list[float] = field(default_factory=list)

    @property
    def estimate_s(self) -> float | None:
        """Until its last job is done, if the ones to come take as long as those before; None before the first."""
        return self.left * sum(self.took_s) / len(self.took_s) if self.took_s else None


@contextmanager
def display(jobs_by_device: Mapping[str, int]) -> Iterator[Callable[[Event], None]]:
    """Yields what to tell the campaign's events to, from any thread."""
    rows = {name: _Row(total=n, left=n) for name, n in jobs_by_device.items()}
    lock = threading.Lock()
    if not sys.stderr.isatty():

        def log(event: Event) -> None:
            with lock:
                _take_in(rows, event)
                line = _line(rows, event)
                if line is not None:
                    click.echo(line, err=True)

        yield log
        return
    console = Console(stderr=True)
    with Live(console=console, refresh_per_second=REFRESH_PER_S, get_renderable=lambda: _table(rows)) as live:

        def show(event: Event) -> None:
            with lock:
                _take_in(rows, event)
                line = _line(rows, event)
            if line is not None:
                live.console.print(line, markup=False, highlight=False)

        yield show


def _take_in(rows: dict[str, _Row], event: Event) -> None:
    row = rows[event.device]
    if isinstance(event, JobBegun):
        row.doing, row.detail, row.since_s = event.title, "", time.monotonic()
    elif isinstance(event, JobProgress):
        of = f" {event.progress.done}/{event.progress.total}" if event.progress.total else ""
        row.detail = f"{event.progress.stage}{of}"
    elif isinstance(event, JobDone):
        row.left -= 1
        row.took_s.append(event.took_s)
    elif isinstance(event, JobFailed):
        row.left -= event.is_final
    else:
        row.doing, row.detail, row.since_s = event.state, event.detail, time.monotonic()


def _table(rows: Mapping[str, _Row]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("device", "jobs", "left", "now"):
        table.add_column(column, no_wrap=True, overflow="ellipsis")
    for name, row in rows.items():
        estimate_s = row.estimate_s
        left = "" if estimate_s is None or not row.left else f"about {_minutes(estimate_s)}"
        since = f" {time.monotonic() - row.since_s:.0f} s" if row.left and row.since_s else ""
        doing = " ".join(part for part in (row.doing, row.detail) if part)
        table.add_row(escape(name), f"{row.total - row.left}/{row.total}", left, escape(f"{doing}{since}"))
    return table


def _line(rows: Mapping[str, _Row], event: Event) -> str | None:
    """What is worth a line of a log."""
    row = rows[event.device]
    head = f"{event.device} {row.total - row.left}/{row.total}"
    if isinstance(event, JobDone):
        summary = summarise(event.run.profile)
        level, origin = judge(event.run.profile, summary).level, event.run.profile.origin
        trust = level if origin == MEASURED else f"{level}, {origin}"
        return (
            f"{head}  {event.title}: {duration(summary.median_s)}, {trust}, run {event.run.id} ({event.took_s:.1f} s)"
        )
    if isinstance(event, JobFailed):
        what = "failed" if event.is_final else f"attempt {event.attempt} failed, will be tried again"
        advice = f" (what to do: {event.advice})" if event.is_final and event.advice else ""
        return f"{head}  {event.title}: {what}: {event.reason}{advice}"
    if isinstance(event, DeviceState) and event.state not in QUIET_STATES:
        return f"{head}  {event.state}{': ' if event.detail else ''}{event.detail}"
    return None


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
