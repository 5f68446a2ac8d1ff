"""A search with a device in the loop behind a real sshd, which goes away in its midst."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgeprof.search.session import opened
from edgeprof.search.study import DONE, RUNNING, Study, Trial
from tests.integration.command_line import CommandLine
from tests.integration.sshd import Sshd
from tests.integration.test_campaign import wait_for

pytestmark = [pytest.mark.ssh, pytest.mark.slow, pytest.mark.timeout(600)]
PLAN = """
objectives = ["error", "latency"]
[search]
evaluations = 12
[space]
input = [16, 16, 3]
layers = [
  { conv = [8, 16, 32], kernel = [1, 3, 5], stride = 2, activation = "relu" },
  { depthwise = [3, 5], repeat = [1, 2] },
  { global_average = true },
  { dense = 10 },
]
[accuracy]
by = "function"
function = "mine.py:train"
[[targets]]
device = "board"
in_the_loop = "always"
"""
FUNCTION = "def train(candidate):\n    return 0.5 + 0.05 * sum(candidate.architecture)\n"


def trials(folder: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> list[Trial]:
    monkeypatch.setenv("EDGEPROF_HOME", str(home))
    if not (folder / "journal.log").exists():
        return []
    with opened(folder) as search, Study(folder, search.space, search.n_objectives) as study:
        return study.trials()


def test_a_device_that_is_lost_ends_the_search_which_goes_on_when_it_is_back(
    tmp_path: Path, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = CommandLine(tmp_path, sshd.client_environment())
    assert typed.run("devices", "add", "board", sshd.address, "--python", sys.executable).returncode == 0
    (tmp_path / "search.toml").write_text(PLAN)
    (tmp_path / "mine.py").write_text(FUNCTION)
    study, home = tmp_path / "search.study", tmp_path / "edgeprof"

    started = typed.start("search", "run", "search.toml")
    wait_for(lambda: sum(one.state == DONE for one in trials(study, monkeypatch, home)) >= 3)
    sshd.stop()
    _, said = started.communicate(timeout=400)

    assert started.returncode == 3, said
    assert "ended: a device was lost: " in said
    assert "board" in said
    kept = trials(study, monkeypatch, home)
    assert 3 <= sum(one.state == DONE for one in kept) < 12
    assert sum(one.state == RUNNING for one in kept) == 1, "what it was at is taken up again"

    sshd.log.unlink()
    sshd.start()
    resumed = typed.run("search", "resume", "search.study")

    assert resumed.returncode == 0, resumed.stderr
    found = trials(study, monkeypatch, home)
    done = [one for one in found if one.state == DONE]
    assert len({one.architecture for one in done}) == len(done) == 12
    assert all(one.result is not None and one.result.values["latency"].origin == "measured" for one in done)
    assert done[: len([one for one in kept if one.state == DONE])] == [one for one in kept if one.state == DONE]
    assert not list((sshd.home / ".cache" / "edgeprof").rglob("*.onnx")), "models that were sent are not left there"
