"""Blocks and source layers of nodes, and operators added up by them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprof.grouping import operator_groups
from edgeprof.models import read_model, with_groups
from edgeprof.models.blocks import blocks
from edgeprof.models.layers import common_layer, source_layers
from edgeprof.operators import operator_rows
from edgeprof.run import Operator
from latency_models.graph import Graph
from latency_models.graph import Operator as Node
from tests.real_models import real_model
from tests.unit.run_factory import make_run


def graph_of(name: str) -> Graph:
    model = real_model(name)
    return read_model(model.path, model.shapes).graph


@pytest.mark.parametrize("name", ["mobilenet_v3_small.onnx", "mobilenet_v3_small_ts.onnx"])
def test_the_blocks_of_mobilenet_are_found_whichever_exporter_wrote_it(name: str) -> None:
    found = blocks(graph_of(name))

    assert {f"features.{k}" for k in range(13)} <= set(found.values())
    assert "classifier.0" in found.values()


@pytest.mark.parametrize(
    ("name", "prefix", "n"),
    [("vit.onnx", "", 6), ("text_encoder.onnx", "encoder.", 4), ("text_encoder_ts.onnx", "encoder.", 4)],
)
def test_each_layer_of_a_transformer_is_a_block(name: str, prefix: str, n: int) -> None:
    assert {f"{prefix}layers.{k}" for k in range(n)} <= set(blocks(graph_of(name)).values())


def test_both_exporters_give_the_same_layers() -> None:
    dynamo, torchscript = (
        set(source_layers(graph_of(f"mobilenet_v3_small{kind}.onnx")).values()) for kind in ("", "_ts")
    )

    assert "features.4.block.2.fc1" in dynamo & torchscript


def test_the_residual_blocks_of_a_net_without_names_are_found_by_its_structure(models_dir: Path) -> None:
    graph = graph_of("light_resnet50.onnx")

    found = blocks(graph)

    per_block = {block: [node for node in graph.operators if found[node.name] == block] for block in found.values()}
    sums = [sum(node.type in ("Sum", "Add") for node in nodes) for nodes in per_block.values()]
    assert sorted(count for count in sums if count) == [1] * 16


def test_a_tflite_file_tells_layers_by_its_tensors(models_dir: Path) -> None:
    layers = source_layers(graph_of("nmp.tflite"))

    assert any(layer.startswith("model_1/conv2d_") for layer in layers.values())


def test_numbered_names_tell_no_layer(models_dir: Path) -> None:
    assert source_layers(graph_of("light_resnet50.onnx")) == {}
    assert source_layers(graph_of("ch_ppocr_mobile_v2.0_cls_infer.onnx")) == {}


def test_a_fused_kernel_has_the_layer_that_its_nodes_share() -> None:
    assert common_layer(["features.0.0", "features.0.1"]) == "features.0"
    assert common_layer(["model/a/x", "model/b"]) == "model"
    assert common_layer(["stem", "head"]) == "stem + head"
    assert common_layer([]) is None


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Random graphs, connected or not, with bodies."""
    nodes: list[Node] = []
    tensors = ["x"]
    for k in range(draw(st.integers(0, 30))):
        inputs = tuple(draw(st.lists(st.sampled_from(tensors), max_size=3)))
        kind = draw(st.sampled_from(["Conv", "Relu", "Add", "MaxPool"]))
        subgraph = draw(st.sampled_from([0, 0, 0, 1])) if nodes else 0
        nodes.append(Node(index=k, name=f"n{k}", type=kind, inputs=inputs, outputs=(f"t{k}",), subgraph=subgraph))
        tensors.append(f"t{k}")
    return Graph(
        format="onnx",
        name="g",
        inputs=("x",),
        outputs=tuple(tensors[-1:]),
        tensors={},
        operators=tuple(nodes),
        version=17,
    )


@given(graphs())
def test_every_node_is_in_exactly_one_block(graph: Graph) -> None:
    assert set(blocks(graph)) == {node.name for node in graph.operators}


def test_a_graph_of_100_000_nodes_in_bodies_and_residual_blocks_is_cut() -> None:
    nodes = [
        Node(index=k, name=f"n{k}", type=("Conv", "Relu", "Conv", "Add")[k % 4], outputs=(f"t{k}",),
             inputs=(f"t{k - 1}", f"t{k - 4}") if k % 4 == 3 else (f"t{k - 1}",))
        for k in range(100_000)
    ]  # fmt: skip
    graph = Graph(
        format="onnx", name="g", inputs=("t-1",), outputs=("t99999",), tensors={}, operators=tuple(nodes), version=17
    )

    assert len(set(blocks(graph).values())) == 25_000


@pytest.mark.parametrize("by", ["node", "type", "block", "layer"])
def test_groups_add_up_to_the_operator_table(by: str) -> None:
    run = make_run()
    blocked = tuple(replace(operator, block="a" if k % 2 else None) for k, operator in enumerate(run.operators))

    groups = operator_groups(replace(run, operators=blocked), by)

    rows = operator_rows(run)
    assert math.isclose(sum(group.time_s for group in groups), sum(row.median_s or 0.0 for row in rows))
    assert sum(group.n_kernels for group in groups) == len(rows)
    assert {"(layout)", "(unmapped)"} <= {group.name for group in groups}


def test_a_kernel_without_nodes_has_neither_block_nor_layer() -> None:
    graph = graph_of("vit.onnx")

    (layout, whole) = with_groups(
        [Operator(kernel=0, origin="layout"), Operator(kernel=1, origin="node", nodes=("node_layer_norm_1",))], graph
    )

    assert (layout.block, layout.layer) == (None, None)
    assert (whole.block, whole.layer) == ("layers.0", "layers.0.norm2")
