"""What edgeprof's own work took, by what it was for: a campaign, a training, a search."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from edgeprof.errors import StoreError
from edgeprof.own_cost import OwnCost
from edgeprof.store.database import Database
from edgeprof.store.schema import OWN_COSTS

__all__ = ["OwnCostsInStore"]


class OwnCostsInStore(Database):
    """What a store can do with costs. `subject` is what the work was for, `session` the process that did it."""

    def keep_own_cost(self, subject: str, session: str, cost: OwnCost) -> None:
        """Keep what a session took so far, in place of what it said before."""
        row = {"subject": subject, "session": session, "document": msgspec.json.encode(cost).decode()}
        with self._writing(f"the cost of {subject} was not kept") as connection:
            connection.execute(OWN_COSTS.delete().where(*_is(subject, session)))
            connection.execute(OWN_COSTS.insert(), row)

    def own_costs(self, subject: str) -> tuple[OwnCost, ...]:
        """What each session took, the first one first."""
        query = sa.select(OWN_COSTS.c.document).where(OWN_COSTS.c.subject == subject)
        with self._reading() as connection:
            documents = connection.execute(query).scalars().all()
        try:
            found = [msgspec.json.decode(document, type=OwnCost) for document in documents]
        except msgspec.MsgspecError as error:
            raise StoreError(
                f"{self.place}: the cost of {subject} cannot be read: {error}", "it is no part of any measurement"
            ) from error
        return tuple(sorted(found, key=lambda cost: cost.began_at_s))


def _is(subject: str, session: str) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return OWN_COSTS.c.subject == subject, OWN_COSTS.c.session == session
