"""Which nodes run together is learned from what a runtime did, and what it never did is named."""

from __future__ import annotations

from latency_models.building import GraphBuilder, Value, builder
from latency_models.making_kernels import KernelMaker
from latency_models.patterns import Patterns
from latency_models.reading import read
from tests.real_models import real_model
from tests.unit.kernel_makers import TARGET

GELU = ("Div", "Erf", "Add", "Mul", "Mul")
SEEN = [("Conv", "Relu"), ("Conv",), ("Conv", "Relu"), ("Add",), ("Relu",), GELU, ("MatMul",)]


def grouped(build: object) -> list[tuple[str, ...]]:
    net = builder("onnx")
    graph = net.graph(build(net))  # type: ignore[operator]
    return [tuple(node.type for node in group) for group in Patterns.learn(SEEN).groups(graph)]


def test_the_longest_group_that_was_seen_is_taken() -> None:
    assert grouped(lambda net: net.conv(net.image(8, 8), 4, activation="relu")) == [("Conv", "Relu")]


def test_a_result_that_others_need_ends_a_group() -> None:
    def build(net: GraphBuilder) -> Value:
        x = net.conv(net.image(8, 8), 4)
        return net.add(x, net.activate(x, "relu"))

    assert grouped(build) == [("Conv",), ("Relu",), ("Add",)]


def test_groups_that_are_no_chain_are_found() -> None:
    assert grouped(lambda net: net.activate(net.input((1, 4, 8)), "gelu")) == [GELU]


def test_every_node_is_in_exactly_one_group() -> None:
    net = builder("onnx")
    x = net.conv(net.image(16, 16), 8, activation="relu")
    x = net.add(x, net.conv(x, 8, activation="hard_swish"), activation="relu")
    graph = net.graph(net.activate(net.dense(net.global_average(x, keep=False), 10), "gelu"))

    names = [node.name for group in Patterns.learn(SEEN).groups(graph) for node in group]

    assert sorted(names) == sorted(node.name for node in graph.operators)


def test_what_was_never_seen_is_a_kernel_of_its_own_and_named() -> None:
    net = builder("onnx")
    graph = net.graph(net.conv(net.image(8, 8), 4, activation="hard_swish"))

    made = KernelMaker(TARGET, Patterns.learn(SEEN)).of_graph(graph)

    assert [kernel.type for kernel in made.kernels] == ["Conv", "HardSwish"]
    assert any("makes of HardSwish was never seen: it is taken to run alone" in note for note in made.notes)


def test_what_runs_once_or_names_a_variable_is_no_kernel() -> None:
    """A model with state: what CALL_ONCE calls fills its variables before the first inference."""
    model = real_model("okay_nabu.tflite")
    graph = read(model.path, name="okay_nabu")

    made = KernelMaker(TARGET, Patterns.learn([])).of_graph(graph)

    assert {"CALL_ONCE", "VAR_HANDLE"} <= {node.type for node in graph.operators}
    types = [kernel.type for kernel in made.kernels]
    assert types.count("CALL_ONCE") == 1  # each time it looks whether it was called
    assert "VAR_HANDLE" not in types
    # Each variable is read once and written once.
    assert types.count("READ_VARIABLE") == types.count("ASSIGN_VARIABLE") + len(made.unknown) > 0
