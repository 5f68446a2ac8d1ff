"""`edgeprof profile --sustained` and `edgeprof runs sustained`: models that run without rest, and what heat does."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeprof.cli.measuring import keep, tell, tell_assumptions, when_free
from edgeprof.cli.parameter_types import Duration
from edgeprof.cli.stores import open_store, store_option

if TYPE_CHECKING:
    from edgeprof.fleet import Device
    from edgeprof.models import ModelFile
    from edgeprof.profiling import OnProgress, Settings
    from edgeprof.run import Run
    from edgeprof.store import Store
    from edgeprof.sustained import Sustained
    from edgeprof.without_rest import Cooling, Endurance

__all__ = ["SustainedTime", "run_sustained", "sustained_runs"]

EXIT_ERROR, EXIT_SOME_FAILED = 1, 3
# How rounds are cut, passes that would begin on a hot chip, and a verdict that is for rounds with rests.
EXCLUDED = ("rounds", "min_runs", "min_time", "max_time", "operators", "operator_runs", "energy", "require", "detach")


class SustainedTime(Duration):
    """A duration that has a first minute and a last one, and in which a minute shows."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from edgeprof.without_rest import LONGEST_S, SHORTEST_S

        lasts_s = super().convert(value, param, ctx)
        if not SHORTEST_S <= lasts_s <= LONGEST_S:
            shortest, longest = f"{SHORTEST_S / 60:.0f}m", f"{LONGEST_S / 3600:.0f}h"
            self.fail(f"{value} is not from {shortest} (a first minute and a last one) to {longest}", param, ctx)
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
    tell_assumptions([model for model, _ in jobs])
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
                    unkept = list(keep(run, store))
                    found.append(sustained(run))
                except EdgeprofError as error:
                    n_failed += 1
                    tell(error, options["debug"])
                    continue
                n_failed += bool(unkept)
                for complaint in unkept:
                    tell(complaint, options["debug"])
                _print(render_sustained(found[-1]), options["json_path"])
                if store is not None and not unkept:
                    click.echo(f"edgeprof: kept as run {run.id}: edgeprof runs sustained {run.id}", err=True)
                for note in (
                    note for note in run.notes if note not in (*model.inputs.assumptions, *model.inputs.notes)
                ):
                    click.echo(f"edgeprof: {model.name}: {note}", err=True)
    except EdgeprofError as error:
        n_failed += len(left)
        tell(error, options["debug"])
    return found, n_failed


def _measured(endurance: Endurance, title: str, model: ModelFile, settings: Settings, wait_s: float) -> Run:
    """As soon as nobody else has the device, if that is soon enough."""
    from edgeprof.cli.progress import progress_bar

    def measure() -> Run:
        with progress_bar(title) as on_progress:
            return endurance.run(model, settings, on_progress, _CoolingLine(title, on_progress))

    return when_free(measure, wait_s)


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
