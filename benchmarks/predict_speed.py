"""How fast predictions are, process and imports warm, on one thread of this machine.

The predictor is made for the occasion from a minute of measuring (or of an earlier training: `--from STORE`); how good
it is does not matter here. `first_s`: MobileNetV2 from a file that this process has not seen, kernels asked of the
runtime's own optimiser, with interval and bill. `again_s`: the same file once more. `many_per_s`: architectures a
second of a space like MobileNetV3's (five stages of two to four blocks, each with three kernels and three widths),
given as integers, 100,000 at once, with intervals; filling the tables takes `table_fill_s` and is not in it. `one_s`:
one architecture. Beside them in the same run: `lightgbm_per_s`, LightGBM with 300 trees of 15 leaves on the same genes
as one-hots, and `nnmeter_per_s`, nn-Meter 2.0 from the same file to a number, with its forests trained on the same
kernels (benchmarks/nn_meter; left out, and said, where it cannot be installed).

Wanted: first_s under 0.15, again_s under 0.03, many_per_s over 500,000, one_s under 50e-6.

    python benchmarks/predict_speed.py [--from STORE] [--out RAW.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import nn_meter
from benchmarks.nets import build
from edgeprof.fleet import Device
from edgeprof.profiling import OpenDevice
from edgeprof.run import Run
from edgeprof.store import Store
from edgeprof.training.fitting import fit, observations
from edgeprof.training.loop import Training
from edgeprof.training.measuring import model_bytes
from edgeprof.training.plan import Plan
from latency_models.building import GraphBuilder, Value, builder
from latency_models.graph import Graph
from latency_models.predictor import Predictor
from latency_models.tables import GeneTable, Slot

N_ARCHITECTURES = 100_000
REPEATS = 7
# Of each stage: channels, stride, activation, whether gated (Howard et al., 2019; Cai et al., Once-for-all, 2020).
STAGES = (
    (24, 2, "relu", False), (40, 2, "relu", True), (80, 2, "hard_swish", False), (112, 1, "hard_swish", True),
    (160, 2, "hard_swish", True),
)  # fmt: skip
KERNELS, EXPANDS, DEPTHS, MOST_BLOCKS = (3, 5, 7), (3, 4, 6), (2, 3, 4), 4
STEM, SIDE = 16, 224


def measured(place: Path | None, minutes: float) -> list[Run]:
    """The runs of an earlier training, or of one here and now."""
    if place is not None:
        with Store(str(place)) as store:
            return [one for one in store.read(store.list()) if isinstance(one, Run)]
    device = Device(name="local", python=sys.executable)
    with tempfile.TemporaryDirectory() as folder, Store(f"{folder}/runs.sqlite") as store, OpenDevice(device) as opened:
        Training(opened, store, Plan(runtime="onnxruntime", budget_s=60 * minutes)).run()
        return [one for one in store.read(store.list()) if isinstance(one, Run)]


# --- the space --------------------------------------------------------------------------------------------------------


def sizes() -> tuple[int, ...]:
    """Genes: of each stage its depth, then kernel and width of each of its blocks."""
    per_stage = (len(DEPTHS), *(len(KERNELS), len(EXPANDS)) * MOST_BLOCKS)
    return per_stage * len(STAGES)


def slots() -> list[Slot]:
    made = [Slot((), lambda _: whole(stem)), Slot((), lambda _: whole(head))]
    side, channels = SIDE // 2, STEM
    for stage, (outputs, stride, activation, gated) in enumerate(STAGES):
        first = stage * (1 + 2 * MOST_BLOCKS)
        for block in range(MOST_BLOCKS):
            entered = (side, channels)
            genes = (first, first + 1 + 2 * block, first + 2 + 2 * block)
            made.append(
                Slot(genes, block_builder(block, entered, outputs, stride if block == 0 else 1, activation, gated))
            )
            if block == 0:
                side, channels = -(-side // stride), outputs
    return made


def whole(part: Callable[[GraphBuilder], Value]) -> Graph:
    net = builder("onnx")
    return net.graph(part(net))


def stem(net: GraphBuilder) -> Value:
    return net.conv(net.image(SIDE, SIDE), STEM, 3, 2, activation="hard_swish")


def head(net: GraphBuilder) -> Value:
    x = net.conv(net.image(7, 7, STAGES[-1][0]), 960, 1, activation="hard_swish")
    return net.dense(net.dense(net.global_average(x, keep=False), 1280, activation="hard_swish"), 1000)


def block_builder(
    block: int, entered: tuple[int, int], outputs: int, stride: int, activation: str, gated: bool
) -> Callable[[tuple[int, ...]], Graph | None]:
    def build_block(values: tuple[int, ...]) -> Graph | None:
        depth, kernel, expand = values
        if block >= DEPTHS[depth]:
            return None
        net = builder("onnx")
        side, channels = entered
        x = net.image(side, side, channels)
        inner = channels * EXPANDS[expand]
        y = net.depthwise(net.conv(x, inner, 1, activation=activation), KERNELS[kernel], stride, activation=activation)
        if gated:
            squeezed = net.conv(net.global_average(y), max(8, inner // 4), 1, activation="relu")
            y = net.multiply(y, net.conv(squeezed, inner, 1, activation="hard_sigmoid"))
        y = net.conv(y, outputs, 1)
        return net.graph(net.add(x, y) if y.shape == x.shape else y)

    return build_block


# --- timing -----------------------------------------------------------------------------------------------------------


def timed(work: Callable[[], object], repeats: int = REPEATS) -> list[float]:
    found = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        found.append(time.perf_counter() - begin)
    return found


def first_and_again(predictor: Predictor, folder: Path) -> tuple[list[float], list[float]]:
    """Each repetition has a file of its own: other weights, another digest."""
    graph = build("mobilenet_v2_1.0_224", "onnx")
    # Imports and whatever is done once in a process.
    warm = folder / "warm.onnx"
    warm.write_bytes(model_bytes(build("mobilenet_v3_small", "onnx"), 0))
    predictor.predict(warm)
    first, again = [], []
    for k in range(REPEATS):
        path = folder / f"mobilenet_v2_{k}.onnx"
        path.write_bytes(model_bytes(graph, k))
        predictor.times.forget()
        first += timed(lambda path=path: predictor.predict(path), 1)  # type: ignore[misc]
        again += timed(lambda path=path: predictor.predict(path), 1)  # type: ignore[misc]
    return first, again


def lightgbm_per_s(genes: NDArray[np.int64], latency_s: NDArray[np.float64]) -> float:
    import lightgbm

    one_hot = np.concatenate([np.eye(size)[genes[:, k]] for k, size in enumerate(sizes())], axis=1)
    settings = {"num_leaves": 15, "verbosity": -1, "num_threads": 1, "learning_rate": 0.05}
    booster = lightgbm.train(settings, lightgbm.Dataset(one_hot[:2000], np.log(latency_s[:2000])), num_boost_round=300)
    seconds = statistics.median(timed(lambda: booster.predict(one_hot, num_threads=1), 3))
    return len(genes) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="store", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    runs = measured(options.store, 1.0)
    predictor = fit(runs, 0)
    with tempfile.TemporaryDirectory() as folder:
        first, again = first_and_again(predictor, Path(folder))
        nets_per_s = nn_meter.speed(observations(runs).kernels, Path(folder) / "mobilenet_v2_0.onnx")
    begin = time.perf_counter()
    table = GeneTable(predictor, sizes(), slots())
    fill_s = time.perf_counter() - begin
    genes = np.random.default_rng(0).integers(0, np.array(sizes()), (N_ARCHITECTURES, len(sizes())))
    many = timed(lambda: table.predict(genes))
    one = [seconds / 1000 for seconds in timed(lambda: [table.predict(genes[k : k + 1]) for k in range(1000)])]
    found = table.predict(genes)
    figures = {
        "first_s": statistics.median(first),
        "again_s": statistics.median(again),
        "many_per_s": N_ARCHITECTURES / statistics.median(many),
        "one_s": statistics.median(one),
        "table_fill_s": fill_s,
        "table_entries": table.n_entries,
        "lightgbm_per_s": lightgbm_per_s(genes, found.latency_s),
    }
    if options.out:
        options.out.write_text(json.dumps({"first_s": first, "again_s": again, "many_s": many, "one_s": one}))
    if isinstance(nets_per_s, str):
        print(f"nn-Meter is not measured: {nets_per_s}", file=sys.stderr)
    else:
        figures["nnmeter_per_s"] = nets_per_s
    print(json.dumps({"name": "predict_speed", "figures": figures}))


if __name__ == "__main__":
    main()
