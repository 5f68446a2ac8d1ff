"""Reach a device: put a file there, start a program there. One file per kind of link."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, Self

from edgeprof.errors import FleetError
from edgeprof.fleet import Device

__all__ = ["Link", "OnSent", "Process", "open_link"]

OnSent = Callable[[int, int], None]


class Process(Protocol):
    """A program running on the device, with pipes to its standard streams.

    Every wait is bounded; a program that was started is ended by `close`, whatever happened before.
    """

    def write(self, data: bytes, timeout_s: float) -> None:
        """Write all of `data` to its standard input.

        Raises:
            LinkError: it cannot be written within `timeout_s`, or nobody reads any more.
        """

    def read_line(self, timeout_s: float, max_bytes: int) -> bytes | None:
        """The next line of its standard output, newline included; None at the end of output.

        Raises:
            TimeoutError: no whole line came within `timeout_s`; what came is kept for the next call.
            LinkError: the line is longer than `max_bytes`, or the link broke.
        """

    @property
    def held_bytes(self) -> int:
        """How much of a line has come that is not whole yet: a long one on a slow link is a sign of life."""

    def stderr_tail(self) -> str:
        """The last few kilobytes of its standard error, as far as they came."""

    def close_input(self) -> None:
        """Close its standard input."""

    def wait(self, timeout_s: float) -> int | None:
        """Its exit code, or None if it was ended by a signal or the link broke.

        Raises:
            TimeoutError: it did not end within `timeout_s`.
        """

    def close(self) -> None:
        """End the program and release everything; safe to call twice."""


class Link(Protocol):
    """A way to one device. A context manager; entering connects, leaving disconnects.

    Raises (from any method):
        LinkError: the device cannot be reached, or went away.
    """

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def put(
        self,
        source: Path | bytes,
        target: str,
        timeout_s: float,
        *,
        resume: bool = False,
        on_progress: OnSent | None = None,
    ) -> int:
        """Copy a file (or bytes) to absolute path `target`, whose folder exists; the bytes sent.

        On any failure nothing is left under `target`, as far as the link still allows that. With `resume` what
        arrived stays there, and a link may go on from it the next time, sending less than all. Content is not
        verified here: who puts it, verifies it. `on_progress` hears now and then how many bytes have arrived, and of
        how many.

        Raises:
            TransferError: it did not arrive whole (no space, no permission, link lost).
        """

    def start(self, argv: list[str]) -> Process:
        """Start a program; no shell interprets any of `argv`. `argv[0]` is a path or a name on the device's PATH."""


def open_link(device: Device) -> Link:
    """The link that the device's address asks for; not yet connected."""
    if device.scheme == "ssh":
        from edgeprof.links.ssh import SshLink

        return SshLink(device)
    if device.scheme == "adb":
        from edgeprof.links.adb import AdbLink

        return AdbLink(device)
    if device.scheme in ("local", "sim"):
        from edgeprof.links.local import LocalLink

        return LocalLink()
    advice = "use ssh://user@host, adb:SERIAL, local: or sim:BOARD"
    raise FleetError(f"{device.name}: unknown address {device.address!r}", advice)
