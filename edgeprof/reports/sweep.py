"""A batch sweep: what a larger batch costs and gains, computed from the runs of one model on one device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgeprof.reports.quantities import duration, interval, plain
from edgeprof.run import Run
from edgeprof.statistics import Summary, summarise
from edgeprof.throughput import throughput
from edgeprof.verdict import judge

__all__ = ["SweepRow", "render_sweep", "sweep"]


@dataclass(frozen=True, kw_only=True)
class SweepRow:
    """One batch size. `items_per_s` counts every item of every batch; `speedup` is against the smallest batch.

    With one stream `items_per_s` follows from the median; with several it is what all of them did together.
    """

    batch: int
    run: str
    latency: Summary
    latency_per_item_s: float
    items_per_s: float
    speedup: float
    verdict: str


def sweep(runs: Sequence[Run]) -> tuple[SweepRow, ...]:
    """A row for each run, the smallest batch first; all are of one model on one device, each with a batch.

    Raises:
        MeasurementError: a run has no usable sample.
    """
    found = sorted(((run.profile.job.options.batch or 1, run) for run in runs), key=lambda pair: pair[0])
    rows: list[SweepRow] = []
    for batch, run in found:
        summary = summarise(run.profile)
        together = throughput(run.profile) if run.profile.job.options.streams > 1 else None
        rate = batch * (together.inferences_per_s if together is not None else 1 / summary.median_s)
        rows.append(
            SweepRow(
                batch=batch,
                run=run.id,
                latency=summary,
                latency_per_item_s=summary.median_s / batch,
                items_per_s=rate,
                speedup=rate / rows[0].items_per_s if rows else 1.0,
                verdict=judge(run.profile, summary).level,
            )
        )
    return tuple(rows)


def render_sweep(runs: Sequence[Run]) -> RenderableType:
    """The closing table of a sweep."""
    rows = sweep(runs)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("Batch", justify="right")
    table.add_column("Latency", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("Per item", justify="right")
    table.add_column("Items/s", justify="right")
    table.add_column(f"Against batch {rows[0].batch}", justify="right")
    table.add_column("Verdict")
    for row in rows:
        middle, bounds = _latency(row.latency)
        table.add_row(
            str(row.batch),
            middle,
            bounds,
            duration(row.latency_per_item_s),
            f"{row.items_per_s:.4g}",
            f"{row.speedup:.2f}x",
            row.verdict,
        )
    job = runs[0].profile.job
    title = f"{job.model.name} on {runs[0].device}, {job.runtime}: items per second by batch size"
    return Group(Text(plain(title), style="bold"), table)


def _latency(summary: Summary) -> tuple[str, str]:
    if summary.median_low_s is None or summary.median_high_s is None or not summary.is_interval_useful:
        return duration(summary.median_s), "none that is useful"
    return interval(summary.median_s, summary.median_low_s, summary.median_high_s)
