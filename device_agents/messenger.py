"""What a serving agent does about the spool: read it, and carry messages between the host and the keeper, if one lives.

Nothing here is remembered between two requests: any serving agent finds what another one left.
"""

import contextlib
import dataclasses
import json
import select
import subprocess
import time
from typing import Any, Dict, Iterator, Optional, Tuple

from device_agents import files, keeper_socket
from device_agents.decoding import build
from device_agents.keeper_socket import Connection
from device_agents.lease import boot_id, holder, lease_path
from device_agents.spool import UNFINISHED, Order, Spool
from device_agents.streams import LineBuffer
from device_agents.task import own_program
from device_agents.wire import (
    DONE,
    INTERRUPTED,
    MAX_REPLY_BYTES,
    RUNNING,
    Progress,
    Refused,
    Submit,
    Ticket,
    Tickets,
)

# A keeper answers at once unless it is frozen or the disk is very slow; starting one may mean throwing another out.
ANSWER_S, START_S, AGAIN_S = 10.0, 25.0, 0.1

Answer = Tuple[str, Dict[str, Any]]


class Messenger:
    """The spool of one slot as the host shall see it."""

    def __init__(self, slot: str) -> None:
        self._slot = slot
        self._spool = Spool(slot)

    def submit(self, submit: Submit) -> Answer:
        """Hand a job to the keeper, starting one where there is none.

        Raises:
            FileError: the ticket's name is none, or the keeper does not answer.
        """
        ticket = submit.ticket
        if self._spool.state(ticket) in (DONE, INTERRUPTED):
            return "submitted", dataclasses.asdict(self._without_keeper(ticket))
        order = dataclasses.asdict(Order(submit, own_program(), time.time(), boot_id()))
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            answer = self._ask("submit", order)
            if answer is None and self._spool.state(ticket) is not None:
                return "submitted", dataclasses.asdict(self._without_keeper(ticket))
            if answer is None:
                answer = self._start_keeper(order)
            if answer[0] != "busy":
                return answer
            time.sleep(AGAIN_S)  # another agent has just started one
        raise files.FileError("device-error", "the keeper of another agent version, or a frozen one, has the spool")

    def _without_keeper(self, ticket: str) -> Ticket:
        return self._spool.ticket(ticket, DONE if self._spool.state(ticket) == DONE else INTERRUPTED)

    def tickets(self) -> Tickets:
        """Every ticket, and who has the device.

        Raises:
            LeaseError: the lease file cannot be used.
        """
        known: Optional[Dict[str, Any]] = None
        is_alive = False
        # A frozen keeper is alive, too, but does not tell.
        with contextlib.suppress(files.FileError):
            answer = self._ask("tickets", {}, within_s=1.0)
            known = answer[1] if answer is not None else None
            is_alive = answer is not None
        if known is None:
            is_alive = is_alive or self._is_keeper_alive()
        tickets = []
        for name in self._spool.ids():
            state = self._spool.state(name)
            if state is not None:
                tickets.append(self._ticket(name, state, known or {}, is_alive))
        return Tickets(tuple(tickets), holder(lease_path(self._slot)), boot_id())

    def _ticket(self, name: str, state: str, known: Dict[str, Any], is_alive: bool) -> Ticket:
        if name in known.get("unwritten", ()):
            state = DONE
        elif name == known.get("running"):
            state = RUNNING
        elif state in UNFINISHED and not is_alive:
            state = INTERRUPTED
        ticket = self._spool.ticket(name, state)
        if state == RUNNING and known.get("progress") is not None:
            ticket = dataclasses.replace(ticket, progress=build(Progress, known["progress"], "$"))
        return ticket

    def discard(self, ticket: str) -> Answer:
        """Remove a ticket, whatever its state.

        Raises:
            FileError: it cannot be removed.
        """
        answer = self._ask("discard", {"ticket": ticket})
        if answer is None:
            self._spool.discard(ticket)
            files.remove_leftovers()  # those of a keeper that was killed
        return answer or ("discarded", {})

    def release(self, session: str) -> Answer:
        """Tell the keeper, if there is one, that a session is over."""
        return self._ask("release", {"session": session}) or ("released", {})

    def follow(self, ticket: str) -> Optional[Connection]:
        """A connection on which the keeper tells of this ticket; None where only `ending` can.

        Raises:
            FileError: the keeper cannot be spoken to.
        """
        if self._spool.state(ticket) not in (*UNFINISHED, INTERRUPTED):
            return None
        with _spoken_to():
            connection = keeper_socket.connect(self._spool.folder, ANSWER_S)
        try:
            if connection is not None:
                connection.send("follow", {"ticket": ticket})
        except OSError:
            return None  # it was just leaving
        return connection

    def ending(self, ticket: str) -> Tuple[str, bytes]:
        """The last reply to who follows a ticket that no keeper works on, and its body as JSON.

        Raises:
            FileError: the outcome was damaged, or `ticket` cannot be one.
        """
        state = self._spool.state(ticket)
        if state == DONE:
            return self._spool.outcome(ticket)
        if state is None:
            refused = Refused("no-such-ticket", f"the device has no ticket {ticket}", "submit the job again")
        else:
            order = self._spool.order(ticket)
            then = order.boot_id if order is not None else None
            why = "it restarted" if then is not None and then != boot_id() else "its keeper was killed or thrown out"
            message = f"the device lost {ticket} before it was measured: {why}"
            refused = Refused("interrupted", message, "discard it and submit the job again")
        return "refused", json.dumps(dataclasses.asdict(refused)).encode()

    def _is_keeper_alive(self) -> bool:
        try:
            connection = keeper_socket.connect(self._spool.folder, ANSWER_S)
        except OSError:
            return True  # it takes no more visitors: it is frozen
        if connection is not None:
            connection.close()
        return connection is not None

    def _ask(self, request: str, body: Dict[str, Any], within_s: float = ANSWER_S) -> Optional[Answer]:
        """The keeper's answer; None where there is no keeper.

        Raises:
            FileError: it does not answer.
        """
        with _spoken_to():
            connection = keeper_socket.connect(self._spool.folder, within_s)
        if connection is None:
            return None
        try:
            connection.send(request, body)
            answer = connection.answer(within_s)
        except (BrokenPipeError, ConnectionResetError):
            return None  # it was just leaving
        except OSError as error:
            raise silent() from error
        finally:
            connection.close()
        if answer is None and connection.is_at_end:
            return None
        if answer is None:
            raise silent()
        return answer["reply"], answer["body"]

    def _start_keeper(self, order: Dict[str, Any]) -> Answer:
        """Start a keeper with its first order; what it answers.

        Raises:
            FileError: none could be started.
        """
        try:
            process = subprocess.Popen(
                [*own_program(), "keep", *([self._slot] if self._slot else [])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd="/",
            )
        except OSError as error:
            raise files.FileError("device-error", f"cannot start a keeper: {error.strerror}") from error
        with process:
            orders, answers = process.stdin, process.stdout
            if orders is None or answers is None:
                raise files.FileError("device-error", "the keeper has no pipes")
            orders.write(json.dumps(order).encode() + b"\n")
            orders.flush()
            lines, until = LineBuffer(answers.fileno(), MAX_REPLY_BYTES), time.monotonic() + START_S
            while not lines.is_at_end and select.select([answers], [], [], max(0.0, until - time.monotonic()))[0]:
                for line in lines.read():
                    answer = json.loads(line)
                    return answer["reply"], answer["body"]
        raise files.FileError("device-error", "the keeper ended without a word, or did not start in time")


@contextlib.contextmanager
def _spoken_to() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise silent() from error


def silent() -> files.FileError:
    """What to say about a keeper that lives and does not answer."""
    return files.FileError("keeper-silent", "the keeper on the device does not answer: it may be frozen")
