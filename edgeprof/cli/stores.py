"""The store that a command works with: the option, and how it is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edgeprof.store import Store

__all__ = ["open_store", "store_option"]

store_option = click.option(
    "--store",
    "place",
    metavar="URL|PATH",
    help="The store: a SQLite file, or postgresql://USER@HOST/DATABASE.  [default: $EDGEPROF_STORE]",
)


def open_store(given: str | None) -> Store:
    """The store of the option, of the environment, or of this user; a context manager."""
    from edgeprof.places import store_place
    from edgeprof.store import Store, holds_password

    if given is not None and holds_password(given):
        click.echo(
            "edgeprof: everybody on this machine can read the password on the command line (ps): "
            "set PGPASSWORD, or put it into ~/.pgpass",
            err=True,
        )
    return Store(store_place(given))
