"""What each layer of a builder computes, in torch (extra `torch`): images are (batch, channels, height, width).

As both file formats compute it: padding "same" puts what is odd at the end, averages leave padding out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812, as everybody calls it
from torch import Tensor

from edgeprof.search.learning.tape import Step
from latency_models.building import BuildError, Value
from latency_models.building.base import pair, windows

__all__ = ["LAYERS", "NORM_EPSILON", "activated", "convolved", "require_known"]

NORM_EPSILON = 1e-5
# Of a value's shape (batch, height, width, channels) the place of each dimension in torch.
IMAGE_AXES = (0, 2, 3, 1)
Weights = Sequence[Tensor]
Layer = Callable[[Step, Sequence[Tensor], Weights], Any]

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu, "relu6": F.relu6, "hard_swish": F.hardswish, "hard_sigmoid": F.hardsigmoid,
    "sigmoid": torch.sigmoid, "tanh": torch.tanh, "swish": F.silu, "gelu": F.gelu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.1), "elu": F.elu,
}  # fmt: skip


def activated(x: Tensor, activation: str | None, weights: Weights = ()) -> Tensor:
    """One of the builder's activations; prelu has weights."""
    if activation is None:
        return x
    if activation == "prelu":
        return torch.maximum(x, x.new_zeros(())) + weights[0] * torch.minimum(x, x.new_zeros(()))
    return ACTIVATIONS[activation](x)


def convolved(step: Step, x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """A convolution or a depthwise one, without its activation."""
    options, source = step.options, step.inputs[0]
    groups = source.channels if step.layer == "depthwise" else options["groups"]
    stride, holes = pair(options["stride"]), pair(options["dilation"])
    padded = _padded(x, source, pair(options["kernel"]), stride, holes, options["padding"])
    return F.conv2d(padded, kernel, bias, stride, 0, holes, groups)


def _padded(
    x: Tensor,
    source: Value,
    window: tuple[int, int],
    stride: tuple[int, int],
    holes: tuple[int, int],
    padding: str,
    value: float = 0.0,
) -> Tensor:
    above, beside = (
        windows(source.shape[1 + k], window[k], stride[k], holes[k], padding)[1] for k in range(2)
    )  # both sides together
    if not above and not beside:
        return x
    return F.pad(x, (beside // 2, beside - beside // 2, above // 2, above - above // 2), value=value)


def _dense(step: Step, x: Sequence[Tensor], weights: Weights) -> Tensor:
    n_bias = 1 if step.options["bias"] else 0
    # Vectors are multiplied by (units, inputs), tokens by (inputs, units): as the files have it.
    kernel = weights[0] if len(step.inputs[0].shape) == 2 else weights[0].T
    made = F.linear(x[0], kernel, weights[1] if n_bias else None)
    return activated(made, step.options["activation"], weights[1 + n_bias :])


def _matmul(step: Step, x: Sequence[Tensor], weights: Weights) -> Tensor:
    return x[0] @ (x[1].transpose(-1, -2) if step.options["transpose_b"] else x[1])


def _pool(step: Step, x: Sequence[Tensor], weights: Weights) -> Tensor:
    options = step.options
    window, stride = pair(options["kernel"]), pair(options["stride"])
    if options["kind"] == "max":
        padded = _padded(x[0], step.inputs[0], window, stride, (1, 1), options["padding"], float("-inf"))
        return F.max_pool2d(padded, window, stride)
    padded = _padded(x[0], step.inputs[0], window, stride, (1, 1), options["padding"])
    found = F.avg_pool2d(padded, window, stride)
    if padded is x[0]:
        return found
    # A mean over what lies inside the image alone.
    inside = _padded(torch.ones_like(x[0][:1, :1]), step.inputs[0], window, stride, (1, 1), options["padding"])
    return found / F.avg_pool2d(inside, window, stride)


def _global_average(step: Step, x: Sequence[Tensor], weights: Weights) -> Tensor:
    return x[0].mean(dim=(2, 3), keepdim=step.options["keep"])


def _layer_norm(step: Step, x: Sequence[Tensor], weights: Weights) -> Tensor:
    return F.layer_norm(x[0], x[0].shape[-1:], weights[0], weights[1], NORM_EPSILON)


def _scale(step: Step, x: Sequence[Tensor], weights: Weights) -> Tensor:
    return x[0] * weights[0] + weights[1]


def _stored_axis(step: Step) -> int:
    first = step.inputs[0]
    place = step.options["axis"] % len(first.shape)
    return IMAGE_AXES[place] if first.is_image else place


def _split(step: Step, x: Sequence[Tensor], weights: Weights) -> tuple[Tensor, ...]:
    return tuple(torch.chunk(x[0], step.options["parts"], dim=_stored_axis(step)))


def _reshape(step: Step, x: Sequence[Tensor], weights: Weights) -> Tensor:
    """Nets are built for a batch of one and trained in larger ones."""
    shape = tuple(step.options["shape"])
    if shape[0] != step.inputs[0].shape[0]:
        raise BuildError(f"reshape: {list(step.inputs[0].shape)} to {list(shape)} changes the batch: it cannot learn")
    return x[0].reshape(-1, *shape[1:])


def _to_tokens(step: Step, x: Sequence[Tensor], weights: Weights) -> Tensor:
    return x[0].flatten(2).transpose(1, 2)


def _to_image(step: Step, x: Sequence[Tensor], weights: Weights) -> Tensor:
    height, width = step.options["height"], step.options["width"]
    return x[0].transpose(1, 2).reshape(-1, step.inputs[0].channels, height, width)


def _resize(step: Step, x: Sequence[Tensor], weights: Weights) -> Tensor:
    mode = step.options["mode"]
    settings: dict[str, Any] = {} if mode == "nearest" else {"align_corners": False}
    return F.interpolate(x[0], scale_factor=float(step.options["factor"]), mode=mode, **settings)


def _channel_shuffle(step: Step, x: Sequence[Tensor], weights: Weights) -> Tensor:
    groups = step.options["groups"]
    batch, channels, height, width = x[0].shape
    dealt = x[0].reshape(batch, groups, channels // groups, height, width)
    return dealt.transpose(1, 2).reshape(batch, channels, height, width)


# Convolutions are not here: their batch normalisation is the net's (module.py).
LAYERS: Mapping[str, Layer] = {
    "dense": _dense,
    "matmul": _matmul,
    "activate": lambda step, x, weights: activated(x[0], step.options["activation"], weights),
    "add": lambda step, x, weights: activated(x[0] + x[1], step.options["activation"], weights),
    "multiply": lambda step, x, weights: x[0] * x[1],
    "subtract": lambda step, x, weights: x[0] - x[1],
    "scale": _scale,
    "softmax": lambda step, x, weights: torch.softmax(x[0], dim=-1),
    "layer_norm": _layer_norm,
    "pool": _pool,
    "global_average": _global_average,
    "mean": lambda step, x, weights: x[0].mean(dim=1),
    "concat": lambda step, x, weights: torch.cat(list(x), dim=_stored_axis(step)),
    "split": _split,
    "reshape": _reshape,
    "to_tokens": _to_tokens,
    "to_image": _to_image,
    "transpose": lambda step, x, weights: x[0].permute(*step.options["permutation"]),
    "flatten": lambda step, x, weights: x[0].flatten(1),
    "resize": _resize,
    "pad": lambda step, x, weights: F.pad(x[0], (step.options["pixels"],) * 4),
    "channel_shuffle": _channel_shuffle,
}
OTHERS = frozenset(("conv", "depthwise", "image", "input"))


def require_known(steps: Sequence[Step]) -> None:
    """Refuse a net with layers that cannot be trained here.

    Raises:
        BuildError: there is one.
    """
    unknown = sorted({step.layer for step in steps} - LAYERS.keys() - OTHERS)
    if unknown:
        raise BuildError(f"{', '.join(unknown)} cannot be trained here: give a training function of your own")
    n_inputs = sum(step.layer in ("image", "input") for step in steps)
    if n_inputs != 1:
        raise BuildError(f"a net with {n_inputs} inputs cannot be trained here: give a training function of your own")
