"""edgeprof on a real pseudo-terminal, with somebody typing."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

ANSWER_S = 20.0
# The password prompt opens /dev/tty, so the terminal must be the controlling one.
PROGRAM = (
    "import fcntl, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);from edgeprof.cli import main; main(sys.argv[1:])"
)


class Terminal:
    """A context manager; everything that appeared so far is in `screen`."""

    def __init__(self, *arguments: str, environment: Mapping[str, str]) -> None:
        self.screen = ""
        self._answered = 0
        self._arguments = arguments
        self._environment = dict(environment)

    def __enter__(self) -> Self:
        self._master, slave = pty.openpty()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, *self._arguments],
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env=self._environment,
                start_new_session=True,
            )
        finally:
            os.close(slave)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def answer(self, question: str, text: str) -> None:
        """Wait for the question, then type the answer."""
        end = time.monotonic() + ANSWER_S
        while question not in self.screen[self._answered :]:
            if not self._read(end):
                raise AssertionError(f"{question!r} did not appear in {self.screen!r}")
        self._answered = len(self.screen)
        os.write(self._master, f"{text}\n".encode())

    def leave(self) -> int:
        """Wait for the end; the exit code."""
        end = time.monotonic() + ANSWER_S
        while self._read(end):
            pass
        return self._process.wait(timeout=ANSWER_S)

    def _read(self, end: float) -> bool:
        if not select.select([self._master], [], [], max(0.0, end - time.monotonic()))[0]:
            return False
        data = b""
        # Linux says EIO, not end of file, once nobody has the other side open.
        with contextlib.suppress(OSError):
            data = os.read(self._master, 4096)
        self.screen += data.decode("utf-8", "replace").replace("\r", "")
        return bool(data)
