"""What `edgeprof optimize` is worth: MobileNetV2 trained on digits, five seeds, half a point of top-1 to lose.

    python benchmarks/optimize.py [--seeds 5] [--models DIR] [--out F]

Each net is trained by docs/examples/mobilenet_on_digits.py where its files are not there yet (.cache/optimize):
minutes a seed, which are not counted. Then `optimize` gets the data of that example, and what it accepts is held
against samples that neither it nor the training ever saw. Figures:

- `accuracy`, `least_accuracy`: top-1 of the nets in float32 on what was held back, mean and least of the seeds.
- `speedup`, `speedup_low`: how many times as fast the best accepted file is, measured in turns with the original: the
  geometric mean over seeds, and the least lower end of a 95 % interval.
- `accuracy_drop`, `worst_accuracy_drop`: top-1 that the best file loses on what was held back, mean and worst.
- `wrong_accepted` of `accepted`: files that the gate let pass and that lose more than the budget on what was held back.
  Of its 397 digits two are more than half a point, and some lie so close to a border that any change flips them:
  each is looked at in five places, up to three pixels apart (training moves digits by up to twelve).
- `wrong_in_one_place`: as many, with each digit in its own place alone.
- `dynamic_speedup`: of the dynamically quantised file; below 1 it is slower.
- `seconds`: of optimizing, a seed.
- `shipped`, of models that ship with packages (TFLite; the data is made here): `static_rejected`, and the best file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeprof.errors import EdgeprofError
from edgeprof.fleet import Device
from edgeprof.models import read_model
from edgeprof.optimize.candidate import LOSSY
from edgeprof.optimize.inference import Inference
from edgeprof.optimize.samples import Samples, read_samples
from edgeprof.optimize.session import Optimized, Plan, optimize

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "docs" / "examples" / "mobilenet_on_digits.py"
TRAINED = ROOT / ".cache" / "optimize"
BUDGET = 0.005
# In pixels. What is moved out on one side comes in on the other, as in training.
PLACES = ((0, 0), (-3, 0), (3, 0), (0, -3), (0, 3))
RACE_S = 25.0
HERE = Device(name="local", python=sys.executable)


def trained(seed: int) -> Path:
    """The folder of one seed's files."""
    folder = TRAINED / f"mobilenet-{seed}"
    if not (folder / "mobilenet.onnx").is_file():
        print(f"training seed {seed}", file=sys.stderr)
        subprocess.run([sys.executable, str(EXAMPLE), "--seed", str(seed), "--out", str(folder)], check=True)
    return folder


def top1(model: Path, samples: Samples) -> tuple[float, float]:
    """Of each digit in its own place, and in all places together."""
    shares = []
    for down, right in PLACES:
        moved = {name: np.roll(values, (down, right), (-2, -1)) for name, values in samples.values.items()}
        outputs = next(iter(Inference("onnxruntime").outputs(model, replace(samples, values=moved)).values()))
        shares.append(float(np.mean(outputs.reshape(len(outputs), -1).argmax(1) == samples.labels)))
    return shares[0], float(np.mean(shares))


def one_seed(seed: int, work: Path) -> dict[str, Any]:
    """Optimize one net with every file kept, and judge all that were accepted on what was held back."""
    folder = trained(seed)
    model = folder / "mobilenet.onnx"
    begin = time.monotonic()
    accepted: dict[str, Path] = {}

    def copy(name: str, path: Path) -> None:
        accepted[name] = work / f"{seed}-{path.name}"
        accepted[name].write_bytes(path.read_bytes())

    plan = Plan(model=model, folder=work / f"{seed}", data=folder / "data.npz", budget=BUDGET, most_s=RACE_S, seed=seed)
    found = optimize(plan, HERE, on_accepted=copy)
    took_s = time.monotonic() - begin
    read = read_model(model)
    held_back = read_samples(folder / "held_back.npz", read.graph.declared, read.inputs.shapes)
    alone, original = top1(model, held_back)
    found_of = {name: top1(path, held_back) for name, path in accepted.items()}
    drops = {name: original - every for name, (_, every) in found_of.items()}
    in_one_place = {name: alone - one for name, (one, _) in found_of.items()}
    by_name = {one.name: one for one in found.tried}
    rows = {
        one.name: {
            "rejected": one.reason or None,
            "loss": one.decision.loss.observed if one.decision.loss else None,
            "bound": one.decision.loss.bound if one.decision.loss else None,
            "held_back_drop": drops.get(one.name),
            "drop_in_one_place": in_one_place.get(one.name),
            "speedup": [one.standing.speedup.value, one.standing.speedup.low] if one.standing else None,
        }
        for one in found.tried
    }
    lossy = [name for name in accepted if by_name[name].kind == LOSSY]
    return {
        "seed": seed,
        "accuracy": alone,
        "best": found.best,
        "took_s": took_s,
        "n_accepted": len(lossy),
        "wrong": [name for name in lossy if drops[name] > BUDGET],
        "wrong_in_one_place": [name for name in lossy if in_one_place[name] > BUDGET],
        "candidates": rows,
    }


def figures_of(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    best = [row["candidates"][row["best"]] for row in seeds if row["best"] is not None]
    dynamic = [row["candidates"]["dynamic-int8"]["speedup"] for row in seeds]
    speedups = [one["speedup"] for one in best]
    drops = [one["held_back_drop"] for one in best]
    return {
        "seeds": len(seeds),
        "accuracy": float(np.mean([row["accuracy"] for row in seeds])),
        "least_accuracy": min(row["accuracy"] for row in seeds),
        "speedup": float(np.exp(np.mean(np.log([value for value, _ in speedups])))) if best else None,
        "speedup_low": min(low for _, low in speedups) if best else None,
        "accuracy_drop": float(np.mean(drops)) if best else None,
        "worst_accuracy_drop": max(drops) if best else None,
        "wrong_accepted": sum(len(row["wrong"]) for row in seeds),
        "wrong_in_one_place": sum(len(row["wrong_in_one_place"]) for row in seeds),
        "accepted": sum(row["n_accepted"] for row in seeds),
        "dynamic_speedup": float(np.mean([one[0] for one in dynamic if one])) if any(dynamic) else None,
        "seconds": float(np.mean([row["took_s"] for row in seeds])),
    }


# --- models that ship with packages ---


def chords(n: int) -> np.ndarray:
    """Two seconds of decaying chords at 22,050 Hz for basic-pitch, made here: (n, 1, 43844, 1)."""
    rng = np.random.default_rng(0)
    t = np.arange(43844) / 22050.0
    found = []
    for _ in range(n):
        sound = np.zeros_like(t)
        for note in rng.choice(np.arange(45, 80), 3, replace=False):
            start = rng.uniform(0, 1)
            envelope = np.where(t >= start, np.exp(-3 * (t - start)), 0.0)
            for overtone in (1, 2, 3):
                sound += envelope / overtone * np.sin(2 * np.pi * 440 * 2 ** ((note - 69) / 12) * overtone * t)
        found.append(0.3 * sound + rng.normal(0, 0.002, len(t)))
    return np.array(found, np.float32)[:, None, :, None]


def faces(n: int) -> np.ndarray:
    """Smooth random images between 0 and 1 for face_landmark, made here: (n, 1, 192, 192, 3)."""
    rng = np.random.default_rng(0)
    small = rng.uniform(0, 1, (n, 1, 12, 12, 3))
    return small.repeat(16, 2).repeat(16, 3).astype(np.float32)


SHIPPED = {"nmp.tflite": (chords, 40), "face_landmark.tflite": (faces, 40)}


def shipped(models: Path, work: Path) -> dict[str, Any]:
    """Where LiteRT's static int8 breaks a model, it must be caught, and the next best given."""
    rows: dict[str, Any] = {}
    for name, (make, n) in SHIPPED.items():
        path = next(iter(sorted(models.rglob(name))), None)
        if path is None:
            rows[name] = {"skipped": f"no {name} below {models}: make setup fetches it"}
            continue
        model = read_model(path)
        (declared,) = model.graph.declared
        data = work / f"{name}.npz"
        np.savez(data, **{declared.name: make(n)})  # type: ignore[arg-type]
        plan = Plan(model=path, folder=work / name, data=data, budget=0.01, most_s=10.0, sensitivity_s=30.0)
        try:
            rows[name] = _row(optimize(plan, HERE))
        except EdgeprofError as error:
            rows[name] = {"failed": str(error)}
    return rows


def _row(found: Optimized) -> dict[str, Any]:
    by_name = {one.name: one for one in found.tried}
    static = by_name["static-int8"]
    best = by_name[found.best] if found.best else None
    return {
        "static_rejected": static.reason or None,
        "best": found.best,
        "best_speedup": best.standing.speedup.value if best and best.standing else None,
        "candidates": {one.name: one.reason or "accepted" for one in found.tried},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--models", type=Path, default=ROOT / ".cache" / "models")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    try:
        import sklearn  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        print(json.dumps({"name": "optimize", "skipped": f"{error}: make torch"}))
        return
    with tempfile.TemporaryDirectory(prefix="edgeprof-bench-") as folder:
        seeds = [one_seed(seed, Path(folder)) for seed in range(options.seeds)]
        others = shipped(options.models, Path(folder))
    figures = {**figures_of(seeds), "shipped": others}
    if options.out is not None:
        options.out.write_text(json.dumps({"seeds": seeds, "shipped": others}, indent=1))
    print(json.dumps({"name": "optimize", "figures": figures}))


if __name__ == "__main__":
    main()
