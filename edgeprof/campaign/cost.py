"""What a campaign itself cost: joules of the host and of its devices, and the grams of CO2e they stand for."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from device_agents.wire import SIMULATED
from edgeprof.carbon import Input, Intensity, Spread
from edgeprof.carbon.inputs import MEASURED, MODELLED, TRIANGULAR
from edgeprof.carbon.intensity import INTENSITY, of_zone
from edgeprof.carbon.monte_carlo import Number, Numbers, draw, nominal, spread
from edgeprof.carbon.of_run import metered_energy, modelled_power_of
from edgeprof.carbon.sci import operational_g
from edgeprof.errors import CarbonError
from edgeprof.own_cost import CORE_HIGH_W, CORE_W, Joules, OwnCost, total
from edgeprof.run import Run
from edgeprof.store import CampaignJob

__all__ = ["CampaignCost", "campaign_cost"]

LOCAL = "local"
HOST, DEVICES = "host", "devices"


@dataclass(frozen=True, kw_only=True)
class CampaignCost:
    """Energy at the processor or board, and grams of it at the world's intensity; making the machines is not in it.

    `device_s` is the time that real devices measured; `host` and `devices` are None where nothing of them is known.
    """

    host: Joules | None
    devices: Joules | None
    device_s: float
    grams: Spread | None
    intensity: Intensity
    notes: tuple[str, ...]


def campaign_cost(costs: Sequence[OwnCost], jobs: Sequence[CampaignJob], runs: Mapping[str, Run]) -> CampaignCost:
    """Add up what the controllers recorded and what devices took for jobs that gave a run."""
    host = total([cost.host for cost in costs]) if costs else None
    recorded = [cost.devices for cost in costs if cost.devices is not None]
    worked = [
        (job.took_s, runs[job.run_id])
        for job in jobs
        if job.took_s is not None and job.run_id is not None and job.run_id in runs
    ]
    here = [(took_s, run) for took_s, run in worked if _is_here(run)]
    real = [(took_s, run) for took_s, run in worked if not _is_here(run)]
    if host is not None and host.kind == MODELLED and here:
        host = total([host, *(_keeper(took_s, run) for took_s, run in here)])
    parts = [*recorded, *(_device(took_s, run) for took_s, run in real)]
    devices = total(parts) if parts else None
    grid = of_zone(None)
    return CampaignCost(
        host=host,
        devices=devices,
        device_s=sum(took_s for took_s, _ in real),
        grams=_grams(host, devices, grid),
        intensity=grid,
        notes=_notes(here, jobs),
    )


def _is_here(run: Run) -> bool:
    """Whether it took no device: a simulated board, or this machine as a device."""
    return run.profile.origin == SIMULATED or run.device == LOCAL


def _keeper(took_s: float, run: Run) -> Joules:
    """A job of this machine: its keeper is nobody's child, so no CPU time tells of it, but its worker's may."""
    core_s = took_s * (1 if run.profile.origin == SIMULATED else run.profile.job.options.threads)
    return Joules(
        value_j=core_s * CORE_W, low_j=0.0, high_j=core_s * CORE_HIGH_W, kind=MODELLED,
        words="jobs measured on this machine: time x threads x the same",
    )  # fmt: skip


def _device(took_s: float, run: Run) -> Joules:
    """A device works or waits while a job takes its time: from rest to busy all the time."""
    if run.profile.energy is not None:
        with contextlib.suppress(CarbonError):  # a pass without a number: what its board's figures say
            found = metered_energy(run.id, run.profile.energy)
            return Joules(
                value_j=took_s * found.power_w.value, low_j=took_s * found.idle_w.low,
                high_j=took_s * found.power_w.high, kind=MEASURED,
                words=f"devices with a meter: time x power at the {found.meter.boundary} boundary",
            )  # fmt: skip
    power = modelled_power_of(run)
    return Joules(
        value_j=took_s * power.active_w.value, low_j=took_s * power.idle_w.low, high_j=took_s * power.active_w.high,
        kind=MODELLED, words="devices without a meter: time x power of the board's figures",
    )  # fmt: skip


def _grams(host: Joules | None, devices: Joules | None, grid: Intensity) -> Spread | None:
    inputs = [_input(name, joules) for name, joules in ((HOST, host), (DEVICES, devices)) if joules is not None]
    if not inputs:
        return None
    names = [one.name for one in inputs]

    def grams(numbers: Numbers) -> Number:
        return operational_g(sum(numbers[name] for name in names), numbers[INTENSITY])

    everything = [*inputs, grid.input]
    return spread(grams, nominal(everything), draw(everything, seed=0))


def _input(name: str, joules: Joules) -> Input:
    return Input(
        name=name, value=joules.value_j, unit="J", kind=joules.kind, source=joules.words, low=joules.low_j,
        high=joules.high_j, shape=TRIANGULAR,
    )  # fmt: skip


def _notes(here: Sequence[tuple[float, Run]], jobs: Sequence[CampaignJob]) -> tuple[str, ...]:
    notes = []
    if here:
        notes.append("simulated boards and this machine as a device are in this machine's part")
    if any(job.attempt > 1 for job in jobs):
        notes.append("of jobs that were tried again only the last attempt is counted")
    return tuple(notes)
