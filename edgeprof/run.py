"""A `Run` is what the store keeps: a device's raw `Profile` with what only the host knows about it.

Statistics and verdicts are not stored: they are computed from the raw samples whenever they are shown.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from device_agents.wire import Profile

__all__ = ["SCHEMA", "Operator", "Run", "new_run_id"]

# Version of the JSON document of a run (docs/reference/run.md). History:
# 1  first version
SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Operator:
    """What one timed kernel means in the words of the user's file.

    `kernel` is its index in `profile.operators.kernels`, where the raw times are. `origin` is "node" (one node of
    the file), "fused" (several), "layout" (inserted by the runtime to rearrange data) or "unmapped". `macs` and the
    byte count are None where they could not be derived.
    """

    kernel: int
    origin: str
    nodes: tuple[str, ...] = ()
    node_types: tuple[str, ...] = ()
    input_shapes: tuple[tuple[int, ...], ...] = ()
    output_shapes: tuple[tuple[int, ...], ...] = ()
    macs: int | None = None
    moved_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """One profile as it is stored and exported. `operators[i]` explains kernel `operators[i].kernel`.

    `mapping_notes` says in words what of the mapping is doubtful, and which nodes of the file no kernel covers.
    """

    id: str
    created_at_s: float
    device: str
    edgeprof_version: str
    profile: Profile
    operators: tuple[Operator, ...] = ()
    mapping_notes: tuple[str, ...] = ()
    schema: int = SCHEMA


def new_run_id(now_s: float | None = None) -> str:
    """A short id that sorts by time: UTC date and time, then four random hex digits."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(time.time() if now_s is None else now_s))
    return f"{stamp}-{secrets.token_hex(2)}"
