"""The order in which TFLite runs a graph of which a delegate takes a part."""

from __future__ import annotations

from edgeprof.models.tflite_partitions import partition
from latency_models.graph import Operator


def node(index: int, kind: str, inputs: str, outputs: str) -> Operator:
    return Operator(
        index=index, name=f"{kind}_{index}", type=kind, inputs=tuple(inputs.split()), outputs=tuple(outputs.split())
    )


def parts(nodes: list[Operator], *own: str) -> list[tuple[bool, list[str]]]:
    return [(part.is_delegated, [n.name for n in part.nodes]) for part in partition(nodes, own)]


def test_nodes_that_need_nothing_of_tflite_move_before_what_tflite_runs() -> None:
    nodes = [
        node(0, "ADD", "x", "a"),
        node(1, "SPLIT_V", "a", "b"),
        node(2, "MUL", "x", "c"),
        node(3, "SUB", "b c", "y"),
    ]

    assert parts(nodes, "SPLIT_V_1") == [(True, ["ADD_0", "MUL_2"]), (False, ["SPLIT_V_1"]), (True, ["SUB_3"])]


def test_what_reads_and_writes_state_keeps_its_order() -> None:
    nodes = [
        node(0, "READ_VARIABLE", "v", "a"),
        node(1, "ADD", "a x", "b"),
        node(2, "ASSIGN_VARIABLE", "v b", ""),
        node(3, "READ_VARIABLE", "v", "c"),
        node(4, "MUL", "c x", "y"),
    ]

    order = [
        name for _, names in parts(nodes, "READ_VARIABLE_0", "ASSIGN_VARIABLE_2", "READ_VARIABLE_3") for name in names
    ]

    assert order == ["READ_VARIABLE_0", "ADD_1", "ASSIGN_VARIABLE_2", "READ_VARIABLE_3", "MUL_4"]


def test_a_cycle_ends_in_one_part_with_the_order_of_the_file() -> None:
    nodes = [node(0, "ADD", "b", "a"), node(1, "MUL", "a", "b")]

    assert parts(nodes) == [(True, ["ADD_0", "MUL_1"])]
