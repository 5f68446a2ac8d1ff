"""Graphs built in code as ONNX: what they say is what ONNX Runtime does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from latency_models import onnx_graph
from latency_models.building import BuildError, builder
from latency_models.graph import Graph
from latency_models.write_onnx import onnx_bytes
from tests.unit.layers import LAYERS

WITHOUT_INT8 = {"transpose_conv", "lstm", "gru", "resize nearest", "resize bilinear"}


def session(data: bytes, executed: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if executed is not None:
        options.optimized_model_filepath = str(executed)
    return onnxruntime.InferenceSession(data, options)


def sizes(graph: Graph, name: str) -> tuple[int, ...]:
    return tuple(dim or 0 for dim in graph.shape(name) or ())


def run(graph: Graph) -> None:
    """The graph runs, and gives finite numbers of the shapes that it says."""
    data = onnx_bytes(graph)
    onnx.checker.check_model(data)
    feeds = {name: np.random.default_rng(0).random(sizes(graph, name), np.float32) for name in graph.inputs}
    for name, value in zip(graph.outputs, session(data).run(None, feeds), strict=True):
        assert value.shape == graph.shape(name)
        assert np.isfinite(value).all()


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_runs_and_gives_the_shape_that_the_graph_says(layer: str, precision: str) -> None:
    net = builder("onnx", precision=precision)
    if layer == "remember" or (precision == "int8" and layer in WITHOUT_INT8):
        with pytest.raises(BuildError, match=r"has no int8 form|no variables"):
            LAYERS[layer](net)
        return

    run(net.graph(LAYERS[layer](net)))


@pytest.mark.parametrize("layer", sorted(set(LAYERS) - {"remember"}))
def test_a_graph_read_back_from_its_file_is_the_same(layer: str) -> None:
    net = builder("onnx")
    built = net.graph(LAYERS[layer](net))

    read = onnx_graph.of_model(onnx_graph.parse(onnx_bytes(built), "built"), "built")

    assert [(node.type, node.macs) for node in read.operators] == [(node.type, node.macs) for node in built.operators]
    for node in built.operators:
        for name in (*node.inputs, *node.outputs):
            if name:
                assert read.shape(name) == built.shape(name), name
                assert read.tensors[name].is_constant == built.tensors[name].is_constant
    small = [name for name, tensor in built.tensors.items() if tensor.values is not None]
    assert [read.tensors[name].values for name in small] == [
        tuple(np.array(built.tensors[name].values, built.tensors[name].dtype).tolist()) for name in small
    ]


def test_int8_becomes_the_kernels_for_int8(tmp_path: Path) -> None:
    net = builder("onnx", precision="int8")
    x = net.conv(net.image(16, 16, 8), 16, 3, activation="relu6")
    x = net.add(x, net.conv(x, 16, 1, activation="relu"), activation="relu")
    graph = net.graph(net.dense(net.global_average(x, keep=False), 10))

    session(onnx_bytes(graph), tmp_path / "executed.onnx")

    made = Counter(node.op_type for node in onnx.load(str(tmp_path / "executed.onnx")).graph.node)
    assert made["QLinearConv"] == 2
    assert made["QLinearAdd"] == 1
    assert made["QGemm"] == 1
    assert made["Relu"] + made["Clip"] == 0


def test_weights_that_are_all_alike_leave_the_same_kernels(tmp_path: Path) -> None:
    net = builder("onnx")
    x = net.conv(net.image(32, 32), 16, 3, activation="hard_swish")
    x = net.activate(net.scale(x), "relu")
    graph = net.graph(net.dense(net.global_average(x, keep=False), 10))
    made = []
    for seed in (0, None):
        session(onnx_bytes(graph, seed), tmp_path / f"{seed}.onnx")
        made.append([node.op_type for node in onnx.load(str(tmp_path / f"{seed}.onnx")).graph.node])

    assert made[0] == made[1]


def test_activations_keep_their_size_through_a_deep_net() -> None:
    net = builder("onnx")
    x = net.image(16, 16, 16)
    for _ in range(30):
        x = net.conv(x, 16, 3, activation="relu")
    graph = net.graph(x)

    (name,) = graph.inputs
    (value,) = session(onnx_bytes(graph)).run(None, {name: np.ones(sizes(graph, name), np.float32)})

    assert 1e-4 < np.abs(value).max() < 1e4


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda net: net.conv(net.image(8, 8, 6), 8, groups=4), "6 channels to 8 cannot be 4 groups"),
        (lambda net: net.conv(net.image(4, 4), 8, 7, padding="valid"), "a window of 7 does not fit into 4"),
        (lambda net: net.conv(net.input((1, 8)), 8), "needs an image"),
        (lambda net: net.dense(net.image(8, 8), 10), "flatten it"),
        (lambda net: net.add(net.image(8, 8), net.image(4, 4)), "do not fit element by element"),
        (lambda net: net.image(0, 8), "every size is 1 or more"),
        (lambda net: net.split(net.image(8, 8), 2), "3 cannot be 2 equal parts"),
        (lambda net: net.activate(net.image(8, 8), "step"), "no activation 'step'"),
        (lambda net: net.pool(net.image(8, 8), "least"), "no kind 'least'"),
        (lambda net: net.matmul(net.input((2, 3)), net.input((4, 5))), "do not fit"),
        (lambda net: net.reshape(net.input((2, 3)), (7,)), "not as many elements"),
        (lambda net: net.concat([net.input((1, 2)), net.input((2, 2))]), "differ beside axis"),
        (lambda net: net.lstm(net.input((1, 2)), 8), "needs tokens"),
        (lambda net: net.to_image(net.input((1, 8, 4)), 3, 3), "is no image of 3 x 3"),
    ],
)
@pytest.mark.parametrize("format", ["onnx", "tflite"])
def test_what_cannot_be_built_says_why(format: str, build: object, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        build(builder(format))  # type: ignore[operator]


def test_there_is_no_other_format_or_precision() -> None:
    with pytest.raises(BuildError, match="no format 'torch'"):
        builder("torch")
    with pytest.raises(BuildError, match="no precision 'float16'"):
        builder("onnx", precision="float16")
    with pytest.raises(BuildError, match="needs an output"):
        builder("onnx").graph()
