"""How long until operators are seen, and what seeing them costs the device's memory.

`map_1000_<format>_s` is the host's time to read a 1,000-operator model and map its recorded kernels (median; wanted:
under 2 s). `operator_pass_rss_<n>_bytes` is the peak of the measuring process with n kernels and 30 runs, in batches;
`..._one_batch_bytes` the same with everything in one session, side by side in one run of this script.

    python benchmarks/speed_of_seeing.py [--repeat 5]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from device_agents import wire
from edgeprof.fleet import Device
from edgeprof.models import map_operators, read_model
from edgeprof.profiling import OpenDevice, Settings
from tests.odd_models import write_chain
from tests.odd_tflite import write_tflite_chain

N_OPERATORS = 1000
QUICK = wire.Schedule(rounds=1, min_runs=1, min_s=0.0, operator_runs=1)
GATE = wire.Gate(timeout_s=0.0, window_s=0.0)
NO_BOUND = 1_000_000_000


def map_s(path: Path, device: OpenDevice, repeat: int) -> float:
    """Median time to read the model and map a pass that this machine has recorded."""
    run = device.profile(read_model(path), Settings(schedule=QUICK, gate=GATE, operators=True))
    recorded = run.profile.operators
    if recorded is None or len(recorded.kernels) < N_OPERATORS // 2:
        raise RuntimeError(f"{path.name}: no operators: {run.profile.operators_missing}")
    took = []
    for _ in range(repeat):
        begin = time.perf_counter()
        map_operators(read_model(path), recorded)
        took.append(time.perf_counter() - begin)
    return statistics.median(took)


def peak_bytes(path: Path, batch_events: int) -> int:
    """Peak resident memory of a worker that makes the operator pass alone."""
    schedule = wire.Schedule(operator_max_s=300.0, operator_batch_events=batch_events)
    job = wire.Job(wire.ModelRef(path.name, "onnx", "0", ()), "onnxruntime", schedule=schedule, gate=GATE)
    order: dict[str, Any] = {"job": dataclasses.asdict(job), "pass": wire.OPERATORS, "model_path": str(path)}
    order["input_paths"] = []
    command = [sys.executable, "-m", "device_agents", "worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        if worker.stdin is None or worker.stdout is None:
            raise RuntimeError("the worker has no pipes")
        worker.stdin.write(json.dumps(order).encode() + b"\n")
        worker.stdin.flush()
        last = json.loads(worker.stdout.read().splitlines()[-1])
        _, worker.returncode, usage = os.wait4(worker.pid, 0)
    if last["reply"] != "pass":
        raise RuntimeError(last["body"]["message"])
    return usage.ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, OpenDevice(Device(name="local")) as device:
        paths = {kind: Path(folder) / f"chain.{kind}" for kind in ("onnx", "tflite")}
        write_chain(paths["onnx"], N_OPERATORS)
        write_tflite_chain(paths["tflite"], N_OPERATORS)
        for kind, path in paths.items():
            figures[f"map_1000_{kind}_s"] = round(map_s(path, device, options.repeat), 4)
        figures["map_1000_s"] = max(figures.values())
        for n in (1000, 10_000):
            path = write_chain(Path(folder) / f"chain{n}.onnx", n)
            figures[f"operator_pass_rss_{n}_bytes"] = peak_bytes(path, wire.Schedule().operator_batch_events)
            figures[f"operator_pass_rss_{n}_one_batch_bytes"] = peak_bytes(path, NO_BOUND)
    print(json.dumps({"name": "speed_of_seeing", "figures": figures}))


if __name__ == "__main__":
    main()
