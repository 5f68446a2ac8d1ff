"""A progress bar with an honest estimate, on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from device_agents.wire import Progress

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[Progress], None] | None]:
    """Shows the stage of a job and, once the device knows it, how long the rounds will still take."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(20),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", markup=False),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None, left="")

        def show(progress: Progress) -> None:
            bar.update(
                task,
                description=f"{title}: {progress.stage}",
                total=progress.total or None,
                completed=progress.done,
                left=_left(progress),
            )

        yield show


def _left(progress: Progress) -> str:
    if progress.stage == "upload":
        return f"{progress.done / 1e6:.1f} of {progress.total / 1e6:.1f} MB"
    return "" if progress.remaining_s is None else f"about {progress.remaining_s:.0f} s of rounds left"
