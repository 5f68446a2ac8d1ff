"""What the link costs a measurement: the same job with the host attached over loopback SSH, and with the link closed.

The job keeps every CPU busy, so that sshd and the agent can only run at the model's expense. `attached_over_quiet` is
the ratio of the latencies' medians, paired and alternating, with the attached host's usual heartbeat;
`chatty_over_quiet` with one every 0.1 s, to show what it would be if the link talked much more. Beside each stand
its lowest and highest pair: what lies inside them is not more than this machine's own noise.

    python benchmarks/quiet.py [--out RAW.json] [--pairs 4]
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import sys
import tempfile
import threading
from pathlib import Path

import msgspec

from device_agents import wire
from edgeprof.deadlines import Deadlines
from edgeprof.models import read_model
from edgeprof.models.example import write_example
from edgeprof.profiling import Measure, OpenDevice, Settings, attached
from edgeprof.spooled import Patience, Spooled
from edgeprof.statistics import summarise
from tests.integration.sshd import Sshd, why_not

SETTINGS = Settings(
    options=wire.RuntimeOptions(threads=os.cpu_count() or 1),
    # Long enough that closing the link is worth it: see SHORTEST_SILENCE_S.
    schedule=wire.Schedule(rounds=4, min_s=3.0),
    gate=wire.Gate(timeout_s=0.0),
    check_outputs=False,
)
CHATTY_S = 0.1


def quiet() -> Spooled:
    patience = Patience(60.0, threading.Event().wait)
    return Spooled(f"quiet.{secrets.token_hex(4)}", "benchmark", 0.0, patience, quiet=True)


def median_s(sshd: Sshd, model: Path, way: Measure, heartbeat_s: float) -> float:
    device = msgspec.structs.replace(sshd.device(), python=sys.executable)
    with OpenDevice(device, link=sshd.link(), deadlines=Deadlines(heartbeat_s=heartbeat_s), measure=way) as opened:
        run = opened.profile(read_model(model), SETTINGS)
        if isinstance(way, Spooled):
            for ticket in way.tickets:
                opened.any_agent().discard(ticket)
    return summarise(run.profile).median_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--pairs", type=int, default=4)
    options = parser.parse_args()
    reason = why_not()
    if reason:
        print(json.dumps({"name": "quiet", "skipped": reason}))
        return
    rows = []
    with tempfile.TemporaryDirectory() as name, Sshd(Path(name) / "sshd") as sshd:
        model = Path(name) / "example.onnx"
        write_example(model)
        for _ in range(options.pairs):
            rows.append(
                {
                    "quiet_s": median_s(sshd, model, quiet(), 5.0),
                    "attached_s": median_s(sshd, model, attached, 5.0),
                    "chatty_s": median_s(sshd, model, attached, CHATTY_S),
                }
            )
            print(json.dumps(rows[-1]), file=sys.stderr)
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1))
    figures = {}
    for way in ("attached", "chatty"):
        ratios = sorted(row[f"{way}_s"] / row["quiet_s"] for row in rows)
        figures[f"{way}_over_quiet"] = round(statistics.median(ratios), 4)
        figures[f"{way}_over_quiet_lowest"] = round(ratios[0], 4)
        figures[f"{way}_over_quiet_highest"] = round(ratios[-1], 4)
    print(json.dumps({"name": "quiet", "figures": figures}))


if __name__ == "__main__":
    main()
