"""A store in a PostgreSQL database that a team shares."""

from __future__ import annotations

import importlib.util
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL

from edgeprof.errors import StoreError
from edgeprof.store.backend import Explained, Unavailable, Waits
from edgeprof.store.schema import META

__all__ = ["NAMES", "PostgresServer"]

# How people write it; psycopg is the driver in every case.
NAMES = ("postgresql", "postgres", "postgresql+psycopg")
# Connections that one program keeps, at most: a server has about a hundred for everybody.
MOST_CONNECTIONS = 4
# Any number does, as long as every edgeprof takes the same: PostgreSQL's advisory locks have numbers for names.
SCHEMA_LOCK = 0x65646765
WATCHDOG = "edgeprof watchdog"
NO_RIGHT = "ask the owner of the database for the right (docs/how-to/shared-store.md says which)"
# The class or code of SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html): what to do.
ADVICE = {
    "42501": NO_RIGHT,
    "25006": "name the primary server in EDGEPROF_STORE, or one that may be written to",
    "55P03": "another program writes for long; see which in pg_stat_activity, then try again",
    "57014": "the server is busy; try again later",
    "53": "make room on the server (its disk, memory or connections), then try again; what was stored is intact",
    "08": "check that the server is up, then try again; `edgeprof runs list` shows whether it was stored after all",
    "57P": "the server was stopped or restarted; try again when it is up",
    "22P05": "make the database with ENCODING 'UTF8'",
}
# While connecting there is no SQLSTATE. Servers speak the language of their settings, so these only refine.
REFUSALS = {
    "password": "set PGPASSWORD, or put the password into ~/.pgpass",
    "does not exist": "check the name in the address, or make it (docs/how-to/shared-store.md)",
    "pg_hba.conf": "let the server's owner allow this host and user in pg_hba.conf",
    "too many": "the server has no free connection; try again later",
}
UNREACHABLE = "check the address of the store, that its server is up, and that this machine may connect to it"


class PostgresServer:
    """The backend of a postgresql:// URL. What libpq reads (PGPASSWORD, ~/.pgpass, service files) works as usual."""

    def __init__(self, url: URL, waits: Waits) -> None:
        if importlib.util.find_spec("psycopg") is None:
            raise StoreError(
                "a store in PostgreSQL needs psycopg, which is not installed", "pip install 'edgeprof[postgres]'"
            )
        self._url = url.set(drivername="postgresql+psycopg")
        self._waits = waits

    @property
    def place(self) -> str:
        # Parameters may hold a password too: only where the server and its database are is shown.
        query = {name: self._url.query[name] for name in ("host", "port", "service") if name in self._url.query}
        return self._url.set(drivername="postgresql", query=query).render_as_string(hide_password=True)

    def make_engine(self) -> sa.Engine:
        wanted = {
            "connect_timeout": max(2, round(self._waits.connect_s)),  # libpq knows no shorter one
            "application_name": "edgeprof",
            "client_encoding": "UTF8",
            # A server that vanished without a word: https://www.postgresql.org/docs/current/libpq-connect.html
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": round(1000 * self._waits.silence_s),
        }
        engine = sa.create_engine(
            self._url,
            pool_size=MOST_CONNECTIONS,
            max_overflow=0,
            pool_timeout=self._waits.lock_s,
            connect_args={name: value for name, value in wanted.items() if name not in self._url.query},
        )
        event.listen(engine, "after_cursor_execute", _heard)
        return engine

    @contextmanager
    def reading(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        with self._transaction(engine) as connection:
            yield connection

    @contextmanager
    def writing(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        with self._transaction(engine) as connection:
            yield connection

    def has_store(self, connection: sa.Connection) -> bool:
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
        if encoding != "UTF8":
            raise StoreError(
                f"{self.place}: a database in {encoding!r} cannot hold every text", "make it with ENCODING 'UTF8'"
            )
        return sa.inspect(connection).has_table(META.name)

    def lock_schema(self, connection: sa.Connection) -> None:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(SCHEMA_LOCK)))

    def explain(self, error: BaseException) -> Explained:
        text = str(error).strip().partition("\n")[0]
        if self._url.password:
            text = text.replace(str(self._url.password), "***")
        code = getattr(error, "sqlstate", None)
        for n_characters in (5, 3, 2):
            if code and code[:n_characters] in ADVICE:
                return text, ADVICE[code[:n_characters]]
        refined = (advice for words, advice in REFUSALS.items() if words in text)
        return text, next(refined, UNREACHABLE)

    @contextmanager
    def _transaction(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        with engine.connect() as kept:
            try:
                watchdog = self._begin(kept)
            except sa.exc.DBAPIError as error:
                if not error.connection_invalidated:
                    raise
            else:
                yield from self._guarded(kept, watchdog)
                return
        # The connection was kept from before, and its server was restarted since. Nothing was asked of it yet, so a
        # new one does as well, once.
        with engine.connect() as new:
            yield from self._guarded(new, self._begin(new))

    def _guarded(self, connection: sa.Connection, watchdog: _Watchdog) -> Iterator[sa.Connection]:
        try:
            yield connection
            connection.commit()
        except sa.exc.DBAPIError as error:
            if watchdog.has_bitten:
                raise self._silent() from error
            raise
        finally:
            # Here and not when the connection is given back: this too may wait for the server.
            with suppress(sa.exc.DBAPIError):
                connection.rollback()
            watchdog.rest()

    def _begin(self, connection: sa.Connection) -> _Watchdog:
        """Begin a transaction whose waits are bounded."""
        watchdog = _Watchdog(connection, self._waits.silence_s)
        connection.info[WATCHDOG] = watchdog
        bounds = {
            "statement_timeout": self._waits.statement_s,
            "lock_timeout": self._waits.lock_s,
            "idle_in_transaction_session_timeout": self._waits.silence_s,
        }
        try:
            # For this transaction only: a connection may be shared by a pooler in front of the server.
            settings = (sa.func.set_config(name, f"{round(1000 * s)}ms", True) for name, s in bounds.items())
            connection.execute(sa.select(*settings))
        except BaseException as error:
            watchdog.rest()
            if watchdog.has_bitten:
                raise self._silent() from error
            raise
        return watchdog

    def _silent(self) -> Unavailable:
        return Unavailable(
            f"the server did not answer for {self._waits.silence_s:g} s",
            "check the server and the network; `edgeprof runs list` shows whether it was stored after all",
        )


class _Watchdog:
    """Ends the wait for a server that is frozen: neither libpq nor psycopg bounds the wait for an answer.

    It shuts the socket down, which libpq then reports as a lost connection.
    """

    def __init__(self, connection: sa.Connection, patience_s: float) -> None:
        raw = connection.connection.dbapi_connection
        # A descriptor of our own: theirs may be closed, and its number be another file's, by the time we need it.
        self._socket = socket.socket(fileno=os.dup(raw.fileno()))  # type: ignore[union-attr]
        self._patience_s = patience_s
        self.has_bitten = False
        self._timer = self._start()

    def heard(self) -> None:
        """The server answered: wait from now on."""
        self._timer.cancel()
        self._timer = self._start()

    def rest(self) -> None:
        self._timer.cancel()
        self._timer.join()
        self._socket.close()

    def _start(self) -> threading.Timer:
        timer = threading.Timer(self._patience_s, self._bite)
        timer.daemon = True
        timer.start()
        return timer

    def _bite(self) -> None:
        self.has_bitten = True
        # It may be closed already by the other side.
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


def _heard(connection: sa.Connection, *_: object) -> None:
    watchdog: _Watchdog | None = connection.info.get(WATCHDOG)
    if watchdog is not None:
        watchdog.heard()
