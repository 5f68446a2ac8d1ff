"""Nets for images from before phones: ResNet, SqueezeNet, DenseNet, Inception."""

from __future__ import annotations

from latency_models.building import GraphBuilder, Value

__all__ = ["densenet121", "inception_v3", "resnet18", "resnet50", "squeezenet"]

CLASSES = 1000


def _classifier(net: GraphBuilder, x: Value) -> Value:
    return net.dense(net.global_average(x, keep=False), CLASSES)


def _relu(
    net: GraphBuilder, x: Value, channels: int, kernel: int | tuple[int, int], stride: int = 1, padding: str = "same"
) -> Value:
    return net.conv(x, channels, kernel, stride, padding=padding, activation="relu")


def _resnet_stem(net: GraphBuilder) -> Value:
    return net.pool(_relu(net, net.image(224, 224), 64, 7, 2), "max", 3, 2, padding="same")


def resnet18(net: GraphBuilder) -> Value:
    """He et al., Deep residual learning (2016), table 1."""
    x = _resnet_stem(net)
    for channels in (64, 128, 256, 512):
        for block in range(2):
            stride = 2 if block == 0 and channels > 64 else 1
            y = net.conv(_relu(net, x, channels, 3, stride), channels, 3)
            short = x if y.shape == x.shape else net.conv(x, channels, 1, stride)
            x = net.add(y, short, activation="relu")
    return _classifier(net, x)


def resnet50(net: GraphBuilder) -> Value:
    """He et al., Deep residual learning (2016), table 1; the stride is in the 3 x 3 convolution, as in torchvision."""
    x = _resnet_stem(net)
    for channels, n in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(n):
            stride = 2 if block == 0 and channels > 64 else 1
            y = _relu(net, _relu(net, x, channels, 1), channels, 3, stride)
            y = net.conv(y, 4 * channels, 1)
            short = x if y.shape == x.shape else net.conv(x, 4 * channels, 1, stride)
            x = net.add(y, short, activation="relu")
    return _classifier(net, x)


def squeezenet(net: GraphBuilder) -> Value:
    """Iandola et al., SqueezeNet (2016), version 1.1 of its published code."""
    x = net.pool(_relu(net, net.image(224, 224), 64, 3, 2, "valid"), "max", 3, 2)
    for place, (squeeze, expand) in enumerate(
        ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
    ):
        if place in (2, 4):
            x = net.pool(x, "max", 3, 2)
        y = _relu(net, x, squeeze, 1)
        x = net.concat([_relu(net, y, expand, 1), _relu(net, y, expand, 3)])
    return net.global_average(_relu(net, x, CLASSES, 1), keep=False)


def densenet121(net: GraphBuilder) -> Value:
    """Huang et al., Densely connected convolutional networks (2017), table 1: norms before convolutions stay."""
    growth = 32
    x = _resnet_stem(net)
    for place, n in enumerate((6, 12, 24, 16)):
        for _ in range(n):
            y = net.conv(net.activate(net.scale(x), "relu"), 4 * growth, 1, activation="relu")
            x = net.concat([x, net.conv(y, growth, 3)])
        if place < 3:
            x = net.conv(net.activate(net.scale(x), "relu"), x.channels // 2, 1)
            x = net.pool(x, "average", 2, 2)
    return _classifier(net, net.activate(net.scale(x), "relu"))


def inception_v3(net: GraphBuilder) -> Value:
    """Szegedy et al., Rethinking the Inception architecture (2016), table 1, as torchvision has it."""
    x = _relu(net, net.image(299, 299), 32, 3, 2, "valid")
    x = _relu(net, _relu(net, x, 32, 3, 1, "valid"), 64, 3)
    x = net.pool(x, "max", 3, 2)
    x = _relu(net, _relu(net, x, 80, 1, 1, "valid"), 192, 3, 1, "valid")
    x = net.pool(x, "max", 3, 2)
    for pooled in (32, 64, 64):
        x = _inception_a(net, x, pooled)
    x = _reduce_b(net, x)
    for inner in (128, 160, 160, 192):
        x = _inception_c(net, x, inner)
    x = _reduce_d(net, x)
    for _ in range(2):
        x = _inception_e(net, x)
    return _classifier(net, x)


def _pooled(net: GraphBuilder, x: Value, channels: int) -> Value:
    return _relu(net, net.pool(x, "average", 3, 1, padding="same"), channels, 1)


def _inception_a(net: GraphBuilder, x: Value, pooled: int) -> Value:
    five = _relu(net, _relu(net, x, 48, 1), 64, 5)
    three = _relu(net, _relu(net, _relu(net, x, 64, 1), 96, 3), 96, 3)
    return net.concat([_relu(net, x, 64, 1), five, three, _pooled(net, x, pooled)])


def _reduce_b(net: GraphBuilder, x: Value) -> Value:
    three = _relu(net, x, 384, 3, 2, "valid")
    double = _relu(net, _relu(net, _relu(net, x, 64, 1), 96, 3), 96, 3, 2, "valid")
    return net.concat([three, double, net.pool(x, "max", 3, 2)])


def _inception_c(net: GraphBuilder, x: Value, inner: int) -> Value:
    seven = _relu(net, _relu(net, _relu(net, x, inner, 1), inner, (1, 7)), 192, (7, 1))
    y = _relu(net, _relu(net, x, inner, 1), inner, (7, 1))
    double = _relu(net, _relu(net, _relu(net, y, inner, (1, 7)), inner, (7, 1)), 192, (1, 7))
    return net.concat([_relu(net, x, 192, 1), seven, double, _pooled(net, x, 192)])


def _reduce_d(net: GraphBuilder, x: Value) -> Value:
    three = _relu(net, _relu(net, x, 192, 1), 320, 3, 2, "valid")
    y = _relu(net, _relu(net, _relu(net, x, 192, 1), 192, (1, 7)), 192, (7, 1))
    return net.concat([three, _relu(net, y, 192, 3, 2, "valid"), net.pool(x, "max", 3, 2)])


def _inception_e(net: GraphBuilder, x: Value) -> Value:
    y = _relu(net, x, 384, 1)
    three = net.concat([_relu(net, y, 384, (1, 3)), _relu(net, y, 384, (3, 1))])
    y = _relu(net, _relu(net, x, 448, 1), 384, 3)
    double = net.concat([_relu(net, y, 384, (1, 3)), _relu(net, y, 384, (3, 1))])
    return net.concat([_relu(net, x, 320, 1), three, double, _pooled(net, x, 192)])
