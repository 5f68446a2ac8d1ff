"""Make a file in a process of its own: tools that change models print, leak, and crash.

`python -m edgeprof.optimize.apart ORDER.json` calls one function of `edgeprof.optimize.transforms` and writes what it
returns.
"""

from __future__ import annotations

import errno
import importlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from edgeprof.errors import EdgeprofError
from edgeprof.optimize.inference import ended

__all__ = ["CannotMake", "call"]

TRANSFORMS = "edgeprof.optimize.transforms."
REFUSED = 3
LEAST_ROOM = 64 << 10


class CannotMake(EdgeprofError):
    """A transform does not do this model; why is a result."""


def call(module: str, function: str, arguments: dict[str, Any], deadline_s: float = 1800.0) -> Any:
    """What `function(**arguments)` of a module of `transforms` returns; arguments and result are such as JSON has.

    Raises:
        CannotMake: it refuses, fails, crashes, or takes too long.
        OSError: it fails, and there is no room for what it should make.
    """
    with tempfile.TemporaryDirectory(prefix="edgeprof-optimize-") as folder:
        order, answer = Path(folder) / "order.json", Path(folder) / "answer.json"
        order.write_text(
            json.dumps({"module": module, "function": function, "arguments": arguments, "answer": str(answer)})
        )
        try:
            done = subprocess.run(
                [sys.executable, "-m", "edgeprof.optimize.apart", str(order)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=deadline_s,
                check=False,
                # Tools leave files where they run, and libraries beside their cache.
                cwd=folder,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                    "TMPDIR": folder,
                    "XDG_CACHE_HOME": folder,
                },
            )
        except subprocess.TimeoutExpired as error:
            raise CannotMake(f"it took longer than {deadline_s:.0f} s") from error
        if done.returncode != 0:
            _require_room(arguments, folder)
            raise CannotMake(ended(done.returncode, done.stderr))
        return json.loads(answer.read_text())


def _require_room(arguments: dict[str, Any], folder: str) -> None:
    """Tools give many reasons for a full disk, few of which say so."""
    source, target = arguments.get("source"), arguments.get("target")
    needed = Path(source).stat().st_size if isinstance(source, str) else LEAST_ROOM
    for place in (folder, *([str(Path(target).parent)] if isinstance(target, str) else [])):
        if shutil.disk_usage(place).free < max(needed, LEAST_ROOM):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), place)


def main() -> int:
    """Do what the order says; why it cannot be done is the last line of standard error."""
    order = json.loads(Path(sys.argv[1]).read_text())
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    module = importlib.import_module(TRANSFORMS + order["module"])
    try:
        answer = getattr(module, order["function"])(**order["arguments"])
    except Exception as error:  # a tool's own, of which there are many
        what = str(error) if isinstance(error, CannotMake) else f"{type(error).__name__}: {error}"
        sys.stderr.write("\n" + " ".join(what.split())[:500] + "\n")
        return REFUSED
    Path(order["answer"]).write_text(json.dumps(answer))
    return 0


if __name__ == "__main__":
    # Under its own name, so that what transforms raise is what is caught here.
    from edgeprof.optimize.apart import main as run

    sys.exit(run())
