"""The values a model computed, on their way to the host: raw and little-endian, packed, and never too many of them."""

import base64
import math
import zlib
from typing import Any, Dict, Sequence, Tuple

from device_agents.inputs import SIZES
from device_agents.wire import OutputValues, TensorInfo

ITEM_BYTES = {**SIZES, "bfloat16": 2}
# All outputs of a model together: 30 s of silence end a job, and base64 of this takes 14 s on a link of 100 kB/s.
MAX_BYTES = 1024 * 1024
# memoryview's codes of elements of so many bytes; only their width matters here.
CODES: Dict[int, Any] = {1: "B", 2: "H", 4: "I", 8: "Q"}
FAST = 1


def pack(tensors: Sequence[TensorInfo], data: Sequence[bytes]) -> Tuple[OutputValues, ...]:
    """Every output's values; of a large output every `step`-th one, so that all share `MAX_BYTES` equally."""
    most = MAX_BYTES // max(1, len(data))
    return tuple(_pack(tensor, block, most) for tensor, block in zip(tensors, data))


def _pack(tensor: TensorInfo, block: bytes, most: int) -> OutputValues:
    width = ITEM_BYTES.get(tensor.dtype)
    if width is None or len(block) % width:
        return OutputValues(None, missing=f"{tensor.dtype} has no raw values to compare")
    step = sampling_step(len(block) // width, most // width)
    kept = block if step == 1 else memoryview(block).cast(CODES[width])[::step].tobytes()
    return OutputValues(base64.b64encode(zlib.compress(kept, FAST)).decode("ascii"), step)


def sampling_step(n: int, most: int) -> int:
    """Smallest step that takes at most about `most` of `n` values and falls on every index of every dimension.

    It has no divisor in common with `n`: a step of 4 would only ever see the first coordinate of each box.
    """
    step = max(1, -(-n // max(1, most)))
    while math.gcd(step, n) > 1:
        step += 1
    return step
