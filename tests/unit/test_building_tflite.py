"""Graphs built in code as TFLite: what they say is what LiteRT does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeprof.models.write_tflite import tflite_bytes
from latency_models import tflite_graph
from latency_models.building import BuildError, builder
from latency_models.graph import Graph
from tests.unit.layers import LAYERS

Interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="ai-edge-litert is not installed").Interpreter
WITHOUT_INT8 = {"lstm", "layer_norm"}


def loaded(graph: Graph) -> object:
    interpreter = Interpreter(model_content=tflite_bytes(graph), num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_runs_and_gives_the_shape_that_the_graph_says(layer: str, precision: str) -> None:
    net = builder("tflite", precision=precision)
    if layer == "gru" or (precision == "int8" and layer in WITHOUT_INT8):
        with pytest.raises(BuildError, match=r"no such operator|no int8 form"):
            LAYERS[layer](net)
        return
    graph = net.graph(LAYERS[layer](net))

    interpreter = loaded(graph)
    random = np.random.default_rng(0)
    for detail in interpreter.get_input_details():  # type: ignore[attr-defined]
        values = random.random(detail["shape"]) * (50 if detail["dtype"] == np.int8 else 1)
        interpreter.set_tensor(detail["index"], values.astype(detail["dtype"]))  # type: ignore[attr-defined]
    interpreter.invoke()  # type: ignore[attr-defined]

    for detail in interpreter.get_output_details():  # type: ignore[attr-defined]
        value = interpreter.get_tensor(detail["index"])  # type: ignore[attr-defined]
        assert value.shape == graph.shape(detail["name"])
        assert np.isfinite(value.astype(np.float32)).all()


@pytest.mark.parametrize("layer", sorted(set(LAYERS) - {"gru"}))
def test_a_graph_read_back_from_its_file_is_the_same(layer: str, tmp_path: Path) -> None:
    net = builder("tflite")
    built = net.graph(LAYERS[layer](net))
    path = tmp_path / "built.tflite"
    path.write_bytes(tflite_bytes(built))

    read = tflite_graph.read(path)

    main = [node for node in read.operators if not node.body]
    for node, again in zip(built.operators, main, strict=True):
        assert (again.type, again.macs) == (node.type, node.macs)
        assert [read.shape(name) for name in again.outputs] == [built.shape(name) for name in node.outputs]
        for option, value in node.attributes.items():
            assert again.attributes[option] == pytest.approx(value), option
    small = {name: tensor.values for name, tensor in built.tensors.items() if tensor.values is not None}
    assert {name: read.tensors[name].values for name in small} == {
        name: pytest.approx(values) for name, values in small.items()
    }


def test_what_came_before_is_remembered() -> None:
    net = builder("tflite")
    graph = net.graph(net.remember(net.image(2, 1, 4), 3))
    interpreter = loaded(graph)
    (entering,), (leaving,) = interpreter.get_input_details(), interpreter.get_output_details()  # type: ignore[attr-defined]

    came = np.random.default_rng(0).standard_normal((3, 2, 4)).astype(np.float32)
    for rows in came:
        interpreter.set_tensor(entering["index"], rows.reshape(1, 2, 1, 4))  # type: ignore[attr-defined]
        interpreter.invoke()  # type: ignore[attr-defined]

    known = interpreter.get_tensor(leaving["index"]).reshape(5, 4)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(known, came.reshape(6, 4)[1:])


def test_floats_run_in_xnnpack() -> None:
    net = builder("tflite")
    graph = net.graph(net.depthwise(net.conv(net.image(16, 16), 8, activation="relu6")))

    operators = [one["op_name"] for one in loaded(graph)._get_ops_details()]  # type: ignore[attr-defined]

    assert "DELEGATE" in operators
