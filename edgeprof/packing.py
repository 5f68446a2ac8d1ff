"""Pack the agent into one archive whose bytes depend on its source alone, so that its digest names it everywhere."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

__all__ = ["PackedAgent", "pack_agent"]

PACKAGE = "device_agents"
# The earliest time a zip entry can carry: real times would make every pack a different archive.
EPOCH = (1980, 1, 1, 0, 0, 0)
# People read them, devices on slow links need not fetch them. Their lines stay, so that tracebacks name the right ones.
COMMENT = re.compile(rb"^ *#.*$", re.MULTILINE)
DOCSTRING = re.compile(rb'^( *)"""(.*?)"""$', re.MULTILINE | re.DOTALL)
MAIN = b"import runpy\nrunpy.run_module('device_agents', run_name='__main__')\n"


@dataclass(frozen=True)
class PackedAgent:
    """The archive that `python agent.pyz` runs, and its SHA-256."""

    data: bytes
    digest: str


def pack_agent() -> PackedAgent:
    """Pack the installed `device_agents`; equal sources give equal bytes. Comments and docstrings stay at home."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        _add(file, "__main__.py", MAIN)
        for name, source in sorted(_sources(resources.files(PACKAGE), PACKAGE)):
            _add(file, name, source)
    data = archive.getvalue()
    return PackedAgent(data, hashlib.sha256(data).hexdigest())


def _sources(folder: Traversable, path: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for item in folder.iterdir():
        if item.is_dir() and item.name != "__pycache__":
            found += _sources(item, f"{path}/{item.name}")
        elif item.name.endswith(".py"):
            found.append((f"{path}/{item.name}", _without_prose(item.read_bytes())))
    return found


def _without_prose(source: bytes) -> bytes:
    # A class without any docstring would have dataclasses write one of its signature, which takes its time.
    source = DOCSTRING.sub(lambda found: found[1] + b'""" ' + b"\n" * found[2].count(b"\n") + b'"""', source)
    return COMMENT.sub(b"", source)


def _add(file: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.create_system = 3  # Unix, whatever packs it: the byte is part of the archive
    entry.external_attr = 0o644 << 16
    file.writestr(entry, data, zipfile.ZIP_DEFLATED, 9)
