"""The agent: says hello, answers requests line by line, has a worker measure, and leaves when the host is gone.

It never measures itself: it sleeps in select while a worker runs, so that a crash, a hang or a full memory of the
runtime is an answer and not the end.
"""

import contextlib
import dataclasses
import json
import math
import os
import select
import signal
import sys
import time
import traceback
from typing import Any, Dict, List, Optional

from device_agents import clock_record, conditions, files
from device_agents.decoding import WireError
from device_agents.keeper_socket import Connection
from device_agents.lease import HeldLease, LeaseError, acquire, boot_id, holder, lease_path, unlock
from device_agents.machine import Machine, python_version, this_machine
from device_agents.messenger import Messenger, silent
from device_agents.runtimes.available import installed
from device_agents.spool import wanted_files
from device_agents.streams import LineBuffer, claim_stdout
from device_agents.task import STDERR_TAIL_BYTES, Outcome, Task, digest_of, own_program
from device_agents.wire import (
    ENERGY_PASS,
    LATENCY,
    MAX_REQUEST_BYTES,
    OUTPUTS,
    PROTOCOL,
    Adopt,
    Claim,
    Discard,
    FilesMissing,
    FilesWanted,
    Follow,
    Hello,
    Holder,
    Job,
    Measure,
    Meters,
    Nothing,
    Refused,
    Release,
    Reply,
    Request,
    Submit,
    TopologyWanted,
    decode_request,
    encode,
)

# A host that says nothing for this long is gone, though the network may not know yet: hosts send a ping every few
# seconds while they wait. A host that waits longer, or shorter, says so when it starts us.
SILENCE_S = 120.0
ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def main() -> int:
    """Serve until standard input ends; returns the exit code."""
    slot = sys.argv[2] if len(sys.argv) > 2 else ""
    silence_s = float(sys.argv[3]) if len(sys.argv) > 3 else SILENCE_S
    agent = Agent(claim_stdout(), slot, silence_s)
    for number in ENDING:
        signal.signal(number, lambda *_: sys.exit(1))
    try:
        agent.serve()
    except BrokenPipeError:
        pass  # the host is gone; there is nobody to tell
    finally:
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)  # a second request to end must not cut cleaning up short
        agent.stop_worker()
        files.remove_own_scratch()
    return 0


class Agent:
    """The serving loop, the one job it may run itself, and the tickets it follows for its host."""

    def __init__(self, replies: Any, slot: str, silence_s: float = SILENCE_S) -> None:
        self._replies = replies
        self._slot = slot
        self._silence_s = silence_s
        self._host = LineBuffer(0, MAX_REQUEST_BYTES)
        self._task: Optional[Task] = None
        self._task_id = 0
        self._lease: Optional[HeldLease] = None
        self._followed: Dict[str, Followed] = {}

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            os.utime(sys.argv[0])  # in use: not to be removed as long unused
        files.remove_leftovers()
        clock_record.put_back_leftovers(Machine())
        self._send(0, "hello", dataclasses.asdict(self.hello()))
        heard_at = time.monotonic()
        while not self._host.is_at_end and time.monotonic() - heard_at < self._silence_s:
            ready = self._wait()
            if 0 in ready:
                heard_at = time.monotonic()
                for line in self._host.read():
                    self._answer(line)
            if self._task is not None:
                self._advance(self._task, self._task.descriptor in ready)
            for ticket, followed in list(self._followed.items()):
                if followed.connection.descriptor in ready:
                    self._pass_on(ticket, followed)
                elif followed.patience_s <= 0:
                    self._give_up(ticket, followed)

    def _wait(self) -> List[int]:
        watched = [0, *(followed.connection.descriptor for followed in self._followed.values())]
        patience_s = self._silence_s
        if self._task is not None:
            watched.append(self._task.descriptor)
            patience_s = min(patience_s, self._task.deadline - time.monotonic())
        if self._lease is not None:
            patience_s = min(patience_s, self._lease.expires_in_s)
        patience_s = min([patience_s, *(followed.patience_s for followed in self._followed.values())])
        return select.select(watched, [], [], max(0.0, patience_s))[0]

    def hello(self) -> Hello:
        return Hello(
            protocol=PROTOCOL,
            agent_digest=digest_of(sys.argv[0]),
            python=python_version(),
            machine=this_machine().describe(),
            runtimes=installed(),
            cache_dir=files.cache_dir(),
            free_bytes=files.free_bytes(),
            user_id=os.getuid(),
            boot_id=boot_id(),
        )

    def _send(self, request_id: int, reply: str, body: Dict[str, Any]) -> None:
        line = json.dumps({"id": request_id, "reply": reply, "body": body}, allow_nan=False, separators=(",", ":"))
        self._replies.write(line.encode() + b"\n")
        self._replies.flush()

    def _refuse(self, request_id: int, refused: Refused) -> None:
        self._replies.write(encode(Reply(request_id, "refused", refused)))
        self._replies.flush()

    def _answer(self, line: bytes) -> None:
        """One request, one answer; a job's answer comes when its worker is done."""
        try:
            request = decode_request(line)
        except WireError as error:
            self._refuse(0, Refused("bad-request", str(error), "are host and agent of the same version?"))
            return
        try:
            self._dispatch(request)
        except files.FileError as error:
            self._refuse(request.id, Refused(error.kind, str(error)))
        except LeaseError as error:
            self._refuse(request.id, Refused(error.kind, str(error), error.advice))
        except Exception as error:
            self.stop_worker()
            message = f"{type(error).__name__}: {error}"
            detail = traceback.format_exc()[-STDERR_TAIL_BYTES:]
            self._refuse(request.id, Refused("internal", message, "this is a defect: please report it", detail))

    def _dispatch(self, request: Request) -> None:
        body = request.body
        if isinstance(body, Measure):
            self._begin(request.id, body.job, ENERGY_PASS if request.request == "energy" else LATENCY, body.claim)
        elif isinstance(body, Job):
            self._begin(request.id, body, OUTPUTS, None)
        elif isinstance(body, FilesWanted):
            absent = files.missing(body.files, wanted_files())
            partial_bytes = sum(files.partial_bytes(file) for file in body.files if file.sha256 in absent)
            answer = FilesMissing(tuple(absent), files.folder("uploads"), files.free_bytes(), partial_bytes)
            self._send(request.id, "missing", dataclasses.asdict(answer))
        elif isinstance(body, Adopt):
            files.adopt(body.upload, body.file)
            self._send(request.id, "adopted", dataclasses.asdict(Nothing()))
        elif request.request == "conditions":
            self._send(request.id, "conditions", dataclasses.asdict(conditions.read(this_machine())))
        elif request.request == "meters":
            from device_agents.power import discover  # only where it is asked for: an agent shall start at once

            self._send(request.id, "meters", dataclasses.asdict(Meters(discover(this_machine()))))
        elif isinstance(body, TopologyWanted):
            self._send(request.id, "topology", _topology(body))
        elif request.request == "ping":
            self._send(request.id, "pong", dataclasses.asdict(Machine().clocks()))
            for ticket, followed in self._followed.items():
                followed.ask(ticket)
        else:
            self._dispatch_shared(request)

    def _dispatch_shared(self, request: Request) -> None:
        """What concerns the device's lease and its spool."""
        body = request.body
        if isinstance(body, Follow):
            self._follow(request.id, body)
        elif isinstance(body, Submit):
            self._send(request.id, *Messenger(self._slot).submit(body))
        elif isinstance(body, Discard):
            self._send(request.id, *Messenger(self._slot).discard(body.ticket))
        elif isinstance(body, Release):
            self._send(request.id, *Messenger(self._slot).release(body.session))
        elif request.request == "tickets":
            self._send(request.id, "tickets", dataclasses.asdict(Messenger(self._slot).tickets()))
        elif request.request == "lease":
            self._send(request.id, "lease", dataclasses.asdict(Holder(holder(lease_path(self._slot)))))
        else:
            self._unlock(request.id)

    # --- a job of this link ---

    def _begin(self, request_id: int, job: Job, first_pass: str, claim: Optional[Claim]) -> None:
        """Run a job here; one that is timed has the device to itself, which needs a claim."""
        if self._task is not None:
            self._refuse(request_id, Refused("busy", "the agent is already measuring"))
            return
        if claim is not None:
            self._lease = acquire(lease_path(self._slot), claim)
        descriptor = self._lease.descriptor if self._lease is not None else None
        self._task, self._task_id = Task(job, first_pass, own_program(), descriptor), request_id
        outcome = self._task.begin()
        if outcome is not None:
            self._finish(*outcome)

    def _advance(self, task: Task, is_readable: bool) -> None:
        outcome: Optional[Outcome] = task.advance(is_readable, lambda body: self._send(self._task_id, "progress", body))
        if outcome is None and self._lease is not None and self._lease.expires_in_s <= 0:
            message, advice = "the lease on the device ended before the job did", "ask for the device for longer"
            outcome = "refused", dataclasses.asdict(Refused("lease-expired", message, advice))
        if outcome is not None:
            self._finish(*outcome)

    def _finish(self, reply: str, body: Dict[str, Any]) -> None:
        is_ours = self._lease is None or self._lease.is_mine()
        self.stop_worker()
        if not is_ours:
            message = "another took the device while this was measured: the result is thrown away"
            reply, body = "refused", dataclasses.asdict(Refused("lease-lost", message, "measure again"))
        self._send(self._task_id, reply, body)

    def stop_worker(self) -> None:
        """Kill the worker, if there is one, remove its files, and let others have the device."""
        if self._task is not None:
            self._task.close()
            self._task = None
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    def _unlock(self, request_id: int) -> None:
        thrown_out = unlock(lease_path(self._slot))
        if self._lease is not None:  # a job of our own that the host no longer waits for
            self._finish("refused", dataclasses.asdict(Refused("unlocked", "the device was unlocked")))
        self._send(request_id, "unlocked", dataclasses.asdict(Holder(thrown_out)))

    # --- tickets that a keeper works on ---

    def _follow(self, request_id: int, follow: Follow) -> None:
        ticket = follow.ticket
        self._unfollow(ticket)
        connection = Messenger(self._slot).follow(ticket)
        if connection is None:
            self._send_ending(request_id, ticket)
        else:
            self._followed[ticket] = Followed(request_id, connection, follow.silence_s)

    def _pass_on(self, ticket: str, followed: "Followed") -> None:
        try:
            replies = followed.connection.read()
        except (OSError, ValueError, WireError):
            replies = [{"reply": "look"}]
        followed.asked_at = None
        for reply in replies:
            if reply["reply"] == "progress":
                self._send(followed.request_id, "progress", reply["body"])
            elif reply["reply"] == "outcome":  # the disk was too full for it
                self._unfollow(ticket)
                self._send(followed.request_id, reply["body"]["reply"], reply["body"]["body"])
                return
            elif reply["reply"] != "wait":
                self._end_following(ticket, followed)
                return
        if followed.connection.is_at_end:
            self._end_following(ticket, followed)

    def _end_following(self, ticket: str, followed: "Followed") -> None:
        self._unfollow(ticket)
        self._send_ending(followed.request_id, ticket)

    def _give_up(self, ticket: str, followed: "Followed") -> None:
        """The kernel keeps a frozen keeper's connections open for ever."""
        self._unfollow(ticket)
        error = silent()
        self._refuse(followed.request_id, Refused(error.kind, str(error)))

    def _unfollow(self, ticket: str) -> None:
        followed = self._followed.pop(ticket, None)
        if followed is not None:
            followed.connection.close()

    def _send_ending(self, request_id: int, ticket: str) -> None:
        try:
            reply, body = Messenger(self._slot).ending(ticket)
        except files.FileError as error:
            advice = "discard it and submit the job again"
            self._refuse(request_id, Refused(error.kind, str(error), advice))
            return
        self._replies.write(b'{"id":%d,"reply":"%s","body":%s}\n' % (request_id, reply.encode(), body))
        self._replies.flush()


def _topology(wanted: TopologyWanted) -> Dict[str, Any]:
    """Of this device, or of a board that it simulates, by the same reader."""
    from device_agents import topology  # only where it is asked for, as the meters

    machine = this_machine()
    if wanted.board is not None:
        from device_agents.runtimes.simulated_machine import SimulatedMachine

        machine = SimulatedMachine(wanted.board, seed=0)
    return dataclasses.asdict(topology.read(machine))


class Followed:
    """A ticket that the host follows: the request to answer, and the keeper that tells."""

    def __init__(self, request_id: int, connection: Connection, silence_s: float) -> None:
        self.request_id = request_id
        self.connection = connection
        self.asked_at: Optional[float] = time.monotonic()
        self._silence_s = silence_s

    def ask(self, ticket: str) -> None:
        """Have the keeper say something, if only that nothing has changed."""
        if self.asked_at is None:
            self.asked_at = time.monotonic()
            with contextlib.suppress(OSError):  # it has left: reading tells
                self.connection.send("follow", {"ticket": ticket})

    @property
    def patience_s(self) -> float:
        """How long it may still be silent."""
        return math.inf if self.asked_at is None else self.asked_at + self._silence_s - time.monotonic()
