"""docs/android.md is typed against the stand-in of a phone, and what a phone's owner sends back can be read."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from device_agents import android
from device_agents.machine import Machine
from device_agents.runtimes.benchmark_output import read_operators, read_timings
from tests.android.adb_server import AdbServer
from tests.android.phone import PROGRAM, TOOL, make_phone, write_program, write_tool
from tests.odd_tflite import write_tflite_chain

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "android.md"
SCRIPT = ROOT / "docs" / "examples" / "record_phone.sh"
RECORDED = ROOT / "tests" / "recorded" / "phones"


class RecordedPhone(Machine):
    """Answers as a recording has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, argv: Sequence[str], timeout_s: float = 5.0) -> tuple[int, str]:
        return 0, (self.folder / "commands" / "-".join(argv)).read_text()


def require_readable(folder: Path) -> None:
    """Everything that edgeprof reads of a phone is read from the recording."""
    told = read_timings((folder / "timings.txt").read_text())
    assert told.regular.n_runs > 0
    table = read_operators((folder / "operators.txt").read_text())
    assert table
    csv = folder / "operators.csv"
    if csv.exists():
        assert [row.kernel for row in read_operators(csv.read_text())] == [row.kernel for row in table]
    phone = RecordedPhone(folder)
    if (folder / "commands" / "dumpsys-battery").exists():
        assert (android.power_source(phone) or "").startswith("battery ")
        assert android.screen(phone) is not None


def record(folder: Path, *arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(SCRIPT), *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_commands_for_adb_can_be_typed_one_after_the_other(tmp_path: Path) -> None:
    if shutil.which("adb") is None:
        pytest.skip("adb's client is not installed (package adb)")
    write_tflite_chain(tmp_path / "model.tflite", 3)
    write_program(tmp_path / "benchmark_model", f'exec {sys.executable} {PROGRAM} new "$@"')
    (tmp_path / "benchmark_model").chmod(0o644)
    phone = make_phone(tmp_path / "phone")
    (tmp_path / "phone" / TOOL.lstrip("/")).unlink()
    block = re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL)
    lines = [line[2:] for line in "".join(block).splitlines() if line.startswith("$ ")]
    assert len(lines) == 5

    with AdbServer(phone) as server:
        environment = {
            **os.environ,
            **server.environment,
            "EDGEPROF_HOME": str(tmp_path / "home"),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "EDGEPROF_GATE_TIMEOUT": "0",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        for line in lines:
            done = subprocess.run(
                shlex.split(line), cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"$ {line}\n{done.stdout}\n{done.stderr}"

    assert "100 runs, of each round the mean alone, in 5 rounds" in done.stdout
    assert "LOGISTIC_1" in done.stdout


@pytest.mark.parametrize("form", ["old", "new"])
def test_a_recording_by_adb_can_be_read_and_names_no_phone(tmp_path: Path, form: str) -> None:
    if shutil.which("adb") is None:
        pytest.skip("adb's client is not installed (package adb)")
    write_tflite_chain(tmp_path / "model.tflite", 3)
    phone = make_phone(tmp_path / "phone", "SECRET0001", form=form)

    with AdbServer(phone) as server:
        done = record(tmp_path, "adb", "model.tflite", TOOL, "sent", environment=dict(server.environment))

    assert done.returncode == 0, done.stderr
    require_readable(tmp_path / "sent")
    files = [path for path in (tmp_path / "sent").rglob("*") if path.is_file()]
    assert not [path for path in files if "SECRET0001" in path.read_text() or "Owner" in path.read_text()]
    assert not list((tmp_path / "phone" / "data/local/tmp").glob("edgeprof*"))


def test_a_recording_in_termux_can_be_read(tmp_path: Path) -> None:
    write_tflite_chain(tmp_path / "model.tflite", 3)
    write_tool(tmp_path / "bin" / "benchmark_model", "new")

    done = record(tmp_path, "termux", "model.tflite", str(tmp_path / "bin" / "benchmark_model"), environment={})

    assert done.returncode == 0, done.stderr
    require_readable(tmp_path / "phone-recording")


def test_the_script_says_what_it_wants(tmp_path: Path) -> None:
    without = record(tmp_path, environment={})
    no_model = record(tmp_path, "adb", "none.tflite", TOOL, environment={})

    assert without.returncode == 2
    assert "sh record_phone.sh adb MODEL.tflite BENCHMARK_MODEL" in without.stderr
    assert no_model.returncode == 1
    assert "there is no model none.tflite" in no_model.stderr


def test_every_recording_that_was_sent_can_be_read() -> None:
    """None was sent so far: docs/android.md."""
    for folder in sorted(RECORDED.glob("*")):
        require_readable(folder)
