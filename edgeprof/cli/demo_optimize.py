"""A step of the demo: other files of its model, judged, raced here, and the best shown beside the original."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import click

__all__ = ["optimize_example"]

MOST_S = 20.0
N_IMAGES = 160
BUDGET = 0.01
# The demo is short: one of each kind.
ONLY = ("slim", "rewritten", "static-u8-channel-minmax", "dynamic")


def optimize_example(model: Path) -> None:
    """Optimize the example, whose weights are random: what counts as accuracy is how close outputs stay."""
    import numpy as np

    from edgeprof.cli.output import console
    from edgeprof.errors import EdgeprofError
    from edgeprof.fleet import Fleet
    from edgeprof.models import read_model
    from edgeprof.optimize.session import Plan, optimize
    from edgeprof.places import fleet_file
    from edgeprof.reports.optimize import findings, render_optimized

    if importlib.util.find_spec("onnxslim") is None:
        click.echo("5. No optimizing: onnxslim is not there. pip install 'edgeprof[optimize]'")
        return
    click.echo(
        "5. Other files of the model are made, held against it, and raced with it here; int8 may move outputs by"
    )
    click.echo(f"   {BUDGET:.0%} (its weights are random, so closeness stands for accuracy). About a minute.")
    folder = model.with_suffix(".optimized")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ((name, shape),) = read_model(model).inputs.shapes.items()
    images = np.random.default_rng(0).normal(0, 1, (N_IMAGES, *shape)).astype(np.float32)
    data = folder / "images.npz"
    np.savez(data, **{name: images})  # type: ignore[arg-type]
    plan = Plan(model=model, folder=folder, budget=BUDGET, data=data, explain=True, most_s=MOST_S, only=ONLY)
    try:
        found = optimize(plan, Fleet.read(fleet_file()).device("local"))
    except (EdgeprofError, OSError) as error:
        click.echo(f"   nothing was optimized: {error}")
        return
    console().print(render_optimized(found, findings(found)))
