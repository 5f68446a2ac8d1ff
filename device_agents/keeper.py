"""The keeper: holds the device's lease, measures the jobs handed to it one after the other, and spools each outcome.

It is a process of its own that no link can take along. Serving agents are its only visitors, by the socket in its
folder (keeper_socket.py); they come and go. While a worker measures, the keeper sleeps in select.

It ends when its queue is empty and it has heard nothing for as long as its session asked it to stay, when its lease is
over, or when the lease was taken from it: what it measures then is nobody's, and is thrown away.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections import deque
from typing import Any, Deque, Dict, List, Optional, Tuple

from device_agents import clock_record, files, keeper_socket
from device_agents.decoding import WireError, build
from device_agents.lease import HeldLease, LeaseError, acquire, lease_path
from device_agents.machine import Machine
from device_agents.spool import Order, Spool
from device_agents.streams import LineBuffer
from device_agents.task import STDERR_TAIL_BYTES, Outcome, Task
from device_agents.wire import LATENCY, MAX_REQUEST_BYTES, RUNNING, WAITING, Refused

# Once a disk was full: how often to try again, and how long to keep in memory what it would not take.
RETRY_S, KEEP_UNWRITTEN_S = 5.0, 3600.0
# A visitor that reads nothing must not keep the keeper from its work.
SEND_S = 10.0
IDLE_S = 3600.0

Answer = Tuple[str, Dict[str, Any]]


def main() -> int:
    """Read the first order from standard input, answer it on standard output, then live without either."""
    if os.fork():
        os._exit(0)  # whoever started us need not wait for us ever again
    os.setsid()
    line = sys.stdin.buffer.readline()
    if not line:
        return 1
    with contextlib.ExitStack() as stack:
        try:
            keeper = _settle(Spool(sys.argv[2] if len(sys.argv) > 2 else ""))
            if keeper is not None:
                stack.callback(keeper.close)
            answer = ("busy", {}) if keeper is None else keeper.submit(build(Order, json.loads(line), "$"))
            is_hired = keeper is not None
        except (OSError, files.FileError, LeaseError) as error:
            answer, is_hired = _refusal(error), False
        sys.stdout.buffer.write(_line(*answer))
        sys.stdout.flush()
        if keeper is not None and is_hired:
            _detach()
            keeper.run()
    return 0


def _settle(spool: Spool) -> "Optional[Keeper]":
    """The one keeper of this folder; None if there is one already."""
    lock = os.open(os.path.join(spool.folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    files.remove_leftovers()
    clock_record.put_back_leftovers(Machine())
    spool.interrupt()
    return Keeper(spool, keeper_socket.listen(spool.folder))


def _detach() -> None:
    """Let go of the standard streams: they belong to a link."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)
    # A handler instead of SIG_IGN, which workers would inherit.
    signal.signal(signal.SIGHUP, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(1))


class Keeper:
    """The loop, the queue, and the one task that may run. It lives as long as the lock of its folder is held."""

    def __init__(self, spool: Spool, listener: socket.socket) -> None:
        self._spool = spool
        self._listener = listener
        self._lease: Optional[HeldLease] = None
        self._visitors: Dict[int, Visitor] = {}
        self._queue: Deque[str] = deque()
        self._running: Optional[str] = None
        self._task: Optional[Task] = None
        self._progress: Optional[Dict[str, Any]] = None
        self._unwritten: Dict[str, Outcome] = {}
        self._unwritten_since = 0.0
        self._linger_s = 0.0
        self._heard_at = time.monotonic()

    def run(self) -> None:
        """Until there is nothing more to do."""
        while not self._is_over():
            self._begin_next()
            watched: List[int] = [self._listener.fileno(), *self._visitors]
            if self._task is not None:
                watched.append(self._task.descriptor)
            ready, _, _ = select.select(watched, [], [], self._patience_s())
            self._hear(ready)
            if self._task is not None:
                self._advance(self._task, self._task.descriptor in ready)
            if self._lease is not None and self._lease.expires_in_s <= 0:
                self._expire()
            if self._unwritten:
                self._write_again()

    def close(self) -> None:
        """End what runs and leave; what waits is interrupted then."""
        if self._task is not None:
            self._task.close()
        files.remove_own_scratch()
        self._spool.interrupt()
        keeper_socket.remove(self._spool.folder)
        self._listener.close()
        self._let_go()

    # --- requests ---

    def submit(self, order: Order) -> Answer:
        """Take an order into the queue, with a claim on the device.

        Raises:
            LeaseError: another session has the device.
            FileError: there is no room for it.
        """
        ticket, claim = order.submit.ticket, order.submit.claim
        if self._spool.state(ticket) is None:
            if self._lease is not None and not self._lease.is_mine():
                self._fall()
            if self._lease is None:
                self._lease = acquire(lease_path(self._spool.slot), claim)
            else:
                self._lease.extend(claim)
            self._linger_s = order.submit.linger_s
            self._spool.add(order)
            self._queue.append(ticket)
        state = RUNNING if ticket == self._running else self._spool.state(ticket) or WAITING
        return "submitted", dataclasses.asdict(self._spool.ticket(ticket, state))

    def _hear(self, ready: List[int]) -> None:
        if self._listener.fileno() in ready:
            with contextlib.suppress(OSError):
                end, _ = self._listener.accept()
                self._visitors[end.fileno()] = Visitor(end)
        for visitor in [self._visitors[d] for d in ready if d in self._visitors]:
            try:
                for request in visitor.read():
                    visitor.send(*self._answer(request["request"], request["body"], visitor))
            except (OSError, ValueError, LookupError, TypeError, WireError):
                visitor.is_gone = True
            if visitor.is_gone:
                del self._visitors[visitor.descriptor]
                visitor.close()

    def _answer(self, request: str, body: Dict[str, Any], visitor: "Visitor") -> Answer:
        if request != "tickets":
            self._heard_at = time.monotonic()  # of the session; anybody may look, and that keeps nobody waiting
        try:
            if request == "submit":
                return self.submit(build(Order, body, "$"))
            if request == "follow":
                return self._follow(body["ticket"], visitor)
            if request == "discard":
                self._discard(body["ticket"])
                return "discarded", {}
            if request == "release":
                self._release(body["session"])
                return "released", {}
            return "tickets", self._known()
        except (files.FileError, LeaseError) as error:
            return _refusal(error)

    def _known(self) -> Dict[str, Any]:
        """What the disk does not tell: how far the running job is, and which are done though the disk is full."""
        return {"running": self._running, "progress": self._progress, "unwritten": list(self._unwritten)}

    def _follow(self, ticket: str, visitor: "Visitor") -> Answer:
        if ticket in self._unwritten:
            reply, body = self._unwritten[ticket]
            return "outcome", {"reply": reply, "body": body}
        if ticket != self._running and ticket not in self._queue:
            return "look", {}  # the disk knows
        visitor.follows = ticket
        if ticket == self._running and self._progress is not None:
            return "progress", self._progress
        return "wait", {}

    def _discard(self, ticket: str) -> None:
        if ticket == self._running:
            self._forget_task()
        with contextlib.suppress(ValueError):
            self._queue.remove(ticket)
        self._unwritten.pop(ticket, None)
        self._spool.discard(ticket)
        self._tell(ticket)

    def _release(self, session: str) -> None:
        if self._lease is not None and self._lease.is_of(session):
            self._linger_s = 0.0

    # --- measuring ---

    def _begin_next(self) -> None:
        while self._task is None and self._queue and self._lease is not None:
            if not self._lease.is_mine():
                self._fall()
                return
            ticket = self._queue.popleft()
            order = self._spool.order(ticket)
            self._running = ticket
            if order is None:
                self._end("refused", dataclasses.asdict(Refused("corrupt-order", f"the order of {ticket} is damaged")))
                continue
            with contextlib.suppress(OSError):
                self._spool.start(ticket)
            self._task = Task(order.submit.job, LATENCY, order.program, self._lease.descriptor)
            outcome = self._guarded(self._task.begin)
            if outcome is not None:
                self._end(*outcome)

    def _advance(self, task: Task, is_readable: bool) -> None:
        outcome = self._guarded(lambda: task.advance(is_readable, self._report))
        if outcome is not None:
            self._end(*outcome)

    def _guarded(self, step: Any) -> Optional[Outcome]:
        """A defect costs its own job, not those that wait."""
        try:
            outcome: Optional[Outcome] = step()
        except Exception as error:
            detail = traceback.format_exc()[-STDERR_TAIL_BYTES:]
            advice = "this is a defect: please report it"
            return _refused("internal", f"{type(error).__name__}: {error}", advice, detail)
        return outcome

    def _report(self, progress: Dict[str, Any]) -> None:
        self._progress = progress
        for visitor in list(self._visitors.values()):
            if visitor.follows == self._running:
                visitor.send_if_it_reads("progress", progress)

    def _end(self, reply: str, body: Dict[str, Any]) -> None:
        """Keep the outcome of the running job, if the device is still ours."""
        ticket = self._running or ""
        self._forget_task()
        self._heard_at = time.monotonic()
        if self._lease is None or not self._lease.is_mine():
            self._fall()
            self._tell(ticket)
            return
        try:
            self._spool.finish(ticket, reply, body)
        except OSError:
            self._unwritten[ticket] = reply, body
            self._unwritten_since = time.monotonic()
        self._tell(ticket)

    def _forget_task(self) -> None:
        if self._task is not None:
            self._task.close()
        self._task = self._running = self._progress = None

    def _tell(self, ticket: str) -> None:
        """Let those who follow a ticket know that it has ended."""
        for visitor in list(self._visitors.values()):
            if visitor.follows == ticket:
                visitor.follows = None
                with contextlib.suppress(OSError):
                    reply, body = self._unwritten.get(ticket, ("", {}))
                    visitor.send(*(("outcome", {"reply": reply, "body": body}) if reply else ("look", {})))

    def _write_again(self) -> None:
        if time.monotonic() - self._unwritten_since < RETRY_S:
            return
        self._unwritten_since = time.monotonic()
        for ticket, outcome in list(self._unwritten.items()):
            with contextlib.suppress(OSError):
                self._spool.finish(ticket, *outcome)
                del self._unwritten[ticket]

    # --- the end ---

    def _is_over(self) -> bool:
        if self._task is not None or (self._queue and self._lease is not None):
            return False
        idle_s = time.monotonic() - self._heard_at
        if idle_s >= self._linger_s or self._lease is None:
            self._let_go()
            return not self._unwritten or idle_s >= KEEP_UNWRITTEN_S
        return False

    def _patience_s(self) -> float:
        now = time.monotonic()
        waits = [IDLE_S]
        if self._task is not None:
            waits.append(self._task.deadline - now)
        elif self._lease is not None:
            waits.append(self._heard_at + self._linger_s - now)
        if self._lease is not None:
            waits.append(self._lease.expires_in_s)
        if self._unwritten:
            waits.append(RETRY_S)
        return max(0.0, min(waits))

    def _expire(self) -> None:
        """The time that was asked for is over: another may have the device from now on."""
        message = "the lease on the device ended before the job did"
        advice = "ask for the device for longer, or for fewer jobs"
        if self._running is not None:
            self._end(*_refused("lease-expired", message, advice))
        while self._queue and self._lease is not None:
            self._running = self._queue.popleft()
            self._end(*_refused("lease-expired", message, advice))
        self._let_go()

    def _fall(self) -> None:
        """Somebody took the device: nothing of ours may be measured on it any more."""
        self._let_go()
        self._queue.clear()
        self._spool.interrupt()

    def _let_go(self) -> None:
        if self._lease is not None:
            self._lease.release()
            self._lease = None


class Visitor:
    """A serving agent at the keeper's socket, and the ticket it waits for."""

    def __init__(self, end: socket.socket) -> None:
        end.settimeout(SEND_S)
        self._end = end
        self._lines = LineBuffer(end.fileno(), MAX_REQUEST_BYTES)
        self.descriptor = end.fileno()
        self.follows: Optional[str] = None
        self.is_gone = False

    def read(self) -> List[Dict[str, Any]]:
        lines = self._lines.read()
        self.is_gone = self._lines.is_at_end
        return [json.loads(line) for line in lines]

    def send(self, reply: str, body: Dict[str, Any]) -> None:
        self._end.sendall(_line(reply, body))

    def send_if_it_reads(self, reply: str, body: Dict[str, Any]) -> None:
        """For what may be missed: a visitor whose link stands still must not hold the keeper up."""
        data = _line(reply, body)
        with contextlib.suppress(OSError):
            if self._end.send(data, socket.MSG_DONTWAIT) < len(data):
                self._end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._end.close()


def _line(reply: str, body: Dict[str, Any]) -> bytes:
    return json.dumps({"reply": reply, "body": body}, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _refused(kind: str, message: str, advice: str = "", detail: str = "") -> Answer:
    return "refused", dataclasses.asdict(Refused(kind, message, advice, detail))


def _refusal(error: Exception) -> Answer:
    return _refused(getattr(error, "kind", "device-error"), str(error), getattr(error, "advice", ""))
