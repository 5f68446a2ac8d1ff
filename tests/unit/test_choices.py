"""A choice in an ONNX model: shapes decide on the branch where they can, and what comes out has the branch's shape."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from latency_models.ask_onnxruntime import executed_graph
from latency_models.graph import Graph
from latency_models.making_kernels import KernelMaker
from latency_models.observations import Target
from latency_models.patterns import Patterns
from latency_models.reading import read

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def number(name: str, values: list[int]) -> onnx.TensorProto:
    return helper.make_tensor(name, INT64, [len(values)], values)


def branch(name: str, *nodes: onnx.NodeProto) -> onnx.GraphProto:
    return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(nodes[-1].output[0], FLOAT, None)])


def squeezed_if_one(condition: list[onnx.NodeProto], inputs: list[onnx.ValueInfoProto]) -> bytes:
    """Exporters write so what may have one channel or several: squeeze, or leave it."""
    squeeze = helper.make_node("Squeeze", ["x", "axis"], ["narrow"], name="squeeze")
    leave = helper.make_node("Identity", ["x"], ["same"], name="leave")
    nodes = [
        *condition,
        helper.make_node(
            "If", ["is_one"], ["y"], name="choice", then_branch=branch("a", squeeze), else_branch=branch("b", leave)
        ),
        helper.make_node("Relu", ["y"], ["z"], name="after"),
    ]
    graph = helper.make_graph(
        nodes, "g", inputs, [helper.make_tensor_value_info("z", FLOAT, None)], [number("axis", [1]), number("one", [1])]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def by_shape(channels: int | str) -> bytes:
    condition = [
        helper.make_node("Shape", ["x"], ["shape"], name="shape"),
        helper.make_node("Gather", ["shape", "axis"], ["channels"], name="pick"),
        helper.make_node("Equal", ["channels", "one"], ["is_one"], name="compare"),
    ]
    return squeezed_if_one(condition, [helper.make_tensor_value_info("x", FLOAT, ["n", channels, 8])])


def maker() -> KernelMaker:
    import platform

    import onnxruntime

    target = Target(
        device="here", machine="m", architecture=platform.machine(), runtime="onnxruntime",
        runtime_version=onnxruntime.__version__, threads=1, optimization="all", delegate=None, origin="measured",
    )  # fmt: skip
    return KernelMaker(target, Patterns({}), {}, lambda n_bytes: 1e-9 * n_bytes)


@pytest.mark.parametrize(("channels", "taken", "shape"), [(1, "squeeze", (4, 8)), (3, "leave", (4, 3, 8))])
def test_shapes_decide_which_branch_runs_and_what_comes_out(channels: int, taken: str, shape: tuple[int, ...]) -> None:
    model = by_shape("c")
    made = maker().of_model(model, {"x": (4, channels, 8)}, None)
    ran = [nodes[0] for nodes in made.nodes]
    assert f"choice/{'then' if taken == 'squeeze' else 'else'}_branch/{taken}" in ran
    assert not made.unknown
    after = made.kernels[ran.index("after")]
    assert after.inputs[0] is not None
    assert (after.inputs[0].shape, after.inputs[0].dtype, after.outputs[0].shape) == (shape, "float32", shape)
    assert not any("depend on the data" in note for note in made.notes)


def test_a_choice_by_the_data_is_said_and_its_shapes_stay_unknown_where_the_branches_differ() -> None:
    flag = helper.make_tensor_value_info("is_one", BOOL, [])
    model = squeezed_if_one([], [helper.make_tensor_value_info("x", FLOAT, [4, 1, 8]), flag])
    made = maker().of_model(model, None, None)
    assert "1 choices depend on the data: the larger branch of each is counted" in made.notes
    assert {unknown.operator for unknown in made.unknown} == {"choice", "after"}
    assert all(unknown.latency_s > 0 for unknown in made.unknown)


def test_branches_that_agree_tell_the_shape_whichever_the_data_takes() -> None:
    relu, tanh = (branch(kind, helper.make_node(kind, ["x"], [f"{kind}_out"], name=kind)) for kind in ("Relu", "Tanh"))
    graph = helper.make_graph(
        [
            helper.make_node("If", ["c"], ["y"], name="choice", then_branch=relu, else_branch=tanh),
            helper.make_node("Abs", ["y"], ["z"], name="after"),
        ],
        "g",
        [helper.make_tensor_value_info("c", BOOL, []), helper.make_tensor_value_info("x", FLOAT, [2, 5])],
        [helper.make_tensor_value_info("z", FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    executed: Graph = executed_graph(model, read(model))
    assert executed.shape("y") == (2, 5)
    assert executed.tensors["y"].dtype == "float32"
