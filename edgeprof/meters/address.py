"""How a meter of the host is written: shelly:HOST[:PORT][/SWITCH], tasmota:HOST[:PORT], joulescope[:SERIAL].

Each may end in ?boundary=NAME, for a meter that sits elsewhere than its kind usually does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from device_agents.wire import BOUNDARIES, UNSTATED
from edgeprof.errors import UsageError

__all__ = ["FORMS", "MeterAddress", "read_address"]

FORMS = {"shelly": "shelly:HOST[/SWITCH]", "tasmota": "tasmota:HOST", "joulescope": "joulescope[:SERIAL]"}
PLACE = re.compile(r"(?P<host>[A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?")
SERIAL = re.compile(r"[A-Za-z0-9]+")


@dataclass(frozen=True, kw_only=True)
class MeterAddress:
    """`place` is host and port, or a serial number, or empty; `switch` counts from 0; `boundary` None: the usual."""

    kind: str
    place: str
    switch: int = 0
    boundary: str | None = None


def read_address(text: str) -> MeterAddress:
    """What an address says.

    Raises:
        UsageError: what of it makes no sense.
    """
    body, question, query = text.partition("?")
    kind, colon, place = body.partition(":")
    if kind not in FORMS:
        raise UsageError(f"meter {text!r}: no such kind of meter", f"use {', '.join(FORMS.values())}")
    boundary = _boundary(text, query) if question else None
    if kind == "joulescope":
        if (colon or place) and not SERIAL.fullmatch(place):
            raise _wrong(text, kind, f"{place!r} is no serial number")
        return MeterAddress(kind=kind, place=place, boundary=boundary)
    place, slash, switch = place.partition("/")
    found = PLACE.fullmatch(place)
    if found is None or not 1 <= int(found["port"] or 80) <= 65535:
        raise _wrong(text, kind, f"{place!r} is no host" if place else "the host is missing")
    if slash and (kind != "shelly" or not re.fullmatch("[0-9]{1,2}", switch)):
        raise _wrong(text, kind, f"{switch!r} is no number of a switch")
    return MeterAddress(kind=kind, place=place, switch=int(switch or 0), boundary=boundary)


def _boundary(text: str, query: str) -> str:
    name, _, value = query.partition("=")
    allowed = [boundary for boundary in BOUNDARIES if boundary != UNSTATED]
    if name != "boundary" or value not in allowed:
        raise UsageError(
            f"meter {text!r}: {query!r} is not understood", f"only ?boundary= may follow, one of {', '.join(allowed)}"
        )
    return value


def _wrong(text: str, kind: str, what: str) -> UsageError:
    return UsageError(f"meter {text!r}: {what}", f"use {FORMS[kind]}")
