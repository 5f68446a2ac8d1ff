"""The device of a scene: an sshd on loopback behind a relay, and everything that can be seen from the device's side."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.faults.audit import started_at_s
from tests.integration.relay import Relay
from tests.integration.sshd import Sshd

__all__ = ["Board"]

LOOK_S = 0.005
# A host that was told of a submitted job follows it after some milliseconds, on a busy machine after some more.
SETTLED_S = 0.5
# Files that are locked while somebody works; the kernel unlocks them.
# "made-parent" tells `devices clean` that ~/.cache was not there before us.
STAYS = ("lock", "edgeprof.lease", "made-parent")


class Board:
    """A context manager. `python` is what the device calls its Python: real, or a program that stands in for it.

    `measured` are the results that it ever had, by when their measuring began; those in `excused` it may lose.
    """

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        self.python = python
        self.sshd = Sshd(folder)
        self.measured: set[float] = set()
        self.excused: set[float] = set()
        self._over = threading.Event()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.sshd)
            self.relay = stack.enter_context(Relay(self.sshd.port))
            self.sshd.trust_port(self.relay.port)
            watcher = threading.Thread(target=self._watch, daemon=True)
            watcher.start()
            stack.callback(watcher.join)
            stack.callback(self._over.set)
            stack.callback(self._end)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def address(self) -> str:
        return self.sshd.address.replace(f":{self.sshd.port}", f":{self.relay.port}")

    @property
    def cache(self) -> Path:
        """Where edgeprof keeps its files on the device."""
        return self.sshd.home / ".cache" / "edgeprof"

    # --- files ---

    def files(self, pattern: str) -> list[Path]:
        return list(self.cache.glob(pattern)) if self.cache.exists() else []

    def uploads(self) -> list[Path]:
        """Those of which something has arrived."""
        return [path for path in self.files("uploads/*") if path.stat().st_size]

    def outcomes(self) -> list[Path]:
        """Results, and refusals, that lie in the spool."""
        return self.files("spool/machine/tickets/*/done")

    def excuse(self) -> None:
        """What the device has now may be lost: the fault is that it loses it."""
        self.excused |= self.measured

    # --- processes ---

    def worker_pids(self) -> list[int]:
        return self._pids("worker")

    def is_measuring(self) -> bool:
        """A worker is at it for so long that the host knows and waits for its result."""
        return any(_age_s(pid) > SETTLED_S for pid in self.worker_pids())

    def keeper_pids(self) -> list[int]:
        return self._pids("keep")

    def serving_pids(self) -> list[int]:
        others = {*self.worker_pids(), *self.keeper_pids()}
        return [pid for pid in self._pids() if pid not in others]

    def signal(self, pids: list[int], number: signal.Signals) -> None:
        assert pids, "there is no such process"
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _pids(self, *words: str) -> list[int]:
        """Processes of the agent whose command line has these words."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                line = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
                is_ours = any(part.startswith(str(self.cache / "agents")) for part in line)
                if is_ours and all(word in line for word in words) and not _is_zombie(folder):
                    found.append(int(folder.name))
        return found

    # --- the audit ---

    def left_over(self) -> list[str]:
        """Processes, and files beside the agent and whole models; a lease has a process that holds it."""
        left = [f"process {pid}" for pid in self._pids()]
        return left + [str(path.relative_to(self.cache)) for path in self.files("**/*") if self._is_leftover(path)]

    def _is_leftover(self, path: Path) -> bool:
        kind = path.relative_to(self.cache).parts[0]
        if not path.is_file() or path.name in STAYS:
            return False
        return kind not in ("agents", "models") or "." in path.name.removesuffix(".pyz")

    def _watch(self) -> None:
        seen: set[Path] = set()
        while not self._over.is_set():
            for path in {*self.outcomes()} - seen:
                # A refusal is no result, and what was damaged on purpose was seen before.
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                    seen.add(path)
                    self.measured.add(started_at_s(path.read_bytes()))
            self._over.wait(LOOK_S)

    def _end(self) -> None:
        """Whatever a fault leaves running ends with it."""
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _age_s(pid: int) -> float:
    ticks = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def _is_zombie(folder: Path) -> bool:
    return (folder / "stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z"
