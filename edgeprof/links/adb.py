"""Reach an Android phone by adb: the agent runs here and has the phone for its machine (device_agents/phone.py).

There is no Python on a phone; so what is put and started is put and started here, with the phone's serial number in the
agent's environment. Entering asks adb which phones there are, which starts adb's server if none runs.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from device_agents.machine import SERIAL
from edgeprof.errors import LinkError
from edgeprof.fleet import Device
from edgeprof.links import OnSent
from edgeprof.links.local import LocalLink, LocalProcess

__all__ = ["AdbLink", "Phone", "phones"]

READY = "device"
# What to do about every other state that `adb devices` tells of.
STATES = {
    "unauthorized": "unlock the phone, and allow USB debugging in the question that it shows (Always allow from this "
    "computer); if it shows none: adb kill-server, and plug it in again",
    "authorizing": "unlock the phone, and allow USB debugging in the question that it shows",
    "offline": "unlock the phone and plug it in again; if that does not help: adb kill-server",
    "no permissions": "this user may not open the USB device: install Android's udev rules (package "
    "android-sdk-platform-tools-common), and plug it in again",
    "recovery": "start the phone's usual system",
    "sideload": "start the phone's usual system",
    "bootloader": "start the phone's usual system",
}
ASK = "adb devices"


@dataclass(frozen=True)
class Phone:
    """A line of `adb devices`."""

    serial: str
    state: str


def phones(timeout_s: float) -> tuple[Phone, ...]:
    """Every phone that adb knows of.

    Raises:
        LinkError: adb is not installed, or does not answer.
    """
    try:
        done = subprocess.run(ASK.split(), capture_output=True, text=True, timeout=timeout_s, check=False)
    except FileNotFoundError as error:
        advice = "install it: apt-get install adb, or Android's platform-tools, and see that it is on PATH"
        raise LinkError("adb is not installed on this machine", advice) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LinkError(f"`{ASK}` does not answer: {error}", "adb kill-server, then try again") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise LinkError(f"`{ASK}` failed: {said[-1] if said else done.returncode}", "adb kill-server, then try again")
    lines = [line.split("\t", 1) for line in done.stdout.splitlines() if "\t" in line]
    return tuple(Phone(serial, state.strip()) for serial, state in lines)


class AdbLink:
    """One phone; without a serial number in the address, the only one there is. A context manager."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._here: LocalLink | None = None

    def __enter__(self) -> Self:
        self._here = LocalLink({SERIAL: self._chosen(phones(self._device.connect_s)).serial})
        return self

    def __exit__(self, *exc: object) -> None:
        self._here = None

    def put(
        self,
        source: Path | bytes,
        target: str,
        timeout_s: float,
        *,
        resume: bool = False,
        on_progress: OnSent | None = None,
    ) -> int:
        """Here: the agent itself brings to the phone what is run there."""
        return self._open().put(source, target, timeout_s, resume=resume, on_progress=on_progress)

    def start(self, argv: list[str]) -> LocalProcess:
        return self._open().start(argv)

    def _open(self) -> LocalLink:
        if self._here is None:
            raise LinkError(f"{self._device.name}: the link is not open", "connect first")
        return self._here

    def _chosen(self, found: tuple[Phone, ...]) -> Phone:
        name, wanted = self._device.name, self._device.serial
        listed = ", ".join(f"{phone.serial} ({phone.state})" for phone in found) or "none"
        chosen = [phone for phone in found if wanted in (None, phone.serial)]
        if not chosen:
            raise LinkError(
                f"{name}: {f'no phone {wanted}' if wanted else 'no phone'} on adb; adb lists: {listed}",
                "plug it in, and turn USB debugging on in its developer options",
            )
        if len(chosen) > 1:
            advice = f'say which in fleet.toml: address = "adb:{chosen[0].serial}"'
            raise LinkError(f"{name}: several phones are on adb: {listed}", advice)
        phone = chosen[0]
        if phone.state != READY:
            known = next((advice for state, advice in STATES.items() if phone.state.startswith(state)), None)
            advice = known or "see that `adb devices` says `device` for it"
            raise LinkError(f"{name}: adb says that the phone {phone.serial} is {phone.state}", advice)
        return phone
