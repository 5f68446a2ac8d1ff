"""What becomes of an optimization when its agent dies, its device stays away, or its disk is full."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgeprof.errors import DeviceGivenUp, LinkError
from edgeprof.fleet import Device
from edgeprof.optimize import measuring
from edgeprof.optimize.session import Plan, optimize
from edgeprof.profiling import OpenDevice
from edgeprof.run import Run
from edgeprof.spooled import Patience
from tests.integration.command_line import CommandLine
from tests.small_classifier import small_classifier
from tests.waiting import Clock

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

HERE = Device(name="local", python=sys.executable)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("lost")
    small_classifier().write(place)
    return place


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Of the patience with a lost device: no test waits two minutes."""
    clock = Clock()

    def patience(on_lost: Callable[[str], None]) -> Patience:
        return Patience(120.0, clock.wait, clock.now, on_lost)

    monkeypatch.setattr(measuring, "usual_patience", patience)
    return clock


def agents() -> list[int]:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in children if "device_agents" in Path(f"/proc/{pid}/cmdline").read_text()]


class Killer:
    """Kills every agent, `times` times, when it is told of a measurement of a certain sweep or of a lost device."""

    def __init__(self, sweep: str, times: int) -> None:
        self.sweep, self.times = sweep, times
        self.told: list[str] = []

    def __call__(self, text: str) -> None:
        self.told.append(text)
        if text.startswith(self.sweep) and self.times > 0:
            self.times -= 1
            for pid in agents():
                os.kill(pid, signal.SIGKILL)


def plan(folder: Path) -> Plan:
    return Plan(model=folder / "model.onnx", folder=folder / "made", only=("slim",), most_s=0.0)


def test_an_agent_that_dies_between_two_measurements_is_started_again(folder: Path, clock: Clock) -> None:
    killer, runs = Killer("sweep 2", 1), list[Run]()

    found = optimize(plan(folder), HERE, keep=runs.append, tell=killer)

    assert killer.times == 0, "an agent was killed"
    assert not clock.waits_s, "a new one was there at once"
    raced = [one for one in found.tried if not one.reason]
    assert [one.name for one in raced] == ["original", "slim"]
    assert not any("lost" in note for note in found.notes)
    assert all(one.standing is not None and one.standing.n_sweeps >= 3 for one in raced)


def stays_away(monkeypatch: pytest.MonkeyPatch, killer: Killer) -> None:
    """Once its agent was killed, the device cannot be reached."""
    usual = OpenDevice.connect

    def connect(opened: OpenDevice) -> None:
        if killer.times == 0:
            raise LinkError("it does not answer")
        usual(opened)

    monkeypatch.setattr(OpenDevice, "connect", connect)


def test_a_device_that_stays_away_leaves_what_was_found_and_says_so(
    folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    killer = Killer("sweep 2", 1)
    stays_away(monkeypatch, killer)

    found = optimize(plan(folder), HERE, tell=killer)

    assert clock.now_s == pytest.approx(120.0)
    (note,) = [note for note in found.notes if "the device was lost after 1 of 3 sweeps" in note]
    assert "it does not answer" in note
    assert [one.standing.n_sweeps for one in found.tried if one.standing is not None] == [1, 1]
    assert found.was_lost
    assert "original" in found.front


def test_a_device_that_is_lost_at_once_is_an_error_and_leaves_nothing(
    folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    killer = Killer("sweep 1", 1)
    stays_away(monkeypatch, killer)

    with pytest.raises(DeviceGivenUp, match="it does not answer"):
        optimize(replace(plan(folder), folder=folder / "nothing"), HERE, tell=killer)

    assert not (folder / "nothing").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for the model and hardly more."""
    if os.geteuid() != 0:
        pytest.skip("a file system of a certain size needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def test_a_disk_that_fills_is_named_and_nothing_half_written_stays(folder: Path, small_disk: Path) -> None:
    line = CommandLine(folder, {"EDGEPROF_HOME": str(folder / "home"), "EDGEPROF_GATE_TIMEOUT": "0"})
    (small_disk / "ballast").write_bytes(b"x" * (100 << 10))

    done = line.run("optimize", "model.onnx", "--out", str(small_disk / "made"), "--budget-time", "1s")

    assert done.returncode == 1, done.stdout
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]


def test_what_a_killed_optimization_left_goes_with_the_next_one(folder: Path) -> None:
    made = folder / "killed"
    line = CommandLine(folder, {"EDGEPROF_HOME": str(folder / "home"), "EDGEPROF_GATE_TIMEOUT": "0"})
    arguments = ("optimize", "model.onnx", "--out", str(made), "--only", "slim", "--budget-time", "1s")
    with line.start(*arguments) as first:
        until_s = time.monotonic() + 60.0
        while not list(made.glob(".making-*/*.onnx")):
            assert time.monotonic() < until_s
            time.sleep(0.05)
        first.kill()
    left = list(made.glob(".making-*"))

    done = line.run(*arguments)

    assert len(left) == 1
    assert done.returncode == 0, done.stderr
    assert not list(made.glob(".making-*")) if made.exists() else True
