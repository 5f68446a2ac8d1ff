"""The devices one can reach: `Device`, and `Fleet` as read from and written to fleet.toml.

::

    [devices.pi5]
    address = "ssh://pi@raspberrypi.local"     # or local:, or sim:BOARD
    python = "python3"
    pythons = { tflite = "/home/pi/tflite/bin/python" }
    groups = ["kitchen"]
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from edgeprof.errors import FleetError

__all__ = ["Device", "Fleet"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
LOCAL = "local"

Text = Annotated[str, msgspec.Meta(min_length=1)]


class Device(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One device and how to reach it. `pythons` names another Python for a runtime that lives in its own environment.

    `origin` overrides what the agent reports where it cannot know it is emulated ("emulated").
    """

    name: str = ""
    address: Text = "local:"
    python: Text = "python3"
    pythons: dict[str, Text] = {}
    groups: list[Text] = []
    origin: str | None = None
    connect_timeout_s: float = 10.0
