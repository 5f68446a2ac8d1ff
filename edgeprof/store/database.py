"""A store as a database: its address, its transactions, its errors in words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url

from edgeprof import __version__
from edgeprof.errors import StoreError
from edgeprof.store.backend import Backend, Unavailable, Waits
from edgeprof.store.postgres import NAMES, PostgresServer
from edgeprof.store.schema import META, MIGRATIONS, SCHEMA_VERSION, migrate
from edgeprof.store.sqlite import SqliteFile

__all__ = ["Database", "holds_password"]

EXAMPLE = "postgresql://user@host/database"


class Database:
    """A database with the tables of a store. A context manager; usable from several threads.

    Entering creates the tables where there are none and brings older ones up to date. Every change is one transaction:
    it happened as a whole or not at all, and others see it only then.

    Raises (from any method):
        StoreError: the store cannot be opened, read or written; what to do is in `advice`.
    """

    def __init__(self, place: str | Path, *, waits: Waits | None = None) -> None:
        self._backend = _backend(place, waits or Waits())
        self._engine: sa.Engine | None = None

    @property
    def place(self) -> str:
        """Where the store is, fit for a message: a path, or a URL without its password."""
        return self._backend.place

    def __enter__(self) -> Self:
        with self._errors("cannot be opened"):
            self._engine = self._backend.make_engine()
        try:
            with self._reading() as connection:
                version = self._version(connection)
            if version < SCHEMA_VERSION:
                with self._writing("cannot be brought up to date") as connection:
                    self._backend.lock_schema(connection)
                    # Asked again under the lock: another process may have done it meanwhile.
                    migrate(connection, self._version(connection), MIGRATIONS)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def _version(self, connection: sa.Connection) -> int:
        """The schema that is there; 0 where there is none yet."""
        if not self._backend.has_store(connection):
            return 0
        content = connection.scalar(sa.select(META.c.content).where(META.c.name == "schema"))
        version = int(content) if content is not None and content.isdecimal() else None
        if version is None or version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.place}: the store has schema {content}, edgeprof {__version__} reads up to {SCHEMA_VERSION}",
                "install a newer edgeprof, or name another store in EDGEPROF_STORE",
            )
        return version

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with self._errors("cannot be read"), self._backend.reading(self._open_engine()) as connection:
            yield connection

    @contextlib.contextmanager
    def _writing(self, consequence: str) -> Iterator[sa.Connection]:
        with self._errors(consequence), self._backend.writing(self._open_engine()) as connection:
            yield connection

    def _open_engine(self) -> sa.Engine:
        if self._engine is None:
            raise StoreError(
                f"{self.place}: the store is not open", "use it as a context manager: with Store(...) as store"
            )
        return self._engine

    @contextlib.contextmanager
    def _errors(self, consequence: str) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            what, advice = self._backend.explain(error.orig or error)
            raise StoreError(f"{self.place}: {what}; {consequence}", advice) from error
        except Unavailable as error:
            raise StoreError(f"{self.place}: {error}; {consequence}", error.advice) from error
        except sa.exc.TimeoutError as error:
            raise StoreError(
                f"{self.place}: every connection was in use for too long; {consequence}", "try again"
            ) from error
        except UnicodeError as error:
            raise StoreError(f"{self.place}: a text is not valid Unicode; {consequence}", "rename it") from error
        except sa.exc.SQLAlchemyError as error:
            raise StoreError(f"{self.place}: {error}; {consequence}", "check the address of the store") from error


def holds_password(place: str) -> bool:
    """Whether somebody who reads this address knows a password afterwards."""
    url = _url(place)
    return bool(url.password or {"password", "sslpassword"} & set(url.query))


def _backend(place: str | Path, waits: Waits) -> Backend:
    url = _url(str(place))
    if url.get_backend_name() == "sqlite":
        return SqliteFile(url, waits)
    if url.drivername in NAMES:
        return PostgresServer(url, waits)
    raise StoreError(f"edgeprof keeps no store in {url.drivername}", f"give a path, or a URL such as {EXAMPLE}")


def _url(text: str) -> URL:
    if "://" not in text:
        return URL.create("sqlite", database=text)
    try:
        return make_url(text)
    except (sa.exc.ArgumentError, ValueError) as error:
        # The text may hold a password, so it is not repeated.
        raise StoreError(
            "the address of the store is not a database URL", f"give a path, or a URL such as {EXAMPLE}"
        ) from error
