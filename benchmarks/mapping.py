"""How much of what runtimes time is attributed to nodes of the file, whether it adds up, and whether it is right.

Attribution, on every real model that runs (tests/real_models.py; the models that were left aside while the rules were
written are named in docs/measuring.md): `ort_time_share` is the share of kernel time of the worst ONNX model that is
attributed to nodes or known to be layout, `xnnpack_event_share` the share of delegated events of the worst TFLite model
that have a node, `structural_failures` the number of nodes in no or several groups and of kernels without origin.

Correctness, on models whose truth is known without names (tests/truth): `correct_share` is the share of kernels with a
known truth that are mapped to it, over all of them. For ONNX the truth comes from values (what a kernel computes and
reads is compared number by number with every tensor of the file) and from networks in which every kernel's shape is
unique; for TFLite from cutting the model short, node by node. `n_untold` kernels are those whose truth is not told.

    python benchmarks/mapping.py [--out RAW.json] [--quick]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx

from device_agents import wire
from edgeprof.errors import EdgeprofError
from edgeprof.fleet import Device
from edgeprof.models import ModelFile, map_operators, read_model
from edgeprof.models.mapping import Mapped
from edgeprof.profiling import OpenDevice
from edgeprof.run import Run
from tests.real_models import RealModel, real_models
from tests.truth import onnx_values, tflite_prefixes
from tests.truth.once import ONCE, feeds
from tests.truth.unique_shapes import unique_networks

# Cutting short takes a run for each node: these TFLite models are small enough for five minutes in all.
CUT_SHORT = (
    *("face_landmark.tflite", "iris_landmark.tflite", "face_detection_short_range.tflite", "okay_nabu.tflite"),
    *("alexa.tflite", "unet.tflite", "mobilenet_v3_small.tflite", "text_encoder.tflite"),
)
# Where light weights are all alike, so are the numbers that tell tensors apart: no truth from values.
NO_VALUES = "light_"


@dataclass(frozen=True)
class Row:
    """One model: how much was attributed, and how much of what is known is right; None where it was not judged."""

    model: str
    format: str
    n_kernels: int
    share: float | None
    n_failures: int
    failures: tuple[str, ...] = ()
    n_right: int | None = None
    n_wrong: int | None = None
    n_untold: int | None = None
    wrong: tuple[str, ...] = ()
    skipped: str | None = None


def row_of(model: RealModel, device: OpenDevice) -> Row:
    """Profile and map one model, and judge it where its truth can be found."""
    try:
        file = read_model(model.path, shapes=model.shapes)
        run = device.profile(file, ONCE)
    except EdgeprofError as error:
        return Row(model.name, model.path.suffix[1:], 0, None, 0, skipped=str(error))
    recorded = run.profile.operators
    if recorded is None:
        return Row(model.name, file.format, 0, None, 0, skipped=run.profile.operators_missing)
    mapped = map_operators(file, recorded)
    share = time_share(recorded, mapped) if file.format == "onnx" else event_share(recorded, mapped)
    row = Row(model.name, file.format, len(recorded.kernels), share, mapped.structure.n_failures, failures(mapped))
    if model.name in CUT_SHORT:
        return judged_by_cutting(row, file)
    if file.format == "onnx" and not model.name.startswith(NO_VALUES):
        return judged_by_values(row, file, run, mapped)
    return row


def time_share(recorded: wire.OperatorPass, mapped: Mapped) -> float:
    """Share of the kernels' time that has an origin."""
    times = [sum(kernel.times_s) for kernel in recorded.kernels]
    known = sum(times[operator.kernel] for operator in mapped.operators if operator.origin != "unmapped")
    return known / sum(times) if sum(times) else 1.0


def event_share(recorded: wire.OperatorPass, mapped: Mapped) -> float | None:
    """Share of the events inside the delegate that have a node; None where it took no node."""
    inside = [o for o in mapped.operators if recorded.kernels[o.kernel].level == "delegate"]
    return sum(operator.origin != "unmapped" for operator in inside) / len(inside) if inside else None


def failures(mapped: Mapped) -> tuple[str, ...]:
    """Structural failures in words."""
    found = mapped.structure
    kernels = (f"kernel {index} without origin" for index in found.unmapped)
    return (*(f"{n} repeated" for n in found.repeated), *(f"{n} missing" for n in found.missing), *kernels)


# --- truth ---------------------------------------------------------------------------------------------------------


def judged_by_values(row: Row, file: ModelFile, run: Run, mapped: Mapped) -> Row:
    recorded = run.profile.operators
    if recorded is None:
        return row
    by_name = {recorded.kernels[operator.kernel].name: operator for operator in mapped.operators}
    with tempfile.TemporaryDirectory() as folder:
        executed = onnx_values.optimized(file.path, Path(folder))
    try:
        found = onnx_values.judge(onnx.load(file.path), executed, feeds(run), file.graph, by_name)
    except Exception as error:
        # ONNX Runtime's own errors share no class; a model that does not run with all its tensors exposed has no truth.
        print(f"{row.model}: no truth by values: {str(error).splitlines()[0]}")
        return row
    told = {"n_right": len(found.right), "n_wrong": len(found.wrong), "n_untold": len(found.untold)}
    return Row(**{**asdict(row), **told, "wrong": found.wrong})


def judged_by_cutting(row: Row, file: ModelFile) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        truth = tflite_prefixes.find(file.path, Path(folder))
    mapped = map_operators(file, wire.OperatorPass("cut short", (1.0,), truth.kernels, 1e-6))
    n_right, n_wrong = truth.right_and_wrong(mapped.operators)
    n_untold = sum(owner is None for owner in truth.owners)
    return Row(**{**asdict(row), "n_right": n_right, "n_wrong": n_wrong, "n_untold": n_untold})


def judged_by_shapes(device: OpenDevice) -> list[Row]:
    """Networks built so that the shape of what a kernel makes tells which nodes it ran."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (made, truth) in unique_networks().items():
            path = Path(folder) / f"{name}.onnx"
            onnx.save(made, path)
            file = read_model(path)
            recorded = device.profile(file, ONCE).profile.operators
            if recorded is None:
                continue
            mapped = map_operators(file, recorded)
            wrong = truth.wrong(recorded.kernels, mapped.operators)
            n_right = truth.n_told(recorded.kernels, mapped.operators) - len(wrong)
            share = time_share(recorded, mapped)
            told = {"n_right": n_right, "n_wrong": len(wrong), "n_untold": 0, "wrong": tuple(wrong)}
            rows.append(
                Row(
                    **{
                        **asdict(
                            Row(
                                name,
                                "onnx",
                                len(recorded.kernels),
                                share,
                                mapped.structure.n_failures,
                                failures(mapped),
                            )
                        ),
                        **told,
                    }
                )
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true", help="only models with a name before m")
    options = parser.parse_args()
    models = [model for model in real_models() if not options.quick or model.name < "m"]
    with OpenDevice(Device(name="local")) as device:
        rows = [row_of(model, device) for model in models] + judged_by_shapes(device)
    for row in rows:
        judged = "" if row.n_right is None else f"  right {row.n_right}, wrong {row.n_wrong}, untold {row.n_untold}"
        share = "skipped: " + str(row.skipped)[:90] if row.share is None else f"{row.share:7.2%}"
        print(f"{row.model:42s} {row.n_kernels:5d} kernels {share}  {row.n_failures} failures{judged}")
        for failure in (*row.failures[:5], *(f"wrong: {name}" for name in row.wrong[:5])):
            print(f"    {failure}")
    if options.out:
        options.out.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    right, wrong = (sum(getattr(row, name) or 0 for row in rows) for name in ("n_right", "n_wrong"))
    figures = {
        "ort_time_share": round(min(r.share for r in rows if r.format == "onnx" and r.share is not None), 4),
        "xnnpack_event_share": round(min(r.share for r in rows if r.format == "tflite" and r.share is not None), 4),
        "structural_failures": sum(row.n_failures for row in rows),
        "correct_share": round(right / (right + wrong), 5),
        "n_models": sum(row.share is not None for row in rows),
        "n_models_with_truth": sum(bool(row.n_right) for row in rows),
        "n_right": right,
        "n_wrong": wrong,
        "n_untold": sum(row.n_untold or 0 for row in rows),
    }
    print(json.dumps({"name": "mapping", "figures": figures}))


if __name__ == "__main__":
    main()
