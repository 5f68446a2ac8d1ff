"""What came of a campaign to which something happened, and what of that is not as it must be.

Looked at are the store and the device, never what edgeprof says of them: is every result that the device ever had in
the store, once; is nothing there that belongs to no job; did the other device do its part undisturbed; is nothing left
on the device; was the cause said.
"""

from __future__ import annotations

import json
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

from edgeprof.store import CampaignJob, Store

__all__ = ["Audit", "audit", "judge", "started_at_s", "stored_at_s"]

STATES = ("done", "failed", "running", "pending")


@dataclass(frozen=True, kw_only=True)
class Audit:
    """`lost` are results that the device had and the store has not, by when their measuring began.

    `states` counts the device's jobs, `n_steady_done` those of the device to which nothing happened.
    """

    states: dict[str, int]
    n_steady_done: int
    n_tried_again: int
    lost: list[float]
    doubled: list[str]
    invented: list[str]
    left_over: list[str]
    said: str
    hung: bool = False


def audit(store_file: Path, device: str, measured: Set[float], left_over: list[str], said: str, hung: bool) -> Audit:
    """Look into the store: `measured` is when the measuring of each result began that `device` ever had."""
    with Store(store_file) as store:
        jobs = [job for campaign in store.campaigns() for job in store.jobs(campaign.id)]
        runs = {row.id for row in store.list()}
    kept = [job.run_id for job in jobs if job.run_id is not None]
    stored = stored_at_s(store_file, device)
    return Audit(
        states={state: _count(jobs, device, state) for state in STATES},
        n_steady_done=sum(job.device != device and job.state == "done" for job in jobs),
        n_tried_again=sum(max(0, job.attempt - 1) for job in jobs if job.device == device),
        lost=sorted(measured - set(stored)),
        doubled=sorted(
            {*(run for run in kept if kept.count(run) > 1), *(str(s) for s in stored if stored.count(s) > 1)}
        ),
        invented=sorted(runs - set(kept)),
        left_over=left_over,
        said=said,
        hung=hung,
    )


def stored_at_s(store_file: Path, device: str) -> list[float]:
    """When the measuring of each run of a device began, on its clock."""
    with Store(store_file) as store:
        return [store.get(row.id).profile.started_at_s for row in store.list() if row.device == device]


def judge(found: Audit, *, n_done: int, n_steady_done: int, says: str) -> list[str]:
    """Everything that is not as it must be; empty where the fault was survived."""
    wrong = []
    if found.hung:
        wrong.append("it hung")
    if "Traceback" in found.said or "a defect" in found.said:
        wrong.append("it crashed")
    if found.lost:
        wrong.append(f"{len(found.lost)} results were lost")
    if found.doubled:
        wrong.append(f"{len(found.doubled)} results were counted twice")
    if found.invented:
        wrong.append(f"{len(found.invented)} runs belong to no job")
    if found.states["done"] != n_done:
        wrong.append(f"{found.states['done']} jobs were done and not {n_done}: {found.states}")
    if found.n_steady_done != n_steady_done:
        wrong.append(f"the other device did {found.n_steady_done} of {n_steady_done} jobs")
    if found.left_over:
        wrong.append(f"left on the device: {', '.join(found.left_over)}")
    if says not in " ".join(found.said.split()):
        wrong.append(f"nothing was said of {says!r}")
    return wrong


def started_at_s(outcome: bytes) -> float:
    """When the measuring of a spooled result began, on the device's clock.

    Raises:
        ValueError, KeyError: it is no result, but a refusal, or not yet whole.
    """
    _, _, body = outcome.partition(b"\n")
    return float(json.loads(body)["started_at_s"])


def _count(jobs: list[CampaignJob], device: str, state: str) -> int:
    return sum(job.device == device and job.state == state for job in jobs)
