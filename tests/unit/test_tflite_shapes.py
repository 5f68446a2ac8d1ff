"""Shapes behind resized inputs are those that LiteRT allocates."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.nets import PUBLISHED, build
from edgeprof.models.write_tflite import tflite_bytes
from latency_models import tflite_graph
from latency_models.building import GraphBuilder, Value, builder
from tests.unit.layers import LAYERS

Interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="ai-edge-litert is not installed").Interpreter
# Their stored shapes (of "remember" the variable's) fit one input size alone, in TFLite too.
FIXED = {
    "flatten", "reshape", "to_tokens", "to_image", "channel_shuffle", "gru", "transpose_conv", "lstm", "remember",
}  # fmt: skip


def allocated(data: bytes, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Output shapes by name, as the runtime has them after resizing."""
    interpreter = Interpreter(model_content=data, num_threads=1)
    for detail in interpreter.get_input_details():
        interpreter.resize_tensor_input(detail["index"], shapes[detail["name"]])
    interpreter.allocate_tensors()
    return {detail["name"]: tuple(detail["shape"].tolist()) for detail in interpreter.get_output_details()}


@pytest.mark.parametrize("layer", sorted(set(LAYERS) - FIXED))
def test_a_layer_with_a_batch_of_three(layer: str) -> None:
    net = builder("tflite")
    graph = net.graph(LAYERS[layer](net))
    shapes = {name: (3, *(dim or 0 for dim in (graph.shape(name) or ())[1:])) for name in graph.inputs}

    resized = tflite_graph.with_input_shapes(tflite_graph.parse(tflite_bytes(graph), layer), shapes)

    assert {name: resized.shape(name) for name in resized.outputs} == allocated(tflite_bytes(graph), shapes)
    assert resized.notes == ()


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name.startswith(("mobilenet", "squeeze", "inception"))])
def test_a_whole_net_on_larger_images(name: str) -> None:
    data = tflite_bytes(build(name, "tflite"))
    graph = tflite_graph.parse(data, name)
    (image,) = graph.inputs
    shapes: dict[str, tuple[int, ...]] = {image: (2, 320, 256, 3)}

    resized = tflite_graph.with_input_shapes(graph, shapes)

    assert {one: resized.shape(one) for one in resized.outputs} == allocated(data, shapes)
    assert sum(node.macs or 0 for node in resized.operators) > sum(node.macs or 0 for node in graph.operators)


def test_what_does_not_follow_is_named_and_unknown(tmp_path: Path) -> None:
    def build_net(net: GraphBuilder) -> Value:
        (odd,) = net.operator("RANK", [net.image(8, 8, 4)], [()], dtype="int32")
        return odd

    net = builder("tflite")
    graph = net.graph(build_net(net))
    (image,) = graph.inputs

    resized = tflite_graph.with_input_shapes(graph, {image: (2, 8, 8, 4)})

    assert resized.shape(resized.outputs[0]) is None
    assert resized.notes == ("shapes behind RANK do not follow from the new input shapes",)


def test_a_stored_shape_that_does_not_fit_is_unknown() -> None:
    net = builder("tflite")
    graph = net.graph(net.flatten(net.image(8, 8, 4)))
    (image,) = graph.inputs

    resized = tflite_graph.with_input_shapes(graph, {image: (1, 9, 9, 4)})

    assert resized.shape(resized.outputs[0]) is None
    assert any("RESHAPE" in note for note in resized.notes)
