"""The page about the gate and its workflow for GitHub: what they tell people to type is typed here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgeprof.models.example import write_example
from tests.integration.test_docs import ROOT, typed_lines

PAGE = ROOT / "docs" / "how-to" / "gate.md"
WORKFLOW = ROOT / "docs" / "examples" / "edgeprof-gate.yml"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A user's: a model, and the one that was released last, which is the same."""
    (tmp_path / "baseline").mkdir()
    write_example(tmp_path / "model.onnx")
    shutil.copy(tmp_path / "model.onnx", tmp_path / "baseline" / "model.onnx")
    return tmp_path


@pytest.fixture
def workflow() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text())
    return loaded


def typed(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """As a runner of GitHub does it: bash that stops at the first error."""
    environment = {
        **os.environ,
        "EDGEPROF_HOME": str(folder / "home"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DEVICE": "board",
        "GITHUB_STEP_SUMMARY": str(folder / "step-summary.md"),
    }
    return subprocess.run(
        ["bash", "-e", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_workflow_can_do_no_more_than_it_needs(workflow: dict[str, Any]) -> None:
    (job,) = workflow["jobs"].values()

    assert workflow["permissions"] == {"contents": "read"}
    assert job["timeout-minutes"] <= 60
    assert "head.repo.full_name == github.repository" in job["if"]
    for step in job["steps"]:
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+(\.\d+)*", step["uses"])


def test_the_steps_of_the_workflow_pass_an_unchanged_model_on_a_simulated_board(
    repository: Path, workflow: dict[str, Any]
) -> None:
    (job,) = workflow["jobs"].values()
    scripts = [step["run"] for step in job["steps"] if "run" in step]
    assert any("edgeprof check" in script for script in scripts)
    prepare = "edgeprof devices add board sim:example; edgeprof profile baseline/model.onnx -d board --json "
    assert typed(repository, prepare + "baseline/base.json").returncode == 0

    for script in scripts:
        done = typed(repository, script)
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"

    assert "edgeprof check: passed" in (repository / "step-summary.md").read_text()
    (upload,) = [s for s in job["steps"] if s.get("uses", "").startswith("actions/upload-artifact@")]
    for name in upload["with"]["path"].split():
        assert (repository / name).is_file()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_page_about_the_gate_can_be_followed(repository: Path) -> None:
    lines = typed_lines(PAGE)
    assert len(lines) == 2
    # A busy machine decides nothing within three percent: that a decision is made is what is tested, not which.
    quick = " --max-pairs 6 --block-time 0.05"

    first = typed(repository, lines[0] + " --gate-timeout 1")
    second = typed(repository, lines[1] + quick)

    assert first.returncode == 0, first.stderr
    assert second.returncode in (0, 4), second.stderr
    assert re.search(r"Regression +(PASSED|FAILED|INCONCLUSIVE)", second.stdout)
