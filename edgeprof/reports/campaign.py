"""A campaign as tables: what was planned, and the recap of what became of it."""

from __future__ import annotations

import dataclasses
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from device_agents.wire import MEASURED
from edgeprof.campaign import CampaignCost, LeftOut, Outline
from edgeprof.carbon import Spread
from edgeprof.reports.carbon import on_a_line
from edgeprof.reports.joules import joules
from edgeprof.reports.quantities import ENERGY_UNITS, duration, energy
from edgeprof.run import Run
from edgeprof.statistics import summarise
from edgeprof.store import Campaign, CampaignJob
from edgeprof.verdict import judge

__all__ = ["counts", "render_list", "render_outline", "render_recap", "render_results", "to_document"]

STATES = ("done", "failed", "running", "pending")
MOST_REASONS = 20


def counts(jobs: Sequence[CampaignJob]) -> dict[str, int]:
    """How many jobs are in which state."""
    return {state: sum(job.state == state for job in jobs) for state in STATES}


def render_outline(outline: Outline, left_out: Sequence[LeftOut]) -> RenderableType:
    """What a campaign would do, device by device, in order."""
    table = Table(title=f"{outline.plan.name}: what would be measured", title_justify="left")
    table.add_column("device")
    table.add_column("jobs", justify="right")
    table.add_column("in this order", overflow="fold")
    for d, name in enumerate(outline.devices):
        titles = [outline.title(job) for job in outline.jobs if job.device == d]
        table.add_row(escape(name), str(len(titles)), escape("; ".join(titles)))
    lines = [
        f"{len(outline.jobs)} jobs on {len(outline.devices)} devices, "
        f"{len(outline.plan.configurations)} configurations, seed {outline.plan.seed}; nothing was begun"
    ]
    lines += [f"left out: {one.model} {one.configuration}: {one.reason}" for one in left_out]
    return Group(table, *(escape(line) for line in lines))


def render_recap(
    campaign: Campaign,
    jobs: Sequence[CampaignJob],
    given_up: Mapping[str, str] | None = None,
    cost: CampaignCost | None = None,
) -> RenderableType:
    """A row for each device, the reasons of what failed or was tried again, and what the campaign itself cost."""
    table = Table(title=f"campaign {escape(campaign.id)} ({escape(campaign.name)})", title_justify="left")
    table.add_column("device")
    for column in ("done", "failed", "on the device", "left", "tried again"):
        table.add_column(column, justify="right")
    table.add_column("measuring", justify="right")
    table.add_column("given up because", overflow="fold")
    by_device: defaultdict[str, list[CampaignJob]] = defaultdict(list)
    for job in jobs:
        by_device[job.device].append(job)
    for name, own in by_device.items():
        n = counts(own)
        again = sum(max(0, job.attempt - 1) for job in own)
        took_s = sum(job.took_s or 0.0 for job in own)
        table.add_row(
            escape(name),
            str(n["done"]),
            f"[red]{n['failed']}[/]" if n["failed"] else "0",
            str(n["running"]),
            str(n["pending"]),
            str(again),
            f"{took_s:.0f} s",
            escape((given_up or {}).get(name, "")),
        )
    return Group(table, *_reasons(jobs), *(_cost(cost) if cost is not None else ()))


def render_results(outline: Outline, jobs: Sequence[CampaignJob], runs: Mapping[str, Run]) -> RenderableType | None:
    """What was measured: a row for each model and configuration, a column for each device; None where nothing was.

    Of repetitions the median of their medians stands there, with the lowest and the highest of them.
    """
    found: defaultdict[tuple[str, str], list[Run]] = defaultdict(list)
    for job in jobs:
        if job.run_id is not None and job.run_id in runs:
            found[_subject(outline, job.number), job.device].append(runs[job.run_id])
    if not found:
        return None
    subjects = dict.fromkeys(_subject(outline, number) for number in range(len(outline.jobs)))
    table = Table(title="median latency, verdict, and energy where it was asked for", title_justify="left")
    table.add_column("model and configuration", overflow="fold")
    for device in outline.devices:
        table.add_column(escape(device), justify="right")
    for subject in sorted(subjects):
        table.add_row(escape(subject), *(_cell(found.get((subject, device), [])) for device in outline.devices))
    return table


def _subject(outline: Outline, number: int) -> str:
    job = outline.jobs[number]
    return " ".join(part for part in (outline.models[job.model].name, outline.plan.title(job.configuration)) if part)


def _cell(runs: Sequence[Run]) -> str:
    if not runs:
        return "-"
    medians = sorted(summarise(run.profile).median_s for run in runs)
    spread = f" ({duration(medians[0])} to {duration(medians[-1])})" if len(medians) > 1 else ""
    origins = sorted({run.profile.origin for run in runs} - {MEASURED})
    levels = sorted({judge(run.profile).level for run in runs})
    return f"{duration(median(medians))}{spread}\n{', '.join([*levels, *origins])}{_energy(runs)}"


def _energy(runs: Sequence[Run]) -> str:
    """A line with the joules of an inference, rest included, where a job asked for them; or that there are none."""
    found = [joules(run).model for run in runs if run.profile.job.energy is not None]
    known = [one for one in found if one is not None]
    if not found:
        return ""
    if not known:
        return "\nno energy: see runs show"
    boundaries = sorted({one.meter.boundary for one in known})
    value = energy(median(one.gross_j.value for one in known)) if len(boundaries) == 1 else "several"
    missing = f", {len(found) - len(known)} without" if len(known) < len(found) else ""
    return f"\n{value} at {', '.join(boundaries)}{missing}"


def render_list(campaigns: Sequence[tuple[Campaign, Sequence[CampaignJob]]]) -> RenderableType:
    """A row for each campaign."""
    table = Table()
    for column in ("campaign", "name", "begun (UTC)"):
        table.add_column(column)
    for column in ("jobs", "done", "failed", "left"):
        table.add_column(column, justify="right")
    for campaign, jobs in campaigns:
        n = counts(jobs)
        begun = time.strftime("%Y-%m-%d %H:%M", time.gmtime(campaign.created_at_s))
        numbers = (len(jobs), n["done"], n["failed"], n["running"] + n["pending"])
        table.add_row(escape(campaign.id), escape(campaign.name), begun, *map(str, numbers))
    return table


def _reasons(jobs: Sequence[CampaignJob]) -> list[str]:
    lines = []
    for job in jobs:
        lines += [
            f"  {job.device}: {job.label}: {job.state}; attempt {reason.attempt}: {reason.message}"
            for reason in job.reasons
        ]
    shown = [escape(line) for line in lines[:MOST_REASONS]]
    if len(lines) > MOST_REASONS:
        shown.append(f"  and {len(lines) - MOST_REASONS} more: edgeprof campaign status --json")
    return ["what went wrong on the way:", *shown] if shown else []


def _cost(cost: CampaignCost) -> list[str]:
    """What a campaign itself cost, in words; nothing where nothing was recorded."""
    if cost.grams is None:
        return []
    parts = [("this machine", cost.host), (f"devices ({cost.device_s:.0f} s)", cost.devices)]
    lines = ["what this campaign itself took:"]
    for name, found in parts:
        if found is not None:
            span = Spread(nominal=found.value_j, median=found.value_j, low=found.low_j, high=found.high_j)
            lines.append(f"  {name}: {on_a_line(span, ENERGY_UNITS)}, {found.kind}: {found.words}")
    grid = cost.intensity.input
    lines.append(
        f"  about {on_a_line(cost.grams)} of CO2e at {grid.value:.0f} {grid.unit}"
        f" ({grid.kind}: {grid.source}, {grid.year}); without losses of power supplies and without making the machines"
    )
    lines += [f"  {note}" for note in cost.notes]
    return [escape(line) for line in lines]


def to_document(
    campaign: Campaign,
    jobs: Sequence[CampaignJob],
    given_up: Mapping[str, str] | None = None,
    cost: CampaignCost | None = None,
) -> dict[str, object]:
    """The same as JSON."""
    return {
        "campaign": campaign.id,
        "name": campaign.name,
        "created_at_s": campaign.created_at_s,
        "counts": counts(jobs),
        "given_up": dict(given_up or {}),
        "cost": None if cost is None else dataclasses.asdict(cost),
        "jobs": [
            {
                "number": job.number,
                "device": job.device,
                "label": job.label,
                "state": job.state,
                "attempt": job.attempt,
                "took_s": job.took_s,
                "run": job.run_id,
                "reasons": [
                    {"attempt": r.attempt, "at_s": r.at_s, "kind": r.kind, "message": r.message} for r in job.reasons
                ],
            }
            for job in jobs
        ],
    }
