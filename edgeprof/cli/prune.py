"""`edgeprof runs prune`: remove runs for good."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from edgeprof.cli.stores import open_store, store_option

if TYPE_CHECKING:
    from datetime import datetime

    from edgeprof.store import Store, StoredRun

__all__ = ["prune"]

EPILOG = """\b
Examples:
  edgeprof runs prune 20260131-1200
  edgeprof runs prune --keep 100
  edgeprof runs prune --before 2026-01-01 --yes"""


@click.command(short_help="Remove runs for good.", epilog=EPILOG)
@click.argument("references", metavar="[RUN]...", nargs=-1)
@click.option("--keep", type=click.IntRange(0), metavar="N", help="Remove all but the newest N runs.")
@click.option("--before", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]), help="Remove older runs (UTC).")
@click.option("--yes", is_flag=True, help="Do not ask.")
@store_option
def prune(references: tuple[str, ...], keep: int | None, before: datetime | None, yes: bool, place: str | None) -> None:
    """Remove runs for good: those that are named, or all but the newest, or the oldest."""
    from edgeprof.errors import UsageError

    if sum((bool(references), keep is not None, before is not None)) != 1:
        raise UsageError("prune takes run ids, --keep N or --before DATE, and one of them only", "see --help")
    with open_store(place) as store:
        doomed = _doomed(store, references, keep, before)
        if not doomed:
            click.echo("nothing to remove")
            return
        _ask(doomed, yes)
        n_removed = store.delete([row.id for row in doomed])
    click.echo(f"removed {n_removed} runs" if n_removed != 1 else "removed 1 run")


def _doomed(
    store: Store, references: tuple[str, ...], keep: int | None, before: datetime | None
) -> tuple[StoredRun, ...]:
    from datetime import UTC

    if references:
        ids = {store.find(reference) for reference in references}
        return tuple(row for row in store.list() if row.id in ids)
    if before is not None:
        limit_s = before.replace(tzinfo=UTC).timestamp()
        return tuple(row for row in store.list() if row.created_at_s < limit_s)
    return store.list()[keep:]


def _ask(doomed: tuple[StoredRun, ...], yes: bool) -> None:
    from edgeprof.errors import UsageError

    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"would remove {len(doomed)} runs for good, and nobody is there to ask", "add --yes to do it")
    for row in doomed[:10]:
        click.echo(f"  {row.id}  {row.model_name!r} on {row.device!r}")
    if len(doomed) > 10:
        click.echo(f"  and {len(doomed) - 10} more")
    click.confirm(f"Remove {len(doomed)} runs for good?", abort=True)
