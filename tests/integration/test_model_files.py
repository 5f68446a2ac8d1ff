"""The real models themselves: all there, readable, and run by onnxruntime with the shapes that they are listed with."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_agents import inputs, wire
from tests.real_models import EXPORTS, PACKAGED, RealModel, export_path, real_model, real_models

EXPORTED = sorted(path.name.removesuffix(".xz") for path in EXPORTS.glob("*.onnx.xz"))
ONNX_NAMES = sorted({*EXPORTED, *(name for name in PACKAGED if name.endswith(".onnx"))} - {"model.onnx"})


def run(model: RealModel) -> list[np.ndarray[Any, Any]]:
    """What onnxruntime makes of edgeprof's own inputs."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.path, providers=["CPUExecutionProvider"])
    types = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(int32)": "int32"}
    infos = [
        wire.TensorInfo(
            tensor.name,
            types[tensor.type],
            model.shapes.get(tensor.name) or tuple(d if isinstance(d, int) else 1 for d in tensor.shape),
        )
        for tensor in session.get_inputs()
    ]
    data = inputs.make(infos, seed=0)
    feed = {i.name: np.frombuffer(raw, i.dtype).reshape(i.shape) for i, raw in zip(infos, data, strict=True)}
    outputs: list[np.ndarray[Any, Any]] = session.run(None, feed)
    return outputs


def test_every_listed_model_is_here_and_no_name_stands_for_two(models_dir: Path) -> None:
    names = Counter(model.name for model in real_models())

    assert names.total() == len(PACKAGED) + 9 + len(list(EXPORTS.glob("*.xz")))
    assert set(names.values()) == {1}
    assert len(EXPORTED) >= 11


@pytest.mark.parametrize("name", ONNX_NAMES)
def test_a_real_model_runs_with_all_optimisations_and_its_outputs_are_finite(models_dir: Path, name: str) -> None:
    outputs = run(real_model(name))

    assert all(np.isfinite(output).all() for output in outputs)


def test_unpacking_again_after_the_archive_changed_gives_the_new_file() -> None:
    path = export_path("unet.onnx")
    whole = path.read_bytes()
    path.write_bytes(b"old")
    os.utime(path, ns=(0, 0))

    assert export_path("unet.onnx").read_bytes() == whole
    assert not list(path.parent.glob(".unet.onnx.*"))
