"""Nets for phones: MobileNet V1 to V3, EfficientNet-lite, ShuffleNetV2."""

from __future__ import annotations

import math

from latency_models.building import GraphBuilder, Value

__all__ = ["V3_LARGE", "V3_SMALL", "efficientnet_lite", "mobilenet_v1", "mobilenet_v2", "mobilenet_v3", "shufflenet_v2"]

CLASSES = 1000


def divisible(value: float, step: int = 8) -> int:
    """Rounded to a multiple, and never down by more than a tenth (Sandler et al., their published code)."""
    rounded = max(step, int(value + step / 2) // step * step)
    return rounded + step if rounded < 0.9 * value else rounded


def classifier(net: GraphBuilder, x: Value) -> Value:
    return net.dense(net.global_average(x, keep=False), CLASSES)


def mobilenet_v1(net: GraphBuilder, width: float, side: int) -> Value:
    """Howard et al., MobileNets (2017), table 1."""
    x = net.conv(net.image(side, side), int(32 * width), 3, 2, activation="relu6")
    steps = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for channels, stride in steps:
        x = net.depthwise(x, 3, stride, activation="relu6")
        x = net.conv(x, int(channels * width), 1, activation="relu6")
    return classifier(net, x)


def inverted_residual(
    net: GraphBuilder, x: Value, channels: int, kernel: int, stride: int, inner: int, act: str
) -> Value:
    y = net.conv(x, inner, 1, activation=act) if inner != x.channels else x
    y = net.conv(net.depthwise(y, kernel, stride, activation=act), channels, 1)
    return net.add(x, y) if y.shape == x.shape else y


def mobilenet_v2(net: GraphBuilder, width: float, side: int) -> Value:
    """Sandler et al., MobileNetV2 (2018), table 2."""
    x = net.conv(net.image(side, side), divisible(32 * width), 3, 2, activation="relu6")
    table = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expand, channels, n, stride in table:
        for k in range(n):
            wide = x.channels * expand
            x = inverted_residual(net, x, divisible(channels * width), 3, stride if k == 0 else 1, wide, "relu6")
    return classifier(net, net.conv(x, max(1280, divisible(1280 * width)), 1, activation="relu6"))


# Kernel, inner channels, channels, squeeze and excite, activation, stride: Howard et al., Searching for MobileNetV3
# (2019), tables 1 and 2.
RE, HS = "relu", "hard_swish"
V3_LARGE = (
    (3, 16, 16, False, RE, 1), (3, 64, 24, False, RE, 2), (3, 72, 24, False, RE, 1), (5, 72, 40, True, RE, 2),
    (5, 120, 40, True, RE, 1), (5, 120, 40, True, RE, 1), (3, 240, 80, False, HS, 2), (3, 200, 80, False, HS, 1),
    (3, 184, 80, False, HS, 1), (3, 184, 80, False, HS, 1), (3, 480, 112, True, HS, 1), (3, 672, 112, True, HS, 1),
    (5, 672, 160, True, HS, 2), (5, 960, 160, True, HS, 1), (5, 960, 160, True, HS, 1),
)  # fmt: skip
V3_SMALL = (
    (3, 16, 16, True, RE, 2), (3, 72, 24, False, RE, 2), (3, 88, 24, False, RE, 1), (5, 96, 40, True, HS, 2),
    (5, 240, 40, True, HS, 1), (5, 240, 40, True, HS, 1), (5, 120, 48, True, HS, 1), (5, 144, 48, True, HS, 1),
    (5, 288, 96, True, HS, 2), (5, 576, 96, True, HS, 1), (5, 576, 96, True, HS, 1),
)  # fmt: skip
V3 = tuple[tuple[int, int, int, bool, str, int], ...]


def v3_block(
    net: GraphBuilder, x: Value, kernel: int, inner: int, channels: int, gated: bool, act: str, stride: int
) -> Value:
    y = net.conv(x, inner, 1, activation=act) if inner != x.channels else x
    y = net.depthwise(y, kernel, stride, activation=act)
    if gated:
        squeezed = net.conv(net.global_average(y), divisible(inner / 4), 1, activation="relu")
        y = net.multiply(y, net.conv(squeezed, inner, 1, activation="hard_sigmoid"))
    y = net.conv(y, channels, 1)
    return net.add(x, y) if y.shape == x.shape else y


def mobilenet_v3(net: GraphBuilder, blocks: V3, last: int, hidden: int) -> Value:
    """Howard et al., Searching for MobileNetV3 (2019)."""
    x = net.conv(net.image(224, 224), 16, 3, 2, activation=HS)
    for kernel, inner, channels, gated, act, stride in blocks:
        x = v3_block(net, x, kernel, inner, channels, gated, act, stride)
    x = net.conv(x, last, 1, activation=HS)
    return net.dense(net.dense(net.global_average(x, keep=False), hidden, activation=HS), CLASSES)


def efficientnet_lite(net: GraphBuilder, width: float, depth: float, side: int) -> Value:
    """Tan and Le, EfficientNet (2019), table 1; as lite: no gates, ReLU6, stem and head of fixed width."""
    x = net.conv(net.image(side, side), 32, 3, 2, activation="relu6")
    table = [
        (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    ]  # fmt: skip
    for stage, (expand, channels, n, stride, kernel) in enumerate(table):
        repeats = n if stage in (0, len(table) - 1) else math.ceil(n * depth)
        for k in range(repeats):
            wide = x.channels * expand
            x = inverted_residual(net, x, divisible(channels * width), kernel, stride if k == 0 else 1, wide, "relu6")
    return classifier(net, net.conv(x, 1280, 1, activation="relu6"))


def shufflenet_v2(net: GraphBuilder) -> Value:
    """Ma et al., ShuffleNet V2 (2018), table 5, width 1."""
    x = net.conv(net.image(224, 224), 24, 3, 2, activation="relu")
    x = net.pool(x, "max", 3, 2, padding="same")
    for channels, n in ((116, 4), (232, 8), (464, 4)):
        half = channels // 2
        left = net.conv(net.depthwise(x, 3, 2), half, 1, activation="relu")
        right = net.depthwise(net.conv(x, half, 1, activation="relu"), 3, 2)
        x = net.channel_shuffle(net.concat([left, net.conv(right, half, 1, activation="relu")]), 2)
        for _ in range(n - 1):
            left, right = net.split(x, 2)
            right = net.depthwise(net.conv(right, half, 1, activation="relu"), 3)
            x = net.channel_shuffle(net.concat([left, net.conv(right, half, 1, activation="relu")]), 2)
    return classifier(net, net.conv(x, 1024, 1, activation="relu"))
