"""Try a runtime on a device: a tiny net whose answer is known must give it."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np

from edgeprof.errors import AgentError
from edgeprof.fleet import Device
from edgeprof.models import ModelFile, read_model
from edgeprof.outputs import unpack
from edgeprof.profiling import OpenDevice, Settings
from latency_models.building import builder

__all__ = ["try_runtime"]

FORMATS = {"onnxruntime": "onnx", "litert": "tflite", "tflite": "tflite"}
N_CLASSES = 4
# Of a sum of four float32 shares; reduced precision (float16 kernels) is right as well.
TOLERANCE = 1e-2
NONSENSE = "these wheels do not fit the processor: try an older version, or another runtime"


def try_runtime(device: Device, runtime: str) -> str:
    """Have a tiny net run there once; the version of the runtime that did it.

    The net ends in a softmax: whatever its weights and inputs are, the shares must add up to one.

    Raises:
        AgentError: the runtime cannot be used there, or computes something else.
        LinkError: the link broke.
    """
    with tempfile.TemporaryDirectory(prefix="edgeprof-tiny-") as folder, OpenDevice(device) as opened:
        model = _tiny(FORMATS[runtime], Path(folder))
        settings = Settings(runtime=runtime, deadline_s=300.0)
        agent = opened.ready_agent(runtime, settings.options)
        agent.push(model.to_send())
        outputs = agent.outputs(opened.job(runtime, model, settings))
        try:
            shares = unpack(outputs.values[0], outputs.outputs[0].dtype)
        except (ValueError, KeyError, IndexError) as error:
            raise AgentError(f"{device.name}: {runtime} gave no output that can be read: {error}", NONSENSE) from error
        total = float(np.sum(shares, dtype=np.float64))
        if shares.size != N_CLASSES or not math.isclose(total, 1.0, abs_tol=TOLERANCE):
            said = f"the shares of a softmax are {shares.tolist()}"
            raise AgentError(f"{device.name}: {runtime} {outputs.runtime_version} computes nonsense: {said}", NONSENSE)
        return outputs.runtime_version


def _tiny(format: str, folder: Path) -> ModelFile:
    net = builder(format, name="tiny")
    image = net.image(8, 8)
    features = net.global_average(net.conv(image, 8, 3, activation="relu"), keep=False)
    graph = net.graph(net.softmax(net.dense(features, N_CLASSES)))
    if format == "onnx":
        from latency_models.write_onnx import onnx_bytes

        data = onnx_bytes(graph, 0)
    else:
        from edgeprof.models.write_tflite import tflite_bytes

        data = tflite_bytes(graph, 0)
    path = folder / f"tiny.{format}"
    path.write_bytes(data)
    return read_model(path)
