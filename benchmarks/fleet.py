"""A campaign over many devices at once: loopback SSH logins that simulate a board, so that the host is measured.

`jobs_per_s_N` is how many jobs N devices got done and stored in a second, the command's own start included;
`cpu_s_per_job` is the controller's CPU time per job at the largest N (its devices run on the same machine and share its
CPUs), `rss_bytes_64` its largest resident memory with 64 devices; `slowest_over_median_device` is the time of the last
device to finish over that of the median, at the largest N: 1 means that none waited for another.

    python benchmarks/fleet.py [--out RAW.json] [--sizes 8,16,32,64] [--jobs 3]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from edgeprof.models.example import write_example
from edgeprof.store import Store
from tests.integration.sshd import Sshd, why_not

EDGEPROF = str(Path(sys.executable).parent / "edgeprof")
# Logins come all at once, which OpenSSH's defaults take for an attack.
MANY_LOGINS = ("MaxStartups 500:30:500", "MaxSessions 100")
DEVICE = """
[devices.d{k}]
address = "{address}"
python = "{python}"
simulate = "example"
groups = ["fleet{size}"]
"""
PLAN = """
models = ["example.onnx"]
groups = ["fleet{size}"]
repetitions = {n_jobs}
[defaults]
rounds = 1
"""


def campaign(size: int, n_jobs: int, folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    """One campaign over `size` devices; its wall-clock time, the controller's resources, and each device's time."""
    plan = folder / f"plan{size}.toml"
    plan.write_text(PLAN.format(size=size, n_jobs=n_jobs))
    begin = time.perf_counter()
    with (folder / "said").open("w+b") as said:
        pid = os.posix_spawn(
            EDGEPROF,
            [EDGEPROF, "campaign", "run", str(plan)],
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, said.fileno(), 1), (os.POSIX_SPAWN_DUP2, said.fileno(), 2)],
        )
        _, status, usage = os.wait4(pid, 0)
        took_s = time.perf_counter() - begin
        if status != 0:
            said.seek(0)
            raise RuntimeError(f"the campaign over {size} devices failed: {said.read()[-4000:].decode()}")
    with Store(folder / "home" / "store.sqlite") as store:
        jobs = store.jobs(store.campaign("latest").id)
    ends_s: dict[str, float] = {}
    for job in jobs:
        ends_s[job.device] = max(ends_s.get(job.device, 0.0), (job.started_at_s or 0.0) + (job.took_s or 0.0))
    first_s = min(job.started_at_s or 0.0 for job in jobs)
    return {
        "devices": size,
        "jobs": sum(job.state == "done" for job in jobs),
        "took_s": took_s,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "rss_bytes": usage.ru_maxrss * 1024,
        "device_s": sorted(end - first_s for end in ends_s.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--sizes", default="8,16,32,64")
    parser.add_argument("--jobs", type=int, default=3, help="jobs of each device")
    options = parser.parse_args()
    reason = why_not()
    if reason:
        print(json.dumps({"name": "fleet", "skipped": reason}))
        return
    sizes = [int(size) for size in options.sizes.split(",")]
    with tempfile.TemporaryDirectory() as name, Sshd(Path(name) / "sshd", options=MANY_LOGINS) as sshd:
        folder = Path(name)
        write_example(folder / "example.onnx")
        environment = {**os.environ, **sshd.client_environment(), "EDGEPROF_HOME": str(folder / "home")}
        (folder / "home").mkdir()
        (folder / "home" / "fleet.toml").write_text(
            "".join(
                DEVICE.format(k=f"{size}-{k}", address=sshd.address, python=sys.executable, size=size)
                for size in sizes
                for k in range(size)
            )
        )
        campaigns = [campaign(size, options.jobs, folder, environment) for size in sizes]
    if options.out:
        options.out.write_text(json.dumps(campaigns, indent=1))
    last = campaigns[-1]
    figures = {f"jobs_per_s_{one['devices']}": round(one["jobs"] / one["took_s"], 2) for one in campaigns}
    figures[f"rss_bytes_{last['devices']}"] = last["rss_bytes"]
    figures["cpu_s_per_job"] = round(last["cpu_s"] / last["jobs"], 4)
    figures["slowest_over_median_device"] = round(max(last["device_s"]) / statistics.median(last["device_s"]), 3)
    print(json.dumps({"name": "fleet", "figures": figures}))


if __name__ == "__main__":
    main()
