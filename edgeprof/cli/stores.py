"""The store that a command works with: the option, and how it is opened."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edgeprof.store import Store

__all__ = ["open_store", "store_option"]

# What looks like the address of a database, less its slashes.
DATABASE = re.compile(r"(postgres|postgresql|sqlite|mysql)[a-z0-9+]*:", re.IGNORECASE)

store_option = click.option(
    "--store",
    "place",
    metavar="URL|PATH",
    help="The store: a SQLite file, or postgresql://USER@HOST/DATABASE.  [default: $EDGEPROF_STORE]",
)


def open_store(given: str | None, *, reading: bool = False) -> Store:
    """The store of the option, of the environment, or of this user; a context manager.

    Only this user's own comes into being where there is none: a slip of the pen must not show an empty store to who
    is `reading`, nor make folders to who writes.

    Raises:
        StoreError: there is no store, or no folder, at the place that was named.
    """
    from edgeprof.places import own_store, store_place
    from edgeprof.store import Store, holds_password

    if given is not None and holds_password(given):
        click.echo(
            "edgeprof: everybody on this machine can read the password on the command line (ps): "
            "set PGPASSWORD, or put it into ~/.pgpass",
            err=True,
        )
    place = store_place(given)
    if place != str(own_store()) and "://" not in place:
        _require_there(place, reading=reading)
    return Store(place)


def _require_there(place: str, *, reading: bool) -> None:
    from pathlib import Path

    from edgeprof.errors import StoreError

    path = Path(place)
    if DATABASE.match(place):
        raise StoreError(f"{place} is no path and no URL", "write postgresql://USER@HOST/DATABASE")
    if reading and not path.exists():
        raise StoreError(f"there is no store at {place}", "mend --store, or EDGEPROF_STORE")
    if not path.absolute().parent.is_dir():
        raise StoreError(f"there is no folder {path.absolute().parent} for a store", "make it, or mend the path")
