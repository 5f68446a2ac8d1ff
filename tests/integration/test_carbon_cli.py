"""`edgeprof carbon` as a person types it, over a real store in a folder of its own."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edgeprof.models.example import write_example
from edgeprof.reports.document import write_documents
from edgeprof.store import Store
from tests.integration.command_line import CommandLine
from tests.unit.run_factory import make_run


@pytest.fixture
def line(tmp_path: Path) -> CommandLine:
    """A store with two runs, the second the newer."""
    place = tmp_path / "edgeprof" / "runs.sqlite"
    found = CommandLine(tmp_path, {"EDGEPROF_STORE": str(place)})
    place.parent.mkdir()
    with Store(str(place)) as store:
        store.add(make_run("20260101-old"))
        store.add(make_run("20260102-new"))
    (tmp_path / "run.json").write_bytes(
        text if isinstance(text := write_documents([make_run("20260103-file")]), bytes) else text.encode()
    )
    return found


def test_grams_of_a_run_are_printed_with_all_that_went_into_them(line: CommandLine) -> None:
    done = line.run("carbon", "20260101-old", "--zone", "FR", "--rate", "10/s", "--json", "carbon.json")

    assert done.returncode == 0, done.stderr
    assert "sum per inference" in done.stdout
    assert "Our World in Data" in done.stdout
    assert "modelled" in done.stdout
    (statement,) = json.loads((line.folder / "carbon.json").read_text())["statements"]
    assert statement["run"] == "20260101-old"
    assert statement["rate_hz"] == 10.0


def test_a_run_may_be_a_file_and_json_goes_to_standard_output_alone(line: CommandLine) -> None:
    done = line.run("carbon", "run.json", "--intensity", "56 g/kWh", "--json", "-")

    (statement,) = json.loads(done.stdout)["statements"]
    assert statement["run"] == "20260103-file"
    assert statement["attributions"] == []


def test_two_runs_are_set_against_each_other(line: CommandLine) -> None:
    done = line.run(
        "carbon", "20260101-old", "--compare", "20260102-new", "--rate", "10/s", "--embodied", "20 kg",
        "--embodied", "10 kg", "--json", "both.json",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "keep or buy" in done.stdout
    document = json.loads((line.folder / "both.json").read_text())
    totals = [
        next(one["value"] for one in statement["inputs"] if one["name"] == "embodied emissions")
        for statement in document["statements"]
    ]
    assert totals == [20_000.0, 10_000.0]
    assert document["break_even"]["years"] is None  # the same board saves nothing
    assert document["break_even"]["words"].startswith("never")


def test_a_model_that_was_never_measured_is_an_error_that_says_how_to_measure_it(line: CommandLine) -> None:
    write_example(line.folder / "model.onnx")

    done = line.run("carbon", "model.onnx")

    assert done.returncode == 1
    assert "was never profiled here" in done.stderr
    assert "edgeprof profile model.onnx" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "RUN is missing"),
        (["latest", "--zone", "Germnay"], 1, "DEU (Germany)"),
        (["latest", "--zone", "FR", "--intensity", "56 g/kWh"], 2, "given twice"),
        (["latest", "--rate", "often"], 2, "is no rate"),
        (["latest", "--rate", "1e9/s"], 2, "can do"),
        (["latest", "--psu-w", "90"], 2, "from 1 to 49 W"),
        (["latest", "--device", "Pixel 7", "--device", "Pixel 6"], 2, "was given 2 times"),
        (["latest", "--device", "toaster"], 1, "no published figure"),
        (["latest", "--compare", "20260101-old"], 2, "--rate 10/s"),
        (["20269999"], 1, "20269999"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_to_do(
    line: CommandLine, arguments: list[str], code: int, said: str
) -> None:
    done = line.run("carbon", *arguments, "--json", "never.json")

    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stderr
    assert "what to do" in done.stderr
    assert "Traceback" not in done.stderr
    assert not os.path.exists(line.folder / "never.json")


def test_zones_and_devices_are_listed(line: CommandLine) -> None:
    done = line.run("carbon", "--list-zones", "--list-devices")

    assert done.returncode == 0
    assert "US-CA" in done.stdout
    assert "Fairphone 4" in done.stdout
