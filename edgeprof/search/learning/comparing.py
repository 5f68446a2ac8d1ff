"""Whether a file computes what the trained net does."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from edgeprof.search.learning.module import Net

__all__ = ["largest_difference"]


@torch.no_grad()
def largest_difference(net: Net, data: bytes, format: str, n: int, seed: int = 0) -> float | None:
    """Over n random samples, as a share of the largest output; None where the runtime of the format is not here."""
    net.eval()
    shape = tuple(dim or 0 for dim in net.tape.graph.shape(net.tape.graph.inputs[0]) or ())
    samples = [torch.randn(shape, generator=torch.Generator().manual_seed(seed + number)) for number in range(n)]
    try:
        said = _onnx(data, samples) if format == "onnx" else _tflite(data, samples)
    except ImportError:
        return None
    wanted = np.concatenate([net(one).numpy() for one in samples])
    return float(np.abs(np.concatenate(said) - wanted).max() / max(1e-12, np.abs(wanted).max()))


def _onnx(data: bytes, samples: list[torch.Tensor]) -> list[NDArray[np.float32]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return [session.run(None, {name: one.numpy()})[0] for one in samples]


def _tflite(data: bytes, samples: list[torch.Tensor]) -> list[NDArray[np.float32]]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    given, taken = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    found = []
    for one in samples:
        values = one.numpy()
        interpreter.set_tensor(given, values.transpose(0, 2, 3, 1) if values.ndim == 4 else values)
        interpreter.invoke()
        found.append(np.array(interpreter.get_tensor(taken)))
    return found
