"""The mapping against truths that know no names, and its structural check on every real model."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import onnx
import pytest

from device_agents import wire
from edgeprof.fleet import Device
from edgeprof.models import map_operators, read_model
from edgeprof.profiling import OpenDevice
from edgeprof.run import Run
from tests.conftest import MODELS
from tests.real_models import RealModel, real_model, real_models
from tests.truth import onnx_values, tflite_prefixes
from tests.truth.once import ONCE, feeds
from tests.truth.unique_shapes import unique_networks

# One of each kind: a blocked layout, functions, attention, quantised in two ways, control flow, recurrent.
BY_VALUES = (
    *("mobilenet_v3_small.onnx", "vit.onnx", "text_encoder.onnx", "audio.onnx", "grouped_decoder.onnx"),
    *("text_encoder_dynamic_int8.onnx", "ch_PP-OCRv4_rec_infer.onnx", "silero_vad_openvino_16k.onnx", "nmp.onnx"),
)


def profiled(path: Path, shapes: RealModel | None = None) -> Run:
    with OpenDevice(Device(name="local")) as device:
        return device.profile(read_model(path, shapes=shapes.shapes if shapes else None), ONCE)


@pytest.mark.slow
@pytest.mark.parametrize("name", [model.name for model in real_models()] or ["none"])
def test_every_node_of_a_real_model_is_in_exactly_one_group_and_no_kernel_without_origin(name: str) -> None:
    if not MODELS.is_dir():
        pytest.skip("no real models: run `make setup`")
    model = real_model(name)

    run = profiled(model.path, model)

    if run.profile.operators is None:  # LiteRT alone cannot take it
        assert name == "nmp.tflite"
        return
    assert run.structure is not None
    assert (run.structure.repeated, run.structure.missing, run.structure.unmapped) == ((), (), ())
    assert run.structure.n_nodes == run.structure.n_grouped + run.structure.n_folded + run.structure.n_idle


@pytest.mark.parametrize("level", ["extended", "basic", "none"])
@pytest.mark.parametrize("name", ["mobilenet_v3_small.onnx", "text_encoder_static_int8.onnx"])
def test_less_optimised_graphs_are_covered_as_well(name: str, level: str, models_dir: Path) -> None:
    settings = replace(ONCE, options=wire.RuntimeOptions(optimization=level))

    with OpenDevice(Device(name="local")) as device:
        run = device.profile(read_model(real_model(name).path), settings)

    assert run.structure is not None
    assert run.structure.n_failures == 0


@pytest.mark.parametrize("xnnpack", [True, False])
@pytest.mark.parametrize("name", ["okay_nabu.tflite", "face_detection_full_range_sparse.tflite", "text_encoder.tflite"])
def test_an_older_tflite_is_covered_as_well(name: str, xnnpack: bool, models_dir: Path) -> None:
    library = next(
        models_dir.rglob("libtensorflowlite_c.so")
    ).resolve()  # TFLite 2.17, which leaves variables to TFLite
    options = wire.RuntimeOptions(library=str(library), xnnpack=xnnpack)

    with OpenDevice(Device(name="local")) as device:
        run = device.profile(read_model(real_model(name).path), replace(ONCE, runtime="tflite", options=options))

    assert run.structure is not None
    assert run.structure.n_failures == 0


@pytest.mark.parametrize("name", BY_VALUES)
def test_kernels_compute_and_read_what_their_nodes_do(name: str, models_dir: Path, tmp_path: Path) -> None:
    model = real_model(name)
    run = profiled(model.path, model)
    assert run.profile.operators is not None
    by_name = {run.profile.operators.kernels[o.kernel].name: o for o in run.operators}
    graph = read_model(model.path, shapes=model.shapes).graph

    executed = onnx_values.optimized(model.path, tmp_path)
    verdict = onnx_values.judge(onnx.load(model.path), executed, feeds(run), graph, by_name)

    assert verdict.wrong == ()
    # Where activations are quantised as the model runs, fused kernels round differently on some CPUs, and no value
    # after that is recognised.
    least = 1 / 4 if "dynamic_int8" in name else 1 / 2
    assert len(verdict.right) > least * (len(verdict.right) + len(verdict.untold))


@pytest.mark.parametrize("name", unique_networks())
def test_kernels_whose_shape_is_unique_have_the_nodes_of_that_shape(name: str, tmp_path: Path) -> None:
    made, truth = unique_networks()[name]
    onnx.save(made, tmp_path / "network.onnx")

    run = profiled(tmp_path / "network.onnx")

    assert run.profile.operators is not None
    assert truth.wrong(run.profile.operators.kernels, run.operators) == []
    assert truth.n_told(run.profile.operators.kernels, run.operators) >= 6


@pytest.mark.slow
@pytest.mark.parametrize("name", ["alexa.tflite", "unet.tflite", "face_detection_short_range.tflite"])
def test_events_of_xnnpack_are_those_of_the_node_with_which_they_appear(
    name: str, models_dir: Path, tmp_path: Path
) -> None:
    model = real_model(name)
    truth = tflite_prefixes.find(model.path, tmp_path)

    operators, _, _ = map_operators(read_model(model.path), wire.OperatorPass("cut short", (1.0,), truth.kernels, 1e-6))

    n_right, n_wrong = truth.right_and_wrong(operators)
    assert n_wrong == 0
    assert n_right > 0.7 * len(truth.owners)


def test_a_wrong_mapping_is_found_wrong_by_values(models_dir: Path, tmp_path: Path) -> None:
    model = real_model("mobilenet_v3_small.onnx")
    run = profiled(model.path, model)
    assert run.profile.operators is not None
    names = [kernel.name for kernel in run.profile.operators.kernels]
    graph = read_model(model.path, shapes=model.shapes).graph
    fused = [o for o in run.operators if o.origin == "fused"]
    swapped = {names[a.kernel]: b for a, b in pairwise(fused)}

    executed = onnx_values.optimized(model.path, tmp_path)
    verdict = onnx_values.judge(onnx.load(model.path), executed, feeds(run), graph, swapped)

    assert not verdict.right
    assert len(verdict.wrong) > 20
