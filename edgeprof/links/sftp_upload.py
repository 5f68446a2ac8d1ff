"""Write a file over SFTP as fast as the session takes it, and notice when that stops.

Paramiko's own file object is faster than it looks, but says neither how much the server has confirmed nor that it has
stopped confirming. So the write requests are made here; everything else about SFTP stays paramiko's. The format is
that of draft-ietf-secsh-filexfer-02, sections 3, 6.4 and 7.
"""

from __future__ import annotations

import os
import struct
import time
from dataclasses import dataclass, field
from typing import IO

import paramiko

from edgeprof.links import OnSent
from edgeprof.links.ssh_session import Cut
from edgeprof.links.streams import Deadline

__all__ = ["Upload"]

WRITE, STATUS, OK = 6, 101, 0
# Larger than any request of paramiko's on the same session, so that the two never take each other's answers.
FIRST_ID = 1 << 31
# A request, its header included, fills one SSH packet of OpenSSH (32 KiB, RFC 4254 section 5.2): one and not two.
# Paramiko keeps 64 bytes of each for itself; 64 more are for the header with a handle of up to 35 bytes.
CHUNK_BYTES = 32 * 1024 - 128
# OpenSSH's window is 2 MiB; with less under way a fast link with a long delay would wait for answers.
MAX_UNDER_WAY = 64
RECEIVE_BYTES = 64 * 1024
# How often to tell about progress, and to move the moment at which a silent connection is cut.
TELL_S = 0.1
GRACE_S = 2.0


@dataclass(kw_only=True)
class Upload:
    """One file on its way. `confirmed_bytes` of `size_bytes` are on the device; `began_at` of them were there before.

    Raises (from `write` and `finish`):
        TimeoutError: nothing was confirmed for `silence_s`, or all of it took longer than `deadline`.
        OSError: the server refused a write, or the whole file is not there.
        EOFError, SSHException: the connection broke.
    """

    files: paramiko.SFTPClient
    channel: paramiko.Channel
    cut: Cut
    deadline: Deadline
    silence_s: float
    size_bytes: int
    on_progress: OnSent | None = None
    began_at: int = 0
    confirmed_bytes: int = 0
    _under_way: dict[int, int] = field(default_factory=dict)
    _answers: bytearray = field(default_factory=bytearray)
    _next_id: int = FIRST_ID
    _told_s: float = 0.0

    def write(self, reader: IO[bytes], path: str) -> None:
        """Write what `path` does not have yet of what `reader` has."""
        self._heard()
        file = self._open(path)
        self.confirmed_bytes = position = self.began_at
        reader.seek(position)
        handle = bytes(file.handle)  # type: ignore[call-overload]  # the stubs take it for the server's handle
        handle = struct.pack(">I", len(handle)) + handle
        while chunk := reader.read(CHUNK_BYTES):
            self._send(handle, position, chunk)
            position += len(chunk)
            while len(self._under_way) >= MAX_UNDER_WAY or (self._under_way and self.channel.recv_ready()):
                self._take_answers()
        # Closing drops answers that come too late, and with them the reason of a failure.
        while self._under_way:
            self._take_answers()
        file.close()
        arrived = self.files.stat(path).st_size
        if arrived != self.size_bytes:
            raise OSError(f"{arrived} of {self.size_bytes} bytes arrived")
        self._tell()

    def _open(self, path: str) -> paramiko.SFTPFile:
        # Made without truncating it: whoever else brings the same file at this moment loses nothing.
        self.files.open(path, "ab").close()
        there = self.files.stat(path).st_size or 0
        if there > self.size_bytes:
            self.files.truncate(path, 0)
        else:
            self.began_at = there
        return self.files.open(path, "r+b")

    def _send(self, handle: bytes, position: int, chunk: bytes) -> None:
        number = self._next_id
        self._next_id += 1
        head = struct.pack(">BI", WRITE, number) + handle + struct.pack(">QI", position, len(chunk))
        left = memoryview(b"".join((struct.pack(">I", len(head) + len(chunk)), head, chunk)))
        while left:
            sent = self.channel.send(left)  # type: ignore[arg-type]  # any bytes-like object will do
            if sent <= 0:
                raise EOFError("the file transfer session was closed")
            left = left[sent:]
        self._under_way[number] = len(chunk)

    def _take_answers(self) -> None:
        """Wait for at least one piece of an answer, and take every whole one."""
        data = self.channel.recv(RECEIVE_BYTES)
        if not data:
            raise EOFError("the file transfer session was closed")
        self._answers += data
        while len(self._answers) >= 4:
            (length,) = struct.unpack_from(">I", self._answers)
            if len(self._answers) < 4 + length:
                return
            answer = bytes(self._answers[4 : 4 + length])
            del self._answers[: 4 + length]
            self._confirm(answer)

    def _confirm(self, answer: bytes) -> None:
        try:
            kind, number, code = struct.unpack_from(">BII", answer)
        except struct.error as error:
            raise paramiko.SFTPError(f"an answer of {len(answer)} bytes") from error
        if kind != STATUS or number not in self._under_way:
            raise paramiko.SFTPError(f"an answer of kind {kind} to request {number}")
        if code != OK:
            raise OSError(_text(answer) or f"SFTP status {code}")
        self.confirmed_bytes += self._under_way.pop(number)
        if time.monotonic() - self._told_s >= TELL_S:
            self._heard()
            self._tell()

    def _heard(self) -> None:
        """Something moved: the silence begins anew."""
        self.deadline.check("the transfer")
        wait_s = min(self.silence_s, max(self.deadline.left_s(), TELL_S))
        self.channel.settimeout(wait_s)
        self.cut.postpone(wait_s + GRACE_S)
        self._told_s = time.monotonic()

    def _tell(self) -> None:
        if self.on_progress is not None:
            self.on_progress(self.confirmed_bytes, self.size_bytes)


def size_of(reader: IO[bytes]) -> int:
    """Bytes of a file that can be sought in."""
    size_bytes = reader.seek(0, os.SEEK_END)
    reader.seek(0)
    return size_bytes


def _text(answer: bytes) -> str:
    """The words of a status, which come after kind, request and code."""
    (length,) = struct.unpack_from(">I", answer, 9) if len(answer) >= 13 else (0,)
    return answer[13 : 13 + length].decode("utf-8", "replace")
