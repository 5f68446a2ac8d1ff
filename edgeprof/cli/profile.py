"""`edgeprof profile`: measure models on devices, keep every profile, print what it means."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeprof import gate_timeout
from edgeprof.cli.measuring import keep, tell, tell_assumptions, when_free
from edgeprof.cli.profile_settings import to_batches, to_settings
from edgeprof.cli.recipe import Followed, recipe_options
from edgeprof.cli.stores import open_store, store_option
from edgeprof.cli.sustained import SustainedTime, run_sustained

if TYPE_CHECKING:
    from edgeprof.errors import EdgeprofError
    from edgeprof.fleet import Device
    from edgeprof.models import ModelFile
    from edgeprof.profiling import OpenDevice, Settings
    from edgeprof.run import Run
    from edgeprof.store import Store

EXIT_ERROR, EXIT_SOME_FAILED, EXIT_NOT_TRUSTED = 1, 3, 4
MOST_THREADS = 1024
MOST_STREAMS = 256

EPILOG = """\b
Examples:
  edgeprof profile model.onnx --operators
  edgeprof profile model.tflite -d pi5 -d pi4 --threads 4
  edgeprof profile model.onnx -d pi5 --require trusted --json profile.json
  edgeprof profile model.tflite -d pi5 --energy
  edgeprof profile model.onnx --input inputs.npz
  edgeprof profile model.onnx --batch 1,2,4,8
  edgeprof profile small.tflite large.tflite -d pi5 --sustained 20m
  edgeprof profile model.onnx -d pi5 --threads 4 --clock-cap policy0=1.5GHz
  edgeprof profile silero_vad_16k_op15.onnx --shape input=1,576 --shape state=2,1,128"""


class Seconds(click.FloatRange):
    """A finite number: "nan" passes any comparison with a bound, and nobody can wait "inf" seconds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a number of seconds.", param, ctx)
        return number


@click.command(epilog=EPILOG)
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="MODEL...")
@click.option("-d", "--device", "names", multiple=True, help="Device of fleet.toml; this machine if none is named.")
@click.option("--group", "groups", multiple=True, help="Every device of a group.")
@click.option("--all", "every", is_flag=True, help="Every device: those of fleet.toml, and this machine.")
@click.option(
    "--runtime",
    type=click.Choice(["onnxruntime", "litert", "tflite", "benchmark_model", "simulated"]),
    help="Default: what fits.",
)
@click.option("--operators", is_flag=True, help="Time every operator too, in a second pass.")
@click.option(
    "--operator-runs", type=click.IntRange(1), default=30, show_default=True, help="Runs of the operator pass, at most."
)
@click.option(
    "--energy",
    is_flag=True,
    help="Measure energy too: of an inference, and of its operators, each cut out and looped alone. Takes minutes.",
)
@click.option(
    "--meter",
    metavar="NAME",
    help="What measures it: a meter of `devices show`, shelly:HOST, tasmota:HOST, joulescope, or external for a trace "
    "to `runs attach` later.  [default: the device's own in fleet.toml, else the best it has]",
)
@click.option(
    "--energy-windows", type=click.IntRange(5, 1000), default=5, show_default=True, help="Windows of load, at least."
)
@click.option(
    "--energy-window", type=Seconds(10, 3600), default=10.0, show_default=True, help="Seconds of a window, at least."
)
@click.option(
    "--energy-budget",
    type=Seconds(0),
    default=900.0,
    show_default=True,
    help="Seconds for operators in loops, those first that take longest; 0 for none.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, MOST_THREADS),
    default=1,
    show_default=True,
    help="Threads inside an operator.",
)
@click.option(
    "--affinity", metavar="CPUS", help="CPUs to run on, as 0,1 or 2-3; as many as --threads: one for each, in order."
)
@click.option(
    "--spinning/--no-spinning",
    default=None,
    help="Whether ONNX Runtime's idle threads wait in a busy loop.  [default: with one stream]",
)
@click.option(
    "--clock-cap",
    "clock_caps",
    multiple=True,
    metavar="POLICY=CLOCK",
    help="Cap the clock of CPUs while it is measured, as policy0=1.2GHz; policies: `devices show --clusters`.",
)
@click.option(
    "--streams",
    type=click.IntRange(1, MOST_STREAMS),
    default=1,
    show_default=True,
    help="Inferences at once, each with a session and --threads of its own.",
)
@click.option(
    "--batch",
    "batches",
    metavar="N[,N...]",
    help="Replace a dynamic first dimension of every input; of several sizes, profile each and compare them.",
)
@click.option("--shape", "shapes", multiple=True, metavar="NAME=1,3,224,224", help="Shape of an input.")
@click.option(
    "--input",
    "input_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Values of the inputs by name, as numpy.savez writes them; .npy for a model with one input.",
)
@click.option(
    "--optimization",
    type=click.Choice(["all", "extended", "basic", "none"]),
    default="all",
    show_default=True,
    help="ONNX Runtime's graph optimization level.",
)
@click.option("--provider", help="ONNX Runtime's execution provider, as CPUExecutionProvider.")
@click.option("--provider-option", "provider_options", multiple=True, metavar="KEY=VALUE")
@click.option("--xnnpack/--no-xnnpack", default=True, show_default=True, help="TFLite's XNNPACK delegate.")
@click.option("--delegate", metavar="PATH", help="A TFLite delegate library on the device.")
@click.option("--delegate-option", "delegate_options", multiple=True, metavar="KEY=VALUE")
@click.option("--library", metavar="PATH", help="libtensorflowlite_c.so on the device (runtime tflite).")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Rounds, each after a gate.")
@click.option("--min-runs", type=click.IntRange(1), default=20, show_default=True, help="Runs of a round, at least.")
@click.option("--min-time", type=Seconds(0), default=1.0, show_default=True, help="Seconds of a round, at least.")
@click.option("--max-time", type=Seconds(0), help="Seconds of a round, at most.  [default: 30, or --min-time]")
@click.option(
    "--gate-timeout",
    type=Seconds(0),
    envvar=gate_timeout.VARIABLE,
    default=gate_timeout.USUAL_S,
    show_default=True,
    show_envvar=True,
    help="Seconds to wait for quiet, in all.",
)
@click.option("--deadline", type=Seconds(1), default=900.0, show_default=True, help="Seconds for a whole job.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the inputs.")
@click.option(
    "--check-outputs/--no-check-outputs",
    default=True,
    show_default=True,
    help="Compare the outputs with those of the same runtime on this machine.",
)
@click.option(
    "--sustained",
    "sustained_s",
    type=SustainedTime(),
    metavar="DURATION",
    help="Run each model without rest for so long, as 20m: when the device throttles, and who is fastest then.",
)
@click.option("--require", type=click.Choice(["trusted"]), help="Exit with code 4 unless every profile is trusted.")
@click.option("--top", type=click.IntRange(1), default=20, show_default=True, help="Operators to print.")
@click.option(
    "--group-by",
    type=click.Choice(["node", "type", "block", "layer"]),
    default="node",
    show_default=True,
    help="What a line of the operator table stands for.",
)
@click.option(
    "--json",
    "json_path",
    metavar="FILE",
    help="Write JSON; - is standard output. Of one model on one device: an object, or nothing if it failed. "
    "Of more: a list of those that succeeded.",
)
@recipe_options
@store_option
@click.option("--no-store", is_flag=True, help="Do not keep the profiles in the store.")
@click.option(
    "--wait",
    "wait_s",
    type=Seconds(0),
    default=0.0,
    show_default=True,
    help="Seconds to wait for a device that somebody else holds.",
)
@click.option("--detach", is_flag=True, help="Hand the jobs to their devices and leave; `campaign resume` collects.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def profile(
    models: tuple[Path, ...], names: tuple[str, ...], groups: tuple[str, ...], every: bool, **options: Any
) -> int:
    """Measure the latency of models on devices, with a verdict on how far each number can be trusted.

    Latency comes from a pass without operator profiling, operators (--operators) from a second one. Every profile is
    kept with its raw samples: see `edgeprof runs`.
    """
    from edgeprof.cli.output import require_writable
    from edgeprof.fleet import Fleet
    from edgeprof.models import read_arrays, read_model
    from edgeprof.places import fleet_file

    settings = to_settings(options)
    followed = None
    if options["recipe_path"] is not None:
        followed = Followed(options["recipe_path"], settings, without_root=options["without_root"])
        settings = followed.settings
    batches = to_batches(options["batches"])
    if options["input_path"] is not None and len(batches) > 1:
        raise click.UsageError("--batch with several sizes and --input exclude each other: the values decide the batch")
    if options["place"] and options["no_store"]:
        raise click.UsageError("--store and --no-store exclude each other")
    if options["json_path"]:
        require_writable(options["json_path"])
    devices = _choose(Fleet.read(fleet_file()), names, groups, every)
    if options["sustained_s"] is not None:
        return run_sustained(models, [settings.with_batch(batch) for batch in batches], devices, options)
    if options["detach"]:
        from edgeprof.cli.detach import hand_over

        return hand_over(models, [settings.with_batch(batch) for batch in batches], devices, options)
    values = None if options["input_path"] is None else read_arrays(options["input_path"])
    # All of them are read before the first is measured: what cannot be done is said at once.
    jobs = [
        (read_model(path, settings.options.shapes, batch, values), settings.with_batch(batch))
        for path in models
        for batch in batches
    ]
    tell_assumptions([model for model, _ in jobs])
    if followed is not None:
        followed.require([model for model, _ in jobs], devices)
    runs, n_failed = _run_all(devices, jobs, options)
    if followed is not None:
        followed.tell_differences(runs)
    if len(batches) > 1:
        _show_sweeps(runs, options)
    if options["json_path"]:
        _write_json(runs, options["json_path"], is_one=len(devices) * len(jobs) == 1)
    if n_failed:
        return EXIT_SOME_FAILED if runs else EXIT_ERROR
    return EXIT_NOT_TRUSTED if options["require"] and not all(map(_is_trusted, runs)) else 0


def _choose(fleet: Any, names: tuple[str, ...], groups: tuple[str, ...], every: bool) -> list[Device]:
    """The devices that were asked for, each once, in the order of asking; this machine where none was."""
    chosen = [fleet.device(name) for name in names]
    for group in groups:
        chosen += fleet.group(group)
    if every:
        chosen += fleet.devices
    unique = {device.name: device for device in chosen}
    return list(unique.values()) or [fleet.device("local")]


def _show_sweeps(runs: list[Run], options: dict[str, Any]) -> None:
    """A table for each model on each device of which more than one batch was measured."""
    from edgeprof.cli.output import STANDARD_OUTPUT, console
    from edgeprof.reports.sweep import render_sweep

    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.device, run.profile.job.model.digest), []).append(run)
    out = console(stderr=options["json_path"] == STANDARD_OUTPUT)
    for group in groups.values():
        if len(group) > 1:
            out.print(render_sweep(group))


def _run_all(
    devices: list[Device], jobs: list[tuple[ModelFile, Settings]], options: dict[str, Any]
) -> tuple[list[Run], int]:
    """Profile every model and batch on every device; a failure is told at once and the others go on.

    A run that could not be stored, or lacks the operators that were asked for, counts as a failure, but it is shown and
    written to --json all the same.
    """
    from edgeprof.cli.output import STANDARD_OUTPUT, console
    from edgeprof.errors import EdgeprofError
    from edgeprof.metering import metered
    from edgeprof.profiling import OpenDevice
    from edgeprof.spooled import considerate

    runs: list[Run] = []
    n_failed = 0
    out = console(stderr=options["json_path"] == STANDARD_OUTPUT)
    with ExitStack() as stack:
        store = None if options["no_store"] else stack.enter_context(open_store(options["place"]))
        for device in devices:
            left = list(jobs)
            try:
                with OpenDevice(device, measure=metered(considerate)) as opened:
                    while left:
                        model, settings = left.pop(0)
                        try:
                            run = _measure(opened, model, settings, options["wait_s"])
                        except EdgeprofError as error:
                            n_failed += 1
                            tell(error, options["debug"])
                            continue
                        # Kept before it is shown: a reader of our output that has left must not cost a measurement.
                        kept = list(keep(run, store))
                        if settings.energy is not None and options["energy_budget"] > 0:
                            before, run = run, _add_loops(opened, model, run, options)
                            kept += _keep_more(before, run, None if kept else store)
                        runs.append(run)
                        complaints = [*kept, *_missing(run, settings)]
                        _show(run, out, options, is_kept=store is not None and not complaints)
                        for complaint in complaints:
                            tell(complaint, options["debug"])
                        n_failed += bool(complaints)
            except EdgeprofError as error:
                n_failed += len(left)
                tell(error, options["debug"])
    return runs, n_failed


def _measure(opened: OpenDevice, model: ModelFile, settings: Settings, wait_s: float) -> Run:
    """Profile as soon as nobody else has the device, if that is soon enough."""
    from edgeprof.cli.progress import progress_bar

    def measure() -> Run:
        with progress_bar(f"{model.name} on {opened.device.name}") as on_progress:
            return opened.profile(model, settings, on_progress)

    return when_free(measure, wait_s)


def _add_loops(opened: OpenDevice, model: ModelFile, run: Run, options: dict[str, Any]) -> Run:
    """The run with its operators' energy; it was kept before, and an interruption costs nothing of that."""
    from edgeprof.cli.progress import progress_bar
    from edgeprof.operator_loops import with_loops

    with progress_bar(f"operators of {model.name} on {opened.device.name}") as on_progress:
        return with_loops(
            opened,
            model,
            run,
            meter=options["meter"] or "",
            budget_s=options["energy_budget"],
            on_progress=on_progress,
        )


def _keep_more(before: Run, after: Run, store: Store | None) -> Iterator[EdgeprofError]:
    """Store what was found later; what went wrong if it could not be: it is shown all the same."""
    from edgeprof.errors import StoreError

    try:
        if store is not None:
            store.replace(before, after)
    except StoreError as error:
        yield error


def _missing(run: Run, settings: Settings) -> Iterator[EdgeprofError]:
    """What was asked for and is not in the run."""
    from edgeprof.errors import EdgeprofError

    if settings.operators and run.profile.operators is None:
        name = run.profile.job.model.name
        advice = f"see which other runtimes the device has: edgeprof devices doctor {run.device}"
        yield EdgeprofError(f"{run.device}: {name}: operators were not timed: {run.profile.operators_missing}", advice)
    if settings.energy is not None:
        yield from _missing_energy(run)


def _missing_energy(run: Run) -> Iterator[EdgeprofError]:
    from edgeprof.errors import EdgeprofError
    from edgeprof.reports.joules import joules

    energy, name = run.profile.energy, run.profile.job.model.name
    if energy is not None and energy.trace is None and run.profile.energy_missing is None:
        click.echo(
            f"edgeprof: {run.device}: {name}: its energy waits for a trace: "
            f"edgeprof runs attach {run.id} TRACE.csv --boundary BOUNDARY --clock unix",
            err=True,
        )
        return
    missing = run.profile.energy_missing or joules(run).missing
    if missing is not None:
        advice = f"see what the device has: edgeprof devices doctor {run.device}; or what its board's figures say: "
        advice += f"edgeprof carbon {run.id}"
        yield EdgeprofError(f"{run.device}: {name}: no energy was measured: {missing}", advice)


def _show(run: Run, out: Any, options: dict[str, Any], *, is_kept: bool) -> None:
    from edgeprof.reports.text import render_run

    out.print(render_run(run, top=options["top"], group_by=options["group_by"]))
    if is_kept:
        out.print(f"kept as run {run.id}: edgeprof runs show {run.id}", markup=False)
    job = run.profile.job
    for note in run.notes:
        if note.startswith("passed over: "):
            click.echo(f"edgeprof: {job.model.name} was measured on {job.runtime}; {note}", err=True)
    if options["require"] and not _is_trusted(run):
        from edgeprof.verdict import judge

        verdict, origin = judge(run.profile).level, run.profile.origin
        click.echo(f"edgeprof: {run.device}: {job.model.name} is not trusted: {verdict}, {origin}", err=True)


def _is_trusted(run: Run) -> bool:
    """Trusted, and measured on real hardware."""
    from device_agents.wire import MEASURED
    from edgeprof.verdict import judge

    return judge(run.profile).level == "trusted" and run.profile.origin == MEASURED


def _write_json(runs: list[Run], target: str, *, is_one: bool) -> None:
    """What is written depends on what was asked for, never on how much of it succeeded."""
    import json

    from edgeprof.cli.output import write_text
    from edgeprof.reports.document import to_document

    documents = [to_document(run) for run in runs]
    for document in documents if is_one else [documents]:
        write_text(target, json.dumps(document, indent=1) + "\n")
