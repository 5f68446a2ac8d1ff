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
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from device_agents import inputs, wire
from edgeprof.fleet import Device
from edgeprof.models import ModelFile, read_model
from edgeprof.models.example import write_example
from edgeprof.profiling import OpenDevice, Settings

MODELS = Path(__file__).parents[1] / ".cache" / "models"
RUNS, SECONDS, WARM_UP = 40, 0.6, 20
# One round, no waiting: the bare loop has no gate either, and both sides must see the same noise.
SCHEDULE = wire.Schedule(rounds=1, min_runs=RUNS, min_s=SECONDS)
GATE = wire.Gate(timeout_s=0.0, window_s=0.0)


def ours(device: OpenDevice, model: ModelFile, runtime: str) -> float:
    settings = Settings(runtime=runtime, schedule=SCHEDULE, gate=GATE)
    run = device.profile(model, settings)
    return statistics.median(run.profile.rounds[0].latencies_s)


def bare(model: ModelFile, runtime: str) -> float:
    command = [sys.executable, __file__, "--bare", runtime, str(model.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def bare_loop(runtime: str, path: str) -> None:
    """What somebody would write in a few lines with the runtime's own Python API; prints the median in seconds."""
    run = {"onnxruntime": bare_onnxruntime, "litert": bare_litert}[runtime](path)
    for _ in range(WARM_UP):
        run()
    samples: list[float] = []
    start = time.perf_counter()
    while len(samples) < RUNS or time.perf_counter() - start < SECONDS:
        begin = time.perf_counter()
        run()
        samples.append(time.perf_counter() - begin)
    print(statistics.median(samples))


def bare_onnxruntime(path: str) -> Callable[[], None]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (tensor,) = session.get_inputs()
    (data,) = inputs.make([wire.TensorInfo(tensor.name, "float32", tuple(tensor.shape))], 0)
    binding = session.io_binding()
    binding.bind_cpu_input(tensor.name, np.frombuffer(data, np.float32).reshape(tensor.shape))
    binding.bind_output(session.get_outputs()[0].name)
    return lambda: session.run_with_iobinding(binding)


def bare_litert(path: str) -> Callable[[], None]:
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator
    from ai_edge_litert.options import CpuOptions, Options

    options = Options(hardware_accelerators=HardwareAccelerator.CPU, cpu_options=CpuOptions(num_threads=1))
    model = CompiledModel.from_file(path, options=options)
    ins, outs = model.create_input_buffers(0), model.create_output_buffers(0)
    (details,) = model.get_input_tensor_details(model.get_signature_by_index(0)["key"]).values()
    shape = tuple(int(d) for d in details["shape"])
    (data,) = inputs.make([wire.TensorInfo("x", "float32", shape)], 0)
    ins[0].write(np.frombuffer(data, np.float32).reshape(shape))
    return lambda: model.run_by_index(0, ins, outs)


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
    parser.add_argument("--bare", nargs=2, metavar=("RUNTIME", "MODEL"), help="One side alone: the bare loop.")
    options = parser.parse_args()
    if options.bare:
        bare_loop(*options.bare)
        return
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
                if k % 2 == 0:
                    a = ours(device, model, runtime)
                    b = bare(model, runtime)
                else:
                    b = bare(model, runtime)
                    a = ours(device, model, runtime)
                raw[runtime].append((a, b))
    figures: dict[str, float] = {}
    for runtime, prefix in (("onnxruntime", "ort"), ("litert", "litert")):
        ratio, low, high = interval([a / b for a, b in raw[runtime]])
        figures |= {f"{prefix}_ratio": ratio, f"{prefix}_low": low, f"{prefix}_high": high}
    if options.out:
        options.out.write_text(json.dumps({"ours_s, bare_s": raw}, indent=1))
    print(json.dumps({"name": "agreement", "figures": {k: round(v, 5) for k, v in figures.items()}}))


if __name__ == "__main__":
    main()
