"""`edgeprof check` as CI types it: every exit code, on a simulated board and on this machine with real models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from edgeprof.models.example import write_example
from tests.integration.command_line import CommandLine
from tests.odd_models import write_chain

# A small chain takes microseconds, the example milliseconds: no noise hides such a difference.
SMALL, LARGE = "small.onnx", "large.onnx"
QUICK = ("--rounds", "3", "--min-time", "0", "--min-runs", "5", "--gate-timeout", "0", "--no-check-outputs")
QUICK_BLOCKS = ("--max-pairs", "6", "--block-runs", "5", "--block-time", "0")


def with_models(folder: Path) -> CommandLine:
    write_chain(folder / SMALL, 3)
    write_example(folder / LARGE)
    return CommandLine(folder, {"EDGEPROF_STORE": ""})


@pytest.fixture
def shell(tmp_path: Path) -> CommandLine:
    return with_models(tmp_path)


@pytest.fixture(scope="module")
def board_with_baselines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home that each test gets a copy of: making it takes as long as a test."""
    shell = with_models(tmp_path_factory.mktemp("board"))
    assert shell.run("devices", "add", "board", "sim:example").returncode == 0
    for model in (SMALL, LARGE):
        assert shell.run("profile", model, "-d", "board", "--json", f"{model}.json").returncode == 0
    return shell.folder


@pytest.fixture(scope="module")
def machine_with_baselines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shell = with_models(tmp_path_factory.mktemp("here"))
    for model in (SMALL, LARGE):
        assert shell.run("profile", model, *QUICK, "--json", f"{model}.json").returncode == 0
    return shell.folder


@pytest.fixture
def on_board(board_with_baselines: Path, tmp_path: Path) -> CommandLine:
    """With a simulated board, and both models as baselines of it."""
    return CommandLine(shutil.copytree(board_with_baselines, tmp_path, dirs_exist_ok=True))


@pytest.fixture
def here(machine_with_baselines: Path, tmp_path: Path) -> CommandLine:
    """With both models as baselines of this machine."""
    return CommandLine(shutil.copytree(machine_with_baselines, tmp_path, dirs_exist_ok=True))


def document(shell: CommandLine, name: str = "check.json") -> Any:
    return json.loads((shell.folder / name).read_text())


def test_an_unchanged_model_passes_and_both_runs_are_kept(on_board: CommandLine) -> None:
    done = on_board.run("check", LARGE, "--baseline", f"{LARGE}.json", "--json", "check.json")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED" in done.stdout
    assert "simulated" in done.stdout
    found = document(on_board)
    assert found["decision"] == "passed"
    assert len(found["log_ratios"]) == found["n_pairs"]
    for side in ("baseline", "candidate"):
        shown = on_board.run("runs", "show", found[side]["run"], "--json")
        assert len(json.loads(shown.stdout)["raw"]["profile"]["rounds"]) == found["n_pairs"]


def test_the_same_seed_gives_the_same_check_of_a_simulated_board_and_another_seed_another(
    on_board: CommandLine,
) -> None:
    ratios = []
    for seed in ("5", "5", "6"):
        on_board.run("check", LARGE, "--baseline", f"{LARGE}.json", "--seed", seed, "--json", "check.json")
        ratios.append(document(on_board)["log_ratios"])

    assert ratios[0] == ratios[1] != ratios[2]
    assert len(set(ratios[0])) == len(ratios[0])


def test_a_slower_model_is_stopped_in_every_report(on_board: CommandLine) -> None:
    arguments = ("--baseline", f"{SMALL}.json", "--baseline-model", SMALL, "--junit", "check.xml", "--markdown", "-")
    done = on_board.run("check", LARGE, *arguments, "--json", "check.json")

    assert done.returncode == 4
    assert done.stdout.startswith("## edgeprof check: failed")
    assert "FAILED" in done.stderr
    (suite,) = ElementTree.parse(on_board.folder / "check.xml").getroot()
    assert suite.get("failures") == "1"
    regression = document(on_board)["checks"][0]
    assert regression["decision"] == "failed"
    assert regression["low"] > 1.03


def test_a_faster_model_passes(on_board: CommandLine) -> None:
    done = on_board.run("check", SMALL, "--baseline", f"{LARGE}.json", "--baseline-model", LARGE)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("allowed", "code"), [((), 4), (("--allow-inconclusive",), 0)])
def test_what_cannot_be_decided_is_said_and_fails_unless_that_is_allowed(
    on_board: CommandLine, allowed: tuple[str, ...], code: int
) -> None:
    done = on_board.run(
        "check", LARGE, "--baseline", f"{LARGE}.json", "--max-regression", "0.01%", "--max-pairs", "6", *allowed
    )

    assert done.returncode == code
    assert "smallest difference" in done.stdout
    assert "not decided" in done.stderr


@pytest.mark.parametrize(
    ("budget", "decision"),
    [
        ("latency=1s", "passed"),
        ("latency=1us", "failed"),
        ("first_inference=10s", "passed"),
        ("size=1GB", "passed"),
        ("size=1kB", "failed"),
        ("memory=1GB", "inconclusive"),
    ],
)
def test_budgets_decide_too(on_board: CommandLine, budget: str, decision: str) -> None:
    done = on_board.run("check", LARGE, "--baseline", f"{LARGE}.json", "--budget", budget, "--json", "check.json")

    assert done.returncode == (0 if decision == "passed" else 4)
    assert document(on_board)["checks"][1]["decision"] == decision


def test_a_simulated_board_is_never_trusted(on_board: CommandLine) -> None:
    done = on_board.run("check", LARGE, "--baseline", f"{LARGE}.json", "--require", "trusted")

    assert done.returncode == 4
    assert "simulated" in done.stdout


def test_stored_samples_are_used_only_when_asked_and_said_to_be_of_another_occasion(on_board: CommandLine) -> None:
    refused = on_board.run("check", SMALL, "--baseline", f"{LARGE}.json")
    done = on_board.run("check", SMALL, "--baseline", f"{LARGE}.json", "--against-stored", "--budget", "latency=1s")

    assert refused.returncode == 2
    assert "--against-stored" in refused.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    assert "another occasion" in done.stdout
    assert "model digest" in done.stdout


def test_stored_samples_of_another_device_are_refused(on_board: CommandLine) -> None:
    done = on_board.run("check", LARGE, "--baseline", f"{LARGE}.json", "--against-stored", "-d", "local")

    assert done.returncode == 2
    assert "simulated" in done.stderr


def test_on_this_machine_a_model_many_times_as_slow_is_stopped(here: CommandLine) -> None:
    arguments = ("--baseline", f"{SMALL}.json", *QUICK_BLOCKS, "--json", "check.json")
    done = here.run("check", LARGE, *arguments)

    # The small model's file is not named: this machine, as a device, has kept it.
    assert done.returncode == 4, done.stdout + done.stderr
    assert document(here)["checks"][0]["decision"] == "failed"
    assert document(here)["candidate"]["origin"] == "measured"


def test_on_this_machine_a_model_many_times_as_fast_passes_with_other_options(here: CommandLine) -> None:
    arguments = ("--baseline", f"{LARGE}.json", *QUICK_BLOCKS, "--optimization", "none", "--json", "check.json")
    done = here.run("check", SMALL, *arguments)

    assert done.returncode == 0, done.stdout + done.stderr
    kept = json.loads(here.run("runs", "show", document(here)["candidate"]["run"], "--json").stdout)
    other = json.loads(here.run("runs", "show", document(here)["baseline"]["run"], "--json").stdout)
    assert kept["raw"]["profile"]["job"]["options"]["optimization"] == "none"
    assert other["raw"]["profile"]["job"]["options"]["optimization"] == "all"


def test_a_baseline_that_the_device_has_lost_must_be_named(here: CommandLine) -> None:
    shutil.rmtree(here.folder / "cache")

    refused = here.run("check", LARGE, "--baseline", f"{SMALL}.json", *QUICK_BLOCKS)
    wrong = here.run("check", LARGE, "--baseline", f"{SMALL}.json", "--baseline-model", LARGE, *QUICK_BLOCKS)

    assert refused.returncode == 2
    assert "--baseline-model" in refused.stderr
    assert wrong.returncode == 2
    assert "not the model of the baseline" in wrong.stderr


def test_a_device_that_cannot_measure_is_an_error_that_junit_tells(on_board: CommandLine) -> None:
    fleet = on_board.folder / "edgeprof" / "fleet.toml"
    fleet.write_text('[devices.broken]\naddress = "sim:example"\npython = "/nonexistent/python3"\n')

    done = on_board.run("check", LARGE, "--baseline", f"{LARGE}.json", "-d", "broken", "--junit", "check.xml")

    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    (suite,) = ElementTree.parse(on_board.folder / "check.xml").getroot()
    assert suite.get("errors") == "1"
    assert "/nonexistent/python3" in (suite.findall("testcase/error")[0].text or "")


def test_a_store_that_cannot_be_opened_is_said_before_anything_is_measured(on_board: CommandLine) -> None:
    (on_board.folder / "file").write_text("x")

    done = on_board.run("check", LARGE, "--baseline", f"{LARGE}.json", "--store", "file/store.sqlite")

    assert done.returncode == 1
    assert "PASSED" not in done.stdout
    assert "Traceback" not in done.stderr


def test_bad_requests_are_refused_before_anything_is_measured(on_board: CommandLine) -> None:
    (on_board.folder / "list.json").write_text("[]")
    (on_board.folder / "text.json").write_text("not a run")
    base = ("--baseline", f"{LARGE}.json")
    for arguments, code, words in (
        ((LARGE,), 2, "--baseline"),
        ((LARGE, "--baseline", "missing.json"), 1, "cannot be read"),
        ((LARGE, "--baseline", "text.json"), 1, "not the document of a run"),
        ((LARGE, "--baseline", "list.json"), 2, "holds 0 runs"),
        (("missing.onnx", *base), 1, "there is no file"),
        ((LARGE, *base, "--max-regression", "0%"), 2, "not a positive percentage"),
        ((LARGE, *base, "--max-regression", "-3%"), 2, "not a positive percentage"),
        ((LARGE, *base, "--budget", "latency=20"), 2, "positive amount"),
        ((LARGE, *base, "--budget", "energy=1J"), 2, "is known yet"),
        ((LARGE, *base, "--max-pairs", "4"), 2, "too few"),
        ((LARGE, *base, "-d", "nobody"), 1, "no device named"),
        ((LARGE, *base, "--runtime", "litert"), 2, "simulates a board"),
        ((LARGE, *base, "--json", "-", "--markdown", "-"), 2, "same place"),
        ((LARGE, *base, "--json", "no/such/folder.json"), 1, "cannot be written"),
    ):
        done = on_board.run("check", *arguments)

        assert done.returncode == code, (arguments, done.stderr)
        assert words in done.stderr, (arguments, done.stderr)
        assert "Traceback" not in done.stderr
