"""ONNX Runtime as a runtime: real sessions on models made here, and a recorded profile."""

from __future__ import annotations

import base64
import zlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from device_agents import inputs
from device_agents.machine import Machine
from device_agents.runtimes import RuntimeRefusal, ort_profile
from device_agents.runtimes.onnxruntime import OrtSession, open_session, worker_affinities
from device_agents.runtimes.options import require_threads
from device_agents.wire import FileRef, Job, ModelRef, RuntimeOptions

RECORDED = Path(__file__).parents[1] / "recorded"


def model(
    path: Path,
    op: str = "Relu",
    opset: int = 17,
    dtype: int = TensorProto.FLOAT,
    output: int | None = None,
    domain: str = "",
    ir_version: int = 8,
    **attributes: object,
) -> Path:
    """A model of one node, x -> y."""
    node = helper.make_node(op, ["x"], ["y"], domain=domain, **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", dtype, (1, 4))],
        [helper.make_tensor_value_info("y", output or dtype, None)],
    )
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=ir_version), path)
    return path


def session(path: Path, profiled: bool = False, options: RuntimeOptions | None = None) -> OrtSession:
    ref = ModelRef(path.name, "onnx", "digest", (FileRef(path.name, "digest", path.stat().st_size),))
    job = Job(ref, "onnxruntime", options or RuntimeOptions())
    return open_session(job, str(path), Machine(), profiled)


def refusal(path: Path, options: RuntimeOptions | None = None) -> RuntimeRefusal:
    with pytest.raises(RuntimeRefusal) as refused:
        session(path, options=options)
    return refused.value


def test_an_unknown_operator_is_named(tmp_path: Path) -> None:
    refused = refusal(model(tmp_path / "m.onnx", "Frobnicate"))

    assert refused.kind == "unsupported-operator"
    assert "Frobnicate" in str(refused)
    assert "ONNXRuntimeError" not in str(refused)


def test_an_operator_of_an_unknown_domain_is_named(tmp_path: Path) -> None:
    refused = refusal(model(tmp_path / "m.onnx", "Frobnicate", domain="acme"))

    assert refused.kind == "unsupported-operator"
    assert "acme:Frobnicate" in str(refused)


def test_an_operator_without_a_kernel_for_its_type_is_named(tmp_path: Path) -> None:
    refused = refusal(model(tmp_path / "m.onnx", "Relu", dtype=TensorProto.INT64))

    assert refused.kind == "unsupported-operator"
    assert "Relu(14)" in str(refused)


@pytest.mark.parametrize(("opset", "ir_version"), [(99, 8), (17, 99)])
def test_a_model_from_the_future_is_refused(tmp_path: Path, opset: int, ir_version: int) -> None:
    refused = refusal(model(tmp_path / "m.onnx", opset=opset, ir_version=ir_version))

    assert refused.kind == "unsupported-opset"
    assert "update onnxruntime" in refused.advice


@pytest.mark.parametrize("keep_bytes", [None, 4])
def test_missing_or_short_external_data_is_told_as_such(tmp_path: Path, keep_bytes: int | None) -> None:
    weights = helper.make_tensor("w", TensorProto.FLOAT, (1, 4), np.ones(4, np.float32).tobytes(), raw=True)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [value("x", TensorProto.FLOAT, (1, 4))],
        [value("y", TensorProto.FLOAT, (1, 4))],
        [weights],
    )
    path = tmp_path / "m.onnx"
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, path, save_as_external_data=True, location="weights.data", size_threshold=0)
    if keep_bytes is None:
        (tmp_path / "weights.data").unlink()
    else:
        (tmp_path / "weights.data").write_bytes(bytes(keep_bytes))

    refused = refusal(path)

    assert refused.kind == "model-invalid"
    assert "file of their own" in refused.advice
    assert keep_bytes is not None or "weights.data" in str(refused)


@pytest.mark.parametrize(
    ("dtype", "name"), [(TensorProto.STRING, "string"), (TensorProto.FLOAT8E4M3FN, "float8e4m3fn")]
)
def test_inputs_that_bytes_cannot_fill_are_refused(tmp_path: Path, dtype: int, name: str) -> None:
    refused = refusal(model(tmp_path / "m.onnx", "Identity", 19, dtype))

    assert refused.kind == "unsupported-model"
    assert name in str(refused)


def test_a_provider_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    refused = refusal(model(tmp_path / "m.onnx"), RuntimeOptions(provider="CUDAExecutionProvider"))

    assert refused.kind == "bad-option"
    assert "CPUExecutionProvider" in refused.advice


def test_a_provider_that_took_nothing_is_noted(tmp_path: Path) -> None:
    opened = session(model(tmp_path / "m.onnx"), options=RuntimeOptions(provider="AzureExecutionProvider"))
    opened.close()

    assert opened.in_force["nodes_per_provider"] == "CPUExecutionProvider: 1"
    assert any("AzureExecutionProvider took no node" in note for note in opened.notes)


def test_text_outputs_are_read_without_binding(tmp_path: Path) -> None:
    opened = session(model(tmp_path / "m.onnx", "Cast", output=TensorProto.STRING, to=TensorProto.STRING))
    opened.set_inputs([np.array([[1, 2, 3, 4]], np.float32).tobytes()])

    opened.run()
    (text,) = opened.read_outputs()
    opened.close()

    assert text == b"[['1', '2', '3', '4']]"
    assert opened.in_force["api"] == "InferenceSession.run"


def test_outputs_may_change_their_shape_with_new_inputs(tmp_path: Path) -> None:
    opened = session(model(tmp_path / "m.onnx", "NonZero", output=TensorProto.INT64))
    shapes = []

    for row in ([1, 0, 1, 0], [1, 1, 1, 0]):
        opened.set_inputs([np.array([row], np.float32).tobytes()])
        opened.run()
        opened.read_outputs()
        shapes.append(opened.outputs[0].shape)
    opened.close()

    assert shapes == [(2, 2), (2, 3)]


def test_a_run_that_fails_is_refused_with_the_runtimes_reason(models_dir: Path) -> None:
    opened = session(models_dir / "silero_vad/data/silero_vad_16k_op15.onnx")
    opened.set_inputs(inputs.make(opened.inputs, 0))

    with pytest.raises(RuntimeRefusal, match="Pad") as refused:
        opened.run()
    opened.close()

    assert refused.value.kind == "bad-input"
    assert "--shape" in refused.value.advice


def test_the_graph_that_ran_comes_back_without_weights(models_dir: Path) -> None:
    path = models_dir / "magika/models/standard_v3_3/model.onnx"
    opened = session(path, profiled=True)
    opened.set_inputs(inputs.make(opened.inputs, 0))
    opened.begin_recording()
    opened.run()

    recorded, graph = opened.end_recording(), opened.executed_graph()
    opened.close()

    assert graph is not None
    content = zlib.decompress(base64.b64decode(graph))
    assert len(content) < path.stat().st_size / 20
    names = {node.name for node in onnx.load_from_string(content).graph.node}
    assert {kernel.name for kernel in recorded.kernels} <= names
    assert all(kernel.provider == "CPUExecutionProvider" for kernel in recorded.kernels)
    assert any(kernel.input_shapes == ((1, 2048),) for kernel in recorded.kernels)


def test_a_recorded_profile_gives_an_if_without_its_branch() -> None:
    times = ort_profile.KernelTimes()
    lines = (RECORDED / "onnxruntime_profile_if.json").read_text().splitlines()

    for event in ort_profile.events(lines):
        times.add(event)

    first, last = times.kernels(0), times.kernels(2)
    assert times.n_runs == 3
    by_type = {kernel.type: kernel for kernel in first}
    assert [kernel.type for kernel in first] == ["MatMul", "If", "Relu"]
    assert [round(time_s * 1e6) for time_s in by_type["MatMul"].times_s] == [1870, 1403, 1491]
    assert [round(time_s * 1e6) for time_s in by_type["If"].times_s] == [40, 11, 9]
    assert [len(kernel.times_s) for kernel in last] == [1, 1, 1]


def test_worker_threads_are_pinned_one_to_one_or_to_all() -> None:
    assert worker_affinities(RuntimeOptions(threads=3, affinity=(4, 5, 6))) == "6;7"
    assert worker_affinities(RuntimeOptions(threads=3, affinity=(4, 5))) == "5,6;5,6"


@pytest.mark.parametrize(
    ("options", "entry", "told"),
    [
        (RuntimeOptions(threads=2, spinning=False), "0", "no: as asked"),
        (RuntimeOptions(threads=2, spinning=True), "1", "yes: as asked"),
        (RuntimeOptions(threads=2, streams=2), "0", "no: it would disturb the other streams"),
        (RuntimeOptions(threads=2, streams=2, spinning=True), "1", "yes: as asked"),
        (RuntimeOptions(threads=1, spinning=True), "1", "no worker threads"),
    ],
)
def test_spinning_is_as_asked_and_told(tmp_path: Path, options: RuntimeOptions, entry: str, told: str) -> None:
    opened = session(model(tmp_path / "m.onnx"), options=options)

    set_to = opened._session.get_session_options().get_session_config_entry("session.intra_op.allow_spinning")
    assert (set_to, opened.in_force["spinning"]) == (entry, told)
    opened.close()


def test_spinning_is_the_runtimes_own_unless_it_is_asked_for(tmp_path: Path) -> None:
    opened = session(model(tmp_path / "m.onnx"), options=RuntimeOptions(threads=2))

    with pytest.raises(RuntimeError, match="allow_spinning"):  # no entry
        opened._session.get_session_options().get_session_config_entry("session.intra_op.allow_spinning")
    assert opened.in_force["spinning"] == "yes"
    opened.close()


def test_threads_beyond_reason_are_refused_before_they_are_started() -> None:
    with pytest.raises(RuntimeRefusal, match="99999 threads are too many"):
        require_threads(RuntimeOptions(threads=99_999))
