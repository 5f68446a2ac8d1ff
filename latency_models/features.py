"""The numbers that a kernel is predicted from: one extractor, for fitting and for predicting.

Every kernel has the same list of numbers, `NAMES`; what does not apply to it is NaN. Sizes are given as log2(1 + x),
since latency follows ratios of sizes. Which regression they go to is the kernel's `family`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from latency_models.broadcasting import BROADCASTING, SHAPED_BY_INPUT, run_length
from latency_models.kernels import Attribute, KernelSpec, Operand
from latency_models.surroundings import Context, Place

__all__ = ["CONTEXT", "NAMES", "N_OWN", "Form", "form"]

CONV_TYPES = frozenset(
    (
        "Conv",
        "FusedConv",
        "QLinearConv",
        "ConvInteger",
        "NhwcFusedConv",
        "QuantizedConv",
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
    )
)
TRANSPOSED_TYPES = frozenset(("ConvTranspose", "TRANSPOSE_CONV", "QLinearConvTranspose"))
MATRIX_TYPES = frozenset(
    (
        "Gemm", "MatMul", "FusedGemm", "FusedMatMul", "QGemm", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat",
        "DynamicQuantizeMatMul", "TransposeMatMul", "FULLY_CONNECTED", "BATCH_MATMUL",
    )
)  # fmt: skip
POOL_TYPES = frozenset(("MaxPool", "AveragePool", "LpPool", "QLinearAveragePool", "MAX_POOL_2D", "AVERAGE_POOL_2D"))
# The layout of ONNX Runtime in which channels lie in blocks of a vector's width: other kernels, in all but name.
BLOCKED = "com.microsoft.nchwc"
# Activations that take more than a comparison of each element.
DEAR = ("igmoid", "LOGISTIC", "anh", "TANH", "Gelu", "GELU", "Elu", "ELU", "wish", "SWISH", "Exp", "Erf", "Mish")
CLAMPS = frozenset(("Relu", "RELU", "LeakyRelu"))
# Clamped on both sides: kernels of ONNX Runtime that clamp from below as they store do this in a pass of its own.
BOTH_SIDES = frozenset(("Clip", "RELU6"))
HARD = frozenset(("HardSigmoid", "HARD_SWISH", "HardSwish"))
# Numbers of ActivationFunctionType in TFLite's schema: 0 is none, 4 is TANH.
TFLITE_TANH = 4
SUMS = frozenset(("Add", "ADD", "Sum", "QLinearAdd"))

_SIZES = (
    "macs", "input_bytes", "weight_bytes", "output_bytes", "bytes", "intensity", "batch",
    "input_height", "input_width", "input_channels", "output_height", "output_width", "output_channels",
    "kernel_height", "kernel_width", "stride_height", "stride_width", "dilation_height", "dilation_width",
    "groups", "group_inputs", "group_outputs", "rows", "depth", "columns", "matrices",
    "elements", "last", "outer", "reduction", "inner", "pieces", "steps",
)  # fmt: skip
_FLAGS = (
    "clamp",
    "hard_activation",
    "dear_activation",
    "sum",
    "n_fused",
    "transposed",
    "moves_last",
    "broadcast",
    "n_inputs",
    "mode",
)
SMALL_BYTES = 1024
QUIET = 1.0
QUANTISE_THEMSELVES = frozenset(("DynamicQuantizeMatMul", "DynamicQuantizeLSTM"))
# How full the last vector or tile is, of channels and columns: the widths of vectors and of tiles of kernels.
_FILLS = ("input_fill_8", "input_fill_16", "output_fill_8", "output_fill_16", "output_fill_64", "row_fill_6")
# What is true of the model and not of the kernel: how much there is to keep in caches, and the kernel's place in it.
# The last was once how slow the device was at the moment, of which the work that was to tell it told too little; it is
# what it was in a quiet moment, for the files that know it.
CONTEXT = ("model_bytes", "model_weight_bytes", "idle_bytes", "entering", "leaving", "slowness")
NAMES = (*_SIZES, *_FLAGS, *_FILLS, *CONTEXT)
N_OWN = len(NAMES) - len(CONTEXT)
_PLACE = {name: k for k, name in enumerate(NAMES)}
_N_SIZES = len(_SIZES)


@dataclass(frozen=True)
class Form:
    """A kernel as predictors see it: `values` in the order of `NAMES`, `macs` and `moved_bytes` for the roofline."""

    family: str
    values: NDArray[np.float64]
    macs: float
    moved_bytes: float

    @property
    def key(self) -> tuple[str, bytes]:
        """Equal for kernels that no predictor can tell apart, whatever they run in."""
        return self.family, self.values[:N_OWN].tobytes()

    def within(self, context: Context, place: Place) -> Form:
        """The same kernel in a model; see `surroundings`."""
        values = self.values.copy()
        values[N_OWN:] = (
            math.log2(1.0 + context.moved_bytes),
            math.log2(1.0 + context.weight_bytes),
            math.log2(1.0 + place.idle_bytes),
            place.entering,
            place.leaving,
            QUIET,
        )
        return replace(self, values=values)


def form(kernel: KernelSpec) -> Form:
    """The family and the features of a kernel; those of what it runs in are NaN until it is said (`Form.within`)."""
    found = _common(kernel)
    kind = _kind(kernel)
    if kind == "conv":
        family = _convolution(kernel, found)
    elif kind == "matrix":
        family = _matrix(kernel, found)
    else:
        family = _other(kernel, kind, found)
    macs = max(0.0, found.get("macs", 0.0))
    values = np.full(len(NAMES), np.nan)
    for name, value in found.items():
        place = _PLACE[name]
        values[place] = math.log2(1.0 + max(0.0, value)) if place < _N_SIZES else value
    layout = " in blocks" if kernel.domain == BLOCKED else ""
    return Form(f"{family} {_precision(kernel)}{layout}", values, macs, found["bytes"])


def _kind(kernel: KernelSpec) -> str:
    is_conv = kernel.type in CONV_TYPES or kernel.type in TRANSPOSED_TYPES
    if is_conv and len(_shape(kernel.outputs, 0)) in (3, 4):
        return "conv"
    if kernel.type in MATRIX_TYPES:
        return "matrix"
    return "pool" if kernel.type in POOL_TYPES else "other"


def _precision(kernel: KernelSpec) -> str:
    """The type of the first input that is no constant, as the runtime's kernels are chosen by it.

    What quantises its input itself computes in the type of its weights, and has the quantising to do as well.
    """
    present = [one for one in kernel.inputs if one is not None]
    if kernel.type in QUANTISE_THEMSELVES:
        weights = next((one.dtype for one in present if one.is_constant and len(one.shape) > 1), None)
        return f"{weights or 'int8'}-dynamic"
    data = next((one for one in present if not one.is_constant), present[0] if present else None)
    if data is None:
        return (kernel.outputs[0].dtype if kernel.outputs else None) or "float32"
    return data.dtype or "float32"


# --- what every kernel has -------------------------------------------------------------------------------------------


def _common(kernel: KernelSpec) -> dict[str, float]:
    present = [one for one in kernel.inputs if one is not None]
    data = [one for one in present if not one.is_constant]
    input_bytes = sum(one.size_bytes for one in data)
    weight_bytes = sum(one.size_bytes for one in present if one.is_constant)
    output_bytes = sum(one.size_bytes for one in kernel.outputs)
    total = input_bytes + weight_bytes + output_bytes
    macs = float(kernel.macs or 0)
    activations = _activations(kernel)
    return {
        "macs": macs,
        "input_bytes": input_bytes,
        "weight_bytes": weight_bytes,
        "output_bytes": output_bytes,
        "bytes": total,
        "intensity": macs / total if total else 0.0,
        "clamp": float(_clamp(activations)),
        "hard_activation": float(any(one in HARD for one in activations)),
        "dear_activation": float(any(part in one for one in activations if one not in HARD for part in DEAR)),
        "sum": float(any(one in SUMS for one in kernel.fused) or _has_sum(kernel)),
        "n_fused": float(len(kernel.fused)),
    }


def _activations(kernel: KernelSpec) -> list[str]:
    named = kernel.attributes.get("activation")
    found = [*kernel.fused, *([str(named)] if named else [])]
    number = kernel.attributes.get("fused_activation_function")
    if isinstance(number, int) and number:
        found.append("TANH" if number == TFLITE_TANH else "RELU")
    return found


def _clamp(activations: Sequence[str]) -> int:
    """On how many sides values are clamped."""
    if any(one in BOTH_SIDES for one in activations):
        return 2
    return int(any(one in CLAMPS for one in activations))


def _has_sum(kernel: KernelSpec) -> bool:
    """ONNX Runtime's fused convolutions read what they add as a fourth input."""
    return kernel.type in ("Conv", "FusedConv") and len(kernel.inputs) > 3 and kernel.inputs[3] is not None


# --- convolutions ----------------------------------------------------------------------------------------------------


def _convolution(kernel: KernelSpec, found: dict[str, float]) -> str:
    """Fill in the sizes of a convolution over an image; its family."""
    transposed = kernel.type in TRANSPOSED_TYPES
    is_tflite = kernel.format == "tflite"
    data, weights = _data_and_weights(kernel)
    height_at, channels_at = _image_axes(kernel)
    source = _as_image(data.shape)
    result = _as_image(kernel.outputs[0].shape)
    kernel_at = 1 if is_tflite else 2
    shape = _as_image(weights.shape) if weights is not None else (1, 1, 1, 1)
    groups = _groups(kernel, source[channels_at], result[channels_at], shape)
    sizes = {
        "batch": source[0],
        "input_height": source[height_at],
        "input_width": source[height_at + 1],
        "input_channels": source[channels_at],
        "output_height": result[height_at],
        "output_width": result[height_at + 1],
        "output_channels": result[channels_at],
        "kernel_height": shape[kernel_at],
        "kernel_width": shape[kernel_at + 1],
        "groups": groups,
        "group_inputs": source[channels_at] / groups,
        "group_outputs": result[channels_at] / groups,
    }
    strides = _pair(kernel.attributes, "strides", "stride_h", "stride_w")
    dilations = _pair(kernel.attributes, "dilations", "dilation_h_factor", "dilation_w_factor")
    found.update({name: float(value) for name, value in sizes.items()})
    found.update(_fills(source[channels_at], result[channels_at], result[height_at + 1]))
    found.update(stride_height=strides[0], stride_width=strides[1])
    found.update(dilation_height=dilations[0], dilation_width=dilations[1])
    if not found["macs"]:
        spread = math.prod(source[height_at : height_at + 2] if transposed else result[height_at : height_at + 2])
        per_pixel = shape[kernel_at] * shape[kernel_at + 1] * source[channels_at] * result[channels_at] / groups
        found["macs"] = float(source[0] * spread * per_pixel)
        found["intensity"] = found["macs"] / max(1.0, found["bytes"])
    if transposed:
        return "transposed convolution"
    if groups > 1:
        return "depthwise convolution" if groups == source[channels_at] else "grouped convolution"
    return "pointwise convolution" if shape[kernel_at] == shape[kernel_at + 1] == 1 else "convolution"


def _as_image(shape: tuple[int, ...]) -> tuple[int, ...]:
    """What has one dimension of space (sound) as an image of height 1."""
    return (*shape[:2], 1, *shape[2:]) if len(shape) == 3 else shape


def _image_axes(kernel: KernelSpec) -> tuple[int, int]:
    """Where height and channels stand in the shape of an image; width stands after the height."""
    is_last = (
        kernel.format == "tflite" or bool(kernel.attributes.get("channels_last")) or kernel.type == "NhwcFusedConv"
    )
    return (1, 3) if is_last else (2, 1)


def _fills(inputs: int, outputs: int, rows: int) -> dict[str, float]:
    """How full the last tile is, 0 to 1, of what is summed over, of what comes out, and of how often."""
    return {
        "input_fill_8": _fill(inputs, 8),
        "input_fill_16": _fill(inputs, 16),
        "output_fill_8": _fill(outputs, 8),
        "output_fill_16": _fill(outputs, 16),
        "output_fill_64": _fill(outputs, 64),
        "row_fill_6": _fill(rows, 6),
    }


def _fill(size: int, tile: int) -> float:
    return size / (tile * max(1, math.ceil(size / tile)))


def _data_and_weights(kernel: KernelSpec) -> tuple[Operand, Operand | None]:
    """TRANSPOSE_CONV has the output's shape first, QLinearConv scales and zero points in between."""
    rank = len(kernel.outputs[0].shape)
    images = [one for one in kernel.inputs if one is not None and len(one.shape) == rank]
    data = next((one for one in images if not one.is_constant), images[0])
    weights = next((one for one in images if one is not data and one.is_constant), None)
    return data, weights or next((one for one in images if one is not data), None)


def _groups(kernel: KernelSpec, inputs: int, outputs: int, weights: tuple[int, ...]) -> int:
    if kernel.format == "tflite":
        if kernel.type == "DEPTHWISE_CONV_2D":
            return inputs
        return max(1, inputs // max(1, weights[3])) if kernel.type == "CONV_2D" else 1
    group = kernel.attributes.get("group", 1)
    # In a layout of blocks, channels that were added to fill the last one count as groups and not as inputs.
    return min(group, max(1, inputs)) if isinstance(group, int) and group > 0 else 1


def _pair(attributes: Mapping[str, Attribute], both: str, first: str, second: str) -> tuple[float, float]:
    listed = attributes.get(both)
    if isinstance(listed, list | tuple) and len(listed) >= 2:
        return float(listed[0]), float(listed[1])
    if isinstance(listed, list | tuple) and len(listed) == 1:
        return 1.0, float(listed[0])
    return _number(attributes, first, 1.0), _number(attributes, second, 1.0)


# --- products of matrices --------------------------------------------------------------------------------------------


def _matrix(kernel: KernelSpec, found: dict[str, float]) -> str:
    present = [one for one in kernel.inputs if one is not None and len(one.shape) >= 1 and one.count > 1]
    left = present[0] if present else Operand(dtype=None, shape=(1,))
    right = next((one for one in present[1:] if len(one.shape) >= 2), None)
    result = kernel.outputs[0]
    columns = result.shape[-1] if result.shape else 1
    is_dense = right is not None and right.is_constant
    macs = found["macs"]
    rows = result.shape[-2] if len(result.shape) > 1 else 1
    matrices = result.count / max(1, rows * columns)
    if is_dense:
        rows, matrices = result.count // max(1, columns), 1.0
    depth = macs / result.count if macs and result.count else float(left.shape[-1] if left.shape else 1)
    if not macs:
        found["macs"] = depth * result.count
        found["intensity"] = found["macs"] / max(1.0, found["bytes"])
    found.update(rows=float(rows), depth=depth, columns=float(columns), matrices=matrices)
    found.update(_fills(round(depth), columns, rows))
    swaps = ("transA", "transB", "transBatchA", "transBatchB", "adj_x", "adj_y")
    found["transposed"] = float(sum(bool(kernel.attributes.get(name)) for name in swaps))
    return "dense" if is_dense else "matrix product"


# --- everything else -------------------------------------------------------------------------------------------------


def _other(kernel: KernelSpec, kind: str, found: dict[str, float]) -> str:
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
        height_at, channels_at = _image_axes(kernel)
        found.update(
            input_height=float(source[height_at]),
            input_width=float(source[height_at + 1]),
            input_channels=float(source[channels_at]),
            output_channels=float(result[channels_at] if len(result) == 4 else math.prod(result)),
            input_fill_16=_fill(source[channels_at], 16),
        )
    smallest = min((one.count for one in present if one.count * 4 >= SMALL_BYTES or len(present) < 3), default=1)
    found["broadcast"] = float(smallest < found["elements"])
    _axis(kernel, source, found)
    if kernel.type in BROADCASTING:
        shapes = [one.shape for one in (present[:1] if kernel.type in SHAPED_BY_INPUT else present)]
        found["steps"] = math.prod(result) / run_length(shapes, result, kernel.format)
    permutation = kernel.attributes.get("perm") or (_values(kernel, 1) if kernel.type == "TRANSPOSE" else None)
    if isinstance(permutation, list | tuple) and permutation:
        found["moves_last"] = float(permutation[-1] != len(permutation) - 1)
        found["inner"] = float(_kept_run(permutation, source))
    if kind == "pool":
        _pool(kernel, source, result, found)
    if kernel.type in ("LSTM", "GRU", "RNN", "UNIDIRECTIONAL_SEQUENCE_LSTM"):
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
        axis = (_values(kernel, 1) or (None,))[0]
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
    height_at, _ = _image_axes(kernel)
    window = _pair(kernel.attributes, "kernel_shape", "filter_height", "filter_width")
    strides = _pair(kernel.attributes, "strides", "stride_h", "stride_w")
    found.update(
        output_height=float(result[height_at]), output_width=float(result[height_at + 1]),
        kernel_height=window[0], kernel_width=window[1],
        stride_height=strides[0], stride_width=strides[1],
    )  # fmt: skip


def _values(kernel: KernelSpec, place: int) -> tuple[float, ...] | None:
    one = kernel.inputs[place] if place < len(kernel.inputs) else None
    return one.values if one is not None else None


def _shape(operands: tuple[Operand | None, ...] | tuple[Operand, ...], place: int) -> tuple[int, ...]:
    one = operands[place] if place < len(operands) else None
    return one.shape if one is not None else ()


def _number(attributes: Mapping[str, Attribute], name: str, default: float) -> float:
    value = attributes.get(name, default)
    return float(value) if isinstance(value, int | float) else default
