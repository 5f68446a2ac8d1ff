"""`edgeprof predictors`: turn a device into a predictor, and see how good it is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeprof.cli.adapt import adapt
from edgeprof.cli.parameter_types import Duration, Share

if TYPE_CHECKING:
    from edgeprof.fleet import Device
    from edgeprof.run import Run
    from edgeprof.training.loop import Event, Trained
    from edgeprof.training.plan import Plan
    from latency_models.adapted import Adapted
    from latency_models.kernels import KernelSpec
    from latency_models.predictor import Predictor

__all__ = ["predictors"]

EXIT_SOME_FAILED = 3
# How often a line about the progress is printed where there is no terminal.
TELL_EVERY_S = 30.0

TRAIN_EPILOG = """\b
Examples:
  edgeprof predictors train -d pi5 --runtime onnxruntime --budget 30m
  edgeprof predictors train --runtime litert --budget 10m --for model.tflite
  edgeprof predictors train -d pi5 --more 20m

\b
A training that was interrupted goes on where it was when the same command is typed again."""


@click.group()
def predictors() -> None:
    """Predictors of devices: train one on a device or adapt those of others, list and judge them."""


predictors.add_command(adapt)


@predictors.command(epilog=TRAIN_EPILOG)
@click.option("-d", "--device", "device_name", default="local", show_default=True, help="Device of fleet.toml.")
@click.option(
    "--runtime",
    type=click.Choice(["onnxruntime", "litert", "tflite", "simulated"]),
    help="What runs the models.  [default: onnxruntime; of a simulated board, simulated]",
)
@click.option("--budget", "budget_s", type=Duration(), help="Measuring time, as 30m.  [default: 30m]")
@click.option("--more", "more_s", type=Duration(), help="Go on with a training for so much longer.")
@click.option("--target-error", type=Share(), help="End earlier, once whole nets that were held out err less.")
@click.option("--for", "wanted", multiple=True, type=click.Path(path_type=Path), help="A model to become good at.")
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="Threads of the runtime.")
@click.option("--energy", is_flag=True, help="Measure the energy of whole nets too. Takes much longer.")
@click.option("--meter", metavar="NAME", help="What measures it.  [default: the device's best]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of all that is drawn.")
@click.option("--name", help="What the predictor is called.  [default: DEVICE-RUNTIME]")
@click.option("--own-runs/--no-own-runs", default=True, show_default=True, help="Learn from runs in the store too.")
def train(device_name: str, **options: Any) -> int:
    """Measure small models on a device for a while, and keep what was learned as a predictor.

    Everything that was measured is kept beside the predictor, with raw samples; a training that was interrupted, or
    killed, goes on where it was.
    """
    from edgeprof.fleet import Fleet
    from edgeprof.places import fleet_file
    from edgeprof.training.keeping import require_folder, require_name

    if options["budget_s"] is not None and options["more_s"] is not None:
        raise click.UsageError("--budget is for the whole training, --more for what comes on top: give one of them")
    device = Fleet.read(fleet_file()).device(device_name)
    runtime = options["runtime"] or ("simulated" if device.board is not None else "onnxruntime")
    name = require_name(options["name"] or f"{device.name}-{runtime}")
    require_folder()
    plan = _plan(runtime, options)
    trained = _train(device, plan, name, options)
    _tell_end(trained, name)
    return EXIT_SOME_FAILED if trained.ended_by == "lost" else 0


def _plan(runtime: str, options: dict[str, Any]) -> Plan:
    from device_agents import wire
    from edgeprof.training.plan import Plan

    default_s = 1800.0
    energy = wire.EnergyPlan(meter=options["meter"] or "", observer_windows=0) if options["energy"] else None
    return Plan(
        runtime=runtime,
        options=wire.RuntimeOptions(threads=options["threads"]),
        seed=options["seed"],
        budget_s=options["budget_s"] or default_s,
        target_error=options["target_error"],
        wanted=tuple(_wanted(options["wanted"])),
        energy=energy,
    )


def _wanted(paths: tuple[Path, ...]) -> list[KernelSpec]:
    """The operators of models that the user will predict, one by one."""
    from edgeprof.models import read_model
    from latency_models.kernels import of_nodes

    graphs = [read_model(path).graph for path in paths]
    found = [of_nodes(graph, [node]) for graph in graphs for node in graph.operators if not node.is_folded]
    return [kernel for kernel in found if kernel is not None]


def _train(device: Device, plan: Plan, name: str, options: dict[str, Any]) -> Trained:
    from dataclasses import replace

    from edgeprof.metering import metered
    from edgeprof.own_cost import recording
    from edgeprof.profiling import OpenDevice
    from edgeprof.run import Run
    from edgeprof.spooled import considerate
    from edgeprof.training.keeping import SUFFIX, predictors_dir, training_store
    from edgeprof.training.loop import Training, spent_s

    with training_store(name) as store, OpenDevice(device, measure=metered(considerate)) as opened:
        if options["more_s"] is not None:
            kept = [one for one in store.read(store.list()) if isinstance(one, Run)]
            plan = replace(plan, budget_s=spent_s(kept) + options["more_s"])
        teller, path = _Teller(plan.budget_s, name), predictors_dir() / f"{name}{SUFFIX}"

        def heard(event: Event) -> None:
            teller.tell(event)
            if event.predictor is None:
                return
            try:
                event.predictor.save(path)  # of use already, should the training be killed before its end
            except OSError as error:
                click.echo(f"edgeprof: {path}: cannot be written yet: {error.strerror or error}", err=True)

        training = Training(opened, store, plan, _own_runs(options), heard)
        with recording() as recorder:
            trained = training.run()
        cost = recorder.cost()
        own = {"elapsed_s": cost.elapsed_s, "cpu_s": cost.cpu_s, "host_j": cost.host.value_j, "kind": cost.host.kind}
        predictor = replace(trained.predictor, provenance={**trained.predictor.provenance, "own_cost": own})
        predictor.save(path)
    return replace(trained, predictor=predictor)


def _own_runs(options: dict[str, Any]) -> list[Run]:
    """The runs in the user's store that tell of kernels; a store that cannot be read is not needed here."""
    from edgeprof.cli.stores import open_store
    from edgeprof.errors import StoreError
    from edgeprof.run import Run

    if not options["own_runs"]:
        return []
    try:
        with open_store(None, reading=True) as store:
            return [one for one in store.read(store.list()) if isinstance(one, Run) and one.described]
    except StoreError as error:
        click.echo(f"edgeprof: your own runs are left out: {error}", err=True)
        return []


class _Teller:
    """Prints what happens: what was held out after each fit, and now and then how far it is."""

    def __init__(self, budget_s: float, name: str) -> None:
        self._budget_s = budget_s
        self._name = name
        self._told_s = time.monotonic()

    def tell(self, event: Event) -> None:
        """Print an event, if it is worth it."""
        from edgeprof.cli.output import console
        from edgeprof.models.groups import counted
        from edgeprof.reports.estimate import render_predictor
        from edgeprof.reports.quantities import duration

        if event.predictor is not None:
            click.echo(f"{self._name}: {counted(event.done, 'model')} measured in {duration(event.spent_s)}:")
            console().print(render_predictor(event.predictor.metrics, worst=8))
        elif event.what in ("lost", "reconnected"):
            click.echo(f"edgeprof: {event.what}: {event.text}", err=True)
        elif event.what == "refused":
            click.echo(f"edgeprof: not measured: {event.text}", err=True)
        elif time.monotonic() - self._told_s > TELL_EVERY_S:
            left_s = max(0.0, self._budget_s - event.spent_s)
            click.echo(f"  {counted(event.done, 'model')} measured, {duration(left_s)} of measuring left", err=True)
            self._told_s = time.monotonic()


def _tell_end(trained: Trained, name: str) -> None:
    from edgeprof.reports.predictors import what_of
    from edgeprof.training.keeping import SUFFIX, predictors_dir

    reasons = {
        "budget": "the budget is spent",
        "target": "whole nets that were held out err less than asked for",
        "steps": "so many steps were asked for",
        "lost": f"the device was lost: {trained.lost}; the predictor knows what was measured until then",
    }
    provenance = trained.predictor.provenance
    click.echo(
        f"ended: {reasons[trained.ended_by]}. {what_of(provenance)} are used; "
        f"{provenance['n_disturbed']} of the models were disturbed and are not."
    )
    if provenance.get("n_own_runs_left_out"):
        click.echo(
            f"{provenance['n_own_runs_left_out']} of your own runs are left out: their verdict speaks against them."
        )
    few = trained.predictor.times.few
    if few:
        click.echo(f"too few to learn from, so bounded: {', '.join(f'{family} ({n})' for family, n in few.items())}")
    for text, n in trained.refused.items():
        click.echo(f"refused {n} times: {text}")
    click.echo(f"kept as {predictors_dir() / (name + SUFFIX)}")
    click.echo(f"predict with it: edgeprof predict MODEL -p {name}")


@predictors.command("list", epilog="\b\nExample:\n  edgeprof predictors list")
@click.option("--json", "json_target", metavar="FILE", help="Write JSON to FILE; - is standard output.")
def list_predictors(json_target: str | None) -> int:
    """List the predictors that are kept, with their targets and held-out errors."""
    import json

    from edgeprof.cli.output import STANDARD_OUTPUT, console, write_text
    from edgeprof.reports.predictors import render_list, to_rows

    found = _all()
    rows = to_rows(found)
    if json_target:
        write_text(json_target, json.dumps(rows, indent=1) + "\n")
    if json_target != STANDARD_OUTPUT:
        if rows:
            console().print(render_list(rows))
        else:
            click.echo("no predictor was trained yet: edgeprof predictors train -d DEVICE --runtime onnxruntime")
    return 0


def _all() -> dict[str, Predictor | Adapted]:
    """All that can be read; those that cannot are told."""
    from edgeprof.errors import EdgeprofError
    from edgeprof.training.keeping import load_predictor, names

    found = {}
    for name in names():
        try:
            found[name] = load_predictor(name)
        except EdgeprofError as error:
            click.echo(f"edgeprof: {name}: {error}", err=True)
    return found


@predictors.command(epilog="\b\nExample:\n  edgeprof predictors show pi5-onnxruntime")
@click.argument("name")
@click.option("--json", "json_target", metavar="FILE", help="Write JSON to FILE; - is standard output.")
def show(name: str, json_target: str | None) -> int:
    """Show what a predictor was trained on, and how far off it was on what it had not seen."""
    import json

    from edgeprof.cli.output import STANDARD_OUTPUT, console, write_text
    from edgeprof.reports.estimate import render_predictor
    from edgeprof.reports.predictors import render_provenance, to_row
    from edgeprof.training.keeping import load_predictor

    predictor = load_predictor(name)
    if json_target:
        write_text(json_target, json.dumps(to_row(name, predictor), indent=1) + "\n")
    if json_target != STANDARD_OUTPUT:
        console().print(render_provenance(name, predictor))
        console().print(render_predictor(predictor.metrics))
    return 0


@predictors.command(epilog="\b\nExample:\n  edgeprof predictors evaluate pi5-onnxruntime")
@click.argument("name")
@click.argument("references", nargs=-1, metavar="[RUN...]")
@click.option("--json", "json_target", metavar="FILE", help="Write JSON to FILE; - is standard output.")
@click.option("--store", "place", metavar="URL|PATH", help="The store of the runs.  [default: $EDGEPROF_STORE]")
def evaluate(name: str, references: tuple[str, ...], json_target: str | None, place: str | None) -> int:
    """Hold predictions against runs that were measured on the same target: RUN, or all of it in the store.

    What the runs' kernels took is not used, but which kernels the runtime made is. Runs that the predictor was trained
    with are left out; those whose verdict speaks against them are shown and do not count.
    """
    import json

    from edgeprof.cli.output import STANDARD_OUTPUT, console, write_text
    from edgeprof.cli.stores import open_store
    from edgeprof.reports.predictors import render_evaluation
    from edgeprof.training.evaluating import evaluate_runs
    from edgeprof.training.keeping import load_predictor

    predictor = load_predictor(name)
    with open_store(place, reading=True) as store:
        runs = [store.get(one) for one in references] if references else list(_runs_of(store, predictor))
    evaluation = evaluate_runs(predictor, runs)
    if json_target:
        write_text(json_target, json.dumps(evaluation.to_document(), indent=1) + "\n")
    if json_target != STANDARD_OUTPUT:
        console().print(render_evaluation(name, evaluation))
    return 0 if evaluation.rows else EXIT_SOME_FAILED


def _runs_of(store: Any, predictor: Predictor | Adapted) -> list[Run]:
    from edgeprof.run import Run

    target = predictor.target
    rows = store.list(device=target.device, runtime=target.runtime)
    return [one for one in store.read(rows) if isinstance(one, Run)]
