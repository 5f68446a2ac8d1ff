"""Operators cut out of real models: they load, run as the same kernels, and compute what they compute in the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from device_agents.runtimes import RuntimeRefusal
from edgeprof.errors import ModelError
from edgeprof.models import read_model
from edgeprof.models.cut_onnx import OnnxCutter
from edgeprof.models.cut_tflite import TfliteCutter
from edgeprof.models.cutting import Cut, distinct_operators, empty_model
from edgeprof.models.onnx_mapping import of_recorded
from edgeprof.models.tflite_writer import Table, read_tables, write_tflite
from latency_models.graph import Operator as Node
from tests.odd_tflite import write_tflite_chain
from tests.real_models import real_model
from tests.unit.recorded_here import recorded_here, run_here

TFLITE = ("face_detection_front.tflite", "okay_nabu.tflite", "face_detection_full_range_sparse.tflite")
# By model, the least share of its kernels whose cuts run as the same kernels. What a branch of an If runs is cut out
# of the executed graph only where it takes float32 alone.
SHARES = {
    "face_detection_front.tflite": 1.0,
    "face_detection_full_range_sparse.tflite": 1.0,
    "okay_nabu.tflite": 0.7,  # it keeps a state in variables, which a cut cannot have alone
    "silero_vad_16k_sequence.onnx": 1.0,
    "magika.onnx": 0.98,
    "ch_ppocr_mobile_v2.0_cls_infer.onnx": 0.88,
    "silero_vad_16k_op15.onnx": 0.5,
}


def same_share(cuts: tuple[Cut, ...], format: str, folder: Path) -> float:
    """The share of the model's kernels whose cuts run as the same kernels."""
    path, same = folder / f"cut.{format}", 0
    for cut in cuts:
        if cut.data is None:
            continue
        path.write_bytes(cut.data)
        try:
            kernels = recorded_here(read_model(path)).kernels
        except RuntimeRefusal:
            continue
        if sorted(kernel.type for kernel in kernels) == sorted(cut.types):
            same += len(cut.kernels)
    return same / sum(len(cut.kernels) for cut in cuts)


@pytest.mark.parametrize("name", SHARES)
def test_cuts_of_a_real_model_run_as_the_kernels_that_they_were(name: str, tmp_path: Path) -> None:
    wanted = real_model(name)
    model, run = run_here(wanted.path, wanted.shapes)

    cuts = distinct_operators(model, run)

    assert sorted(k for cut in cuts for k in cut.kernels) == list(range(len(run.operators)))
    assert all((cut.data is None) == (cut.missing is not None) for cut in cuts)
    assert same_share(cuts, model.format, tmp_path) >= SHARES[name]


def interpreter(data: bytes, **options: Any) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    found = Interpreter(model_content=data, num_threads=1, **options)
    found.allocate_tensors()
    return found


def tflite_outputs(data: bytes, inputs: list[Any] | None = None) -> list[Any]:
    runner, rng = interpreter(data), np.random.default_rng(0)
    for k, told in enumerate(runner.get_input_details()):
        value = rng.standard_normal(told["shape"]).astype(told["dtype"]) if inputs is None else inputs[k]
        runner.set_tensor(told["index"], value)
    runner.invoke()
    return [runner.get_tensor(told["index"]) for told in runner.get_output_details()]


@pytest.mark.parametrize("name", [*TFLITE, "nmp.tflite", "iris_landmark.tflite", "mobilenet_v3_small.tflite"])
def test_a_tflite_model_written_again_computes_the_same(name: str) -> None:
    data = real_model(name).path.read_bytes()

    written = write_tflite(read_tables(data))

    for one, other in zip(tflite_outputs(data), tflite_outputs(written), strict=True):
        np.testing.assert_array_equal(one, other)
    assert write_tflite(read_tables(written)) == written


def test_a_cut_of_a_tflite_model_computes_what_the_operator_computes_in_it() -> None:
    from ai_edge_litert.interpreter import OpResolverType

    path = real_model("face_detection_front.tflite").path
    data = path.read_bytes()
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    whole = interpreter(data, experimental_op_resolver_type=plain, experimental_preserve_all_tensors=True)
    told = whole.get_input_details()[0]
    whole.set_tensor(told["index"], np.random.default_rng(0).standard_normal(told["shape"]).astype(told["dtype"]))
    whole.invoke()
    tables = read_tables(data)
    cutter, operators = TfliteCutter(tables), tables.tables("Subgraphs")[0].tables("Operators")
    compared = 0
    for node in read_model(path).graph.operators:
        if node.is_folded:
            continue
        cut = cutter.cut([node])
        assert isinstance(cut, bytes), cut
        runner = interpreter(cut, experimental_op_resolver_type=plain)
        read = [t for t in operators[node.index].indices("Inputs") if t >= 0 and not cutter.is_made_once(t)]
        for there, tensor in zip(runner.get_input_details(), dict.fromkeys(read), strict=True):
            runner.set_tensor(there["index"], whole.get_tensor(tensor))
        runner.invoke()
        found = runner.get_tensor(runner.get_output_details()[0]["index"])
        expected = whole.get_tensor(operators[node.index].indices("Outputs")[0])
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        compared += 1
    assert compared > 50


def test_a_cut_of_an_onnx_model_computes_what_the_operator_computes_in_it() -> None:
    wanted = real_model("silero_vad_16k_sequence.onnx")
    model, run = run_here(wanted.path, wanted.shapes)
    recorded = run.profile.operators
    assert recorded is not None
    graph = of_recorded(model.graph, recorded).graph
    cutter, by_name = OnnxCutter(wanted.path, graph), {node.name: node for node in graph.operators}
    cuts = [cutter.cut([by_name[name] for name in operator.nodes]) for operator in run.operators if operator.nodes]
    parsed = [onnx.load_model_from_string(cut) for cut in cuts if isinstance(cut, bytes)]
    values = _values_inside(wanted.path, parsed, model.inputs.shapes)

    for cut in parsed:
        session = onnxruntime.InferenceSession(cut.SerializeToString(), providers=["CPUExecutionProvider"])
        feeds = {value.name: values[value.name] for value in session.get_inputs()}
        for name, found in zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True):
            np.testing.assert_allclose(found, values[name], rtol=1e-4, atol=1e-5)
    assert len(parsed) >= 0.8 * len(cuts)


def _values_inside(path: Path, cuts: list[Any], shapes: Any) -> dict[str, Any]:
    """Every tensor that a cut reads or makes, as the whole model computes it from one random input."""
    whole = onnx.load(str(path))
    given = {value.name for value in whole.graph.input}
    names = dict.fromkeys(v.name for cut in cuts for v in (*cut.graph.input, *cut.graph.output))
    known = {value.name for value in whole.graph.output} | given
    whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    session = onnxruntime.InferenceSession(whole.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    feeds = {v.name: rng.standard_normal(shapes[v.name]).astype(np.float32) for v in session.get_inputs()}
    outputs = [output.name for output in session.get_outputs()]
    return {**feeds, **dict(zip(outputs, session.run(None, feeds), strict=True))}


def test_equal_operators_share_one_cut() -> None:
    model, run = run_here(real_model("face_detection_back.tflite").path)

    cuts = distinct_operators(model, run)

    assert len(cuts) < len(run.operators) / 2


@pytest.mark.parametrize("format", ["onnx", "tflite"])
def test_the_empty_model_runs_one_cheap_kernel_at_most(format: str, tmp_path: Path) -> None:
    path = tmp_path / f"empty.{format}"
    path.write_bytes(empty_model(format))

    assert len(recorded_here(read_model(path)).kernels) <= 1


# --- what cannot be cut ------------------------------------------------------------------------------------------


def test_a_custom_operator_keeps_its_code_and_options(tmp_path: Path) -> None:
    path = write_tflite_chain(tmp_path / "odd.tflite", 4, custom="Mystery")
    node = next(node for node in read_model(path).graph.operators if node.domain == "custom")

    cut = TfliteCutter(read_tables(path.read_bytes())).cut([node])

    assert isinstance(cut, bytes)
    assert read_tables(cut).tables("OperatorCodes")[0].fields["CustomCode"] == b"Mystery"


def test_a_node_of_another_subgraph_is_not_cut_and_says_why() -> None:
    node = Node(index=0, name="WHILE_0/body/ADD_0", type="ADD", inputs=(), outputs=(), subgraph=1, body="WHILE_0/body")
    tables = read_tables(real_model("face_detection_front.tflite").path.read_bytes())

    assert "another operator calls" in str(TfliteCutter(tables).cut([node]))


def test_a_shape_that_is_computed_while_the_model_runs_is_not_guessed(tmp_path: Path) -> None:
    node = helper.make_node("Slice", ["x", "starts", "ends"], ["y"], name="slice")
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, (4,))]
    inputs += [helper.make_tensor_value_info(name, TensorProto.INT64, (1,)) for name in ("starts", "ends")]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("n",))]
    path = tmp_path / "slice.onnx"
    onnx.save(helper.make_model(helper.make_graph([node], "g", inputs, outputs)), path)
    model = read_model(path)

    assert "decide what Slice computes" in str(OnnxCutter(path, model.graph).cut(model.graph.operators))


def test_weights_in_a_file_beside_the_model_come_into_the_cut(tmp_path: Path) -> None:
    weights = np.arange(4096, dtype=np.float32).reshape(64, 64)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 64))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 64))],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    path = tmp_path / "large.onnx"
    onnx.save(helper.make_model(graph), path, save_as_external_data=True, size_threshold=16, location="w.bin")
    model = read_model(path)

    cut = OnnxCutter(path, model.graph).cut(model.graph.operators)

    assert isinstance(cut, bytes)
    kept = onnx.load_model_from_string(cut).graph.initializer[0]
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(kept), weights)


def test_a_damaged_tflite_file_is_refused() -> None:
    data = bytearray(real_model("face_detection_front.tflite").path.read_bytes())
    data[0:4] = b"\xff\xff\xff\x7f"

    with pytest.raises(ModelError, match="is damaged"):
        read_tables(bytes(data), "odd.tflite")


def test_data_behind_the_tables_is_refused_not_lost() -> None:
    tables = read_tables(real_model("okay_nabu.tflite").path.read_bytes())
    tables.tables("Buffers").append(Table("Buffer", {"Offset": 4096, "Size": 16}))

    with pytest.raises(ModelError, match="behind its tables"):
        read_tables(write_tflite(tables))
