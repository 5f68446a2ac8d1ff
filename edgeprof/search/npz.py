"""Read numpy's archives: whole, without pickle, and with one kind of error for all that may be wrong with one."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_npz"]


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an .npz file by name.

    Raises:
        ValueError: it is not there, is none, or is damaged.
    """
    if not zipfile.is_zipfile(path):  # numpy would leave it open
        raise ValueError("it is no .npz file" if path.is_file() else "it is not there")
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"it is damaged: {error}") from error
