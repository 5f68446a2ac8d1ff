"""Does edgeprof report what a bare loop measures? Our median over a bare loop's, per runtime, with a 95 % interval.

Both sides run the same runtime, API, delegate, threads and input bytes, each alternation in separate processes. The
interval is a bootstrap over alternations of the median ratio. Wanted: inside 0.98 to 1.02.

    python benchmarks/agreement.py [--out RAW.json] [--alternations 80]
"""

from __future__ import annotations

import argparse
import ctypes
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
RUNS, SECONDS, WARM_UP = 40, 0.3, 20
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
    """LiteRT's C API called plainly: the package's Python class runs another build of the same code."""
    import ai_edge_litert

    library = ctypes.CDLL(str(Path(ai_edge_litert.__file__).parent / "libLiteRt.so"))
    libc = ctypes.CDLL(None)
    libc.strdup.restype = pointer = ctypes.c_void_p
    size = ctypes.c_size_t

    def call(name: str, *arguments: object) -> int:
        """Call a function whose last argument is where it puts a handle; the handle."""
        handle = pointer()
        status = getattr(library, name)(*arguments, ctypes.byref(handle))
        if status != 0 or handle.value is None:
            raise RuntimeError(f"{name}: status {status}")
        return handle.value

    environment = pointer(call("LiteRtCreateEnvironment", 0, None))
    model = pointer(call("LiteRtCreateModelFromFile", environment, path.encode()))
    options = pointer(call("LiteRtCreateOptions"))
    library.LiteRtSetOptionsHardwareAccelerators(options, 1)
    text = pointer(libc.strdup(b'kernel_mode = "delegate"\nnum_threads = 1\n'))
    opaque = pointer(call("LiteRtCreateOpaqueOptions", b"xnnpack", text, ctypes.cast(libc.free, pointer)))
    library.LiteRtAddOpaqueOptions(options, opaque)
    compiled = pointer(call("LiteRtCreateCompiledModel", environment, model, options))
    signature = pointer(call("LiteRtGetModelSignature", model, size(0)))

    def buffer(side: str, k: int) -> tuple[int, tuple[int, ...]]:
        """The buffer of this side's k-th tensor, and its shape."""
        tensor = pointer(call(f"LiteRtGetSignature{side}TensorByIndex", signature, size(k)))
        kind = (ctypes.c_int32 * 18)()  # element type; rank; 8 dimensions; 8 strides
        library.LiteRtGetRankedTensorType(tensor, kind)
        needs = pointer(call(f"LiteRtGetCompiledModel{side}BufferRequirements", compiled, size(0), size(k)))
        made = call("LiteRtCreateManagedTensorBufferFromRequirements", environment, kind, needs)
        return made, tuple(kind[2 : 2 + (kind[1] & 0x7F)])

    source, shape = buffer("Input", 0)
    n_outputs = size()
    library.LiteRtGetNumSignatureOutputs(signature, ctypes.byref(n_outputs))
    (data,) = inputs.make([wire.TensorInfo("x", "float32", shape)], 0)
    address = pointer()
    library.LiteRtLockTensorBuffer(pointer(source), ctypes.byref(address), 1)
    ctypes.memmove(address, data, len(data))
    library.LiteRtUnlockTensorBuffer(pointer(source))
    n = n_outputs.value
    ins, outs = (pointer * 1)(source), (pointer * n)(*(buffer("Output", k)[0] for k in range(n)))
    run = library.LiteRtRunCompiledModel
    run.argtypes = [pointer, size, size, pointer, size, pointer]

    def once() -> None:
        if run(compiled, 0, 1, ins, n, outs) != 0:
            raise RuntimeError("the model did not run")

    return once


def interval(ratios: list[float], seed: int = 0) -> tuple[float, float, float]:
    """Median ratio with its 95 % bootstrap interval over alternations."""
    random = np.random.default_rng(seed)
    draws = np.median(random.choice(ratios, (10_000, len(ratios))), axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(np.median(ratios)), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    parser.add_argument("--alternations", type=int, default=80)
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
