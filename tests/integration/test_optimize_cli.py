"""`edgeprof optimize` as people type it: a real classifier of digits, raced on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgeprof.models import read_model
from edgeprof.optimize.inference import Inference
from edgeprof.optimize.samples import read_samples
from tests.integration.command_line import CommandLine
from tests.small_classifier import small_classifier

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

QUICK = ("--budget-time", "1s")


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    folder = tmp_path_factory.mktemp("optimize")
    small_classifier().write(folder)
    home = {"EDGEPROF_HOME": str(folder / "home"), "EDGEPROF_GATE_TIMEOUT": "0"}
    return CommandLine(folder, home)


@pytest.fixture(scope="module")
def found(typed: CommandLine) -> dict[str, Any]:
    done = typed.run(
        "optimize",
        "model.onnx",
        "--data",
        "data.npz",
        "--max-accuracy-drop",
        "2%",
        "--explain",
        *QUICK,
        "--json",
        "r.json",
    )
    assert done.returncode == 0, done.stderr
    assert "judged by top1 on 673 samples" in done.stdout
    document: dict[str, Any] = json.loads((typed.folder / "r.json").read_text())
    return document


def test_every_candidate_is_accounted_for_and_what_is_kept_is_what_was_promised(
    typed: CommandLine, found: dict[str, Any]
) -> None:
    by_name = {one["name"]: one for one in found["candidates"]}
    # The folder is that of model.tflite, too.
    kept = sorted(path.name for path in (typed.folder / "model.optimized").glob("*.onnx"))

    assert {"original", "slim", "offline-all", "dynamic-int8", "float16", "weight-only-int8"} <= set(by_name)
    assert sum(name.startswith("static-") for name in by_name) == 10
    assert kept == sorted(Path(by_name[name]["file"]).name for name in found["front"] if name != "original")
    for one in by_name.values():
        assert (one["rejected"] is None) == (one["latency_s"] is not None), one["name"]
        if one["kind"] == "lossy" and one["rejected"] is None:
            assert one["loss"] <= one["loss_bound"] <= 0.02
        if one["kind"] == "lossless" and one["rejected"] is None:
            assert one["largest_error_of_peak"] < 1e-3
    assert by_name["static-u8-channel-minmax"]["size_bytes"] < 0.5 * by_name["original"]["size_bytes"]


def test_a_kept_file_computes_what_the_report_says(typed: CommandLine, found: dict[str, Any]) -> None:
    lossy = next(
        one for one in found["candidates"] if one["kind"] == "lossy" and one["file"] and one["rejected"] is None
    )
    model = read_model(typed.folder / "model.onnx")
    samples = read_samples(typed.folder / "data.npz", model.graph.declared, model.inputs.shapes)

    scores = []
    for path in (typed.folder / "model.onnx", typed.folder / lossy["file"]):
        outputs = next(iter(Inference("onnxruntime").outputs(path, samples).values()))
        scores.append(float(np.mean(outputs.reshape(len(outputs), -1).argmax(1) == samples.labels)))

    assert scores[0] - scores[1] <= 0.02


def test_the_dynamic_variant_is_slower_and_the_report_says_why(found: dict[str, Any]) -> None:
    dynamic = next(one for one in found["candidates"] if one["name"] == "dynamic-int8")
    reasons = [one["what"] for one in found["findings"] if one["name"] == "dynamic-int8"]

    assert dynamic["speedup"]["value"] < 1.0
    assert found["best"] != "dynamic-int8"
    assert any("ran as ConvInteger" in reason for reason in reasons), found["findings"]


def test_the_store_knows_which_file_came_from_which(typed: CommandLine, found: dict[str, Any]) -> None:
    done = typed.run("runs", "lineage", "model.onnx")

    assert done.returncode == 0, done.stderr
    for name in found["front"]:
        if name != "original":
            assert f"model.{name}.onnx" in done.stdout


def test_tflite_is_optimized_too(typed: CommandLine) -> None:
    done = typed.run(
        "optimize", "model.tflite", "--data", "data_tflite.npz", "--max-accuracy-drop", "5%", *QUICK, "--json", "t.json"
    )

    assert done.returncode == 0, done.stderr
    document = json.loads((typed.folder / "t.json").read_text())
    by_name = {one["name"]: one for one in document["candidates"]}
    assert document["runtime"] == "litert"
    assert by_name["static-int8"]["rejected"] is None, by_name["static-int8"]
    assert by_name["static-int8"]["size_bytes"] < 0.4 * by_name["original"]["size_bytes"]
    assert by_name["weight-only-int8"]["loss"] is not None


def test_without_data_only_lossless_changes_are_tried_and_a_quantised_model_has_no_others(typed: CommandLine) -> None:
    first = typed.run("optimize", "model.onnx", *QUICK, "--out", "lossless", "--json", "l.json")
    from edgeprof.optimize.apart import call

    source = {"source": str(typed.folder / "model.onnx"), "target": str(typed.folder / "dynamic.onnx")}
    call("onnx_quantized", "dynamic", source)
    second = typed.run(
        "optimize", "dynamic.onnx", "--data", "data.npz", "--max-accuracy-drop", "1%", *QUICK, "--json", "q.json"
    )

    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    for name in ("l.json", "q.json"):
        kinds = {one["kind"] for one in json.loads((typed.folder / name).read_text())["candidates"]}
        assert kinds == {"original", "lossless"}
    assert "none may be lossy" in first.stdout
    assert "it is quantised already" in second.stdout


def test_what_a_converter_makes_runs_in_the_other_runtime(typed: CommandLine, tmp_path: Path) -> None:
    """onnx2tf brings gigabytes: a program stands in that hands over the same net in TFLite, its channels last."""
    converter = tmp_path / "onnx2tf"
    converter.write_text(
        f"#!/bin/sh\n[ $1 = -V ] && echo stand-in && exit 0\n"
        f"mkdir -p $4 && cp {typed.folder / 'model.tflite'} $4/model_float32.tflite\n"
    )
    converter.chmod(0o755)
    environment = {**typed.environment, "EDGEPROF_ONNX2TF": str(converter)}

    done = CommandLine(typed.folder, environment).run(
        "optimize", "model.onnx", "--data", "data.npz", "--only", "as-tflite", *QUICK, "--out", "c", "--json", "c.json"
    )

    assert done.returncode == 0, done.stderr
    (_, converted) = json.loads((typed.folder / "c.json").read_text())["candidates"][-2:]
    assert converted["name"] == "as-tflite"
    assert converted["rejected"] is None
    assert converted["largest_error_of_peak"] < 1e-5
    assert converted["latency_s"]["value"] > 0
    assert [step["tool_version"] for step in converted["steps"]] == ["stand-in"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("model.onnx", "--max-accuracy-drop", "1%"), 2, "there is no data to do that with"),
        (("model.onnx", "--max-accuracy-drop", "200%"), 2, "not between 0 and 100 %"),
        (("model.onnx", "--data", "nothing.npz", "--max-accuracy-drop", "1%"), 1, "nothing.npz cannot be read"),
        (
            ("model.onnx", "--data", "data_tflite.npz", "--max-accuracy-drop", "1%"),
            1,
            "have the shape [897, 16, 16, 3]",
        ),
        (("model.onnx", "--data", "few.npz", "--max-accuracy-drop", "1%"), 1, "and 20 are needed"),
        (
            ("model.onnx", "--data", "data.npz", "--calibration", "data.npz", "--max-accuracy-drop", "1%"),
            1,
            "are the same",
        ),
        (
            ("model.onnx", "--data", "data.npz", "--metric", "score.py:bad"),
            1,
            "edgeprof: the metric score.py:bad fails at score.py:2: ValueError",
        ),
        (
            ("model.onnx", "--data", "data.npz", "--metric", "score.py:nan"),
            1,
            "edgeprof: the metric score.py:nan gives nan",
        ),
        (("model.onnx", "--data", "data.npz", "--metric", "top5"), 2, "take top1 or cosine"),
        (("model.onnx", "--only", "nonsense"), 2, "no candidate of this model is called nonsense"),
        (("model.onnx", "--data", "data.npz", "--metric", "score.py:none"), 2, "has no none"),
        (("model.onnx", "-d", "pi5"), 2, "simulates a board"),
        (("nothing.onnx",), 1, "there is no file nothing.onnx"),
        (("nan.onnx", "--data", "data.npz"), 1, "the original itself gives NaN or infinity"),
    ],
)
def test_bad_input_is_refused_before_anything_is_made(
    typed: CommandLine, arguments: tuple[str, ...], code: int, message: str
) -> None:
    _bad_files(typed.folder)
    typed.run("devices", "add", "pi5", "sim:pi-5")

    done = typed.run("optimize", *arguments, "--out", "refused")

    assert done.returncode == code, done.stdout + done.stderr
    assert message in done.stderr + done.stdout
    assert not list((typed.folder / "refused").glob("*")) if (typed.folder / "refused").exists() else True


def _bad_files(folder: Path) -> None:
    classifier = small_classifier()
    np.savez(folder / "few.npz", image=classifier.images[:20], labels=classifier.labels[:20])
    (folder / "score.py").write_text(
        "def bad(outputs, labels):\n    raise ValueError('no such thing')\n\n\n"
        "def nan(outputs, labels):\n    return float('nan')\n"
    )
    model = onnx.load(folder / "model.onnx")
    tensor = model.graph.initializer[0]
    values = onnx.numpy_helper.to_array(tensor) * np.float32("nan")
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(model, folder / "nan.onnx")
