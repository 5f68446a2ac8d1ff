"""What `edgeprof profile` was told on its command line, read into settings; a wrong word is a usage error."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from device_agents import wire
    from edgeprof.profiling import Settings

ENERGY_OPTIONS = ("meter", "energy_windows", "energy_window", "energy_budget")
LARGEST_BATCH, MOST_BATCHES = 1_000_000, 32
LAST_CPU = 4095
CPUS = re.compile(r"[0-9]{1,9}(-[0-9]{1,9})?(,[0-9]{1,9}(-[0-9]{1,9})?)*")
CAP = re.compile(r"(?P<policy>[^=]+)=(?P<number>[0-9]{1,12}(\.[0-9]{1,9})?) ?(?P<unit>[gmk]?hz)", re.IGNORECASE)
HZ = {"hz": 1.0, "khz": 1e3, "mhz": 1e6, "ghz": 1e9}


def to_settings(options: dict[str, Any]) -> Settings:
    from device_agents import wire
    from edgeprof.profiling import Settings

    return Settings(
        runtime=options["runtime"],
        options=wire.RuntimeOptions(
            threads=options["threads"],
            optimization=options["optimization"],
            xnnpack=options["xnnpack"],
            provider=options["provider"],
            provider_options=_pairs(options["provider_options"], "--provider-option"),
            delegate=options["delegate"],
            delegate_options=_pairs(options["delegate_options"], "--delegate-option"),
            library=options["library"],
            affinity=() if options["affinity"] is None else _cpus(options["affinity"]),
            streams=options["streams"],
            spinning=options["spinning"],
            shapes=to_shapes(options["shapes"]),
        ),
        schedule=_schedule(options),
        gate=wire.Gate(timeout_s=options["gate_timeout"]),
        # Operators cut out one by one are compared with what they take in the model.
        operators=options["operators"] or (options["energy"] and options["energy_budget"] > 0),
        energy=_energy_plan(options),
        seed=options["seed"],
        deadline_s=options["deadline"],
        check_outputs=options["check_outputs"],
        clock_caps=to_clock_caps(options["clock_caps"]),
    )


def _energy_plan(options: dict[str, Any]) -> wire.EnergyPlan | None:
    from device_agents import wire

    if not options["energy"]:
        given = [name for name in ENERGY_OPTIONS if is_given(name)]
        if given:
            option = "--" + given[0].replace("_", "-")
            raise click.UsageError(f"{option} says how energy is measured, which was not asked for: add --energy")
        return None
    return wire.EnergyPlan(
        meter=options["meter"] or "", windows=options["energy_windows"], window_s=options["energy_window"]
    )


def is_given(name: str) -> bool:
    """Whether an option was typed, and is not just its default."""
    context = click.get_current_context(silent=True)
    return context is not None and context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _schedule(options: dict[str, Any]) -> wire.Schedule:
    from device_agents import wire

    least_s, most_s = options["min_time"], options["max_time"]
    if most_s is None:
        most_s = max(wire.Schedule().max_s, least_s)
    if most_s < least_s:
        message = f"{most_s:g} s at most is less than the {least_s:g} s at least of --min-time"
        raise click.BadParameter(message, param_hint="--max-time")
    return wire.Schedule(
        rounds=options["rounds"],
        min_runs=options["min_runs"],
        min_s=least_s,
        max_s=most_s,
        operator_runs=options["operator_runs"],
    )


def _pairs(items: tuple[str, ...], option: str) -> dict[str, str]:
    pairs = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not (key and equals):
            raise click.BadParameter(f"{item!r} is not KEY=VALUE", param_hint=option)
        pairs[key] = value
    return pairs


def to_batches(text: str | None) -> tuple[int | None, ...]:
    """Read 1,2,4 into (1, 2, 4); (None,) where no batch was asked for."""
    if text is None:
        return (None,)
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and 1 <= int(part[:9]) <= LARGEST_BATCH for part in parts):
        message = f"{text!r} is not a list of batch sizes such as 1,2,4: whole numbers from 1 to {LARGEST_BATCH}"
        raise click.BadParameter(message, param_hint="--batch")
    sizes = tuple(dict.fromkeys(int(part) for part in parts))
    if len(sizes) > MOST_BATCHES or max(sizes) > LARGEST_BATCH:
        message = f"at most {MOST_BATCHES} batch sizes, each at most {LARGEST_BATCH}"
        raise click.BadParameter(message, param_hint="--batch")
    return sizes


def to_shapes(items: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for item in items:
        name, equals, text = item.rpartition("=")  # the name of an input may have "=" in it, a shape has not
        if not (name and equals):
            raise click.BadParameter(f"{item!r} is not of the form NAME=1,3,224,224", param_hint="--shape")
        shapes[name] = _dimensions(name, text)
    return shapes


def _dimensions(name: str, text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(part) for part in text.replace("x", ",").split(",")) if text else ()
    except ValueError:
        shape = (0,)
    if any(dimension < 1 for dimension in shape):
        message = f"{name}={text} is not a shape: whole numbers from 1 with commas between them"
        raise click.BadParameter(message, param_hint="--shape")
    return shape


def to_clock_caps(items: tuple[str, ...]) -> tuple[wire.ClockCap, ...]:
    """Read policy0=1.2GHz into a cap of 1.2e9 Hz."""
    from device_agents import wire

    caps: dict[str, wire.ClockCap] = {}
    for item in items:
        found = CAP.fullmatch(item)
        if found is None or not float(found["number"]):
            message = f"{item!r} is not of the form POLICY=CLOCK, as policy0=1.2GHz (or MHz, kHz, Hz)"
            raise click.BadParameter(message, param_hint="--clock-cap")
        policy, unit = found["policy"], found["unit"].lower()
        if policy in caps:
            raise click.BadParameter(f"two caps are given for {policy}", param_hint="--clock-cap")
        # In whole Hz: 1.1 GHz is not 1100000000.0000002 Hz.
        caps[policy] = wire.ClockCap(policy, float(round(float(found["number"]) * HZ[unit])))
    return tuple(caps.values())


def _cpus(text: str) -> tuple[int, ...]:
    """Read a list such as 4,0-1 into (4, 0, 1), each CPU once: the order is that in which threads are put on them."""
    if not CPUS.fullmatch(text):
        raise click.BadParameter(f"{text!r} is not a list of CPUs such as 0,2-3", param_hint="--affinity")
    cpus: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not int(first) <= int(last or first) <= LAST_CPU:
            message = f"{part!r}: CPUs go from 0 to {LAST_CPU}, the lower one first"
            raise click.BadParameter(message, param_hint="--affinity")
        cpus += range(int(first), int(last or first) + 1)
    return tuple(dict.fromkeys(cpus))
