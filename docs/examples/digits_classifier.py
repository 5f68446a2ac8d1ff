"""A small classifier of real digits in ONNX and TFLite, and samples for it: python digits_classifier.py FOLDER.

Random convolutions, and a last layer fitted to what they see. The digits are those of scikit-learn: half of the 1,797
are fitted to, the others are written as `data.npz` (for the .onnx) and `data_tflite.npz`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprof.models.write_tflite import tflite_bytes
from latency_models.building import builder
from latency_models.graph import Graph
from latency_models.write_onnx import onnx_bytes

SIDE = 16
N_FITTED = 900
Array = NDArray[Any]


@dataclass(frozen=True)
class Classifier:
    """`onnx` and `tflite` are files; `images` (n, 1, 3, 16, 16) and `labels` (n,) were not fitted to."""

    onnx: bytes
    tflite: bytes
    images: Array
    labels: Array

    def write(self, folder: Path) -> None:
        """model.onnx, model.tflite, and data for each: data.npz, data_tflite.npz."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(self.onnx)
        (folder / "model.tflite").write_bytes(self.tflite)
        np.savez(folder / "data.npz", image=self.images, labels=self.labels)
        np.savez(folder / "data_tflite.npz", image=self.images.transpose(0, 2, 3, 1), labels=self.labels)


def _graph(format: str) -> Graph:
    net = builder(format)
    x = net.image(SIDE, SIDE)
    x = net.conv(x, 16, kernel=3, activation="relu")
    x = net.depthwise(x, kernel=3, activation="relu6")
    x = net.conv(x, 32, kernel=3, stride=2, activation="relu")
    x = net.conv(x, 32, kernel=3, stride=2, activation="relu")
    return net.graph(net.dense(net.flatten(x), 10))


@lru_cache(maxsize=1)
def small_classifier() -> Classifier:
    """Made once in a process; takes a second or two."""
    import onnxruntime
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    raw = load_digits()
    order = np.random.default_rng(0).permutation(len(raw.target))
    small = (raw.images[order] / 8.0 - 1.0).astype(np.float32)
    images = np.repeat(np.repeat(small, 2, 1), 2, 2)[:, None].repeat(3, axis=1)
    labels = raw.target[order].astype(np.int64)
    graph = _graph("onnx")
    names = [tensor.name for tensor in graph.tensors.values() if tensor.name.startswith("weights_")]
    rng = np.random.default_rng(1)
    weights: dict[str, Array] = {}
    for name in names[:-2]:
        shape = tuple(dim or 0 for dim in graph.tensors[name].shape or ())
        spread = np.sqrt(2.0 / max(1, np.prod(shape[1:]))) if len(shape) > 1 else 0.1
        weights[name] = rng.normal(0.0, spread, shape).astype(np.float32)
    features = _features(onnx_bytes(graph, weights=weights), images, onnxruntime)
    fitted = LogisticRegression(C=0.05, max_iter=300).fit(features[:N_FITTED], labels[:N_FITTED])
    weights[names[-2]], weights[names[-1]] = fitted.coef_.astype(np.float32), fitted.intercept_.astype(np.float32)
    return Classifier(
        onnx=onnx_bytes(graph, weights=weights),
        tflite=_tflite([weights[name] for name in names]),
        images=images[N_FITTED:],
        labels=labels[N_FITTED:],
    )


def _features(model: bytes, images: Array, onnxruntime: Any) -> Array:
    """What the last layer is given, (n, features)."""
    import onnx

    loaded = onnx.load_from_string(model)
    last = loaded.graph.node[-1].input[0]
    del loaded.graph.output[:]
    loaded.graph.output.append(onnx.helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(loaded.SerializeToString(), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: image[None]})[0] for image in images])


def _tflite(weights: list[Array]) -> bytes:
    """The same weights in TFLite's order: channels last, also in what was flattened."""
    graph = _graph("tflite")
    names = [tensor.name for tensor in graph.tensors.values() if tensor.name.startswith("weights_")]
    found = {}
    for name, own in zip(names, weights, strict=True):
        shape = tuple(dim or 0 for dim in graph.tensors[name].shape or ())
        if own.ndim == 4 and own.shape[1] == 1:  # depthwise: (channels, 1, h, w) to (1, h, w, channels)
            own = own.transpose(1, 2, 3, 0)
        elif own.ndim == 4:
            own = own.transpose(0, 2, 3, 1)
        elif own.ndim == 2:
            side = SIDE // 4
            own = own.reshape(len(own), -1, side, side).transpose(0, 2, 3, 1).reshape(len(own), -1)
        assert own.shape == shape, (name, own.shape, shape)
        found[name] = np.ascontiguousarray(own)
    return tflite_bytes(graph, weights=found)


if __name__ == "__main__":
    small_classifier().write(Path(sys.argv[1]))
