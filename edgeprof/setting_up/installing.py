"""One environment for each runtime on a device: what it takes, and making it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from device_agents import wire
from edgeprof.errors import AgentError, AgentLost, NoSpace, TransferError
from edgeprof.fleet import Device, Fleet
from edgeprof.links import Link
from edgeprof.setting_up.there import Facts, There
from edgeprof.setting_up.trying import try_runtime
from edgeprof.setting_up.wheels import Wheel, fetch

__all__ = ["Setting", "Step"]

OnProgress = Callable[[wire.Progress], None]
# Below these a link or a card is taken for dead: a weak 2.4 GHz link, an old SD card with many small files.
SLOWEST_LINK_BYTES_PER_S = 100e3
SLOWEST_CARD_BYTES_PER_S = 500e3
# A file system rounds every small file up, and the agent and a model need room as well.
OVERHEAD, SPARE_BYTES = 1.2, 20e6


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a runtime takes on a device; `is_there` means that this very environment is."""

    runtime: str
    name: str
    python: str
    wheels: tuple[Wheel, ...]
    is_there: bool

    @property
    def version(self) -> str:
        return self.wheels[0].version

    @property
    def size_bytes(self) -> int:
        """To send."""
        return sum(wheel.size_bytes for wheel in self.wheels)

    @property
    def unpacked_bytes(self) -> int:
        """Of the device's disk, in the end."""
        return sum(wheel.unpacked_bytes for wheel in self.wheels)


class Setting:
    """Setting up a device whose link is open. `wheels` is a folder of this machine where fetched wheels are kept.

    Raises (on making one):
        NoPython, AgentError: the device has no Python that will do, or its home cannot be written.
    """

    def __init__(self, fleet: Fleet, device: Device, link: Link, wheels: Path) -> None:
        self._fleet = fleet
        self._device = device
        self._link = link
        self._wheels = wheels
        self._there = There(link, device)
        self.facts: Facts = self._there.look()
        if self.facts.unwritable is not None:
            raise AgentError(
                f"{device.name}: no runtime can be kept there: {self.facts.unwritable}",
                "mount it for writing (sudo mount -o remount,rw /; on a Raspberry Pi: raspi-config, Overlay File "
                "System), or have XDG_CACHE_HOME name another folder there (SetEnv in its sshd_config)",
            )

    def plan(self, runtime: str, *, upgrade: bool = False) -> Step:
        """What a runtime takes there; its wheels are fetched onto this machine, the device is left alone.

        Raises:
            NoWheel: none fits.
            AgentError: pip could not fetch them.
        """
        wheels = fetch(self.facts, runtime, self._device.name, self._wheels, upgrade=upgrade)
        name = self._name_of(runtime, wheels)
        return Step(
            runtime=runtime,
            name=name,
            python=self._python_of(name),
            wheels=wheels,
            is_there=name in self.facts.environments,
        )

    def _name_of(self, runtime: str, wheels: tuple[Wheel, ...]) -> str:
        """Runtime, version, and a digest of all that is in it: the same content has the same name."""
        content = "\n".join([self._device.python, self.facts.version, *sorted(wheel.sha256 for wheel in wheels)])
        return f"{runtime}-{wheels[0].version}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"

    def carry_out(self, step: Step, on_progress: OnProgress | None = None) -> str:
        """Bring the runtime there, try it, and have fleet.toml name it; the version that answered.

        Raises:
            NoSpace: the disk is too full for it.
            TransferError: the link broke, or wheels arrived corrupt, and again when they were sent once more.
            AgentError: it does not run there; its environment is removed again.
        """
        if not step.is_there:
            self.install(step, on_progress)
        device = self._fleet.device(self._device.name)
        replaced = device.pythons.get(step.runtime)
        device = msgspec.structs.replace(device, pythons=device.pythons | {step.runtime: step.python})
        try:
            version = self._tried(device, step)
        except AgentLost:
            raise
        except AgentError:
            if not step.is_there:
                raise
            # It was whole once, and something of it is gone since: it is made anew.
            self.install(step, on_progress)
            version = self._tried(device, step)
        self._fleet = self._fleet.add(device)
        self._discard_replaced(replaced, step)
        return version

    def _tried(self, device: Device, step: Step) -> str:
        """The version that answered; an environment that does not run is removed."""
        try:
            return try_runtime(device, step.runtime)
        except AgentLost:
            raise  # that says nothing of the environment: the next set-up tries it again
        except AgentError:
            self._there.discard((step.name,))
            raise

    def _discard_replaced(self, python: str | None, step: Step) -> None:
        """Remove the environment that fleet.toml named before; others may be those of other people's."""
        for name in self.facts.environments:
            if python == self._python_of(name) != step.python:
                self._there.discard((name,))

    def _python_of(self, name: str) -> str:
        return f"{self.facts.cache}/runtimes/{name}/bin/python"

    def install(self, step: Step, on_progress: OnProgress | None = None) -> None:
        """Send the wheels and have the environment made, which nothing uses before it was tried.

        Raises:
            NoSpace, TransferError: as for `carry_out`.
        """
        if (lacking := self.lacking_room(step)) is not None:
            raise NoSpace(lacking, "make room there; edgeprof devices clean removes what edgeprof has put there")
        uploads = self._there.prepare().uploads
        self._send(step.wheels, uploads, on_progress)
        if corrupt := self._make(step):
            self._send(tuple(wheel for wheel in step.wheels if wheel.sha256 in corrupt), uploads, on_progress)
            if corrupt := self._make(step):
                names = ", ".join(wheel.path.name for wheel in step.wheels if wheel.sha256 in corrupt)
                raise TransferError(
                    f"{self._device.name}: arrived corrupt, twice: {names}",
                    "the memory, the card or the cable of the device is failing: try another one",
                )

    def lacking_room(self, step: Step) -> str | None:
        """Why it does not fit on the device's disk; None where it does."""
        needed_bytes = step.size_bytes + OVERHEAD * step.unpacked_bytes + SPARE_BYTES
        free_bytes = self._there.look().free_bytes  # the runtime before this one took its share
        if needed_bytes > free_bytes:
            return (
                f"{self._device.name}: {step.runtime} needs {needed_bytes / 1e6:.0f} MB while it is set up, "
                f"{free_bytes / 1e6:.0f} MB are free in {self.facts.cache}"
            )
        return None

    def _send(self, wheels: tuple[Wheel, ...], uploads: str, on_progress: OnProgress | None) -> None:
        total_bytes = sum(wheel.size_bytes for wheel in wheels)
        before_bytes = 0
        for wheel in wheels:
            within_s = self._device.deadlines.transfer_s + wheel.size_bytes / SLOWEST_LINK_BYTES_PER_S

            def tell(arrived_bytes: int, _: int, before_bytes: int = before_bytes) -> None:
                if on_progress is not None:
                    on_progress(wire.Progress("upload", before_bytes + arrived_bytes, total_bytes))

            self._link.put(wheel.path, f"{uploads}/{wheel.sha256}", within_s, resume=True, on_progress=tell)
            before_bytes += wheel.size_bytes

    def _make(self, step: Step) -> tuple[str, ...]:
        """Have the environment made; the digests of wheels that are not there as they were sent."""
        within_s = self._device.deadlines.transfer_s + step.unpacked_bytes / SLOWEST_CARD_BYTES_PER_S
        return self._there.install(step.name, tuple(wheel.sha256 for wheel in step.wheels), within_s).corrupt
