"""Every runtime on an emulated arm64 device, by the command line over a real SSH connection.

Its latencies prove plumbing, never performance, so nothing here looks at them.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.integration.command_line import CommandLine
from tests.integration.test_agent import processes, until
from tests.lab import arm64
from tests.lab.arm64 import Arm64Device

pytestmark = [pytest.mark.ssh, pytest.mark.slow, pytest.mark.timeout(600)]

QUICK = ("--rounds", "1", "--min-runs", "1", "--min-time", "0", "--gate-timeout", "0", "--operator-runs", "1")
C_LIBRARY = "/opt/tflite_c/lib/python3.11/site-packages/pymicro_wakeword/lib/libtensorflowlite_c.so"
SILERO = ("silero_vad_16k_op15.onnx", "--shape", "input=1,576", "--shape", "state=2,1,128")
WAKE_WORD = "okay_nabu.tflite"
FACES = "face_detection_short_range.tflite"


@pytest.fixture(scope="session")
def rootfs() -> Path:
    reason = arm64.why_not()
    if reason:
        pytest.skip(reason)
    try:
        return arm64.rootfs()
    except arm64.NoPackages as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def device(rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arm64Device]:
    with Arm64Device(tmp_path_factory.mktemp("arm64") / "device", rootfs) as device:
        yield device


@pytest.fixture
def edgeprof(tmp_path: Path, device: Arm64Device) -> CommandLine:
    command_line = CommandLine(tmp_path)
    device.add_to(command_line)
    return command_line


def profile(edgeprof: CommandLine, models: Path, model: str, *options: str, on: str = "arm64") -> dict[str, Any]:
    path = next(models.rglob(model))
    done = edgeprof.run("profile", path, "-d", on, "--operators", "--json", "-", *QUICK, *options)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.mark.parametrize(
    ("runtime", "model", "api"),
    [
        ("onnxruntime", SILERO, "InferenceSession.run_with_iobinding"),
        ("litert", (FACES,), "LiteRT CompiledModel (C API)"),
        ("tflite", (FACES,), "tflite_runtime.Interpreter"),
        ("tflite", (WAKE_WORD, "--library", C_LIBRARY), "TFLite C library"),
    ],
    ids=["onnxruntime", "litert", "tflite", "tflite_c"],
)
def test_a_runtime_profiles_on_arm64_operator_by_operator(
    runtime: str, model: tuple[str, ...], api: str, edgeprof: CommandLine, models_dir: Path
) -> None:
    document = profile(edgeprof, models_dir, *model, "--runtime", runtime)

    raw = document["raw"]["profile"]
    assert document["origin"] == "emulated"
    assert raw["machine"]["architecture"] == "aarch64"
    assert raw["machine"]["emulator"] == "qemu-user"
    assert raw["in_force"]["api"].startswith(api)
    if runtime != "tflite":  # the versions of constraints.txt, as here
        assert raw["runtime_version"] == version({"litert": "ai-edge-litert"}.get(runtime, runtime))
    assert len(document["operators"]) == document["operator_totals"]["n_kernels"] > 20
    assert all(operator["median_s"] is not None for operator in document["operators"])


@pytest.mark.parametrize(
    ("runtime", "model"), [("onnxruntime", SILERO), ("litert", (FACES,))], ids=["onnxruntime", "litert"]
)
def test_what_arm64_and_this_machine_both_ran_is_explained_alike(
    runtime: str, model: tuple[str, ...], edgeprof: CommandLine, models_dir: Path
) -> None:
    there, here = (profile(edgeprof, models_dir, *model, "--runtime", runtime, on=name) for name in ("arm64", "local"))

    def explained(document: dict[str, Any]) -> dict[tuple[str, str], Any]:
        """Origin and nodes by kernel; the processor's own variant of a kernel is no part of its name."""
        return {
            (kernel["name"].split("_ukernel")[0], kernel["type"].split(" ")[0]): (operator["origin"], operator["nodes"])
            for kernel, operator in zip(
                document["raw"]["profile"]["operators"]["kernels"], document["operators"], strict=True
            )
        }

    one, other = explained(there), explained(here)
    both = one.keys() & other.keys()
    assert len(both) >= 0.8 * len(one)
    assert {kernel: one[kernel] for kernel in both} == {kernel: other[kernel] for kernel in both}


def test_an_emulated_number_never_passes_for_a_measured_one(edgeprof: CommandLine, models_dir: Path) -> None:
    path = next(models_dir.rglob(WAKE_WORD))

    done = edgeprof.run("profile", path, "-d", "arm64", "--require", "trusted", *QUICK)

    assert done.returncode == 4, done.stderr
    assert "is not trusted" in done.stderr
    assert ", emulated" in done.stderr
    assert "EMULATED  not a measurement of real hardware of this kind" in done.stdout


def test_a_real_board_s_cpuinfo_does_not_make_it_measured(rootfs: Path, tmp_path: Path, models_dir: Path) -> None:
    edgeprof = CommandLine(tmp_path)
    with Arm64Device(tmp_path / "device", rootfs, looks_real=True) as pretender:
        pretender.add_to(edgeprof)

        document = profile(edgeprof, models_dir, WAKE_WORD)

    assert document["origin"] == "emulated"


@pytest.mark.parametrize("runtime", ["litert", "tflite"])
def test_a_device_that_does_not_list_its_cpus_is_told_that_xnnpack_was_left_out(
    runtime: str, rootfs: Path, tmp_path: Path, models_dir: Path
) -> None:
    edgeprof = CommandLine(tmp_path)
    with Arm64Device(tmp_path / "device", rootfs, lists_cpus=False) as bare:
        bare.add_to(edgeprof)
        path = next(models_dir.rglob(FACES))

        done = edgeprof.run("profile", path, "-d", "arm64", "--runtime", runtime, "--json", "x.json", *QUICK)

    assert done.returncode == 0, done.stderr
    raw = json.loads((tmp_path / "x.json").read_text())["raw"]["profile"]
    assert raw["in_force"]["xnnpack"].startswith("not active")
    for name in ("possible", "present"):
        assert any(f"XNNPACK needs /sys/devices/system/cpu/{name}" in note for note in raw["notes"])
    assert "XNNPACK needs" in " ".join(done.stdout.split())


def test_a_power_cut_in_mid_profile_is_told_and_the_device_serves_again_afterwards(
    rootfs: Path, tmp_path: Path, models_dir: Path
) -> None:
    edgeprof = CommandLine(tmp_path)
    with Arm64Device(tmp_path / "device", rootfs) as device:
        device.add_to(edgeprof)
        path = next(models_dir.rglob(WAKE_WORD))
        endless = ("--rounds", "100", "--min-time", "10", "--max-time", "10", "--gate-timeout", "0")
        with edgeprof.start("profile", path, "-d", "arm64", *endless) as cut_off:
            until(lambda: len(processes(device.home)) > 1, "a worker measures")

            device.stop()
            _, complaint = cut_off.communicate(timeout=60)

        assert cut_off.returncode == 1
        assert complaint.startswith("edgeprof: arm64: ")
        assert "what to do: " in complaint
        assert "Traceback" not in complaint
        assert processes(device.home) == []

        refused = edgeprof.run("profile", path, "-d", "arm64", *QUICK)
        assert refused.returncode == 1
        assert "refuses connections" in refused.stderr

        device.start()
        assert profile(edgeprof, models_dir, WAKE_WORD)["origin"] == "emulated"
    assert subprocess.run(["pgrep", "-f", str(tmp_path / "device")], capture_output=True, check=False).stdout == b""


SEARCH = """
objectives = ["error", "latency"]
[search]
evaluations = 4
[space]
input = [8, 8, 1]
layers = [
  { conv = [4, 8], kernel = [1, 3], stride = 2, activation = "relu" },
  { global_average = true },
  { dense = 4 },
]
[accuracy]
by = "function"
function = "mine.py:train"
[[targets]]
device = "arm64"
runtime = "litert"
in_the_loop = "always"
"""


def test_a_search_has_an_arm64_device_in_its_loop(edgeprof: CommandLine) -> None:
    (edgeprof.folder / "search.toml").write_text(SEARCH)
    (edgeprof.folder / "mine.py").write_text("def train(one):\n    return 0.5 + 0.1 * sum(one.architecture)\n")

    done = edgeprof.run("search", "run", "search.toml", "--json", "found.json")

    assert done.returncode == 0, done.stderr
    assert "arm64 is an EMULATED device: its times tell nothing of real hardware" in done.stdout
    found = json.loads((edgeprof.folder / "found.json").read_text())
    assert found["n_evaluated"] == 4
    assert all(one["predicted"]["latency"]["origin"] == "emulated" for one in found["front"])
    assert all("model.tflite" in one["files"] for one in found["front"])
