"""What is known of everything else: loops over elements, by how many there are and how they lie beside each other."""

from __future__ import annotations

import math
from collections.abc import Sequence

from latency_models.features.broadcasting import BROADCASTING, SHAPED_BY_INPUT, run_length
from latency_models.features.reading import fill, image_axes, pair, values_of
from latency_models.kernels import KernelSpec

__all__ = ["POOL_TYPES", "describe_loop"]

POOL_TYPES = frozenset(("MaxPool", "AveragePool", "LpPool", "QLinearAveragePool", "MAX_POOL_2D", "AVERAGE_POOL_2D"))
RECURRENT_TYPES = ("LSTM", "GRU", "RNN", "UNIDIRECTIONAL_SEQUENCE_LSTM")
SMALL_BYTES = 1024


def describe_loop(kernel: KernelSpec, found: dict[str, float]) -> str:
    """By type, with sizes that matter to loops over elements: how many, in pieces of what length."""
    present = [one for one in kernel.inputs if one is not None]
    if found["weight_bytes"] < SMALL_BYTES:
        # Axes and shapes, which tell what to do and cost nothing.
        found["bytes"] -= found.pop("weight_bytes")
    # Some read nothing, and some write nothing (variables, calls).
    result = kernel.outputs[0].shape if kernel.outputs else ()
    source = max(present, key=lambda one: one.count).shape if present else result
    found.update(
        elements=float(max(math.prod(source), math.prod(result))),
        last=float(source[-1] if source else 1),
        outer=float(math.prod(source[:-1])),
        reduction=math.prod(source) / max(1, math.prod(result)),
        pieces=float(max(len(kernel.outputs), sum(not one.is_constant for one in present))),
        batch=float(source[0] if source else 1),
    )
    if len(source) == 4:
        height_at, channels_at = image_axes(kernel)
        found.update(
            input_height=float(source[height_at]),
            input_width=float(source[height_at + 1]),
            input_channels=float(source[channels_at]),
            output_channels=float(result[channels_at] if len(result) == 4 else math.prod(result)),
            input_fill_16=fill(source[channels_at], 16),
        )
    smallest = min((one.count for one in present if one.count * 4 >= SMALL_BYTES or len(present) < 3), default=1)
    found["broadcast"] = float(smallest < found["elements"])
    _axis(kernel, source, found)
    if kernel.type in BROADCASTING:
        shapes = [one.shape for one in (present[:1] if kernel.type in SHAPED_BY_INPUT else present)]
        found["steps"] = math.prod(result) / run_length(shapes, result, kernel.format)
    permutation = kernel.attributes.get("perm") or (values_of(kernel, 1) if kernel.type == "TRANSPOSE" else None)
    if isinstance(permutation, list | tuple) and permutation:
        found["moves_last"] = float(permutation[-1] != len(permutation) - 1)
        found["inner"] = float(_kept_run(permutation, source))
    if kernel.type in POOL_TYPES:
        _pool(kernel, source, result, found)
    if kernel.type in RECURRENT_TYPES:
        found["steps"] = float(source[0] if kernel.format == "onnx" else source[1]) if len(source) > 1 else 1.0
        found["columns"] = float(result[-1] if result else 1)
    mode = kernel.attributes.get("mode")
    found["mode"] = float(("nearest", "linear", "cubic").index(mode)) if mode in ("nearest", "linear", "cubic") else 0.0
    return kernel.type


def _axis(kernel: KernelSpec, source: tuple[int, ...], found: dict[str, float]) -> None:
    axis = kernel.attributes.get("axis")
    axes = kernel.attributes.get("axes")
    if isinstance(axes, list | tuple) and axes:
        axis = axes[0]
    elif axis is None and len(kernel.inputs) > 1 and kernel.type.startswith(("Reduce", "MEAN", "SUM", "REDUCE")):
        axis = (values_of(kernel, 1) or (None,))[0]
    if isinstance(axis, int | float) and source:
        place = int(axis) % len(source)
        found["inner"] = float(math.prod(source[place + 1 :]))


def _kept_run(permutation: Sequence[object], source: tuple[int, ...]) -> int:
    """How many elements stay beside each other when dimensions are moved."""
    run = 1
    for place in range(len(permutation) - 1, -1, -1):
        if permutation[place] != place or place >= len(source):
            break
        run *= source[place]
    return run


def _pool(kernel: KernelSpec, source: tuple[int, ...], result: tuple[int, ...], found: dict[str, float]) -> None:
    if len(source) != 4 or len(result) != 4:
        return
    height_at, _ = image_axes(kernel)
    window = pair(kernel.attributes, "kernel_shape", "filter_height", "filter_width")
    strides = pair(kernel.attributes, "strides", "stride_h", "stride_w")
    found.update(
        output_height=float(result[height_at]), output_width=float(result[height_at + 1]),
        kernel_height=window[0], kernel_width=window[1],
        stride_height=strides[0], stride_width=strides[1],
    )  # fmt: skip
