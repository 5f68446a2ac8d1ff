"""`edgeprof predictors adapt`: a predictor of a device from those of others and a few measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgeprof.cli.parameter_types import Share

if TYPE_CHECKING:
    from edgeprof.training.adapting import Adaptation
    from latency_models.predictor import Predictor

__all__ = ["adapt"]

EPILOG = """\b
Examples:
  edgeprof predictors adapt --from pi4-onnxruntime,pixel7-onnxruntime -d pi5 --samples 10
  edgeprof predictors adapt --from pi4-litert -d pi5 --samples 30 --target-error 8%

\b
One that was interrupted goes on where it was when the same command is typed again."""


@click.command(epilog=EPILOG)
@click.option(
    "--from", "sources", required=True, multiple=True, metavar="NAME,...", help="Predictors of other devices."
)
@click.option("-d", "--device", "device_name", default="local", show_default=True, help="Device of fleet.toml.")
@click.option(
    "--samples", type=click.IntRange(3, 1000), default=10, show_default=True, help="Nets to measure, at most."
)
@click.option("--target-error", type=Share(), help="End earlier, once nets that were left out err less.")
@click.option("--runtime", help="What runs the models.  [default: as the others]")
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads of the runtime.  [default: as the first one]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the nets.")
@click.option("--name", help="What the predictor is called.  [default: DEVICE-RUNTIME]")
def adapt(sources: tuple[str, ...], device_name: str, **options: Any) -> int:
    """Predict a device by what predictors of others say, and by a few whole nets measured on it.

    Minutes instead of half an hour; the bill of operators is that of the other devices, scaled. A predictor that was
    trained on the device itself is better, and is not replaced.
    """
    from device_agents import wire
    from edgeprof.fleet import Fleet
    from edgeprof.metering import metered
    from edgeprof.places import fleet_file
    from edgeprof.profiling import OpenDevice
    from edgeprof.spooled import considerate
    from edgeprof.store import Store
    from edgeprof.training.adapting import Adapting, require_runtime
    from edgeprof.training.keeping import SUFFIX, predictors_dir, require_folder, require_name

    device = Fleet.read(fleet_file()).device(device_name)
    found = _sources(sources)
    runtime = require_runtime(found, options["runtime"])
    name = require_name(options["name"] or f"{device.name}-{runtime}")
    _require_free(name)
    place = require_folder() / f"{name}.adapting.sqlite"
    threads = options["threads"] or found[0].target.threads
    with Store(str(place)) as store, OpenDevice(device, measure=metered(considerate)) as opened:
        adapting = Adapting(
            opened,
            store,
            found,
            runtime,
            wire.RuntimeOptions(threads=threads),
            options["samples"],
            options["target_error"],
            options["seed"],
            _tell_net,
        )
        adaptation = adapting.run()
    adaptation.predictor.save(predictors_dir() / f"{name}{SUFFIX}")
    _tell_end(name, adaptation)
    return 0


def _sources(given: tuple[str, ...]) -> list[Predictor]:
    from edgeprof.errors import UsageError
    from edgeprof.training.keeping import load_predictor
    from latency_models.predictor import Predictor

    found = []
    for name in dict.fromkeys(one.strip() for text in given for one in text.split(",") if one.strip()):
        source = load_predictor(name)
        if not isinstance(source, Predictor):
            raise UsageError(f"{name} was itself adapted from others", "name the predictors that it came from")
        found.append(source)
    if not found:
        raise UsageError("--from names no predictor", "edgeprof predictors list shows which there are")
    return found


def _require_free(name: str) -> None:
    """A predictor that was trained is not replaced by one that is worse."""
    from edgeprof.errors import UsageError
    from edgeprof.training.keeping import load_predictor, names
    from latency_models.predictor import Predictor

    if name in names() and isinstance(load_predictor(name), Predictor):
        raise UsageError(f"{name} is a predictor that was trained, and is better than an adapted one", "give a --name")


def _tell_net(name: str, latency_s: float) -> None:
    from edgeprof.reports.quantities import duration

    click.echo(f"  {name}: {duration(latency_s)}", err=True)


def _tell_end(name: str, adaptation: Adaptation) -> None:
    from edgeprof.cli.output import console
    from edgeprof.reports.predictors import render_provenance
    from edgeprof.reports.quantities import percent
    from edgeprof.training.keeping import SUFFIX, predictors_dir

    metrics = adaptation.predictor.metrics
    console().print(render_provenance(name, adaptation.predictor))
    click.echo(
        f"{int(metrics['nets/n'])} nets, each predicted from the others: mean error {percent(metrics['nets/mape'])}, "
        f"within 10 %: {percent(metrics['nets/within10'])}; {adaptation.n_disturbed} were disturbed and are not used"
    )
    if adaptation.may_gain:
        click.echo("errors were still falling, or too few nets tell: more --samples may help")
    click.echo(f"kept as {predictors_dir() / (name + SUFFIX)}")
    click.echo(f"predict with it: edgeprof predict MODEL -p {name}")
