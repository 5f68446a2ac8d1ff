"""What trainings draw: models of every size, of microseconds too, and the odd things that real files have."""

from __future__ import annotations

import pytest

from edgeprof.training.nets import draw_net
from edgeprof.training.probes import ANCHOR_MACS, LITTLE_BYTES, draw_probe
from latency_models.features.broadcasting import BROADCASTING, run_length
from latency_models.graph import Graph

MOST_OF_LITTLE = 45 * LITTLE_BYTES


def moved(graph: Graph) -> float:
    return sum(float(one.moved_bytes or 0) for one in graph.operators)


@pytest.mark.parametrize("format", ["onnx", "tflite"])
def test_some_probes_have_small_scenes_alone(format: str) -> None:
    sizes = sorted(moved(draw_probe(3, number, format)) for number in range(60))
    n_little = sum(size <= MOST_OF_LITTLE for size in sizes)
    assert 5 <= n_little <= 30
    assert sizes[-1] > 10 * MOST_OF_LITTLE


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_what_sees_sound_as_it_comes_is_small_and_remembers(precision: str) -> None:
    graph = draw_net(1, 16, "streaming", "tflite", precision)
    types = [one.type for one in graph.operators]
    assert {"READ_VARIABLE", "ASSIGN_VARIABLE", "FULLY_CONNECTED"} <= set(types)
    assert moved(graph) < 5e6
    assert sum(one.macs == ANCHOR_MACS for one in graph.operators) == 1


@pytest.mark.parametrize(("format", "precision"), [("onnx", "float32"), ("tflite", "float32"), ("tflite", "int8")])
def test_tensors_laid_over_others_have_runs_of_every_length(format: str, precision: str) -> None:
    lengths = []
    for number in range(4):
        graph = draw_probe(2, number, format, precision, only="broadcast")
        for one in graph.operators:
            if one.type in BROADCASTING:
                shapes = [tuple(dim or 0 for dim in graph.shape(name) or ()) for name in one.inputs]
                result = tuple(dim or 0 for dim in graph.shape(one.outputs[0]) or ())
                lengths.append(run_length(shapes, result, format))
    assert len(lengths) > 60
    assert sum(length <= 4 for length in lengths) > 5
    assert sum(length > 1000 for length in lengths) > 5


@pytest.mark.parametrize(("format", "type"), [("onnx", "Conv"), ("tflite", "CONV_2D")])
def test_windows_are_longer_than_those_of_images(format: str, type: str) -> None:
    graph = draw_probe(2, 1, format, only="long windows")
    weights = [graph.shape(one.inputs[1]) or () for one in graph.operators if one.type == type]
    assert max(dim or 0 for shape in weights for dim in shape) > 30
