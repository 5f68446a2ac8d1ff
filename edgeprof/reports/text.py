"""Runs on a terminal: what was measured, how far to trust it, and where the time goes.

Everything that came from a model or a device enters as `Text`, never as rich markup.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Literal

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from device_agents.wire import MEASURED
from edgeprof.errors import MeasurementError
from edgeprof.reports.quantities import count, duration, interval, percent, plain, shape, size
from edgeprof.run import Run
from edgeprof.statistics import OperatorRow, OperatorTotals, Summary, operator_rows, operator_totals, summarise
from edgeprof.verdict import TRUSTED, Verdict, judge

__all__ = ["render_run"]

LEVEL_STYLES = {
    TRUSTED: "bold green",
    "steady-unverified": "bold yellow",
    "noisy": "bold yellow",
    "invalid": "bold red",
}
ORIGIN_STYLES = {MEASURED: "bold green"}
DIGEST_LENGTH = 12
LABEL_WIDTH = 16
# From this width on the operator table also shows work and shapes.
WIDE = 110
BAR_WIDTH, TYPE_WIDTH, OUTPUT_WIDTH = 8, 17, 14
Column = tuple[str, int, Literal["left", "right"]]
COLUMNS: tuple[Column, ...] = (
    ("Type", TYPE_WIDTH, "left"),
    ("Maps to", 8, "left"),
    ("Time", 8, "right"),
    ("Share", 5, "right"),
    ("", BAR_WIDTH, "left"),
    ("Spread", 6, "right"),
)
WORK_COLUMNS: tuple[Column, ...] = (
    ("MACs", 7, "right"),
    ("Moved", 7, "right"),
    ("MAC/B", 6, "right"),
    ("Output", OUTPUT_WIDTH, "left"),
)
MARKS = {"layout": "layout", "unmapped": "unmapped", "node": "node"}


def render_run(run: Run, *, top: int = 20) -> RenderableType:
    """A run's page: head, latency, verdict, and the `top` operators that take longest."""
    try:
        summary = summarise(run.profile)
    except MeasurementError:
        summary = None
    verdict = judge(run.profile, summary)
    parts: list[RenderableType] = [_head(run), Text(), _latency(run, summary), Text(), _verdict(run, verdict), Text()]
    return Group(*parts, *_operators(run, top))


# --- head ----------------------------------------------------------------------------------------------------------


def _head(run: Run) -> Table:
    profile, machine = run.profile, run.profile.machine
    model = profile.job.model
    n_bytes = sum(file.size_bytes for file in model.files)
    emulator = f"on {machine.emulator}" if machine.emulator else None
    parts = (machine.model, machine.cpu, machine.architecture, f"{machine.n_cpus} CPUs", machine.kernel, emulator)
    grid = _grid()
    grid.add_row("Model", _plain(f"{model.name}  ({model.format}, {size(n_bytes)}, {model.digest[:DIGEST_LENGTH]})"))
    grid.add_row("Device", _plain(f"{run.device}: " + ", ".join(part for part in parts if part)))
    grid.add_row("Runtime", _plain(f"{profile.job.runtime} {profile.runtime_version}, Python {profile.python}"))
    in_force = ", ".join(f"{key}={choice}" for key, choice in sorted(profile.in_force.items()))
    grid.add_row("In force", _plain(in_force or "the runtime does not tell"))
    grid.add_row("Inputs", _plain(", ".join(f"{t.name} {t.dtype} {shape(t.shape)}" for t in profile.inputs)))
    grid.add_row("Origin", _origin(profile.origin))
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(run.created_at_s))
    grid.add_row("Run", _plain(f"{run.id}, {when}, edgeprof {run.edgeprof_version}"))
    return grid


def _origin(origin: str) -> Text:
    text = Text(plain(origin.upper()), style=ORIGIN_STYLES.get(origin, "bold reverse yellow"))
    if origin != MEASURED:
        text.append("  not a measurement of real hardware of this kind", style="yellow")
    return text


# --- latency -------------------------------------------------------------------------------------------------------


def _latency(run: Run, summary: Summary | None) -> Table:
    grid = _grid()
    if summary is None:
        grid.add_row("Latency", Text("none: there is no usable sample", style="bold red"))
        return grid
    grid.add_row("Latency", _median(summary))
    grid.add_row("90th percentile", _tail(summary.p90_s, summary.p90_missing))
    grid.add_row("99th percentile", _tail(summary.p99_s, summary.p99_missing))
    spread = f"{duration(summary.min_s)} to {duration(summary.max_s)}, spread {percent(summary.relative_spread)}"
    grid.add_row("Single runs", f"{spread}  (1.4826 MAD / median)")
    grid.add_row("Counted", _counted(run, summary))
    grid.add_row("Start", _start(run))
    grid.add_row("Memory", _memory(run))
    return grid


def _median(summary: Summary) -> Text:
    if summary.median_low_s is None or summary.median_high_s is None:
        return Text.assemble((duration(summary.median_s), "bold"), f"  median; {summary.interval_missing}")
    middle, bounds = interval(summary.median_s, summary.median_low_s, summary.median_high_s)
    width = summary.relative_half_width or 0.0
    return Text.assemble((middle, "bold"), f"  median, {summary.confidence:.0%} interval {bounds} (±{percent(width)})")


def _tail(seconds: float | None, missing: str | None) -> Text:
    if seconds is None:
        return Text(f"not given: {missing}", style="dim")
    return Text(duration(seconds))


def _counted(run: Run, summary: Summary) -> str:
    warmup = _plural(len(run.profile.warmup_s), "run")
    text = f"{_plural(summary.n_runs, 'run')} in {_plural(summary.n_rounds, 'round')}, after {warmup} of warm-up"
    if not run.profile.warmup_is_flat:
        text += ", which did not become flat"
    if summary.n_discarded:
        text += f"; {summary.n_discarded} impossible samples left out"
    return text


def _start(run: Run) -> str:
    profile = run.profile
    parts = [f"import {duration(profile.import_s)}"]
    if profile.in_force.get("load_and_initialise"):
        parts.append(f"load and initialise {duration(profile.load_s + profile.initialise_s)}")
    else:
        parts += [f"load {duration(profile.load_s)}", f"initialise {duration(profile.initialise_s)}"]
    return ", ".join([*parts, f"first inference {duration(profile.first_inference_s)}"])


def _memory(run: Run) -> str:
    before, peak = run.profile.memory_before_bytes, run.profile.memory_peak_bytes
    if peak is None:
        return "not measured: the device does not tell"
    if before is None:
        return f"{size(peak)} at its peak"
    return f"{size(peak)} at its peak, {size(before)} before the model was loaded"


# --- verdict -------------------------------------------------------------------------------------------------------


def _verdict(run: Run, verdict: Verdict) -> Table:
    grid = _grid()
    level = Text(verdict.level.upper(), style=LEVEL_STYLES.get(verdict.level, "bold red"))
    grid.add_row("Verdict", level)
    for reason in verdict.reasons:
        grid.add_row("", _point("-", _plain(reason.what)))
        grid.add_row("", _point("  ->", Text(plain(reason.do), style="cyan")))
    if verdict.unreadable:
        grid.add_row("Not readable", _plain("; ".join(verdict.unreadable)))
    for note in (*verdict.notes, *run.profile.notes, *run.notes):
        grid.add_row("Note", Text(plain(note), style="dim"))
    return grid


# --- operators -----------------------------------------------------------------------------------------------------


def _operators(run: Run, top: int) -> Iterator[RenderableType]:
    totals = operator_totals(run)
    recorded = run.profile.operators
    if recorded is None or totals is None:
        missing = run.profile.operators_missing or "not asked for (--operators)"
        grid = _grid()
        grid.add_row("Operators", Text(f"none: {plain(missing)}", style="dim"))
        yield grid
        return
    rows = operator_rows(run)
    shown = sorted(rows, key=lambda row: -(row.median_s or 0.0))[:top]
    yield OperatorTable(shown, recorded.resolution_s)
    yield _sums(run, totals, shown, recorded.resolution_s)


class OperatorTable:
    """The operators in one form for every runtime; a wide terminal also gets work and shapes."""

    def __init__(self, rows: list[OperatorRow], step_s: float) -> None:
        self._rows = rows
        self._step_s = step_s

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        is_wide = options.max_width >= WIDE
        columns = (*COLUMNS, *(WORK_COLUMNS if is_wide else ()))
        name_width = min(60, max(16, options.max_width - sum(width + 1 for _, width, _ in columns)))
        table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
        table.add_column("Operator", width=name_width, no_wrap=True)
        for title, width, justify in columns:
            table.add_column(title, width=width, justify=justify, no_wrap=True)
        largest = max((row.share or 0.0 for row in self._rows), default=0.0)
        for row in self._rows:
            name = Text(_keep_end(plain(row.name), name_width), style="dim" if row.origin == "layout" else "")
            table.add_row(name, *_cells(row, largest, self._step_s), *(_work_cells(row) if is_wide else ()))
        yield table


def _cells(row: OperatorRow, largest: float, step_s: float) -> tuple[Text, ...]:
    took = ("~" if row.below_resolution else "") + duration(row.median_s, step_s=step_s)
    length = round(BAR_WIDTH * (row.share or 0.0) / largest) if largest else 0
    return (
        Text(_keep_start(plain(row.type), TYPE_WIDTH)),
        Text(_maps_to(row), style="yellow" if row.origin == "unmapped" else ""),
        Text(took),
        Text(percent(row.share)),
        Text("█" * length, style="blue"),
        Text(percent(row.spread), style="dim"),
    )


def _maps_to(row: OperatorRow) -> str:
    return f"{len(row.nodes)} nodes" if row.origin == "fused" else MARKS.get(row.origin, plain(row.origin))


def _work_cells(row: OperatorRow) -> tuple[Text, ...]:
    intensity = "-" if row.intensity is None else f"{row.intensity:.3g}"
    output = shape(row.output_shapes[0]) if row.output_shapes else "-"
    more = f" +{len(row.output_shapes) - 1}" if len(row.output_shapes) > 1 else ""
    return (
        Text(count(row.macs)),
        Text(size(row.moved_bytes)),
        Text(intensity),
        Text(_keep_start(output + more, OUTPUT_WIDTH)),
    )


def _sums(run: Run, totals: OperatorTotals, shown: list[OperatorRow], resolution_s: float) -> Table:
    grid = _grid()
    part = percent(sum(row.share or 0.0 for row in shown))
    grid.add_row("", Text(f"{len(shown)} of {totals.n_kernels} kernels shown, {part} of their time", style="dim"))
    grid.add_row("Sum of kernels", duration(totals.sum_s))
    grid.add_row("Profiled run", f"{duration(totals.profiled_median_s)}, {_overhead(totals.overhead)}")
    remainder = f"{duration(totals.remainder_s)}, {percent(totals.remainder_share)} of the profiled run"
    grid.add_row("Unexplained", remainder + ": time between kernels and in the profiler")
    unmapped = f"{totals.n_unmapped} of {totals.n_kernels} kernels, {percent(totals.unmapped_share)} of their time"
    grid.add_row("Unmapped", Text(unmapped, style="yellow" if totals.n_unmapped else ""))
    if any(row.below_resolution for row in shown):
        grid.add_row("~", f"under ten steps of the runtime's clock ({duration(resolution_s)}): not reliable")
    if totals.note:
        grid.add_row("Note", Text(plain(totals.note), style="dim"))
    return grid


def _overhead(share: float | None) -> str:
    if share is None:
        return "there is no latency to compare with"
    return f"{share:+.1%} against the run without profiler"


# --- pieces --------------------------------------------------------------------------------------------------------


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=LABEL_WIDTH, style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    return grid


def _point(mark: str, text: Text) -> Table:
    """Text whose further lines stand under its first."""
    point = Table.grid(padding=(0, 1, 0, 0))
    point.add_column(width=len(mark), no_wrap=True)
    point.add_column(overflow="fold")
    point.add_row(mark, text)
    return point


def _plural(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _plain(text: str) -> Text:
    return Text(plain(text))


def _keep_end(text: str, width: int) -> str:
    """Names of nodes differ at their end: /features/features.3/conv/Conv."""
    return text if len(text) <= width else "…" + text[len(text) - width + 1 :]


def _keep_start(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
