"""Real models over a real SSH connection, operator by operator."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeprof.provision import own_environment
from tests.chrome_trace import check_trace
from tests.integration.command_line import CommandLine
from tests.integration.sshd import Sshd

TFLITE_PYTHON = own_environment("tflite") / "bin" / "python"
QUICK = ("--rounds", "3", "--min-runs", "5", "--min-time", "0.05", "--gate-timeout", "0")

MODELS = {
    "face_landmark.tflite": (),
    "face_detection_short_range.tflite": (),
    "alexa.tflite": (),
    "okay_nabu.tflite": (),
    "nmp.onnx": (),
    "nmp.tflite": (),
    "silero_vad_16k_op15.onnx": ("--shape", "input=1,576", "--shape", "state=2,1,128"),
    "model.onnx": (),  # magika
}

pytestmark = pytest.mark.ssh


@pytest.fixture
def edgeprof(tmp_path: Path, sshd: Sshd) -> CommandLine:
    """A command line that knows the loopback sshd as pi5, with every runtime there is here."""
    command_line = CommandLine(tmp_path, sshd.client_environment())
    options = ["--python", sys.executable]
    if TFLITE_PYTHON.exists():
        options += ["--runtime-python", f"tflite={TFLITE_PYTHON}"]
    done = command_line.run("devices", "add", "pi5", sshd.address, *options)
    assert done.returncode == 0, done.stderr
    return command_line


@pytest.fixture
def profiled(edgeprof: CommandLine, models_dir: Path) -> Callable[..., dict[str, Any]]:
    def profile(name: str, *options: str) -> dict[str, Any]:
        path = next(models_dir.rglob(name))
        done = edgeprof.run("profile", path, "-d", "pi5", "--operators", "--json", "-", *QUICK, *options)
        assert done.returncode == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    return profile


def needs_tflite_runtime() -> None:
    if not TFLITE_PYTHON.exists():
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        pytest.skip(f"tflite-runtime has no wheel for Python {version}")


def assert_believable(document: dict[str, Any]) -> None:
    """Latency, operators, what was in force and raw samples are there and fit together."""
    latency, totals = document["latency"], document["operator_totals"]
    assert 0 < latency["min_s"] <= latency["median_s"] <= latency["max_s"]
    assert latency["n_runs"] >= 15
    assert document["origin"] == "measured"
    assert document["verdict"]["level"] in (
        "gate-timeout", "drifting", "noisy", "steady-unverified", "trusted", "throttled",
    )  # fmt: skip
    assert len(document["operators"]) == totals["n_kernels"] > 0
    assert totals["sum_s"] <= 1.05 * totals["profiled_median_s"]
    assert sum(len(r["latencies_s"]) for r in document["raw"]["profile"]["rounds"]) == latency["n_runs"]


@pytest.mark.parametrize("name", MODELS)
def test_a_real_model_is_profiled_over_ssh_operator_by_operator(
    name: str, profiled: Callable[..., dict[str, Any]]
) -> None:
    if name == "nmp.tflite":
        needs_tflite_runtime()

    document = profiled(name, *MODELS[name])

    assert_believable(document)
    mapped = [o for o in document["operators"] if o["origin"] in ("node", "fused", "layout")]
    assert len(mapped) >= 0.9 * len(document["operators"])


def test_both_formats_of_one_network_come_out_in_one_form(
    edgeprof: CommandLine, models_dir: Path, tmp_path: Path
) -> None:
    needs_tflite_runtime()
    paths = [next(models_dir.rglob(name)) for name in ("nmp.onnx", "nmp.tflite")]

    done = edgeprof.run("profile", *paths, "-d", "pi5", "--operators", "--json", "both.json", *QUICK)

    assert done.returncode == 0, done.stderr
    onnx, tflite = json.loads((tmp_path / "both.json").read_text())
    assert set(onnx["operators"][0]) == set(tflite["operators"][0])
    assert done.stdout.count("Verdict") == 2
    headings = [line for line in done.stdout.splitlines() if line.startswith("Operator ")]
    assert len(headings) == 2
    assert headings[0].split() == headings[1].split()
    assert onnx["raw"]["profile"]["runtime_version"] != tflite["raw"]["profile"]["runtime_version"]


def test_the_trace_of_a_real_run_is_what_chrome_reads(
    edgeprof: CommandLine, profiled: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    profiled("nmp.onnx")

    done = edgeprof.run("runs", "export", "latest", "--trace", "trace.json")

    assert done.returncode == 0, done.stderr
    events = check_trace(json.loads((tmp_path / "trace.json").read_text()))
    assert sum(event["ph"] == "X" for event in events) > 100


def test_xnnpack_off_gives_exact_nodes_and_is_recorded(profiled: Callable[..., dict[str, Any]]) -> None:
    document = profiled("face_detection_short_range.tflite", "--no-xnnpack")

    profile = document["raw"]["profile"]
    assert profile["job"]["options"]["xnnpack"] is False
    assert "off" in profile["in_force"]["xnnpack"]
    assert {k["level"] for k in profile["operators"]["kernels"]} == {"node"}


def test_require_trusted_exits_with_4_where_governor_clock_and_temperature_cannot_be_read(
    edgeprof: CommandLine, models_dir: Path
) -> None:
    path = next(models_dir.rglob("face_landmark.tflite"))

    done = edgeprof.run("profile", path, "-d", "pi5", "--require", "trusted", "--json", "-", *QUICK)

    verdict = json.loads(done.stdout)["verdict"]["level"]
    assert done.returncode == (0 if verdict == "trusted" else 4)


def test_a_simulated_board_is_never_trusted(edgeprof: CommandLine, models_dir: Path) -> None:
    edgeprof.run("devices", "add", "toy", "sim:example")
    path = next(models_dir.rglob("nmp.onnx"))

    done = edgeprof.run("profile", path, "-d", "toy", "--require", "trusted", "--operators", "--json", "-")

    assert done.returncode == 4
    document = json.loads(done.stdout)
    assert document["origin"] == "simulated"
    assert "SIMULATED" in done.stderr


def test_nothing_stays_on_the_device_but_agent_and_models(profiled: Callable[..., dict[str, Any]], sshd: Sshd) -> None:
    profiled("model.onnx")

    cache = sshd.home / ".cache" / "edgeprof"
    left = {str(path.relative_to(cache)).split("/")[0] for path in cache.rglob("*") if path.is_file()}
    assert left - {"made-parent"} == {"agents", "models"}
    assert {path.name for path in sshd.home.iterdir()} <= {".cache", ".bashrc", "edgeprof.lease"}
