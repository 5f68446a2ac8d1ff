"""`edgeprof profile --sustained` and `edgeprof runs sustained`: on boards that heat up, here, over a broken link."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from device_agents.wire import Gate, Progress
from edgeprof.fleet import Device
from edgeprof.models import read_model
from edgeprof.models.example import write_example
from edgeprof.profiling import OpenDevice, Settings
from edgeprof.sustained import sustained
from edgeprof.without_rest import Endurance, lasting
from tests.integration.command_line import CommandLine
from tests.integration.sshd import Sshd
from tests.unit.onnx_maker import residual_block, save


@pytest.fixture
def edgeprof(tmp_path: Path) -> CommandLine:
    typed = CommandLine(tmp_path)
    assert typed.run("devices", "add", "hot", "sim:pi-4").returncode == 0
    write_example(tmp_path / "example.onnx")
    return typed


def test_models_run_without_rest_and_the_store_can_tell_it_again(edgeprof: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "twin.onnx").write_bytes((tmp_path / "example.onnx").read_bytes())
    models = ("example.onnx", "twin.onnx")

    done = edgeprof.run("profile", *models, "-d", "hot", "--threads", "4", "--sustained", "4m", "--json", "hot.json")

    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "hot.json").read_text())
    for name, found in zip(models, document["models"], strict=True):
        assert found["model"] == name
        assert found["origin"] == "simulated"
        assert 180 <= found["throttling"]["after_s"] < found["throttling"]["seen_s"] <= 220
        assert "fell from 1500 MHz" in found["throttling"]["evidence"]
        assert found["ratio_low"] > 1.03
        assert found["running_share"] > 0.999
        assert len(found["course"]) == found["n_rounds"] == 24
    (standings,) = document["standings"]
    assert [(one["first_rank"], one["last_rank"]) for one in standings["models"]] == [(1, 1), (1, 1)]
    assert standings["tau"] is None
    assert "Throttled         after 1" in done.stdout
    assert "SIMULATED: says nothing of a real device" in done.stdout

    runs = [found["run"] for found in document["models"]]
    again = edgeprof.run("runs", "sustained", *runs, "--json", "-")
    assert json.loads(again.stdout) == document
    shown = json.loads(edgeprof.run("runs", "show", runs[0], "--json").stdout)
    assert shown["verdict"]["level"] == "throttled"
    assert shown["raw"]["profile"]["rounds"][0]["n_runs"] > len(shown["raw"]["profile"]["rounds"][0]["latencies_s"])
    assert shown["throughput"]["inferences_per_s"] == pytest.approx(1 / shown["latency"]["median_s"], rel=0.1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--sustained", "1m"), "is not from 2m (a first minute and a last one) to 2h"),
        (("--sustained", "121m"), "is not from 2m (a first minute and a last one) to 2h"),
        (("--sustained", "20"), "'20' is no duration: write it as 90s, 30m or 2h"),
        (("--sustained", "-5m"), "'-5m' is no duration: write it as 90s, 30m or 2h"),
        (("--sustained", ""), "'' is no duration: write it as 90s, 30m or 2h"),
        (("--sustained", "nan"), "'nan' is no duration: write it as 90s, 30m or 2h"),
        (("--sustained", "5m", "--rounds", "3"), "--sustained and --rounds exclude each other"),
        (("--sustained", "5m", "--operators"), "--sustained and --operators exclude each other"),
        (("--sustained", "5m", "--require", "trusted"), "--sustained and --require exclude each other"),
        (("--sustained", "5m", "--detach"), "--sustained and --detach exclude each other"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_runs(
    edgeprof: CommandLine, options: tuple[str, ...], told: str
) -> None:
    done = edgeprof.run("profile", "example.onnx", "-d", "hot", *options)

    assert done.returncode == 2
    assert told in done.stderr


def test_a_model_that_fails_costs_the_others_nothing(edgeprof: CommandLine, tmp_path: Path) -> None:
    done = edgeprof.run(
        "profile", "example.onnx", "-d", "hot", "--sustained", "2m", "--affinity", "99", "--json", "hot.json"
    )

    assert done.returncode == 1
    assert "has no CPU 99" in done.stderr
    assert json.loads((tmp_path / "hot.json").read_text()) == {"models": [], "standings": []}


def test_a_run_with_rests_is_refused_with_what_to_type(edgeprof: CommandLine) -> None:
    assert edgeprof.run("profile", "example.onnx", "-d", "hot", "--rounds", "2").returncode == 0

    done = edgeprof.run("runs", "sustained", "latest")

    assert done.returncode == 1
    assert "was measured round by round" in done.stderr
    assert "--sustained 20m" in done.stderr


def test_this_machine_runs_models_one_after_the_other_with_a_rest_between_them(tmp_path: Path) -> None:
    model = read_model(save(residual_block(), tmp_path / "block.onnx"), {"x": (1, 8, 16, 16)})
    settings = Settings(gate=Gate(timeout_s=0.0))
    pauses: list[float] = []

    with OpenDevice(Device(name="here", address="local:"), measure=lasting(1.2)) as opened:
        endurance = Endurance(opened, 1.2, pause=pauses.append, now=lambda: 10.0 * len(pauses))
        first, second = (endurance.run(model, settings) for _ in range(2))

    assert first.profile.origin == "measured"
    assert sustained(first).lasted_s >= 1.2
    assert [r.before for r in first.profile.rounds[1:]] == [r.after for r in first.profile.rounds[:-1]]
    assert all(r.n_runs is None or r.n_runs > len(r.latencies_s) for r in first.profile.rounds)
    assert not any(note.startswith("before it") for note in first.notes)
    assert any(note.startswith("before it, the device rested") for note in second.notes)
    found = sustained(second)
    assert found.n_runs >= sum(len(r.latencies_s) for r in second.profile.rounds)


@pytest.mark.ssh
def test_a_link_that_breaks_costs_a_model_that_runs_without_rest_nothing(tmp_path: Path, sshd: Sshd) -> None:
    model = read_model(save(residual_block(), tmp_path / "block.onnx"), {"x": (1, 8, 16, 16)})
    device = Device(name="board", address=sshd.device().address, python=sys.executable)
    stages: list[str] = []

    def cut(progress: Progress) -> None:
        if progress.stage == "rounds" and "rounds" not in stages:
            sshd.cut_connections()
        stages.append(progress.stage)

    with OpenDevice(device, link=sshd.link(), measure=lasting(4.8)) as opened:
        run = Endurance(opened, 4.8).run(model, Settings(gate=Gate(timeout_s=0.0), check_outputs=False), cut)

    assert stages.count("rounds") >= 1
    assert sustained(run).lasted_s >= 4.8
    assert not list((sshd.home / ".cache" / "edgeprof").rglob("sustained-*")), "the job was discarded"
