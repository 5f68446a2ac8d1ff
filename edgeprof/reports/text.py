"""Runs on a terminal: what was measured, how far to trust it, and where the time goes.

Everything that came from a model or a device enters as `Text`, never as rich markup.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from device_agents.wire import MEASURED, Profile, TensorInfo
from edgeprof.errors import MeasurementError
from edgeprof.operators import OperatorRow, OperatorTotals, operator_rows, operator_totals
from edgeprof.reports.agreement import ADVICE, agreement
from edgeprof.reports.groups import render_groups
from edgeprof.reports.joules import Joules, energy_lines, joules
from edgeprof.reports.operator_table import OperatorTable
from edgeprof.reports.quantities import duration, interval, percent, plain, shape, size
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


def render_run(run: Run, *, top: int = 20, group_by: str = "node") -> RenderableType:
    """A run's page: head, latency, verdict, and the `top` operators, or groups of them, that take longest."""
    try:
        summary = summarise(run.profile)
    except MeasurementError:
        summary = None
    verdict = judge(run.profile, summary)
    found = joules(run)
    parts: list[RenderableType] = [_head(run), Text(), _latency(run, summary), Text(), _verdict(run, verdict), Text()]
    return Group(*parts, *_energy(run, found), *_operators(run, top, group_by, found))


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
    grid.add_row("Single runs", _single_runs(run, summary))
    grid.add_row("Counted", _counted(run, summary))
    grid.add_row("Start", _start(run))
    grid.add_row("Memory", _memory(run))
    return grid


def _single_runs(run: Run, summary: Summary) -> str:
    told = [r.told for r in run.profile.rounds if r.told is not None]
    if told:
        least, most = min(one.min_s for one in told), max(one.max_s for one in told)
        deviation = duration(max(one.std_s for one in told))
        return f"{duration(least)} to {duration(most)}, standard deviation of a round at most {deviation}  (as told)"
    spread = f"{duration(summary.min_s)} to {duration(summary.max_s)}, spread {percent(summary.relative_spread)}"
    return f"{spread}  (1.4826 MAD / median)"


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
    runs = _plural(summary.n_runs, "run")
    if any(r.told is not None for r in run.profile.rounds):
        runs = f"{_plural(sum(r.n_runs or 1 for r in run.profile.rounds), 'run')}, of each round the mean alone,"
        return f"{runs} in {_plural(summary.n_rounds, 'round')}, each after a warm-up of its own"
    text = f"{runs} in {_plural(summary.n_rounds, 'round')}, after {warmup} of warm-up"
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


# --- energy --------------------------------------------------------------------------------------------------------


def _energy(run: Run, found: Joules) -> Iterator[RenderableType]:
    grid = _grid()
    for line in energy_lines(run, found):
        grid.add_row(line.label, Text(plain(line.text), style="yellow" if line.is_doubt else ""))
    if grid.row_count:
        yield grid
        yield Text()


# --- operators -----------------------------------------------------------------------------------------------------


def _operators(run: Run, top: int, group_by: str, found: Joules) -> Iterator[RenderableType]:
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
        yield OperatorTable(shown, recorded.resolution_s, run.id, found)
    yield _sums(run, totals, shown, recorded.resolution_s)


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
