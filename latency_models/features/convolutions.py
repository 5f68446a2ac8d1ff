"""What is known of a convolution."""

from __future__ import annotations

import math

from latency_models.features.reading import fills, image_axes, pair
from latency_models.kernels import KernelSpec, Operand

__all__ = ["CONV_TYPES", "TRANSPOSED_TYPES", "describe_convolution"]

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


def describe_convolution(kernel: KernelSpec, found: dict[str, float]) -> str:
    """Fill in the sizes of a convolution over an image; its family."""
    transposed = kernel.type in TRANSPOSED_TYPES
    is_tflite = kernel.format == "tflite"
    data, weights = _data_and_weights(kernel)
    height_at, channels_at = image_axes(kernel)
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
    strides = pair(kernel.attributes, "strides", "stride_h", "stride_w")
    dilations = pair(kernel.attributes, "dilations", "dilation_h_factor", "dilation_w_factor")
    found.update({name: float(value) for name, value in sizes.items()})
    found.update(fills(source[channels_at], result[channels_at], result[height_at + 1]))
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
