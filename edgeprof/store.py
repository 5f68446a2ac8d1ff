"""Every run that was ever made, with its raw samples, in SQLite (a path) or another database (a URL).

A run is one JSON document; the few columns beside it exist to find it again. Nothing computed is stored.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url

from edgeprof import __version__
from edgeprof.errors import StoreError
from edgeprof.run import Run, decode_run, encode_run

__all__ = ["LATEST", "SCHEMA_VERSION", "Imported", "Store", "StoredRun", "stored"]

LATEST = "latest"
# Two processes writing at once wait for each other; one write takes milliseconds, a slow SD card some seconds.
BUSY_TIMEOUT_S = 30.0
BUSY_RETRY_S = 0.02
N_CANDIDATES = 5
ELSEWHERE = "move the file away, or set EDGEPROF_HOME to another folder; the file was left as it is"

TABLES = sa.MetaData()
# The prefix keeps clear of other programs in a database that a team shares.
META = sa.Table(
    "edgeprof_meta",
    TABLES,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("content", sa.Text, nullable=False),
)
RUNS = sa.Table(
    "edgeprof_runs",
    TABLES,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("created_at_s", sa.Double, nullable=False),
    sa.Column("device", sa.Text, nullable=False),
    sa.Column("model_name", sa.Text, nullable=False),
    sa.Column("model_digest", sa.Text, nullable=False),
    sa.Column("runtime", sa.Text, nullable=False),
    sa.Column("runtime_version", sa.Text, nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
)
LIGHT = [column for column in RUNS.columns if column.name != "document"]
NEWEST_FIRST = (RUNS.c.created_at_s.desc(), RUNS.c.id.desc())

# Step k leads from schema version k to k + 1, in SQL that SQLite and PostgreSQL both know. Steps are never edited.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE edgeprof_runs (id TEXT NOT NULL PRIMARY KEY, created_at_s DOUBLE PRECISION NOT NULL,"
        " device TEXT NOT NULL, model_name TEXT NOT NULL, model_digest TEXT NOT NULL, runtime TEXT NOT NULL,"
        " runtime_version TEXT NOT NULL, origin TEXT NOT NULL, document TEXT NOT NULL)",
        "CREATE INDEX edgeprof_runs_created ON edgeprof_runs (created_at_s)",
        "CREATE INDEX edgeprof_runs_device ON edgeprof_runs (device, created_at_s)",
        "CREATE INDEX edgeprof_runs_model ON edgeprof_runs (model_digest, created_at_s)",
    ),
)
SCHEMA_VERSION = len(MIGRATIONS)


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """What the store knows of a run without reading its document."""

    id: str
    created_at_s: float
    device: str
    model_name: str
    model_digest: str
    runtime: str
    runtime_version: str
    origin: str


@dataclass(frozen=True, kw_only=True)
class Imported:
    """The ids that an import added, and those that were there already with the same content."""

    added: tuple[str, ...]
    known: tuple[str, ...]


class Store:
    """The runs at one place: a path (SQLite), or a database URL. A context manager.

    Entering creates the store where there is none and brings an older one up to date. Every change is one
    transaction: it happened as a whole or not at all, and another process sees it only then.

    Raises (from any method):
        StoreError: the store cannot be opened, read or written; what to do is in `advice`.
    """

    def __init__(self, place: str | Path) -> None:
        self._url = _url(place)
        self._engine: sa.Engine | None = None

    @property
    def place(self) -> str:
        """Where the store is, fit for a message: a path, or a URL without its password."""
        if self._is_sqlite and self._url.database:
            return self._url.database
        return self._url.render_as_string(hide_password=True)

    def __enter__(self) -> Self:
        if self._is_sqlite:
            self._make_folder()
        with self._errors("cannot be opened"):
            self._engine = _engine(self._url)
        try:
            with self._reading() as connection:
                version = self._version(connection)
            if version < SCHEMA_VERSION:
                with self._writing("cannot be brought up to date") as connection:
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

    def add(self, run: Run) -> str:
        """Keep a run; returns its id. An id that is taken is an error, and the run that has it stays as it is."""
        row = _row(run)
        with self._writing(f"run {run.id} was not stored") as connection:
            if _document(connection, run.id) is not None:
                raise self._taken(run.id)
            connection.execute(RUNS.insert(), row)
        return run.id

    def import_runs(self, runs: Iterable[Run]) -> Imported:
        """Keep all of these runs, or none. Runs that are here already with the same content are left alone."""
        rows = [(run, _row(run)) for run in runs]
        added, known = [], []
        with self._writing("nothing was imported") as connection:
            for run, row in rows:
                there = _document(connection, run.id)
                if there is None:
                    connection.execute(RUNS.insert(), row)
                    added.append(run.id)
                elif decode_run(there, f"{self.place}, run {run.id}") == run:
                    known.append(run.id)
                else:
                    raise self._taken(run.id)
        return Imported(added=tuple(added), known=tuple(known))

    def find(self, reference: str) -> str:
        """The id that `reference` means: a whole id, the only id that begins with it, or "latest"."""
        with self._reading() as connection:
            return self._find(connection, reference)

    def get(self, reference: str) -> Run:
        """The run that `reference` means (see `find`)."""
        with self._reading() as connection:
            run_id = self._find(connection, reference)
            document = _document(connection, run_id)
        if document is None:
            raise self._nothing_like(reference)
        return decode_run(document, f"{self.place}, run {run_id}")

    def read(self, rows: Iterable[StoredRun]) -> Iterator[Run | StoreError]:
        """The run of each row; for one that cannot be read the reason, so that the others still can be."""
        with self._reading() as connection:
            for row in rows:
                document = _document(connection, row.id)
                try:
                    yield self._nothing_like(row.id) if document is None else decode_run(document, f"run {row.id}")
                except StoreError as error:
                    yield error

    def list(
        self,
        *,
        device: str | None = None,
        model: str | None = None,
        runtime: str | None = None,
        limit: int | None = None,
    ) -> tuple[StoredRun, ...]:
        """Runs, newest first. `model` is a model's name or the beginning of its digest."""
        query = sa.select(*LIGHT).order_by(*NEWEST_FIRST)
        if device is not None:
            query = query.where(RUNS.c.device == device)
        if model is not None:
            digest_begins = RUNS.c.model_digest.startswith(model, autoescape=True)
            query = query.where(sa.or_(RUNS.c.model_name == model, digest_begins))
        if runtime is not None:
            query = query.where(RUNS.c.runtime == runtime)
        if limit is not None:
            query = query.limit(limit)
        with self._reading() as connection:
            return tuple(StoredRun(**row) for row in connection.execute(query).mappings())

    def delete(self, ids: Sequence[str]) -> int:
        """Remove these runs, whole ids only; an unknown one is an error and nothing is removed."""
        with self._writing("nothing was removed") as connection:
            for run_id in dict.fromkeys(ids):
                if connection.execute(RUNS.delete().where(RUNS.c.id == run_id)).rowcount != 1:
                    raise self._nothing_like(run_id)
        return len(set(ids))

    @property
    def _is_sqlite(self) -> bool:
        return self._url.get_backend_name() == "sqlite"

    def _make_folder(self) -> None:
        if not self._url.database or self._url.database == ":memory:":
            return
        folder = Path(self._url.database).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{self.place}: the store's folder cannot be made: {error.strerror}",
                "set EDGEPROF_HOME to a folder that you may write to",
            ) from error

    def _find(self, connection: sa.Connection, reference: str) -> str:
        if reference == LATEST:
            newest: str | None = connection.scalar(sa.select(RUNS.c.id).order_by(*NEWEST_FIRST).limit(1))
            if newest is None:
                raise StoreError(f"{self.place}: there are no runs yet", "make one: edgeprof profile MODEL")
            return newest
        if not reference:
            raise self._nothing_like(reference)
        query = sa.select(RUNS.c.id).where(RUNS.c.id.startswith(reference, autoescape=True)).order_by(*NEWEST_FIRST)
        # LIKE ignores case in SQLite and does not in PostgreSQL; ids are exact in both.
        found = [run_id for run_id in connection.scalars(query) if run_id.startswith(reference)]
        if not found:
            raise self._nothing_like(reference)
        if len(found) > 1 and reference not in found:
            shown = ", ".join(found[:N_CANDIDATES]) + (", ..." if len(found) > N_CANDIDATES else "")
            raise StoreError(f"{reference!r} begins {len(found)} run ids: {shown}", "give more of the id")
        return reference if reference in found else found[0]

    def _taken(self, run_id: str) -> StoreError:
        return StoreError(
            f"{self.place}: there is another run with the id {run_id}",
            f"see what it is: edgeprof runs show {run_id}; remove it first if it may go: edgeprof runs prune {run_id}",
        )

    def _nothing_like(self, reference: str) -> StoreError:
        return StoreError(f"{self.place}: no run {reference!r}", "see what there is: edgeprof runs list")

    def _version(self, connection: sa.Connection) -> int:
        """The schema that is there; 0 where there is none yet."""
        tables = sa.inspect(connection).get_table_names()
        if META.name not in tables:
            if tables and self._is_sqlite:
                raise StoreError(
                    f"{self.place}: a database of something else (it has a table {tables[0]!r})",
                    ELSEWHERE,
                )
            return 0
        content = connection.scalar(sa.select(META.c.content).where(META.c.name == "schema"))
        version = int(content) if content is not None and content.isdecimal() else None
        if version is None or version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.place}: the store has schema {content}, edgeprof {__version__} reads up to {SCHEMA_VERSION}",
                "install a newer edgeprof, or set EDGEPROF_HOME to a folder with another store",
            )
        return version

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with self._errors("cannot be read"), self._open_engine().begin() as connection:
            yield connection

    @contextlib.contextmanager
    def _writing(self, consequence: str) -> Iterator[sa.Connection]:
        # A lock taken at the beginning: SQLite refuses, without waiting, to turn a reader into a writer.
        engine = self._open_engine().execution_options(begin="BEGIN IMMEDIATE")
        with self._errors(consequence), engine.begin() as connection:
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
            what, advice = _explain(error.orig)
            raise StoreError(f"{self.place}: {what}; {consequence}", advice) from error
        except ImportError as error:
            raise StoreError(f"{self.place}: {error}; {consequence}", "install the database's Python driver") from error
        except (sa.exc.SQLAlchemyError, UnicodeError) as error:
            raise StoreError(f"{self.place}: {error}; {consequence}", "check the address of the store") from error


def migrate(connection: sa.Connection, version: int, migrations: tuple[tuple[str, ...], ...]) -> None:
    """Bring a store from schema `version` (0: nothing there) to the last one, inside the caller's transaction."""
    if version == len(migrations):
        return
    if version == 0:
        META.create(connection)
        connection.execute(META.insert(), {"name": "schema", "content": "0"})
    for step in migrations[version:]:
        for statement in step:
            connection.exec_driver_sql(statement)
    connection.execute(META.update().where(META.c.name == "schema").values(content=str(len(migrations))))


def _url(place: str | Path) -> URL:
    text = str(place)
    if "://" not in text:
        return URL.create("sqlite", database=text)
    try:
        return make_url(text)
    except (sa.exc.ArgumentError, ValueError) as error:
        raise StoreError(
            # The text may hold a password, so it is not repeated.
            "the address of the store is not a database URL",
            "give a path, or a URL such as postgresql+psycopg://user@host/database",
        ) from error


def _engine(url: URL) -> sa.Engine:
    if url.get_backend_name() != "sqlite":
        return sa.create_engine(url, pool_pre_ping=True)
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # Python's sqlite3 begins transactions late and never around DDL; we say BEGIN ourselves, as SQLAlchemy's page
    # on SQLite advises ("Serializable isolation / Savepoints / Transactional DDL").
    connection.isolation_level = None
    # Readers do not wait for the writer; kept in the file. Commits are still synced (synchronous=FULL, the default).
    # SQLite refuses this switch at once while another process makes it too, whatever the time-out says.
    deadline_s = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline_s:
                raise
        time.sleep(BUSY_RETRY_S)


def _begin_sqlite(connection: sa.Connection) -> None:
    begin: str = connection.get_execution_options().get("begin", "BEGIN")
    connection.exec_driver_sql(begin)


def _explain(error: BaseException | None) -> tuple[str, str]:
    """What a database's exception means to a person, and what to do.

    SQLite's codes: https://www.sqlite.org/rescode.html; the low byte is the primary code.
    """
    code = getattr(error, "sqlite_errorcode", None)
    text = str(error).strip().partition("\n")[0]
    known: dict[int | None, tuple[str, str]] = {
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
        sqlite3.SQLITE_FULL: ("the disk is full", "free some space, then try again; what was stored before is intact"),
        sqlite3.SQLITE_IOERR: (
            f"the disk refused to read or write ({text})",
            "check the disk, its free space and quota, then try again; what was stored before is intact",
        ),
        sqlite3.SQLITE_BUSY: (
            f"another program kept it locked for {BUSY_TIMEOUT_S:.0f} s",
            "see who has the file open (fuser FILE), then try again",
        ),
    }
    primary = code & 0xFF if isinstance(code, int) else None
    return known.get(primary, (text, "check the address of the store and that its server is up"))


def _document(connection: sa.Connection, run_id: str) -> str | None:
    document: str | None = connection.scalar(sa.select(RUNS.c.document).where(RUNS.c.id == run_id))
    return document


def stored(run: Run) -> StoredRun:
    """The columns of a run."""
    profile = run.profile
    return StoredRun(
        id=run.id,
        created_at_s=run.created_at_s,
        device=run.device,
        model_name=profile.job.model.name,
        model_digest=profile.job.model.digest,
        runtime=profile.job.runtime,
        runtime_version=profile.runtime_version,
        origin=profile.origin,
    )


def _row(run: Run) -> dict[str, Any]:
    return {**asdict(stored(run)), "document": encode_run(run).decode()}
