"""A small real network for the demo: a MobileNet-like classifier of 224 x 224 images with seeded random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeprof.files import write_whole

__all__ = ["write_example"]

OPSET, IR_VERSION = 17, 8
# (channels out, stride) of each depthwise-separable block.
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1))


def write_example(path: Path, seed: int = 0) -> None:
    """Write the network as ONNX (about 2.3 MB); equal seeds give equal weights.

    Raises:
        OSError: it cannot be written; names the file, and nothing is left behind.
    """
    import onnx
    from onnx import TensorProto, helper

    network = _Network(np.random.default_rng(seed))
    channels = 32
    x = network.convolution("stem", "image", 3, channels, kernel=3, stride=2)
    for k, (out, stride) in enumerate(BLOCKS):
        x = network.convolution(f"block{k}/depthwise", x, channels, channels, kernel=3, stride=stride, groups=channels)
        x = network.convolution(f"block{k}/pointwise", x, channels, out, kernel=1)
        channels = out
    x = network.node("GlobalAveragePool", "head/pool", [x])
    x = network.node("Flatten", "head/flatten", [x])
    x = network.node(
        "Gemm", "head/classifier", [x, network.weight("head/w", channels, 10), network.weight("head/b", 10)]
    )
    network.node("Softmax", "head/softmax", [x], output="scores")
    graph = helper.make_graph(
        network.nodes,
        "example",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 224, 224])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 10])],
        network.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    write_whole(path, model.SerializeToString())


class _Network:
    """Collects nodes and weights while the network is written down."""

    def __init__(self, random: np.random.Generator) -> None:
        from onnx import NodeProto, TensorProto

        self._random = random
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []

    def weight(self, name: str, *shape: int) -> str:
        from onnx import numpy_helper

        scale = (2.0 / max(1, int(np.prod(shape[1:])))) ** 0.5
        values = (self._random.standard_normal(shape) * scale).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def node(self, kind: str, name: str, inputs: list[str], output: str | None = None, **attributes: object) -> str:
        from onnx import helper

        output = output or f"{name}/out"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=name, **attributes))
        return output

    def convolution(
        self, name: str, x: str, n_in: int, n_out: int, *, kernel: int, stride: int = 1, groups: int = 1
    ) -> str:
        """Convolution, batch normalization and ReLU, as a training framework would export them."""
        weight = self.weight(f"{name}/w", n_out, n_in // groups, kernel, kernel)
        pads = [kernel // 2] * 4
        x = self.node("Conv", f"{name}/conv", [x, weight], strides=[stride, stride], pads=pads, group=groups)
        scale, bias, mean = (self.weight(f"{name}/bn_{part}", n_out) for part in ("scale", "bias", "mean"))
        variance = self._positive(f"{name}/bn_variance", n_out)
        x = self.node("BatchNormalization", f"{name}/bn", [x, scale, bias, mean, variance])
        return self.node("Relu", f"{name}/relu", [x])

    def _positive(self, name: str, n: int) -> str:
        from onnx import numpy_helper

        values = self._random.uniform(0.5, 1.5, n).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name
