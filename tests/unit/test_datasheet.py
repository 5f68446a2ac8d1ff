"""Predictions from data sheets: bounded by the peak, wide, and never without a source."""

from __future__ import annotations

import pytest

from latency_models import boards
from latency_models.building import builder
from latency_models.datasheet import ALIASES, BoardPredictor
from latency_models.graph import Graph
from latency_models.predictor import Model

BOARDS = sorted(set(boards.names()) - {"example"})


def net(channels: int = 64) -> Graph:
    built = builder("onnx")
    x = built.conv(built.image(112, 112), channels, activation="relu")
    return built.graph(built.conv(built.depthwise(x), channels, 1))


@pytest.mark.parametrize("name", [*BOARDS, *ALIASES])
def test_every_board_answers_and_says_where_it_comes_from(name: str) -> None:
    estimate = BoardPredictor.of(name).predict(net())

    assert estimate.origin == "data-sheet"
    assert estimate.low_s < estimate.latency_s < estimate.high_s
    assert estimate.high_s / estimate.low_s > 2.5
    assert estimate.energy is None
    assert all(one.basis == "data-sheet" for one in estimate.operators)


@pytest.mark.parametrize("name", BOARDS)
def test_nothing_is_faster_than_the_peak_of_the_cores(name: str) -> None:
    predictor, graph = BoardPredictor.of(name), net()
    macs = sum(node.macs or 0 for node in graph.operators)

    assert predictor.predict(graph, level=0.999).low_s >= predictor._fastest_s(predictor._maker().of_graph(graph))
    assert predictor.predict(graph).latency_s > macs / 1e12


def test_more_threads_are_faster_and_more_than_there_are_cores_refused() -> None:
    one, four = (BoardPredictor.of("raspberrypi-5", threads).predict(net()).latency_s for threads in (1, 4))

    assert one / 4 < four < one
    with pytest.raises(ValueError, match="has 4 cores of its fastest kind: 5 threads"):
        BoardPredictor.of("raspberrypi-5", 5)


def test_a_newer_board_is_faster() -> None:
    seconds = [BoardPredictor.of(name).predict(net()).latency_s for name in ("pi-3", "pi-4", "pi-5")]

    assert seconds == sorted(seconds, reverse=True)


def test_an_unknown_operator_is_bounded_by_what_it_moves() -> None:
    built = builder("onnx")
    x = built.input((1, 1_000_000))
    (y,) = built.operator("Whirl", [x], [x.shape])
    model: Model = built.graph(y)

    estimate = BoardPredictor.of("pi-4").predict(model)

    (uncovered,) = estimate.uncovered
    assert "Whirl" in uncovered.reason
    assert estimate.latency_s > 8e6 / 1e11


def test_a_board_that_is_not_described_is_named_with_those_that_look_like_it() -> None:
    with pytest.raises(boards.UnknownBoard, match="did you mean"):
        BoardPredictor.of("pi-6")
