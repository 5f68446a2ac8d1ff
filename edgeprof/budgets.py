"""Limits in absolute figures that a model must keep: `latency=20ms`, `memory=200MB`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from edgeprof.errors import UsageError

__all__ = ["KEYS", "Budget", "read_budget", "read_margin"]

SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
BYTES = {"B": 1.0, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
# What a limit may be set for, and its units. Energy follows when it is measured.
KEYS = {"latency": SECONDS, "first_inference": SECONDS, "memory": BYTES, "size": BYTES}
AMOUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?)\s*([^\s0-9.]+)")
PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """At most `limit`, in seconds or bytes; `text` is the limit as the user wrote it.

    latency: median of an inference; first_inference: the first after loading; memory: peak resident memory of the
    measuring process; size: the model's files.
    """

    key: str
    limit: float
    text: str

    @property
    def is_time(self) -> bool:
        return KEYS[self.key] is SECONDS


def read_budget(text: str) -> Budget:
    """Read KEY=AMOUNT, as latency=20ms.

    Raises:
        UsageError: an unknown key or unit, or no positive amount.
    """
    key, _, amount = text.partition("=")
    if key not in KEYS:
        raise UsageError(f"no budget for {key!r} is known yet", f"budgets are for {', '.join(KEYS)}, as latency=20ms")
    units = KEYS[key]
    found = AMOUNT.fullmatch(amount.strip())
    unit = found[2] if found else ""
    limit = float(found[1]) * units.get(unit, math.nan) if found else math.nan
    if not (math.isfinite(limit) and limit > 0):
        example = "20ms" if units is SECONDS else "200MB"
        raise UsageError(
            f"budget {text!r}: {amount!r} is not a positive amount with a unit",
            f"write {key}={example}; units are {', '.join(units)}",
        )
    return Budget(key=key, limit=limit, text=amount.strip())


def read_margin(text: str) -> float:
    """Read a share such as 3% into 0.03.

    Raises:
        UsageError: not a positive percentage.
    """
    found = PERCENT.fullmatch(text.strip())
    share = float(found[1]) / 100 if found else 0.0
    if not 0 < share < math.inf:
        raise UsageError(
            f"--max-regression {text}: not a positive percentage",
            "write 3%; no measurement can show that nothing at all became slower",
        )
    return share
