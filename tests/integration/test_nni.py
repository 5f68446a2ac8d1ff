"""NNI both ways, in the environment of its own that `make nni` makes: its pins and ours do not all go together."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".cache" / "nni" / "bin" / "python"


@pytest.mark.timeout(600)
def test_spaces_of_nni_are_ours_and_its_strategies_drive_our_evaluation(tmp_path: Path) -> None:
    if not PYTHON.exists():
        pytest.skip("no environment of NNI: run `make nni`")
    done = subprocess.run(
        [PYTHON, "-W", "ignore", "-m", "tests.nni_both_ways", tmp_path],
        cwd=ROOT,
        env={**os.environ, "EDGEPROF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())

    for name, genes in (("MobileNetV3Space", 67), ("ShuffleNetSpace", 20), ("ProxylessNAS", 26), ("NasBench201", 6)):
        assert found[name]["genes"] == genes
        assert min(found[name]["operators"]) > 50
    assert found["hub searched by ours"] == 4
    assert found["files"] == ["model.onnx"]
    for strategy in ("nni-random", "nni-evolution", "nni-tpe"):
        assert found[strategy] == 8, "every candidate once"
