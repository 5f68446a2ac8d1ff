"""The published nets of the benchmarks are those that were published: multiply-accumulates and parameters."""

from __future__ import annotations

import pytest

from benchmarks.nets import PUBLISHED, build
from edgeprof.training.nets import FAMILIES

# Millions of multiply-accumulates and of parameters. MobileNetV1: Howard et al. 2017, tables 6 and 7; V2: Sandler et
# al. 2018, table 4; V3: Howard et al. 2019, table 3; EfficientNet-lite: its README in tensorflow/tpu; ShuffleNetV2: Ma
# et al. 2018, table 8; ResNet, DenseNet, Inception, SqueezeNet: torchvision's table of weights (its GFLOPS are
# multiply-accumulates); DeiT-tiny: Touvron et al. 2021, table 1.
SAID = {
    "mobilenet_v1_1.0_224": (569, 4.2),
    "mobilenet_v2_1.0_224": (300, 3.5),
    "mobilenet_v3_large": (217, 5.5),
    "mobilenet_v3_small": (57, 2.5),
    "efficientnet_lite0": (407, 4.7),
    "efficientnet_lite2": (887, 6.1),
    "shufflenet_v2_1.0": (146, 2.3),
    "resnet18": (1814, 11.7),
    "resnet50": (4089, 25.6),
    "squeezenet_1.1": (349, 1.24),
    "densenet121": (2834, 7.98),
    "inception_v3": (5713, 23.8),
    "vit_tiny": (1250, 5.7),
}


@pytest.mark.parametrize("format", ["onnx", "tflite"])
@pytest.mark.parametrize("name", SAID)
def test_a_net_has_the_work_and_the_weights_that_were_published(name: str, format: str) -> None:
    graph = build(name, format)
    macs, parameters = SAID[name]

    weights = sum(
        tensor.size_bytes or 0 for tensor in graph.tensors.values() if tensor.is_constant and tensor.values is None
    )

    assert sum(node.macs or 0 for node in graph.operators) / 1e6 == pytest.approx(macs, rel=0.06)
    assert weights / 4e6 == pytest.approx(parameters, rel=0.03)


def test_none_of_their_families_is_ever_drawn_for_training() -> None:
    drawn = {name.lower() for name in FAMILIES}

    for family, _ in PUBLISHED.values():
        assert family.lower() not in drawn
