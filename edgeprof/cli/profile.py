"""`edgeprof profile`: measure models on devices, keep every profile, print what it means."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edgeprof.fleet import Device
    from edgeprof.models import ModelFile
    from edgeprof.profiling import Settings
    from edgeprof.run import Run
    from edgeprof.store import Store

EXIT_ERROR, EXIT_SOME_FAILED, EXIT_NOT_TRUSTED = 1, 3, 4

EPILOG = """\b
Examples:
  edgeprof profile model.onnx --operators
  edgeprof profile model.tflite -d pi5 -d pi4 --threads 4
  edgeprof profile model.onnx -d pi5 --require trusted --json profile.json
  edgeprof profile vad.onnx --shape input=1,576 --shape state=2,1,128"""


@click.command(epilog=EPILOG)
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="MODEL...")
@click.option("-d", "--device", "names", multiple=True, help="Device of fleet.toml; this machine if none is named.")
@click.option("--group", "groups", multiple=True, help="Every device of a group.")
@click.option("--all", "every", is_flag=True, help="Every device of fleet.toml.")
@click.option(
    "--runtime", type=click.Choice(["onnxruntime", "litert", "tflite", "simulated"]), help="Default: what fits."
)
@click.option("--operators", is_flag=True, help="Time every operator too, in a second pass.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads inside an operator.")
@click.option("--affinity", metavar="CPUS", help="CPUs to run on, as 0,1 or 2-3.")
@click.option("--batch", type=click.IntRange(1), help="Replace a dynamic first dimension of every input.")
@click.option("--shape", "shapes", multiple=True, metavar="INPUT=D,D,...", help="Shape of a dynamic input.")
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
@click.option(
    "--min-time", type=click.FloatRange(0), default=1.0, show_default=True, help="Seconds of a round, at least."
)
@click.option(
    "--max-time", type=click.FloatRange(0), default=30.0, show_default=True, help="Seconds of a round, at most."
)
@click.option(
    "--gate-timeout",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    help="Seconds to wait for quiet, in all.",
)
@click.option("--deadline", type=click.FloatRange(1), default=900.0, show_default=True, help="Seconds for a whole job.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the inputs.")
@click.option("--require", type=click.Choice(["trusted"]), help="Exit with code 4 unless every profile is trusted.")
@click.option("--top", type=click.IntRange(1), default=20, show_default=True, help="Operators to print.")
@click.option("--json", "json_path", metavar="FILE", help="Write the profiles as JSON; - is standard output.")
@click.option("--no-store", is_flag=True, help="Do not keep the profiles in the store.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def profile(
    models: tuple[Path, ...], names: tuple[str, ...], groups: tuple[str, ...], every: bool, **options: Any
) -> int:
    """Measure the latency of models on devices, with a verdict on how far each number can be trusted.

    Latency comes from a pass without operator profiling, operators (--operators) from a second one. Every profile is
    kept with its raw samples: see `edgeprof runs`.
    """
    from edgeprof.fleet import Fleet
    from edgeprof.models import read_model
    from edgeprof.places import fleet_file

    settings = _settings(options)
    devices = _choose(Fleet.read(fleet_file()), names, groups, every)
    files = [read_model(path, shapes=settings.options.shapes, batch=settings.options.batch) for path in models]
    runs, n_failed = _run_all(devices, files, settings, options)
    if options["json_path"]:
        _write_json(runs, options["json_path"])
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


def _settings(options: dict[str, Any]) -> Settings:
    from device_agents import wire
    from edgeprof.profiling import Settings

    return Settings(
        runtime=options["runtime"],
        options=wire.RuntimeOptions(
            threads=options["threads"],
            optimization=options["optimization"],
            xnnpack=options["xnnpack"],
            provider=options["provider"],
            provider_options=_pairs(options["provider_options"], "--provider-option"),
            delegate=options["delegate"],
            delegate_options=_pairs(options["delegate_options"], "--delegate-option"),
            library=options["library"],
            affinity=_cpus(options["affinity"] or ""),
            batch=options["batch"],
            shapes={k: _dimensions(k, v) for k, v in _pairs(options["shapes"], "--shape").items()},
        ),
        schedule=wire.Schedule(
            rounds=options["rounds"],
            min_runs=options["min_runs"],
            min_s=options["min_time"],
            max_s=max(options["min_time"], options["max_time"]),
        ),
        gate=wire.Gate(timeout_s=options["gate_timeout"]),
        operators=options["operators"],
        seed=options["seed"],
        deadline_s=options["deadline"],
    )


def _pairs(items: tuple[str, ...], option: str) -> dict[str, str]:
    for item in items:
        if "=" not in item:
            raise click.BadParameter(f"{item!r} is not KEY=VALUE", param_hint=option)
    return dict(item.rsplit("=", 1) for item in items)


def _dimensions(name: str, text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(part) for part in text.replace("x", ",").split(",") if part)
    except ValueError:
        shape = (0,)
    if any(dimension < 1 for dimension in shape):
        message = f"{name}={text} is not a shape: whole numbers from 1 with commas between them"
        raise click.BadParameter(message, param_hint="--shape")
    return shape


def _cpus(text: str) -> tuple[int, ...]:
    """Read a list such as 0,2-3 into (0, 2, 3)."""
    cpus: list[int] = []
    try:
        for part in filter(None, text.split(",")):
            first, _, last = part.partition("-")
            cpus += range(int(first), int(last or first) + 1)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list of CPUs", param_hint="--affinity") from None
    return tuple(cpus)


def _run_all(
    devices: list[Device], models: list[ModelFile], settings: Settings, options: dict[str, Any]
) -> tuple[list[Run], int]:
    """Profile every model on every device; a failure is told at once and the others go on.

    A run that could not be stored counts as a failure, but it is shown and written to --json all the same.
    """
    from rich.console import Console

    from edgeprof.errors import EdgeprofError
    from edgeprof.places import store_file
    from edgeprof.profiling import OpenDevice
    from edgeprof.store import Store

    runs: list[Run] = []
    n_failed = 0
    out = Console(stderr=options["json_path"] == "-", highlight=False)
    with ExitStack() as stack:
        store = None if options["no_store"] else stack.enter_context(Store(store_file()))
        for device in devices:
            left = list(models)
            try:
                with OpenDevice(device) as opened:
                    while left:
                        try:
                            run = _profile_one(opened, left.pop(0), settings, out, options["top"])
                            runs.append(run)
                            _keep(run, store, out)
                        except EdgeprofError as error:
                            n_failed += 1
                            _tell(error, options["debug"])
            except EdgeprofError as error:
                n_failed += len(left)
                _tell(error, options["debug"])
    return runs, n_failed


def _tell(error: Exception, debug: bool) -> None:
    if debug:
        raise error
    click.echo(f"edgeprof: {error}", err=True)
    advice = getattr(error, "advice", "")
    if advice:
        click.echo(f"  what to do: {advice}", err=True)


def _profile_one(opened: Any, model: ModelFile, settings: Settings, out: Any, top: int) -> Run:
    from edgeprof.cli.progress import progress_bar
    from edgeprof.reports.text import render_run

    with progress_bar(f"{model.name} on {opened.device.name}") as on_progress:
        run: Run = opened.profile(model, settings, on_progress)
    out.print(render_run(run, top=top))
    return run


def _keep(run: Run, store: Store | None, out: Any) -> None:
    if store is not None:
        store.add(run)
        out.print(f"kept as run {run.id}: edgeprof runs show {run.id}", markup=False)


def _is_trusted(run: Run) -> bool:
    """Trusted, and not by a simulated board."""
    from device_agents.wire import SIMULATED
    from edgeprof.verdict import judge

    return judge(run.profile).level == "trusted" and run.profile.origin != SIMULATED


def _write_json(runs: list[Run], target: str) -> None:
    import json

    from edgeprof.cli.output import write_text
    from edgeprof.reports.document import to_document

    documents = [to_document(run) for run in runs]
    write_text(target, json.dumps(documents[0] if len(documents) == 1 else documents, indent=1) + "\n")
