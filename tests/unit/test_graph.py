"""Graphs of ONNX and TFLite files: operators, shapes, and work counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from latency_models import onnx_graph, tflite_graph
from latency_models.graph import Graph, GraphError, ShapeError, size_of
from latency_models.work import count_macs
from tests.unit import onnx_maker

NMP_MACS = 524_079_648


def find(folder: Path, name: str) -> Path:
    found = sorted(folder.rglob(name))
    if not found:
        pytest.skip(f"{name} is not there: run `make setup`")
    return found[0]


def total_macs(graph: Graph) -> int:
    return sum(operator.macs or 0 for operator in graph.operators)


def made(tmp_path: Path, named: bool = True) -> Path:
    return onnx_maker.save(onnx_maker.residual_block(named), tmp_path / "block.onnx")


def test_a_convolution_counts_one_product_for_every_output_and_weight_it_sees(tmp_path: Path) -> None:
    graph = onnx_graph.read(made(tmp_path), {"x": (2, 8, 16, 16)})

    convolution = graph.operators[0]

    assert convolution.macs == 2 * (8 * 16 * 16) * (8 * 3 * 3)
    assert convolution.weight_bytes == 8 * 8 * 3 * 3 * 4
    assert convolution.moved_bytes == 2 * (2 * 8 * 16 * 16 * 4) + 8 * 8 * 3 * 3 * 4


def test_elementwise_operators_count_bytes_but_no_multiply_accumulates(tmp_path: Path) -> None:
    graph = onnx_graph.read(made(tmp_path), {"x": (1, 8, 16, 16)})

    add = graph.operators[4]

    assert (add.type, add.macs, add.moved_bytes, add.weight_bytes) == ("Add", 0, 3 * 8 * 16 * 16 * 4, 0)


def test_unknown_dimensions_leave_the_work_unknown_instead_of_zero(tmp_path: Path) -> None:
    graph = onnx_graph.read(made(tmp_path))

    assert graph.shape("x") == (None, 8, 16, 16)
    assert graph.operators[0].macs is None
    assert graph.operators[4].moved_bytes is None


def test_an_input_of_size_zero_is_refused_by_name(tmp_path: Path) -> None:
    block = onnx_maker.residual_block()
    block.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 0

    with pytest.raises(ShapeError, match="input 'x' has a size of 0 in the file"):
        onnx_graph.declared_inputs(block)


def test_a_name_that_is_invented_takes_none_away_from_a_later_node(tmp_path: Path) -> None:
    block = onnx_maker.residual_block(named=False)
    block.graph.node[2].name = "Conv_0"

    graph = onnx_graph.read(onnx_maker.save(block, tmp_path / "block.onnx"))

    assert [(o.name, o.name_is_invented) for o in graph.operators if "Conv_0" in o.name] == [
        ("Conv_0_", True), ("Conv_0", False)
    ]  # fmt: skip


def test_a_dimension_of_minus_one_is_an_open_one(tmp_path: Path) -> None:
    block = onnx_maker.residual_block()
    block.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1

    graph = onnx_graph.read(onnx_maker.save(block, tmp_path / "block.onnx"), {"x": (2, 8, 16, 16)})

    assert graph.shape("x") == (2, 8, 16, 16)


def test_a_batch_fills_the_first_dimension_and_its_symbol_everywhere(tmp_path: Path) -> None:
    graph = onnx_graph.read(made(tmp_path), batch=4)

    assert graph.shape("y") == (4, 8, 16, 16)
    assert total_macs(graph) == 2 * 4 * 8 * 16 * 16 * 72


def test_unnamed_nodes_get_names_from_type_and_position(tmp_path: Path) -> None:
    graph = onnx_graph.read(made(tmp_path, named=False), default_dim=1)

    names = [operator.name for operator in graph.operators]

    assert names == ["Conv_0", "BatchNormalization_1", "Relu_2", "Conv_3", "Add_4", "Relu_5"]
    assert all(operator.name_is_invented for operator in graph.operators)


def test_work_is_counted_again_when_real_shapes_are_given(tmp_path: Path) -> None:
    graph = onnx_graph.read(made(tmp_path))

    known = graph.with_shapes({"x": (1, 8, 16, 16), "a": (1, 8, 16, 16)})

    assert known.operators[0].macs == 8 * 16 * 16 * 72
    assert known.operators[3].macs is None
    with pytest.raises(ShapeError, match="no tensor 'nothing'"):
        graph.with_shapes({"nothing": (1,)})


def test_a_shape_that_contradicts_the_file_is_refused_with_the_file_s_own(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match=r"input 'x' is \[N, 8, 16, 16\], it cannot be \[1, 3, 16, 16\]"):
        onnx_graph.read(made(tmp_path), {"x": (1, 3, 16, 16)})
    with pytest.raises(ShapeError, match="there is no input 'image'; the inputs are 'x'"):
        onnx_graph.read(made(tmp_path), {"image": (1, 8, 16, 16)})


def test_matrix_products_count_their_inner_dimension(tmp_path: Path) -> None:
    graph = onnx_graph.read(onnx_maker.two_layers(tmp_path / "two.onnx"))

    first, second = graph.operators

    assert (first.macs, second.macs) == (32 * 64, 64 * 10)
    assert (first.weight_bytes, second.weight_bytes) == (32 * 64 * 4, (640 + 10) * 4)


def test_both_branches_of_an_if_are_listed_under_its_name(tmp_path: Path) -> None:
    branch = {
        kind: helper.make_graph(
            [helper.make_node(kind, ["x"], ["inner"], name="act")],
            kind,
            [],
            [helper.make_tensor_value_info("inner", 1, [1, 4])],
        )
        for kind in ("Relu", "Tanh")
    }
    choose = helper.make_node("If", ["c"], ["y"], then_branch=branch["Relu"], else_branch=branch["Tanh"])
    limit = np.zeros((), np.float32)
    compare = [
        helper.make_node("ReduceSum", ["x"], ["s"], name="sum", keepdims=0),
        helper.make_node("Greater", ["s", "limit"], ["c"], name="compare"),
    ]
    path = onnx_maker.save(
        onnx_maker.model([*compare, choose], {"x": [1, 4]}, {"y": [1, 4]}, {"limit": limit}), tmp_path / "if.onnx"
    )

    graph = onnx_graph.read(path)

    inside = {operator.name: operator for operator in graph.operators if operator.body}
    assert set(inside) == {"If_2/then_branch/act", "If_2/else_branch/act"}
    assert inside["If_2/then_branch/act"].inputs == ("x",)
    assert inside["If_2/then_branch/act"].outputs == ("If_2/then_branch/inner",)
    assert inside["If_2/else_branch/act"].moved_bytes == 32


def test_weights_outside_the_file_are_known_but_never_read(tmp_path: Path) -> None:
    path = onnx_maker.two_layers(tmp_path / "two.onnx")
    (tmp_path / "weights" / "data.bin").unlink()

    graph = onnx_graph.read(path)

    assert graph.tensors["w"].is_constant
    assert graph.tensors["w"].size_bytes == 32 * 64 * 4
    assert onnx_graph.external_files(onnx_graph.load(path)) == {"weights/data.bin": "w"}


def test_a_newer_operator_set_is_a_note_and_not_an_error(tmp_path: Path) -> None:
    future = onnx_maker.residual_block()
    future.opset_import[0].version = 99

    graph = onnx_graph.read(onnx_maker.save(future, tmp_path / "future.onnx"))

    assert len(graph.operators) == 6
    assert any("operator set 99 is newer" in note for note in graph.notes)


def test_onnx_and_tflite_forms_of_one_network_ask_for_the_same_work(models_dir: Path) -> None:
    as_onnx = onnx_graph.read(find(models_dir, "nmp.onnx"), default_dim=1)
    as_tflite = tflite_graph.read(find(models_dir, "nmp.tflite"))

    assert total_macs(as_onnx) == total_macs(as_tflite) == NMP_MACS


def test_the_first_layers_of_a_real_tflite_model_have_the_work_worked_out_by_hand(models_dir: Path) -> None:
    graph = tflite_graph.read(find(models_dir, "face_landmark.tflite"))

    convolution, prelu, depthwise = graph.operators[:3]

    assert convolution.macs == (96 * 96 * 16) * (3 * 3 * 3)
    assert convolution.moved_bytes == 4 * (192 * 192 * 3 + 16 * 27 + 16 + 96 * 96 * 16)
    assert (prelu.type, prelu.macs) == ("PRELU", 0)
    assert depthwise.macs == (96 * 96 * 16) * (3 * 3)
    assert depthwise.attributes["stride_w"] == 1


def test_dequantized_weights_are_folded_and_count_as_weights(models_dir: Path) -> None:
    graph = tflite_graph.read(find(models_dir, "face_detection_short_range.tflite"))

    folded = [operator for operator in graph.operators if operator.is_folded]

    assert len(folded) == 74
    assert {operator.type for operator in folded} == {"DEQUANTIZE"}
    assert all(graph.tensors[operator.outputs[0]].is_constant for operator in folded)


def test_densified_sparse_weights_are_folded_too(models_dir: Path) -> None:
    graph = tflite_graph.read(find(models_dir, "face_detection_full_range_sparse.tflite"))

    assert any(operator.type == "DENSIFY" and operator.is_folded for operator in graph.operators)


def test_subgraphs_of_a_tflite_file_stand_under_the_operator_that_calls_them(models_dir: Path) -> None:
    graph = tflite_graph.read(find(models_dir, "okay_nabu.tflite"))

    inside = [operator for operator in graph.operators if operator.subgraph == 1]

    assert len(inside) == 12
    assert {operator.body for operator in inside} == {"CALL_ONCE_0/init"}
    assert len({operator.name for operator in graph.operators}) == len(graph.operators)


def test_resizing_a_tflite_input_resizes_what_follows(models_dir: Path) -> None:
    path = find(models_dir, "face_landmark.tflite")

    same = tflite_graph.read(path, {"input_1": (1, 192, 192, 3)})
    resized = tflite_graph.read(path, {"input_1": (2, 192, 192, 3)})

    assert same == tflite_graph.read(path)
    assert resized.shape("input_1") == (2, 192, 192, 3)
    assert resized.operators[0].macs == 2 * (same.operators[0].macs or 0)
    assert resized.shape(resized.operators[0].outputs[0]) == (2, 96, 96, 16)


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.5, 0.9, 0.9999])
def test_a_tflite_file_cut_off_anywhere_is_reported_as_damaged(models_dir: Path, tmp_path: Path, share: float) -> None:
    data = find(models_dir, "face_landmark.tflite").read_bytes()
    path = tmp_path / "cut.tflite"
    path.write_bytes(data[: max(8, int(len(data) * share))])

    with pytest.raises(GraphError, match="damaged or cut off"):
        tflite_graph.read(path)


def test_flipped_bytes_give_a_graph_or_a_graph_error_and_nothing_else(models_dir: Path, tmp_path: Path) -> None:
    data = find(models_dir, "okay_nabu.tflite").read_bytes()
    rng = np.random.default_rng(7)
    path = tmp_path / "flipped.tflite"
    outcomes = set()

    for _ in range(60):
        damaged = bytearray(data)
        for position in rng.integers(8, len(data), 20):
            damaged[position] = int(rng.integers(256))
        path.write_bytes(damaged)
        try:
            outcomes.add(tflite_graph.read(path).format)
        except GraphError:
            outcomes.add("refused")

    assert outcomes <= {"tflite", "refused"}


@pytest.mark.parametrize(
    ("kind", "attributes", "inputs", "outputs", "expected"),
    [
        ("ConvTranspose", {}, [(1, 4, 5, 5), (4, 6, 3, 3)], [(1, 6, 7, 7)], 4 * 25 * 6 * 9),
        ("Gemm", {"transA": 1}, [(7, 2), (7, 3)], [(2, 3)], 2 * 3 * 7),
        ("LSTM", {}, [(10, 2, 8), (1, 16, 8), (1, 16, 4)], [(10, 1, 2, 4)], 10 * 2 * (16 * 8 + 16 * 4)),
        ("Einsum", {"equation": "bij,bjk->bik"}, [(2, 3, 4), (2, 4, 5)], [(2, 3, 5)], 2 * 3 * 4 * 5),
        ("Einsum", {"equation": "b...i,b...i->b"}, [(2, 3), (2, 3)], [(2,)], None),
        ("QLinearConv", {}, [(1, 4, 5, 5), (), (), (8, 4, 1, 1)], [(1, 8, 5, 5)], 8 * 25 * 4),
        ("Relu", {}, [None], [None], 0),
        ("NeverSeen", {}, [(1,)], [(1,)], None),
    ],
)
def test_work_of_onnx_operators(
    kind: str,
    attributes: dict[str, object],
    inputs: list[tuple[int, ...] | None],
    outputs: list[tuple[int, ...] | None],
    expected: int | None,
) -> None:
    assert count_macs("onnx", kind, attributes, inputs, outputs) == expected


@pytest.mark.parametrize(
    ("kind", "attributes", "inputs", "outputs", "expected"),
    [
        ("TRANSPOSE_CONV", {}, [(4,), (6, 2, 2, 4), (1, 5, 5, 4)], [(1, 10, 10, 6)], (5 * 5 * 4) * 6 * 2 * 2),
        ("FULLY_CONNECTED", {}, [(2, 8), (10, 8), (10,)], [(2, 10)], 160),
        ("BATCH_MATMUL", {"adj_x": True}, [(3, 4, 2), (3, 4, 5)], [(3, 2, 5)], 3 * 2 * 5 * 4),
        ("SVDF", {}, [(1, 8), (4, 8), (4, 6)], [(1, 4)], 4 * 8 + 4 * 6),
        ("CUSTOM_THING", {}, [(1,)], [(1,)], None),
    ],
)
def test_work_of_tflite_operators(
    kind: str,
    attributes: dict[str, object],
    inputs: list[tuple[int, ...] | None],
    outputs: list[tuple[int, ...] | None],
    expected: int | None,
) -> None:
    assert count_macs("tflite", kind, attributes, inputs, outputs) == expected


def test_sizes_round_half_bytes_up_and_strings_have_none() -> None:
    assert size_of("int4", (3,)) == 2
    assert size_of("float16", (2, 2)) == 8
    assert size_of("string", (2,)) is None
    assert size_of("float32", (None, 2)) is None
