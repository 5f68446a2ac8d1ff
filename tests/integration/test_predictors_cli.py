"""`predictors` and `predict` as a person types them."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest

from edgeprof.models.example import write_example
from edgeprof.store import Store
from tests.integration.command_line import CommandLine
from tests.integration.test_campaign import wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A home with a predictor of a simulated Raspberry Pi 5, and a model."""
    folder = tmp_path_factory.mktemp("predictors")
    typed = CommandLine(folder)
    write_example(folder / "model.onnx")
    assert typed.run("devices", "add", "pi5", "sim:pi-5").returncode == 0
    done = typed.run("predictors", "train", "-d", "pi5", "--budget", "6s")
    assert done.returncode == 0, done.stderr
    assert "ended: the budget is spent" in done.stdout
    assert "kernels held out" in done.stdout
    return typed


def test_a_model_is_predicted_with_interval_and_bill(trained: CommandLine) -> None:
    done = trained.run("predict", "model.onnx", "-p", "pi5-simulated")

    assert done.returncode == 0, done.stderr
    assert "model.onnx on pi5-simulated" in done.stdout
    assert "90% interval" in done.stdout
    assert "SIMULATED board: nothing of it was measured on hardware" in done.stdout
    assert "pointwise convolution" in done.stdout


def test_the_document_has_what_the_page_says(trained: CommandLine) -> None:
    done = trained.run("predict", "model.onnx", "-p", "pi5-simulated", "--level", "0.8", "--json", "-")

    document = json.loads(done.stdout)
    page = (Path(__file__).parents[2] / "docs" / "reference" / "predictions.md").read_text()
    for key in (*document, *document["operators"][0]):
        assert f"`{key}`" in page, key
    assert document["low_s"] < document["latency_s"] < document["high_s"]
    assert document["level"] == 0.8
    assert document["origin"] == "simulated"
    assert sum(len(one["nodes"]) for one in document["operators"]) > 10


def test_predictors_are_listed_shown_and_held_against_runs(trained: CommandLine) -> None:
    assert "pi5-simulated" in trained.run("predictors", "list").stdout
    shown = trained.run("predictors", "show", "pi5-simulated", "--json", "-")
    facts = json.loads(shown.stdout)
    assert facts["target"]["origin"] == "simulated"
    assert facts["provenance"]["own_cost"]["elapsed_s"] > 0
    assert trained.run("profile", "model.onnx", "-d", "pi5", "--operators", "--gate-timeout", "600").returncode == 0

    done = trained.run("predictors", "evaluate", "pi5-simulated", "--json", "-")

    found = json.loads(done.stdout)
    assert found["figures"]["n"] >= 1
    assert abs(found["rows"][0]["error"]) < 0.2


def test_a_training_goes_on_for_longer(trained: CommandLine) -> None:
    before = json.loads(trained.run("predictors", "show", "pi5-simulated", "--json", "-").stdout)
    done = trained.run("predictors", "train", "-d", "pi5", "--more", "2s")

    after = json.loads(trained.run("predictors", "show", "pi5-simulated", "--json", "-").stdout)
    assert done.returncode == 0, done.stderr
    assert after["provenance"]["n_models"] > before["provenance"]["n_models"]


# A training whose first fit comes early.
EARLY = """\
import sys
from edgeprof.cli import main
from edgeprof.training import loop
loop.FIRST_FIT = 6
main(sys.argv[2:])
"""


def test_a_training_that_is_killed_leaves_what_it_had_learned(trained: CommandLine) -> None:
    artefact = trained.folder / "edgeprof" / "predictors" / "killed.predictor"
    early = dataclasses.replace(trained, prefix=(sys.executable, "-c", EARLY))
    training = early.start("predictors", "train", "-d", "pi5", "--name", "killed", "--budget", "1h")
    try:
        wait_for(artefact.exists)
    finally:
        training.kill()
        training.communicate()

    done = trained.run("predict", "model.onnx", "-p", "killed")

    assert done.returncode == 0, done.stderr
    assert "by the predictor killed" in done.stdout


def test_a_predictor_that_cannot_be_written_yet_does_not_end_the_training(trained: CommandLine) -> None:
    blocked = trained.folder / "edgeprof" / "predictors" / "blocked.predictor"
    early = dataclasses.replace(trained, prefix=(sys.executable, "-c", EARLY))
    blocked.mkdir()
    training = early.start("predictors", "train", "-d", "pi5", "--name", "blocked", "--budget", "1h")
    try:
        assert training.stderr is not None
        assert any("cannot be written yet" in line for line in training.stderr)
        assert training.poll() is None
    finally:
        training.kill()
        training.communicate()
        blocked.rmdir()


def test_a_folder_that_cannot_keep_predictors_is_told_before_anything_is_measured(trained: CommandLine) -> None:
    elsewhere = dataclasses.replace(trained, environment={"EDGEPROF_PREDICTORS": str(trained.folder / "model.onnx")})

    done = elsewhere.run("predictors", "train", "-d", "pi5", "--budget", "1h")

    assert done.returncode == 1
    assert "predictors cannot be kept in" in done.stderr
    assert "set EDGEPROF_PREDICTORS" in done.stderr


def test_an_interrupted_training_is_told_from_none(trained: CommandLine) -> None:
    folder = trained.folder / "edgeprof" / "predictors"
    (folder / "halfway.training.sqlite").write_bytes(b"")
    try:
        done = trained.run("predict", "model.onnx", "-p", "halfway")
    finally:
        (folder / "halfway.training.sqlite").unlink()

    assert done.returncode == 1
    assert "its training was interrupted before it ended" in done.stderr
    assert "goes on where it was" in done.stderr


def test_a_training_that_is_refused_at_once_leaves_nothing_to_go_on_with(trained: CommandLine) -> None:
    done = trained.run("predictors", "train", "-d", "pi5", "--runtime", "onnxruntime", "--name", "no-such")

    assert done.returncode == 2
    assert "it has no onnxruntime" in done.stderr
    assert not list((trained.folder / "edgeprof" / "predictors").glob("no-such*"))


def test_without_runs_to_compare_it_says_how_to_make_one(trained: CommandLine, tmp_path: Path) -> None:
    with Store(str(tmp_path / "empty.sqlite")):
        pass

    done = trained.run("predictors", "evaluate", "pi5-simulated", "--store", str(tmp_path / "empty.sqlite"))

    assert done.returncode == 3
    assert "edgeprof profile MODEL -d DEVICE --operators makes one" in done.stdout


def test_ten_nets_adapt_it_to_another_device(trained: CommandLine) -> None:
    assert trained.run("devices", "add", "pi4", "sim:pi-4").returncode == 0
    done = trained.run("predictors", "adapt", "--from", "pi5-simulated", "-d", "pi4", "--samples", "5")
    assert done.returncode == 0, done.stderr
    assert "adapted with 5 whole nets" in done.stdout
    assert done.stderr.count("net-") == 5

    more = trained.run("predictors", "adapt", "--from", "pi5-simulated", "-d", "pi4", "--samples", "10")
    assert more.stderr.count("net-") == 5, "what was measured before is used again"
    assert "10 nets, each predicted from the others" in more.stdout
    facts = json.loads(trained.run("predictors", "show", "pi4-simulated", "--json", "-").stdout)
    assert facts["provenance"]["adapted_from"][0]["target"] == "pi5-simulated"
    assert "pi4-simulated" in trained.run("predictors", "list").stdout

    predicted = trained.run("predict", "model.onnx", "-p", "pi4-simulated", "--json", "-")
    document = json.loads(predicted.stdout)
    assert any("adapted from pi5" in note for note in document["notes"])
    assert trained.run("profile", "model.onnx", "-d", "pi4", "--operators", "--gate-timeout", "600").returncode == 0
    found = json.loads(trained.run("predictors", "evaluate", "pi4-simulated", "--json", "-").stdout)
    assert abs(found["rows"][0]["error"]) < 0.2
    again = trained.run("predictors", "adapt", "--from", "pi4-simulated", "-d", "pi5")
    assert again.returncode == 2
    assert "was itself adapted from others" in again.stderr


def test_an_adaptation_ends_when_it_is_good_enough(trained: CommandLine) -> None:
    command = (
        "predictors",
        "adapt",
        "--from",
        "pi5-simulated",
        "-d",
        "pi5",
        "--name",
        "again",
        "--target-error",
        "50%",
    )

    done = trained.run(*command, "--samples", "30")

    assert done.returncode == 0, done.stderr
    assert done.stderr.count("net-") < 10
    assert "by the predictor again" in trained.run("predict", "model.onnx", "-p", "again").stdout


def test_no_device_at_all(trained: CommandLine) -> None:
    done = trained.run("predict", "model.onnx", "--board", "raspberrypi-5")

    assert done.returncode == 0, done.stderr
    assert "DATA SHEET" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("predict", "model.onnx"), 2, "either -p NAME or --board BOARD"),
        (("predict", "model.onnx", "-p", "nobody"), 1, "there is no predictor nobody"),
        (("predict", "model.onnx", "-p", "pi5-simulatd"), 1, "did you mean pi5-simulated"),
        (("predict", "model.onnx", "-p", "."), 1, ". is a folder, and no predictor"),
        (("predict", "model.onnx", "-p", "gone.predictor"), 1, "gone.predictor is not there"),
        (("predict", "model.onnx", "-p", "pi5-simulated", "--level", "nan"), 2, "--level is not a number"),
        (("predict", "model.onnx", "-p", "pi5-simulated", "--json", ""), 1, "it is a directory"),
        (("predict", "model.onnx", "--board", "example"), 2, "nothing is published of example"),
        (("predict", "nothing.onnx", "-p", "pi5-simulated"), 1, "cannot be read"),
        (("predict", "garbage.onnx", "-p", "pi5-simulated"), 1, "is not an ONNX model"),
        (("predict", "model.onnx", "-p", "garbage.onnx"), 1, "is no predictor"),
        (("predict", "model.onnx", "nothing.onnx", "-p", "pi5-simulated"), 3, "cannot be read"),
        (
            ("predict", "model.onnx", "-p", "pi5-simulated", "--threads", "4"),
            2,
            "train -d pi5 --threads 4 --name pi5-simulated-4threads",
        ),
        (("predict", "model.onnx", "--board", "pi-6"), 2, "did you mean"),
        (("predict", "model.onnx", "--board", "pi-4", "--threads", "9"), 2, "9 threads are not predicted"),
        (("predict", "model.onnx", "-p", "pi5-simulated", "--shape", "image=7"), 1, "image"),
        (("predictors", "train", "-d", "pi5", "--budget", "soon"), 2, "is no duration"),
        (("predictors", "train", "-d", "pi5", "--target-error", "200%"), 2, "not between 0 and 100"),
        (("predictors", "train", "-d", "pi5", "--budget", "1s", "--more", "1s"), 2, "give one of them"),
        (("predictors", "train", "-d", "pi5", "--name", "../up"), 2, "cannot be a predictor's name"),
        (("predictors", "train", "-d", "nobody"), 1, "nobody"),
        (("predictors", "train", "-d", "pi5", "--seed", "9", "--budget", "9s"), 2, "and not with"),
        (("predictors", "adapt", "--from", "nobody", "-d", "pi5"), 1, "there is no predictor nobody"),
        (("predictors", "adapt", "--from", ",", "-d", "pi5"), 2, "--from names no predictor"),
        (("predictors", "adapt", "--from", "pi5-simulated", "-d", "pi5"), 2, "is better than an adapted one"),
        (
            ("predictors", "adapt", "--from", "pi5-simulated", "-d", "pi5", "--name", "n", "--runtime", "litert"),
            2,
            "litert does not run them",
        ),
        (("predictors", "adapt", "--from", "pi5-simulated", "-d", "pi5", "--runtime", "abacus"), 2, "is no runtime"),
        (("predictors", "show", "nobody"), 1, "there is no predictor nobody; there are: "),
    ],
)
def test_what_cannot_be_done_says_why_and_what_to_do(
    trained: CommandLine, arguments: tuple[str, ...], code: int, message: str
) -> None:
    (trained.folder / "garbage.onnx").write_bytes(b"\x00garbage" * 100)

    done = trained.run(*arguments)

    assert done.returncode == code, done.stdout + done.stderr
    assert message in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
