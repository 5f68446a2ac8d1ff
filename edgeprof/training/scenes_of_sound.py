"""Scenes of sound and of sensors: convolutions over time, memories, and what sees its input as it comes."""

from __future__ import annotations

from edgeprof.training.oddments.onnx import convolved, in_windows
from edgeprof.training.sizes import Sizes
from latency_models.building import BuildError, GraphBuilder, Value

__all__ = ["as_it_comes", "memory", "over_time", "recurrent", "remembered", "sound", "with_long_windows"]

ACTIVATIONS = ("relu", "relu", "relu6", "hard_swish", "sigmoid", None)


def memory(net: GraphBuilder, sizes: Sizes, x: Value, units: int) -> Value:
    """A recurrent layer over tokens.

    Raises:
        BuildError: in TFLite: LiteRT's compiled model takes none that has variable tensors ("Variable tensors not yet
            supported"), so that nothing beside such a layer could be timed either.
    """
    if net.format == "tflite":
        raise BuildError("LiteRT times no model that has a recurrent layer")
    return net.lstm(x, units) if sizes.chance(0.5) else net.gru(x, units)


def recurrent(net: GraphBuilder, sizes: Sizes) -> Value:
    """A recurrent layer, and nothing else."""
    x = net.input((1, sizes.log_uniform(1, 128), 8 * sizes.log_uniform(1, 32)))
    return memory(net, sizes, x, 8 * sizes.log_uniform(1, 32))


def sound(net: GraphBuilder, sizes: Sizes, n_layers: int) -> Value:
    """Sound or sensors: so many convolutions over time, at times of a spectrogram.

    Raises:
        BuildError: in TFLite, where these are images of one row and drawn as such, and in int8.
    """
    if net.format != "onnx" or net.precision != "float32":
        raise BuildError("convolutions over time are drawn in ONNX and float32 alone")
    x = (
        in_windows(net, sizes)
        if sizes.chance(0.4)
        else net.input((1, sizes.channels(1, 256), sizes.log_uniform(1, 1000)))
    )
    for _ in range(n_layers):
        x = convolved(net, sizes, x)
    return x


def over_time(net: GraphBuilder, sizes: Sizes) -> Value:
    """A few convolutions over time."""
    return sound(net, sizes, sizes.one_of((1, 2, 3)))


def with_long_windows(net: GraphBuilder, sizes: Sizes) -> Value:
    """Filters over a long time, as for pitch and for what is near in a spectrogram: windows wider than any image's."""
    height = sizes.one_of((1, 1, 1, 2, 40, 80, 172))
    width = sizes.log_uniform(40, 40_000 // height)
    window = (sizes.one_of((1, 3)) if height > 2 else 1, min(width, sizes.log_uniform(9, 300 if height < 3 else 40)))
    x = net.image(height, width, sizes.one_of((1, 1, 2, 4, 8, 16)))
    stride = (1, sizes.one_of((1, 1, 2, 4)))
    outputs = sizes.outputs(height * width / stride[1] * window[0] * window[1] * x.channels, 1, 64)
    return net.conv(
        x,
        outputs,
        window,
        stride,
        activation=sizes.one_of(("relu", "sigmoid", None)),
        padding=sizes.one_of(("same", "valid")),
    )


def as_it_comes(net: GraphBuilder, sizes: Sizes, n_layers: int) -> Value:
    """Sound as it comes, so many layers: each sees a few rows of what came before.

    Raises:
        BuildError: in ONNX, where a model has no variables to keep them in.
    """
    rows, width = sizes.one_of((1, 1, 2, 3, 4)), 8 * sizes.log_uniform(1, 32)
    x = net.image(rows, 1, width)
    for _ in range(n_layers):
        x = net.remember(x, sizes.one_of((1, 2, 4, 6, 8, 12, 16, 20)))
        window = (x.shape[1], 1) if sizes.chance(0.7) else (max(1, x.shape[1] // 2), 1)
        if sizes.chance(0.3):
            x = net.conv(x, 8 * sizes.log_uniform(1, 16), window, padding="valid", activation=sizes.one_of(ACTIVATIONS))
            continue
        x = net.depthwise(x, window, padding="valid", activation=sizes.one_of(ACTIVATIONS))
        x = net.conv(x, 8 * sizes.log_uniform(1, 16), 1, activation=sizes.one_of(ACTIVATIONS))
    return x


def remembered(net: GraphBuilder, sizes: Sizes) -> Value:
    """A few such layers."""
    return as_it_comes(net, sizes, sizes.one_of((1, 2, 3)))
