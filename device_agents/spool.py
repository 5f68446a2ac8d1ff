"""The jobs that outlive their link, on the device's disk: one folder a ticket, whole or not there.

A ticket's folder has its `order` and one more file whose name is its state: it reserves the disk space of the outcome
when the job is submitted, is renamed when the job starts, and becomes the outcome when that is written into it. So
no change of state needs space, and none can be seen half done.
"""

import contextlib
import dataclasses
import errno
import json
import os
import re
import secrets
import shutil
import zlib
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Set, Tuple

from device_agents import files
from device_agents.decoding import WireError, build
from device_agents.wire import DONE, INTERRUPTED, MAX_REPLY_BYTES, MAX_REQUEST_BYTES, RUNNING, WAITING, Submit, Ticket

TICKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")
SLOT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
RESERVED_BYTES = 1024 * 1024
STATES = (DONE, INTERRUPTED, RUNNING, WAITING)
UNFINISHED = (RUNNING, WAITING)
HEADER_BYTES = 256


@dataclass(frozen=True)
class Order:
    """A submitted job. `program` is the Python and the agent's archive that shall measure it."""

    submit: Submit
    program: Tuple[str, ...]
    submitted_at_s: float
    boot_id: Optional[str]


class Spool:
    """The tickets of one slot. Only its keeper writes here; others read, and clear away what has no keeper."""

    def __init__(self, slot: str) -> None:
        if slot and not SLOT.fullmatch(slot):
            raise files.FileError("bad-request", f"{slot!r} cannot be the name of a slot")
        self.slot = slot
        self.folder = files.folder(os.path.join("spool", "slots", slot) if slot else os.path.join("spool", "machine"))
        self._tickets = os.path.join(self.folder, "tickets")

    def ids(self) -> List[str]:
        """Every ticket, oldest name first."""
        return sorted(name for name in _listed(self._tickets) if TICKET.fullmatch(name))

    def state(self, ticket: str) -> Optional[str]:
        """What the disk says of a ticket, None if there is none; unfinished ones are interrupted without a keeper."""
        folder = self._of(ticket)
        names = _listed(folder)
        if not os.path.isdir(folder):
            return None
        return next((state for state in STATES if state in names), INTERRUPTED)

    def order(self, ticket: str) -> Optional[Order]:
        """What was ordered; None if the file is damaged."""
        try:
            with open(os.path.join(self._of(ticket), "order"), "rb") as file:
                return build(Order, json.loads(file.read(MAX_REQUEST_BYTES + 1)), "$")
        except (OSError, ValueError, OverflowError, RecursionError, WireError):
            return None

    def ticket(self, ticket: str, state: str) -> Ticket:
        """A ticket as the host shall see it."""
        order = self.order(ticket)
        if order is None:
            return Ticket(ticket, state)
        job = order.submit.job
        return Ticket(
            ticket=ticket,
            state=state,
            label=order.submit.label,
            owner=order.submit.claim.owner,
            boot_id=order.boot_id,
            submitted_at_s=order.submitted_at_s,
            model_name=job.model.name,
            model_digest=job.model.digest,
            runtime=job.runtime,
        )

    def add(self, order: Order) -> None:
        """Keep an order, and the disk space of its outcome.

        Raises:
            FileError: no-space or no-write; nothing is left of it.
        """
        files.folder(os.path.relpath(self._tickets, files.cache_dir()))
        fresh = os.path.join(self._tickets, f".new-{secrets.token_hex(8)}")
        try:
            os.mkdir(fresh, 0o700)
            with open(os.path.join(fresh, WAITING), "wb") as reserve:
                _allocate(reserve.fileno(), RESERVED_BYTES)
                os.fsync(reserve.fileno())
            with open(os.path.join(fresh, "order"), "wb") as file:
                file.write(json.dumps(dataclasses.asdict(order), allow_nan=False).encode())
                file.flush()
                os.fsync(file.fileno())
            _sync_folder(fresh)
            os.rename(fresh, self._of(order.submit.ticket))
            _sync_folder(self._tickets)
        except OSError as error:
            shutil.rmtree(fresh, ignore_errors=True)
            raise files.FileError("no-space", f"cannot keep a job in {self._tickets}: {error.strerror}") from error

    def start(self, ticket: str) -> None:
        """The job is being measured from now on."""
        folder = self._of(ticket)
        os.rename(os.path.join(folder, WAITING), os.path.join(folder, RUNNING))

    def finish(self, ticket: str, reply: str, body: Dict[str, Any]) -> None:
        """Write the outcome; until that is done the ticket is what it was.

        Raises:
            OSError: it cannot be written; try again later.
        """
        folder = self._of(ticket)
        state = self.state(ticket) or RUNNING
        data = json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
        header = {"reply": reply, "bytes": len(data), "crc32": zlib.crc32(data)}
        path = os.path.join(folder, state)
        with open(path, "r+b") as file:
            file.write(json.dumps(header).encode() + b"\n" + data)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        os.rename(path, os.path.join(folder, DONE))
        _sync_folder(folder)

    def outcome(self, ticket: str) -> Tuple[str, bytes]:
        """The name of the last reply, and its body as JSON.

        Raises:
            FileError: corrupt-result; it is not what was written.
        """
        try:
            with open(os.path.join(self._of(ticket), DONE), "rb") as file:
                header = json.loads(file.readline(HEADER_BYTES))
                data = file.read(MAX_REPLY_BYTES + 1)
            is_whole = header["bytes"] == len(data) and header["crc32"] == zlib.crc32(data)
            reply = header["reply"]
        except (OSError, ValueError, TypeError, KeyError):
            is_whole, reply, data = False, "", b""
        if not is_whole or reply not in ("profile", "refused"):
            raise files.FileError("corrupt-result", f"the result of {ticket} was damaged on the device's disk")
        return reply, data

    def discard(self, ticket: str) -> None:
        """Remove all of a ticket.

        Raises:
            FileError: it cannot be removed.
        """
        try:
            # Renamed first: half a ticket is none.
            gone = os.path.join(self._tickets, f".new-{secrets.token_hex(8)}")
            os.rename(self._of(ticket), gone)
            shutil.rmtree(gone)
        except FileNotFoundError:
            return
        except OSError as error:
            raise files.FileError("no-write", f"cannot remove {ticket}: {error.strerror}") from error

    def interrupt(self) -> None:
        """Mark what no keeper will finish, and give back the space that was kept for it; whoever calls has the lock."""
        for name in _listed(self._tickets):
            if name.startswith(".new-"):
                shutil.rmtree(os.path.join(self._tickets, name), ignore_errors=True)
            elif TICKET.fullmatch(name) and self.state(name) in UNFINISHED:
                path = os.path.join(self._of(name), str(self.state(name)))
                with contextlib.suppress(OSError):
                    os.truncate(path, 0)
                    os.rename(path, os.path.join(self._of(name), INTERRUPTED))

    def _of(self, ticket: str) -> str:
        if not TICKET.fullmatch(ticket):
            raise files.FileError("bad-request", f"{ticket[:200]!r} cannot be a ticket")
        return os.path.join(self._tickets, ticket)


def wanted_files() -> Set[str]:
    """The digests of all files that jobs of this account still need, whatever their slot."""
    base = os.path.join(files.cache_dir(), "spool")
    slots = ["", *(name for name in _listed(os.path.join(base, "slots")) if SLOT.fullmatch(name))]
    wanted: Set[str] = set()
    for spool in map(Spool, slots if os.path.isdir(base) else []):
        for ticket in spool.ids():
            order = spool.order(ticket) if spool.state(ticket) in UNFINISHED else None
            if order is not None:
                job = order.submit.job
                wanted.update(file.sha256 for file in [*job.model.files, *(item.file for item in job.inputs)])
    return wanted


def _listed(folder: str) -> List[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _allocate(descriptor: int, size_bytes: int) -> None:
    try:
        os.posix_fallocate(descriptor, 0, size_bytes)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise
        os.pwrite(descriptor, b"\0" * size_bytes, 0)


def _sync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
