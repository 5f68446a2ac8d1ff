"""`edgeprof tune`: how a model runs best on a device, found by measuring, as a recipe and as code."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeprof.cli.parameter_types import Duration
from edgeprof.cli.profile_settings import to_shapes
from edgeprof.cli.stores import open_store, store_option

if TYPE_CHECKING:
    from edgeprof.models import ModelFile
    from edgeprof.run import Run
    from edgeprof.store import Store
    from edgeprof.tuning.measuring import Bench
    from edgeprof.tuning.objective import Objective
    from edgeprof.tuning.session import Found, Wish
    from edgeprof.tuning.tuner import Progress

__all__ = ["tune"]

EXIT_FAILURES = 3
# How often a line about the progress is printed.
TELL_EVERY_S = 10.0
RUNTIMES = ("onnxruntime", "litert", "tflite", "simulated")
COUNTS = re.compile(r"[1-9][0-9]{0,3}(,[1-9][0-9]{0,3})*")
LATENCY = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s)", re.IGNORECASE)
SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}

EPILOG = """\b
Examples:
  edgeprof tune model.onnx
  edgeprof tune model.tflite -d phone --objective energy --latency-budget 30ms
  edgeprof tune model.onnx -d pi5 --budget 10m -o pi5.toml --code app/
  edgeprof tune model.onnx -d pi5 -o pi5.toml --resume

\b
A tuning that was interrupted, or killed, goes on with --resume; nothing is measured twice."""


class Latency(click.ParamType[float]):
    """Seconds, as in 30ms."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, float):
            return value
        found = LATENCY.fullmatch(str(value).strip())
        if found is None or float(found[1]) == 0:
            self.fail(f"{value!r} is no time of an inference: write it as 30ms, 800us or 1.5s", param, ctx)
        return float(found[1]) * SECONDS[found[2].lower()]


@click.command(epilog=EPILOG)
@click.argument("path", type=click.Path(path_type=Path), metavar="MODEL")
@click.option("-d", "--device", "name", help="Device of fleet.toml.  [default: this machine]")
@click.option(
    "--objective",
    type=click.Choice(["latency", "energy", "edp"]),
    default="latency",
    show_default=True,
    help="What shall be small; edp is energy times time.",
)
@click.option("--latency-budget", type=Latency(), metavar="TIME", help="No inference shall take longer, as 30ms.")
@click.option("--runtime", "runtimes", metavar="NAME[,NAME...]", help="Default: all that the device has for the file.")
@click.option("--threads", metavar="N[,N...]", help="Numbers of threads to try.  [default: every sensible one]")
@click.option("--caps/--no-caps", default=True, show_default=True, help="Cap clocks too, where the device allows it.")
@click.option("--without-root", is_flag=True, help="Nothing that an app cannot do itself.")
@click.option("--provider", "providers", multiple=True, help="An execution provider of ONNX Runtime to try too.")
@click.option("--delegate", "delegates", multiple=True, metavar="PATH", help="A TFLite delegate on the device to try.")
@click.option("--measurements", type=click.IntRange(2, 10_000), help="How many, at most.  [default: as many as usual]")
@click.option("--budget", "time_s", type=Duration(), help="How long, over all sittings, as 10m.")
@click.option("--meter", metavar="NAME", help="What measures joules, as for `profile`.")
@click.option("--batch", type=click.IntRange(1, 1_000_000), help="Replace a dynamic first dimension of every input.")
@click.option("--shape", "shapes", multiple=True, metavar="NAME=1,3,224,224", help="Shape of an input.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the search and of the inputs.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="The recipe.  [default: MODEL.DEVICE.recipe.toml]"
)
@click.option("--code", type=click.Path(path_type=Path), metavar="DIR", help="Write Python, C++ and Kotlin there.")
@click.option("--resume", is_flag=True, help="Go on with a tuning that was interrupted, or with a larger budget.")
@click.option("--json", "json_target", metavar="FILE", help="Write what was found as JSON; - is standard output.")
@store_option
@click.option("--no-store", is_flag=True, help="Do not keep the runs in the store.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 7 * 86400),
    default=0.0,
    show_default=True,
    help="Seconds to wait for a device that somebody else holds.",
)
def tune(path: Path, **options: Any) -> int:
    """Find how MODEL runs best on a device: runtime, threads, CPUs, spinning, delegate and clocks.

    Few of the configurations are measured; what is handed over is measured again in turns with the default. The recipe
    says how to run it, and has the proof.
    """
    from edgeprof.cli.output import STANDARD_OUTPUT, console, require_writable, write_text
    from edgeprof.fleet import Fleet
    from edgeprof.models import read_model
    from edgeprof.places import fleet_file
    from edgeprof.reports.tuning import render_tuning, to_document
    from edgeprof.tuning.code import write_code
    from edgeprof.tuning.session import tune_on

    wish = _wish(options)
    device = Fleet.read(fleet_file()).device(options["name"] or "local")
    recipe = options["output"] or Path(f"{path.stem}.{device.name}.recipe.toml")
    target = options["json_target"]
    for one in (str(recipe), *([target] if target is not None else [])):
        require_writable(one)
    model = read_model(path, to_shapes(options["shapes"]), options["batch"])
    for note in (*model.inputs.assumptions, *model.inputs.notes):
        _tell(f"{model.name}: {note}")
    title = f"{model.name} on {device.name}"
    with _bench(device, model, wish, options) as bench, _teller(title, wish.objective) as on_progress:
        try:
            found = tune_on(bench, wish, recipe, resume=options["resume"], on_progress=on_progress)
        except KeyboardInterrupt:
            click.echo(_how_to_resume(recipe), err=True)
            raise
    code = write_code(found.recipe, options["code"]) if options["code"] is not None else []
    if target is not None:
        write_text(target, _text(to_document(found)))
    if target != STANDARD_OUTPUT:
        console().print(render_tuning(found, recipe, code))
    return _code(found, recipe)


def _text(document: dict[str, Any]) -> str:
    import json

    return json.dumps(document, indent=1) + "\n"


def _code(found: Found, recipe: Path) -> int:
    if not found.is_finished:
        click.echo(f"edgeprof: ended early: {found.why}", err=True)
        click.echo(f"  what to do: {_how_to_resume(recipe)}", err=True)
        return EXIT_FAILURES
    return 0 if found.outcome.chosen.keeps_budget else EXIT_FAILURES


def _how_to_resume(recipe: Path) -> str:
    return f"what was measured is kept; go on with the same command and --resume -o {recipe}"


def _wish(options: dict[str, Any]) -> Wish:
    from edgeprof.tuning.objective import Objective
    from edgeprof.tuning.session import Wish

    if options["place"] and options["no_store"]:
        raise click.UsageError("--store and --no-store exclude each other")
    if options["measurements"] is not None and options["time_s"] is not None:
        raise click.UsageError("--measurements and --budget exclude each other: give one of them")
    return Wish(
        objective=Objective(name=options["objective"], latency_budget_s=options["latency_budget"]),
        runtimes=_runtimes(options["runtimes"]),
        threads=_threads(options["threads"]),
        caps=options["caps"],
        without_root=options["without_root"],
        providers=options["providers"],
        delegates=options["delegates"],
        jobs=options["measurements"],
        time_s=options["time_s"],
        seed=options["seed"],
    )


def _runtimes(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        if name not in RUNTIMES:
            raise click.BadParameter(f"{name!r} is none of {', '.join(RUNTIMES)}", param_hint="--runtime")
    return names


def _threads(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    if not COUNTS.fullmatch(text):
        raise click.BadParameter(f"{text!r} is not a list of numbers such as 1,2,4", param_hint="--threads")
    return tuple(sorted({int(part) for part in text.split(",")}))


@contextmanager
def _bench(device: Any, model: ModelFile, wish: Wish, options: dict[str, Any]) -> Iterator[Bench]:
    """The device, and the store in which runs are kept; what cannot be kept is told, and does not end the tuning."""
    from device_agents import wire
    from edgeprof.tuning.measuring import Bench

    with ExitStack() as stack:
        store = None if options["no_store"] else stack.enter_context(open_store(options["place"]))
        yield Bench(
            device=device,
            model=model,
            energy=wish.objective.needs_energy,
            meter=options["meter"] or "",
            seed=options["seed"],
            base=wire.RuntimeOptions(batch=options["batch"]),
            keep=_keeper(store) if store is not None else None,
            tell=_tell,
            wait_s=options["wait_s"],
        )


def _keeper(store: Store) -> Callable[[Run], None]:
    from edgeprof.errors import StoreError

    def keep(run: Run) -> None:
        try:
            store.add(run)
        except StoreError as error:
            _tell(f"the run is not kept: {error}")

    return keep


def _tell(text: str) -> None:
    click.echo(f"  {text}", err=True)


@contextmanager
def _teller(title: str, objective: Objective) -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal, and a line now and then elsewhere."""
    import sys

    if not sys.stderr.isatty():
        yield _Teller(_tell, objective)
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(20),
        TimeElapsedColumn(),
        TextColumn("{task.fields[said]}", markup=False),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None, said="")
        words = _Teller(lambda text: bar.update(task, said=text), objective, every_s=0.0)

        def show(progress: Progress) -> None:
            bar.update(task, total=progress.budget, completed=progress.n_measured)
            words(progress)

        yield show


class _Teller:
    """Says now and then how far it is, with the best until then and an honest estimate."""

    def __init__(self, say: Callable[[str], None], objective: Objective, every_s: float = TELL_EVERY_S) -> None:
        self._say, self._objective, self._every_s = say, objective, every_s
        self._began_s = self._told_s = time.monotonic()
        self._n_first: int | None = None

    def __call__(self, progress: Progress) -> None:
        from edgeprof.reports.quantities import duration
        from edgeprof.reports.tuning import objective_words

        now_s = time.monotonic()
        if self._n_first is None:
            self._n_first = progress.n_measured - 1
        if now_s - self._told_s < self._every_s:
            return
        self._told_s = now_s
        each_s = (now_s - self._began_s) / (progress.n_measured - self._n_first)
        left_s = each_s * max(0, progress.budget - progress.n_measured)
        best = "none yet"
        if progress.best is not None:
            best = f"{objective_words(self._objective, progress.best.value)} ({progress.best.origin})"
        self._say(
            f"{progress.n_measured} of at most {progress.budget} measured ({progress.last.phase}); best {best}; "
            f"about {duration(left_s)} left at most"
        )
