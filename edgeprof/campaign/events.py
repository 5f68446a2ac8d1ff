"""What a campaign tells while it runs, for a progress display or a log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from device_agents import wire
from edgeprof.run import Run

__all__ = ["DeviceState", "Event", "JobBegun", "JobDone", "JobFailed", "JobProgress", "Tell"]


@dataclass(frozen=True, kw_only=True)
class JobBegun:
    """A device takes a job up, for the `attempt`-th time."""

    device: str
    number: int
    title: str
    attempt: int


@dataclass(frozen=True, kw_only=True)
class JobProgress:
    """How far the device's job is."""

    device: str
    progress: wire.Progress


@dataclass(frozen=True, kw_only=True)
class JobDone:
    """A job was measured and its run is in the store."""

    device: str
    number: int
    title: str
    run: Run
    took_s: float


@dataclass(frozen=True, kw_only=True)
class JobFailed:
    """An attempt failed; `is_final` unless it will be made again, `may_pass` if another could have gone well."""

    device: str
    number: int
    title: str
    attempt: int
    reason: str
    advice: str
    is_final: bool
    may_pass: bool


@dataclass(frozen=True, kw_only=True)
class DeviceState:
    """What a device is doing between jobs: connecting, waiting, resting, lost, given up, finished."""

    device: str
    state: str
    detail: str = ""


Event = JobBegun | JobProgress | JobDone | JobFailed | DeviceState
# Called from the thread of each device.
Tell = Callable[[Event], None]
