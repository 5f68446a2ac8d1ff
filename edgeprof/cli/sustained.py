"""`edgeprof profile --sustained` and `edgeprof runs sustained`: models that run without rest, and what heat does."""

from __future__ import annotations

import re
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeprof.cli.stores import open_store, store_option

if TYPE_CHECKING:
    from edgeprof.errors import EdgeprofError
    from edgeprof.fleet import Device
    from edgeprof.models import ModelFile
    from edgeprof.profiling import OnProgress, Settings
    from edgeprof.run import Run
    from edgeprof.store import Store
    from edgeprof.sustained import Sustained
    from edgeprof.without_rest import Cooling, Endurance

__all__ = ["Duration", "run_sustained", "sustained_runs"]

EXIT_ERROR, EXIT_SOME_FAILED = 1, 3
LEASE_RETRY_S = 2.0
DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s)?")
# How rounds are cut, passes that would begin on a hot chip, and a verdict that is for rounds with rests.
EXCLUDED = ("rounds", "min_runs", "min_time", "max_time", "operators", "operator_runs", "energy", "require", "detach")


class Duration(click.ParamType[float]):
    """A time such as 20m, 90s or 1h30m, in seconds; long enough for a first minute and a last one."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from edgeprof.without_rest import LONGEST_S, SHORTEST_S

        if isinstance(value, float):
            return value
        found = DURATION.fullmatch(value)
        if not value or found is None:
            self.fail(f"{value!r} is no time such as 20m, 150s or 1h30m.", param, ctx)
        lasts_s = sum(float(part or 0) * unit_s for part, unit_s in zip(found.groups(), (3600, 60, 1), strict=True))
        if not SHORTEST_S <= lasts_s <= LONGEST_S:
            self.fail(
                f"{value!r}: from {SHORTEST_S / 60:.0f}m (a first minute and a last one) to {LONGEST_S / 3600:.0f}h.",
                param,
                ctx,
            )
        return lasts_s


def run_sustained(
    paths: tuple[Path, ...], settings: list[Settings], devices: list[Device], options: dict[str, Any]
) -> int:
    """Run every model in every one of these settings on every device, each without rest; the exit code.

    `options` are those of `edgeprof profile`, "sustained_s" among them.
    """
    from edgeprof.models import read_arrays, read_model

    _refuse_others(options)
    values = None if options["input_path"] is None else read_arrays(options["input_path"])
    # All of them are read before the first is measured: what cannot be done is said at once.
    jobs = [
        (read_model(path, one.options.shapes, one.options.batch, values), one) for path in paths for one in settings
    ]
    found: list[Sustained] = []
    n_failed = 0
    with ExitStack() as stack:
        store = None if options["no_store"] else stack.enter_context(open_store(options["place"]))
        for device in devices:
            here, failed_here = _on_device(device, jobs, store, options)
            found += here
            n_failed += failed_here
    _finish(found, options["json_path"])
    if n_failed:
        return EXIT_SOME_FAILED if found else EXIT_ERROR
    return 0


def _refuse_others(options: dict[str, Any]) -> None:
    from edgeprof.cli.profile_settings import is_given

    for name in EXCLUDED:
        if is_given(name):
            option = "--" + name.replace("_", "-")
            raise click.UsageError(
                f"--sustained and {option} exclude each other: the model runs on and on, in rounds of its own"
            )


def _on_device(
    device: Device, jobs: list[tuple[ModelFile, Settings]], store: Store | None, options: dict[str, Any]
) -> tuple[list[Sustained], int]:
    """What came of each job, and how many failed; a failure is told at once and the others go on."""
    from edgeprof.errors import EdgeprofError
    from edgeprof.profiling import OpenDevice
    from edgeprof.reports.sustained import render_sustained
    from edgeprof.sustained import sustained
    from edgeprof.without_rest import Endurance, lasting

    found: list[Sustained] = []
    left = list(jobs)
    n_failed = 0
    try:
        with OpenDevice(device, measure=lasting(options["sustained_s"])) as opened:
            endurance = Endurance(opened, options["sustained_s"])
            while left:
                model, settings = left.pop(0)
                try:
                    run = _measured(endurance, f"{model.name} on {device.name}", model, settings, options["wait_s"])
                    # Kept before it is shown: a reader of our output that has left must not cost a measurement.
                    is_kept = _keep(run, store, options["debug"])
                    found.append(sustained(run))
                except EdgeprofError as error:
                    n_failed += 1
                    _tell(error, options["debug"])
                    continue
                n_failed += not is_kept
                _print(render_sustained(found[-1]), options["json_path"])
                if store is not None and is_kept:
                    click.echo(f"edgeprof: kept as run {run.id}: edgeprof runs sustained {run.id}", err=True)
                for note in run.notes:
                    click.echo(f"edgeprof: {model.name}: {note}", err=True)
    except EdgeprofError as error:
        n_failed += len(left)
        _tell(error, options["debug"])
    return found, n_failed


def _measured(endurance: Endurance, title: str, model: ModelFile, settings: Settings, wait_s: float) -> Run:
    """As soon as nobody else has the device, if that is soon enough."""
    from edgeprof.cli.progress import progress_bar
    from edgeprof.errors import JobRefused

    until_s, is_told = time.monotonic() + wait_s, False
    while True:
        try:
            with progress_bar(title) as on_progress:
                return endurance.run(model, settings, on_progress, _CoolingLine(title, on_progress))
        except JobRefused as refusal:
            if refusal.kind != "leased" or time.monotonic() >= until_s:
                raise
            if not is_told:
                click.echo(f"edgeprof: waiting: {refusal}", err=True)
            is_told = True
        time.sleep(LEASE_RETRY_S)


class _CoolingLine:
    """On a terminal, in the progress bar: why the device still cools, how long at least. Elsewhere one line of it."""

    def __init__(self, title: str, on_progress: OnProgress | None) -> None:
        self._title = title
        self._on_progress = on_progress
        self._is_told = False

    def __call__(self, cooling: Cooling) -> None:
        from device_agents.wire import Progress

        why = "; ".join(cooling.reasons) or "it tells nothing of its heat"
        left = "" if cooling.left_s is None else f", at least {cooling.left_s:.0f} s more"
        if self._on_progress is not None:
            self._on_progress(Progress(f"cooling down, {why}{left}"))
        elif not self._is_told:
            click.echo(f"edgeprof: {self._title}: waiting until the device is as cool as at first: {why}", err=True)
        self._is_told = True


def _keep(run: Run, store: Store | None, debug: bool) -> bool:
    """Store the run; whether nothing went wrong."""
    from edgeprof.errors import StoreError

    try:
        if store is not None:
            store.add(run)
    except StoreError as error:
        _tell(error, debug)
        return False
    return True


def _tell(error: EdgeprofError, debug: bool) -> None:
    if debug:
        raise error
    click.echo(f"edgeprof: {error}", err=True)
    if error.advice:
        click.echo(f"  what to do: {error.advice}", err=True)


def _finish(found: list[Sustained], json_path: str | None) -> None:
    from edgeprof.cli.output import write_text
    from edgeprof.reports.sustained import endured, render_standings, write_endured

    whole = endured(found)
    for one in whole.standings:
        _print(render_standings(one), json_path)
    if json_path:
        write_text(json_path, write_endured(whole))


def _print(page: Any, json_path: str | None) -> None:
    from edgeprof.cli.output import STANDARD_OUTPUT, console

    out = console(stderr=json_path == STANDARD_OUTPUT)
    out.print(page)
    out.print()


@click.command(
    "sustained",
    short_help="What became of models that ran without rest.",
    epilog="Example: edgeprof runs sustained 20260131-12 latest --json both.json",
)
@click.argument("references", metavar="RUN...", nargs=-1, required=True)
@click.option("--json", "json_path", metavar="FILE", help="Write JSON; - is standard output.")
@store_option
def sustained_runs(references: tuple[str, ...], json_path: str | None, place: str | None) -> None:
    """Tell when the device throttled, what is left of the speed of minute 1, and how several models rank then and now.

    RUN is a run of `edgeprof profile --sustained`: its id or the beginning, "latest", or a file of `runs export`.
    """
    from edgeprof.cli.runs import load_each
    from edgeprof.reports.sustained import render_sustained
    from edgeprof.sustained import sustained

    found = [sustained(run) for run in load_each(references, place)]
    if json_path != "-":
        for one in found:
            _print(render_sustained(one), json_path)
    _finish(found, json_path)
