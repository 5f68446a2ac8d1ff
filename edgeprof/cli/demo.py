"""`edgeprof demo`: the whole story on this machine, without any device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edgeprof.run import Run
    from latency_models.estimate import Estimate
    from latency_models.predictor import Predictor

MOST_WAITING_S = 15.0
# Somebody else's measurement of this machine is over sooner.
MOST_WAITING_FOR_OTHERS_S = 600.0
EPILOG = "\b\nExamples:\n  edgeprof demo\n  edgeprof demo --training 20"

NEXT = """
What to type next
  edgeprof profile YOUR_MODEL.onnx --operators        your own model, here
  edgeprof runs list                                  what was kept, with every raw sample
  edgeprof runs export {run} --trace trace.json       one inference, for chrome://tracing or ui.perfetto.dev
  edgeprof carbon {run} --zone FR --rate 10/s         grams where you are, with every input's source
  edgeprof optimize YOUR_MODEL.onnx --data DATA.npz --max-accuracy-drop 0.5%
  edgeprof predictors train --budget 20m              a predictor of this machine that is good for something
  edgeprof predict YOUR_MODEL.onnx --board pi-5       no device at all: from a data sheet, with a wide interval
  edgeprof devices add pi5 ssh://pi@raspberrypi.local --install-key
  edgeprof devices doctor pi5                         what is missing there
  edgeprof profile YOUR_MODEL.onnx -d pi5 --operators the same on your board
"""


@click.command(epilog=EPILOG)
@click.option("--optimize/--no-optimize", "optimized", default=True, show_default=True, help="Optimize the model.")
@click.option("--search/--no-search", default=True, show_default=True, help="End with a search of networks.")
@click.option(
    "--training",
    "training_s",
    type=click.FloatRange(0, 3600),
    default=45.0,
    show_default=True,
    help="Seconds of measuring for the predictor; 0 leaves it out.",
)
def demo(training_s: float, optimized: bool, search: bool) -> int:
    """Make a small real model, predict it, profile it on this machine, explain the numbers.

    Takes about two minutes, one more to optimize the model, and two for a search of networks at its end.
    """
    from device_agents import wire
    from edgeprof.cli.measuring import when_free
    from edgeprof.cli.output import console
    from edgeprof.cli.progress import progress_bar
    from edgeprof.fleet import Fleet
    from edgeprof.models import read_model
    from edgeprof.models.example import write_example
    from edgeprof.places import data_dir, fleet_file, store_place
    from edgeprof.profiling import OpenDevice, Settings
    from edgeprof.reports.text import render_run
    from edgeprof.store import Store

    out = console()
    path = data_dir() / "demo" / "example.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_example(path)
    click.echo(f"1. Made a small image classifier: {path}")
    trained = _train(training_s) if training_s > 0 else None
    estimate = _predict(path, trained) if trained is not None else None
    click.echo("3. The agent measures it here, through the same protocol as on a board. This takes about ten seconds,")
    click.echo(f"   and up to {MOST_WAITING_S:.0f} more where the machine is busy: rounds wait for quiet.")
    model = read_model(path)
    settings = Settings(operators=True, gate=wire.Gate(timeout_s=MOST_WAITING_S))
    with (
        Store(store_place()) as store,
        OpenDevice(Fleet.read(fleet_file()).device("local")) as device,
        progress_bar("example.onnx on this machine") as on_progress,
    ):
        run = when_free(lambda: device.profile(model, settings, on_progress), MOST_WAITING_FOR_OTHERS_S)
        store.add(run)
    out.print(render_run(run, top=12))
    click.echo("   The verdict above says how far to trust these numbers, and what would make them better.")
    if estimate is not None:
        _compare(run, estimate)
    _tell_grams(run)
    if optimized:
        from edgeprof.cli.demo_optimize import optimize_example

        optimize_example(path)
    if search:
        from edgeprof.cli.demo_search import search_digits

        search_digits(path.parent, trained)
    click.echo(NEXT.format(run=run.id), nl=False)
    return 0


def _train(training_s: float) -> Predictor | None:
    """A small predictor of this machine."""
    import tempfile

    from edgeprof.errors import EdgeprofError
    from edgeprof.fleet import Fleet
    from edgeprof.places import fleet_file
    from edgeprof.profiling import OpenDevice
    from edgeprof.store import Store
    from edgeprof.training.loop import Training
    from edgeprof.training.plan import Plan

    click.echo(
        f"2. Small random models are measured for {training_s:.0f} s, and a predictor is trained on their kernels."
    )
    try:
        with (
            tempfile.TemporaryDirectory(prefix="edgeprof-demo-") as folder,
            Store(str(Path(folder) / "training.sqlite")) as store,
            OpenDevice(Fleet.read(fleet_file()).device("local")) as device,
        ):
            return Training(device, store, Plan(runtime="onnxruntime", budget_s=training_s)).run().predictor
    except EdgeprofError as error:
        click.echo(f"   no prediction: {error}")
        return None


def _predict(path: Path, predictor: Predictor) -> Estimate:
    """Say what the model will take before it has ever run here."""
    from edgeprof.cli.output import console
    from edgeprof.reports.estimate import render_estimate

    estimate = predictor.predict(path)
    console().print(render_estimate(path.name, estimate, top=4))
    return estimate


def _compare(run: Run, estimate: Estimate) -> None:
    """What was predicted beside what was measured."""
    from edgeprof.errors import MeasurementError
    from edgeprof.reports.quantities import duration
    from edgeprof.statistics import summarise

    try:
        measured_s = summarise(run.profile).median_s
    except MeasurementError:
        return
    where = "inside" if estimate.low_s <= measured_s <= estimate.high_s else "OUTSIDE"
    click.echo(
        f"   Predicted {duration(estimate.latency_s)}, measured {duration(measured_s)} "
        f"({estimate.latency_s / measured_s - 1:+.0%}): {where} the {estimate.level:.0%} interval "
        f"of {duration(estimate.low_s)} to {duration(estimate.high_s)}."
    )


def _tell_grams(run: Run) -> None:
    from edgeprof.carbon import carbon_of
    from edgeprof.reports.carbon import carbon_summary

    click.echo("4. Joules and grams of an inference: medians of what the inputs' ranges allow, and 90 % of it:")
    statement = carbon_of(run)
    for line in (*carbon_summary(statement), *(f"   {one}" for one in statement.attributions)):
        click.echo(line)
