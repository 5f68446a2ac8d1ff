"""Who has which device, asked of all devices at once; and throwing a holder out."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import msgspec

from device_agents import wire
from edgeprof.agent import Agent
from edgeprof.deadlines import Deadlines
from edgeprof.errors import EdgeprofError
from edgeprof.fleet import Device
from edgeprof.links import open_link

__all__ = ["Holding", "holders", "unlock"]

MAX_AT_ONCE = 32


@dataclass(frozen=True, kw_only=True)
class Holding:
    """Who has a device: `lease` is None for nobody, or where `unreachable` says why it could not be asked."""

    lease: wire.Lease | None = None
    unreachable: str | None = None


def holders(devices: Sequence[Device], timeout_s: float) -> list[Holding]:
    """Who has each of these devices; every step of asking one may take `timeout_s`, and none waits for another."""
    if not devices:
        return []
    with ThreadPoolExecutor(min(MAX_AT_ONCE, len(devices))) as pool:
        return list(pool.map(lambda device: _holding(device, timeout_s), devices))


def unlock(device: Device) -> wire.Lease | None:
    """Throw out whoever has the device, and kill what measures there; who that was.

    Raises:
        LinkError, AgentError: the device cannot be asked.
        JobRefused: "no-permission"; another account has it.
    """
    with open_link(device) as link, Agent(link, device.python, name=device.name, slot=device.slot) as agent:
        return agent.unlock()


def _holding(device: Device, timeout_s: float) -> Holding:
    hasty = msgspec.structs.replace(device, connect_timeout_s=timeout_s)
    deadlines = Deadlines(start_s=timeout_s, transfer_s=timeout_s, answer_s=timeout_s, silence_s=timeout_s)
    try:
        with (
            open_link(hasty) as link,
            Agent(link, device.python, name=device.name, slot=device.slot, deadlines=deadlines) as agent,
        ):
            return Holding(lease=agent.lease())
    except EdgeprofError as error:
        return Holding(unreachable=str(error).removeprefix(f"{device.name}: "))
