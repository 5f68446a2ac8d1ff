"""The end of the demo: networks that read digits, found for this machine, verified on it, with files and cards."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from latency_models.predictor import Predictor

__all__ = ["search_digits"]

NEEDS = {"torch": "torch", "optuna": "search", "sklearn": "search"}
PLAN = """# What `edgeprof demo` searches; change it, and type: edgeprof search run search.toml
objectives = ["error", "latency"]

[search]
evaluations = 60
most_verified = 8

[space]
name = "once-for-all"
resolutions = [8]
widths = [0.5, 1.0]
depths = [1, 2]
kernels = [3]
expansions = [1, 2, 4]
stages = [[16, 1, "relu", false], [24, 2, "relu", true]]
stem = 8
stem_stride = 1
last = 48
head = 0
image_channels = 1
n_classes = 10

[data]
source = "digits"

[accuracy]
by = "supernet"
epochs = 20
final_epochs = 4

[[targets]]
device = "local"
{target}
"""


def search_digits(folder: Path, predictor: Predictor | None) -> None:
    """Search, verify through the local link, and print the front; says why where something for it is missing."""
    from edgeprof.cli.output import console
    from edgeprof.cli.search import hand_over, tell_progress
    from edgeprof.errors import EdgeprofError
    from edgeprof.reports.search import render_found
    from edgeprof.search.plan import parse_plan
    from edgeprof.search.session import begin, finish, opened, work

    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        extras = ",".join(sorted({NEEDS[name] for name in missing}))
        click.echo(f"6. No search of networks: {', '.join(missing)} is not there. pip install 'edgeprof[{extras}]'")
        return
    click.echo(
        "6. Networks that read digits (8 x 8) are searched for this machine: one large net is trained, its parts are"
    )
    click.echo(
        "   candidates, and the front of accuracy and latency is tuned, written and measured here. About two minutes."
    )
    study, target = folder / "search.study", 'in_the_loop = "always"'
    shutil.rmtree(study, ignore_errors=True)
    try:
        if predictor is not None:
            predictor.save(folder / "demo.predictor")
            target = 'predictor = "demo.predictor"'
        text = PLAN.replace("{target}", target)
        (folder / "search.toml").write_text(text)
        begin(parse_plan(text, "search.toml"), text, folder, study)
        with opened(study) as search:
            work(search, study, tell_progress(search))
            found = finish(search, study)
            hand_over(search, study, found)
            console().print(render_found(found, search, study))
    except (EdgeprofError, OSError) as error:
        click.echo(f"   no front: {error}")
