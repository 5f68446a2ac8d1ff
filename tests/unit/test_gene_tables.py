"""Tables of genes give what predicting each architecture's parts one by one gives."""

from __future__ import annotations

import numpy as np
import pytest

from latency_models.building import builder
from latency_models.graph import Graph
from latency_models.predictor import Predictor
from latency_models.tables import GeneTable, Slot
from tests.unit.kernel_makers import TARGET, conv_samples, nets

SIZES = (3, 2, 4)


def convolution(channels: int, kernel: int) -> Graph:
    net = builder("onnx")
    return net.graph(net.conv(net.image(16, 16, 16), channels, kernel, activation="relu"))


def first(values: tuple[int, ...]) -> Graph | None:
    return convolution(16 + 8 * values[0], 3)


def second(values: tuple[int, ...]) -> Graph | None:
    return None if values[0] == 0 else convolution(32, (1, 1, 3, 5)[values[1]])


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.fit(TARGET, conv_samples(150), nets(12))


@pytest.fixture(scope="module")
def table(predictor: Predictor) -> GeneTable:
    return GeneTable(predictor, SIZES, [Slot((), lambda _: convolution(8, 3)), Slot((0,), first), Slot((1, 2), second)])


def test_latencies_are_the_sums_of_the_parts(predictor: Predictor, table: GeneTable) -> None:
    genes = np.array([(a, b, c) for a in range(3) for b in range(2) for c in range(4)])

    found = table.predict(genes)

    for row, latency_s in zip(genes, found.latency_s, strict=True):
        graphs = [convolution(8, 3), first((row[0],)), second((row[1], row[2]))]
        per_run_s = predictor.correction.scale * predictor.correction.per_run_s
        parts = [predictor.predict(graph).latency_s - per_run_s for graph in graphs if graph]
        # Each part was predicted in a model of its own here, and in a typical one there.
        assert latency_s == pytest.approx(sum(parts) + per_run_s, rel=0.1)
    assert (found.low_s < found.latency_s).all()
    assert (found.latency_s < found.high_s).all()


def test_many_are_predicted_as_few_are(table: GeneTable) -> None:
    genes = np.random.default_rng(0).integers(0, np.array(SIZES), (1000, len(SIZES)))

    many, few = table.predict(genes), table.predict(genes[:7])

    for name in ("latency_s", "low_s", "high_s"):
        assert getattr(many, name)[:7] == pytest.approx(getattr(few, name))


def test_a_wider_level_is_a_wider_interval(table: GeneTable) -> None:
    narrow, wide = (table.predict([[0, 1, 2]], level) for level in (0.5, 0.9))

    assert wide.high_s[0] > narrow.high_s[0]


@pytest.mark.parametrize("genes", [[[0, 1]], [[3, 0, 0]], [[0, -1, 0]], [0, 1, 2]])
def test_genes_that_are_none_are_refused(table: GeneTable, genes: list[object]) -> None:
    with pytest.raises(ValueError, match=r"genes|a gene is not between"):
        table.predict(genes)  # type: ignore[arg-type]


def test_a_slot_of_genes_that_there_are_not_is_refused(predictor: Predictor) -> None:
    with pytest.raises(ValueError, match="but there are 2"):
        GeneTable(predictor, (2, 2), [Slot((5,), lambda _: None)])


def test_no_architecture_is_no_error(table: GeneTable) -> None:
    assert table.predict(np.zeros((0, 3), dtype=np.int64)).latency_s.shape == (0,)
