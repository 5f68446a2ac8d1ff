"""Odd graphs through the real command line: a correct profile, or one error that says what, where and what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from tests.integration.command_line import CommandLine
from tests.integration.test_bad_input import QUICK, assert_told
from tests.odd_models import SHAPE, write_chain, write_loop, write_nested_ifs, write_onnx
from tests.odd_tflite import write_tflite_chain

NAMES = {
    "control characters": "bell\a back\b null-like\x01",
    "a newline": "first\nsecond\r\nthird",
    "ansi escapes": "\x1b[31mred\x1b[0m\x1b]0;title\a",
    "right to left": "\u202eevil\u2066\u0646\u0635",
    "emoji": "👩‍🔬🧪",
    "quotes": '"it\'s" `quoted` [bold]markup[/bold]',
    "a lone combining mark": "\u0301",
    "a path": "../../etc/passwd",
    "spaces": "   ",
    "very long": "n" * 5000,
}


@pytest.fixture
def edgeprof(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def profiled(edgeprof: CommandLine, path: Path, *options: str) -> tuple[dict[str, Any], str]:
    """The document and the printed page of a profile that must succeed."""
    done = edgeprof.run("profile", path, "--operators", "--json", "profile.json", *QUICK, *options)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    document: dict[str, Any] = json.loads((edgeprof.folder / "profile.json").read_text())
    return document, done.stdout


def assert_every_node_is_timed_once(document: dict[str, Any], names: list[str]) -> None:
    assert sorted(node for operator in document["operators"] for node in operator["nodes"]) == sorted(names)


def kernel_types(document: dict[str, Any]) -> list[str]:
    return [kernel["type"] for kernel in document["raw"]["profile"]["operators"]["kernels"]]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_graph_of_a_hundred_thousand_nodes_is_profiled(edgeprof: CommandLine, tmp_path: Path) -> None:
    path = write_chain(tmp_path / "endless.onnx", 100_000)

    done = edgeprof.run("profile", path, *QUICK)

    assert done.returncode == 0, done.stderr
    assert "Latency" in done.stdout


@pytest.mark.slow
def test_every_one_of_ten_thousand_nodes_is_timed(edgeprof: CommandLine, tmp_path: Path) -> None:
    path = write_chain(tmp_path / "endless.onnx", 10_000)

    document, page = profiled(edgeprof, path, "--operator-runs", "2")

    assert len(document["operators"]) == 10_000
    assert document["operator_totals"]["n_unmapped"] == 0
    assert document["raw"]["profile"]["operators"]["n_batches"] == 2
    assert "20 of 10000 kernels shown" in page


def test_a_thousand_nodes_are_told_apart(edgeprof: CommandLine, tmp_path: Path) -> None:
    document, _ = profiled(edgeprof, write_chain(tmp_path / "long.onnx", 1000))

    assert_every_node_is_timed_once(document, [f"block{k}/op" for k in range(1000)])


def test_a_cyclic_graph(edgeprof: CommandLine, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"], name="first"),
        helper.make_node("Sin", ["a"], ["b"], name="second"),
        helper.make_node("Sin", ["b"], ["y"], name="third"),
    ]

    done = edgeprof.run("profile", write_onnx(tmp_path / "cyclic.onnx", nodes), *QUICK)

    assert_told(done, edgeprof, "cyclic.onnx")


def test_a_graph_that_feeds_on_its_own_output(edgeprof: CommandLine, tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["x", "y"], ["y"], name="loop")]

    done = edgeprof.run("profile", write_onnx(tmp_path / "self.onnx", nodes), *QUICK)

    assert_told(done, edgeprof, "self.onnx")


def test_a_tensor_that_two_nodes_make(edgeprof: CommandLine, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Sin", ["x"], ["t"], name="first"),
        helper.make_node("Atan", ["x"], ["t"], name="second"),
        helper.make_node("Tanh", ["t"], ["y"], name="third"),
    ]

    done = edgeprof.run("profile", write_onnx(tmp_path / "twice.onnx", nodes), *QUICK)

    assert_told(done, edgeprof, "twice.onnx", "t")


def test_nodes_without_a_name_are_all_timed(edgeprof: CommandLine, tmp_path: Path) -> None:
    document, _ = profiled(edgeprof, write_chain(tmp_path / "names.onnx", 8, [""] * 8))

    nodes = [node for operator in document["operators"] for node in operator["nodes"]]
    assert len(document["operators"]) == 8
    assert len(nodes) == len(set(nodes))
    assert len(nodes) + document["operator_totals"]["n_unmapped"] == 8


def test_two_nodes_of_one_name(edgeprof: CommandLine, tmp_path: Path) -> None:
    done = edgeprof.run("profile", write_chain(tmp_path / "names.onnx", 8, ["same"] * 8), *QUICK)

    assert_told(done, edgeprof, "names.onnx", "two nodes with same node name (same)")


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_node_may_have_any_name(edgeprof: CommandLine, tmp_path: Path, name: str) -> None:
    path = write_chain(tmp_path / "names.onnx", 2, [name, "plain"])

    document, page = profiled(edgeprof, path)

    assert_every_node_is_timed_once(document, [name, "plain"])
    assert all(character.isprintable() for character in page.replace("\n", ""))
    assert edgeprof.run("runs", "export", "latest", "--csv", "-").returncode == 0
    assert edgeprof.run("runs", "export", "latest", "--trace", "trace.json").returncode == 0


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_tensor_may_have_any_name(edgeprof: CommandLine, tmp_path: Path, name: str) -> None:
    nodes = [helper.make_node("Sin", [name], [name + "'"], name="sin")]

    document, page = profiled(edgeprof, write_onnx(tmp_path / "t.onnx", nodes, inputs=[name], outputs=[name + "'"]))

    assert_every_node_is_timed_once(document, ["sin"])
    assert all(character.isprintable() for character in page.replace("\n", ""))


def test_an_operator_of_an_unknown_domain(edgeprof: CommandLine, tmp_path: Path) -> None:
    nodes = [helper.make_node("Frobnicate", ["x"], ["y"], name="mine", domain="com.example")]

    done = edgeprof.run("profile", write_onnx(tmp_path / "own.onnx", nodes, domains=["", "com.example"]), *QUICK)

    assert_told(done, edgeprof, "own.onnx", "com.example", "Frobnicate")


@pytest.mark.parametrize("custom", ["Frobnicate", "bad\x1b[31m\nname", ""])
@pytest.mark.parametrize("runtime", [(), ("--runtime", "litert")], ids=["any", "litert"])
def test_a_custom_operator_of_tflite(
    edgeprof: CommandLine, tmp_path: Path, custom: str, runtime: tuple[str, ...]
) -> None:
    path = write_tflite_chain(tmp_path / "own.tflite", 4, custom)

    done = edgeprof.run("profile", path, *QUICK, *runtime)

    assert_told(done, edgeprof, "own.tflite")
    assert custom != "Frobnicate" or custom in done.stderr
    assert "\x1b" not in done.stderr


def test_a_thousand_nodes_of_tflite_are_told_apart(edgeprof: CommandLine, tmp_path: Path) -> None:
    document, _ = profiled(edgeprof, write_tflite_chain(tmp_path / "long.tflite", 1000))

    assert len(document["operators"]) == 1000
    assert document["operator_totals"]["n_unmapped"] == 0


def test_a_model_without_an_operator_set(edgeprof: CommandLine, tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "bare.onnx", [helper.make_node("Sin", ["x"], ["y"])])
    model = onnx.load(path)
    del model.opset_import[:]
    path.write_bytes(model.SerializeToString())

    done = edgeprof.run("profile", path, *QUICK)

    assert_told(done, edgeprof, "bare.onnx")


def test_a_model_with_functions_of_its_own(edgeprof: CommandLine, tmp_path: Path) -> None:
    function = helper.make_function(
        "com.example",
        "SinTanh",
        ["a"],
        ["b"],
        [helper.make_node("Sin", ["a"], ["s"], name="s"), helper.make_node("Tanh", ["s"], ["b"], name="t")],
        [helper.make_opsetid("", 17)],
    )
    nodes = [helper.make_node("SinTanh", ["x"], ["y"], name="call", domain="com.example")]
    path = write_onnx(tmp_path / "f.onnx", nodes, domains=["", "com.example"], functions=[function])

    document, page = profiled(edgeprof, path)

    assert kernel_types(document) == ["Sin", "Tanh"]
    assert "functions of the model's own" in " ".join(page.split())


def test_an_input_that_is_an_output_too(edgeprof: CommandLine, tmp_path: Path) -> None:
    nodes = [helper.make_node("Sin", ["x"], ["y"], name="sin")]

    document, _ = profiled(edgeprof, write_onnx(tmp_path / "through.onnx", nodes, outputs=["y", "x"]))

    assert_every_node_is_timed_once(document, ["sin"])


def test_a_node_whose_output_nobody_uses(edgeprof: CommandLine, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Sin", ["x"], ["y"], name="used"),
        helper.make_node("Tanh", ["x"], ["nobody"], name="idle"),
    ]

    document, _ = profiled(edgeprof, write_onnx(tmp_path / "idle.onnx", nodes))

    assert_every_node_is_timed_once(document, ["used", "idle"])


def test_a_graph_without_nodes(edgeprof: CommandLine, tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "empty.onnx", [], outputs=["x"])

    done = edgeprof.run("profile", path, "--operators", "--json", "profile.json", *QUICK)

    assert "Traceback" not in done.stderr
    assert "a defect" not in done.stderr
    assert done.returncode == 0 or "what to do:" in done.stderr


@pytest.mark.parametrize("depth", [1, 20])
def test_bodies_inside_bodies(edgeprof: CommandLine, tmp_path: Path, depth: int) -> None:
    document, _ = profiled(edgeprof, write_nested_ifs(tmp_path / "deep.onnx", depth))

    assert len(kernel_types(document)) == depth + 1
    assert {"Sin", "Tanh"} & set(kernel_types(document))


def test_bodies_inside_bodies_deeper_than_anything_can_read(edgeprof: CommandLine, tmp_path: Path) -> None:
    done = edgeprof.run("profile", write_nested_ifs(tmp_path / "abyss.onnx", 500), *QUICK)

    assert_told(done, edgeprof, "abyss.onnx")


def test_a_loop_counts_every_round_of_its_body(edgeprof: CommandLine, tmp_path: Path) -> None:
    document, _ = profiled(edgeprof, write_loop(tmp_path / "loop.onnx", 100))

    assert {"Sin", "Loop"} <= set(kernel_types(document))


def test_an_operator_with_a_thousand_inputs(edgeprof: CommandLine, tmp_path: Path) -> None:
    nodes = [helper.make_node("Sum", ["x"] * 1000, ["y"], name="sum")]

    document, _ = profiled(edgeprof, write_onnx(tmp_path / "wide.onnx", nodes))

    assert_every_node_is_timed_once(document, ["sum"])


def test_a_model_whose_outputs_take_their_shape_at_run_time_goes_to_the_next_runtime_and_says_so(
    edgeprof: CommandLine, models_dir: Path
) -> None:
    done = edgeprof.run("profile", next(models_dir.rglob("nmp.tflite")), "--operators", "--json", "p.json", *QUICK)

    said = " ".join((done.stderr + done.stdout).split())
    assert "litert" in said
    if done.returncode == 0:
        assert json.loads((edgeprof.folder / "p.json").read_text())["runtime"]["name"] == "tflite"
        assert "passed over: litert gave no operators" in said
    else:  # a Python that tflite-runtime has no wheel for
        assert done.returncode == 3
        assert "operators were not timed" in said


def test_a_tensor_of_another_shape_than_the_file_says(edgeprof: CommandLine, tmp_path: Path) -> None:
    nodes = [helper.make_node("Sin", ["x"], ["y"], name="sin")]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [7, 7, 7])],
    )
    path = tmp_path / "lies.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)

    done = edgeprof.run("profile", path, *QUICK)

    assert done.returncode == 0 or "what to do:" in done.stderr
    assert "Traceback" not in done.stderr
    assert "a defect" not in done.stderr
