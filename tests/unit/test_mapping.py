"""Kernels mapped back to nodes: real ONNX Runtime sessions, recorded XNNPACK events, and the structural check."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from device_agents.wire import Kernel, OperatorPass
from edgeprof.models import ModelFile, map_operators, read_model, work
from edgeprof.models.alignment import NEVER, Gains, align
from edgeprof.run import Operator
from tests.unit import onnx_maker
from tests.unit.onnx_recorder import record
from tests.unit.test_graph import NMP_MACS, find

RECORDED = Path(__file__).parents[1] / "recorded" / "xnnpack"
SPEECH = {"input": (1, 576), "state": (2, 1, 128)}
EXTENDED = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED


def macs(operators: Sequence[Operator]) -> int:
    return sum(operator.macs or 0 for operator in operators)


def origins(operators: Sequence[Operator]) -> Counter[str]:
    return Counter(operator.origin for operator in operators)


def each_node_at_most_once(operators: Sequence[Operator]) -> bool:
    return all(count == 1 for count in Counter(name for o in operators for name in o.nodes).values())


def recorded_events(name: str, models_dir: Path) -> tuple[ModelFile, OperatorPass]:
    events = json.loads((RECORDED / f"{name}.json").read_text())["events"]
    kernels = tuple(Kernel(e["name"], e["name"], e["level"], (1e-6,), node=e["node"]) for e in events)
    return read_model(find(models_dir, f"{name}.tflite")), OperatorPass("litert", (1.0,), kernels, 1e-6)


# --- ONNX Runtime --------------------------------------------------------------------------------------------------


def test_a_residual_sum_and_the_activations_are_in_the_groups_of_their_convolutions(tmp_path: Path) -> None:
    path = onnx_maker.save(onnx_maker.residual_network(), tmp_path / "network.onnx")

    operators, notes, _ = map_operators(read_model(path), record(path, tmp_path))

    groups = [operator.node_types for operator in operators if operator.origin != "layout"]
    assert groups == [("Conv",), ("Conv", "BatchNormalization", "Relu"), ("Conv", "Add", "Relu")]
    assert macs(operators) == 3 * 32 * 16 * 16 * 32 * 9
    assert notes == ()


def test_bytes_of_a_fused_group_are_those_that_cross_its_border(tmp_path: Path) -> None:
    path = onnx_maker.save(onnx_maker.residual_network(), tmp_path / "network.onnx")

    operators, _, _ = map_operators(read_model(path), record(path, tmp_path))

    last = next(operator for operator in operators if "Add" in operator.node_types)
    image, kernel = 32 * 16 * 16 * 4, 32 * 32 * 9 * 4
    assert last.moved_bytes == 3 * image + kernel  # the convolution's input, the residual, the result, the weights


def test_unnamed_nodes_are_found_through_the_executed_graph(tmp_path: Path) -> None:
    path = onnx_maker.save(onnx_maker.residual_block(named=False), tmp_path / "block.onnx")

    operators, notes, _ = map_operators(read_model(path), record(path, tmp_path))

    assert {node for operator in operators for node in operator.nodes} == {
        "Conv_0", "BatchNormalization_1", "Relu_2", "Conv_3", "Add_4", "Relu_5"
    }  # fmt: skip
    assert origins(operators)["unmapped"] == 0
    assert notes == ()


def test_without_the_layout_rewriter_fusion_is_seen_as_well(tmp_path: Path) -> None:
    path = onnx_maker.save(onnx_maker.residual_block(), tmp_path / "block.onnx")

    operators, notes, _ = map_operators(read_model(path), record(path, tmp_path, level=EXTENDED))

    assert origins(operators)["unmapped"] == 0
    assert each_node_at_most_once(operators)
    assert macs(operators) == 2 * 8 * 16 * 16 * 72
    assert notes == ()


def test_a_graph_that_runs_as_it_is_maps_node_by_node(tmp_path: Path) -> None:
    path = onnx_maker.two_layers(tmp_path / "two.onnx")

    operators, notes, _ = map_operators(read_model(path), record(path, tmp_path))

    assert [operator.nodes for operator in operators] == [("first",), ("second",)]
    assert [operator.macs for operator in operators] == [2048, 640]
    assert notes == ()


@pytest.mark.parametrize("name", ["nmp.onnx", "standard_v3_3/model.onnx"])
def test_every_node_of_a_real_model_is_in_exactly_one_group(models_dir: Path, tmp_path: Path, name: str) -> None:
    path = find(models_dir, name)
    model = read_model(path)

    operators, notes, _ = map_operators(model, record(path, tmp_path))

    assert origins(operators)["unmapped"] == 0
    assert each_node_at_most_once(operators)
    assert {node for operator in operators for node in operator.nodes} == {o.name for o in model.graph.operators}
    assert macs(operators) == sum(o.macs or 0 for o in model.graph.operators)
    assert all("covered by no kernel" not in note for note in notes)


@pytest.mark.parametrize("name", ["silero_vad_16k_op15.onnx", "silero_vad.onnx"])
def test_work_inside_branches_is_found_through_the_shapes_that_the_runtime_saw(
    models_dir: Path, tmp_path: Path, name: str
) -> None:
    path = find(models_dir, name)
    recorded = record(path, tmp_path, SPEECH, {"sr": 16000})

    operators, notes, _ = map_operators(read_model(path, SPEECH), recorded)

    # One transform and five convolutions over 4, 4, 2, 1 and 1 steps, then a recurrent cell of 128 units.
    spectrum, decoder = 4 * 258 * 256, 128
    encoder = 4 * 128 * 129 * 3 + 2 * 64 * 128 * 3 + 64 * 64 * 3 + 128 * 64 * 3
    assert macs(operators) == spectrum + encoder + 2 * 512 * 128 + decoder
    assert origins(operators)["unmapped"] == 0
    assert any("branches not taken" in note for note in notes)
    assert any("the time of control flow is what it spent outside" in note for note in notes)


def test_one_node_that_feeds_several_kernels_is_told_as_one(models_dir: Path, tmp_path: Path) -> None:
    path = find(models_dir, "nmp.onnx")

    _, notes, _ = map_operators(read_model(path), record(path, tmp_path))

    assert any(note.startswith("1 node fed several kernels, counted with the first: ") for note in notes)


def test_a_quantized_convolution_takes_its_conversions_along(tmp_path: Path) -> None:
    path = onnx_maker.save(onnx_maker.quantized_convolution(), tmp_path / "qdq.onnx")

    operators, _, _ = map_operators(read_model(path), record(path, tmp_path))

    convolution = next(operator for operator in operators if "Conv" in operator.node_types)
    assert convolution.origin == "fused"
    assert convolution.node_types.count("DequantizeLinear") >= 1
    assert convolution.macs == 8 * 16 * 16 * 8 * 9
    assert each_node_at_most_once(operators)


def test_without_the_executed_graph_names_alone_are_matched_and_it_is_said(tmp_path: Path) -> None:
    path = onnx_maker.save(onnx_maker.residual_block(), tmp_path / "block.onnx")
    recorded = replace(record(path, tmp_path, level=EXTENDED), graph=None)

    operators, notes, _ = map_operators(read_model(path), recorded)

    assert {operator.nodes for operator in operators} >= {("n3",)}
    assert "did not hand back the graph" in notes[0]


@pytest.mark.parametrize("graph", ["", "no base64!", "AAAA"])
def test_an_executed_graph_that_cannot_be_read_is_no_reason_to_fail(tmp_path: Path, graph: str) -> None:
    path = onnx_maker.save(onnx_maker.residual_block(), tmp_path / "block.onnx")

    operators, notes, _ = map_operators(read_model(path), replace(record(path, tmp_path), graph=graph))

    assert operators
    assert "cannot be read" in notes[0]


def test_a_kernel_nobody_knows_is_shown_as_unmapped(tmp_path: Path) -> None:
    path = onnx_maker.two_layers(tmp_path / "two.onnx")
    recorded = record(path, tmp_path)
    strange = replace(recorded.kernels[0], name="token_17", type="Mystery")

    operators, notes, _ = map_operators(read_model(path), replace(recorded, kernels=(*recorded.kernels, strange)))

    assert operators[-1].origin == "unmapped"
    assert operators[-1].nodes == ()
    assert "1 kernel could not be mapped to nodes of the file: token_17" in notes


# --- TFLite --------------------------------------------------------------------------------------------------------


def test_a_node_s_own_index_is_exact(models_dir: Path) -> None:
    model = read_model(find(models_dir, "nmp.tflite"))
    kernels = tuple(Kernel(o.type, o.type, "node", (1e-6,), node=o.index) for o in reversed(model.graph.operators))

    operators, notes, _ = map_operators(model, OperatorPass("builtin", (1.0,), kernels, 1e-6))

    assert [operator.nodes[0] for operator in operators] == [o.name for o in reversed(model.graph.operators)]
    assert macs(operators) == NMP_MACS
    assert notes == ()


def test_delegate_events_are_aligned_with_the_nodes_in_order(models_dir: Path) -> None:
    model, recorded = recorded_events("face_landmark", models_dir)

    operators, notes, _ = map_operators(model, recorded)

    assert [operator.nodes for operator in operators] == [(o.name,) for o in model.graph.operators]
    assert notes == ("97 delegate events mapped by their kind and their order",)


def test_a_fused_activation_that_is_timed_apart_belongs_to_its_node(models_dir: Path) -> None:
    model, recorded = recorded_events("face_detection_full_range_sparse", models_dir)

    operators, notes, _ = map_operators(model, recorded)

    clamps = [o for o, kernel in zip(operators, recorded.kernels, strict=True) if kernel.name.startswith("Clamp")]
    assert len(clamps) == 16
    assert {(o.node_types, o.macs) for o in clamps} == {(("ADD",), 0)}
    assert macs(operators) == sum(o.macs or 0 for o in model.graph.operators)
    assert origins(operators)["unmapped"] == 0
    assert any("16 kernels with only an activation or a copy for a node" in note for note in notes)


def test_state_that_is_read_and_written_in_place_is_in_the_groups_of_its_users(models_dir: Path) -> None:
    model, recorded = recorded_events("okay_nabu", models_dir)

    operators, notes, _ = map_operators(model, recorded)

    assert origins(operators) == {"node": 35, "fused": 12}
    assert macs(operators) == sum(o.macs or 0 for o in model.graph.operators)
    assert {name for o in operators for name in o.nodes} == {o.name for o in model.graph.operators if not o.subgraph}
    assert not any("covered by no kernel" in note for note in notes)


def test_events_that_could_be_several_nodes_stay_unmapped(models_dir: Path) -> None:
    model, recorded = recorded_events("okay_nabu", models_dir)
    names = [kernel.name.split(" ")[0] for kernel in recorded.kernels]
    twin = next(i for i in range(len(names)) if names[i : i + 4] == ["Slice", "Convolution"] * 2)
    one_less = replace(recorded, kernels=recorded.kernels[:twin] + recorded.kernels[twin + 2 :])

    operators, notes, _ = map_operators(model, one_less)

    assert [o.origin for o in operators[twin : twin + 2]] == ["unmapped"] * 2
    assert origins(operators)["unmapped"] == 2
    assert any("2 delegate events could be any of several nodes" in note for note in notes)


def test_events_of_another_model_are_refused_as_a_whole(models_dir: Path) -> None:
    model, _ = recorded_events("okay_nabu", models_dir)
    _, recorded = recorded_events("face_landmark", models_dir)

    operators, notes, _ = map_operators(model, recorded)

    assert origins(operators) == {"unmapped": 97}
    assert "of 97 delegate events fit the order" in notes[0]


def test_a_standalone_activation_without_event_joins_what_makes_its_input(models_dir: Path) -> None:
    model, recorded = recorded_events("face_detection_full_range_sparse", models_dir)

    operators, _, _ = map_operators(model, recorded)

    fused = Counter(operator.node_types for operator in operators if operator.origin == "fused")
    assert set(fused) <= {("CONV_2D", "RELU"), ("DEPTHWISE_CONV_2D", "RELU"), ("PAD", "DEPTHWISE_CONV_2D"),
                          ("PAD", "CONV_2D"), ("ADD", "RELU"), ("PAD", "CONV_2D", "RELU")}  # fmt: skip


def test_a_simulated_device_s_kernels_are_the_operators_it_was_given(models_dir: Path) -> None:
    model = read_model(find(models_dir, "face_detection_short_range.tflite"))
    kernels = tuple(Kernel(w.name, w.type, "kernel", (1e-6,)) for w in work(model.graph))

    operators, notes, _ = map_operators(model, OperatorPass("simulated", (1.0,), kernels, 0.0))

    assert origins(operators) == {"node": len(kernels)}
    assert notes == ()


# --- alignment -----------------------------------------------------------------------------------------------------


def as_gains(scores: list[list[int | None]]) -> Gains:
    return np.array([[NEVER if score is None else score for score in row] for row in scores], dtype=np.int32)


def every_alignment(scores: list[list[int | None]], skipped: list[int]) -> dict[frozenset[tuple[int, int]], int]:
    """All alignments with their value, by trying everything."""
    cells = [(i, j) for i, row in enumerate(scores) for j, score in enumerate(row) if score is not None]
    found: dict[frozenset[tuple[int, int]], int] = {}
    for size in range(min(len(scores), len(skipped)) + 1):
        for chosen in combinations(cells, size):
            if all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(chosen)):
                gained = sum(scores[i][j] or 0 for i, j in chosen)
                paid = sum(cost for j, cost in enumerate(skipped) if j not in {column for _, column in chosen})
                found[frozenset(chosen)] = gained - paid
    return found


@pytest.mark.parametrize("seed", range(40))
def test_alignment_is_best_and_certain_where_all_best_ones_agree(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = int(rng.integers(1, 5)), int(rng.integers(1, 6))
    scores = [[int(rng.integers(1, 3)) if rng.random() < 0.5 else None for _ in range(columns)] for _ in range(rows)]
    skipped = [int(rng.integers(0, 2)) for _ in range(columns)]

    pairs = align(as_gains(scores), range(rows), skipped)

    values = every_alignment(scores, skipped)
    best = [chosen for chosen, value in values.items() if value == max(values.values())]
    assert frozenset(pairs.aligned.items()) in best
    assert set(pairs.certain.items()) == set(frozenset.intersection(*best))


def test_thousands_of_events_align_with_as_many_nodes() -> None:
    rows = np.random.default_rng(3).integers(0, 6, 5000)
    kinds = np.where(np.arange(6)[:, None] == rows, 40, NEVER).astype(np.int32)

    pairs = align(kinds, rows.tolist(), [10] * len(rows))

    assert pairs.certain == {i: i for i in range(5000)}
