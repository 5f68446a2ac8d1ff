"""A program in the place of a device's Python, for user lands that cannot be had here: a stand-in, and no recording."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# What Pythons would say that cannot be had here as packages: written after the documentation of musl, uname(2) and
# PEP 513, not recorded on a board.
ODD_USER_LANDS = {
    "musl": {"machine": "aarch64", "bits": 64, "libc": "musl", "libc_version": [1, 2]},
    "armv7l": {"machine": "armv7l", "bits": 32, "libc": "glibc", "libc_version": [2, 36]},
    "32 bits on 64": {"machine": "aarch64", "bits": 32, "libc": "glibc", "libc_version": [2, 31]},
    "too new": {"machine": "aarch64", "bits": 64, "libc": "glibc", "libc_version": [2, 41], "python": [3, 99, 0]},
}
COMMON = {
    "python": [3, 11, 2], "implementation": "cpython", "flags": "", "system": "linux", "has_ensurepip": False,
    "other_pythons": {}, "cache": "/home/pi/.cache/edgeprof", "unwritable": None, "free_bytes": 10**10,
    "environments": [],
}  # fmt: skip


def stand_in(folder: Path, facts: dict[str, Any]) -> str:
    """A program in the place of a device's Python that gives one answer, whatever it is asked."""
    path = folder / "stand-in-python"
    path.write_text(f"#!/bin/sh\ncat <<'EOF'\nedgeprof-setup {json.dumps(COMMON | facts)}\nEOF\n")
    path.chmod(0o755)
    return str(path)
