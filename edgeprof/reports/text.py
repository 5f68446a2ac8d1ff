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

from device_agents.wire import MEASURED, Profile, TensorInfo
from edgeprof.errors import MeasurementError
from edgeprof.operators import OperatorRow, OperatorTotals, operator_rows, operator_totals
from edgeprof.reports.agreement import ADVICE, agreement
from edgeprof.reports.groups import render_groups
from edgeprof.reports.quantities import count, duration, interval, keep_end, percent, plain, shape, size
from edgeprof.reports.structure import structure_line
from edgeprof.run import Run
from edgeprof.statistics import Summary, summarise
from edgeprof.throughput import Throughput, throughput
from edgeprof.verdict import TRUSTED, Verdict, judge, operator_notes

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
# From these widths on the operator table also shows work and output shapes, and input shapes too.
WIDE, WIDEST = 112, 150
BAR_WIDTH, TYPE_WIDTH, INPUT_WIDTH, OUTPUT_WIDTH = 8, 17, 18, 14
NARROWEST_NAME, WIDEST_NAME = 16, 60
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
)
INPUT_COLUMN: Column = ("Input", INPUT_WIDTH, "left")
OUTPUT_COLUMN: Column = ("Output", OUTPUT_WIDTH, "left")
# What a narrow terminal does without, the least wanted first: bars, spread, type.
DROPPED = ("", "Spread", "Type")
MARKS = {"layout": "layout", "unmapped": "unmapped", "node": "node"}


def render_run(run: Run, *, top: int = 20, group_by: str = "node") -> RenderableType:
    """A run's page: head, latency, verdict, and the `top` operators, or groups of them, that take longest."""
    try:
        summary = summarise(run.profile)
    except MeasurementError:
        summary = None
    verdict = judge(run.profile, summary)
    parts: list[RenderableType] = [_head(run), Text(), _latency(run, summary), Text(), _verdict(run, verdict), Text()]
    return Group(*parts, *_operators(run, top, group_by))


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
    grid.add_row("Inputs", _plain(", ".join(_input(t, profile) for t in profile.inputs)))
    grid.add_row("Origin", _origin(profile.origin))
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(run.created_at_s))
    grid.add_row("Run", _plain(f"{run.id}, {when}, edgeprof {run.edgeprof_version}"))
    return grid


def _input(tensor: TensorInfo, profile: Profile) -> str:
    """With the digest of the user's own values, where these were used."""
    given = [item.file.sha256 for item in profile.job.inputs if item.name == tensor.name]
    values = f" (given values {given[0][:DIGEST_LENGTH]})" if given else ""
    return f"{tensor.name} {tensor.dtype} {shape(tensor.shape)}{values}"


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
    together = throughput(run.profile)
    if together is not None and together.streams > 1:
        grid.add_row("Throughput", _throughput(together))
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
    if not summary.is_interval_useful:
        units = "runs" if summary.error_unit == "block of runs" else "rounds"
        useless = f"  median; no useful interval: {units} differ too much"
        return Text.assemble((duration(summary.median_s), "bold"), useless)
    middle, bounds = interval(summary.median_s, summary.median_low_s, summary.median_high_s)
    width = summary.relative_half_width or 0.0
    return Text.assemble((middle, "bold"), f"  median, {summary.confidence:.0%} interval {bounds} (±{percent(width)})")


def _throughput(together: Throughput) -> str:
    rate = f"{together.inferences_per_s:.4g} inferences/s of {together.streams} streams at once"
    if together.low_per_s is None or together.high_per_s is None:
        return rate + ", without an interval: too few rounds"
    return f"{rate}, {together.confidence:.0%} interval {together.low_per_s:.4g} to {together.high_per_s:.4g}"


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
    grid.add_row("Verdict", _level(verdict.level, run.profile.origin))
    for reason in verdict.reasons:
        grid.add_row("", _point("-", _plain(reason.what)))
        grid.add_row("", _point("  ->", Text(plain(reason.do), style="cyan")))
    _add_outputs(grid, run)
    if verdict.unreadable:
        grid.add_row("Not readable", _plain("; ".join(verdict.unreadable)))
    for note in (*verdict.notes, *run.profile.notes, *run.notes):
        grid.add_row("Note", Text(plain(note), style="dim"))
    return grid


def _add_outputs(grid: Table, run: Run) -> None:
    """One line where all is well; the verdict is of the latency and knows nothing of this."""
    found = agreement(run)
    style = {None: "dim", True: "", False: "bold yellow"}[found.agrees]
    grid.add_row("Outputs", Text(found.sentence, style=style))
    for doubt in found.doubts:
        grid.add_row("", _point("-", Text(doubt)))
    if found.doubts:
        grid.add_row("", _point("  ->", Text(ADVICE, style="cyan")))


def _level(level: str, origin: str) -> Text:
    """The level, which knows nothing of the origin, with the origin: together they cannot be misunderstood."""
    style = LEVEL_STYLES.get(level, "bold red")
    if origin == MEASURED:
        return Text(level.upper(), style=style)
    claim = f", of {plain(origin)} samples: says nothing of a real device"
    return Text.assemble((level.upper(), "bold yellow" if level == TRUSTED else style), (claim, "yellow"))


# --- operators -----------------------------------------------------------------------------------------------------


def _operators(run: Run, top: int, group_by: str) -> Iterator[RenderableType]:
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
    if rows and group_by != "node":
        yield render_groups(run, group_by, top)
        shown = rows
    elif rows:
        yield OperatorTable(shown, recorded.resolution_s, run.id)
    yield _sums(run, totals, shown, recorded.resolution_s)


class OperatorTable:
    """The operators in one form for every runtime; a wide terminal also gets work and shapes, others are told where."""

    def __init__(self, rows: list[OperatorRow], step_s: float, run_id: str) -> None:
        self._rows = rows
        self._step_s = step_s
        self._run_id = run_id

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        is_wide, is_widest = options.max_width >= WIDE, options.max_width >= WIDEST
        extra = (*WORK_COLUMNS, *((INPUT_COLUMN,) if is_widest else ()), OUTPUT_COLUMN) if is_wide else ()
        columns = (*_fitting(options.max_width), *extra)
        room = options.max_width - sum(width + 1 for _, width, _ in columns)
        name_width = min(WIDEST_NAME, max(NARROWEST_NAME, room))
        table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
        table.add_column("Operator", width=name_width, no_wrap=True)
        for title, width, justify in columns:
            table.add_column(title, width=width, justify=justify, no_wrap=True)
        largest = max((row.share or 0.0 for row in self._rows), default=0.0)
        for row in self._rows:
            name = Text(keep_end(plain(row.name), name_width), style="dim" if row.origin == "layout" else "")
            cells = _cells(row, largest, self._step_s) | (_work_cells(row) if is_wide else {})
            table.add_row(name, *(cells[title] for title, _, _ in columns))
        yield table
        if not is_wide:
            export = f"`edgeprof runs export {plain(self._run_id)} --csv -`"
            yield Text(f"MACs, bytes moved, intensity and shapes: a wider terminal, or {export}", style="dim")


def _fitting(room: int) -> tuple[Column, ...]:
    columns = list(COLUMNS)
    for dropped in DROPPED:
        if NARROWEST_NAME + sum(width + 1 for _, width, _ in columns) > room:
            columns = [column for column in columns if column[0] != dropped]
    return tuple(columns)


def _cells(row: OperatorRow, largest: float, step_s: float) -> dict[str, Text]:
    took = ("~" if row.below_resolution else "") + duration(row.median_s, step_s=step_s)
    length = round(BAR_WIDTH * (row.share or 0.0) / largest) if largest else 0
    return {
        "Type": Text(_keep_start(plain(row.type), TYPE_WIDTH)),
        "Maps to": Text(_maps_to(row), style="yellow" if row.origin == "unmapped" else ""),
        "Time": Text(took),
        "Share": Text(percent(row.share)),
        "": Text("█" * length, style="blue"),
        "Spread": Text(percent(row.spread), style="dim"),
    }


def _maps_to(row: OperatorRow) -> str:
    return f"{len(row.nodes)} nodes" if row.origin == "fused" else MARKS.get(row.origin, plain(row.origin))


def _work_cells(row: OperatorRow) -> dict[str, Text]:
    return {
        "MACs": Text(count(row.macs)),
        "Moved": Text(size(row.moved_bytes)),
        "MAC/B": Text("-" if row.intensity is None else f"{row.intensity:.3g}"),
        "Input": _first_shape(row.input_shapes, INPUT_WIDTH),
        "Output": _first_shape(row.output_shapes, OUTPUT_WIDTH),
    }


def _first_shape(shapes: tuple[tuple[int, ...], ...], width: int) -> Text:
    """The first shape, and how many more there are: "1x16x48x48 +2"."""
    if not shapes:
        return Text("-")
    more = f" +{len(shapes) - 1}" if len(shapes) > 1 else ""
    return Text(_keep_start(shape(shapes[0]), width - len(more)) + more)


def _sums(run: Run, totals: OperatorTotals, shown: list[OperatorRow], resolution_s: float) -> Table:
    grid = _grid()
    if totals.sum_s is None:
        grid.add_row("Operators", "no kernel was timed")
        if totals.profiled_median_s is not None:
            grid.add_row("Profiled run", f"{duration(totals.profiled_median_s)}, {_overhead(totals.overhead)}")
        _add_operator_notes(grid, run)
        return grid
    part = percent(sum(row.share or 0.0 for row in shown))
    grid.add_row("", Text(f"{len(shown)} of {totals.n_kernels} kernels shown, {part} of their time", style="dim"))
    grid.add_row("Sum of kernels", duration(totals.sum_s))
    if totals.remainder_s is None:
        grid.add_row("Profiled run", "no whole run was timed")
    else:
        grid.add_row("Profiled run", f"{duration(totals.profiled_median_s)}, {_overhead(totals.overhead)}")
        remainder = f"{duration(totals.remainder_s)}, {percent(totals.remainder_share)} of the profiled run"
        grid.add_row("Unexplained", remainder + ": time between kernels and in the profiler")
    unmapped = f"{totals.n_unmapped} of {totals.n_kernels} kernels, {percent(totals.unmapped_share)} of their time"
    grid.add_row("Unmapped", Text(unmapped, style="yellow" if totals.n_unmapped else ""))
    if run.structure is not None:
        style = "yellow" if run.structure.n_failures else ""
        grid.add_row("Structure", Text(plain(structure_line(run.structure)), style=style))
    if any(row.below_resolution for row in shown):
        grid.add_row("~", f"under ten steps of the runtime's clock ({duration(resolution_s)}): not reliable")
    if totals.note:
        grid.add_row("Note", Text(plain(totals.note), style="dim"))
    _add_operator_notes(grid, run)
    return grid


def _add_operator_notes(grid: Table, run: Run) -> None:
    for note in operator_notes(run.profile):
        grid.add_row("Beware", Text(plain(note), style="yellow"))


def _overhead(share: float | None) -> str:
    if share is None:
        return "there is no latency of one stream to compare with"
    # Rounded first: "-0.0%" would claim a direction.
    return f"{round(share, 3) + 0.0:+.1%} against the run without profiler"


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


def _keep_start(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
