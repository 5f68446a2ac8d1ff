"""Where output goes: tables to a console, documents to a file as a whole or not at all, or to standard output."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeprof.errors import EdgeprofError
from edgeprof.files import write_whole

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["STANDARD_OUTPUT", "console", "require_writable", "write_text"]

STANDARD_OUTPUT = "-"
# Rich takes 80 columns where nobody tells it, and drops columns of an operator table to fit them.
COLUMNS_IN_A_FILE = 160


def console(*, stderr: bool = False) -> Console:
    """The console for tables: as wide as the terminal, or as COLUMNS says, or wide enough for a file or a pipe."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    is_terminal = stream is not None and stream.isatty()  # None: it was closed by >&-
    is_told = is_terminal or "COLUMNS" in os.environ
    return Console(stderr=stderr, highlight=False, width=None if is_told else COLUMNS_IN_A_FILE)


def require_writable(target: str) -> None:
    """Raise EdgeprofError if `write_text` could not write there: better said before minutes of measuring than after."""
    if target == STANDARD_OUTPUT:
        return
    path = Path(target).resolve()
    reason = None
    if path.is_dir():
        reason = "it is a directory"
    elif path.exists() and not path.is_file():
        reason = None if os.access(path, os.W_OK) else "no permission"
    elif not path.parent.is_dir():
        reason = f"there is no directory {path.parent}"
    elif not os.access(path.parent, os.W_OK | os.X_OK):
        reason = f"no permission to write in {path.parent}"
    if reason is not None:
        raise EdgeprofError(f"{target}: cannot be written: {reason}", "name a file in a folder you may write in")


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
            write_whole(path, data)
    except OSError as error:
        raise EdgeprofError(
            f"{target}: cannot be written: {error.strerror}", "name a file in a folder that exists and has space"
        ) from error
