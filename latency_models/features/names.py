"""The names of the numbers, in the order in which they stand; the first `N_SIZES` of them are sizes."""

from __future__ import annotations

__all__ = ["CONTEXT", "NAMES", "N_OWN", "N_SIZES", "PLACE"]

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
# How full the last vector or tile is, of channels and columns: the widths of vectors and of tiles of kernels.
_FILLS = ("input_fill_8", "input_fill_16", "output_fill_8", "output_fill_16", "output_fill_64", "row_fill_6")
# What is true of the model and not of the kernel: how much there is to keep in caches, and the kernel's place in it.
# The last was once how slow the device was at the moment, of which the work that was to tell it told too little; it is
# what it was in a quiet moment, for the files that know it.
CONTEXT = ("model_bytes", "model_weight_bytes", "idle_bytes", "entering", "leaving", "slowness")
NAMES = (*_SIZES, *_FLAGS, *_FILLS, *CONTEXT)
N_OWN = len(NAMES) - len(CONTEXT)
PLACE = {name: k for k, name in enumerate(NAMES)}
N_SIZES = len(_SIZES)
