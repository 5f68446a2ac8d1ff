"""`edgeprof optimize`: a faster, leaner file of a model, with proof from the device."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeprof.cli.parameter_types import Duration, Share
from edgeprof.cli.stores import open_store, store_option

if TYPE_CHECKING:
    from edgeprof.optimize.session import Optimized, Plan
    from edgeprof.store import Store

__all__ = ["optimize"]

# The device was lost before the race was over.
EXIT_LOST = 3

EPILOG = """\b
Examples:
  edgeprof optimize model.onnx
  edgeprof optimize model.onnx -d pi5 --data data.npz --max-accuracy-drop 0.5%
  edgeprof optimize model.tflite --data samples/ --max-accuracy-drop 1% --metric score.py:f1 --explain

\b
The data has the model's inputs by name, (samples, ...), preprocessed as the model needs them, and labels where there
are some: numpy.savez('data.npz', image=images, labels=labels). A part of it is set aside to calibrate with."""


@click.command(epilog=EPILOG)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-d", "--device", "name", default="local", help="Device of fleet.toml.  [default: this machine]")
@click.option("--runtime", type=click.Choice(["onnxruntime", "litert", "tflite"]), help="Default: what fits.")
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="Threads of the runtime.")
@click.option("--batch", type=click.IntRange(1), help="Replace a dynamic first dimension of every input.")
@click.option("--shape", "shapes", multiple=True, metavar="NAME=1,3,224,224", help="Shape of an input.")
@click.option(
    "--max-accuracy-drop",
    "budget",
    type=Share(),
    metavar="SHARE",
    help="What a lossy file may lose of the metric, as 0.5%.  [default: nothing lossy is tried]",
)
@click.option("--data", type=click.Path(path_type=Path), metavar="FILE|DIR", help="Samples to judge by.")
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    metavar="FILE|DIR",
    help="Other samples to calibrate with.  [default: a quarter of --data is set aside]",
)
@click.option(
    "--metric",
    metavar="NAME",
    help="top1, cosine, or a function of yours as score.py:name, given (outputs, labels), more is better.  "
    "[default: top1 where there are labels, else cosine]",
)
@click.option(
    "--only", "only", metavar="NAME[,NAME...]", help="What to try, by the beginning of its name: static-u8,float16."
)
@click.option("--energy", is_flag=True, help="Measure energy too.")
@click.option("--meter", metavar="NAME", help="What measures it, as in `edgeprof profile`.")
@click.option(
    "--budget-time",
    "most_s",
    type=Duration(),
    default="15m",
    show_default=True,
    help="Time for the race, three sweeps at least.",
)
@click.option("-p", "--predictor", metavar="NAME|FILE", help="Rules out what is slower for sure before the race.")
@click.option("--explain", is_flag=True, help="Say why: operators of every file against the original's.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder for the files.  [default: MODEL.optimized]")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of what is set aside, and of the order.")
@click.option("--json", "json_target", metavar="FILE", help="Write JSON; - is standard output.")
@store_option
def optimize(model: Path, name: str, **options: Any) -> int:
    """Try what makes MODEL faster or smaller on a device, and keep what can be proven.

    Lossless changes are tried always; lossy ones with --max-accuracy-drop, and never beyond it. Every file is judged on
    your data on this machine, and measured in turns with the original on the device.
    """
    from edgeprof.cli.output import STANDARD_OUTPUT, console, require_writable, write_text
    from edgeprof.fleet import Fleet
    from edgeprof.optimize.session import optimize as optimized
    from edgeprof.places import fleet_file
    from edgeprof.reports.optimize import findings, render_optimized, to_document

    if options["json_target"] is not None:
        require_writable(options["json_target"])
    device = Fleet.read(fleet_file()).device(name)
    plan = _plan(model, options)
    with ExitStack() as stack:
        store = stack.enter_context(open_store(options["place"]))
        found = optimized(plan, device, store.add, _tell)
        _remember(found, store)
    told = findings(found)
    out = console(stderr=options["json_target"] == STANDARD_OUTPUT)
    out.print(render_optimized(found, told))
    if options["json_target"] is not None:
        write_text(options["json_target"], json.dumps(to_document(found, told), indent=1) + "\n")
    return EXIT_LOST if found.was_lost else 0


def _plan(model: Path, options: dict[str, Any]) -> Plan:
    from device_agents import wire
    from edgeprof.cli.profile_settings import to_shapes
    from edgeprof.optimize.session import Plan
    from edgeprof.training.keeping import load_predictor

    return Plan(
        model=model,
        folder=options["out"] or model.with_suffix(".optimized"),
        runtime=options["runtime"],
        options=wire.RuntimeOptions(
            threads=options["threads"], batch=options["batch"], shapes=to_shapes(options["shapes"])
        ),
        budget=options["budget"],
        data=options["data"],
        calibration=options["calibration"],
        metric=options["metric"],
        energy=wire.EnergyPlan(meter=options["meter"] or "") if options["energy"] else None,
        explain=options["explain"],
        seed=options["seed"],
        most_s=options["most_s"],
        predictor=load_predictor(options["predictor"]) if options["predictor"] is not None else None,
        only=tuple(name.strip() for name in (options["only"] or "").split(",") if name.strip()),
    )


def _tell(text: str) -> None:
    click.echo(f"edgeprof: {text}", err=True)


def _remember(found: Optimized, store: Store) -> None:
    """Which file came from which, of those that are kept."""
    for one in found.tried:
        if one.candidate is not None and one.name in found.front:
            store.add_lineage(*one.candidate.descents(found.model.digest))
