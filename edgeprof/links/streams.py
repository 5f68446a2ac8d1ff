"""What every link needs to read a program's output: deadlines, bounded lines, a bounded tail."""

from __future__ import annotations

import time

from edgeprof.errors import LinkError

__all__ = ["TAIL_BYTES", "Deadline", "LineBuffer", "Tail"]

TAIL_BYTES = 16 * 1024


class Deadline:
    """A point in time, counted from now."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._end_s = time.monotonic() + timeout_s

    def left_s(self) -> float:
        return max(0.0, self._end_s - time.monotonic())

    def check(self, what: str) -> None:
        """Raise TimeoutError once the time is over."""
        if self.left_s() <= 0:
            raise TimeoutError(f"{what} took longer than {self.timeout_s:g} s")


class LineBuffer:
    """Cuts a stream of bytes into lines without searching any byte twice."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._searched = 0

    def feed(self, data: bytes) -> None:
        self._data += data

    @property
    def held_bytes(self) -> int:
        """What came and was not taken yet."""
        return len(self._data)

    def line(self, max_bytes: int) -> bytes | None:
        """The next whole line with its newline, or None if there is none yet.

        Raises:
            LinkError: it is longer than `max_bytes`.
        """
        end = self._data.find(b"\n", self._searched) + 1
        if (end or len(self._data)) > max_bytes:
            start = bytes(self._data[:60])
            raise LinkError(f"a line of more than {max_bytes} bytes came, beginning with {start!r}", "report this")
        self._searched = 0 if end else len(self._data)
        return self._take(end) if end else None

    def rest(self) -> bytes | None:
        """What came after the last newline, once the stream has ended; None if nothing did."""
        return self._take(len(self._data)) or None

    def _take(self, n: int) -> bytes:
        taken = bytes(self._data[:n])
        del self._data[:n]
        self._searched = 0
        return taken


class Tail:
    """The last bytes of a stream of any length."""

    def __init__(self, max_bytes: int = TAIL_BYTES) -> None:
        self._max_bytes = max_bytes
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        self._data += data
        del self._data[: -self._max_bytes]

    def text(self) -> str:
        return self._data.decode("utf-8", "replace")
