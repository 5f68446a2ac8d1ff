"""Bring the agent to a device and talk to it: push it under its content hash, start it, ask, wait, never for ever."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import msgspec

from device_agents import wire
from edgeprof.deadlines import Deadlines
from edgeprof.errors import (
    AgentError,
    AgentLost,
    JobRefused,
    LinkError,
    NoPython,
    NoSpace,
    ProtocolError,
    TransferError,
)
from edgeprof.links import Link, OnSent, Process
from edgeprof.packing import PackedAgent, pack_agent

__all__ = ["Agent"]

OnProgress = Callable[[wire.Progress], None]

OLDEST_PYTHON = (3, 9)
PROBE_MARK = b"edgeprof-probe "
# Runs on whatever Python the device has, to say which one that is and whether the agent is there; with a second
# argument it first verifies that upload and moves it into place. It must parse on Pythons that are far too old.
PROBE = """
import hashlib, json, os, sys
digest, base = sys.argv[1], os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
folder = os.path.join(base, "edgeprof", "agents")
path = os.path.join(folder, digest + ".pyz")
said = {"python": list(sys.version_info[:3]), "folder": folder, "path": path, "present": False}
said["free"] = said["error"] = None
def is_ours(name):
    with open(name, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest() == digest
try:
    if not os.path.isdir(folder):
        os.makedirs(folder, 0o700)
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
# Below these a link or a disk is taken for dead: a weak 2.4 GHz link, an old SD card.
SLOWEST_LINK_BYTES_PER_S = 100e3
SLOWEST_DISK_BYTES_PER_S = 5e6
# What a login shell may print before our program says its first line.
MAX_BANNER_LINES = 1000


class _Probe(msgspec.Struct):
    python: tuple[int, int, int]
    folder: str
    path: str
    present: bool
    free: int | None
    error: str | None


class _Envelope(msgspec.Struct):
    id: int
    reply: str
    body: msgspec.Raw


class Agent:
    """One agent process on one device, for one Python there. A context manager; entering pushes and starts it.

    `stages_s` tells what the start and the transfers cost, by name.

    Raises (on entering):
        NoPython: no such Python there, or it is older than 3.9.
        AgentError: the agent cannot be put there, or does not start.
        LinkError: the link broke.
    """

    def __init__(self, link: Link, python: str, *, name: str = "device", deadlines: Deadlines | None = None) -> None:
        self.stages_s: dict[str, float] = {}
        self._link = link
        self._python = python
        self._name = name
        self._deadlines = deadlines or Deadlines()
        self._next_id = 0
        self._process: Process | None = None

    def __enter__(self) -> Self:
        packed = pack_agent()
        with self._stage("probe"):
            probe = self._probe(packed)
        if not probe.present:
            with self._stage("push agent"):
                probe = self._push(packed, probe)
        with self._stage("start agent"):
            self._process = self._link.start([self._python, probe.path])
            try:
                self.hello = self._read_hello(self._process)
            except BaseException:
                self.close()
                raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the agent and every worker of it."""
        if self._process is not None:
            self._process.close()
            self._process = None

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.stages_s[name] = self.stages_s.get(name, 0.0) + time.perf_counter() - begin

    # --- start ---

    def _probe(self, packed: PackedAgent, upload: str | None = None) -> _Probe:
        arguments = [packed.digest] if upload is None else [packed.digest, upload]
        process = self._link.start([self._python, "-c", PROBE, *arguments])
        try:
            probe = self._read_probe(process)
        finally:
            process.close()
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

    def _read_probe(self, process: Process) -> _Probe:
        for line in self._lines(process):
            _, mark, said = line.partition(PROBE_MARK)  # a banner may end without a line end
            if mark:
                try:
                    return msgspec.json.decode(said, type=_Probe)
                except msgspec.DecodeError as error:
                    raise ProtocolError(f"{self._name}: the probe answered garbage: {error}") from error
        raise self._no_start(process)

    def _lines(self, process: Process) -> Iterator[bytes]:
        """Lines as they come, until the output ends or the start deadline is over."""
        until = time.monotonic() + self._deadlines.start_s
        for _ in range(MAX_BANNER_LINES):
            try:
                line = process.read_line(max(0.0, until - time.monotonic()), wire.MAX_REPLY_BYTES)
            except TimeoutError as error:
                raise AgentLost(
                    f"{self._name}: {self._python} said nothing within {self._deadlines.start_s:.0f} s",
                    "does the login shell there wait for input, or is the device very busy?",
                ) from error
            if line is None:
                return
            yield line

    def _no_start(self, process: Process) -> AgentError:
        """Why a program ended without the line that was expected."""
        try:
            code = process.wait(self._deadlines.answer_s)
        except TimeoutError:
            code = None
        tail = process.stderr_tail().strip()
        if code in (126, 127) or "not found" in tail or "No such file" in tail:
            return NoPython(
                f"{self._name}: there is no Python under the name {self._python}",
                f"install python3 there, or name one: edgeprof devices add {self._name} ... --python /path/python3",
            )
        said = f": {tail.splitlines()[-1]}" if tail else " and said nothing"
        return AgentError(
            f"{self._name}: {self._python} ended with code {code}{said}",
            f"try it by hand: {self._python} -c 'print(1)'; a start-up file of the shell may end the session",
        )

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
        for line in self._lines(process):
            start = line.find(HELLO_MARK)  # what stands before it is a login banner
            if start >= 0:
                envelope = self._envelope(line[start:])
                hello: wire.Hello = self._decode(envelope)
                if hello.protocol != wire.PROTOCOL:
                    raise ProtocolError(
                        f"{self._name}: the agent speaks protocol {hello.protocol}, not {wire.PROTOCOL}"
                    )
                return hello
        raise self._no_start(process)

    # --- requests ---

    def missing(self, files: Sequence[wire.FileRef]) -> wire.FilesMissing:
        """Which of these files the device does not have, and where to put them."""
        answer: wire.FilesMissing = self._ask("missing", wire.FilesWanted(tuple(files)), "missing")
        return answer

    def push(self, files: Sequence[tuple[wire.FileRef, Path | bytes]], on_progress: OnProgress | None = None) -> int:
        """Bring files of a model and of its inputs to the device, each verified there; returns the bytes sent.

        All that a job needs in one call: what is asked for together is not removed to make room for the rest. What an
        interrupted push has brought is not sent again.

        Raises:
            NoSpace: they do not fit.
            TransferError: one did not arrive whole.
        """
        with self._stage("push model"):
            wanted = self.missing([ref for ref, _ in files])
            absent = {ref.sha256: (ref, path) for ref, path in files if ref.sha256 in wanted.missing}
            total = sum(ref.size_bytes for ref, _ in absent.values())
            if total - wanted.partial_bytes > wanted.free_bytes:
                raise NoSpace(
                    f"{self._name}: the model needs {total} bytes, {wanted.free_bytes} are free in {wanted.upload_dir}",
                    "make room there",
                )
            sent_bytes = done_bytes = 0
            for ref, source in absent.values():
                tell = self._upload_progress(on_progress, done_bytes, total)
                sent_bytes += self._upload(ref, source, f"{wanted.upload_dir}/{ref.sha256}", tell)
                done_bytes += ref.size_bytes
            return sent_bytes

    def _upload(self, ref: wire.FileRef, source: Path | bytes, upload: str, tell: OnSent) -> int:
        """Send what is not there yet and have it verified; the bytes sent."""
        within_s = self._deadlines.transfer_s + ref.size_bytes / SLOWEST_LINK_BYTES_PER_S
        sent_bytes = self._link.put(source, upload, within_s, resume=True, on_progress=tell)
        try:
            self._adopt(upload, ref)
        except JobRefused as refusal:
            if refusal.kind != "corrupt-upload" or sent_bytes == ref.size_bytes:
                raise
            # What was there before was not what had been sent, as after a power cut: once more from the start.
            sent_bytes += self._link.put(source, upload, within_s, resume=True, on_progress=tell)
            self._adopt(upload, ref)
        return sent_bytes

    def _upload_progress(self, on_progress: OnProgress | None, before_bytes: int, total_bytes: int) -> OnSent:
        """Of one file's progress, that of all; the agent gets its heartbeat, lest it take its host for gone."""
        spoke_s = time.monotonic()

        def tell(arrived_bytes: int, _: int) -> None:
            nonlocal spoke_s
            if time.monotonic() - spoke_s >= self._deadlines.beat_s:
                spoke_s = time.monotonic()
                self._send("ping", wire.Nothing())
            if on_progress is not None:
                on_progress(wire.Progress("upload", before_bytes + arrived_bytes, total_bytes))

        return tell

    def _adopt(self, upload: str, ref: wire.FileRef) -> None:
        with self._patience(ref.size_bytes):
            self._ask("adopt", wire.Adopt(upload, ref), "adopted")

    def is_alive(self) -> bool:
        """Whether the agent still answers; one that heard nothing for two minutes has left."""
        try:
            self._ask("ping", wire.Nothing(), "pong")
        except (AgentLost, ProtocolError):
            return False
        return True

    def conditions(self) -> wire.Conditions:
        """The device as it is now."""
        answer: wire.Conditions = self._ask("conditions", wire.Nothing(), "conditions")
        return answer

    def profile(self, job: wire.Job, on_progress: OnProgress | None = None) -> wire.Profile:
        """Run a job whose model files are on the device.

        Raises:
            JobRefused: the device cannot do it; `kind` says why.
            AgentLost: no sign of life for longer than the deadline allows.
        """
        within_s = job.deadline_s + self._deadlines.answer_s
        files = [*job.model.files, *(item.file for item in job.inputs)]
        with self._patience(sum(file.size_bytes for file in files)):
            profile: wire.Profile = self._ask("profile", job, "profile", within_s, on_progress)
        return profile

    def outputs(self, job: wire.Job) -> wire.Outputs:
        """What a model that is on the device computes from the job's inputs, in one inference.

        Raises:
            JobRefused, AgentLost: as for `profile`.
        """
        within_s = job.deadline_s + self._deadlines.answer_s
        with self._patience(sum(file.size_bytes for file in job.model.files)):
            outputs: wire.Outputs = self._ask("outputs", job, "outputs", within_s)
        return outputs

    @contextmanager
    def _patience(self, size_bytes: int) -> Iterator[None]:
        """An agent that hashes or copies a large file does nothing else: allow it the time a slow card takes."""
        usual = self._deadlines
        more_s = size_bytes / SLOWEST_DISK_BYTES_PER_S
        self._deadlines = msgspec.structs.replace(
            usual, silence_s=usual.silence_s + more_s, answer_s=usual.answer_s + more_s
        )
        try:
            yield
        finally:
            self._deadlines = usual

    def _ask(
        self,
        request: str,
        body: Any,
        expected: str,
        within_s: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Any:
        request_id = self._send(request, body)
        until = time.monotonic() + (within_s or self._deadlines.answer_s)
        while True:
            envelope = self._next_reply(until)
            if envelope.id != request_id:
                continue  # a pong, or the late answer to a request that was given up
            if envelope.reply == "progress":
                if on_progress is not None:
                    on_progress(self._decode(envelope))
            elif envelope.reply == "refused":
                refused: wire.Refused = self._decode(envelope)
                raise JobRefused(f"{self._name}: {refused.message}", refused.advice, refused.kind, refused.detail)
            elif envelope.reply == expected:
                return self._decode(envelope)
            else:
                raise ProtocolError(f"{self._name}: expected {expected}, the agent answered {envelope.reply!r}")

    def _running(self) -> Process:
        if self._process is None:
            raise AgentLost(f"{self._name}: the agent is not running")
        return self._process

    def _send(self, request: str, body: Any) -> int:
        self._next_id += 1
        line = wire.encode(wire.Request(self._next_id, request, body))
        process = self._running()
        try:
            process.write(line, self._deadlines.answer_s)
        except LinkError as error:
            raise self._lost(process, str(error)) from error
        return self._next_id

    def _lost(self, process: Process, why: str) -> AgentLost:
        tail = process.stderr_tail().strip().splitlines()
        said = f"; it said: {tail[-1]}" if tail else ""
        return AgentLost(f"{self._name}: the agent is gone: {why}{said}", "is the device up? then try again")

    def _next_reply(self, until: float) -> _Envelope:
        """The next envelope; while there is none, ask every few seconds whether the agent is still there."""
        process, heard_at = self._running(), time.monotonic()
        while True:
            now = time.monotonic()
            if now >= until or now - heard_at >= self._deadlines.silence_s:
                raise AgentLost(
                    f"{self._name}: no answer from the agent for {now - heard_at:.0f} s", "is the device up?"
                )
            try:
                line = process.read_line(min(self._deadlines.beat_s, until - now), wire.MAX_REPLY_BYTES)
            except TimeoutError:
                self._send("ping", wire.Nothing())
                continue
            except LinkError as error:
                raise self._lost(process, str(error)) from error
            if line is None:
                raise self._lost(process, "it ended")
            return self._envelope(line)

    def _envelope(self, line: bytes) -> _Envelope:
        try:
            return msgspec.json.decode(line, type=_Envelope)
        except msgspec.DecodeError as error:
            raise ProtocolError(f"{self._name}: the agent sent garbage: {line[:80]!r}") from error

    def _decode(self, envelope: _Envelope) -> Any:
        kind = wire.REPLIES.get(envelope.reply)
        if kind is None:
            raise ProtocolError(f"{self._name}: unknown reply {envelope.reply!r}")
        try:
            return msgspec.json.decode(envelope.body, type=kind)
        except msgspec.DecodeError as error:
            raise ProtocolError(f"{self._name}: a wrong {envelope.reply}: {error}") from error
