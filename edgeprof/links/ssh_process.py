"""A program on a device behind sshd, as an SSH channel."""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Callable

import paramiko

from edgeprof.errors import LinkError
from edgeprof.links.ssh_session import BROKEN, Cut
from edgeprof.links.streams import Deadline, LineBuffer, Tail

__all__ = ["SshProcess"]

CHUNK_BYTES = 64 * 1024
# Paramiko signals both streams through one pipe, and a wake-up may get lost between them; so look again now and then.
POLL_S = 0.05
# Paramiko closes channels a moment before it marks the session as dead.
SETTLE_S = 1.0
GRACE_S = 2.0
LOST = "the connection was lost"
LOST_ADVICE = "the program may still run on the device; check the network, then connect again"


class SshProcess:
    """An SSH channel with a program at its other end. Closing hangs up: a program that reads its input sees its end."""

    def __init__(self, channel: paramiko.Channel, name: str, cut_after: Callable[[float], Cut]) -> None:
        self._channel = channel
        self._transport = channel.get_transport()
        self._name = name
        self._cut_after = cut_after
        self._lines = LineBuffer()
        self._tail = Tail()
        self._ended_output = False
        self._ready = select.poll()
        self._ready.register(channel.fileno(), select.POLLIN)
        channel.settimeout(POLL_S)

    def write(self, data: bytes, timeout_s: float) -> None:
        deadline = Deadline(timeout_s)
        left = memoryview(data)
        with self._cut_after(timeout_s + GRACE_S):
            while left:
                self._drain_stderr()
                try:
                    left = left[self._channel.send(bytes(left[:CHUNK_BYTES])) :]
                except TimeoutError:
                    if deadline.left_s() <= 0:
                        raise LinkError(
                            f"{self._name} read nothing for {timeout_s:g} s",
                            "it hangs, or the network does; start it anew",
                        ) from None
                except BROKEN as error:
                    raise self._not_reading() from error

    def read_line(self, timeout_s: float, max_bytes: int) -> bytes | None:
        deadline = Deadline(timeout_s)
        while (line := self._lines.line(max_bytes)) is None:
            if self._ended_output:
                return self._lines.rest()
            if not self._read_output():
                deadline.check(f"{self._name}: waiting for a line")
                self._ready.poll(1000 * min(POLL_S, deadline.left_s()))
        return line

    @property
    def held_bytes(self) -> int:
        return self._lines.held_bytes

    def stderr_tail(self) -> str:
        self._drain_stderr()
        return self._tail.text()

    def close_input(self) -> None:
        # A word to a silent peer waits for room in the socket, and paramiko has no end for that.
        with contextlib.suppress(*BROKEN), self._cut_after(GRACE_S):
            self._channel.shutdown_write()

    def wait(self, timeout_s: float) -> int | None:
        deadline = Deadline(timeout_s)
        while not self._channel.status_event.wait(min(POLL_S, deadline.left_s())):
            self._drain_stderr()
            deadline.check(f"{self._name}: waiting for its end")
        self._drain_stderr()
        status = self._channel.exit_status
        return status if status >= 0 else None

    def close(self) -> None:
        self._drain_stderr()
        with contextlib.suppress(*BROKEN), self._cut_after(GRACE_S):
            self._channel.close()

    def _read_output(self) -> bool:
        """Take what is there of both streams; whether there was anything, the end included."""
        drained = self._drain_stderr()
        # The end shows as a closed buffer, which recv returns from at once; an empty open one would wait.
        if not self._channel.recv_ready() and not (self._channel.closed or self._channel.eof_received):
            return drained
        try:
            data = self._channel.recv(CHUNK_BYTES)
        except TimeoutError:
            return drained
        except BROKEN as error:
            raise LinkError(f"{self._name}: {LOST}", LOST_ADVICE) from error
        if data:
            self._lines.feed(data)
        else:
            self._end()
        return True

    def _drain_stderr(self) -> bool:
        drained = False
        while self._channel.recv_stderr_ready():
            try:
                data = self._channel.recv_stderr(CHUNK_BYTES)
            except BROKEN:
                break  # the end of the output tells of it
            self._tail.feed(data)
            drained = drained or bool(data)
            if not data:
                break
        return drained

    def _end(self) -> None:
        if not self._channel.eof_received and self._has_lost_connection():
            raise LinkError(f"{self._name}: {LOST}", LOST_ADVICE)
        self._ended_output = True

    def _has_lost_connection(self) -> bool:
        deadline = Deadline(SETTLE_S)
        while self._transport.is_active() and deadline.left_s() > 0:
            time.sleep(POLL_S)
        return not self._transport.is_active()

    def _not_reading(self) -> LinkError:
        if self._has_lost_connection():
            return LinkError(f"{self._name}: {LOST}", LOST_ADVICE)
        lines = self.stderr_tail().strip().splitlines()
        return LinkError(
            f"{self._name} does not read any more", f"its last words: {lines[-1]}" if lines else "start it anew"
        )
