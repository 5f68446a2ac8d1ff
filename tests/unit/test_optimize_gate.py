"""The gate and the transforms, on a real classifier of digits: what is right passes, what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgeprof.models import read_model
from edgeprof.optimize.apart import CannotMake, call
from edgeprof.optimize.candidate import LOSSLESS, LOSSY, ORIGINAL, Candidate
from edgeprof.optimize.gate import Gate, largest_error
from edgeprof.optimize.inference import Inference, InferenceFailed
from edgeprof.optimize.making import quantised_already
from edgeprof.optimize.metrics import metric_named
from edgeprof.optimize.samples import Samples, read_samples
from tests.small_classifier import small_classifier

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    small_classifier().write(folder)
    return folder


@pytest.fixture(scope="module")
def samples(folder: Path) -> Samples:
    model = read_model(folder / "model.onnx")
    return read_samples(folder / "data.npz", model.graph.declared, model.inputs.shapes).take(range(300))


@pytest.fixture(scope="module")
def gate(folder: Path, samples: Samples) -> Gate:
    made = Gate(Inference("onnxruntime"), samples, metric_named(None, True, folder), budget=0.02)
    assert made.prepare(_candidate(folder / "model.onnx", ORIGINAL)) > 0.9
    return made


def _candidate(path: Path, kind: str = LOSSY) -> Candidate:
    return Candidate(name=path.stem, kind=kind, path=path, format="onnx")


def _changed(folder: Path, name: str, factor: float) -> Path:
    """The model with the weights of its last layer multiplied."""
    model = onnx.load(folder / "model.onnx")
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    tensor = weights[model.graph.node[-1].input[1]]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), tensor.name))
    onnx.save(model, folder / name)
    return folder / name


@pytest.mark.parametrize(
    ("factor", "reason"),
    [
        (float("nan"), "it gives NaN or infinity in 3000 of 3000 values"),
        (-1.0, r"it loses 9\d\.\d\d% of top1 \(budget 2.00%\)"),
    ],
)
def test_what_computes_nonsense_is_rejected_with_its_reason(
    folder: Path, gate: Gate, factor: float, reason: str
) -> None:
    decision = gate.decide(_candidate(_changed(folder, "changed.onnx", factor)))

    assert not decision.accepted
    import re

    assert re.search(reason, decision.reason), decision.reason


def test_a_lossless_change_must_be_one(folder: Path, gate: Gate) -> None:
    path = _changed(folder, "scaled.onnx", 1.01)

    assert "it is no lossless change" in gate.decide(_candidate(path, LOSSLESS)).reason
    assert gate.decide(_candidate(path, LOSSY)).accepted


def test_zeros_garbage_and_a_crash_are_results(folder: Path, gate: Gate, tmp_path: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(values), tensor.name))
    onnx.save(model, tmp_path / "zeros.onnx")
    (tmp_path / "garbage.onnx").write_bytes(b"\x08garbage" * 99)

    assert gate.decide(_candidate(tmp_path / "zeros.onnx")).reason == "it gives nothing but zeros"
    assert "garbage.onnx" in gate.decide(_candidate(tmp_path / "garbage.onnx")).reason


def test_a_runtime_that_dies_is_told_by_its_signal(
    folder: Path, samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the place of a runtime that crashes a program of ours that dies as one does: a real process, a real signal."""
    killer = tmp_path / "child.py"
    killer.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setattr("edgeprof.optimize.inference.CHILD", killer)

    with pytest.raises(InferenceFailed, match=r"model.onnx: the runtime crashed with SIGSEGV"):
        Inference("onnxruntime").outputs(folder / "model.onnx", samples)


def test_the_same_model_in_both_formats_computes_the_same(folder: Path, samples: Samples) -> None:
    model = read_model(folder / "model.tflite")
    of_tflite = read_samples(folder / "data_tflite.npz", model.graph.declared, model.inputs.shapes).take(range(20))

    one = next(iter(Inference("onnxruntime").outputs(folder / "model.onnx", samples.take(range(20))).values()))
    other = next(iter(Inference("litert").outputs(folder / "model.tflite", of_tflite).values()))

    assert largest_error(other, one) < 1e-5


# --- transforms ---


def _calibration(folder: Path, samples: Samples) -> str:
    path = folder / "calibration.npz"
    np.savez(path, input0=samples.values["input_0"][:64])
    return str(path)


def _n_scaled(path: Path) -> int:
    """How many tensors are dequantised in a file."""
    return sum(node.op_type == "DequantizeLinear" for node in onnx.load(path).graph.node)


def test_static_int8_keeps_the_accuracy_and_its_parts_can_be_left_out(
    folder: Path, samples: Samples, gate: Gate, tmp_path: Path
) -> None:
    prepared = tmp_path / "prepared.onnx"
    call("onnx_quantized", "prepare", {"source": str(folder / "model.onnx"), "target": str(prepared)})
    arguments = {
        "source": str(prepared),
        "samples": _calibration(folder, samples),
        "names": ["input_0"],
        "activations": "u8",
        "per_channel": True,
        "method": "minmax",
        "cache": str(tmp_path / "ranges.json"),
    }
    call("onnx_quantized", "static", {**arguments, "target": str(tmp_path / "whole.onnx")})
    nodes = [node["name"] for node in call("onnx_quantized", "quantisable", {"source": str(prepared)})]
    part = {**arguments, "target": str(tmp_path / "part.onnx"), "exclude": nodes[:2]}
    call("onnx_quantized", "static", part)
    errors = call("onnx_quantized", "sensitivities", {**arguments, "most_s": 60.0})

    whole, partly = (gate.decide(_candidate(tmp_path / name)) for name in ("whole.onnx", "part.onnx"))

    assert whole.loss is not None
    assert abs(whole.loss.observed) < 0.02
    assert partly.error is not None
    assert whole.error is not None
    # The largest error may be that of the last layer, which is in both.
    assert 0 < partly.error <= whole.error
    assert 0 < _n_scaled(tmp_path / "part.onnx") < _n_scaled(tmp_path / "whole.onnx")
    assert (tmp_path / "whole.onnx").stat().st_size < 0.5 * (folder / "model.onnx").stat().st_size
    assert list(errors) == nodes
    assert all(0 < error < 0.5 for error in errors.values())


@pytest.mark.parametrize(("function", "most"), [("half", 0.6), ("weight_only", 0.4), ("dynamic", 0.5)])
def test_other_lossy_files_are_smaller_and_close(
    folder: Path, gate: Gate, tmp_path: Path, function: str, most: float
) -> None:
    target = tmp_path / f"{function}.onnx"
    call("onnx_quantized", function, {"source": str(folder / "model.onnx"), "target": str(target)})

    decision = gate.decide(_candidate(target))

    assert decision.accepted, decision.reason
    assert target.stat().st_size < most * (folder / "model.onnx").stat().st_size
    assert bool(quantised_already(read_model(target))) == (function != "half")


def test_norms_are_folded_and_means_become_pools_exactly(tmp_path: Path) -> None:
    source = onnx.parser.parse_model("""
        <ir_version: 9, opset_import: ["": 17]>
        net (float[1, 3, 8, 8] x) => (float[1, 4, 1, 1] y)
        <float[4, 3, 3, 3] w, float[4] s, float[4] b, float[4] m, float[4] v> {
            c = Conv <pads = [1, 1, 1, 1]> (x, w)
            n = BatchNormalization (c, s, b, m, v)
            y = ReduceMean <axes = [-1, 2]> (n)
        }""")
    rng = np.random.default_rng(0)
    shapes = {"w": (4, 3, 3, 3), "s": (4,), "b": (4,), "m": (4,), "v": (4,)}
    del source.graph.initializer[:]
    for name, shape in shapes.items():
        source.graph.initializer.append(
            numpy_helper.from_array(np.abs(rng.normal(1, 0.3, shape)).astype(np.float32), name)
        )
    onnx.save(source, tmp_path / "norm.onnx")

    done = call(
        "rewriting", "rewrite", {"source": str(tmp_path / "norm.onnx"), "target": str(tmp_path / "rewritten.onnx")}
    )

    x = Samples(values={"x": rng.normal(size=(4, 1, 3, 8, 8)).astype(np.float32)}, labels=None, source="here")
    before, after = (Inference("onnxruntime").outputs(tmp_path / f"{name}.onnx", x) for name in ("norm", "rewritten"))
    assert done == {"ReduceMean to GlobalAveragePool": 1, "BatchNormalization into Conv": 1}
    assert [node.op_type for node in onnx.load(tmp_path / "rewritten.onnx").graph.node] == ["Conv", "GlobalAveragePool"]
    assert largest_error(after["y"], before["y"]) < 1e-6
    with pytest.raises(CannotMake, match="nothing to rewrite"):
        call(
            "rewriting", "rewrite", {"source": str(tmp_path / "rewritten.onnx"), "target": str(tmp_path / "again.onnx")}
        )


def test_litert_quantises_without_a_signature_and_names_what_it_cannot(
    folder: Path, samples: Samples, tmp_path: Path
) -> None:
    model = read_model(folder / "model.tflite")
    data = read_samples(folder / "data_tflite.npz", model.graph.declared, model.inputs.shapes).take(range(300))
    np.savez(tmp_path / "calibration.npz", input0=data.values["input_0"][:64])
    gate = Gate(Inference("litert"), data, metric_named(None, True, folder), budget=0.03)
    gate.prepare(Candidate(name="original", kind=ORIGINAL, path=folder / "model.tflite", format="tflite"))
    arguments = {
        "source": str(folder / "model.tflite"),
        "recipe": "static-int8",
        "samples": str(tmp_path / "calibration.npz"),
        "names": ["input_0"],
    }

    call("tflite_quantized", "quantise", {**arguments, "target": str(tmp_path / "int8.tflite")})
    errors = call("tflite_quantized", "sensitivities", {**arguments, "most_s": 60.0})
    operators = call("tflite_quantized", "quantisable", {"source": str(folder / "model.tflite")})

    decision = gate.decide(Candidate(name="int8", kind=LOSSY, path=tmp_path / "int8.tflite", format="tflite"))
    assert decision.accepted, decision.reason
    assert [one["type"] for one in operators] == [
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "CONV_2D",
        "CONV_2D",
        "FULLY_CONNECTED",
    ]
    assert set(errors) == {one["name"] for one in operators}
    assert all(error > 0 for error in errors.values())
    with pytest.raises(CannotMake, match="no input for the tensor 'nobody'"):
        call("tflite_quantized", "quantise", {**arguments, "names": ["nobody"], "target": str(tmp_path / "no.tflite")})


def test_fixed_shapes_are_those_that_were_asked_for(tmp_path: Path) -> None:
    source = onnx.parser.parse_model("""
        <ir_version: 9, opset_import: ["": 17]>
        net (float[n, 3, h, 8] x) => (float[n, 3, h, 8] y) { y = Relu (x) }""")
    onnx.save(source, tmp_path / "open.onnx")

    arguments = {"source": str(tmp_path / "open.onnx"), "target": str(tmp_path / "fixed.onnx")}
    call("fixing", "fix_onnx", {**arguments, "shapes": {"x": [2, 3, 16, 8]}})

    fixed = onnx.load(tmp_path / "fixed.onnx")
    assert [dim.dim_value for dim in fixed.graph.output[0].type.tensor_type.shape.dim] == [2, 3, 16, 8]
    with pytest.raises(CannotMake, match="fixed already"):
        call("fixing", "fix_onnx", {**arguments, "source": arguments["target"], "shapes": {"x": [2, 3, 16, 8]}})
