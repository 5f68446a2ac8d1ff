"""A model's inputs: the user's own values, or made from a seed, the same bytes on every device.

With the standard library alone.
"""

import array
import hashlib
import math
import random
import struct
import sys
from typing import Sequence, Tuple

from device_agents.runtimes import RuntimeRefusal
from device_agents.wire import InputFile, TensorInfo

SIZES = {"float16": 2, "float32": 4, "float64": 8, "bool": 1}
SIZES.update({f"{sign}int{bits}": bits // 8 for sign in ("", "u") for bits in (8, 16, 32, 64)})
# Large tensors repeat a block of this many values: making random numbers one by one is slow on a small board.
BLOCK = 65_536


def size_bytes(tensor: TensorInfo) -> int:
    return SIZES[tensor.dtype] * math.prod(tensor.shape)


def make(tensors: Sequence[TensorInfo], seed: int) -> Tuple[bytes, ...]:
    """Little-endian data for each tensor.

    Floats are uniform in [-1, 1); 8- and 16-bit integers take their whole range (quantised data); 32- and 64-bit
    integers and booleans are 0 or 1, which is valid as an index, a length and a mask alike.

    Raises:
        KeyError: a dtype that has no such data (strings).
    """
    return tuple(_tensor(tensor, random.Random(f"{seed}/{k}")) for k, tensor in enumerate(tensors))


def load(tensors: Sequence[TensorInfo], given: Sequence[InputFile], paths: Sequence[str]) -> Tuple[bytes, ...]:
    """The user's own values for each tensor, matched by name; `paths[i]` holds those of `given[i]`.

    Raises:
        RuntimeRefusal: bad-input; there are none for a tensor, or they are of another type or shape.
        OSError: a file cannot be read.
    """
    found = {item.name: (item, path) for item, path in zip(given, paths)}
    data = []
    for tensor in tensors:
        if tensor.name not in found:
            raise RuntimeRefusal(
                "bad-input",
                f"values came for {', '.join(found)}, but here the model also has an input {tensor.name!r}",
                "try another runtime, or profile without values of your own",
            )
        item, path = found[tensor.name]
        if (item.dtype, item.shape) != (tensor.dtype, tensor.shape):
            raise RuntimeRefusal(
                "bad-input",
                f"input {tensor.name!r} takes {tensor.dtype} {list(tensor.shape)}, "
                f"but the values are {item.dtype} {list(item.shape)}",
                "give values of that type and shape",
            )
        with open(path, "rb") as file:
            data.append(file.read())
    return tuple(data)


def _tensor(tensor: TensorInfo, source: random.Random) -> bytes:
    total = size_bytes(tensor)
    n = min(math.prod(tensor.shape), BLOCK)
    block = _block(tensor.dtype, n, source)
    return (block * (total // max(1, len(block)) + 1))[:total]


def _block(dtype: str, n: int, source: random.Random) -> bytes:
    if dtype.startswith("float"):
        values = [source.uniform(-1.0, 1.0) for _ in range(n)]
        return struct.pack(f"<{n}{ {'float16': 'e', 'float32': 'f', 'float64': 'd'}[dtype] }", *values)
    if SIZES[dtype] <= 2 and dtype != "bool":
        return source.getrandbits(8 * n * SIZES[dtype]).to_bytes(n * SIZES[dtype], "little") if n else b""
    return b"".join(source.getrandbits(1).to_bytes(SIZES[dtype], "little") for _ in range(n))


def digest(parts: Sequence[bytes]) -> str:
    """SHA-256 over the parts, each preceded by its length so that they cannot run into each other."""
    state = hashlib.sha256()
    for part in parts:
        state.update(len(part).to_bytes(8, "little") + part)
    return state.hexdigest()


def is_finite(dtype: str, data: bytes) -> bool:
    """Whether float data holds no NaN and no infinity; other data always is."""
    if dtype == "float16":
        return all(math.isfinite(x) for (x,) in struct.iter_unpack("<e", data))
    if dtype not in ("float32", "float64"):
        return True
    values = array.array("f" if dtype == "float32" else "d", data)
    if sys.byteorder == "big":
        values.byteswap()
    return all(map(math.isfinite, values))
