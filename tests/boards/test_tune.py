"""`edgeprof tune` over SSH on a board with two clusters whose clocks are a real cpufreq's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeprof.store import Store
from edgeprof.tuning.recipe import read_recipe
from tests.boards.measuring import MODELS, WAKE_WORD
from tests.boards.virtual_board import BATTERY, CLOCKS, FULL_KHZ, VirtualBoard
from tests.integration.command_line import CommandLine

pytestmark = [pytest.mark.ssh, pytest.mark.slow, pytest.mark.timeout(600)]

LIMITS = f"{CLOCKS}/policy*/scaling_max_freq"
CHARGE = f"{BATTERY}/battery_capacity"


@pytest.fixture
def typed(board: VirtualBoard, tmp_path: Path) -> CommandLine:
    line = CommandLine(tmp_path, {"EDGEPROF_GATE_TIMEOUT": "0"})
    board.add_to(line)
    return line


def tuned(line: CommandLine, *options: str) -> tuple[str, list[dict[str, object]]]:
    """What was said of a tuning for latency on one thread, and everything that was measured."""
    done = line.run(
        "tune", next(MODELS.rglob(WAKE_WORD)), "-d", "board", "--runtime", "litert", "--threads", "1",
        "-o", "board.toml", *options,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(text) for text in (line.folder / "board.toml.progress").read_text().splitlines()]
    return done.stderr, [one for one in lines if one["type"] == "measured"]


def test_caps_are_measured_where_they_may_be_set_and_nothing_is_left_of_them(
    board: VirtualBoard, typed: CommandLine
) -> None:
    board.shell(f"chown pi {LIMITS}")

    said, measured = tuned(typed, "--measurements", "5")

    assert "caps of clocks are left out" not in said
    capped = [one for one in measured if one["configuration"]["caps"]]  # type: ignore[index]
    assert capped
    assert [one["measured"]["failure"] for one in capped] == [None] * len(capped)  # type: ignore[index]
    with Store(str(typed.folder / "edgeprof" / "store.sqlite")) as store:
        runs = [store.get(str(one["run"])) for one in capped]
    for run in runs:
        (policy, in_force) = run.profile.in_force["clock_caps"].split(": ")[:2]
        assert policy in ("policy0", "policy2")
        assert in_force.endswith("MHz")
    assert set(board.shell(f"cat {LIMITS}").split()) == {str(FULL_KHZ)}
    recipe = read_recipe(typed.folder / "board.toml")
    assert recipe.device.n_cpus == 4
    assert {cap.before_hz for cap in recipe.best.settings.clock_caps} <= {FULL_KHZ * 1e3}


def test_a_battery_that_runs_empty_is_refused(board: VirtualBoard, typed: CommandLine) -> None:
    board.set_battery(status="discharging", charger=False)
    board.shell(f"echo 9 >{CHARGE}")
    try:
        done = typed.run("tune", next(MODELS.rglob(WAKE_WORD)), "-d", "board", "-o", "board.toml")
    finally:
        board.shell(f"echo 80 >{CHARGE}")

    assert done.returncode == 1
    assert "its battery is at 9% and discharging" in done.stderr
    assert "charge it above 15%" in done.stderr
    assert not list(typed.folder.glob("board.toml*"))
