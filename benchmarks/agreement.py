"""Does edgeprof report what a bare loop measures? Our median over a bare loop's, per runtime, with a 95 % interval.

Both sides run the same runtime, API, delegate, threads and input bytes, each alternation in separate processes. The
interval is a bootstrap over alternations of the median ratio. Wanted: inside 0.98 to 1.02.

    python benchmarks/agreement.py [--out RAW.json] [--alternations 24]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from device_agents import wire
from edgeprof.fleet import Device
from edgeprof.models import ModelFile, read_model
from edgeprof.models.example import write_example
from edgeprof.profiling import OpenDevice, Settings

MODELS = Path(__file__).parents[1] / ".cache" / "models"
BARE = Path(__file__).parent / "bare_loop.py"
RUNS, SECONDS = 40, 0.6
# One round, no waiting: the bare loop has no gate either, and both sides must see the same noise.
SCHEDULE = wire.Schedule(rounds=1, min_runs=RUNS, min_s=SECONDS)
GATE = wire.Gate(timeout_s=0.0, window_s=0.0)


def ours(device: OpenDevice, model: ModelFile, runtime: str) -> float:
    settings = Settings(runtime=runtime, schedule=SCHEDULE, gate=GATE)
    run = device.profile(model, settings)
    return statistics.median(run.profile.rounds[0].latencies_s)


def bare(model: ModelFile, runtime: str) -> float:
    command = [sys.executable, str(BARE), runtime, str(model.path), str(RUNS), str(SECONDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def interval(ratios: list[float], seed: int = 0) -> tuple[float, float, float]:
    """Median ratio with its 95 % bootstrap interval over alternations."""
    random = np.random.default_rng(seed)
    draws = np.median(random.choice(ratios, (10_000, len(ratios))), axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(np.median(ratios)), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    parser.add_argument("--alternations", type=int, default=24)
    options = parser.parse_args()
    raw: dict[str, list[tuple[float, float]]] = {"onnxruntime": [], "litert": []}
    with tempfile.TemporaryDirectory() as folder, OpenDevice(Device(name="local")) as device:
        example = Path(folder) / "example.onnx"
        write_example(example)
        landmark = next(MODELS.rglob("face_landmark.tflite"), None)
        if landmark is None:
            print(json.dumps({"name": "agreement", "skipped": "no face_landmark.tflite: run `make setup`"}))
            return
        models = {"onnxruntime": read_model(example), "litert": read_model(landmark)}
        for k in range(options.alternations):
            for runtime, model in models.items():
                sides = [lambda r=runtime, m=model: ours(device, m, r), lambda r=runtime, m=model: bare(m, r)]
                first, second = sides if k % 2 == 0 else sides[::-1]
                a, b = first(), second()
                raw[runtime].append((a, b) if k % 2 == 0 else (b, a))
    figures: dict[str, float] = {}
    for runtime, prefix in (("onnxruntime", "ort"), ("litert", "litert")):
        ratio, low, high = interval([a / b for a, b in raw[runtime]])
        figures |= {f"{prefix}_ratio": ratio, f"{prefix}_low": low, f"{prefix}_high": high}
    if options.out:
        options.out.write_text(json.dumps({"ours_s, bare_s": raw}, indent=1))
    print(json.dumps({"name": "agreement", "figures": {k: round(v, 5) for k, v in figures.items()}}))


if __name__ == "__main__":
    main()
