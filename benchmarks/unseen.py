"""How well nets are predicted whose families were never trained on: on this machine, one thread, two runtimes.

A predictor is trained for 20 minutes on each runtime, on random models alone (`edgeprof predictors train`), or made of
what an earlier training measured (`--from STORE`, once for each runtime; its samples are fitted anew). Then the nets of
`UNSEEN`, a list that is fixed in this file, are measured in turn, sweep after sweep in shuffled order, each sweep's
figure being a median; between them a small convolution is measured that is always the same. A net's truth is the median
of its sweeps, less those beside which that convolution took so long that a training would leave the model out; where
there is no other, of all. A net that cannot be predicted or measured counts as wrong.

Nets are published architectures built in code with random weights, and real files. Of the real files some were looked
at while the features were developed. No published net is ever drawn for training, but the families of random nets are
put together in some of the same ways, as pairs of convolutions with a short cut are. So each net is predicted by a
predictor that was fitted without the families alike to it (`ALIKE`); the `all_*` figures are those of the whole one,
which users get.

Figures, for each runtime: `*_within5`, `*_within10`, `*_mape`, `*_spearman`, `*_coverage90`, `*_width90` (half the
interval, relative), `*_nets`, `*_noisy_nets`, `*_all_within10`, `*_all_mape`, `*_all_coverage90`. `*_again_within10`
and `*_again_mape` are those of measuring instead of predicting: one sweep held against the median of a net's others,
which is what the machine lets anybody reach. On the same kernels and the same nets `*_nnmeter_within10` is that of
nn-Meter 2.0's own detector, features and forests (benchmarks/nn_meter), which read ONNX alone, so that it gets the
published nets as ONNX for both runtimes; `*_nnmeter_failed` it cannot read, and in `*_nnmeter_partly` some kernels have
no forest and count nothing. Wanted: within10 at least 0.95, coverage90 0.87 to 0.93.

    python benchmarks/unseen.py [--from STORE ...] [--keep FOLDER] [--minutes 20] [--sweeps 4] [--out RAW.json]
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import nn_meter
from benchmarks.nets import PUBLISHED, build
from device_agents import wire
from edgeprof.errors import EdgeprofError
from edgeprof.fleet import Device
from edgeprof.models import read_model
from edgeprof.profiling import OpenDevice, Settings
from edgeprof.run import Run
from edgeprof.store import Store
from edgeprof.training.fitting import fit, observations
from edgeprof.training.loop import Event, Training
from edgeprof.training.measuring import FORMATS, model_bytes
from edgeprof.training.observed import MOST_DISTURBED, QUIET_QUANTILE
from edgeprof.training.plan import Plan, parse_name
from edgeprof.training.probes import anchor
from latency_models.building import builder
from latency_models.evaluation import figures
from latency_models.graph import GraphError
from latency_models.predictor import Predictor
from tests.real_models import real_model

# Names and families; none of these families is drawn in a training (edgeprof/training/nets.py).
REAL = {
    "onnxruntime": (
        ("ch_PP-OCRv4_det_infer.onnx", "OCR detection"), ("ch_PP-OCRv4_rec_infer.onnx", "OCR recognition"),
        ("ch_ppocr_mobile_v2.0_cls_infer.onnx", "OCR direction"), ("nmp.onnx", "pitch"),
        ("silero_vad_16k_op15.onnx", "voice activity"), ("silero_vad_openvino_16k.onnx", "voice activity"),
    ),
    "litert": (
        ("face_detection_short_range.tflite", "face detection"), ("face_detection_full_range.tflite", "face detection"),
        ("face_landmark.tflite", "face landmarks"), ("iris_landmark.tflite", "iris landmarks"),
        ("okay_nabu.tflite", "wake word"), ("hey_jarvis.tflite", "wake word"), ("nmp.tflite", "pitch"),
    ),
}  # fmt: skip
UNSEEN = {
    runtime: (*((name, family) for name, (family, _) in PUBLISHED.items()), *real) for runtime, real in REAL.items()
}
# Families of random nets (edgeprof/training/nets.py) that are put together like those of the test.
ALIKE: dict[str, tuple[str, ...]] = {
    "MobileNetV1": ("separable chain",), "MobileNetV2": ("bottlenecks",), "MobileNetV3": ("bottlenecks",),
    "EfficientNet-lite": ("bottlenecks",), "ShuffleNetV2": ("dealt",), "ResNet": ("plain residual",),
    "SqueezeNet": ("branches",), "DenseNet": ("growing",), "Inception": ("branches",), "ViT": ("tokens",),
    "Transformer encoder": ("tokens",), "OCR detection": ("hourglass", "separable chain"),
    "OCR recognition": ("separable chain", "tokens"), "OCR direction": ("bottlenecks",), "pitch": ("stacked",),
    "voice activity": ("recurrent", "sound"), "face detection": ("separable chain",),
    "face landmarks": ("bottlenecks",), "iris landmarks": ("bottlenecks",),
    "wake word": ("separable chain", "streaming"),
}  # fmt: skip
SEED = 0
SCHEDULE = wire.Schedule(rounds=1, min_runs=5, min_s=0.4, max_s=2.0, warmup_min_runs=2)
GATE = wire.Gate(timeout_s=1.0)
ANCHOR_EVERY = 3


@dataclass(frozen=True)
class Said:
    """What was predicted of a net, in seconds."""

    latency_s: float
    low_s: float
    high_s: float
    n_uncovered: int


@dataclass
class Net:
    """One net: its file, what was predicted, and the medians of each sweep with the slowness of the anchor beside.

    `said` is by those who were fitted without the families alike, `all_said` by the one that knows all.
    """

    name: str
    family: str
    path: Path
    shapes: dict[str, tuple[int, ...]]
    said: Said | None = None
    all_said: Said | None = None
    failure: str | None = None
    sweeps: list[tuple[float, float]] = field(default_factory=list)

    def truth_s(self, quiet_s: float) -> float:
        return statistics.median(self.quiet(quiet_s) or [seconds for seconds, _ in self.sweeps])

    def quiet(self, quiet_s: float) -> list[float]:
        return [seconds for seconds, anchor_s in self.sweeps if anchor_s <= MOST_DISTURBED * quiet_s]


def this_machine() -> Device:
    return Device(name="local", python=sys.executable)


# --- predictors -------------------------------------------------------------------------------------------------------


def trained(runtime: str, folder: Path, minutes: float) -> list[Run]:
    """Train here and now; what was measured before in this folder counts."""

    def tell(event: Event) -> None:
        if event.what == "fitted":
            print(f"  {runtime}: {event.done} models in {event.spent_s:.0f} s", file=sys.stderr, flush=True)

    with Store(str(folder / f"{runtime}.sqlite")) as store, OpenDevice(this_machine()) as opened:
        Training(opened, store, Plan(runtime=runtime, seed=SEED, budget_s=60 * minutes), on_event=tell).run()
        return [one for one in store.read(store.list()) if isinstance(one, Run)]


def measured_before(places: Sequence[Path]) -> dict[str, list[Run]]:
    """The runs of earlier trainings, by runtime."""
    found: dict[str, list[Run]] = {}
    for place in places:
        with Store(str(place)) as store:
            for one in store.read(store.list()):
                if isinstance(one, Run):
                    found.setdefault(one.profile.job.runtime, []).append(one)
    return found


def fitted_without(runs: Sequence[Run], families: Sequence[str]) -> Predictor:
    """A predictor of what a training measured but for nets of these families."""
    names = [parse_name(run.profile.job.model.name) for run in runs]
    return fit([run for run, name in zip(runs, names, strict=True) if not name or name.family not in families], SEED)


def predict(found: Sequence[Net], runs: Sequence[Run]) -> None:
    """Predict each net by what was learned without the families alike to it, and by all."""
    whole = fit(runs, SEED)
    wanted = sorted({ALIKE[net.family] for net in found})
    with ProcessPoolExecutor() as pool:
        fitted = pool.map(fitted_without, [runs] * len(wanted), wanted)
        without = dict(zip(wanted, fitted, strict=True))
    for net in found:
        net.all_said = said(whole, net)
        net.said = said(without[ALIKE[net.family]], net)


# --- measuring --------------------------------------------------------------------------------------------------------


def nets(runtime: str, folder: Path) -> Iterator[Net]:
    for name, family in UNSEEN[runtime]:
        if name in PUBLISHED:
            path = folder / f"{name}.{FORMATS[runtime]}"
            path.write_bytes(model_bytes(build(name, FORMATS[runtime]), SEED))
            yield Net(name, family, path, {})
        else:
            model = real_model(name)
            yield Net(name, family, model.path, dict(model.shapes))


def median_s(opened: OpenDevice, path: Path, shapes: dict[str, tuple[int, ...]], runtime: str) -> float:
    options = wire.RuntimeOptions(shapes=shapes)
    settings = Settings(runtime=runtime, options=options, schedule=SCHEDULE, gate=GATE, check_outputs=False)
    run = opened.profile(read_model(path, shapes), settings)
    return statistics.median(run.profile.rounds[0].latencies_s)


def said(predictor: Predictor, net: Net) -> Said | None:
    try:
        estimate = predictor.predict(net.path, shapes=net.shapes)
    except (GraphError, OSError, ValueError) as error:
        net.failure = f"not predicted: {error}"
        return None
    return Said(estimate.latency_s, estimate.low_s, estimate.high_s, len(estimate.uncovered))


def anchor_file(runtime: str, folder: Path) -> Path:
    net = builder(FORMATS[runtime], name="anchor")
    path = folder / f"anchor.{FORMATS[runtime]}"
    path.write_bytes(model_bytes(net.graph(anchor(net)), SEED))
    return path


def measure(runtime: str, found: list[Net], folder: Path, n_sweeps: int) -> float:
    """Measure all nets of a runtime; what the anchor takes in quiet moments."""
    reference = anchor_file(runtime, folder)
    anchors: list[float] = []
    order = random.Random(SEED)
    with OpenDevice(this_machine()) as opened:
        for _ in range(n_sweeps):
            order.shuffle(found)
            for place, net in enumerate(found):
                if place % ANCHOR_EVERY == 0:
                    anchors.append(median_s(opened, reference, {}, runtime))
                try:
                    net.sweeps.append((median_s(opened, net.path, net.shapes, runtime), anchors[-1]))
                except EdgeprofError as error:
                    net.failure = f"not measured: {error}"
    return float(np.quantile(anchors, QUIET_QUANTILE))


def summary(found: Sequence[Net], quiet_s: float) -> dict[str, float]:
    good = [net for net in found if net.said is not None and net.sweeps]
    counts = {
        "nets": float(len(found)),
        "failed": float(len(found) - len(good)),
        "noisy_nets": float(sum(not net.quiet(quiet_s) for net in good)),
    }
    of_all = {f"all_{name}": value for name, value in held(found, [net.all_said for net in found], quiet_s).items()}
    wanted = ("all_within10", "all_mape", "all_coverage90")
    return {
        **held(found, [net.said for net in found], quiet_s),
        **{name: of_all[name] for name in wanted if name in of_all},
        **again(good),
        **counts,
    }


def again(measured: Sequence[Net]) -> dict[str, float]:
    """How far one sweep is from the median of the others, over all nets and sweeps."""
    off = []
    for net in measured:
        seconds = [one for one, _ in net.sweeps]
        for k, one in enumerate(seconds):
            others = [*seconds[:k], *seconds[k + 1 :]]
            if others:
                off.append(abs(one / statistics.median(others) - 1.0))
    if not off:
        return {}
    return {"again_within10": float(np.mean(np.array(off) <= 0.1)), "again_mape": float(np.mean(off))}


def held(found: Sequence[Net], answers: Sequence[Said | None], quiet_s: float) -> dict[str, float]:
    """What was said of nets, held against what they took."""
    good = [(net.truth_s(quiet_s), one) for net, one in zip(found, answers, strict=True) if one and net.sweeps]
    one = figures(
        [true_s for true_s, _ in good],
        [answer.latency_s for _, answer in good],
        [answer.low_s for _, answer in good],
        [answer.high_s for _, answer in good],
    )
    if one is None or one.coverage is None or one.width is None:
        return {}
    share = len(good) / len(found)  # a net that failed is in no share of those that are right
    return {
        "within5": one.within5 * share,
        "within10": one.within10 * share,
        "mape": one.mape,
        "spearman": one.spearman or 0.0,
        "coverage90": one.coverage * share,
        "width90": one.width,
    }


def beside(runtime: str, found: Sequence[Net], quiet_s: float, runs: Sequence[Run], folder: Path) -> dict[str, float]:
    """nn-Meter on the same kernels and nets."""
    files = {net.name: net.path for net in found if net.path.suffix == ".onnx"}
    for name in (net.name for net in found if net.name in PUBLISHED and net.name not in files):
        files[name] = folder / f"{name}.onnx"
        files[name].write_bytes(model_bytes(build(name, "onnx"), SEED))
    observed = observations(runs)
    in_nets = (kernel for net in observed.nets for kernel in net.timed)
    answers = nn_meter.predict([*observed.kernels, *in_nets], files)
    if isinstance(answers, str):
        print(f"  {answers}", file=sys.stderr)
        return {}
    right = failed = partly = 0
    for net in found:
        answer = answers.get(net.name)
        if answer is None or answer.latency_s is None or not net.sweeps:
            failed += 1
            continue
        partly += answer.n_unknown > 0
        right += abs(answer.latency_s / net.truth_s(quiet_s) - 1) <= 0.1
    return {
        f"{runtime}_nnmeter_within10": right / len(found),
        f"{runtime}_nnmeter_failed": float(failed),
        f"{runtime}_nnmeter_partly": float(partly),
    }


def show(runtime: str, found: Sequence[Net], quiet_s: float) -> None:
    for net in sorted(found, key=lambda one: one.name):
        if net.failure is not None or not net.sweeps or net.said is None or net.all_said is None:
            print(f"  {runtime} {net.name:40s} {net.failure}", file=sys.stderr)
            continue
        true_s, one = net.truth_s(quiet_s), net.said
        inside = "in" if one.low_s <= true_s <= one.high_s else "OUT"
        print(
            f"  {runtime} {net.name:40s} {1e3 * true_s:9.3f} ms, predicted {1e3 * one.latency_s:9.3f} "
            f"({one.latency_s / true_s - 1:+6.1%}) {1e3 * one.low_s:9.3f} to {1e3 * one.high_s:9.3f} {inside}, "
            f"by the whole predictor {net.all_said.latency_s / true_s - 1:+6.1%}"
            f"{f', {one.n_uncovered} not covered' if one.n_uncovered else ''}",
            file=sys.stderr,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="stores", type=Path, nargs="*", default=[])
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--sweeps", type=int, default=4)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    before = measured_before(options.stores)
    all_figures: dict[str, float] = {}
    raw: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="edgeprof-unseen-") as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for runtime in UNSEEN:
            if options.stores and runtime not in before:
                continue
            begin = time.monotonic()
            runs = before.get(runtime) or trained(runtime, folder, options.minutes)
            found = list(nets(runtime, Path(temporary)))
            predict(found, runs)
            quiet_s = measure(runtime, found, Path(temporary), options.sweeps)
            show(runtime, found, quiet_s)
            all_figures.update({f"{runtime}_{name}": value for name, value in summary(found, quiet_s).items()})
            print(f"  {runtime}: {time.monotonic() - begin:.0f} s", file=sys.stderr)
            all_figures.update(beside(runtime, found, quiet_s, runs, Path(temporary)))
            raw[runtime] = [
                {
                    "name": net.name, "family": net.family, "truth_s": net.truth_s(quiet_s), "sweeps": net.sweeps,
                    "said": vars(net.said) if net.said else None,
                    "all_said": vars(net.all_said) if net.all_said else None, "failure": net.failure,
                }
                for net in found
                if net.sweeps
            ]  # fmt: skip
    if options.out:
        options.out.write_text(json.dumps(raw, indent=1))
    print(json.dumps({"name": "unseen", "figures": all_figures}))


if __name__ == "__main__":
    main()
