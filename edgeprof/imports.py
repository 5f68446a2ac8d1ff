"""What a user wrote, by its import path: `file.py:name` beside the plan, or `package.module:name`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

from edgeprof.errors import UsageError

__all__ = ["imported"]


def imported(path: str, beside: Path) -> object:
    """What the path names. The code of the file or module is run.

    Raises:
        UsageError: there is no such thing, or running it fails.
    """
    place, _, name = path.rpartition(":")
    if not place or not name:
        raise UsageError(f"{path!r} names nothing", "write it as file.py:name or package.module:name")
    try:
        module = _of_file(beside / place) if place.endswith(".py") else importlib.import_module(place)
    except Exception as error:  # whatever the user's code raises
        raise UsageError(f"{place} cannot be imported: {type(error).__name__}: {error}", "mend it") from error
    if not hasattr(module, name):
        raise UsageError(f"{place} has no {name}", "mend the name")
    return getattr(module, name)


def _of_file(path: Path) -> object:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there")
    name = f"edgeprof_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look for their module there
    spec.loader.exec_module(module)
    return module
