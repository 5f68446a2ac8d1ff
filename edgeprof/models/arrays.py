"""Read the arrays of an .npz or .npy file. Files are taken for hostile: nothing is unpickled, every size is bounded."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from edgeprof.errors import InputError

__all__ = ["UNNAMED", "Array", "read_arrays"]

Array = NDArray[Any]

# All arrays of a file together, unpacked: they are held in memory here and on the device.
MOST_BYTES = 1 << 30
MOST_ARRAYS = 1000
NPY_MAGIC, ZIP_MAGICS, PICKLE_MAGIC = b"\x93NUMPY", (b"PK\x03\x04", b"PK\x05\x06"), b"\x80"
HOW_TO_SAVE = "save it with numpy.savez('inputs.npz', NAME=array), one array for each input of the model"
COPY_AGAIN = "copy or save it again"
# The name of the array in an .npy file, which has none.
UNNAMED = ""

HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays of the file by name, as they are in it; the one of an .npy file is `UNNAMED`.

    Raises:
        InputError: it cannot be read, is no such file, is cut off, too large, or holds Python objects.
    """
    try:
        if path.exists() and not path.is_file():  # opening a pipe that nobody writes to would never return
            raise InputError(f"{path} is not a file", HOW_TO_SAVE)
        with path.open("rb") as file:
            head = file.read(len(NPY_MAGIC))
            file.seek(0)
            if head == NPY_MAGIC:
                size_bytes = path.stat().st_size
                _require_room(path, size_bytes)
                return {UNNAMED: _read_array(file, size_bytes, str(path))}
            if head.startswith(ZIP_MAGICS):
                return _read_zip(file, path)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror or error}", "check the path and its permissions"
        ) from (error)
    what = "is empty" if not head else "is neither an .npz nor an .npy file of numpy"
    if head.startswith(PICKLE_MAGIC):
        what = "holds pickled Python objects, which are never loaded"
    raise InputError(f"{path} {what}", HOW_TO_SAVE)


def _read_zip(file: IO[bytes], path: Path) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if len(members) > MOST_ARRAYS:
                raise InputError(f"{path} holds {len(members)} files, more than the {MOST_ARRAYS} read", HOW_TO_SAVE)
            _require_room(path, sum(member.file_size for member in members))
            for member in members:
                name = member.filename.removesuffix(".npy")
                if name == member.filename:
                    raise InputError(f"{path} holds {name!r}, which is not an array: is it an .npz file?", HOW_TO_SAVE)
                if name in arrays:
                    raise InputError(f"{path} holds two arrays of the name {name!r}", HOW_TO_SAVE)
                with archive.open(member) as content:
                    arrays[name] = _read_array(content, member.file_size, f"{path}: array {name!r}")
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise InputError(f"{path} is damaged or incomplete: {error}", COPY_AGAIN) from error
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or packed by a method that this Python lacks
        raise InputError(f"{path} cannot be unpacked: {error}", HOW_TO_SAVE) from error
    if not arrays:
        raise InputError(f"{path} holds no array", HOW_TO_SAVE)
    return arrays


def _require_room(path: Path, n_bytes: int) -> None:
    if n_bytes > MOST_BYTES:
        raise InputError(
            f"{path} unpacks to {n_bytes} bytes, more than the {MOST_BYTES} that edgeprof takes",
            "give smaller inputs: one inference needs no more",
        )


def _read_array(file: Any, size_bytes: int, where: str) -> Array:
    """One array; `size_bytes` is what there is of it, header included, whatever the header claims."""
    try:
        # Version 3 differs in the names of fields alone, and records with fields fill no input.
        shape, is_fortran, dtype = HEADERS[npy.read_magic(file)](file)
    except (ValueError, KeyError) as error:
        raise InputError(f"{where} is not an array of numpy, or damaged: {error}", COPY_AGAIN) from error
    if dtype.hasobject:
        raise InputError(
            f"{where} holds Python objects, which are never loaded", "give it a plain type: array.astype('float32')"
        )
    n_bytes = math.prod(shape) * dtype.itemsize
    if any(dim < 0 for dim in shape) or n_bytes > size_bytes:
        raise InputError(
            f"{where} is cut off: a {dtype} array of the shape {list(shape)} takes {n_bytes} bytes, "
            f"but there are fewer than {size_bytes}",
            COPY_AGAIN,
        )
    data = file.read(n_bytes)
    if len(data) < n_bytes:
        raise InputError(f"{where} is cut off: {len(data)} of its {n_bytes} bytes are there", COPY_AGAIN)
    if not n_bytes:
        return np.empty(shape, dtype)
    return np.frombuffer(data, dtype).reshape(shape, order="F" if is_fortran else "C")
