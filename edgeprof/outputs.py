"""Whether a device computes what it should: its outputs against a reference's, value by value. Pure functions."""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_agents.wire import OutputValues, TensorInfo
from edgeprof.run import OutputCheck, OutputDifference

__all__ = ["compare_arrays", "compare_outputs", "disagreements", "unpack"]

# Below this two outputs do not point the same way: int8 quantisation of a whole model usually keeps more.
LEAST_COSINE = 0.99
# Rounding errors are a millionth of the peak in float32 and a hundredth in 8 bits; a tenth is another answer.
MOST_ERROR_OF_PEAK = 0.1
# Kernels for quantised data round differently by one step of the last digit.
QUANTISED_STEP = 1
# Integers this narrow are quantised values; wider ones are indices, counts and labels, which are right or wrong.
QUANTISED = ("int8", "uint8", "int16", "uint16")
FLOATS = ("float16", "float32", "float64", "bfloat16")
LITTLE_ENDIAN = {name: np.dtype(name).newbyteorder("<") for name in (*QUANTISED, *FLOATS[:3])}
LITTLE_ENDIAN |= {name: np.dtype(name).newbyteorder("<") for name in ("int32", "uint32", "int64", "uint64", "bool")}

Values = NDArray[Any]


def compare_outputs(
    found: Sequence[TensorInfo],
    found_values: Sequence[OutputValues],
    expected: Sequence[TensorInfo],
    expected_values: Sequence[OutputValues],
) -> tuple[OutputDifference, ...]:
    """Each output of the device against the reference's at the same place.

    Raises:
        ValueError: values that are not what they claim to be.
    """
    if len(found) != len(expected):
        why = f"the device gave {len(found)} outputs, the reference {len(expected)}"
        return tuple(_missing(tensor, why) for tensor in found)
    rows = zip(found, found_values, expected, expected_values, strict=True)
    return tuple(_compare(*row) for row in rows)


def _compare(
    found: TensorInfo, found_values: OutputValues, expected: TensorInfo, expected_values: OutputValues
) -> OutputDifference:
    if found.dtype != expected.dtype:
        return _missing(found, f"its elements are {found.dtype}, the reference's {expected.dtype}")
    if found_values.data is None or expected_values.data is None:
        return _missing(found, found_values.missing or expected_values.missing or "no values came")
    if found.shape != expected.shape or found_values.step != expected_values.step:
        return _missing(found, f"its shape is {list(found.shape)}, the reference's {list(expected.shape)}")
    return compare_arrays(found, unpack(found_values, found.dtype), unpack(expected_values, expected.dtype))


def unpack(values: OutputValues, dtype: str) -> Values:
    """The values that were sent, flat.

    Raises:
        ValueError: they are not what they claim to be.
    """
    try:
        raw = zlib.decompress(base64.b64decode(values.data or "", validate=True))
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"not packed values: {error}") from error
    if dtype == "bfloat16":  # the upper half of a float32
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(raw, LITTLE_ENDIAN[dtype])


def compare_arrays(tensor: TensorInfo, found: Values, expected: Values) -> OutputDifference:
    """Compare flat arrays of one dtype: all values of `tensor`, or a sample of them.

    Wide integers are compared exactly, also beyond what float64 can tell apart.
    """
    n = math.prod(tensor.shape)
    if found.size != expected.size:
        return _missing(tensor, f"the device gave {found.size} values, the reference {expected.size}")
    if not found.size:
        return _missing(tensor, "it is empty: there is nothing to compare")
    same = (found == expected) | ((found != found) & (expected != expected))
    finite = np.isfinite(found) & np.isfinite(expected)
    error, peak = _errors(found[finite], expected[finite])
    cosine, cosine_missing = _cosine(found[finite], expected[finite])
    return OutputDifference(
        name=tensor.name,
        dtype=tensor.dtype,
        shape=tensor.shape,
        n_values=max(n, found.size),
        n_compared=int(found.size),
        n_unequal=int(np.count_nonzero(~same)),
        n_not_finite=int(np.count_nonzero(~same & ~finite)),
        cosine=cosine,
        cosine_missing=cosine_missing,
        max_error=error,
        max_error_of_peak=error / peak if error is not None and peak else None,
        peak=peak,
    )


def _missing(tensor: TensorInfo, why: str) -> OutputDifference:
    return OutputDifference(
        name=tensor.name, dtype=tensor.dtype, shape=tensor.shape, n_values=math.prod(tensor.shape), missing=why
    )


def _errors(found: Values, expected: Values) -> tuple[float | None, float | None]:
    """Largest absolute difference, and largest magnitude expected; None where no value is finite on both sides."""
    if not found.size:
        return None, None
    peak = max(abs(float(expected.max())), abs(float(expected.min())))
    if np.issubdtype(found.dtype, np.integer):
        # Differences of int64 may overflow it, but never uint64, whose arithmetic is modulo 2**64.
        low, high = np.minimum(found, expected), np.maximum(found, expected)
        return float((high.astype(np.uint64) - low.astype(np.uint64)).max()), peak
    # Halves first: the difference of two finite numbers need not be finite.
    half = float(np.abs(found.astype(np.float64) / 2 - expected.astype(np.float64) / 2).max())
    return min(2 * half, float(np.finfo(np.float64).max)), peak


def _cosine(found: Values, expected: Values) -> tuple[float | None, str | None]:
    if not found.size:
        return None, "no value is finite on both sides"
    sides = [_direction(side) for side in (found, expected)]
    zero = [name for name, side in zip(("the device's", "the reference's"), sides, strict=True) if side is None]
    if zero:
        return None, f"{' and '.join(zero)} values are all zero, which has no direction"
    a, b = (side for side in sides if side is not None)
    return max(-1.0, min(1.0, float(a @ b))), None


def _direction(values: Values) -> NDArray[np.float64] | None:
    """The unit vector, scaled first so that neither squares nor their sum leave float64's range; None for zero."""
    plain = values.astype(np.float64)
    peak = float(np.abs(plain).max())
    if not peak:
        return None
    scaled = plain / peak
    unit: NDArray[np.float64] = scaled / np.linalg.norm(scaled)
    return unit


def disagreements(check: OutputCheck) -> tuple[str, ...]:
    """What makes an output another answer and not another rounding; empty where all that was compared agrees."""
    return tuple(
        f"output {output.name!r}: {why}"
        for output in check.outputs
        if output.missing is None
        for why in _doubts(output)
    )


def _doubts(output: OutputDifference) -> Iterator[str]:
    if output.n_not_finite:
        yield f"{output.n_not_finite} of {output.n_compared} values are NaN or infinite on one side only"
    if output.dtype not in (*FLOATS, *QUANTISED):
        if output.n_unequal:
            yield f"{output.n_unequal} of {output.n_compared} values differ; such values ({output.dtype}) are exact"
        return
    if output.dtype in QUANTISED and (output.max_error or 0.0) <= QUANTISED_STEP:
        return
    if output.cosine is not None and output.cosine < LEAST_COSINE:
        yield f"cosine similarity {output.cosine:.4f} (limit {LEAST_COSINE})"
    if output.max_error and output.cosine is None:
        yield f"max error {output.max_error:.3g}, and {output.cosine_missing}"
    if output.max_error_of_peak is not None and output.max_error_of_peak > MOST_ERROR_OF_PEAK:
        yield f"max error {output.max_error_of_peak:.1%} of the largest value (limit {MOST_ERROR_OF_PEAK:.0%})"
