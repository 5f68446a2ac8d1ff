"""A real run of this machine goes to a stranger and comes back into another store, by the command line."""

from __future__ import annotations

import getpass
import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from edgeprof.models.example import write_example
from tests.integration.command_line import CommandLine

ROOT = Path(__file__).parents[2]
QUICK = ("--rounds", "1", "--min-runs", "3", "--min-time", "0", "--gate-timeout", "0", "--operator-runs", "2")


@pytest.fixture
def shared(tmp_path: Path) -> CommandLine:
    """A command line in a folder with a bundle of a run of this machine, operators and all."""
    edgeprof = CommandLine(tmp_path)
    write_example(tmp_path / "model.onnx")
    edgeprof.run("devices", "add", "box-of-zoe", "ssh://zoe@zoes-box.example.org")
    profiled = edgeprof.run("profile", "model.onnx", "--operators", *QUICK)
    assert profiled.returncode == 0, profiled.stderr
    exported = edgeprof.run("runs", "export", "latest", "--share", "bundle.json")
    assert exported.returncode == 0, exported.stderr
    return edgeprof


def test_a_real_run_is_shared_without_its_maker_and_kept_by_a_stranger(shared: CommandLine) -> None:
    text = (shared.folder / "bundle.json").read_text()
    assert str(shared.folder) not in text
    names = {socket.gethostname(), getpass.getuser(), "zoe", "zoes-box"} - {"root", "localhost"}
    for name in names:
        assert not re.search(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", text), name
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "reference" / "bundle.md").read_text(), re.DOTALL)
    subprocess.run([sys.executable, "-c", block], cwd=shared.folder, check=True)
    stranger = CommandLine(shared.folder / "stranger")
    stranger.folder.mkdir()

    looked_at = stranger.run("runs", "show", "../bundle.json")
    imported = [stranger.run("runs", "import", "../bundle.json") for _ in range(2)]

    assert looked_at.returncode == 0, looked_at.stderr
    assert [done.returncode for done in imported] == [0, 0]
    assert imported[0].stdout.startswith("imported shared-")
    assert imported[1].stdout == "1 here already\n"
    mine, theirs = (json.loads(side.run("runs", "show", "latest", "--json").stdout) for side in (shared, stranger))
    assert theirs["device"].startswith("shared-")
    assert theirs["latency"] == mine["latency"]
    assert [row["nodes"] for row in theirs["operators"]] == [row["nodes"] for row in mine["operators"]]
    assert theirs["model"]["digest"] == mine["model"]["digest"]


def test_a_bundle_that_was_changed_on_the_way_is_refused_and_nothing_is_kept(shared: CommandLine) -> None:
    path = shared.folder / "bundle.json"
    path.write_text(path.read_text().replace('"threads": 1', '"threads": 4', 1))

    done = shared.run("runs", "import", "bundle.json", "--store", "other.sqlite")

    assert done.returncode == 1
    assert "bundle.json: runs[0]: digest: the run is not what was shared" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (shared.folder / "other.sqlite").exists()


def test_a_bundle_needs_a_file(shared: CommandLine) -> None:
    done = shared.run("runs", "export", "latest")

    assert done.returncode == 2
    assert "--share FILE" in done.stderr
