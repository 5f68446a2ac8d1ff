"""Losses between the power socket and the sensor: what the socket gives for each joule that the sensor sees."""

from __future__ import annotations

import math
from dataclasses import dataclass

from device_agents.wire import BATTERY, CORE, MODULE, SOC_RAILS, UNSTATED, WALL
from edgeprof.carbon.inputs import DATA_SHEET, DEFAULT, TRIANGULAR, UNIFORM, USER, Input
from edgeprof.errors import UsageError

__all__ = ["BATTERY_ROUND_TRIP", "INSIDE", "PSU", "UNKNOWN", "Supply", "psu_efficiency", "supply"]

PSU, BATTERY_ROUND_TRIP, UNKNOWN = "power supply's efficiency", "battery's round trip", "supply's efficiency"
RULE = "EU 2019/1782 (as DoE level VI): least average active efficiency of an external supply"
DEFAULT_PSU_W = 15.0  # A 5 V 3 A adapter, the commonest with boards of this kind.
# The rule is a floor for the mean of 25 to 100 % load. Good supplies do better; far below 25 % load all do worse.
WORSE, BETTER, BEST = 0.10, 0.08, 0.95
PSU_NOTE = "a legal floor for the mean of 25 to 100 % load; below that a supply does worse, so the range is wide"
ROUND_TRIP, ROUND_TRIP_LOW, ROUND_TRIP_HIGH = 0.9, 0.8, 0.95


INSIDE = (CORE, SOC_RAILS, MODULE)
NOT_SEEN = (
    "the board's own regulators and everything else on the board are in no figure here, so the energy is a lower bound"
)
NOBODY_KNOWS = (
    "nobody knows where this sensor sits, from the socket (no losses) to behind a battery: all of that is in the range;"
    " say it with --boundary"
)


@dataclass(frozen=True, kw_only=True)
class Supply:
    """The factors that energy at the sensor is divided by, one after the other, to be that at the socket."""

    boundary: str
    factors: tuple[Input, ...]
    notes: tuple[str, ...] = ()


def psu_efficiency(rated_w: float, *, is_low_voltage: bool = True) -> float:
    """The least mean efficiency that the EU allows a supply of `rated_w`; low voltage is below 6 V at 0.55 A or more.

    Raises:
        UsageError: the formula holds for more than 1 W and up to 49 W.
    """
    if not 1 < rated_w <= 49:
        raise UsageError(
            f"no efficiency is known for a power supply of {rated_w:g} W: the EU's formula goes from 1 to 49 W",
            "give it: --supply-efficiency 0.88",
        )
    if is_low_voltage:
        return 0.0834 * math.log(rated_w) - 0.0014 * rated_w + 0.609
    return 0.071 * math.log(rated_w) - 0.0014 * rated_w + 0.67


def supply(
    boundary: str, *, psu_w: float | None = None, is_low_voltage: bool = True,
    efficiency: float | None = None, round_trip: float | None = None,
) -> Supply:  # fmt: skip
    """What lies upstream of a sensor at this boundary.

    Raises:
        UsageError: an efficiency is not above 0 and at most 1, or none is known for this power supply.
    """
    for name, given in (("--supply-efficiency", efficiency), ("--battery-roundtrip", round_trip)):
        if given is not None and not 0 < given <= 1:
            raise UsageError(f"{name} is {given:g}: it must be above 0 and at most 1", f"for 85 % write {name} 0.85")
    is_unknown = boundary == UNSTATED and efficiency is None
    if boundary == WALL:
        factors: tuple[Input, ...] = ()
    elif is_unknown:
        factors = (_unknown(psu_w, is_low_voltage),)
    elif boundary == BATTERY:
        factors = (_psu(psu_w, is_low_voltage, efficiency), _round_trip(round_trip))
    else:
        factors = (_psu(psu_w, is_low_voltage, efficiency),)
    notes = [] if boundary not in INSIDE else [f"the sensor sees only the {boundary} boundary: {NOT_SEEN}"]
    if is_unknown:
        notes.append(NOBODY_KNOWS)
    if round_trip is not None and boundary != BATTERY:
        notes.append(f"a battery's round trip was given, but the sensor is at the {boundary} boundary: it was not used")
    if boundary == WALL and (psu_w is not None or efficiency is not None):
        notes.append("a power supply was given, but the sensor is before it, at the wall: it was not used")
    return Supply(boundary=boundary, factors=factors, notes=tuple(notes))


def _psu(rated_w: float | None, is_low_voltage: bool, given: float | None) -> Input:
    if given is not None:
        return Input.exactly(PSU, given, "1", USER, "given by the user")
    value = psu_efficiency(DEFAULT_PSU_W if rated_w is None else rated_w, is_low_voltage=is_low_voltage)
    at = f"{DEFAULT_PSU_W:g} W assumed" if rated_w is None else f"{rated_w:g} W"
    return Input(
        name=PSU, value=value, unit="1", kind=DEFAULT if rated_w is None else DATA_SHEET, source=f"{RULE}, {at}",
        year="2019", low=value - WORSE, high=min(value + BETTER, BEST), shape=TRIANGULAR, note=PSU_NOTE,
    )  # fmt: skip


def _round_trip(given: float | None) -> Input:
    if given is not None:
        return Input.exactly(BATTERY_ROUND_TRIP, given, "1", USER, "given by the user")
    return Input(
        name=BATTERY_ROUND_TRIP, value=ROUND_TRIP, unit="1", kind=DEFAULT, low=ROUND_TRIP_LOW, high=ROUND_TRIP_HIGH,
        shape=TRIANGULAR, source="assumed: no authoritative figure was found for charger and battery together",
        note="an assumption: give --battery-roundtrip if you know it",
    )  # fmt: skip


def _unknown(psu_w: float | None, is_low_voltage: bool) -> Input:
    psu = _psu(psu_w, is_low_voltage, None)
    return Input(
        name=UNKNOWN, value=psu.value, unit="1", kind=DEFAULT, low=psu.low * ROUND_TRIP_LOW, high=1.0, shape=UNIFORM,
        source=f"the boundary is not stated; {psu.source}", year=psu.year,
        note="give --supply-efficiency if you know it",
    )  # fmt: skip
