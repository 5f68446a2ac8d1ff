"""Any input, on the real command line: values of the user's own, every kind of model, batches, streams."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from device_agents import inputs
from device_agents.wire import FileRef, InputFile, Job
from edgeprof.agent import Agent
from edgeprof.errors import JobRefused
from edgeprof.links.local import LocalLink
from edgeprof.models import read_model
from edgeprof.provision import own_environment
from tests.integration.command_line import CommandLine
from tests.integration.sshd import Sshd
from tests.integration.test_bad_input import QUICK, assert_told
from tests.unit import odd_inputs, onnx_maker

FACES = "face_detection_short_range.tflite"
C_LIBRARY = "pymicro_wakeword/lib/libtensorflowlite_c.so"
STATE = ("--shape", "state=2,1,128")


@pytest.fixture
def edgeprof(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def profiled(edgeprof: CommandLine, *arguments: str | Path) -> Any:
    done = edgeprof.run("profile", *arguments, "--json", "-", *QUICK)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def save_inputs(folder: Path, **arrays: np.ndarray[Any, Any]) -> Path:
    path = folder / "inputs.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def digest(*arrays: np.ndarray[Any, Any]) -> str:
    return inputs.digest([array.tobytes() for array in arrays])


# --- values of the user's own --------------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", ["litert", "tflite", "C library"])
def test_a_tflite_runtime_is_given_exactly_the_values_of_the_file(
    edgeprof: CommandLine, tmp_path: Path, models_dir: Path, runtime: str
) -> None:
    if runtime == "tflite" and not own_environment("tflite").exists():
        pytest.skip("tflite-runtime has no wheel for Python 3.12 and newer")
    values = np.random.default_rng(1).random((1, 128, 128, 3), np.float32)
    options = ["--runtime", runtime.replace("C library", "tflite")]
    if runtime == "C library":
        options += ["--library", str(models_dir / C_LIBRARY)]

    model = next(models_dir.rglob(FACES))
    document = profiled(edgeprof, model, "--operators", "--input", save_inputs(tmp_path, input=values), *options)

    profile = document["raw"]["profile"]
    assert profile["input_digest"] == digest(values)
    (given,) = profile["job"]["inputs"]
    assert given["name"] == "input"
    assert given["file"]["sha256"] == hashlib.sha256(values.tobytes()).hexdigest()
    assert document["operators"]


def test_onnxruntime_is_given_exactly_the_values_of_the_file_by_name_and_computes_with_them(
    edgeprof: CommandLine, tmp_path: Path
) -> None:
    onnx.save(odd_inputs.two_inputs(), tmp_path / "model.onnx")
    a, b = np.arange(16, dtype="f4").reshape(2, 8), np.ones((8, 4), "f4")

    document = profiled(edgeprof, "model.onnx", "--input", save_inputs(tmp_path, b=b, a=a), "--operators")

    profile = document["raw"]["profile"]
    assert profile["input_digest"] == digest(a, b)
    assert profile["output_digest"] == digest(a @ b)
    assert profile["job"]["options"]["shapes"] == {"a": [2, 8], "b": [8, 4]}
    assert [tensor["shape"] for tensor in profile["inputs"]] == [[2, 8], [8, 4]]


def test_the_page_says_that_values_were_given_and_what_is_odd_about_them(edgeprof: CommandLine, tmp_path: Path) -> None:
    onnx.save(odd_inputs.half(), tmp_path / "model.onnx")
    values = np.full((4, 8), np.nan, np.float16)
    np.save(tmp_path / "x.npy", values)

    done = edgeprof.run("profile", "model.onnx", "--input", "x.npy", *QUICK)

    assert done.returncode == 0, done.stderr
    assert f"(given values {hashlib.sha256(values.tobytes()).hexdigest()[:12]})" in done.stdout
    assert "32 of its 32 values are NaN or infinite" in done.stdout
    assert "32 of its 32 values are NaN or infinite" in done.stderr


def test_values_lie_in_the_devices_cache_beside_the_models_and_nowhere_else(
    edgeprof: CommandLine, tmp_path: Path
) -> None:
    onnx.save(odd_inputs.half(), tmp_path / "model.onnx")
    values = np.ones((4, 8), np.float16)

    document = profiled(edgeprof, "model.onnx", "--input", save_inputs(tmp_path, x=values))

    cache = tmp_path / "cache" / "edgeprof"
    wanted = {document["model"]["digest"], hashlib.sha256(values.tobytes()).hexdigest()}
    assert {path.name for path in (cache / "models").iterdir()} == wanted
    assert list((cache / "jobs").iterdir()) == list((cache / "uploads").iterdir()) == []


@pytest.mark.ssh
def test_values_travel_over_ssh_once_and_are_used_again(edgeprof: CommandLine, tmp_path: Path, sshd: Sshd) -> None:
    onnx.save(odd_inputs.half(), tmp_path / "model.onnx")
    edgeprof.environment.update(sshd.client_environment())
    assert edgeprof.run("devices", "add", "pi5", sshd.address, "--python", sys.executable).returncode == 0
    values = np.ones((4, 8), np.float16)
    path = save_inputs(tmp_path, x=values)

    first = profiled(edgeprof, "model.onnx", "-d", "pi5", "--input", path)
    kept = sshd.home / ".cache" / "edgeprof" / "models" / hashlib.sha256(values.tobytes()).hexdigest()
    inode = kept.stat().st_ino
    again = profiled(edgeprof, "model.onnx", "-d", "pi5", "--input", path)

    assert first["raw"]["profile"]["input_digest"] == again["raw"]["profile"]["input_digest"] == digest(values)
    assert kept.stat().st_ino == inode


def test_values_that_are_not_on_the_device_or_point_elsewhere_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    onnx.save(odd_inputs.half(), tmp_path / "model.onnx")
    model = read_model(tmp_path / "model.onnx")

    with LocalLink() as link, Agent(link, sys.executable) as agent:
        agent.push(model.files)
        for name, says in (("0.raw", "0.raw is not on the device"), ("../0.raw", "points outside")):
            given = InputFile("x", "float16", (4, 8), FileRef(name, "0" * 64, 64))
            with pytest.raises(JobRefused, match=says):
                agent.profile(Job(model=model.ref(), runtime="onnxruntime", inputs=(given,)))


# --- every kind of model -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", odd_inputs.MODELS)
def test_inputs_of_every_type_and_bodies_of_control_flow_are_profiled_by_operator(
    edgeprof: CommandLine, tmp_path: Path, name: str
) -> None:
    onnx.save(odd_inputs.MODELS[name](), tmp_path / "model.onnx")

    document = profiled(edgeprof, "model.onnx", "--operators")

    assert document["latency"]["median_s"] > 0
    structure = document["structure"]
    assert (structure["unmapped"], structure["missing"], structure["repeated"]) == ([], [], [])
    assert any(operator["origin"] in ("node", "fused") for operator in document["operators"])


def test_an_input_without_a_rank_in_the_file_takes_the_shape_that_is_given(
    edgeprof: CommandLine, tmp_path: Path
) -> None:
    onnx.save(odd_inputs.unknown_rank(), tmp_path / "model.onnx")

    document = profiled(edgeprof, "model.onnx", "--shape", "x=2,5")

    assert document["raw"]["profile"]["inputs"][0]["shape"] == [2, 5]


def test_a_model_in_qdq_form_is_profiled_by_operator(edgeprof: CommandLine, tmp_path: Path) -> None:
    onnx_maker.save(onnx_maker.quantized_convolution(), tmp_path / "model.onnx")

    document = profiled(edgeprof, "model.onnx", "--operators")

    structure = document["structure"]
    assert (structure["unmapped"], structure["missing"], structure["repeated"]) == ([], [], [])
    assert any(operator["origin"] in ("node", "fused") for operator in document["operators"])


@pytest.mark.parametrize("name", ["alexa.tflite", "okay_nabu.tflite"])
def test_an_int8_model_that_keeps_state_is_profiled_and_says_so(
    edgeprof: CommandLine, models_dir: Path, name: str
) -> None:
    document = profiled(edgeprof, next(models_dir.rglob(name)), "--operators")

    assert document["raw"]["profile"]["inputs"][0]["dtype"] == "int8"
    assert document["operators"]
    assert any("keeps state between runs (ASSIGN_VARIABLE, VAR_HANDLE)" in note for note in document["notes"])


@pytest.mark.parametrize("name", ["silero_vad.onnx", "silero_vad_16k_op15.onnx", "silero_vad_op18_ifless.onnx"])
def test_a_speech_model_with_its_state_as_input_is_profiled_by_operator(
    edgeprof: CommandLine, tmp_path: Path, models_dir: Path, name: str
) -> None:
    values = {"input": np.zeros((1, 576), "f4"), "state": np.zeros((2, 1, 128), "f4"), "sr": np.array(16000)}

    document = profiled(
        edgeprof, next(models_dir.rglob(name)), "--operators", "--input", save_inputs(tmp_path, **values)
    )

    assert document["operators"]
    assert not [note for note in document["raw"]["profile"]["notes"] if "were set to 1" in note]


# --- batches and streams -------------------------------------------------------------------------------------------


def test_a_sweep_keeps_a_run_for_every_batch_and_closes_with_a_table(edgeprof: CommandLine, tmp_path: Path) -> None:
    onnx.save(odd_inputs.embedding(), tmp_path / "model.onnx")

    done = edgeprof.run("profile", "model.onnx", "--batch", "1,2,4", "--json", "sweep.json", *QUICK)

    assert done.returncode == 0, done.stderr
    documents = json.loads((tmp_path / "sweep.json").read_text())
    jobs = [document["raw"]["profile"] for document in documents]
    assert [job["job"]["options"]["batch"] for job in jobs] == [1, 2, 4]
    assert [job["inputs"][0]["shape"] for job in jobs] == [[1, 16], [2, 16], [4, 16]]
    assert len(json.loads(edgeprof.run("runs", "list", "--json").stdout)) == 3
    table = done.stdout.partition("items per second by batch size")[2].splitlines()
    assert [line.split()[0] for line in table if line.strip()[:1].isdigit()] == ["1", "2", "4"]


@pytest.mark.parametrize("threads", ["1", "2"])
def test_two_streams_run_at_once_and_every_latency_of_both_is_kept(
    edgeprof: CommandLine, models_dir: Path, threads: str
) -> None:
    model = next(models_dir.rglob("silero_vad_16k_op15.onnx"))

    options = ("--streams", "2", "--threads", threads, "--shape", "input=1,576", "--operators")
    document = profiled(edgeprof, model, *options)

    profile = document["raw"]["profile"]
    (measured,) = profile["rounds"]
    assert measured["streams"] == 2
    assert len(measured["latencies_s"]) >= 4
    assert max(measured["latencies_s"]) <= measured["wall_s"]
    assert document["throughput"]["inferences_per_s"] == pytest.approx(
        len(measured["latencies_s"]) / measured["wall_s"]
    )
    assert profile["in_force"]["streams"].startswith("2,")
    assert profile["in_force"]["spinning"].startswith("no")
    assert document["operators"]
    assert document["operator_totals"]["overhead"] is None
    assert document["verdict"]["level"] != "invalid"


@pytest.mark.parametrize("runtime", ["litert", "tflite"])
def test_tflite_models_run_in_several_streams_too(edgeprof: CommandLine, models_dir: Path, runtime: str) -> None:
    if runtime == "tflite" and not own_environment("tflite").exists():
        pytest.skip("tflite-runtime has no wheel for Python 3.12 and newer")

    document = profiled(edgeprof, next(models_dir.rglob(FACES)), "--streams", "2", "--runtime", runtime)

    assert document["raw"]["profile"]["rounds"][0]["streams"] == 2
    assert document["verdict"]["level"] != "invalid"


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.fixture
def speech(models_dir: Path) -> Path:
    return next(models_dir.rglob("silero_vad_16k_op15.onnx"))


def test_sizes_that_nobody_gave_are_said_before_and_when_the_model_does_not_run_with_them(
    edgeprof: CommandLine, speech: Path
) -> None:
    done = edgeprof.run("profile", speech, *QUICK)

    assert_told(done, edgeprof, "Pad", "run with sizes that nobody gave", "--shape input=1,1", "meant for")
    assert done.stderr.startswith("edgeprof: silero_vad_16k_op15.onnx: input 'input' is batchxsequence in the file")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--shape", "input=576"), "has 2 dimensions, but the shape given has 1"),
        (("--shape", "audio=1,576"), "its inputs: input, state, sr"),
        (("--shape", "state=2,1,64"), "fixed at 128 and cannot be 64"),
        (("--shape", "input=2,576", *STATE), "cannot be both 2 and 1"),
        (("--shape", "input=2,576", "--batch", "4"), "cannot be both 2 (a given shape) and 4 (the batch)"),
    ],
    ids=["rank", "name", "fixed", "symbol", "batch"],
)
def test_a_shape_that_the_model_does_not_allow_is_refused_before_anything_is_sent(
    edgeprof: CommandLine, speech: Path, tmp_path: Path, options: tuple[str, ...], says: str
) -> None:
    done = edgeprof.run("profile", speech, *options, *QUICK)

    assert_told(done, edgeprof, "silero_vad_16k_op15.onnx", says)
    assert not (tmp_path / "cache").exists()


def test_a_sweep_over_a_fixed_batch_is_one_error_and_measures_nothing(edgeprof: CommandLine, models_dir: Path) -> None:
    done = edgeprof.run("profile", next(models_dir.rglob(FACES)), "--batch", "1,2,4", *QUICK)

    assert_told(done, edgeprof, "the batch cannot be 2", "input 1x128x128x3")
    assert done.stderr.count("edgeprof:") == 1


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"input": np.zeros((1, 576), "f4")}, "no values for the input 'state', 'sr'"),
        ({"input": np.zeros((1, 0), "f4")}, "no values for the input"),
        ({"audio": np.zeros((1, 576), "f4")}, "values for 'audio', but the model has no such input"),
    ],
    ids=["missing", "missing and empty", "unknown"],
)
def test_values_that_are_not_those_of_the_model_are_refused(
    edgeprof: CommandLine, speech: Path, tmp_path: Path, arrays: dict[str, Any], says: str
) -> None:
    done = edgeprof.run("profile", speech, "--input", save_inputs(tmp_path, **arrays), *QUICK)

    assert_told(done, edgeprof, says, "sr int64 scalar")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.zeros((4, 8), "f4"), "takes float16, but its values are float32"),
        (np.zeros((4, 0), "f2"), "its array is empty"),
        (np.zeros((5, 8), "f2"), "fixed at 4 and cannot be 5"),
        (np.array(["text"]), "takes float16, but its values are str"),
        (np.array([None, {}]), "Python objects, which are never loaded"),
    ],
    ids=["type", "empty", "shape", "text", "objects"],
)
def test_values_of_a_wrong_kind_are_refused_before_anything_is_sent(
    edgeprof: CommandLine, tmp_path: Path, values: np.ndarray[Any, Any], says: str
) -> None:
    onnx.save(odd_inputs.half(), tmp_path / "model.onnx")

    done = edgeprof.run("profile", "model.onnx", "--input", save_inputs(tmp_path, x=values), *QUICK)

    assert_told(done, edgeprof, says)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("content", [b"", b"notes", b"PK\x03\x04 cut off", b"\x80\x04pickle"])
def test_a_file_that_holds_no_arrays_is_refused(edgeprof: CommandLine, tmp_path: Path, content: bytes) -> None:
    onnx.save(odd_inputs.half(), tmp_path / "model.onnx")
    (tmp_path / "x.npz").write_bytes(content)

    assert_told(edgeprof.run("profile", "model.onnx", "--input", "x.npz", *QUICK), edgeprof, "x.npz")


@pytest.mark.parametrize(
    "options",
    [
        ("--batch", "0"),
        ("--batch", "1,two"),
        ("--streams", "0"),
        ("--streams", "100000"),
        ("--shape", "x=0,8"),
        ("--batch", "1,2", "--input", "x.npz"),
    ],
    ids=" ".join,
)
def test_numbers_that_make_no_sense_are_usage_errors(
    edgeprof: CommandLine, tmp_path: Path, options: tuple[str, ...]
) -> None:
    done = edgeprof.run("profile", "model.onnx", *options)

    assert done.returncode == 2
    assert options[0] in done.stderr


def test_more_streams_than_the_device_can_bear_are_refused(edgeprof: CommandLine, tmp_path: Path) -> None:
    onnx.save(odd_inputs.half(), tmp_path / "model.onnx")

    done = edgeprof.run("profile", "model.onnx", "--streams", "256", "--threads", "1024", *QUICK)

    assert_told(done, edgeprof, "256 streams with 1024 threads each are too many", "at most")


def test_a_simulated_board_takes_shapes_and_says_that_it_uses_no_values(edgeprof: CommandLine, tmp_path: Path) -> None:
    onnx.save(odd_inputs.two_inputs(), tmp_path / "model.onnx")
    edgeprof.run("devices", "add", "toy", "sim:example")
    path = save_inputs(tmp_path, a=np.zeros((2, 8), "f4"), b=np.zeros((8, 4), "f4"))

    document = profiled(edgeprof, "model.onnx", "-d", "toy", "--input", path)

    assert any("of the values only their shapes were used" in note for note in document["notes"])
    done = edgeprof.run("profile", "model.onnx", "-d", "toy", "--streams", "2", *QUICK)
    assert "streams=2" in done.stderr
