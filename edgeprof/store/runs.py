"""The runs of a store. A run is one JSON document; the few columns beside it exist to find it again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from edgeprof.errors import StoreError
from edgeprof.lineage import Descent
from edgeprof.run import Run, decode_run, encode_run
from edgeprof.store.database import Database
from edgeprof.store.lineage import insert_descents
from edgeprof.store.schema import JOBS, RUNS

__all__ = ["LATEST", "Imported", "RunsInStore", "StoredRun", "has_run", "insert_run", "row_of", "stored", "taken"]

LATEST = "latest"
N_CANDIDATES = 5
READ_AT_ONCE = 20
# Everything but the document.
LIGHT = [column for column in RUNS.columns if column.name != "document"]
NEWEST_FIRST = (RUNS.c.created_at_s.desc(), RUNS.c.id.desc())


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


class RunsInStore(Database):
    """What a store can do with runs."""

    def add(self, run: Run) -> str:
        """Keep a run; returns its id. An id that is taken is an error, and the run that has it stays as it is."""
        row = row_of(run)
        with self._writing(f"run {run.id} was not stored") as connection:
            if not insert_run(connection, row):
                raise taken(self.place, run.id)
        return run.id

    def replace(self, old: Run, new: Run) -> None:
        """Put a run in the place of the one that has its id, which must still be `old`; both stay whole until then.

        Raises:
            StoreError: somebody changed or removed it meanwhile.
        """
        row = row_of(new)
        with self._writing(f"run {new.id} was not changed") as connection:
            held = _document(connection, old.id)
            if new.id != old.id or held is None or decode_run(held, f"run {old.id}") != old:
                raise StoreError(f"{self.place}: run {old.id} is not what it was when it was read", "try again")
            same = (RUNS.c.id == old.id) & (RUNS.c.document == held)
            if connection.execute(RUNS.update().where(same).values(**row)).rowcount != 1:
                raise StoreError(f"{self.place}: run {old.id} was changed by somebody else meanwhile", "try again")

    def import_runs(self, runs: Iterable[Run], lineage: Iterable[Descent] = ()) -> Imported:
        """Keep all of these runs with the lineage of their models, or none. What is here already is left alone."""
        rows = [(run, row_of(run)) for run in runs]
        added: list[str] = []
        known: list[str] = []
        with self._writing("nothing was imported") as connection:
            for run, row in rows:
                is_new = insert_run(connection, row)
                if not is_new and not has_run(connection, run):
                    raise taken(self.place, run.id)
                (added if is_new else known).append(run.id)
            insert_descents(connection, lineage)
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
        # Some at a time: fewer journeys to a server, and no transaction stays open while somebody looks at a run.
        every_id = [row.id for row in rows]
        for start in range(0, len(every_id), READ_AT_ONCE):
            ids = every_id[start : start + READ_AT_ONCE]
            with self._reading() as connection:
                query = sa.select(RUNS.c.id, RUNS.c.document).where(RUNS.c.id.in_(ids))
                documents = {row.id: row.document for row in connection.execute(query)}
            for run_id in ids:
                try:
                    yield decode_run(documents[run_id], f"run {run_id}")
                except KeyError:
                    yield self._nothing_like(run_id)
                except StoreError as error:
                    yield error

    def list(
        self,
        *,
        device: str | None = None,
        model: str | None = None,
        runtime: str | None = None,
        campaign_id: str | None = None,
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
        if campaign_id is not None:
            query = query.where(RUNS.c.id.in_(sa.select(JOBS.c.run_id).where(JOBS.c.campaign_id == campaign_id)))
        if limit is not None:
            query = query.limit(limit)
        with self._reading() as connection:
            return tuple(StoredRun(**row) for row in connection.execute(query).mappings())

    def devices(self) -> tuple[str, ...]:
        """The names of the devices that have runs, in order."""
        with self._reading() as connection:
            return tuple(sorted(connection.scalars(sa.select(RUNS.c.device).distinct())))

    def delete(self, ids: Sequence[str]) -> int:
        """Remove these runs, whole ids only; an unknown one is an error and nothing is removed."""
        with self._writing("nothing was removed") as connection:
            for run_id in dict.fromkeys(ids):
                if connection.execute(RUNS.delete().where(RUNS.c.id == run_id)).rowcount != 1:
                    raise self._nothing_like(run_id)
        return len(set(ids))

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

    def _nothing_like(self, reference: str) -> StoreError:
        return StoreError(f"{self.place}: no run {reference!r}", "see what there is: edgeprof runs list")


def insert_run(connection: sa.Connection, row: Mapping[str, Any]) -> bool:
    """Whether the run was new. One statement, so that two writers cannot both find that it is."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    return connection.scalar(insert(RUNS).values(**row).on_conflict_do_nothing().returning(RUNS.c.id)) is not None


def has_run(connection: sa.Connection, run: Run) -> bool:
    """Whether the store holds this very run, and not another one under its id."""
    document = _document(connection, run.id)
    return document is not None and decode_run(document, f"run {run.id}") == run


def taken(place: str, run_id: str) -> StoreError:
    return StoreError(
        f"{place}: there is another run with the id {run_id}",
        f"see what it is: edgeprof runs show {run_id}; remove it first if it may go: edgeprof runs prune {run_id}",
    )


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


def row_of(run: Run) -> dict[str, Any]:
    return {**asdict(stored(run)), "document": encode_run(run).decode()}
