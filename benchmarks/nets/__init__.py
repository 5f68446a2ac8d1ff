"""Nets that no training ever draws: published architectures, built in code, to test predictors on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.nets import classic, mobile, tokens
from latency_models.building import GraphBuilder, Value, builder
from latency_models.graph import Graph

__all__ = ["PUBLISHED", "build"]

Net = Callable[[GraphBuilder], Value]

# Name, family and builder of each.
PUBLISHED: Mapping[str, tuple[str, Net]] = {
    "mobilenet_v1_1.0_224": ("MobileNetV1", lambda net: mobile.mobilenet_v1(net, 1.0, 224)),
    "mobilenet_v1_0.5_160": ("MobileNetV1", lambda net: mobile.mobilenet_v1(net, 0.5, 160)),
    "mobilenet_v2_1.0_224": ("MobileNetV2", lambda net: mobile.mobilenet_v2(net, 1.0, 224)),
    "mobilenet_v2_0.5_128": ("MobileNetV2", lambda net: mobile.mobilenet_v2(net, 0.5, 128)),
    "mobilenet_v3_large": ("MobileNetV3", lambda net: mobile.mobilenet_v3(net, mobile.V3_LARGE, 960, 1280)),
    "mobilenet_v3_small": ("MobileNetV3", lambda net: mobile.mobilenet_v3(net, mobile.V3_SMALL, 576, 1024)),
    "efficientnet_lite0": ("EfficientNet-lite", lambda net: mobile.efficientnet_lite(net, 1.0, 1.0, 224)),
    "efficientnet_lite2": ("EfficientNet-lite", lambda net: mobile.efficientnet_lite(net, 1.1, 1.2, 260)),
    "shufflenet_v2_1.0": ("ShuffleNetV2", mobile.shufflenet_v2),
    "resnet18": ("ResNet", classic.resnet18),
    "resnet50": ("ResNet", classic.resnet50),
    "squeezenet_1.1": ("SqueezeNet", classic.squeezenet),
    "densenet121": ("DenseNet", classic.densenet121),
    "inception_v3": ("Inception", classic.inception_v3),
    "vit_tiny": ("ViT", lambda net: tokens.vision_transformer(net, 192, 12, 3)),
    "encoder_4x256": ("Transformer encoder", lambda net: tokens.encoder(net, 128, 256, 4, 4)),
}


def build(name: str, format: str) -> Graph:
    """A published net by name, in this format."""
    net = builder(format, name=name)
    return net.graph(PUBLISHED[name][1](net))
