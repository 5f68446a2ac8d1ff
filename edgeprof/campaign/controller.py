"""Run a campaign: a worker for each device, none waiting for another, and one controller whose results count."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import msgspec

from edgeprof.agent import new_claim
from edgeprof.campaign.events import DeviceState, Tell
from edgeprof.campaign.outline import Outline
from edgeprof.campaign.worker import Assignment, DeviceWorker
from edgeprof.errors import CampaignError, DeviceGivenUp, Fenced, Stopped, StoreError
from edgeprof.fleet import Device
from edgeprof.models import ModelFile
from edgeprof.own_cost import Recorder, recording
from edgeprof.reference import Reference
from edgeprof.store import FAILED, PENDING, RUNNING, Campaign, CampaignJob, Store

__all__ = ["Controller", "Ending", "Place", "left_states", "new_campaign"]

# How often the store is told that the controller is alive, and how long its silence is believed.
HEARTBEAT_S = 10.0
SILENT_S = 60.0
# A lease is asked for until the job must have ended, and so much longer.
LEASE_MARGIN_S = 60.0


@dataclass
class Ending:
    """How a campaign ended, so far: the devices that were given up with the reason, and why it stopped early."""

    given_up: dict[str, DeviceGivenUp] = field(default_factory=dict)
    stopped: str | None = None


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a controller runs, so that another may find out whether it still does."""

    host: str
    pid: int
    started: str | None

    @classmethod
    def here(cls) -> Place:
        return cls(host=socket.gethostname(), pid=os.getpid(), started=_started(os.getpid()))

    @classmethod
    def read(cls, text: str | None) -> Place:
        """What another controller wrote; one that nothing is known of, where that makes no sense."""
        try:
            return msgspec.json.decode(text or "", type=cls)
        except msgspec.MsgspecError:
            return cls(host="an unknown host", pid=0, started=None)

    @property
    def is_gone(self) -> bool | None:
        """Whether that process has ended; None if that cannot be told from here."""
        if self.host != socket.gethostname() or self.started is None:
            return None
        return _started(self.pid) != self.started


def left_states(*, retry_failed: bool = False) -> tuple[str, ...]:
    """The states of jobs that are still to be done."""
    return (PENDING, RUNNING, FAILED) if retry_failed else (PENDING, RUNNING)


def new_campaign(outline: Outline, store: Store) -> Campaign:
    """Write a campaign into the store, all its jobs pending."""
    now_s = time.time()
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now_s))
    campaign = Campaign(
        id=f"c{stamp}-{secrets.token_hex(2)}", name=outline.plan.name, created_at_s=now_s, plan=outline.to_json()
    )
    jobs = [
        CampaignJob(number=k, device=outline.devices[job.device], label=outline.title(job))
        for k, job in enumerate(outline.jobs)
    ]
    store.new_campaign(campaign, jobs)
    return campaign


class Controller:
    """Takes a campaign over and does what of it is left. A context manager; leaving lets others take it over.

    Raises (on entering):
        CampaignError: another controller is at it.
    """

    def __init__(self, campaign: Campaign, outline: Outline, store: Store, *, take_over: bool = False) -> None:
        self._campaign = campaign
        self._outline = outline
        self._store = store
        self._take_over = take_over
        self._token = secrets.token_hex(8)
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        if not self._take_over:
            self._require_alone()
        place = msgspec.json.encode(Place.here()).decode()
        self._store.take_campaign(self._campaign.id, self._token, place, now_s=time.time())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        # A store that failed already has said why: that it also fails here would hide it.
        with contextlib.suppress(*((StoreError,) if isinstance(error, StoreError) else ())):
            self._store.leave_campaign(self._campaign.id, self._token)

    def stop(self) -> None:
        """Have every worker end at its next wait; jobs that devices have already they do to the end."""
        self._stop.set()

    def run(
        self,
        devices: Sequence[Device],
        models: dict[tuple[int, int], ModelFile],
        tell: Tell,
        *,
        detach: bool = False,
        retry_failed: bool = False,
    ) -> Ending:
        """Do what is left on these devices, each in a thread, at most `parallel` of the plan at once.

        With `detach` the devices are only given their jobs; with `retry_failed` those that failed are left, too.

        Raises:
            StoreError: results cannot be kept; they are still on the devices.
            Fenced: another controller has taken the campaign over.
        """
        wanted = left_states(retry_failed=retry_failed)
        left: defaultdict[str, list[CampaignJob]] = defaultdict(list)
        for job in self._store.jobs(self._campaign.id):
            if job.state in wanted:
                left[job.device].append(job)
        with Reference() as reference:
            common = Assignment(
                campaign_id=self._campaign.id,
                controller=self._token,
                outline=self._outline,
                models=models,
                store=self._store,
                claim=new_claim(f"campaign {self._campaign.id}", LEASE_MARGIN_S, self._campaign.id),
                reference=reference,
                tell=tell,
                wait=self._stop.wait,
            )
            workers = [
                DeviceWorker(device, left[device.name], common, is_alone=detach)
                for device in devices
                if left[device.name]
            ]
            try:
                with recording() as recorder:
                    return self._run(workers, tell, recorder, detach=detach) if workers else Ending()
            except Fenced:
                raise
            except StoreError as error:
                raise StoreError(
                    f"{error}; what was measured since is kept on the devices",
                    f"{error.advice}; then collect it: edgeprof campaign resume {self._campaign.id}",
                ) from error

    def _run(self, workers: Sequence[DeviceWorker], tell: Tell, recorder: Recorder, *, detach: bool) -> Ending:
        ending = Ending()
        parallel = self._outline.plan.parallel or len(workers)
        pool = ThreadPoolExecutor(parallel, thread_name_prefix="device")
        futures = {pool.submit(worker.hand_over if detach else worker.run): worker for worker in workers}
        try:
            left = set(futures)
            while left:
                done, left = wait(left, HEARTBEAT_S, FIRST_COMPLETED)
                self._store.seen(self._campaign.id, self._token, time.time())
                # With every heartbeat: a controller that is killed has said what it took until then.
                self._store.keep_own_cost(self._campaign.id, self._token, recorder.cost())
                for future in done:
                    self._judge(future, futures[future], ending, tell)
                if self._has_failed(len(ending.given_up), len(workers)) and ending.stopped is None:
                    ending.stopped = f"{len(ending.given_up)} of {len(workers)} devices were given up"
                    self._end(futures)
        finally:
            self._end(futures)
            pool.shutdown(wait=True, cancel_futures=True)
        return ending

    def _judge(self, future: Future[None], worker: DeviceWorker, ending: Ending, tell: Tell) -> None:
        """Take note of how a worker ended; what ends the whole campaign is raised."""
        name = worker.device.name
        try:
            future.result()
        except DeviceGivenUp as error:
            ending.given_up[name] = error
            tell(DeviceState(device=name, state="given up", detail=str(error)))
        except (StoreError, Fenced):
            raise
        except Stopped:
            tell(DeviceState(device=name, state="stopped"))
        except Exception as error:
            # A worker that was woken by having its link closed may fail of anything, which is said and ends nothing.
            if not self._stop.is_set():
                raise
            tell(DeviceState(device=name, state="stopped", detail=f"{type(error).__name__}: {error}"))

    def _end(self, futures: dict[Future[None], DeviceWorker]) -> None:
        self.stop()
        for future, worker in futures.items():
            if not future.cancel() and not future.done():
                worker.interrupt()

    def _has_failed(self, n_given_up: int, n_devices: int) -> bool:
        limit = self._outline.plan.fail_percent
        return limit is not None and 100.0 * n_given_up / n_devices > limit

    def _require_alone(self) -> None:
        campaign = self._store.campaign(self._campaign.id)
        if campaign.controller is None:
            return
        place = Place.read(campaign.controller_place)
        silent_s = time.time() - (campaign.seen_at_s or 0.0)
        if place.is_gone or (place.is_gone is None and silent_s > SILENT_S):
            return
        raise CampaignError(
            f"campaign {campaign.id} is being run by process {place.pid} on {place.host}, "
            f"which was heard of {silent_s:.0f} s ago",
            "end that one first; if it is gone for sure, add --take-over: its results will not count then",
        )


def _started(pid: int) -> str | None:
    """When a process began, in the kernel's words (proc_pid_stat(5), field 22); None if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None
