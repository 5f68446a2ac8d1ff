"""What making a device emitted: a published figure, the user's, or a lower bound from its memory and chips."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from edgeprof.carbon.inputs import DATA_SHEET, DEFAULT, FIXED, MODELLED, TRIANGULAR, USER, Input
from edgeprof.carbon.quantity import parse_range
from edgeprof.carbon.tables import act, read_table
from edgeprof.errors import CarbonError

__all__ = ["EMBODIED", "LIFETIME", "Embodied", "devices", "lower_bound", "of_device", "of_user"]

EMBODIED, LIFETIME = "embodied emissions", "lifetime"
# Makers and methods differ: a published footprint is known to about a factor of two (docs/how-to/carbon.md).
LOW, HIGH = 0.5, 2.0
RANGE_NOTE = "taken as [0.5x, 2x]"
IN_G = {"g": 1.0, "kg": 1000.0, "gCO2e": 1.0, "kgCO2e": 1000.0}
IN_YEARS = {"y": 1.0, "year": 1.0, "years": 1.0, "month": 1 / 12, "months": 1 / 12, "d": 1 / 365.25, "days": 1 / 365.25}
# The example of ISO/IEC 21031 takes 4 years; 2 to 8 is assumed: a phone's report says 2 to 5, boards are used longer.
LIFETIME_YEARS, LIFETIME_LOW, LIFETIME_HIGH = 4.0, 2.0, 8.0
# Packaging of one chip (ACT, act/models/logic): there is at least the processor and its memory.
G_PER_CHIP, N_CHIPS = 150.0, 2
# Bottom-up models of chips miss about half (Pirson and Bol 2021, arXiv:2105.02082, truncation).
TRUNCATION = 2.0
BOUND_NOTE = (
    "a LOWER BOUND: memory and the packages of two chips alone, without the processor's die, board, casing or power"
    " supply; the range goes to twice that, for truncation, and the truth may be far above"
)


@dataclass(frozen=True, kw_only=True)
class Embodied:
    """What making the device emitted and over how long that is spread. `is_bound`: there is more, nobody knows what."""

    device: str
    total: Input
    lifetime: Input
    is_bound: bool = False

    @property
    def inputs(self) -> tuple[Input, ...]:
        return (self.total, self.lifetime)


@dataclass(frozen=True, kw_only=True)
class Published:
    """A row of the table; what its source does not say is None."""

    device: str
    embodied_kg: float | None
    total_kg: float
    lifetime_years: float | None
    source: str
    year: str | None


def devices() -> tuple[Published, ...]:
    """Every device with a published figure."""
    return tuple(
        Published(
            device=row["device"], embodied_kg=float(row["embodied_kg"]) if row["embodied_kg"] else None,
            total_kg=float(row["total_kg"]), source=row["source"], year=row["year"] or None,
            lifetime_years=float(row["lifetime_years"]) if row["lifetime_years"] else None,
        )
        for row in read_table("embodied_devices")
    )  # fmt: skip


def of_device(wanted: str, lifetime: str | None = None) -> Embodied:
    """The published figure of a device by its name, or by a part of it that only one has.

    Raises:
        CarbonError: there is none, the name means several, or its source does not tell making from use.
        UsageError: the lifetime is no time.
    """
    row = _find(wanted)
    if row.embodied_kg is None:
        raise CarbonError(
            f"{row.device}: its source has only the total over its life, {row.total_kg:g} kg, use included",
            'give what making it emitted: --embodied "30 kg" --lifetime "3 y"',
        )
    value = 1000.0 * row.embodied_kg
    total = Input(
        name=EMBODIED, value=value, unit="g", kind=DATA_SHEET, source=f"{row.device}: {row.source}", year=row.year,
        low=LOW * value, high=HIGH * value, shape=TRIANGULAR, note=RANGE_NOTE,
    )  # fmt: skip
    if lifetime is not None:
        life = _lifetime_of_user(lifetime)
    elif row.lifetime_years is not None:
        life = Input.exactly(
            LIFETIME, row.lifetime_years, "years", DATA_SHEET, f"the same report of the {row.device}", year=row.year
        )
    else:
        life = _default_lifetime()
    return Embodied(device=row.device, total=total, lifetime=life)


def of_user(embodied: str, lifetime: str | None) -> Embodied:
    """Figures of the user's: "10 kg" is taken as [0.5x, 2x] as published ones are, "8-12 kg" as that range.

    Raises:
        UsageError: one of them is no such quantity.
    """
    low, high, is_range = parse_range(embodied, "mass of CO2e", IN_G, "10 kg")
    value = (low + high) / 2
    total = Input(
        name=EMBODIED, value=value, unit="g", kind=USER, source="given by the user", shape=TRIANGULAR,
        low=low if is_range else LOW * value, high=high if is_range else HIGH * value,
        note=None if is_range else RANGE_NOTE,
    )  # fmt: skip
    return Embodied(
        device="as given",
        total=total,
        lifetime=_default_lifetime() if lifetime is None else _lifetime_of_user(lifetime),
    )


def lower_bound(memory_bytes: int | None, lifetime: str | None = None) -> Embodied:
    """What is surely in a device without a published figure, by ACT: its memory, and the packages of two chips."""
    per_gb = act("dram_hynix", "lpddr4")
    memory_gb = (memory_bytes or 0) / 1e9
    value = N_CHIPS * G_PER_CHIP + memory_gb * per_gb
    parts = f"{N_CHIPS} chips x {G_PER_CHIP:g} g"
    parts += (
        f" + {memory_gb:.2g} GB x {per_gb:g} g (LPDDR4)" if memory_bytes else "; the size of its memory is not known"
    )
    total = Input(
        name=EMBODIED, value=value, unit="g", kind=MODELLED, year="2025",
        source=f"ACT parameters (MIT, commit abc9fbb): {parts}",
        low=value, high=TRUNCATION * value, shape=TRIANGULAR, note=BOUND_NOTE,
    )  # fmt: skip
    life = _default_lifetime() if lifetime is None else _lifetime_of_user(lifetime)
    return Embodied(device="not in the table", total=total, lifetime=life, is_bound=True)


def _lifetime_of_user(text: str) -> Input:
    low, high, is_range = parse_range(text, "lifetime", IN_YEARS, "4 y")
    return Input(
        name=LIFETIME, value=(low + high) / 2, unit="years", kind=USER, source="given by the user", low=low, high=high,
        shape=TRIANGULAR if is_range else FIXED,
    )  # fmt: skip


def _default_lifetime() -> Input:
    return Input(
        name=LIFETIME, value=LIFETIME_YEARS, unit="years", kind=DEFAULT, low=LIFETIME_LOW, high=LIFETIME_HIGH,
        shape=TRIANGULAR, source="assumed: 4 years as in the example of ISO/IEC 21031", note="nobody said how long",
    )  # fmt: skip


def _find(wanted: str) -> Published:
    rows = devices()
    key = wanted.strip().casefold()
    exact = [row for row in rows if row.device.casefold() == key]
    found = exact or [row for row in rows if key and key in row.device.casefold()]
    if len(found) > 1:
        raise CarbonError(
            f"{wanted!r} means {len(found)} devices: {', '.join(row.device for row in found)}", "give more of the name"
        )
    if not found:
        names = {row.device.casefold(): row.device for row in rows}
        near = [names[match] for match in difflib.get_close_matches(key, names, n=3, cutoff=0.4)]
        hint = f"did you mean {', '.join(near)}? " if near else ""
        raise CarbonError(
            f"no published figure for {wanted!r}",
            f'{hint}See edgeprof carbon --list-devices, or give --embodied "10 kg"',
        )
    return found[0]
