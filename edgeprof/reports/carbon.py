"""Grams per inference as tables, with every input and its source; and the same as a JSON document."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import msgspec
from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from edgeprof.carbon import BreakEven, Input, Spread, Statement
from edgeprof.carbon.embodied import devices
from edgeprof.carbon.intensity import INTENSITY, zones
from edgeprof.carbon.sci import ACTIVE
from edgeprof.carbon.tables import ATTRIBUTION
from edgeprof.reports.quantities import ENERGY_UNITS, Units, duration, percent, plain

__all__ = ["carbon_summary", "mass", "on_a_line", "render_carbon", "render_devices", "render_zones", "to_document"]

DIGITS = 2  # a footprint is known to a factor of two: more digits would say more than anybody knows
MASS_UNITS: Units = ((1.0, "g"), (1e-3, "mg"), (1e-6, "µg"))
MOST_SHARES = 3
LEAST_SHARE = 0.05


def mass(grams: float) -> str:
    """Grams of CO2e with two digits, in g, mg or µg."""
    scale, unit = _unit(grams, MASS_UNITS)
    return f"{_rounded(grams / scale)} {unit}"


def with_range(found: Spread, units: Units = MASS_UNITS) -> str:
    """A result as its inputs stand, and below it where 90 % of the draws lie, in one unit."""
    scale, unit = _unit(found.nominal, units)
    middle = f"{_rounded(found.nominal / scale)} {unit}"
    if _is_exact(found):
        return middle
    return f"{middle}\n({_rounded(found.low / scale)} to {_rounded(found.high / scale)})"


def render_carbon(
    statements: Sequence[Statement], found: BreakEven | None = None, missing: str | None = None
) -> RenderableType:
    """One table for each run, then what two of them say to keeping a device, then all that went into them.

    `missing` says why there is no break-even though it was asked for.
    """
    parts: list[RenderableType] = []
    for one in statements:
        parts += [_allocations(one), *_basis(one), ""]
    if found is not None:
        parts += [*_break_even(found), ""]
    if missing is not None:
        parts += [escape(f"keep or buy: {missing}"), ""]
    for one in statements:
        parts += [_inputs(one), *(escape(f"  {plain(note)}") for note in one.notes), ""]
    parts += dict.fromkeys(escape(line) for one in statements for line in one.attributions)
    return Group(*parts)


def carbon_summary(one: Statement) -> list[str]:
    """Joules and grams of an inference in a few lines: what they are made of is said by `render_carbon`."""
    found = one.allocation(ACTIVE)
    how = f"measured at the boundary {one.sensor_boundary!r}" if one.is_measured else "MODELLED: no meter measured it"
    grid = next(item for item in one.inputs if item.name == INTENSITY)
    least = "at least " if one.is_lower_bound else ""
    return [
        f"   {_drawn(found.energy_j, ENERGY_UNITS)} at the socket per inference, {how}; the run is {one.origin}",
        f"   {least}{_drawn(found.total_g)} of CO2e: operational {_drawn(found.operational_g)}, "
        f"embodied {_drawn(found.embodied_g)}",
        f"   with {grid.value:.3g} {grid.unit} ({grid.kind}): {plain(grid.source)}",
    ]


def _allocations(one: Statement) -> Table:
    bound = "at least " if one.is_lower_bound else ""
    table = Table(
        title=f"{bound}CO2e of {escape(plain(one.functional_unit))} (run {escape(one.run)})",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        caption="as the inputs stand, and in brackets where 90 % of the draws from their ranges lie",
        caption_justify="left",
    )
    table.add_column("")
    for allocation in one.allocations:
        table.add_column(allocation.mode + ("" if allocation.is_sci else " (no SCI)"), justify="right")
    kinds = one.allocations
    table.add_row("time of the device", *(duration(kind.reserved_s) if kind.reserved_s else "-" for kind in kinds))
    table.add_row("energy at the socket", *(with_range(kind.energy_j, ENERGY_UNITS) for kind in kinds))
    table.add_row("operational", *(with_range(kind.operational_g) for kind in kinds))
    table.add_row("embodied", *(with_range(kind.embodied_g) if kind.is_sci else "-" for kind in kinds))
    table.add_row("sum per inference", *(with_range(kind.total_g) for kind in kinds), style="bold")
    table.add_row("median of the draws", *(mass(kind.total_g.median) for kind in kinds))
    table.add_row("per 1,000", *(with_range(kind.per_1000_g) for kind in kinds))
    if one.rate_hz is not None:
        yearly = [kind.per_year_g for kind in kinds if kind.per_year_g is not None]
        table.add_row(f"per year at {one.rate_hz:.3g}/s", *(with_range(kind) for kind in yearly))
    table.add_row("uncertain by", *(_shares(kind.variance_shares) for kind in kinds))
    return table


def _basis(one: Statement) -> list[str]:
    lines = [f"  {kind.mode}: {kind.meaning}" for kind in one.allocations]
    lines += [
        f"  method: {one.method}",
        f"  energy: {one.energy_method}; the run is {one.origin}",
        f"  boundary: {one.software_boundary}; sensor: {one.sensor_boundary}",
        f"  intensity: {one.intensity_kind}",
    ]
    return [escape(plain(line)) for line in lines]


def _inputs(one: Statement) -> Table:
    table = Table(title=f"what went into it (run {escape(one.run)}, seed {one.seed})", title_justify="left",
                  box=box.SIMPLE_HEAD)  # fmt: skip
    table.add_column("input")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("range", no_wrap=True)
    table.add_column("kind")
    table.add_column("year")
    table.add_column("source", overflow="fold", ratio=1)
    for item in one.inputs:
        unit = "" if item.unit == "1" else f" {item.unit}"
        table.add_row(item.name, f"{_figure(item.value)}{unit}", _range(item), item.kind, item.year or "-",
                      escape(plain(item.source)))  # fmt: skip
    return table


def _break_even(found: BreakEven) -> list[str]:
    made = on_a_line(found.new_embodied_g)
    lines = [
        f"keep or buy, both on all the time at {found.rate_hz:.3g}/s:",
        f"  keep {found.old}: {on_a_line(found.old_per_year_g)} a year in use; its making is past",
        f"  buy {found.new}: {on_a_line(found.new_per_year_g)} a year in use, and {made} to make it",
        f"  {found.words}",
    ]
    return [escape(plain(line)) for line in lines]


def render_zones() -> RenderableType:
    """Every zone of the tables."""
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("code", "", "zone"):
        table.add_column(column)
    table.add_column("g CO2e/kWh", justify="right")
    table.add_column("year")
    for zone in zones():
        table.add_row(zone.code, zone.short, escape(zone.name), f"{zone.g_per_kwh:.0f}", zone.year)
    return Group(table, escape(ATTRIBUTION), "US states: EPA eGRID2023 (US public domain)")


def render_devices() -> RenderableType:
    """Every device with a published footprint."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("device")
    table.add_column("embodied", justify="right")
    table.add_column("lifetime", justify="right")
    table.add_column("year")
    table.add_column("source", overflow="fold", ratio=1)
    for row in devices():
        made = "not told apart" if row.embodied_kg is None else f"{1000 * row.embodied_kg:,.0f} g"
        life = "-" if row.lifetime_years is None else f"{row.lifetime_years:g} years"
        table.add_row(escape(row.device), made, life, row.year or "-", escape(row.source))
    return Group(table, "Makers and methods differ: do not rank devices by these. Each is taken as [0.5x, 2x].")


def to_document(statements: Sequence[Statement], found: BreakEven | None = None, missing: str | None = None) -> bytes:
    """The same as JSON: a list of statements with all inputs, and the break-even, or why there is none."""
    document: dict[str, object] = {"statements": [dataclasses.asdict(one) for one in statements]}
    if found is not None or missing is not None:
        even = None if found is None else {**dataclasses.asdict(found), "words": found.words}
        document |= {"break_even": even, "break_even_missing": missing}
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


# --- pieces --------------------------------------------------------------------------------------------------------


def _unit(number: float, units: Units) -> tuple[float, str]:
    return next((found for found in units if number >= found[0] * 0.995), units[-1])


def _rounded(number: float) -> str:
    """Two digits without an exponent: 0.0012, 3.4, 120, 12,000."""
    if not number:
        return "0"
    decimals = DIGITS - 1 - math.floor(math.log10(abs(float(f"{number:.{DIGITS - 1}e}"))))
    return f"{round(number, decimals):,.{max(0, decimals)}f}"


def _figure(number: float) -> str:
    """An input, as it was given: with four digits."""
    if number and number < 1e-3:
        return _rounded(number)
    return f"{number:,.0f}" if number >= 1e4 else f"{number:.4g}"


def _range(item: Input) -> str:
    return "-" if item.low == item.high else f"{_figure(item.low)} to {_figure(item.high)} ({item.shape})"


def on_a_line(found: Spread, units: Units = MASS_UNITS) -> str:
    return with_range(found, units).replace("\n", " ")


def _drawn(found: Spread, units: Units = MASS_UNITS) -> str:
    """The median of what the inputs' ranges allow, and where 90 % of it lies."""
    scale, unit = _unit(found.median, units)
    low, high = (_rounded(one / scale) for one in (found.low, found.high))
    return f"{_rounded(found.median / scale)} {unit} ({low} to {high})"


def _is_exact(found: Spread) -> bool:
    return math.isclose(found.low, found.high, rel_tol=1e-9)


def _shares(shares: dict[str, float]) -> str:
    ranked = sorted(shares.items(), key=lambda item: -item[1])[:MOST_SHARES]
    return "\n".join(f"{name} {percent(share)}" for name, share in ranked if share >= LEAST_SHARE) or "-"
