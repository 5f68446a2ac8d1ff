"""A kernel as numbers: which regression it goes to, and what all of them have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from latency_models.features.convolutions import CONV_TYPES, TRANSPOSED_TYPES, describe_convolution
from latency_models.features.loops import describe_loop
from latency_models.features.names import N_OWN, N_SIZES, NAMES, PLACE
from latency_models.features.products import MATRIX_TYPES, describe_product
from latency_models.features.reading import shape_of
from latency_models.kernels import KernelSpec
from latency_models.surroundings import Context, Place

__all__ = ["Form", "form"]

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
# See the last of `CONTEXT`.
QUIET = 1.0
QUANTISE_THEMSELVES = frozenset(("DynamicQuantizeMatMul", "DynamicQuantizeLSTM"))


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
    if _is_convolution(kernel):
        family = describe_convolution(kernel, found)
    elif kernel.type in MATRIX_TYPES:
        family = describe_product(kernel, found)
    else:
        family = describe_loop(kernel, found)
    macs = max(0.0, found.get("macs", 0.0))
    values = np.full(len(NAMES), np.nan)
    for name, value in found.items():
        place = PLACE[name]
        values[place] = math.log2(1.0 + max(0.0, value)) if place < N_SIZES else value
    layout = " in blocks" if kernel.domain == BLOCKED else ""
    return Form(f"{family} {_precision(kernel)}{layout}", values, macs, found["bytes"])


def _is_convolution(kernel: KernelSpec) -> bool:
    """Over an image, or over time."""
    is_one = kernel.type in CONV_TYPES or kernel.type in TRANSPOSED_TYPES
    return is_one and len(shape_of(kernel.outputs, 0)) in (3, 4)


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
