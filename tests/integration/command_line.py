"""Type a command as a person would: a process of its own, with homes of the test."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

EDGEPROF = Path(sys.executable).parent / "edgeprof"
LIMIT_S = 150


@dataclass
class CommandLine:
    """`folder` holds edgeprof's own files and this machine's cache as a device."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "EDGEPROF_HOME": str(self.folder / "edgeprof"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "COLUMNS": "120",
            **self.environment,
        }
        return subprocess.run(
            [EDGEPROF, *arguments],
            env=environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )
