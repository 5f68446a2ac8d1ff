"""What edgeprof costs: the agent's size and memory, the command's start, and a warm profile over loopback SSH.

`warm_profile_extra_s` is the wall-clock time of a whole `edgeprof profile` command (model and agent already on the
device, median of several) minus the two passes as their workers measured them (runtime import, load, initialise,
warm-up, rounds with their gates, operator runs). Its parts are printed too. Outputs are not checked there;
`output_check_s` is what that adds: the reference's agent on this machine, its worker, and the comparison.

    python benchmarks/overhead.py [--out RAW.json] [--repeat 5]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from edgeprof.agent import Agent
from edgeprof.links.local import LocalLink
from edgeprof.models.example import write_example
from edgeprof.packing import pack_agent
from tests.integration.sshd import Sshd, why_not

EDGEPROF = str(Path(sys.executable).parent / "edgeprof")
PASSES = ("latency", "operators")
# The check begins when the rounds are over; how many there were does not matter to it.
SHORT = ("--rounds", "1", "--min-time", "0", "--gate-timeout", "0")


def agent_rss_bytes() -> int:
    """Resident memory of an agent that has said hello and waits; found by its archive's digest in /proc."""
    with LocalLink() as link, Agent(link, sys.executable, name="local") as agent:
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and _is_agent(folder, agent.hello.agent_digest):
                status = (folder / "status").read_text()
                return int(status.split("VmRSS:")[1].split()[0]) * 1024
    raise RuntimeError("the agent's process was not found")


def _is_agent(folder: Path, digest: str) -> bool:
    try:
        return digest.encode() in (folder / "cmdline").read_bytes()
    except OSError:
        return False


def help_s(repeat: int) -> list[float]:
    return [_timed([EDGEPROF, "--help"], dict(os.environ))[0] for _ in range(repeat)]


def _timed(command: list[str], environment: dict[str, str]) -> tuple[float, str]:
    begin = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    took = time.perf_counter() - begin
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    return took, done.stdout


def warm_profiles(repeat: int, folder: Path) -> tuple[list[dict[str, float]], list[float]]:
    """Parts of `repeat` warm profiles, and as many checks of outputs, in seconds; the first, cold one of each not."""
    write_example(folder / "example.onnx")
    with Sshd(folder / "sshd") as sshd:
        environment = {**os.environ, **sshd.client_environment(), "EDGEPROF_HOME": str(folder / "home")}
        add = ["devices", "add", "board", sshd.address, "--python", sys.executable]
        _timed([EDGEPROF, *add], environment)
        profile = ["profile", str(folder / "example.onnx"), "-d", "board", "--operators", "--json", "-"]
        parts, checks = [], []
        for _ in range(repeat + 1):
            parts.append(_parts(*_timed([EDGEPROF, *profile, "--no-check-outputs"], environment)))
            checks.append(_check_s(_timed([EDGEPROF, *profile, *SHORT], environment)[1]))
        return parts[1:], checks[1:]


def _check_s(output: str) -> float:
    raw: dict[str, Any] = json.loads(output)["raw"]
    if raw["output_check"] is None:
        raise RuntimeError(f"outputs were not checked: {raw['output_check_missing']}")
    return float(raw["stages_s"]["check outputs"])


def _parts(wall_s: float, output: str) -> dict[str, float]:
    raw: dict[str, Any] = json.loads(output)["raw"]
    host, device = raw["stages_s"], raw["profile"]["stages_s"]
    walls = {name: device[f"{name} pass"] for name in PASSES}
    inside = {
        name: sum(s for key, s in device.items() if key.startswith(name) and not key.endswith("pass"))
        for name in PASSES
    }
    parts = {
        "connect": host["connect"],
        "probe": host["probe"],
        "start agent": host["start agent"],
        "ask for model": host["push model"],
        "start workers": sum(walls[name] - inside[name] for name in PASSES),
        "protocol": host["profile"] - sum(walls.values()),
        "map operators": host["map operators"],
    }
    extra = wall_s - sum(inside.values())
    return {"extra": extra, **parts, "command, store, report": extra - sum(parts.values())}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    reason = why_not()
    if reason:
        print(json.dumps({"name": "overhead", "skipped": reason}))
        return
    helps = help_s(11)
    with tempfile.TemporaryDirectory() as folder:
        parts, checks = warm_profiles(options.repeat, Path(folder))
    middle = {name: statistics.median(p[name] for p in parts) for name in parts[0]}
    for name, seconds in middle.items():
        print(f"{name:24s} {seconds:7.3f} s")
    if options.out:
        options.out.write_text(
            json.dumps({"help_s": helps, "warm_profiles": parts, "output_checks_s": checks}, indent=1)
        )
    figures = {
        "agent_bytes": len(pack_agent().data),
        "agent_rss_bytes": agent_rss_bytes(),
        "help_s": round(statistics.median(helps), 4),
        "warm_profile_extra_s": round(middle["extra"], 4),
        "output_check_s": round(statistics.median(checks), 4),
    }
    print(json.dumps({"name": "overhead", "figures": figures}))


if __name__ == "__main__":
    main()
