"""Talk to the agent on a device: ask, wait, never for ever. How it gets there and starts: edgeprof/launch.py."""

from __future__ import annotations

import getpass
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import msgspec

from device_agents import wire
from edgeprof.deadlines import Deadlines
from edgeprof.errors import AgentLost, JobRefused, LinkError, NoSpace, ProtocolError
from edgeprof.launch import Envelope, Launch, decode, envelope
from edgeprof.links import Link, OnSent, Process

__all__ = ["Agent", "new_claim"]

OnProgress = Callable[[wire.Progress], None]

# Below these a link or a disk is taken for dead: a weak 2.4 GHz link, an old SD card.
SLOWEST_LINK_BYTES_PER_S = 100e3
SLOWEST_DISK_BYTES_PER_S = 5e6
# A lease ends by itself some time after the job that it is for must have ended.
LEASE_MARGIN_S = 60.0


def new_claim(purpose: str, valid_s: float, session: str | None = None) -> wire.Claim:
    """The claim of this user, for `valid_s` from each job submitted under it; of a new session, or a known one."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        user = "somebody"
    return wire.Claim(f"{user}@{socket.gethostname()}", purpose, session or secrets.token_hex(8), valid_s)


class Agent:
    """One agent process on one device, for one Python there. A context manager; entering pushes and starts it.

    `stages_s` tells what the start and the transfers cost, by name. `slot` is the simulated board that is meant, empty
    for the machine itself. `claim` says who wants the device; without one, every job is a session of its own.

    Raises (on entering):
        NoPython: no such Python there, or it is older than 3.9.
        AgentError: the agent cannot be put there, or does not start.
        LinkError: the link broke.
    """

    def __init__(
        self,
        link: Link,
        python: str,
        *,
        name: str = "device",
        slot: str = "",
        claim: wire.Claim | None = None,
        deadlines: Deadlines | None = None,
    ) -> None:
        self.stages_s: dict[str, float] = {}
        self._link = link
        self._python = python
        self._name = name
        self._slot = slot
        self._claim = claim
        self._deadlines = deadlines or Deadlines()
        self._next_id = 0
        self._process: Process | None = None

    def __enter__(self) -> Self:
        launch = Launch(self._link, self._python, name=self._name, slot=self._slot, deadlines=self._deadlines)
        self._process, self.hello = launch.start()
        self.stages_s.update(launch.stages_s)
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
        """Whether the agent still answers; one that heard nothing for long has left (docs/protocol.md)."""
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
            JobRefused: the device cannot do it; `kind` says why. "leased": another session has it.
            ProtocolError: it answers with the result of another job.
            AgentLost: no sign of life for longer than the deadline allows.
        """
        within_s = job.deadline_s + self._deadlines.answer_s
        files = [*job.model.files, *(item.file for item in job.inputs)]
        with self._patience(sum(file.size_bytes for file in files)):
            measure = wire.Measure(job, self._claim_for(job))
            profile: wire.Profile = self._ask("profile", measure, "profile", within_s, on_progress)
        return self._of_job(profile, job)

    def energy(self, job: wire.Job, on_progress: OnProgress | None = None) -> wire.Energy:
        """Have the energy pass alone of a job, whose files are on the device, measured by its plan.

        Raises:
            JobRefused, AgentLost: as for `profile`.
        """
        within_s = job.deadline_s + self._deadlines.answer_s
        with self._patience(sum(file.size_bytes for file in job.model.files)):
            measure = wire.Measure(job, self._claim_for(job))
            energy: wire.Energy = self._ask("energy", measure, "energy", within_s, on_progress)
        if energy.job != job:
            raise ProtocolError(f"{self._name}: the device answered with the energy of another job", "measure again")
        return energy

    def meters(self) -> tuple[wire.MeterInfo, ...]:
        """Every power meter of the device, the preferred one first; also those that cannot be read now."""
        answer: wire.Meters = self._ask("meters", wire.Nothing(), "meters")
        return answer.meters

    def topology(self, board: wire.Board | None = None) -> wire.Topology:
        """The device's CPUs, which share a clock, and whose may be capped; or those of a board that it simulates."""
        answer: wire.Topology = self._ask("topology", wire.TopologyWanted(board), "topology")
        return answer

    def clocks(self) -> wire.ClockReading:
        """The device's clocks at some instant between asking and the answer."""
        answer: wire.ClockReading = self._ask("ping", wire.Nothing(), "pong")
        return answer

    def outputs(self, job: wire.Job) -> wire.Outputs:
        """What a model that is on the device computes from the job's inputs, in one inference.

        Raises:
            JobRefused, AgentLost: as for `profile`.
        """
        within_s = job.deadline_s + self._deadlines.answer_s
        with self._patience(sum(file.size_bytes for file in job.model.files)):
            outputs: wire.Outputs = self._ask("outputs", job, "outputs", within_s)
        return outputs

    # --- what outlives this agent ---

    def submit(self, ticket: str, job: wire.Job, label: str = "", linger_s: float = 0.0) -> wire.Ticket:
        """Have a job, whose files are on the device, measured there whatever becomes of this link.

        A `ticket` (letters, digits, dot, dash, underscore; at most 120) that is there already is left as it is, and its
        state is answered. The device stays this session's for `linger_s` after its last job.

        Raises:
            JobRefused: "leased" to another session, or "no-space".
        """
        submit = wire.Submit(ticket, job, self._claim_for(job), label, linger_s)
        answer: wire.Ticket = self._ask("submit", submit, "submitted")
        return answer

    def follow(
        self, ticket: str, job: wire.Job | None, on_progress: OnProgress | None = None, within_s: float | None = None
    ) -> wire.Profile:
        """Wait for a ticket's result, which stays on the device until it is discarded. `job` None accepts any.

        Without `within_s` as long as the job may take; a queue before it needs more.

        Raises:
            JobRefused: how the job failed; or "interrupted", "no-such-ticket", "corrupt-result", "keeper-silent".
            ProtocolError: it is the result of another job.
            AgentLost: no sign of life, or no result within `within_s`.
        """
        if within_s is None and job is not None:
            within_s = job.deadline_s + self._deadlines.answer_s
        profile: wire.Profile = self._ask(
            "follow", wire.Follow(ticket, self._deadlines.silence_s), "profile", within_s, on_progress
        )
        return profile if job is None else self._of_job(profile, job)

    def tickets(self) -> wire.Tickets:
        """Every ticket on the device, and who has the device."""
        answer: wire.Tickets = self._ask("tickets", wire.Nothing(), "tickets")
        return answer

    def discard(self, ticket: str) -> None:
        """Remove a ticket with all its files; a job that runs is ended."""
        self._ask("discard", wire.Discard(ticket), "discarded")

    def release(self) -> None:
        """Give the device up as soon as the queue of this session is empty."""
        if self._claim is not None:
            self._ask("release", wire.Release(self._claim.session), "released")

    def lease(self) -> wire.Lease | None:
        """Who has the device; None for nobody."""
        answer: wire.Holder = self._ask("lease", wire.Nothing(), "lease")
        return answer.lease

    def unlock(self) -> wire.Lease | None:
        """Throw out whoever has the device, and kill what measures; who that was.

        Raises:
            JobRefused: "no-permission"; another account has it.
        """
        answer: wire.Holder = self._ask("unlock", wire.Nothing(), "unlocked")
        return answer.lease

    def _claim_for(self, job: wire.Job) -> wire.Claim:
        return self._claim or new_claim(f"profile of {job.model.name}", job.deadline_s + LEASE_MARGIN_S)

    def _of_job(self, profile: wire.Profile, job: wire.Job) -> wire.Profile:
        if profile.job != job:
            raise ProtocolError(
                f"{self._name}: the device answered with the result of another job, of {profile.job.model.name}",
                "discard it and measure again",
            )
        return profile

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
            reply = self._next_reply(until)
            if reply.id != request_id:
                continue  # a pong, or the late answer to a request that was given up
            if reply.reply == "progress":
                if on_progress is not None:
                    on_progress(decode(reply, self._name))
            elif reply.reply == "refused":
                refused: wire.Refused = decode(reply, self._name)
                advice = refused.advice
                if refused.kind in ("leased", "keeper-silent") and not advice:
                    advice = (
                        f"wait until it is free (--wait 10m); or throw them out: edgeprof devices unlock {self._name}"
                    )
                raise JobRefused(f"{self._name}: {refused.message}", advice, refused.kind, refused.detail)
            elif reply.reply == expected:
                return decode(reply, self._name)
            else:
                raise ProtocolError(f"{self._name}: expected {expected}, the agent answered {reply.reply!r}")

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

    def _next_reply(self, until: float) -> Envelope:
        """The next envelope; while there is none, ask every few seconds whether the agent is still there."""
        process, heard_at, held_bytes = self._running(), time.monotonic(), 0
        while True:
            now = time.monotonic()
            if now >= until or now - heard_at >= self._deadlines.silence_s:
                raise AgentLost(
                    f"{self._name}: no answer from the agent for {now - heard_at:.0f} s", "is the device up?"
                )
            try:
                line = process.read_line(min(self._deadlines.beat_s, until - now), wire.MAX_REPLY_BYTES)
            except TimeoutError:
                if process.held_bytes > held_bytes:
                    heard_at, held_bytes = time.monotonic(), process.held_bytes
                self._send("ping", wire.Nothing())
                continue
            except LinkError as error:
                raise self._lost(process, str(error)) from error
            if line is None:
                raise self._lost(process, "it ended")
            return envelope(line, self._name)
