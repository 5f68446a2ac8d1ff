"""Which model came from which, as a store keeps it: a row for each transform of one file into another."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from edgeprof.errors import StoreError
from edgeprof.lineage import Descent, Lineage, check_descent
from edgeprof.store.database import Database
from edgeprof.store.schema import LINEAGE, RUNS

__all__ = ["LineageInStore", "insert_descents"]

N_NEAR = 5
SHORT_DIGEST = 12
# Databases take some thousand values in a query.
ASKED_AT_ONCE = 500


class LineageInStore(Database):
    """What a store can do with lineage."""

    def add_lineage(self, *descents: Descent) -> int:
        """Keep all of these, or none; how many were new. What is there already stays as it was first told.

        A transform that changed nothing is no descent: it is not kept.

        Raises:
            StoreError: one of them has no digest or an impossible date, beside what any method raises.
        """
        with self._writing("no lineage was stored") as connection:
            return insert_descents(connection, descents)

    def lineage(self, digest: str) -> Lineage:
        """All that led to this model, however far back, and all that was made of it; whole digests only."""
        with self._reading() as connection:
            return Lineage(
                digest=digest,
                ancestors=_reached(connection, digest, LINEAGE.c.child_digest, LINEAGE.c.parent_digest),
                descendants=_reached(connection, digest, LINEAGE.c.parent_digest, LINEAGE.c.child_digest),
            )

    def find_model(self, reference: str) -> str:
        """The digest of the model that `reference` means: its name, or the beginning of its digest.

        Raises:
            StoreError: nothing here has ever heard of it, or it means several.
        """
        names = self._model_names()
        found = {digest for digest, known in names.items() if reference in known}
        if not found and reference:
            found = {digest for digest in names if digest.startswith(reference.lower())}
        if not found:
            near = difflib.get_close_matches(reference, {name for known in names.values() for name in known}, N_NEAR)
            hint = f"; did you mean {', '.join(map(repr, near))}" if near else ""
            raise StoreError(
                f"{self.place}: no run and no lineage of a model {reference!r}{hint}",
                "give a model's file, its name, or the beginning of its digest: see edgeprof runs list --json",
            )
        if len(found) > 1:
            shown = ", ".join(f"{digest[:SHORT_DIGEST]} ({min(names[digest])})" for digest in sorted(found)[:N_NEAR])
            more = ", ..." if len(found) > N_NEAR else ""
            raise StoreError(
                f"{self.place}: {reference!r} means {len(found)} models: {shown}{more}", "give the digest of one"
            )
        return found.pop()

    def model_names(self, digests: Iterable[str]) -> dict[str, str]:
        """A name for each of these models that has one: in a run, or when it was made."""
        names = self._model_names()
        return {digest: min(names[digest]) for digest in digests if names.get(digest)}

    def _model_names(self) -> dict[str, set[str]]:
        """Every model that the store has heard of, with the names that it went by."""
        queries = (
            sa.select(RUNS.c.model_digest, RUNS.c.model_name).distinct(),
            sa.select(LINEAGE.c.child_digest, LINEAGE.c.child_name).distinct(),
        )
        names: dict[str, set[str]] = {}
        with self._reading() as connection:
            for query in queries:
                for digest, name in connection.execute(query):
                    names.setdefault(digest, set()).add(name)
            for digest in connection.scalars(sa.select(LINEAGE.c.parent_digest).distinct()):
                names.setdefault(digest, set())
        return names


def insert_descents(connection: sa.Connection, descents: Iterable[Descent]) -> int:
    """Add those that are new, in the caller's transaction; how many those were."""
    rows = []
    for descent in descents:
        check_descent(descent, f"lineage of {descent.child_name}")
        if descent.child_digest != descent.parent_digest:
            rows.append(_row(descent))
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    added = insert(LINEAGE).on_conflict_do_nothing().returning(LINEAGE.c.child_digest)
    return sum(connection.scalar(added.values(**row)) is not None for row in rows)


def _row(descent: Descent) -> dict[str, Any]:
    try:
        return {**asdict(descent), "options": msgspec.json.encode(descent.options, order="deterministic").decode()}
    except (msgspec.MsgspecError, ValueError, TypeError) as error:
        raise StoreError(
            f"lineage of {descent.child_name}: its options cannot be written: {error}", "give texts by name"
        ) from error


def _reached(connection: sa.Connection, digest: str, near: sa.Column[Any], far: sa.Column[Any]) -> tuple[Descent, ...]:
    """Every row that is reached from `digest` by going from `near` to `far`, the nearest first."""
    found: dict[tuple[str, str, str], Descent] = {}
    seen, reached = {digest}, [digest]
    while reached:
        asked, reached = reached[:ASKED_AT_ONCE], reached[ASKED_AT_ONCE:]
        rows = connection.execute(sa.select(LINEAGE).where(near.in_(asked)).order_by(LINEAGE.c.created_at_s))
        for row in rows.mappings():
            descent = _descent(row)
            found[descent.child_digest, descent.parent_digest, descent.transform] = descent
            # A transform may lead back to where another began.
            if row[far.name] not in seen:
                seen.add(row[far.name])
                reached.append(row[far.name])
    return tuple(found.values())


def _descent(row: sa.RowMapping) -> Descent:
    try:
        options = msgspec.json.decode(row["options"], type=dict[str, str])
    except msgspec.MsgspecError as error:
        raise StoreError(
            f"the lineage of {row['child_name']} cannot be read: its options: {error}", "it is no part of any run"
        ) from error
    return Descent(**{**row, "options": options})
