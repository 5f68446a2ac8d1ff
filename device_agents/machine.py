"""The agent's only door to the operating system: files, programs, clock, sleep.

Recorded machines in tests, simulated boards and injected clocks all enter here.
"""

import os
import subprocess
import time
from typing import List, Sequence, Tuple

# Files under /proc and /sys are small; a bound keeps a surprising one from filling the memory of a small board.
MAX_READ_BYTES = 1024 * 1024


class Machine:
    """The real operating system."""

    origin = "measured"

    def now(self) -> float:
        """Seconds of the clock that latencies are taken with; its zero means nothing."""
        return time.perf_counter()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def read(self, path: str) -> str:
        """The text of a small file.

        Raises:
            OSError: it is not there, or may not be read.
        """
        with open(path, "rb") as file:
            return file.read(MAX_READ_BYTES).decode("utf-8", "replace")

    def list(self, path: str) -> List[str]:
        """Sorted names in a folder; empty if there is no such folder."""
        try:
            return sorted(os.listdir(path))
        except OSError:
            return []

    def run(self, argv: Sequence[str], timeout_s: float = 5.0) -> Tuple[int, str]:
        """Run a program without a shell; (exit code, standard output).

        Raises:
            OSError: it is not installed, or did not end in time.
        """
        try:
            done = subprocess.run(
                list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=timeout_s
            )
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"{argv[0]} did not end within {timeout_s} s") from error
        return done.returncode, done.stdout[:MAX_READ_BYTES].decode("utf-8", "replace")
