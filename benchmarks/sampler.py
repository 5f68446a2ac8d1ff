"""What sampling a power meter a hundred times a second costs the model beside which it is done.

A hwmon chip's file is read through the agent's own sampler while a real model runs in a loop with one thread; the file
is a real one, on tmpfs (no I2C transfer: on a real board that adds its own time). Windows with and without sampling
alternate, in pairs whose order alternates too.

`cpu_share_100hz` is the CPU time of the sampler's thread (its own clock) over the time that passed, of one core;
`latency_ratio_100hz` the median over pairs of the mean latency with sampling over that without, `_low` and `_high` the
ends of its 90 % interval. `latency_ratio_null` is the same of pairs in which neither was sampled: this machine's noise.
Windows are short and many, so that others' load on this machine meets both of a pair.

    python benchmarks/sampler.py [--out RAW.json] [--pairs 60] [--window 0.6]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from device_agents.energy_pass import Loop
from device_agents.machine import Machine, OpenFile
from device_agents.measure import set_inputs
from device_agents.power import choose
from device_agents.power.sampler import Sampler
from device_agents.runtimes import open_session
from device_agents.wire import Job
from edgeprof.models import read_model
from tests.real_models import export_path

RATE_HZ = 100.0
MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Window:
    """One stretch of the loop: mean seconds of a run, and what the sampler's thread took (0 without)."""

    latency_s: float
    n_runs: int
    cpu_share: float
    n_reads: int


class Board(Machine):
    """This machine, with a hwmon chip whose files lie in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        chip = root / "sys/class/hwmon/hwmon0"
        chip.mkdir(parents=True)
        for name, text in (("name", "ina226"), ("power1_input", "4081250"), ("update_interval", "35")):
            (chip / name).write_text(f"{text}\n")

    def read(self, path: str) -> str:
        return super().read(f"{self.root}{path}")

    def list(self, path: str) -> list[str]:
        return super().list(f"{self.root}{path}")

    def open(self, path: str, writable: bool = False) -> OpenFile:
        return super().open(f"{self.root}{path}", writable)


class Clocked:
    """A sampler that also notes the CPU time of the thread that calls it."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self.marks: list[tuple[float, float]] = []

    def sample(self) -> None:
        self.sampler.sample()
        self.marks.append((time.perf_counter(), time.thread_time()))

    @property
    def cpu_share(self) -> float:
        (begin_s, begin_cpu_s), (end_s, end_cpu_s) = self.marks[0], self.marks[-1]
        return (end_cpu_s - begin_cpu_s) / (end_s - begin_s)


def window(loop: Loop, machine: Machine, seconds: float, *, sampled: bool) -> Window:
    with contextlib.ExitStack() as stack:
        clocked = None
        if sampled:
            clocked = Clocked(stack.enter_context(Sampler(choose(machine, ""), machine)))
            stack.enter_context(machine.every(1 / RATE_HZ, clocked.sample))
        begin = time.perf_counter()
        n_runs = loop.until(begin + seconds)
        took = time.perf_counter() - begin
    if clocked is None:
        return Window(took / n_runs, n_runs, 0.0, 0)
    trace = clocked.sampler.trace()
    if trace.failure is not None:
        raise RuntimeError(trace.failure)
    return Window(took / n_runs, n_runs, clocked.cpu_share, len(trace.at_s))


@contextlib.contextmanager
def looping(model: Path, machine: Machine, warm_up_s: float) -> Iterator[Loop]:
    job = Job(read_model(model).ref(), "onnxruntime")
    session = open_session(job, str(model), machine, False)
    try:
        set_inputs(session, job, ())
        loop = Loop(session, machine)
        loop.timed(10, warm_up_s, 10 * warm_up_s)
        yield loop
    finally:
        session.close()


def measure(model: Path, folder: Path, pairs: int, seconds: float) -> list[dict[str, Window]]:
    """Pairs of windows with and without sampling, and a third without, in an order that turns."""
    machine = Board(folder)
    found = []
    with looping(model, machine, seconds) as loop:
        for k in range(pairs):
            order = ["sampled", "bare", "null"][:: 1 if k % 2 else -1]
            found.append({name: window(loop, machine, seconds, sampled=name == "sampled") for name in order})
    return found


def figures(rows: list[dict[str, Window]]) -> dict[str, float]:
    found = {"cpu_share_100hz": round(statistics.median(row["sampled"].cpu_share for row in rows), 5)}
    for name, which in (("latency_ratio_100hz", "sampled"), ("latency_ratio_null", "null")):
        ratios = sorted(row[which].latency_s / row["bare"].latency_s for row in rows)
        # Order statistics about the median: the binomial's 90 % by its normal approximation.
        reach = min((len(ratios) - 1) // 2, math.ceil(1.645 * math.sqrt(len(ratios)) / 2))
        found[name] = round(statistics.median(ratios), 4)
        found[f"{name}_low"] = round(ratios[(len(ratios) - 1) // 2 - reach], 4)
        found[f"{name}_high"] = round(ratios[len(ratios) // 2 + reach], 4)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--window", type=float, default=0.6, help="seconds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        model = export_path("mobilenet_v3_small.onnx")
        rows = measure(model, Path(name), options.pairs, options.window)
    if options.out:
        raw = [{which: asdict(one) for which, one in row.items()} for row in rows]
        options.out.write_text(json.dumps(raw, indent=1))
    print(json.dumps({"name": "sampler", "figures": figures(rows)}))


if __name__ == "__main__":
    main()
