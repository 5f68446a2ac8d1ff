"""The campaigns of a store: what is to be measured where, what became of it, and which controller may say so.

A campaign belongs to the controller whose token it carries. Every change of a job asks for that token in the same
transaction, so what a controller that was replaced still brings is refused, whole.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import msgspec
import sqlalchemy as sa

from edgeprof.errors import Fenced, StoreError
from edgeprof.run import RUN_ID, Run
from edgeprof.store.database import Database
from edgeprof.store.runs import LATEST, LIGHT, StoredRun, has_run, insert_run, row_of, taken
from edgeprof.store.schema import CAMPAIGNS, JOBS, RUNS

__all__ = ["DONE", "FAILED", "PENDING", "RUNNING", "Campaign", "CampaignJob", "CampaignsInStore", "Reason"]

PENDING, RUNNING, DONE, FAILED = "pending", "running", "done", "failed"
NEWEST_FIRST = (CAMPAIGNS.c.created_at_s.desc(), CAMPAIGNS.c.id.desc())
N_NEAR = 5


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why an attempt gave no result; `kind` is for programs, `message` for people. `at_s`: seconds since 1970."""

    attempt: int
    at_s: float
    kind: str
    message: str


@dataclass(frozen=True, kw_only=True)
class CampaignJob:
    """One job on one device. `attempt` counts from 1 and is 0 before the first; `ticket` names it on the device.

    `state` is "pending", "running", "done" (then `run_id` is its run) or "failed". `took_s` is the time of the last
    attempt that ended, None where it is not known.
    """

    number: int
    device: str
    label: str
    state: str = PENDING
    attempt: int = 0
    ticket: str | None = None
    reasons: tuple[Reason, ...] = ()
    started_at_s: float | None = None
    took_s: float | None = None
    run_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """`plan` is a JSON document of whoever runs campaigns. `controller` is the token of the one that owns it now.

    `controller_place` says to people where that is; both are None when nobody works on it. `seen_at_s` is when a
    controller last said that it lives, None where none ever did.
    """

    id: str
    name: str
    created_at_s: float
    plan: str
    controller: str | None = None
    controller_place: str | None = None
    seen_at_s: float | None = None


class CampaignsInStore(Database):
    """What a store can do with campaigns. `now_s` is the wall clock: seconds since 1970.

    Every change of a job may be made once more, if its answer was lost on the way: it is then as it was the first time.
    """

    def new_campaign(self, campaign: Campaign, jobs: Sequence[CampaignJob]) -> None:
        """Keep a campaign and all of its jobs; an id that is taken is an error and nothing is kept."""
        if not RUN_ID.fullmatch(campaign.id):
            raise StoreError(
                f"{campaign.id!r} cannot be a campaign's id", "an id is letters, digits and ._- as in 20260131-1200"
            )
        rows = [{"campaign_id": campaign.id, **_row(job)} for job in jobs]
        with self._writing(f"campaign {campaign.id} was not stored") as connection:
            try:
                connection.execute(CAMPAIGNS.insert(), asdict(campaign))
            except sa.exc.IntegrityError as error:
                raise StoreError(
                    f"{self.place}: there is another campaign with the id {campaign.id}", "choose another id"
                ) from error
            if rows:
                connection.execute(JOBS.insert(), rows)

    def campaigns(self) -> tuple[Campaign, ...]:
        """Every campaign, newest first."""
        with self._reading() as connection:
            rows = connection.execute(sa.select(CAMPAIGNS).order_by(*NEWEST_FIRST)).mappings()
            return tuple(Campaign(**row) for row in rows)

    def campaign(self, reference: str) -> Campaign:
        """The campaign that `reference` means: its id, the newest of its name, the only id it begins, or "latest"."""
        everything = self.campaigns()
        if not everything:
            raise StoreError(f"{self.place}: there are no campaigns yet", "start one: edgeprof campaign run")
        if reference == LATEST:
            return everything[0]
        meanings = (
            [one for one in everything if one.id == reference],
            # A plan that is run every night has many campaigns of its name: the newest is meant.
            [one for one in everything if one.name == reference][:1],
            [one for one in everything if reference and one.id.startswith(reference)],
        )
        found = next((some for some in meanings if some), [])
        if len(found) > 1:
            shown = ", ".join(one.id for one in found[:N_NEAR]) + (", ..." if len(found) > N_NEAR else "")
            raise StoreError(f"{reference!r} means {len(found)} campaigns: {shown}", "give the id of one")
        if not found:
            raise self._no_campaign(reference, everything)
        return found[0]

    def jobs(self, campaign_id: str) -> tuple[CampaignJob, ...]:
        """The jobs of a campaign, by number."""
        with self._reading() as connection:
            rows = connection.execute(sa.select(JOBS).where(JOBS.c.campaign_id == campaign_id).order_by(JOBS.c.number))
            return tuple(_job(row) for row in rows.mappings())

    def runs_of(self, campaign_id: str) -> tuple[StoredRun, ...]:
        """The runs that a campaign made and that were not removed since, in the order of its jobs."""
        query = (
            sa.select(*LIGHT)
            .join(JOBS, JOBS.c.run_id == RUNS.c.id)
            .where(JOBS.c.campaign_id == campaign_id)
            .order_by(JOBS.c.number)
        )
        with self._reading() as connection:
            return tuple(StoredRun(**row) for row in connection.execute(query).mappings())

    # --- who owns a campaign ---

    def take_campaign(self, campaign_id: str, controller: str, place: str, *, now_s: float) -> None:
        """Make `controller` the owner. From now on the one before is fenced: its results are refused."""
        owner = {"controller": controller, "controller_place": place, "seen_at_s": now_s}
        with self._writing(f"campaign {campaign_id} was not taken over") as connection:
            if connection.execute(CAMPAIGNS.update().where(CAMPAIGNS.c.id == campaign_id).values(owner)).rowcount != 1:
                raise self._no_campaign(campaign_id)

    def leave_campaign(self, campaign_id: str, controller: str) -> None:
        """Give it up, so that nobody needs to wait for us; nothing happens if another has it."""
        with self._writing(f"campaign {campaign_id} was not given up") as connection:
            ours = sa.and_(CAMPAIGNS.c.id == campaign_id, CAMPAIGNS.c.controller == controller)
            connection.execute(CAMPAIGNS.update().where(ours).values(controller=None, controller_place=None))

    def seen(self, campaign_id: str, controller: str, now_s: float) -> None:
        """Say that the controller lives.

        Raises:
            Fenced: the campaign is not its own any more.
        """
        with self._writing(f"campaign {campaign_id}: could not say that its controller lives") as connection:
            self._require_owner(connection, campaign_id, controller)
            connection.execute(CAMPAIGNS.update().where(CAMPAIGNS.c.id == campaign_id).values(seen_at_s=now_s))

    # --- jobs ---

    def begin_attempt(
        self, campaign_id: str, number: int, controller: str, attempt: int, ticket: str | None, now_s: float
    ) -> None:
        """Let a job run that is not done, in an attempt that it did not have yet.

        Raises:
            Fenced: the campaign is not this controller's any more.
        """
        with self._writing(f"job {number} of campaign {campaign_id} was not begun") as connection:
            self._require_owner(connection, campaign_id, controller)
            job = self._job(connection, campaign_id, number)
            if job.state == RUNNING and (job.attempt, job.ticket) == (attempt, ticket):
                return
            if job.state == DONE or attempt <= job.attempt:
                raise StoreError(
                    f"{self.place}: job {number} of campaign {campaign_id} is {job.state} in attempt {job.attempt}: "
                    f"attempt {attempt} cannot begin",
                    f"see how far it is: edgeprof campaign status {campaign_id}",
                )
            change = {"state": RUNNING, "attempt": attempt, "ticket": ticket, "started_at_s": now_s}
            connection.execute(JOBS.update().where(_is(campaign_id, number)).values(change))

    def finish_job(
        self,
        campaign_id: str,
        number: int,
        controller: str,
        attempt: int,
        *,
        run: Run | None,
        state: str,
        reason: Reason | None,
        took_s: float | None,
    ) -> None:
        """Write down what became of an attempt: its run, if there is one, and the job's state, both or neither.

        `state` is "done", "failed", or "pending" when it is to be tried again.

        Raises:
            Fenced: the campaign is not this controller's any more, or the job not in this attempt.
            StoreError: another run has the id. In every case nothing was written.
        """
        if state not in (PENDING, DONE, FAILED) or (state == DONE) != (run is not None):
            raise ValueError(f"a job cannot end as {state!r} {'with' if run is not None else 'without'} a run")
        row = row_of(run) if run is not None else None
        with self._writing(f"job {number} of campaign {campaign_id} was not finished") as connection:
            self._require_owner(connection, campaign_id, controller)
            job = self._job(connection, campaign_id, number)
            reasons = job.reasons if reason is None or reason in job.reasons else (*job.reasons, reason)
            run_id = run.id if run is not None else None
            if (job.attempt, job.state, job.run_id, job.reasons) == (attempt, state, run_id, reasons):
                return  # It is written already: the answer was lost, not the change.
            if (job.attempt, job.state) != (attempt, RUNNING):
                raise Fenced(
                    f"{self.place}: job {number} of campaign {campaign_id} is {job.state} in attempt {job.attempt}: "
                    f"what came of attempt {attempt} does not count",
                    f"see what counts: edgeprof campaign status {campaign_id}",
                )
            if run is not None and row is not None and not insert_run(connection, row) and not has_run(connection, run):
                raise taken(self.place, run.id)
            change = {"state": state, "reasons": _written(reasons), "took_s": took_s, "run_id": run_id}
            connection.execute(JOBS.update().where(_is(campaign_id, number)).values(change))

    def _require_owner(self, connection: sa.Connection, campaign_id: str, controller: str) -> None:
        """Raise unless the campaign is this controller's; it then stays so until the transaction ends."""
        owner = sa.select(CAMPAIGNS.c.controller, CAMPAIGNS.c.controller_place).where(CAMPAIGNS.c.id == campaign_id)
        # The row is locked in PostgreSQL; in SQLite whoever writes is alone.
        row = connection.execute(owner.with_for_update()).one_or_none()
        if row is None:
            raise self._no_campaign(campaign_id)
        if row.controller != controller:
            what = (
                f"the controller at {row.controller_place} took campaign {campaign_id} over"
                if row.controller is not None
                else f"campaign {campaign_id} was given up by its controller"
            )
            raise Fenced(
                f"{self.place}: {what}: what this one brings does not count",
                f"see how far it is: edgeprof campaign status {campaign_id}",
            )

    def _job(self, connection: sa.Connection, campaign_id: str, number: int) -> CampaignJob:
        row = connection.execute(sa.select(JOBS).where(_is(campaign_id, number))).mappings().one_or_none()
        if row is None:
            raise StoreError(
                f"{self.place}: campaign {campaign_id} has no job {number}",
                f"see which it has: edgeprof campaign status {campaign_id}",
            )
        return _job(row)

    def _no_campaign(self, reference: str, everything: Sequence[Campaign] = ()) -> StoreError:
        names = list(dict.fromkeys([*(one.name for one in everything), *(one.id for one in everything)]))
        near = difflib.get_close_matches(reference, names, n=N_NEAR) or names[:N_NEAR]
        advice = f"there is: {', '.join(near)}" if near else "see what there is: edgeprof campaign status"
        return StoreError(f"{self.place}: no campaign {reference!r}", advice)


def _is(campaign_id: str, number: int) -> sa.ColumnElement[bool]:
    return sa.and_(JOBS.c.campaign_id == campaign_id, JOBS.c.number == number)


def _written(reasons: tuple[Reason, ...]) -> str:
    return msgspec.json.encode(reasons).decode()


def _row(job: CampaignJob) -> dict[str, Any]:
    values = {field.name: getattr(job, field.name) for field in fields(job)}
    return {**values, "reasons": _written(job.reasons)}


def _job(row: sa.RowMapping) -> CampaignJob:
    values = {field.name: row[field.name] for field in fields(CampaignJob)}
    return CampaignJob(**{**values, "reasons": msgspec.json.decode(row["reasons"], type=tuple[Reason, ...])})
