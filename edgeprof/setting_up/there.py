"""Ask the bare Python of a device, by the program on_device.py, which is sent along each time and stays nowhere."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any, TypeVar

import msgspec

from edgeprof.errors import AgentError, NoPython, NoSpace, ProtocolError
from edgeprof.fleet import Device
from edgeprof.hearing import hear
from edgeprof.links import Link

__all__ = ["Cleaned", "Facts", "Installed", "Prepared", "There"]

MARK = b"edgeprof-setup "
OLDEST_PYTHON = (3, 9)
# Parses on every Python, and says which one it is where that is too old to read the program itself. What is executed is
# our own on_device.py, sent as the argument: what `python -c` would do with it, once the version is known.
STARTER = """
import sys
if sys.version_info < (3, 9):
    print('edgeprof-setup {"too_old": "%d.%d.%d"}' % sys.version_info[:3])
else:
    exec(sys.argv.pop(1))
"""

Answer = TypeVar("Answer", bound=msgspec.Struct)


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a device's Python says of itself. `bits` are those of its user land, `machine` is the kernel's word.

    `libc` is "glibc", "musl" or something unknown; `unwritable` says why nothing can be kept below `cache`.
    """

    python: tuple[int, int, int]
    implementation: str
    flags: str
    bits: int
    machine: str
    system: str
    libc: str
    libc_version: tuple[int, int] | None
    has_ensurepip: bool
    other_pythons: dict[str, str]
    cache: str
    unwritable: str | None
    free_bytes: int
    environments: tuple[str, ...]

    @property
    def version(self) -> str:
        """Python's, as "3.11"."""
        return f"{self.python[0]}.{self.python[1]}"

    @property
    def architecture(self) -> str:
        """That of the user land: a 64-bit kernel may carry a 32-bit one, and wheels must fit the latter."""
        narrow = {"aarch64": "armv7l", "armv8l": "armv7l", "x86_64": "i686"}
        return narrow.get(self.machine, self.machine) if self.bits == 32 else self.machine

    @property
    def is_narrow(self) -> bool:
        """Whether a 32-bit user land runs on a 64-bit kernel."""
        return self.bits == 32 and self.machine in ("aarch64", "x86_64")

    @property
    def described(self) -> str:
        """In words, for people."""
        libc = self.libc or "unknown C library"
        if self.libc_version is not None:
            libc += " {}.{}".format(*self.libc_version)
        narrow = f" (32-bit user land on a 64-bit kernel, {self.machine})" if self.is_narrow else ""
        python = ".".join(map(str, self.python)) + (
            "" if self.implementation == "cpython" else f" {self.implementation}"
        )
        return f"Python {python}, {self.architecture}{narrow}, {libc}, {self.free_bytes / 1e9:.1f} GB free"


class Prepared(msgspec.Struct, frozen=True):
    uploads: str


class Installed(msgspec.Struct, frozen=True):
    """`corrupt` are the digests of wheels that did not arrive as they were sent; then there is no `python`."""

    corrupt: tuple[str, ...]
    python: str | None = None


class Cleaned(msgspec.Struct, frozen=True, kw_only=True):
    """What lies in `path`, or lay there; `left` are files that only another account may remove."""

    bytes: int
    held_by: str | None
    tickets: int
    clocks: int
    left: tuple[str, ...]
    path: str


class _Nothing(msgspec.Struct):
    pass


class _Failed(msgspec.Struct):
    error: str | None = None
    is_full: bool = False
    too_old: str | None = None


class There:
    """A device's Python behind an open link.

    Raises (from any method):
        NoPython: there is none, or it is too old.
        NoSpace, AgentError: the device could not do it; the message says why.
        LinkError: the link broke.
    """

    def __init__(self, link: Link, device: Device) -> None:
        self._link = link
        self._device = device

    def look(self) -> Facts:
        """What its wheels must fit; nothing is changed there."""
        return self._ask(Facts, {"verb": "look"})

    def prepare(self) -> Prepared:
        """Have folders for uploads and environments made, and leftovers removed."""
        return self._ask(Prepared, {"verb": "prepare"})

    def install(self, name: str, digests: tuple[str, ...], within_s: float) -> Installed:
        """Have the environment `name` made of uploaded wheels."""
        return self._ask(Installed, {"verb": "install", "name": name, "wheels": digests}, within_s)

    def discard(self, names: tuple[str, ...]) -> None:
        """Have environments removed."""
        self._ask(_Nothing, {"verb": "discard", "names": names}, self._device.deadlines.transfer_s)

    def clean(self, *, dry_run: bool, force: bool) -> Cleaned:
        """Have everything removed that edgeprof put there, unless somebody needs it."""
        request = {"verb": "clean", "dry_run": dry_run, "force": force}
        return self._ask(Cleaned, request, self._device.deadlines.transfer_s)

    def _ask(self, kind: type[Answer], request: dict[str, Any], within_s: float | None = None) -> Answer:
        name, python = self._device.name, self._device.python
        argv = [python, "-c", STARTER, _program(), json.dumps(request)]
        said = hear(self._link, argv, MARK, name=name, within_s=within_s or self._device.deadlines.start_s)
        try:
            failed = msgspec.json.decode(said, type=_Failed)
            if failed.too_old is not None:
                need = ".".join(map(str, OLDEST_PYTHON))
                raise NoPython(
                    f"{name}: {python} is Python {failed.too_old}, and {need} or newer is needed",
                    f"install a newer one there and name it: edgeprof devices add {name} ... --python /path/python3",
                )
            if failed.error is not None:
                kind_of_error = NoSpace if failed.is_full else AgentError
                raise kind_of_error(f"{name}: {request['verb']}: {failed.error}", "make room there, or mend it")
            return msgspec.json.decode(said, type=kind)
        except msgspec.DecodeError as error:
            raise ProtocolError(f"{name}: {python} answered garbage: {error}", "try again") from error


@cache
def _program() -> str:
    return resources.files("edgeprof.setting_up").joinpath("on_device.py").read_text(encoding="utf-8")
