"""`edgeprof profile --detach`: the same jobs as a campaign that is handed over to its devices and left to them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edgeprof.fleet import Device
    from edgeprof.profiling import Settings

__all__ = ["hand_over"]


def hand_over(paths: tuple[Path, ...], settings: list[Settings], devices: list[Device], options: dict[str, Any]) -> int:
    """Hand every model in every one of these settings to every device; the exit code."""
    from edgeprof.campaign import Plan, draw_up, new_campaign, read_models
    from edgeprof.cli.campaign import go
    from edgeprof.cli.stores import open_store

    for option in ("input_path", "no_store", "json_path", "require"):
        if options[option]:
            name = "--" + option.removesuffix("_path").replace("_", "-")
            raise click.UsageError(f"--detach and {name} exclude each other: the result is not there yet")
    plan = Plan(
        name="detached",
        models=tuple(str(path.absolute()) for path in paths),
        devices=tuple(device.name for device in devices),
        configurations=tuple(_configuration(one) for one in settings),
    )
    models = read_models(plan)
    outline, _ = draw_up(plan, devices, models)
    with open_store(options["place"]) as store:
        begun = new_campaign(outline, store)
        return go(begun, outline, tuple(devices), models, store, detach=True)


def _configuration(settings: Settings) -> Any:
    """The settings as a campaign's plan has them."""
    import dataclasses

    from device_agents import wire
    from edgeprof.campaign import Configuration

    options, schedule = dataclasses.asdict(settings.options), settings.schedule
    plan = settings.energy or wire.EnergyPlan()
    return Configuration(
        **options,
        clock_caps={cap.policy: cap.max_hz for cap in settings.clock_caps},
        energy=settings.energy is not None,
        meter=plan.meter,
        energy_windows=plan.windows,
        energy_window_s=plan.window_s,
        runtime=settings.runtime,  # type: ignore[arg-type]
        operators=settings.operators,
        operator_runs=schedule.operator_runs,
        rounds=schedule.rounds,
        min_runs=schedule.min_runs,
        min_s=schedule.min_s,
        max_s=schedule.max_s,
        gate_timeout_s=settings.gate.timeout_s,
        deadline_s=settings.deadline_s,
        seed=settings.seed,
        check_outputs=settings.check_outputs,
    )
