"""What the optimiser says of a model is what ONNX Runtime then times, kernel by kernel."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from latency_models import ask_onnxruntime, onnx_graph
from latency_models.building import builder
from latency_models.graph import GraphError
from latency_models.kernels import of_nodes
from latency_models.reading import read
from latency_models.write_onnx import onnx_bytes
from tests.real_models import RealModel, real_models

# Which of their branches run depends on the data.
WITH_CHOICES = ("silero_vad.onnx", "silero_vad_16k_op15.onnx", "silero_vad_half.onnx", "silero_vad_op18_ifless.onnx")
MODELS = [
    one
    for one in real_models()
    if one.path.suffix == ".onnx" and one.path.stat().st_size < 20_000_000 and one.name not in WITH_CHOICES
]
TYPES = {
    "tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
}  # fmt: skip


def timed(model: RealModel, folder: Path) -> list[tuple[str, tuple[tuple[int, ...], ...]]]:
    """Type and output shapes of every kernel of one run, by the runtime's own profiler."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    session = onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
    feeds = {}
    for one in session.get_inputs():
        shape = model.shapes.get(one.name) or tuple(dim if isinstance(dim, int) else 1 for dim in one.shape)
        feeds[one.name] = np.zeros(shape, TYPES[one.type])
    session.run(None, feeds)
    events = json.loads(Path(session.end_profiling()).read_text())
    kernels = [one["args"] for one in events if one.get("cat") == "Node" and one["name"].endswith("_kernel_time")]
    return [
        (one["op_name"], tuple(tuple(dims) for item in one["output_type_shape"] for dims in item.values()))
        for one in kernels
    ]


@pytest.mark.parametrize("model", MODELS, ids=lambda one: one.name)
def test_kernels_and_their_shapes_are_those_that_run(model: RealModel, tmp_path: Path) -> None:
    graph = onnx_graph.read(model.path, model.shapes, default_dim=1)

    asked = ask_onnxruntime.executed_graph(model.path, graph)

    ran = timed(model, tmp_path)
    nodes = [node for node in asked.operators if not node.is_folded]
    assert Counter(node.type for node in nodes) == Counter(kind for kind, _ in ran)
    kernels = [of_nodes(asked, [node]) for node in nodes]
    known = [kernel for kernel in kernels if kernel is not None]
    assert len(known) >= 0.95 * len(kernels)
    # A layout in blocks pads channels, so that only sizes of images are compared there.
    shapes = Counter((kind, tuple(dims[2:] for dims in outputs)) for kind, outputs in ran)
    said = Counter((kernel.type, tuple(one.shape[2:] for one in kernel.outputs)) for kernel in known)
    assert sum((said - shapes).values()) <= 0.05 * len(kernels)


def test_a_transpose_that_went_into_the_blocked_layout_is_seen_in_the_shape() -> None:
    """Tokens become an image: the runtime makes one step of the transpose and of its own reordering."""
    net = builder("onnx")
    image = net.to_image(net.input((1, 6 * 10, 32)), 6, 10)
    model = onnx_bytes(net.graph(net.to_tokens(net.conv(image, 48, 3))), 0)

    asked = ask_onnxruntime.executed_graph(model, read(model, name="tokens"))

    shapes = {node.type: asked.tensors[node.outputs[0]].shape for node in asked.operators}
    assert "ReorderInput" in shapes, "this machine has no blocked layout: nothing is tested"
    assert shapes["ReorderInput"] == (1, 32, 6, 10)
    assert shapes["Conv"] == (1, 48, 6, 10)
    assert all(of_nodes(asked, [node]) is not None for node in asked.operators)


def test_a_product_whose_matrix_is_transposed_on_the_way_has_a_shape() -> None:
    net = builder("onnx")
    queries, keys = net.input((1, 3, 20, 16)), net.input((1, 3, 30, 16))
    product = net.matmul(queries, net.transpose(keys, (0, 1, 3, 2)))
    model = onnx_bytes(net.graph(net.softmax(product)), 0)

    asked = ask_onnxruntime.executed_graph(model, read(model, name="attention"))

    assert {node.type: asked.tensors[node.outputs[0]].shape for node in asked.operators} == {
        "FusedMatMul": (1, 3, 20, 30),
        "Softmax": (1, 3, 20, 30),
    }


def test_every_tensor_of_a_quantised_net_has_a_type_and_quantised_operators_give_bytes() -> None:
    net = builder("onnx", precision="int8")
    x = net.conv(net.image(24, 24), 16, 3, activation="relu")
    both = net.concat([x, net.conv(x, 8, 3)])
    model = onnx_bytes(net.graph(net.dense(net.global_average(net.pool(both, "average"), keep=False), 10)), 0)

    asked = ask_onnxruntime.executed_graph(model, read(model, name="quantised"))

    made = {(node.type, name): asked.tensors[name].dtype for node in asked.operators for name in node.outputs if name}
    assert {"QLinearConv", "QLinearConcat", "QLinearAveragePool"} <= {kind for kind, _ in made}
    assert {dtype for (kind, _), dtype in made.items() if kind.startswith("QLinear")} == {"uint8"}
    assert None not in made.values()


def test_a_model_that_the_runtime_refuses_is_told(tmp_path: Path) -> None:
    graph = onnx_graph.read(MODELS[0].path, MODELS[0].shapes, default_dim=1)

    with pytest.raises(GraphError, match="ONNX Runtime does not take"):
        ask_onnxruntime.executed_graph(b"no model", graph)


def test_bytes_and_files_of_both_formats_are_read_by_their_content(tmp_path: Path) -> None:
    for model in real_models():
        if model.path.stat().st_size < 3_000_000 and model.path.suffix == ".tflite":
            graph = read(model.path.read_bytes(), name="bytes")
            assert graph.format == "tflite"
            assert graph.name == "bytes"
            break
    onnx_model = next(one for one in MODELS if one.name == "mobilenet_v3_small.onnx")
    graph = read(onnx_model.path, default_dim=1)
    assert graph.format == "onnx"
    assert any("leaves sizes open: it is taken as [1, 3, 224, 224]" in note for note in graph.notes)
    with pytest.raises(GraphError, match="is not an ONNX model"):
        read(b"neither one nor the other")
