"""The built wheel, installed alone in a fresh environment, profiles: the agent is packed from what is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeprof.packing import pack_agent

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_wheel_alone_profiles_a_model(tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path / "dist", ROOT, cwd=tmp_path)
    (wheel,) = (tmp_path / "dist").glob("edgeprof-*.whl")
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    quiet = ("--quiet", "--disable-pip-version-check")
    run(python, "-m", "pip", "install", *quiet, "-c", ROOT / "constraints.txt", wheel, cwd=tmp_path)
    homes = {"EDGEPROF_HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": ""}
    edgeprof = tmp_path / "venv" / "bin" / "edgeprof"

    make = "from pathlib import Path; from edgeprof.models.example import write_example as w; w(Path('m.onnx'))"
    run(python, "-c", make, cwd=tmp_path)
    output = run(
        edgeprof, "profile", "m.onnx", "--operators", "--rounds", "1", "--min-time", "0.1", "--gate-timeout", "0",
        "--json", "-", cwd=tmp_path, **homes,
    )  # fmt: skip
    run(edgeprof, "devices", "add", "toy", "sim:example", cwd=tmp_path, **homes)
    run(edgeprof, "profile", "m.onnx", "-d", "toy", "--json", "toy.json", cwd=tmp_path, **homes)

    carbon = run(edgeprof, "carbon", "toy.json", "--zone", "FR", "--json", "-", cwd=tmp_path, **homes)

    document = json.loads(output)
    assert document["raw"]["profile"]["agent_digest"] == pack_agent().digest
    assert document["operators"]
    assert json.loads((tmp_path / "toy.json").read_text())["origin"] == "simulated"
    assert "Our World in Data" in json.loads(carbon)["statements"][0]["attributions"][0]
