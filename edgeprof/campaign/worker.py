"""One device's part of a campaign: its jobs one after the other, each until it is done, failed or put off."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from device_agents import wire
from edgeprof.campaign.events import DeviceState, JobBegun, JobDone, JobFailed, JobProgress, Tell
from edgeprof.campaign.failures import DEVICE, PASSING, SILENT, kind_of, severity
from edgeprof.campaign.outline import Outline, PlannedJob, with_noise_of_its_own
from edgeprof.errors import CampaignError, DeviceGivenUp, EdgeprofError, JobRefused, Stopped, StoreError
from edgeprof.fleet import Device
from edgeprof.models import ModelFile
from edgeprof.profiling import TRY_NEXT, OnProgress, OpenDevice, Settings
from edgeprof.reference import Reference
from edgeprof.run import Run
from edgeprof.spooled import LEASED, Patience, Spooled
from edgeprof.store import DONE, FAILED, PENDING, RUNNING, CampaignJob, Reason, Store

__all__ = ["Assignment", "DeviceWorker"]

T = TypeVar("T")

# Between two jobs the host maps operators, compares outputs and stores: the device's keeper waits this long for it.
LINGER_S = 120.0
# Left to itself a device is only held until the next of its jobs is handed over.
DETACHED_LINGER_S = 5.0
LEASE_RETRY_S = 5.0
COOLING_LOOK_S = 5.0
LONGEST_DELAY_S = 300.0
# A device at which so many jobs in a row failed for reasons of its own does not get the rest of them.
GIVE_UP_AFTER = 3


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """What the workers of a campaign have in common. `controller` is the token under which its results count."""

    campaign_id: str
    controller: str
    outline: Outline
    models: dict[tuple[int, int], ModelFile]
    store: Store
    claim: wire.Claim
    reference: Reference
    tell: Tell
    wait: Callable[[float], bool]
    now: Callable[[], float] = time.monotonic


class DeviceWorker:
    """Does the jobs that one device still has to do. `run` is called once, in a thread of the device's own.

    With `is_alone` the device will do them without us: it is asked for until the last of them must have ended.
    """

    def __init__(
        self, device: Device, jobs: Sequence[CampaignJob], assignment: Assignment, *, is_alone: bool = False
    ) -> None:
        self.device = device
        self._jobs = jobs
        self._assignment = assignment
        self._plan = assignment.outline.plan
        self._patience = Patience(self._plan.lost_s, assignment.wait, assignment.now, self._tell_lost)
        self._way: Spooled | None = None
        # Every job that is handed over renews the lease, unless nobody is there to do so.
        deadlines_s = [assignment.outline.settings(assignment.outline.jobs[job.number]).deadline_s for job in jobs]
        held_s = sum(deadlines_s) if is_alone else max(deadlines_s) + self._linger_s()
        claim = dataclasses.replace(assignment.claim, valid_s=assignment.claim.valid_s + held_s)
        self._opened = OpenDevice(device, measure=self._measure, reference=assignment.reference, claim=claim)
        self._took_s: list[float] = []
        self._n_failures = 0

    def run(self) -> None:
        """Do the jobs.

        Raises:
            DeviceGivenUp: this device does no more of them; they can be done by a resumed campaign.
            Stopped: the campaign was told to stop.
            StoreError: results cannot be kept; they stay on the device until the campaign is resumed.
        """
        began_s = self._assignment.now()
        with self._leaving():
            self._state("connecting")
            self._persist(self._remove_remains)
            for k, job in enumerate(self._jobs):
                self._wait(0.0)  # an interrupt that came between two questions to the device was not felt
                self._check_budget(began_s)
                if k:
                    self._rest()
                self._do(job)
            self._persist(self._leave)
            self._state("finished")

    @contextmanager
    def _leaving(self) -> Iterator[None]:
        """What goes wrong between jobs goes wrong with the device; whatever happens, its link is closed."""
        try:
            yield
        except (DeviceGivenUp, Stopped, StoreError):
            raise
        except EdgeprofError as error:
            raise DeviceGivenUp(str(error), error.advice) from error
        finally:
            self._opened.close()

    def hand_over(self) -> None:
        """Give the device all its jobs at once, to be done without us; a resumed campaign fetches what came of them.

        Raises:
            DeviceGivenUp, Stopped, StoreError: as for `run`.
        """
        with self._leaving():
            self._state("connecting")
            self._persist(self._remove_remains)
            for job in self._jobs:
                self._wait(0.0)
                self._when_free(lambda job=job: self._hand_over(job))  # type: ignore[misc]
            self._state("left to itself")

    def interrupt(self) -> None:
        """Wake the worker if it waits for its device; for other threads, once `wait` says to stop."""
        self._opened.disconnect()

    # --- one job ---

    def _do(self, job: CampaignJob) -> None:
        """Try a job until it is done or failed for good; one that was handed over before is picked up again."""
        planned = self._assignment.outline.jobs[job.number]
        attempt = job.attempt if job.state == RUNNING else job.attempt + 1
        # One that failed for good is over on the device; of any other the result may be waiting there.
        ticket = self._ticket(job.number, attempt) if job.state == FAILED or not job.ticket else job.ticket
        attempts_left = self._plan.retries
        delay_s = self._plan.retry_delay_s
        while True:
            failure = self._attempt(job.number, planned, attempt, ticket, attempts_left > 0)
            if failure is None:
                self._n_failures = 0
                return
            if failure.is_final:
                self._count(failure)
                return
            self._wait(delay_s)
            attempts_left, delay_s = attempts_left - 1, min(2 * delay_s, LONGEST_DELAY_S)
            attempt += 1
            ticket = self._ticket(job.number, attempt)

    def _ticket(self, number: int, attempt: int) -> str:
        return f"{self._assignment.campaign_id}.{number}.{attempt}"

    def _attempt(
        self, number: int, planned: PlannedJob, attempt: int, ticket: str, may_retry: bool
    ) -> JobFailed | None:
        """One attempt; what it failed of, or None when its run is in the store."""
        common, title = self._assignment, self._assignment.outline.title(planned)
        name = self.device.name
        common.store.begin_attempt(common.campaign_id, number, common.controller, attempt, ticket, time.time())
        common.tell(JobBegun(device=name, number=number, title=title, attempt=attempt))
        began_s = common.now()
        self._way = Spooled(ticket, title, self._linger_s(), self._patience, self._plan.quiet)
        try:
            run = self._when_free(lambda: self._profile(planned))
        except Stopped:
            raise  # nobody's fault: the job is still under way on the device, and is picked up there
        except DeviceGivenUp as error:
            # The device may still have it, done or not: the same ticket picks it up when the campaign is resumed.
            self._finish(number, attempt, PENDING, common.now() - began_s, error=error)
            raise
        except EdgeprofError as error:
            is_final = not (may_retry and severity(error) == PASSING)
            if kind_of(error) == SILENT:
                self._patience.persist(self._opened, self._end_own_keeper)
            self._persist(self._discard)
            self._finish(number, attempt, "failed" if is_final else PENDING, common.now() - began_s, error=error)
            failure = JobFailed(
                device=name,
                number=number,
                title=title,
                attempt=attempt,
                reason=str(error),
                advice=error.advice,
                is_final=is_final,
                may_pass=severity(error) == PASSING,
            )
            common.tell(failure)
            if severity(error) == DEVICE:
                raise DeviceGivenUp(str(error), error.advice) from error
            return failure
        took_s = common.now() - began_s
        self._finish(number, attempt, DONE, took_s, run=run)
        self._took_s.append(took_s)
        common.tell(JobDone(device=name, number=number, title=title, run=run, took_s=took_s))
        # Only now that it is kept here may the device forget it.
        self._persist(self._discard)
        return None

    def _hand_over(self, job: CampaignJob) -> None:
        planned = self._assignment.outline.jobs[job.number]
        model, settings = self._subject(planned)
        attempt = job.attempt if job.state == RUNNING else job.attempt + 1
        ticket = job.ticket or self._ticket(job.number, attempt)
        common = self._assignment
        way = Spooled(ticket, common.outline.title(planned), DETACHED_LINGER_S, self._patience)
        common.store.begin_attempt(common.campaign_id, job.number, common.controller, attempt, ticket, time.time())
        refusals: list[str] = []
        for runtime in self._opened.candidates(model, settings):
            wanted = self._opened.job(runtime, model, settings)
            try:
                self._patience.persist(self._opened, lambda: way.hand_over(self._opened, model, wanted))  # noqa: B023
                return
            except JobRefused as refusal:
                if refusal.kind not in TRY_NEXT:
                    raise
                refusals.append(str(refusal))
        self._finish(job.number, attempt, FAILED, 0.0, error=JobRefused("; ".join(refusals), "", "no-runtime"))

    def _profile(self, planned: PlannedJob) -> Run:
        model, settings = self._subject(planned)
        return self._opened.profile(model, settings, self._on_progress)

    def _subject(self, planned: PlannedJob) -> tuple[ModelFile, Settings]:
        settings = self._assignment.outline.settings(planned)
        if self.device.board is not None:
            settings = with_noise_of_its_own(settings, planned)
        return self._assignment.models[planned.model, planned.configuration], settings

    def _measure(
        self, opened: OpenDevice, model: ModelFile, job: wire.Job, on_progress: OnProgress | None
    ) -> wire.Profile:
        if self._way is None:
            raise CampaignError(f"{self.device.name}: there is no job to measure")
        return self._way(opened, model, job, on_progress)

    def _when_free(self, action: Callable[[], T]) -> T:
        """Do it as soon as nobody else has the device.

        Raises:
            DeviceGivenUp: somebody has had it for as long as the plan says to wait.
        """
        until_s = self._assignment.now() + self._plan.wait_s
        while True:
            try:
                return action()
            except JobRefused as refusal:
                left_s = until_s - self._assignment.now()
                if refusal.kind != LEASED:
                    raise
                if left_s <= 0:
                    raise DeviceGivenUp(f"{refusal} (waited {self._plan.wait_s:.0f} s)", refusal.advice) from refusal
                self._state("waiting", str(refusal))
                self._wait(min(LEASE_RETRY_S, left_s))

    def _finish(
        self,
        number: int,
        attempt: int,
        state: str,
        took_s: float,
        *,
        run: Run | None = None,
        error: EdgeprofError | None = None,
    ) -> None:
        common = self._assignment
        reason = None
        if error is not None:
            reason = Reason(attempt=attempt, at_s=time.time(), kind=kind_of(error), message=str(error))
        common.store.finish_job(
            common.campaign_id, number, common.controller, attempt, run=run, state=state, reason=reason, took_s=took_s
        )

    def _count(self, failure: JobFailed) -> None:
        """A model that cannot be run says nothing about the device; what tries did not mend does."""
        self._n_failures = self._n_failures + 1 if failure.may_pass else 0
        if self._n_failures >= GIVE_UP_AFTER:
            raise DeviceGivenUp(
                f"{self.device.name}: {self._n_failures} jobs in a row failed; the last: {failure.reason}",
                failure.advice or f"look at it: edgeprof devices doctor {self.device.name}",
            )

    # --- between jobs ---

    def _remove_remains(self) -> None:
        """Have the device forget what the store has already, whoever measured it and was ended before saying so.

        What an attempt left that is over goes with it; what still may be picked up stays.
        """
        wanted = {
            job.ticket
            for job in self._assignment.store.jobs(self._assignment.campaign_id)
            if job.state not in (DONE, FAILED)
        }
        agent = self._opened.any_agent()
        for ticket in agent.tickets().tickets:
            is_ours = ticket.ticket.startswith(f"{self._assignment.campaign_id}.")
            if is_ours and ticket.ticket.rpartition(".")[0] not in wanted:
                agent.discard(ticket.ticket)

    def _persist(self, action: Callable[[], None]) -> None:
        """Do it whatever becomes of the link, and though our own keeper be frozen: that one is killed."""
        try:
            self._patience.persist(self._opened, action)
        except JobRefused as refusal:
            if refusal.kind != SILENT:
                raise
            self._patience.persist(self._opened, self._end_own_keeper)
            self._patience.persist(self._opened, action)

    def _end_own_keeper(self) -> None:
        claim, agent = self._assignment.claim, self._opened.any_agent()
        lease = agent.lease()
        if lease is not None and (lease.owner, lease.purpose) == (claim.owner, claim.purpose):
            self._state("unlocked", "its keeper does not answer and is killed; what it measured is measured again")
            agent.unlock()

    def _leave(self) -> None:
        self._remove_remains()
        self._opened.any_agent().release()

    def _discard(self) -> None:
        for ticket in self._way.tickets if self._way is not None else ():
            self._opened.any_agent().discard(ticket)

    def _rest(self) -> None:
        """Wait as the plan says: for a while, and until the device is cool."""
        rest, now = self._plan.rest, self._assignment.now
        began_s = now()
        if rest.min_s:
            self._state("resting")
            self._wait(rest.min_s)
        while rest.cool_c is not None and self.device.board is None and now() - began_s < rest.max_s:
            hottest_c = self._patience.persist(self._opened, self._hottest_c)
            if hottest_c is None or hottest_c <= rest.cool_c:
                return
            self._state("cooling", f"{hottest_c:.0f} C, wanted {rest.cool_c:.0f} C")
            self._wait(COOLING_LOOK_S)

    def _hottest_c(self) -> float | None:
        return max(self._opened.any_agent().conditions().temperatures_c.values(), default=None)

    def _check_budget(self, began_s: float) -> None:
        budget_s = self._plan.time_budget_s
        if budget_s is None:
            return
        spent_s = self._assignment.now() - began_s
        next_s = sum(self._took_s) / len(self._took_s) if self._took_s else 0.0
        if spent_s + next_s > budget_s:
            raise DeviceGivenUp(
                f"{self.device.name}: the time budget of {budget_s:.0f} s does not hold another job "
                f"({spent_s:.0f} s spent, a job takes {next_s:.0f} s)",
                "resume the campaign to go on with a fresh budget",
            )

    def _linger_s(self) -> float:
        return LINGER_S + max(
            self._plan.rest.min_s, self._plan.rest.max_s if self._plan.rest.cool_c is not None else 0.0
        )

    def _wait(self, seconds: float) -> None:
        if self._assignment.wait(seconds):
            raise Stopped(f"{self.device.name}: stopped")

    def _on_progress(self, progress: wire.Progress) -> None:
        self._assignment.tell(JobProgress(device=self.device.name, progress=progress))

    def _tell_lost(self, why: str) -> None:
        self._state("lost", why)

    def _state(self, state: str, detail: str = "") -> None:
        self._assignment.tell(DeviceState(device=self.device.name, state=state, detail=detail))
