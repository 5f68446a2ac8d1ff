"""The layer of the source network that each node came from, where the exporter left its name; never guessed.

In this order: the module path that torch's dynamo exporter keeps beside a node; a path in the node's own name
(TorchScript, tf2onnx); of TFLite, which names no nodes, the name of the first output. Plain numbered names (Conv_12,
p2o.Conv.12) tell nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import takewhile

from latency_models.graph import Graph, Operator

__all__ = ["common_layer", "source_layers"]

# How TensorFlow calls the operation that has a layer's weights: it names a fused operator better than its neighbours.
WEIGHTED = ("Conv2D", "depthwise", "MatMul", "BiasAdd", "conv2d_transpose", "Conv1D")
NOT_A_LAYER = re.compile(r"(tensor|StatefulPartitionedCall|PartitionedCall|Identity|serving_default|\d)")
PLAIN = re.compile(r"[A-Za-z][\w.-]*")
ADDED = re.compile(r"(__xeno_compat__\d+|_dequantize\d*)$")


def source_layers(graph: Graph) -> dict[str, str]:
    """The layer of every node that has one, by the node's name."""
    found = {node.name: _layer(graph.format, node) for node in graph.operators}
    return {name: layer for name, layer in found.items() if layer}


def common_layer(layers: Iterable[str]) -> str | None:
    """One name for several layers: what their paths share, or else all of them; None for none."""
    unique = list(dict.fromkeys(layers))
    if len(unique) <= 1:
        return unique[0] if unique else None
    separator = "/" if any("/" in layer for layer in unique) else "."
    columns = zip(*(layer.split(separator) for layer in unique), strict=False)
    shared = [parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, columns)]
    return separator.join(shared) or " + ".join(unique)


def _layer(format: str, node: Operator) -> str | None:
    if node.scopes:
        return node.scopes[-1]
    if format == "tflite":
        outputs = [name for name in node.outputs if name]
        return _of_tensorflow(node.local(outputs[0]), is_tensor=True) if outputs else None
    if node.name_is_invented:
        return None
    name = node.local(node.name)
    return _of_torchscript(name) if name.startswith("/") else _of_tensorflow(name, is_tensor=False)


def _of_torchscript(name: str) -> str | None:
    """The module "features.0.conv" of the Conv "/features/features.0/conv/Conv"."""
    path = ""
    for part in name.strip("/").split("/")[:-1]:
        # A module in a container repeats the container's name.
        is_repeated = path and part.startswith(path.rpartition("\0")[2] + ".")
        path = path[: path.rfind("\0") + 1] + part if is_repeated else f"{path}\0{part}" if path else part
    return path.replace("\0", ".") or None


def _of_tensorflow(name: str, *, is_tensor: bool) -> str | None:
    """Of names such as "model/conv1/Relu;model/bn/FusedBatchNorm": the layer with the weights, else the first."""
    paths = [path.rpartition("/") for path in name.split(";")]
    scopes = [(scope, last) for scope, _, last in paths if scope]
    if scopes:
        return next((scope for scope, last in scopes if last.startswith(WEIGHTED)), scopes[0][0])
    plain = ADDED.sub("", name)
    return plain if is_tensor and PLAIN.fullmatch(plain) and not NOT_A_LAYER.match(plain) else None
