"""Every oddment that a training may draw is a model that the real runtimes take and run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnxruntime
import pytest

from edgeprof.training.measuring import model_bytes
from edgeprof.training.oddments import shape_of_data
from edgeprof.training.oddments.common import Oddment
from edgeprof.training.oddments.onnx import ONNX
from edgeprof.training.oddments.tflite import TFLITE, TFLITE_INT8
from edgeprof.training.probes import draw_probe
from edgeprof.training.sizes import Sizes
from latency_models.building import BuildError, builder

CASES: list[tuple[str, str, Mapping[str, Oddment]]] = [
    ("onnx", "float32", ONNX), ("tflite", "float32", TFLITE), ("tflite", "int8", TFLITE_INT8),
]  # fmt: skip
TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


def drawn(format: str, precision: str, oddment: Oddment) -> bytes:
    """The first one whose sizes fit together."""
    for seed in range(20):
        net, sizes = builder(format, precision=precision), Sizes(np.random.default_rng(seed))
        try:
            return model_bytes(net.graph(oddment(net, sizes, net.input(shape_of_data(sizes)))))
        except BuildError:
            continue
    raise AssertionError("none can be built")


@pytest.mark.parametrize(
    ("format", "precision", "name"), [(format, precision, name) for format, precision, kinds in CASES for name in kinds]
)
def test_an_oddment_runs(format: str, precision: str, name: str) -> None:
    kinds = next(kinds for *case, kinds in CASES if case == [format, precision])
    model = drawn(format, precision, kinds[name])

    outputs = on_onnxruntime(model) if format == "onnx" else on_litert(model)

    assert outputs
    assert all(one.size for one in outputs)


def on_onnxruntime(model: bytes) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    feeds = {one.name: np.ones(one.shape, TYPES[one.type]) for one in session.get_inputs()}
    return [np.asarray(one) for one in session.run(None, feeds)]


def on_litert(model: bytes) -> list[np.ndarray]:
    interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="ai-edge-litert is not installed")
    made = interpreter.Interpreter(model_content=model, num_threads=1)
    made.allocate_tensors()
    for one in made.get_input_details():
        made.set_tensor(one["index"], np.ones(one["shape"], one["dtype"]))
    made.invoke()
    return [made.get_tensor(one["index"]) for one in made.get_output_details()]


@pytest.mark.parametrize("number", range(12))
def test_a_probe_of_oddments_runs(number: int) -> None:
    """What a probe reads of a scene must have a type that can be averaged."""
    assert on_onnxruntime(model_bytes(draw_probe(0, number, "onnx", only="oddments")))
