"""Write what was asked for to a file, as a whole or not at all, or to standard output."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

import click

from edgeprof.errors import EdgeprofError

__all__ = ["STANDARD_OUTPUT", "write_text"]

STANDARD_OUTPUT = "-"


def write_text(target: str, text: str | bytes) -> None:
    """Write `text` to the file `target`, or to standard output where that is "-".

    A file appears under its name when it is complete; one that was there before stays until then.

    Raises:
        EdgeprofError: it cannot be written; nothing is left behind.
    """
    if target == STANDARD_OUTPUT:
        click.echo(text, nl=False)
        return
    data = text.encode() if isinstance(text, str) else text
    # A link is written through, and a device or pipe such as /dev/stdout is written to, not replaced.
    path = Path(target).resolve()
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
        else:
            _write_file(path, data)
    except OSError as error:
        raise EdgeprofError(
            f"{target}: cannot be written: {error.strerror}", "name a file in a folder that exists and has space"
        ) from error


def _write_file(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
