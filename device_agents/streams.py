"""Descriptors: standard output kept for the protocol, and lines of bounded length read from pipes."""

import os
import sys
from typing import Any, List

from device_agents.decoding import WireError


def claim_stdout() -> Any:
    """Keep standard output for replies alone: native code that prints to descriptor 1 then reaches standard error."""
    sys.stdout.flush()
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return replies


class LineBuffer:
    """Splits what a descriptor delivers into lines no longer than a bound."""

    def __init__(self, descriptor: int, max_bytes: int) -> None:
        self.descriptor = descriptor
        self._max_bytes = max_bytes
        self._parts: List[bytes] = []
        self._size = 0
        self.is_at_end = False

    def read(self) -> List[bytes]:
        """Whole lines that have come; call when the descriptor is readable.

        Raises:
            WireError: a line is longer than the bound.
        """
        chunk = os.read(self.descriptor, 65_536)
        self.is_at_end = not chunk
        self._parts.append(chunk)
        self._size += len(chunk)
        if b"\n" in chunk:
            *lines, rest = b"".join(self._parts).split(b"\n")
            self._parts, self._size = [rest], len(rest)
            return lines
        if self._size > self._max_bytes:
            raise WireError(f"a line is longer than {self._max_bytes} bytes")
        return []
