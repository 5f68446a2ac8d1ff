"""Limits on one device by control groups, of version 1 and version 2: memory, processor time, and a freezer.

Files and units are those of the kernel's Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from pathlib import Path

CPU_PERIOD_US = 100_000
PATIENCE_S = 10.0
V1_CONTROLLERS = ("memory", "freezer", "cpu")
V2_CONTROLLERS = ("memory", "cpu")


class Limits(ABC):
    """The control group of one device, or the groups: version 1 has one for each controller."""

    def __init__(self, folders: tuple[Path, ...]) -> None:
        self._folders = folders
        for folder in folders:
            folder.mkdir(exist_ok=True)

    @property
    def joins(self) -> list[Path]:
        """Files that a process writes 0 into to join; its children follow."""
        return [folder / "cgroup.procs" for folder in self._folders]

    def freeze(self) -> None:
        """Stop every process where it is, and wait until they all stand.

        Raises:
            TimeoutError: one still runs after ten seconds.
        """
        self._start_freezing()
        end = time.monotonic() + PATIENCE_S
        while not self._is_frozen():
            if time.monotonic() > end:
                raise TimeoutError(f"{self._folders[0].name} does not freeze")
            time.sleep(0.01)

    @abstractmethod
    def thaw(self) -> None:
        """Let them go on."""

    @abstractmethod
    def _start_freezing(self) -> None: ...

    @abstractmethod
    def _is_frozen(self) -> bool: ...

    @abstractmethod
    def memory(self, limit_bytes: int | None) -> None:
        """What all of them may use together, with the files on the device's disk, and without swap. None: no limit."""

    @abstractmethod
    def memory_used_bytes(self) -> int:
        """What they use of it now, files that the kernel caches for them included."""

    @abstractmethod
    def cpu(self, n_cpus: float | None) -> None:
        """Processor time, in processors; None takes the limit away."""

    @abstractmethod
    def oom_kills(self) -> int:
        """How many processes were killed for want of memory."""

    def remove(self) -> None:
        """Remove the groups once their processes are gone.

        Raises:
            TimeoutError: they are still there after ten seconds.
        """
        self.thaw()
        for folder in self._folders:
            end = time.monotonic() + PATIENCE_S
            while folder.is_dir():
                try:
                    folder.rmdir()
                except OSError as error:
                    if time.monotonic() > end:
                        left = (folder / "cgroup.procs").read_text().split()
                        raise TimeoutError(f"{folder} cannot be removed: processes {left}") from error
                    time.sleep(0.02)


class LimitsV1(Limits):
    def __init__(self, root: Path, name: str) -> None:
        self._memory, self._freezer, self._cpu = (root / controller / name for controller in V1_CONTROLLERS)
        super().__init__((self._memory, self._freezer, self._cpu))

    def _start_freezing(self) -> None:
        (self._freezer / "freezer.state").write_text("FROZEN")

    def _is_frozen(self) -> bool:
        return (self._freezer / "freezer.state").read_text() == "FROZEN\n"

    def thaw(self) -> None:
        (self._freezer / "freezer.state").write_text("THAWED")

    def memory(self, limit_bytes: int | None) -> None:
        (self._memory / "memory.swappiness").write_text("0")
        (self._memory / "memory.limit_in_bytes").write_text(str(-1 if limit_bytes is None else limit_bytes))

    def memory_used_bytes(self) -> int:
        return int((self._memory / "memory.usage_in_bytes").read_text())

    def cpu(self, n_cpus: float | None) -> None:
        (self._cpu / "cpu.cfs_period_us").write_text(str(CPU_PERIOD_US))
        quota_us = -1 if n_cpus is None else round(n_cpus * CPU_PERIOD_US)
        (self._cpu / "cpu.cfs_quota_us").write_text(str(quota_us))

    def oom_kills(self) -> int:
        return _count(self._memory / "memory.oom_control", "oom_kill")


class LimitsV2(Limits):
    def __init__(self, root: Path, name: str) -> None:
        self._folder = root / name
        super().__init__((self._folder,))

    def _start_freezing(self) -> None:
        (self._folder / "cgroup.freeze").write_text("1")

    def _is_frozen(self) -> bool:
        return _count(self._folder / "cgroup.events", "frozen") == 1

    def thaw(self) -> None:
        (self._folder / "cgroup.freeze").write_text("0")

    def memory(self, limit_bytes: int | None) -> None:
        swap = self._folder / "memory.swap.max"
        if swap.exists():
            swap.write_text("0")
        (self._folder / "memory.max").write_text("max" if limit_bytes is None else str(limit_bytes))

    def memory_used_bytes(self) -> int:
        return int((self._folder / "memory.current").read_text())

    def cpu(self, n_cpus: float | None) -> None:
        quota_us = "max" if n_cpus is None else round(n_cpus * CPU_PERIOD_US)
        (self._folder / "cpu.max").write_text(f"{quota_us} {CPU_PERIOD_US}")

    def oom_kills(self) -> int:
        return _count(self._folder / "memory.events", "oom_kill")


class ControlGroups:
    """Where this machine's control groups are, and of which version."""

    def __init__(self, root: Path = Path("/sys/fs/cgroup")) -> None:
        self._root = root
        self._is_v2 = (root / "cgroup.controllers").exists()

    def why_not(self) -> str | None:
        """Why devices cannot be limited here, or None."""
        needed = V2_CONTROLLERS if self._is_v2 else V1_CONTROLLERS
        have = (self._root / "cgroup.controllers").read_text().split() if self._is_v2 else os.listdir(self._root)
        missing = [name for name in needed if name not in have]
        if missing:
            return f"control groups without {', '.join(missing)} in {self._root}"
        if not self._is_v2:
            return None
        try:
            (self._root / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in needed))
        except OSError as error:
            return f"control groups of {self._root} hand nothing down: {error.strerror}"
        return None

    def limits(self, name: str) -> Limits:
        """A group of that name, made unless it is there."""
        return (LimitsV2 if self._is_v2 else LimitsV1)(self._root, name)

    def names(self, prefix: str) -> set[str]:
        """Groups that are there already and whose name begins so."""
        tops = [self._root] if self._is_v2 else [self._root / controller for controller in V1_CONTROLLERS]
        return {path.name for top in tops for path in top.glob(f"{prefix}*") if path.is_dir()}


def _count(path: Path, key: str) -> int:
    counts = dict(line.split() for line in path.read_text().splitlines())
    return int(counts[key])
