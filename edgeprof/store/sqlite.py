"""A store in a SQLite file: one writer at a time, readers beside it."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL

from edgeprof.errors import StoreError
from edgeprof.store.backend import Explained, Unavailable, Waits
from edgeprof.store.schema import META

__all__ = ["SqliteFile"]

BUSY_RETRY_S = 0.02
# Readers of one process at once; more of them wait for each other.
MOST_CONNECTIONS = 16
ELSEWHERE = "move the file away, or set EDGEPROF_HOME to another folder; the file was left as it is"


class SqliteFile:
    """The backend of a path, or of a sqlite:// URL."""

    def __init__(self, url: URL, waits: Waits) -> None:
        self._url = url
        self._waits = waits
        # Threads of one process queue here: SQLite's own waiting is a lottery of sleeps, and the unlucky time out.
        self._writer = threading.Lock()

    @property
    def place(self) -> str:
        return self._url.database or ":memory:"

    def make_engine(self) -> sa.Engine:
        self._make_folder()
        pool = {} if self.place == ":memory:" else {"pool_size": MOST_CONNECTIONS, "max_overflow": 0}
        engine = sa.create_engine(self._url, connect_args={"timeout": self._waits.lock_s}, **pool)
        event.listen(engine, "connect", self._prepare)
        event.listen(engine, "begin", _begin)
        return engine

    @contextmanager
    def reading(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        with engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        if not self._writer.acquire(timeout=self._waits.lock_s):
            raise Unavailable(
                f"another thread of this program has been writing for {self._waits.lock_s:g} s",
                "check the disk, then try again; what was stored before is intact",
            )
        try:
            # A lock taken at the beginning: SQLite refuses, without waiting, to turn a reader into a writer.
            with engine.execution_options(begin="BEGIN IMMEDIATE").begin() as connection:
                yield connection
        finally:
            self._writer.release()

    def has_store(self, connection: sa.Connection) -> bool:
        tables = sa.inspect(connection).get_table_names()
        if tables and META.name not in tables:
            raise StoreError(f"{self.place}: a database of something else (it has a table {tables[0]!r})", ELSEWHERE)
        return bool(tables)

    def lock_schema(self, connection: sa.Connection) -> None:
        """Nothing to do: whoever writes is alone already."""

    def explain(self, error: BaseException) -> Explained:
        """See `Backend`. Codes: https://www.sqlite.org/rescode.html; the low byte is the primary code."""
        code = getattr(error, "sqlite_errorcode", None)
        text = str(error).strip().partition("\n")[0]
        known: dict[int | None, Explained] = {
            sqlite3.SQLITE_NOTADB: ("not a SQLite database", ELSEWHERE),
            sqlite3.SQLITE_CORRUPT: (
                f"the file is damaged ({text})",
                "restore a copy, or save what can be read with `sqlite3 FILE .recover`; nothing was changed",
            ),
            sqlite3.SQLITE_READONLY: ("it may not be written", "set EDGEPROF_HOME to a folder that you may write to"),
            sqlite3.SQLITE_CANTOPEN: (
                "the file cannot be opened or made",
                "check that the folder exists and that you may write to it, or set EDGEPROF_HOME",
            ),
            sqlite3.SQLITE_FULL: (
                "the disk is full",
                "free some space, then try again; what was stored before is intact",
            ),
            sqlite3.SQLITE_IOERR: (
                f"the disk refused to read or write ({text})",
                "check the disk, its free space and quota, then try again; what was stored before is intact",
            ),
            sqlite3.SQLITE_BUSY: (
                f"another program kept it locked for {self._waits.lock_s:g} s",
                "see who has the file open (fuser FILE), then try again",
            ),
        }
        primary = code & 0xFF if isinstance(code, int) else None
        return known.get(primary, (text, "check the address of the store"))

    def _make_folder(self) -> None:
        if self.place == ":memory:":
            return
        try:
            Path(self.place).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{self.place}: the store's folder cannot be made: {error.strerror}",
                "set EDGEPROF_HOME to a folder that you may write to",
            ) from error

    def _prepare(self, connection: sqlite3.Connection, _record: object) -> None:
        # Python's sqlite3 begins transactions late and never around DDL; we say BEGIN ourselves, as SQLAlchemy's page
        # on SQLite advises ("Serializable isolation / Savepoints / Transactional DDL").
        connection.isolation_level = None
        # Readers do not wait for the writer; kept in the file. Commits are still synced (synchronous=FULL, the
        # default). SQLite refuses this switch at once while another process makes it too, whatever the time-out says.
        deadline_s = time.monotonic() + self._waits.lock_s
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline_s:
                    raise
            time.sleep(BUSY_RETRY_S)


def _begin(connection: sa.Connection) -> None:
    begin: str = connection.get_execution_options().get("begin", "BEGIN")
    connection.exec_driver_sql(begin)
