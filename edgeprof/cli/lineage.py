"""`edgeprof runs lineage`: which model came from which, and how fast each of them is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeprof.cli.stores import open_store, store_option

if TYPE_CHECKING:
    from edgeprof.store import Store

__all__ = ["show_lineage"]

EPILOG = """\b
Examples:
  edgeprof runs lineage model.onnx
  edgeprof runs lineage 5f70bf18 --json"""


@click.command("lineage", short_help="Which model came from which, and how fast each is.", epilog=EPILOG)
@click.argument("model", metavar="MODEL|DIGEST")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_option
def show_lineage(model: str, as_json: bool, place: str | None) -> None:
    """Print the tree of files that a model came from and that were made of it, with the newest runs of each.

    MODEL is a file, or a name that runs have it by; DIGEST is the SHA-256 of a model, or its beginning.
    """
    from edgeprof.cli.output import console
    from edgeprof.reports.lineage import family, render_family

    with open_store(place, reading=True) as store:
        found = family(store, _digest(store, model))
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=1))
    else:
        console().print(render_family(found))


def _digest(store: Store, model: str) -> str:
    if not Path(model).is_file():
        return store.find_model(model)
    from edgeprof.models import read_model

    return read_model(Path(model)).digest
