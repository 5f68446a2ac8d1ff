"""Fetch what a device measured on its own, for whoever comes for it: also a host that knows nothing of the job."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from device_agents import wire
from edgeprof import __version__
from edgeprof.errors import EdgeprofError, ModelError
from edgeprof.models import ModelFile
from edgeprof.profiling import OpenDevice, Settings
from edgeprof.run import Run

__all__ = ["Found", "collect", "discard"]

NO_MODEL = "the model's file was not at hand where this was collected"
UNFIT = re.compile(r"[^A-Za-z0-9._-]")
LONGEST_ID = 100


@dataclass(frozen=True, kw_only=True)
class Found:
    """A ticket of a device's spool: its run if it is done, else why there is none."""

    ticket: wire.Ticket
    run: Run | None = None
    error: EdgeprofError | None = None


def collect(opened: OpenDevice, models: Mapping[str, ModelFile]) -> Iterator[Found]:
    """Everything in the device's spool; what is done as a run, in the words of the models, by digest.

    A run's id is its ticket, and its date is when it was measured, so that collecting it twice does not make two of it.
    Nothing is removed.
    """
    agent = opened.any_agent()
    for ticket in agent.tickets().tickets:
        if ticket.state != wire.DONE:
            yield Found(ticket=ticket)
            continue
        try:
            profile = agent.follow(ticket.ticket, None)
            yield Found(ticket=ticket, run=_run(opened, ticket, profile, models.get(profile.job.model.digest)))
        except EdgeprofError as error:
            yield Found(ticket=ticket, error=error)


def discard(opened: OpenDevice, ticket: wire.Ticket) -> None:
    """Have the device forget it."""
    opened.any_agent().discard(ticket.ticket)


def _run(opened: OpenDevice, ticket: wire.Ticket, profile: wire.Profile, model: ModelFile | None) -> Run:
    if model is not None:
        run = opened.explain(model, Settings(check_outputs=profile.job.send_outputs), profile)
    elif profile.operators is not None:
        raise ModelError(
            f"{ticket.ticket}: its operators cannot be told in the words of {profile.job.model.name}: {NO_MODEL}",
            f"add --model FILE (SHA-256 {profile.job.model.digest})",
        )
    else:
        run = Run(
            id="none",
            created_at_s=profile.started_at_s,
            device=opened.device.name,
            edgeprof_version=__version__,
            profile=dataclasses.replace(opened.with_origin(profile), output_values=()),
            output_check_missing=NO_MODEL,
        )
    run_id = UNFIT.sub("-", ticket.ticket)[:LONGEST_ID]
    return dataclasses.replace(run, id=run_id, created_at_s=profile.started_at_s, stages_s={})
