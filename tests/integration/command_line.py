"""Type a command as a person would: a process of its own, with homes of the test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

EDGEPROF = Path(sys.executable).parent / "edgeprof"
# Beyond the limit of a test (pyproject.toml), which a test may raise for itself: that one says where it hung.
LIMIT_S = 600


@dataclass
class CommandLine:
    """`folder` holds edgeprof's own files and this machine's cache as a device; `prefix` goes before the command."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.prefix, EDGEPROF, *arguments],
            env=self._whole_environment(),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """For a command that something happens to while it runs.

        It hears SIGINT as on a terminal, also where the tests run in the background of a shell, which ignores it.
        """
        return subprocess.Popen(
            [*self.prefix, EDGEPROF, *arguments],
            env=self._whole_environment(),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_hear_interrupts,
        )

    def _whole_environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "EDGEPROF_HOME": str(self.folder / "edgeprof"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "COLUMNS": "120",
            **self.environment,
        }


def _hear_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
