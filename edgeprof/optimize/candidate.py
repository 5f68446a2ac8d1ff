"""A file that may take a model's place, and how it was made."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeprof import __version__
from edgeprof.lineage import Descent

__all__ = ["LOSSLESS", "LOSSY", "ORIGINAL", "Candidate", "Step", "digest_of"]

# The first changes nothing but time; the second may lose accuracy, and is held against a budget.
ORIGINAL, LOSSLESS, LOSSY = "original", "lossless", "lossy"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One transform of a file into another, as the store keeps it; `digest` is that of what was made."""

    digest: str
    file_name: str
    transform: str
    tool: str
    tool_version: str
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """`kind` is original, lossless or lossy. `steps` lead from the original's file to this one."""

    name: str
    kind: str
    path: Path
    format: str
    steps: tuple[Step, ...] = ()

    def descents(self, original_digest: str) -> tuple[Descent, ...]:
        """The steps as the store keeps them, from the original's file on."""
        parents = [original_digest, *(step.digest for step in self.steps)]
        return tuple(
            Descent(
                child_digest=step.digest,
                parent_digest=parent,
                transform=step.transform,
                tool=step.tool,
                tool_version=step.tool_version,
                options=dict(step.options),
                edgeprof_version=__version__,
                created_at_s=time.time(),
                child_name=step.file_name,
            )
            for parent, step in zip(parents, self.steps, strict=False)
        )

    @property
    def size_bytes(self) -> int:
        """Of its file; weights that lie beside it are not counted, and candidates have none."""
        return self.path.stat().st_size


def digest_of(path: Path) -> str:
    """SHA-256 of a file: what a model of one file is known by."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
