"""`edgeprof runs` as a person types it, over a real store in a folder of its own."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from device_agents.wire import Schedule
from edgeprof.cli import main
from edgeprof.reports.document import from_document
from edgeprof.run import Run
from edgeprof.store import DONE, Campaign, CampaignJob, Store
from tests.chrome_trace import check_trace
from tests.unit.run_factory import CREATED_AT_S, make_run

DAY_S = 86_400.0
PROGRAM = [sys.executable, "-c", "from edgeprof.cli import main; main()"]


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Typed = Callable[..., Done]


@pytest.fixture
def edgeprof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Typed:
    """Types a command line; the store is in a folder of this test."""
    monkeypatch.setenv("EDGEPROF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)

    def typed(*arguments: str) -> Done:
        with pytest.raises(SystemExit) as left:
            main(["runs", *arguments])
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err
        return Done(int(left.value.code or 0), captured.out, captured.err)

    return typed


@pytest.fixture
def three(tmp_path: Path) -> list[Run]:
    """Three runs in the store, one a day; the last is the newest and simulated."""
    runs = [
        make_run("20260101-one", seed=1),
        make_run("20260102-two", seed=2, created_at_s=CREATED_AT_S + DAY_S, with_operators=False),
        make_run("20260103-three", seed=3, created_at_s=CREATED_AT_S + 2 * DAY_S, device="sim-pi", origin="simulated"),
    ]
    with Store(tmp_path / "home" / "store.sqlite") as store:
        for run in runs:
            store.add(run)
    return runs


def ids(done: Done) -> list[str]:
    return [row["id"] for row in done.json]


# --- list, show ----------------------------------------------------------------------------------------------------


def test_list_shows_the_newest_first_with_median_verdict_and_origin(edgeprof: Typed, three: list[Run]) -> None:
    done = edgeprof("list")

    assert done.code == 0
    assert re.findall(r"^2026010\d-\w+", done.out, re.MULTILINE) == [run.id for run in reversed(three)]
    assert "1.50 ms" in done.out
    assert "trusted, simulated" in done.out


@pytest.mark.parametrize("width", ["60", "80", "120"])
def test_median_verdict_and_origin_are_readable_at_every_width(
    edgeprof: Typed, three: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: str
) -> None:
    run = make_run("20260104-few", created_at_s=CREATED_AT_S + 3 * DAY_S, origin="simulated", n_rounds=2)
    job = replace(run.profile.job, schedule=Schedule(rounds=2))
    run = replace(run, profile=replace(run.profile, job=job))
    with Store(tmp_path / "home" / "store.sqlite") as store:
        store.add(run)
    monkeypatch.setenv("COLUMNS", width)

    done = edgeprof("list")

    assert max(map(len, done.out.splitlines())) <= int(width)
    assert re.search(r"^20260104-few .* 1\.50 ms steady-unverified, simulated *$", done.out, re.MULTILINE)
    assert re.search(r"^20260101-one .* 1\.50 ms trusted *$", done.out, re.MULTILINE)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ('{"schema": 7}', "the run has schema 7, this edgeprof reads 1 to 1"),
        ('{"schema": 1}', "not a run"),
        ("garbage", "not a run"),
    ],
)
def test_a_run_that_cannot_be_read_is_listed_with_its_reason_among_the_others(
    edgeprof: Typed, three: list[Run], tmp_path: Path, document: str, reason: str
) -> None:
    with sqlite3.connect(tmp_path / "home" / "store.sqlite") as connection:
        connection.execute("UPDATE edgeprof_runs SET document = ? WHERE id = ?", (document, "20260102-two"))
    connection.close()

    text, machine = edgeprof("list"), edgeprof("list", "--json")

    assert (text.code, machine.code) == (0, 0)
    assert re.search(r"^20260102-two .*net\.onnx .* - unreadable", text.out, re.MULTILINE)
    assert f"unreadable: run 20260102-two: {reason}" in text.out
    assert "made 2026-01-02 00:00 UTC" in text.out
    assert ids(machine) == [run.id for run in reversed(three)]
    assert [bool(row["unreadable"]) for row in machine.json] == [False, True, False]
    assert reason in machine.json[1]["unreadable"]
    assert edgeprof("show", "latest").code == 0
    for command in (("show", "20260102-two"), ("export", "20260102-two", "--json", "-")):
        refused = edgeprof(*command)
        assert (refused.code, refused.out) == (1, "")
        assert reason in refused.err


def test_list_as_json_has_medians_in_seconds(edgeprof: Typed, three: list[Run]) -> None:
    done = edgeprof("list", "--json")

    assert ids(done) == [run.id for run in reversed(three)]
    assert done.json[0]["median_s"] == pytest.approx(1.5e-3, rel=0.01)
    assert done.json[0]["origin"] == "simulated"


def test_a_device_without_runs_is_told_with_those_that_have_some(edgeprof: Typed, three: list[Run]) -> None:
    done = edgeprof("list", "--device", "pi55")

    assert done.code == 0
    assert "no runs on 'pi55'; there are runs on 'pi5', 'sim-pi'" in done.err
    assert edgeprof("list", "--device", "pi5").err == ""


def test_list_shows_the_runs_of_a_campaign(edgeprof: Typed, three: list[Run], tmp_path: Path) -> None:
    with Store(tmp_path / "home" / "store.sqlite") as store:
        job = CampaignJob(number=0, device="pi5", label="net", state=DONE, attempt=1, run_id=three[1].id)
        store.new_campaign(Campaign(id="20260101-c", name="night", created_at_s=1.0, plan="{}"), [job])

    for reference in ("20260101-c", "2026", "night", "latest"):
        assert ids(edgeprof("list", "--json", "--campaign", reference)) == [three[1].id]
    missing = edgeprof("list", "--campaign", "nigth")
    assert (missing.code, "there is: night" in missing.err) == (1, True)


def test_the_option_names_another_store(edgeprof: Typed, three: list[Run], tmp_path: Path) -> None:
    exported = edgeprof("export", three[0].id, "--json", "run.json")
    imported = edgeprof("import", "run.json", "--store", "other.sqlite")

    assert (exported.code, imported.code) == (0, 0)
    assert ids(edgeprof("list", "--json", "--store", f"sqlite:///{tmp_path}/other.sqlite")) == [three[0].id]
    for command in (("show", "latest"), ("compare", "latest", "latest"), ("why", "latest", "latest")):
        assert edgeprof(*command, "--store", "other.sqlite").code == 0
    assert edgeprof("prune", three[0].id, "--yes", "--store", "other.sqlite").code == 0
    assert len(ids(edgeprof("list", "--json"))) == 3


def test_the_environment_names_another_store(
    edgeprof: Typed, three: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EDGEPROF_STORE", "~/other.sqlite")

    mistyped = edgeprof("list", "--json")
    assert not (tmp_path / "other.sqlite").exists(), "who only reads makes no store"
    with Store(tmp_path / "other.sqlite"):
        pass
    found = edgeprof("list", "--json")

    assert mistyped.code == 1
    assert f"there is no store at {tmp_path / 'other.sqlite'}" in mistyped.err
    assert ids(found) == []


def test_list_can_be_narrowed(edgeprof: Typed, three: list[Run]) -> None:
    assert ids(edgeprof("list", "--json", "--device", "sim-pi")) == ["20260103-three"]
    assert ids(edgeprof("list", "--json", "--limit", "1")) == ["20260103-three"]
    assert ids(edgeprof("list", "--json", "--model", "other.onnx")) == []
    assert len(ids(edgeprof("list", "--json", "--model", three[0].profile.job.model.digest[:8]))) == 3
    assert "and 2 older" in edgeprof("list", "--limit", "1").out


def test_an_empty_store_lists_nothing_and_says_so(edgeprof: Typed) -> None:
    assert edgeprof("list").out == "no runs\n"
    assert edgeprof("list", "--json").json == []


def test_show_prints_the_page_of_a_run(edgeprof: Typed, three: list[Run]) -> None:
    done = edgeprof("show", "20260101", "--top", "1")

    assert done.code == 0
    assert "1 of 6 kernels shown" in done.out
    assert "MEASURED" in done.out


def test_show_as_json_is_the_document(edgeprof: Typed, three: list[Run]) -> None:
    done = edgeprof("show", "latest", "--json")

    assert from_document(done.json) == three[2]
    assert len(done.json["operators"]) == 6


@pytest.mark.parametrize("reference", ["nothing", "2026", ""])
def test_a_reference_that_means_no_run_or_several_is_an_error_with_advice(
    edgeprof: Typed, three: list[Run], reference: str
) -> None:
    done = edgeprof("show", reference)

    assert done.code == 1
    assert "what to do" in done.err
    assert done.out == ""


# --- export, import ------------------------------------------------------------------------------------------------


def test_what_is_exported_can_be_imported_elsewhere_without_loss(
    edgeprof: Typed, three: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert edgeprof("export", *(run.id for run in three), "--json", "runs.json").code == 0
    monkeypatch.setenv("EDGEPROF_HOME", str(tmp_path / "elsewhere"))

    first, again = edgeprof("import", "runs.json"), edgeprof("import", "runs.json")

    assert first.out.count("imported") == 3
    assert again.out == "3 here already\n"
    with Store(tmp_path / "elsewhere" / "store.sqlite") as store:
        assert [store.get(run.id) for run in three] == three


def test_one_export_can_write_every_format(edgeprof: Typed, three: list[Run], tmp_path: Path) -> None:
    done = edgeprof("export", "20260101", "--json", "r.json", "--csv", "r.csv", "--trace", "t.json")

    assert done.code == 0
    assert from_document((tmp_path / "r.json").read_text()) == three[0]
    assert len(list(csv.DictReader(io.StringIO((tmp_path / "r.csv").read_text())))) == 6
    check_trace(json.loads((tmp_path / "t.json").read_text()))
    assert {path.name for path in tmp_path.iterdir()} == {"home", "r.json", "r.csv", "t.json"}


def test_a_dash_is_standard_output(edgeprof: Typed, three: list[Run]) -> None:
    samples = edgeprof("export", "latest", "--csv", "-", "--samples")
    trace = edgeprof("export", "latest", "--trace", "-")

    assert len(samples.out.splitlines()) == 1 + 200
    check_trace(trace.json)


@pytest.mark.parametrize(
    "arguments",
    [
        ("latest",),
        ("latest", "--samples", "--json", "a"),
        ("latest", "--json", "a", "--csv", "a"),
        ("--json", "a"),
        ("latest", "--nonsense"),
    ],
)
def test_an_export_that_makes_no_sense_is_a_usage_error(
    edgeprof: Typed, three: list[Run], tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = edgeprof("export", *arguments)

    assert done.code == 2
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("option", ["--trace", "--csv"])
def test_operators_of_a_run_that_has_none_are_an_error_and_no_file_at_all(
    edgeprof: Typed, three: list[Run], tmp_path: Path, option: str
) -> None:
    done = edgeprof("export", "20260102", "--json", "a.json", option, "b")

    assert done.code == 1
    assert "--operators" in done.err
    assert {path.name for path in tmp_path.iterdir()} == {"home"}


def test_samples_of_a_run_without_operators_are_written(edgeprof: Typed, three: list[Run]) -> None:
    done = edgeprof("export", "20260102", "--csv", "-", "--samples")

    assert done.code == 0
    assert len(done.out.splitlines()) == 1 + 200


def test_a_file_that_cannot_be_written_is_an_error_and_the_old_one_stays(
    edgeprof: Typed, three: list[Run], tmp_path: Path
) -> None:
    missing_folder = edgeprof("export", "latest", "--json", "nowhere/run.json")
    folder = edgeprof("export", "latest", "--json", str(tmp_path))

    assert (missing_folder.code, folder.code) == (1, 1)
    assert "nowhere/run.json: cannot be written" in missing_folder.err
    assert {path.name for path in tmp_path.iterdir()} == {"home"}


def test_a_link_is_written_through(edgeprof: Typed, three: list[Run], tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")

    edgeprof("export", "latest", "--json", "link.json")

    assert (tmp_path / "link.json").is_symlink()
    assert from_document((tmp_path / "real.json").read_text()) == three[2]


@pytest.mark.parametrize("content", ["", "{}", "[]x", "not json", '{"schema": 99}', "\x00\xff"])
def test_a_file_that_is_no_run_is_refused_by_name(edgeprof: Typed, tmp_path: Path, content: str) -> None:
    (tmp_path / "bad.json").write_text(content)

    done = edgeprof("import", "bad.json")

    assert done.code == 1
    assert "bad.json" in done.err
    assert edgeprof("list", "--json").json == []


def test_one_bad_file_among_good_ones_imports_nothing(edgeprof: Typed, three: list[Run], tmp_path: Path) -> None:
    edgeprof("export", "20260101", "--json", "good.json")
    edgeprof("prune", "20260101", "--yes")
    (tmp_path / "bad.json").write_text("{")

    done = edgeprof("import", "good.json", "bad.json")

    assert done.code == 1
    assert "20260101-one" not in ids(edgeprof("list", "--json"))


def test_a_missing_file_is_an_error(edgeprof: Typed) -> None:
    done = edgeprof("import", "absent.json")

    assert done.code == 1
    assert "absent.json: cannot be read: No such file" in done.err


# --- prune ---------------------------------------------------------------------------------------------------------


def test_prune_removes_what_is_named(edgeprof: Typed, three: list[Run]) -> None:
    done = edgeprof("prune", "20260101", "20260102", "--yes")

    assert done.out == "removed 2 runs\n"
    assert ids(edgeprof("list", "--json")) == ["20260103-three"]


def test_prune_keeps_the_newest(edgeprof: Typed, three: list[Run]) -> None:
    done = edgeprof("prune", "--keep", "2", "--yes")

    assert done.out == "removed 1 run\n"
    assert ids(edgeprof("list", "--json")) == ["20260103-three", "20260102-two"]
    assert edgeprof("prune", "--keep", "2", "--yes").out == "nothing to remove\n"


def test_prune_removes_what_is_older_than_a_day(edgeprof: Typed, three: list[Run]) -> None:
    edgeprof("prune", "--before", "2026-01-02", "--yes")

    assert ids(edgeprof("list", "--json")) == ["20260103-three", "20260102-two"]


def test_prune_without_a_terminal_and_without_yes_removes_nothing(edgeprof: Typed, three: list[Run]) -> None:
    done = edgeprof("prune", "--keep", "0")

    assert done.code == 2
    assert "--yes" in done.err
    assert len(ids(edgeprof("list", "--json"))) == 3


@pytest.mark.parametrize("arguments", [(), ("20260101", "--keep", "1"), ("--keep", "1", "--before", "2026-01-01")])
def test_prune_wants_one_way_of_choosing(edgeprof: Typed, three: list[Run], arguments: tuple[str, ...]) -> None:
    done = edgeprof("prune", *arguments, "--yes")

    assert done.code == 2
    assert len(ids(edgeprof("list", "--json"))) == 3


@pytest.mark.parametrize(("answer", "n_left"), [("y", 1), ("n", 3)])
def test_prune_asks_on_a_terminal(tmp_path: Path, three: list[Run], answer: str, n_left: int) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "EDGEPROF_HOME": str(tmp_path / "home")}
    os.write(ours, f"{answer}\n".encode())

    done = subprocess.run(
        [*PROGRAM, "runs", "prune", "--keep", "1"],
        stdin=theirs,
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
        check=False,
    )

    os.close(ours)
    os.close(theirs)
    assert "Remove 2 runs for good?" in done.stdout
    with Store(tmp_path / "home" / "store.sqlite") as store:
        assert len(store.list()) == n_left


# --- compare, why --------------------------------------------------------------------------------------------------


def test_compare_tells_ratio_interval_test_and_resolution(edgeprof: Typed, three: list[Run]) -> None:
    done = edgeprof("compare", "20260101", "20260103")

    assert done.code == 0
    for wanted in ("Ratio B / A", "95% interval", "Mann-Whitney", "would have shown", "origins differ"):
        assert wanted in done.out


def test_compare_takes_files_and_opens_no_store_for_them(edgeprof: Typed, three: list[Run], tmp_path: Path) -> None:
    edgeprof("export", "20260101", "--json", "a.json")
    edgeprof("export", "20260102", "--json", "b.json")
    (tmp_path / "home" / "store.sqlite").unlink()

    done = edgeprof("compare", "a.json", "b.json", "--json")

    assert done.json["a"] == "20260101-one"
    assert done.json["comparison"]["ratio"] == pytest.approx(1.0, abs=0.01)
    assert not (tmp_path / "home" / "store.sqlite").exists()


def test_compare_wants_one_run_in_a_file(edgeprof: Typed, three: list[Run]) -> None:
    edgeprof("export", "20260101", "20260102", "--json", "two.json")

    done = edgeprof("compare", "two.json", "latest")

    assert done.code == 2
    assert "holds 2 runs" in done.err


def test_why_ranks_what_differs(edgeprof: Typed, three: list[Run]) -> None:
    text, machine = edgeprof("why", "20260101", "20260103"), edgeprof("why", "20260101", "20260103", "--json")

    assert "simulated" in text.out
    assert machine.json["differences"][0]["rank"] == 1
    assert "nothing that was recorded differs" in edgeprof("why", "latest", "latest").out


# --- trouble -------------------------------------------------------------------------------------------------------


def test_a_store_that_is_no_store_is_an_error_without_a_traceback(edgeprof: Typed, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "store.sqlite").write_text("shopping list\n" * 100)

    done = edgeprof("list")

    assert done.code == 1
    assert "not a SQLite database" in done.err
    assert "what to do: move the file away, or set EDGEPROF_HOME to another folder" in done.err


@pytest.mark.parametrize("command", ["list", "show", "export", "import", "prune", "compare", "why"])
def test_every_command_has_help_with_an_example(edgeprof: Typed, command: str) -> None:
    done = edgeprof(command, "--help")

    assert done.code == 0
    assert f"edgeprof runs {command}" in done.out


def test_the_help_needs_neither_database_nor_terminal_library() -> None:
    script = (
        "import sys\nfrom edgeprof.cli import main\n"
        "try: main(['runs', '--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'sqlalchemy', 'rich', 'numpy', 'msgspec', 'paramiko'} & set(sys.modules)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True
    )

    assert done.stdout.splitlines()[-1] == "[]"
