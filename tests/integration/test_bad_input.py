"""Whatever goes wrong: a message that says what, where and what to do, no traceback, and nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.integration.command_line import EDGEPROF, CommandLine
from tests.integration.sshd import Sshd, free_port, keygen
from tests.integration.test_agent import old_python, processes, small_disk

__all__ = ["small_disk"]

QUICK = ("--rounds", "1", "--min-runs", "2", "--min-time", "0", "--gate-timeout", "0")


@pytest.fixture
def edgeprof(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


@pytest.fixture
def board(edgeprof: CommandLine, sshd: Sshd) -> Callable[..., str]:
    """Adds the loopback sshd as device pi5; options of `devices add` may be given."""

    def add(*options: str, address: str = sshd.address) -> str:
        edgeprof.environment.update(sshd.client_environment())
        done = edgeprof.run("devices", "add", "pi5", address, *(options or ("--python", sys.executable)))
        assert done.returncode == 0, done.stderr
        return "pi5"

    return add


def assert_told(done: subprocess.CompletedProcess[str], edgeprof: CommandLine, *says: str, advice: bool = True) -> None:
    """It failed with these words, advised something, showed no traceback and left no process and no run."""
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    for words in says:
        assert words in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert "a defect" not in done.stderr
    assert "what to do:" in done.stderr or not advice
    assert processes(edgeprof.folder) == []
    assert edgeprof.run("runs", "list", "--json").stdout.strip() == "[]"


def write_onnx(path: Path, nodes: list[onnx.NodeProto], opset: int = 17) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write_onnx(tmp_path / "good.onnx", [helper.make_node("Relu", ["x"], ["y"], name="relu")])


def test_a_missing_file(edgeprof: CommandLine) -> None:
    done = edgeprof.run("profile", "nowhere.onnx")

    assert_told(done, edgeprof, "nowhere.onnx")


def test_text_renamed_to_onnx(edgeprof: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "notes.onnx").write_text("these are my notes, not a model\n" * 20)

    done = edgeprof.run("profile", "notes.onnx")

    assert_told(done, edgeprof, "notes.onnx")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_tflite(edgeprof: CommandLine, tmp_path: Path, models_dir: Path, share: float) -> None:
    whole = next(models_dir.rglob("face_detection_short_range.tflite")).read_bytes()
    (tmp_path / "cut.tflite").write_bytes(whole[: int(len(whole) * share)])

    done = edgeprof.run("profile", "cut.tflite", *QUICK)

    assert_told(done, edgeprof, "cut.tflite")


def test_external_data_that_is_missing(edgeprof: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "big.onnx"
    weights = numpy_helper.from_array(np.ones((1, 4), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path, save_as_external_data=True, location="big.weights", size_threshold=0)
    (tmp_path / "big.weights").unlink()

    done = edgeprof.run("profile", "big.onnx", *QUICK)

    assert_told(done, edgeprof, "big.onnx", "big.weights")


def test_external_data_travels_with_the_model(edgeprof: CommandLine, tmp_path: Path) -> None:
    test_external_data_that_is_missing(edgeprof, tmp_path)
    np.ones((1, 4), np.float32).tofile(tmp_path / "big.weights")

    done = edgeprof.run("profile", "big.onnx", *QUICK)

    assert done.returncode == 0, done.stderr


def test_an_opset_that_no_runtime_knows(edgeprof: CommandLine, tmp_path: Path) -> None:
    write_onnx(tmp_path / "future.onnx", [helper.make_node("Relu", ["x"], ["y"])], opset=99)

    done = edgeprof.run("profile", "future.onnx", *QUICK)

    assert_told(done, edgeprof, "opset")


def test_an_operator_that_the_runtime_does_not_have(edgeprof: CommandLine, tmp_path: Path) -> None:
    write_onnx(tmp_path / "odd.onnx", [helper.make_node("Frobnicate", ["x"], ["y"], name="f")])

    done = edgeprof.run("profile", "odd.onnx", *QUICK)

    assert_told(done, edgeprof, "Frobnicate")


def test_an_unknown_device(edgeprof: CommandLine, good: Path) -> None:
    edgeprof.run("devices", "add", "pi5", "ssh://pi@10.255.255.1")

    done = edgeprof.run("profile", good, "-d", "pi4")

    assert_told(done, edgeprof, "pi4", "pi5")


def test_an_unknown_option_value_is_a_usage_error(edgeprof: CommandLine, good: Path) -> None:
    done = edgeprof.run("profile", good, "--shape", "x=1,-3")

    assert done.returncode == 2
    assert "--shape" in done.stderr


def test_a_shape_for_an_input_that_is_not_there(edgeprof: CommandLine, good: Path) -> None:
    done = edgeprof.run("profile", good, "--shape", "z=1,4")

    assert_told(done, edgeprof, "z")


def test_a_model_for_another_runtime_is_a_usage_error(edgeprof: CommandLine, good: Path) -> None:
    done = edgeprof.run("profile", good, "--runtime", "litert", *QUICK)

    assert done.returncode in (1, 2)
    assert "onnxruntime" in done.stderr


def test_one_bad_model_of_two_exits_with_3_and_keeps_the_good_one(edgeprof: CommandLine, tmp_path: Path) -> None:
    write_onnx(tmp_path / "odd.onnx", [helper.make_node("Frobnicate", ["x"], ["y"], name="f")])
    write_onnx(tmp_path / "good.onnx", [helper.make_node("Relu", ["x"], ["y"], name="relu")])

    done = edgeprof.run("profile", "odd.onnx", "good.onnx", *QUICK)

    assert done.returncode == 3
    assert "Frobnicate" in done.stderr
    assert "good.onnx" in edgeprof.run("runs", "list").stdout


@pytest.mark.ssh
def test_an_unreachable_host(edgeprof: CommandLine, good: Path, board: Callable[..., str]) -> None:
    port = free_port()
    board(address=f"ssh://127.0.0.1:{port}")

    done = edgeprof.run("profile", good, "-d", "pi5", *QUICK)

    assert_told(done, edgeprof, "pi5", f"127.0.0.1:{port}")


@pytest.mark.ssh
def test_a_key_that_the_host_does_not_accept(
    edgeprof: CommandLine, good: Path, board: Callable[..., str], sshd: Sshd
) -> None:
    board()
    sshd.client_key.unlink()
    keygen(sshd.client_key)

    done = edgeprof.run("profile", good, "-d", "pi5", *QUICK)

    assert_told(done, edgeprof, "pi5", sshd.user, "--install-key")


@pytest.mark.ssh
def test_a_host_that_was_never_seen(edgeprof: CommandLine, good: Path, board: Callable[..., str], sshd: Sshd) -> None:
    board()
    sshd.known_hosts.write_text("")

    done = edgeprof.run("profile", good, "-d", "pi5", *QUICK)

    assert_told(done, edgeprof, sshd.fingerprint, "edgeprof devices trust pi5")


@pytest.mark.ssh
def test_a_host_whose_key_has_changed(edgeprof: CommandLine, good: Path, board: Callable[..., str], sshd: Sshd) -> None:
    board()
    old, new = sshd.fingerprint, sshd.new_host_key()

    done = edgeprof.run("profile", good, "-d", "pi5", *QUICK)

    assert_told(done, edgeprof, old, new)


@pytest.mark.ssh
def test_a_device_without_python(edgeprof: CommandLine, good: Path, board: Callable[..., str]) -> None:
    board("--python", "python-that-is-not-there")

    done = edgeprof.run("profile", good, "-d", "pi5", *QUICK)

    assert_told(done, edgeprof, "pi5", "python-that-is-not-there")


@pytest.mark.ssh
def test_a_device_with_python_3_8(edgeprof: CommandLine, good: Path, board: Callable[..., str]) -> None:
    board("--python", old_python("3.8"))

    done = edgeprof.run("profile", good, "-d", "pi5", *QUICK)

    assert_told(done, edgeprof, "pi5", "Python 3.8", "3.9 or newer")


@pytest.fixture
def bare_python(tmp_path: Path) -> Iterator[str]:
    """A Python that has no packages, as a fresh board has."""
    folder = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    yield str(folder / "bin" / "python")
    shutil.rmtree(folder)


@pytest.mark.ssh
def test_a_device_without_the_runtime(
    edgeprof: CommandLine, good: Path, board: Callable[..., str], bare_python: str
) -> None:
    board("--python", bare_python)

    done = edgeprof.run("profile", good, "-d", "pi5", *QUICK)

    assert_told(done, edgeprof, "pi5", "onnxruntime is not installed", "devices doctor pi5")


@pytest.mark.ssh
def test_the_doctor_names_what_to_install(edgeprof: CommandLine, board: Callable[..., str], bare_python: str) -> None:
    board("--python", bare_python)

    done = edgeprof.run("devices", "doctor", "pi5")

    assert done.returncode == 1
    for runtime in ("onnxruntime", "litert", "tflite"):
        assert f"edgeprof devices setup pi5 --runtime {runtime}" in done.stdout
    assert "no runtime can be used" in done.stdout


@pytest.mark.ssh
def test_a_device_without_space(
    edgeprof: CommandLine, board: Callable[..., str], models_dir: Path, small_disk: Path, sshd: Sshd
) -> None:
    sshd.start_up_file(f"export XDG_CACHE_HOME={small_disk}\n")
    board()

    done = edgeprof.run("profile", next(models_dir.rglob("face_landmark.tflite")), "-d", "pi5", *QUICK)

    assert_told(done, edgeprof, "pi5", "bytes free" if "bytes free" in done.stderr else "are free", "make room")
    assert list((small_disk / "edgeprof" / "uploads").iterdir()) == []


@pytest.mark.ssh
def test_a_login_shell_that_prints_banners_does_no_harm(
    edgeprof: CommandLine, good: Path, board: Callable[..., str], sshd: Sshd
) -> None:
    sshd.start_up_file("echo Welcome to this board\necho '{\"reply\": 1}'\nprintf 'no newline, '\n")
    board()

    done = edgeprof.run("profile", good, "-d", "pi5", *QUICK)

    assert done.returncode == 0, done.stderr


@pytest.mark.ssh
def test_a_start_up_file_that_ends_the_session(
    edgeprof: CommandLine, good: Path, board: Callable[..., str], sshd: Sshd
) -> None:
    sshd.start_up_file("echo this board is out of order >&2\nexit 7\n")
    board()

    done = edgeprof.run("profile", good, "-d", "pi5", *QUICK)

    assert_told(done, edgeprof, "pi5", "out of order", "start-up file")


@pytest.mark.ssh
def test_a_start_up_file_with_an_error_does_no_harm(
    edgeprof: CommandLine, good: Path, board: Callable[..., str], sshd: Sshd
) -> None:
    sshd.start_up_file("this-program-is-not-there\nfalse\n")
    board()

    done = edgeprof.run("profile", good, "-d", "pi5", *QUICK)

    assert done.returncode == 0, done.stderr


def test_a_store_that_fills_up_in_mid_profile_does_not_swallow_the_numbers(
    edgeprof: CommandLine, good: Path, tmp_path: Path
) -> None:
    assert edgeprof.run("profile", good, *QUICK).returncode == 0
    store = tmp_path / "edgeprof" / "store.sqlite"
    with closing(sqlite3.connect(store)) as connection:
        # What a full disk is to SQLite: not a page more.
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON edgeprof_runs BEGIN SELECT RAISE(FAIL, 'disk is full'); END"
        )

    done = edgeprof.run("profile", good, "--json", "kept.json", *QUICK)

    assert done.returncode == 3
    assert "disk is full" in done.stderr
    assert "Latency" in done.stdout
    assert json.loads((tmp_path / "kept.json").read_text())["latency"]["n_runs"] >= 2


# --- output --------------------------------------------------------------------------------------------------------


def test_json_of_one_profile_is_an_object(edgeprof: CommandLine, good: Path) -> None:
    done = edgeprof.run("profile", good, "--json", "-", *QUICK)

    assert json.loads(done.stdout)["model"]["name"] == "good.onnx"


def test_json_of_one_profile_that_failed_is_nothing(edgeprof: CommandLine, tmp_path: Path) -> None:
    write_onnx(tmp_path / "odd.onnx", [helper.make_node("Frobnicate", ["x"], ["y"], name="f")])

    done = edgeprof.run("profile", "odd.onnx", "--json", "kept.json", *QUICK)

    assert done.returncode == 1
    assert not (tmp_path / "kept.json").exists()


def test_json_of_two_profiles_is_a_list_even_if_one_failed(edgeprof: CommandLine, tmp_path: Path, good: Path) -> None:
    write_onnx(tmp_path / "odd.onnx", [helper.make_node("Frobnicate", ["x"], ["y"], name="f")])

    done = edgeprof.run("profile", "odd.onnx", good, "--json", "-", *QUICK)

    assert done.returncode == 3
    (document,) = json.loads(done.stdout)
    assert document["model"]["name"] == "good.onnx"


def test_a_place_for_json_that_is_not_there_is_refused_before_anything_is_measured(
    edgeprof: CommandLine, good: Path
) -> None:
    done = edgeprof.run("profile", good, "--json", "nowhere/a.json", *QUICK)

    assert_told(done, edgeprof, "nowhere/a.json: cannot be written", "there is no directory")
    assert done.stdout == ""


def test_the_example_of_the_help_works(edgeprof: CommandLine, tmp_path: Path, models_dir: Path) -> None:
    shown = edgeprof.run("profile", "--help").stdout
    (line,) = [line for line in shown.splitlines() if "--shape" in line and "edgeprof profile" in line]
    _, command, model, *options = line.split()
    shutil.copy(next(models_dir.rglob(model)), tmp_path)

    done = edgeprof.run(command, model, *options, *QUICK)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["devices", "list"], ["devices", "list", "--json"], ["--help"]], ids=" ".join)
def test_a_full_standard_output_is_told(tmp_path: Path, arguments: list[str], unbuffered: str) -> None:
    environment = {**os.environ, "EDGEPROF_HOME": str(tmp_path / "edgeprof"), "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [EDGEPROF, *arguments], env=environment, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )

    assert done.returncode == 1
    assert done.stderr == "edgeprof: standard output: No space left on device\n  what to do: make room there\n"


def test_a_demo_on_a_full_disk_leaves_no_part_of_a_model(edgeprof: CommandLine, small_disk: Path) -> None:
    edgeprof.environment["EDGEPROF_HOME"] = str(small_disk)

    done = edgeprof.run("demo")

    path = small_disk / "demo" / "example.onnx"
    assert done.returncode == 1
    assert f"edgeprof: {path}: No space left on device" in done.stderr
    assert "a defect" not in done.stderr
    assert list(path.parent.iterdir()) == []


def test_a_demo_without_a_place_to_write_says_how_to_choose_another(edgeprof: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    edgeprof.environment["EDGEPROF_HOME"] = str(tmp_path / "file")

    done = edgeprof.run("demo")

    assert done.returncode == 1
    assert "Not a directory" in done.stderr
    assert "what to do: EDGEPROF_HOME=FOLDER" in done.stderr
    assert "a defect" not in done.stderr
