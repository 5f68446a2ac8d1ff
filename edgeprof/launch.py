"""Bring the agent to a device and start it: probe, push it under its content hash, wait for its hello."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from device_agents import wire
from edgeprof.deadlines import Deadlines
from edgeprof.errors import AgentError, NoPython, NoSpace, ProtocolError, TransferError
from edgeprof.hearing import hear, lines, no_start
from edgeprof.links import Link, Process
from edgeprof.packing import PackedAgent, pack_agent

__all__ = ["Envelope", "Launch", "decode", "envelope"]

OLDEST_PYTHON = (3, 9)
PROBE_MARK = b"edgeprof-probe "
# Runs on whatever Python the device has, to say which one that is and whether the agent is there; with a second
# argument it first verifies that upload and moves it into place. It must parse on Pythons that are far too old.
PROBE = """
import hashlib, json, os, sys
digest, base = sys.argv[1], os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
folder = os.path.join(base, "edgeprof", "agents")
path = os.path.join(folder, digest + ".pyz")
was_there = os.path.isdir(base)
said = {"python": list(sys.version_info[:3]), "folder": folder, "path": path, "present": False}
said["free"] = said["error"] = None
def is_ours(name):
    with open(name, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest() == digest
try:
    try:
        os.makedirs(folder, 0o700)
    except OSError:
        if not os.path.isdir(folder):  # several hosts come for the first time at once
            raise
    if not was_there:  # `devices clean` then takes that folder along
        open(os.path.join(base, "edgeprof", "made-parent"), "w").close()
    if len(sys.argv) > 2:
        if is_ours(sys.argv[2]):
            os.rename(sys.argv[2], path)
        else:
            os.remove(sys.argv[2])
    said["present"] = os.path.isfile(path) and is_ours(path)
    s = os.statvfs(folder)
    said["free"] = s.f_bavail * s.f_frsize
except Exception:
    said["error"] = str(sys.exc_info()[1])
print("edgeprof-probe " + json.dumps(said))
"""
HELLO_MARK = b'{"id":0,"reply":"hello"'
# An agent leaves when its host was silent for so many times as long as the host would wait for a word of it.
SILENCES = 4


class _Probe(msgspec.Struct):
    python: tuple[int, int, int]
    folder: str
    path: str
    present: bool
    free: int | None
    error: str | None


class Envelope(msgspec.Struct):
    """A reply whose body is not yet read."""

    id: int
    reply: str
    body: msgspec.Raw


def envelope(line: bytes, name: str) -> Envelope:
    """A line of the agent on device `name`.

    Raises:
        ProtocolError: it is none.
    """
    try:
        return msgspec.json.decode(line, type=Envelope)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"{name}: the agent sent garbage: {line[:80]!r}") from error


def decode(reply: Envelope, name: str) -> Any:
    """The body of a reply, as what its name promises.

    Raises:
        ProtocolError: it is something else.
    """
    kind = wire.REPLIES.get(reply.reply)
    if kind is None:
        raise ProtocolError(f"{name}: unknown reply {reply.reply!r}")
    try:
        return msgspec.json.decode(reply.body, type=kind)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"{name}: a wrong {reply.reply}: {error}") from error


class Launch:
    """One start of one agent; `stages_s` tells what it cost, by name."""

    def __init__(self, link: Link, python: str, *, name: str, slot: str, deadlines: Deadlines) -> None:
        self.stages_s: dict[str, float] = {}
        self._link = link
        self._python = python
        self._name = name
        self._slot = slot
        self._deadlines = deadlines

    def start(self) -> tuple[Process, wire.Hello]:
        """The running agent, and what it said first.

        Raises:
            NoPython, AgentError, LinkError: as on entering an `Agent`.
        """
        packed = pack_agent()
        with self._stage("probe"):
            probe = self._probe(packed)
        if not probe.present:
            with self._stage("push agent"):
                probe = self._push(packed, probe)
        with self._stage("start agent"):
            silence_s = SILENCES * self._deadlines.silence_s
            process = self._link.start([self._python, probe.path, "serve", self._slot, f"{silence_s:g}"])
            try:
                return process, self._read_hello(process)
            except BaseException:
                process.close()
                raise

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.stages_s[name] = time.perf_counter() - begin

    def _probe(self, packed: PackedAgent, upload: str | None = None) -> _Probe:
        arguments = [packed.digest] if upload is None else [packed.digest, upload]
        argv = [self._python, "-c", PROBE, *arguments]
        said = hear(self._link, argv, PROBE_MARK, name=self._name, within_s=self._deadlines.start_s)
        try:
            probe = msgspec.json.decode(said, type=_Probe)
        except msgspec.DecodeError as error:
            raise ProtocolError(f"{self._name}: the probe answered garbage: {error}") from error
        if probe.python[:2] < OLDEST_PYTHON:
            have, need = ".".join(map(str, probe.python)), ".".join(map(str, OLDEST_PYTHON))
            raise NoPython(
                f"{self._name}: {self._python} is Python {have}, the agent needs {need} or newer",
                f"install a newer one there and name it: edgeprof devices add {self._name} ... --python /path/python3",
            )
        if probe.error is not None:
            kind = NoSpace if "space" in probe.error.lower() else AgentError
            raise kind(f"{self._name}: the agent cannot be kept in {probe.folder}: {probe.error}", "make room there")
        return probe

    def _push(self, packed: PackedAgent, probe: _Probe) -> _Probe:
        if probe.free is not None and probe.free < 2 * len(packed.data):
            raise NoSpace(
                f"{self._name}: {probe.free} bytes free in {probe.folder}, the agent needs {len(packed.data)}",
                "make room there",
            )
        # The suffix by which a later agent knows what an interrupted upload left.
        upload = f"{probe.path}.{secrets.token_hex(4)}.part"
        self._link.put(packed.data, upload, self._deadlines.transfer_s)
        installed = self._probe(packed, upload)
        if not installed.present:
            raise TransferError(f"{self._name}: the agent did not arrive whole in {probe.folder}", "try again")
        return installed

    def _read_hello(self, process: Process) -> wire.Hello:
        for line in lines(process, self._python, name=self._name, within_s=self._deadlines.start_s):
            start = line.find(HELLO_MARK)  # what stands before it is a login banner
            if start >= 0:
                hello: wire.Hello = decode(envelope(line[start:], self._name), self._name)
                if hello.protocol != wire.PROTOCOL:
                    raise ProtocolError(
                        f"{self._name}: the agent speaks protocol {hello.protocol}, not {wire.PROTOCOL}"
                    )
                return hello
        raise no_start(process, self._python, name=self._name, within_s=self._deadlines.answer_s)
