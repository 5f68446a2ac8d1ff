"""Grams of CO2e per kWh of electricity: of a country, of a part of one, of the world, or as the user says."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from edgeprof.carbon.inputs import DATA_SHEET, DEFAULT, FIXED, TRIANGULAR, USER, Input
from edgeprof.carbon.quantity import parse_range
from edgeprof.carbon.tables import ATTRIBUTION, read_table
from edgeprof.errors import CarbonError

__all__ = ["INTENSITY", "WORLD", "Intensity", "of_user", "of_zone", "zones"]

INTENSITY = "grid intensity"
UNIT = "g/kWh"
WORLD = "WLD"
COUNTRY_KIND = "location-based, average, generation, life-cycle; annual"
STATE_KIND = "location-based, average, generation, direct emissions; annual"
COUNTRY_SOURCE = "Our World in Data; Ember; Energy Institute (CC BY 4.0)"
# What a country's average may miss of the grid where the device is: 80 % of the US states of the table of EPA eGRID2023
# lie between 0.44 and 1.81 times the USA as a whole (349.7 g/kWh there).
COUNTRY_LOW, COUNTRY_HIGH = 0.44, 1.81
COUNTRY_NOTE = "a country's yearly average stands for a local grid: range as that of US states around the USA"
OLD_BEFORE = "2020"
# Within a state there are hours and years: assumed, for want of a published spread.
STATE_LOW, STATE_HIGH = 0.8, 1.2
STATE_NOTE = "a yearly average stands for the hour: 20 % either way assumed"
# Ember's table weighted by generation: 5 % of the world's electricity is below the first and 5 % above the second.
WORLD_LOW, WORLD_HIGH = 98.3, 713.4
WORLD_NOTE = (
    "no place was given: the world's average stands for it, and 90 % of the world's electricity is in the range"
)
USER_NOTE = "taken as given; write a range (40-70 g/kWh) if it has one"
PER_KWH = {"g/kWh": 1.0, "gCO2e/kWh": 1.0, "gCO2/kWh": 1.0, "": 1.0, "kg/kWh": 1000.0, "kg/MWh": 1.0, "g/MWh": 1e-3}
OTHER_NAMES = {"uk": "GBR", "great britain": "GBR", "usa": "USA", "us": "USA", "world": WORLD, "south korea": "KOR",
               "czech republic": "CZE", "russian federation": "RUS", "turkiye": "TUR"}  # fmt: skip
N_NEAR = 4


@dataclass(frozen=True, kw_only=True)
class Intensity:
    """A carbon intensity with what must be told with it; `kind` is how the standard classifies it.

    `attribution` is the line that its licence asks for, None where it asks for none.
    """

    zone: str
    name: str
    kind: str
    licence: str
    input: Input
    attribution: str | None = None


@dataclass(frozen=True, kw_only=True)
class Zone:
    """A row of the tables: a country (`code` in three letters, `short` in two) or a part of one."""

    code: str
    short: str
    name: str
    g_per_kwh: float
    year: str
    is_country: bool


def zones() -> tuple[Zone, ...]:
    """Every zone of the tables: countries by code, with the world at their end, then parts of countries."""
    short = {row["iso3"]: row["iso2"] for row in read_table("country_codes")}
    countries = [
        Zone(
            code=row["iso3"], short=short.get(row["iso3"], ""), name="World" if row["iso3"] == WORLD else row["name"],
            g_per_kwh=float(row["gco2e_per_kwh"]), year=row["year"], is_country=True,
        )
        for row in read_table("grid_intensity_country")
    ]  # fmt: skip
    parts = [
        Zone(
            code=row["zone"], short="", name=row["name"].title().replace(" Of ", " of "),
            g_per_kwh=float(row["gco2e_per_kwh"]), year=row["year"], is_country=False,
        )
        for row in read_table("grid_intensity_subnational")
    ]  # fmt: skip
    return (*countries, *parts)


def of_zone(wanted: str | None) -> Intensity:
    """The intensity of a zone by its code (FR, FRA, US-CA) or name; of the world where none was given.

    Raises:
        CarbonError: there is no such zone, or the name means several.
    """
    zone = _find(WORLD if wanted is None else wanted)
    if not zone.g_per_kwh:
        raise CarbonError(
            f"the table has 0 g/kWh for {zone.name} ({zone.year}), which no grid emits over its life",
            'it was rounded from too little generation; give the number: --intensity "30 g/kWh"',
        )
    if zone.code == WORLD:
        return _of_world(zone, is_default=wanted is None)
    if not zone.is_country:
        return _of_state(zone)
    one = Input(
        name=INTENSITY, value=zone.g_per_kwh, unit=UNIT, kind=DATA_SHEET, source=f"{zone.name}: {COUNTRY_SOURCE}",
        year=zone.year, low=COUNTRY_LOW * zone.g_per_kwh, high=COUNTRY_HIGH * zone.g_per_kwh, shape=TRIANGULAR,
        note=COUNTRY_NOTE + (f"; the figure is of {zone.year}" if zone.year < OLD_BEFORE else ""),
    )  # fmt: skip
    return Intensity(
        zone=zone.code, name=zone.name, kind=COUNTRY_KIND, licence="CC BY 4.0", input=one, attribution=ATTRIBUTION
    )


def of_user(text: str) -> Intensity:
    """An intensity that the user gives: "56 g/kWh", or a range, "40-70 g/kWh".

    Raises:
        UsageError: it is no intensity.
    """
    low, high, is_range = parse_range(text, "carbon intensity", PER_KWH, "56 g/kWh")
    one = Input(
        name=INTENSITY, value=(low + high) / 2, unit=UNIT, kind=USER, source="given by the user", low=low, high=high,
        shape=TRIANGULAR if is_range else FIXED, note=None if is_range else USER_NOTE,
    )  # fmt: skip
    return Intensity(zone="", name="given", kind="as the user knows it", licence="none", input=one)


def _of_world(zone: Zone, *, is_default: bool) -> Intensity:
    one = Input(
        name=INTENSITY, value=zone.g_per_kwh, unit=UNIT, kind=DEFAULT if is_default else DATA_SHEET,
        source=f"World, generation-weighted mean of countries, derived: {COUNTRY_SOURCE}", year=zone.year,
        low=WORLD_LOW, high=WORLD_HIGH, shape=TRIANGULAR, note=WORLD_NOTE if is_default else None,
    )  # fmt: skip
    return Intensity(
        zone=WORLD, name="World", kind=COUNTRY_KIND, licence="CC BY 4.0", input=one, attribution=ATTRIBUTION
    )


def _of_state(zone: Zone) -> Intensity:
    one = Input(
        name=INTENSITY, value=zone.g_per_kwh, unit=UNIT, kind=DATA_SHEET,
        source=f"{zone.name}: EPA eGRID2023, STC2ERTA (US public domain)", year=zone.year,
        low=STATE_LOW * zone.g_per_kwh, high=STATE_HIGH * zone.g_per_kwh, shape=TRIANGULAR, note=STATE_NOTE,
    )  # fmt: skip
    return Intensity(zone=zone.code, name=zone.name, kind=STATE_KIND, licence="public domain", input=one)


def _find(wanted: str) -> Zone:
    everything = zones()
    key = _plain(wanted)
    by_code = [zone for zone in everything if key in (zone.code.casefold(), zone.short.casefold())] if key else []
    other = [zone for zone in everything if zone.code == OTHER_NAMES.get(key)]
    found = by_code or other or [zone for zone in everything if _plain(zone.name) == key]
    if len(found) > 1:
        shown = " and ".join(f"{zone.code} ({zone.name})" for zone in found)
        raise CarbonError(f"{wanted!r} means {shown}", "give the code of one of them")
    if not found:
        raise CarbonError(f"there is no zone {wanted!r}", _advice(key, everything))
    return found[0]


def _advice(key: str, everything: tuple[Zone, ...]) -> str:
    names = {_plain(zone.name): zone for zone in everything} | {zone.code.casefold(): zone for zone in everything}
    near = dict.fromkeys(names[match] for match in difflib.get_close_matches(key, names, n=N_NEAR, cutoff=0.6))
    listed = 'edgeprof carbon --list-zones; or give the number: --intensity "56 g/kWh"'
    if not near:
        return f"see {listed}"
    return f"did you mean {', '.join(f'{zone.code} ({zone.name})' for zone in near)}? All: {listed}"


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text.strip().replace("_", " ")).casefold()
