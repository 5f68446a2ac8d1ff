"""Boards that nobody has: `sim`, `sim:BOARD`, and a device over SSH that stands in for one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeprof.models.example import write_example
from latency_models import boards
from tests.integration.command_line import CommandLine
from tests.integration.sshd import Sshd

QUICK = ("--rounds", "3", "--min-runs", "5", "--min-time", "0.05", "--json", "-")


@pytest.fixture
def edgeprof(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


@pytest.fixture
def example(tmp_path: Path) -> Path:
    write_example(tmp_path / "example.onnx")
    return tmp_path / "example.onnx"


def profiled(edgeprof: CommandLine, *arguments: str | Path) -> dict[str, Any]:
    done = edgeprof.run("profile", *arguments, *QUICK)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def added(edgeprof: CommandLine, *arguments: str) -> str:
    done = edgeprof.run("devices", "add", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_catalogue_is_listed_for_people_and_for_programs(edgeprof: CommandLine) -> None:
    text = edgeprof.run("sim", "list").stdout
    listed = json.loads(edgeprof.run("sim", "list", "--json").stdout)

    assert [board["name"] for board in listed] == list(boards.names())
    assert all(board["missing"] == [] for board in listed)
    for name in boards.names():
        assert name in text
    assert "4 x Cortex-A72, 600 to 1500 MHz in 10 steps" in text


def test_a_board_is_shown_with_every_figure_and_its_source(edgeprof: CommandLine) -> None:
    board = boards.load("pi-4")

    text = edgeprof.run("sim", "show", "pi-4").stdout
    shown = json.loads(edgeprof.run("sim", "show", "pi-4", "--json").stdout)

    assert set(shown["figures"]) == set(board.figures)
    cited, assumed = text.split("Assumed for the simulation, not a property of the board:")
    for path, figure in board.figures.items():
        assert f"  {path} = " in (assumed if figure.is_assumed else cited)
        assert figure.source in text
    assert shown["figures"]["power.idle_w"]["unit"] == "W"


def test_an_unknown_board_is_told_with_what_looks_like_it(edgeprof: CommandLine) -> None:
    done = edgeprof.run("sim", "show", "pi4")

    assert done.returncode == 1
    assert "no board 'pi4'; did you mean pi-4" in done.stderr
    assert "edgeprof sim list" in done.stderr


@pytest.mark.parametrize("name", boards.names())
def test_every_board_profiles_a_model_operator_by_operator(edgeprof: CommandLine, example: Path, name: str) -> None:
    added(edgeprof, "one", f"sim:{name}")

    document = profiled(edgeprof, example, "-d", "one", "--operators")

    assert document["origin"] == "simulated"
    assert document["operators"]
    assert document["latency"]["median_s"] > 0


def test_a_faster_board_is_faster_and_so_are_the_phone_s_big_cores(edgeprof: CommandLine, example: Path) -> None:
    for name in ("pi-3", "pi-5", "phone-sdm845"):
        added(edgeprof, name, f"sim:{name}")

    def median_s(device: str, *options: str) -> float:
        latency = profiled(edgeprof, example, "-d", device, *options)["latency"]
        return float(latency["median_s"])

    assert median_s("pi-5") < 0.8 * median_s("pi-3")
    assert median_s("phone-sdm845", "--affinity", "4-7") < 0.8 * median_s("phone-sdm845", "--affinity", "0-3")


@pytest.mark.ssh
def test_a_device_over_ssh_stands_in_for_a_board(tmp_path: Path, sshd: Sshd, example: Path) -> None:
    edgeprof = CommandLine(tmp_path, sshd.client_environment())
    added(edgeprof, "stand-in", sshd.address, "--python", sys.executable, "--simulate", "pi-zero-2")
    added(edgeprof, "here", "sim:pi-zero-2")

    there, here = (profiled(edgeprof, example, "-d", device, "--operators") for device in ("stand-in", "here"))
    refused = edgeprof.run("profile", example, "-d", "stand-in", "--require", "trusted", *QUICK)
    examined = edgeprof.run("devices", "doctor", "stand-in")

    assert there["origin"] == "simulated"
    assert there["latency"]["median_s"] == here["latency"]["median_s"]
    assert refused.returncode == 4
    assert "simulated board pi-zero-2" in examined.stdout
    assert "(simulates pi-zero-2)" in edgeprof.run("devices", "list").stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("a", "local:", "--simulate", "pi4"), "no board 'pi4'; did you mean pi-4"),
        (("a", "sim:pi-4", "--simulate", "pi-5"), "the address names a board already"),
        (("a", "ssh://host", "--simulate", "-x"), "cannot be a board's name"),
    ],
)
def test_a_senseless_stand_in_is_told_and_changes_nothing(
    edgeprof: CommandLine, tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    done = edgeprof.run("devices", "add", *arguments)

    assert done.returncode == 1
    assert told in done.stderr
    assert not (tmp_path / "edgeprof" / "fleet.toml").exists()
