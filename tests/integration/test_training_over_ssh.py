"""`predictors train` on a device behind a real sshd, with a real runtime: the outcome that the command is for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgeprof.models.example import write_example
from edgeprof.store import Store
from tests.integration.command_line import CommandLine
from tests.integration.sshd import Sshd
from tests.integration.test_campaign import wait_for

pytestmark = [pytest.mark.ssh, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def typed(tmp_path: Path, sshd: Sshd) -> CommandLine:
    folder = tmp_path / "host"
    folder.mkdir()
    write_example(folder / "model.onnx")
    one = CommandLine(folder, sshd.client_environment())
    assert one.run("devices", "add", "board", sshd.address, "--python", sys.executable).returncode == 0
    return one


def n_measured(typed: CommandLine) -> int:
    place = typed.folder / "edgeprof" / "predictors" / "board-onnxruntime.training.sqlite"
    if not place.exists():
        return 0
    with Store(str(place)) as store:
        return len(store.list())


def said_until(words: str, training: subprocess.Popen[str]) -> bool:
    """Whether the training says so before it ends."""
    assert training.stderr is not None
    return any(words in line for line in training.stderr)


def test_a_device_becomes_a_predictor_though_it_is_away_for_a_while(typed: CommandLine, sshd: Sshd) -> None:
    training = typed.start("predictors", "train", "-d", "board", "--runtime", "onnxruntime", "--budget", "25s")
    wait_for(lambda: n_measured(typed) >= 1)
    before = n_measured(typed)
    sshd.stop()
    lost = said_until("edgeprof: lost: board", training)
    sshd.log.unlink()
    sshd.start()
    out, err = training.communicate(timeout=500)

    assert training.returncode == 0, err
    assert "the budget is spent" in out
    assert lost
    assert "edgeprof: reconnected: board answers again" in err
    assert n_measured(typed) > before
    shown = json.loads(typed.run("predictors", "show", "board-onnxruntime", "--json", "-").stdout)
    assert (shown["target"]["runtime"], shown["target"]["origin"]) == ("onnxruntime", "measured")

    done = typed.run("predict", "model.onnx", "-p", "board-onnxruntime", "--json", "-")

    document = json.loads(done.stdout)
    assert document["origin"] == "learned"
    assert 0 < document["low_s"] < document["latency_s"] < document["high_s"]
    assert "board" in document["target"]
    assert not list((sshd.home / ".cache" / "edgeprof").rglob("*.onnx")), "models that were sent are not left there"
