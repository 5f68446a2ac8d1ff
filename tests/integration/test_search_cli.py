"""`search` as a person types it: from a plan to verified files."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edgeprof.search.learning.data import read_data
from edgeprof.store import Store
from tests.integration.command_line import CommandLine

pytestmark = pytest.mark.slow
if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed: run `make torch`", allow_module_level=True)

PLAN = """
objectives = ["error", "latency"]
[search]
evaluations = 8
seed = 2
threads = 1
[limits]
size_bytes = 20000.0
[space]
input = [8, 8, 1]
layers = [
  { conv = [4, 8, 16], kernel = [1, 3], stride = 2, activation = "relu" },
  { conv = [4, 8, 16], kernel = [1, 3], activation = "relu" },
  { global_average = true },
  { dense = 4 },
]
[data]
source = "patterns.npz"
[accuracy]
by = "training"
epochs = 4
batch = 32
[[targets]]
board = "raspberrypi-5"
device = "pi5"
"""


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A home with a simulated board, a plan and its data."""
    folder = tmp_path_factory.mktemp("search")
    line = CommandLine(folder)
    assert line.run("devices", "add", "pi5", "sim:pi-5").returncode == 0
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 300)
    row, column = np.indices((8, 8)) % 2
    patterns = np.stack([row, column, row ^ column, np.zeros((8, 8))])
    x = (0.5 * rng.normal(size=(300, 1, 8, 8)) + 2.0 * patterns[y][:, None]).astype(np.float32)
    np.savez(folder / "patterns.npz", x=x, y=y)
    (folder / "search.toml").write_text(PLAN)
    return line


@pytest.fixture(scope="module")
def study(typed: CommandLine) -> Path:
    done = typed.run("search", "run", "search.toml", "--json", "found.json")
    assert done.returncode == 0, done.stderr
    assert "ended: all evaluations are done" in done.stderr
    assert "verified" in done.stdout
    assert "SIMULATED" in done.stdout
    assert "g CO2e" in done.stdout
    return typed.folder / "search.study"


def test_what_was_found_is_a_document(typed: CommandLine, study: Path) -> None:
    found = json.loads((typed.folder / "found.json").read_text())

    # What it took is more in the study by now if another test resumed it.
    assert found["front"] == json.loads((study / "front.json").read_text())["front"]
    assert found["n_evaluated"] == 8
    assert found["limits"] == {"size": 20000.0}
    assert any(one["on_front"] for one in found["front"])
    for one in found["front"]:
        assert one["verified"]["latency"]["origin"] == "simulated"
        assert one["predicted"]["latency"]["origin"] == "predicted, data-sheet"
        assert one["verified"]["size"]["value"] <= 20000
        assert 0 < one["test_accuracy"] <= 1
    assert found["grams"]["low"] < found["grams"]["nominal"] < found["grams"]["high"]


def test_each_member_has_files_that_agree_a_card_and_its_runs(typed: CommandLine, study: Path) -> None:
    found = json.loads((study / "front.json").read_text())
    with Store(str(study / "runs.sqlite")) as store:
        kept = {one.id for one in store.list()}

    for one in found["front"]:
        folder = study / "front" / f"{one['number']:02d}"
        assert set(one["files"]) == {"model.onnx", "model.tflite", "weights.npz"}
        assert all((folder / name).stat().st_size > 100 for name in one["files"])
        assert sum("outputs of model" in note for note in one["notes"]) == 2
        assert one["runs"]["pi5"] in kept
        card = (folder / "card.md").read_text()
        assert "accuracy on" in card
        assert "never seen" in card
        assert "simulated" in card
        assert "1. Take the numbers as they are in the file" in card
        assert "2. Subtract [" in card
        assert "model.onnx takes [1, 1, 8, 8], model.tflite [1, 8, 8, 1] (channels last)" in card
        assert "0 is 0, 1 is 1, 2 is 2, 3 is 3." in card
    assert (study / "front.png").read_bytes()[:4] == b"\x89PNG"


def test_a_file_of_the_front_runs(typed: CommandLine, study: Path) -> None:
    done = typed.run("profile", str(study / "front" / "01" / "model.onnx"), "--rounds", "1", "--min-time", "0.01")

    assert done.returncode == 0, done.stderr


def test_what_a_card_says_is_done_to_samples_gives_the_accuracy_that_it_claims(typed: CommandLine, study: Path) -> None:
    """As a stranger would: numpy and onnxruntime, the steps of the card, and nothing of edgeprof but the split."""
    data = read_data(str(typed.folder / "patterns.npz"), seed=0)
    with np.load(typed.folder / "patterns.npz") as stored:
        raw = stored["x"]
    for one in json.loads((study / "front.json").read_text())["front"]:
        folder = study / "front" / f"{one['number']:02d}"
        said = re.search(r"Subtract \[([^]]+)\] and divide by \[([^]]+)\]", (folder / "card.md").read_text())
        assert said is not None
        mean, sd = float(said[1]), float(said[2])
        session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        samples = data.test.x
        right = [
            int(session.run(None, {name: sample[None]})[0].argmax()) == label
            for sample, label in zip(samples, data.test.y, strict=True)
        ]
        assert np.mean(right) == pytest.approx(one["test_accuracy"])
        scaled = (raw - mean) / sd
        assert min(np.abs(scaled - samples[0]).max(axis=(1, 2, 3))) < 1e-4, "the steps give what the net was judged on"


def test_what_is_found_before_it_is_verified_is_a_document_too(typed: CommandLine) -> None:
    done = typed.run(
        "search", "run", "search.toml", "--out", "quick.study", "--evaluations", "2", "--no-verify", "--json", "-"
    )

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["n_done"] == 2
    assert found["front"]


def test_show_resume_and_run_again(typed: CommandLine, study: Path) -> None:
    shown = typed.run("search", "show", "search.study")
    assert "8 evaluated" in shown.stdout

    again = typed.run("search", "run", "search.toml")
    assert again.returncode == 1
    assert "has a search already" in again.stderr
    assert "edgeprof search resume" in again.stderr

    before = json.loads((study / "front.json").read_text())
    resumed = typed.run("search", "resume", "search.study")
    assert resumed.returncode == 0, resumed.stderr
    after = json.loads((study / "front.json").read_text())
    assert after["front"] == before["front"], "what was verified is not done again"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("size_bytes = 20000.0", "latency_s = 1e-9", "architectures keeps the limits"),
        ('source = "patterns.npz"', 'source = "none.npz"', "it is not there"),
        ('device = "pi5"', 'device = "pi6"', "no device named 'pi6'"),
        ("input = [8, 8, 1]", "input = [8, 8, 3]", "samples have the shape [1, 8, 8]"),
        ("{ dense = 4 }", "{ dense = 5 }", "tell 5 classes apart, and patterns has 4"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_half_done(
    typed: CommandLine, old: str, new: str, message: str, tmp_path: Path
) -> None:
    assert old in PLAN
    (typed.folder / "wrong.toml").write_text(PLAN.replace(old, new))

    done = typed.run("search", "run", "wrong.toml", "--out", str(tmp_path / "wrong"))

    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "what to do" in done.stderr
    assert "Traceback" not in done.stderr
    if "keeps the limits" not in message:
        assert not (tmp_path / "wrong").exists()
