"""Whole graphs from end-to-end latencies: on made-up devices that work in different ways, whatever way that is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from latency_models.building import Value, builder
from latency_models.evaluation import spearman
from latency_models.graph import Graph
from latency_models.simplify import pruned
from latency_models.whole_graph import WholeGraphPredictor, adapt, choose_samples, is_enough
from latency_models.whole_graph.adapting import said_by
from latency_models.whole_graph.features import ALL, LIVE, PATH, SHAPE, Encoder
from latency_models.write_onnx import onnx_bytes

Array = NDArray[np.float64]
Genes = NDArray[np.int64]
# A cell of four nodes: each edge is nothing, a pool, or one of two convolutions; what leads nowhere is there too.
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
N_NETS = 700


def cell(genes: Genes) -> Graph:
    net = builder("onnx")
    nodes: list[Value | None] = [net.image(16, 16, 8), None, None, None]
    for (source, target), gene in zip(EDGES, genes, strict=True):
        before = nodes[source]
        if gene and before is not None:
            made = (
                net.pool(before, "average", 3, 1, padding="same")
                if gene == 1
                else net.conv(before, 8, (1, 3)[gene - 2])
            )
            there = nodes[target]
            nodes[target] = made if there is None else net.add(there, made)
    out = nodes[3]
    assert out is not None
    return net.graph(out)


@pytest.fixture(scope="module")
def space() -> tuple[Genes, list[Graph]]:
    random = np.random.default_rng(0)
    genes = random.integers(0, 4, (4 * N_NETS, len(EDGES)))
    genes = np.array([row for row in genes if row[3] or (row[0] and row[4]) or (row[1] and row[5])][:N_NETS])
    return genes, [cell(row) for row in genes]


def device(kind: str, genes: Genes, graphs: list[Graph]) -> Array:
    """Seconds on a made-up device, with 2 % of noise."""
    cost = {"AveragePool": 0.3, "Add": 0.1}

    def work(graph: Graph) -> float:
        return sum(cost.get(node.type, 0.2 + 3e-6 * (node.macs or 0)) for node in graph.operators)

    def depth(graph: Graph) -> float:
        longest: dict[str, float] = {}
        for node in graph.operators:
            before = max((longest.get(name, 0.0) for name in node.inputs), default=0.0)
            longest.update(dict.fromkeys(node.outputs, before + cost.get(node.type, 0.2 + 3e-6 * (node.macs or 0))))
        return max(longest.values())

    ways: dict[str, Callable[[Graph], float]] = {
        "runs everything": lambda graph: 1.0 + work(graph),
        "removes dead branches": lambda graph: 1.0 + work(pruned(graph)),
        "runs branches in parallel": lambda graph: 1.0 + depth(pruned(graph)),
        "spills its cache": lambda graph: 1.0 + work(pruned(graph)) + (1.5 if work(pruned(graph)) > 2.0 else 0.0),
    }
    exact = 1e-3 * np.array([ways[kind](graph) for graph in graphs])
    return exact * np.random.default_rng(1).normal(1.0, 0.02, len(exact))


KINDS = {
    "runs everything": 0.97,
    "removes dead branches": 0.97,
    "runs branches in parallel": 0.95,
    "spills its cache": 0.93,
}


@pytest.mark.parametrize("kind", KINDS)
def test_one_method_does_for_devices_that_work_in_different_ways(kind: str, space: tuple[Genes, list[Graph]]) -> None:
    genes, graphs = space
    y = device(kind, genes, graphs)
    predictor = WholeGraphPredictor.fit(y[:60], graphs[:60], genes[:60])

    found = predictor.predict_many(graphs[60:], genes[60:])

    assert (spearman(y[60:], found.latency_s) or 0.0) > KINDS[kind]
    inside = (found.low_s <= y[60:]) & (y[60:] <= found.high_s)
    assert 0.8 < inside.mean() <= 1.0


def test_dead_branches_and_what_is_left_are_counted_apart(space: tuple[Genes, list[Graph]]) -> None:
    genes, graphs = space
    design = WholeGraphPredictor.fit(np.ones(20), graphs[:20], genes[:20]).encoder.encode(graphs, genes)

    everything, live = design.blocks[ALL].sum(axis=1), design.blocks[LIVE].sum(axis=1)

    assert (live <= everything).all()
    assert (live < everything).any()
    assert design.blocks[SHAPE].shape == (len(graphs), 5)


def test_the_path_with_most_work_is_counted_where_branches_run_side_by_side() -> None:
    net = builder("onnx")
    x = net.image(16, 16, 8)
    short = net.conv(x, 8, 1)
    long = net.conv(net.conv(x, 8, 3), 8, 3)
    net.conv(net.conv(net.conv(x, 8, 5), 8, 5), 8, 5)  # nobody reads it
    graph = net.graph(net.add(short, long))
    encoder = Encoder.of([graph], None)

    (on_path,) = encoder.encode([graph], None).blocks[PATH]

    counted = {kind.split("] ")[0]: n for kind, n in zip(encoder.kinds, on_path, strict=True)}
    assert [counted[kind] for kind in ("Conv [1, 1", "Conv [3, 3", "Conv [5, 5")] == [0, 2, 0]
    assert sum(on_path) == 3  # and the sum


def test_ten_samples_on_a_new_device_are_enough_with_predictors_of_others(space: tuple[Genes, list[Graph]]) -> None:
    genes, graphs = space
    sources = [
        WholeGraphPredictor.fit(y[:200], graphs[:200], genes[:200])
        for y in (device("removes dead branches", genes, graphs), device("spills its cache", genes, graphs))
    ]
    y = 3.0 * device("removes dead branches", genes, graphs)
    pool = sources[0].encoder.encode(graphs, genes)
    chosen = choose_samples(pool, said_by(sources, pool), 10)

    new = adapt(sources, y[chosen], [graphs[k] for k in chosen], genes[chosen], target="new")

    others = np.setdiff1d(np.arange(len(y)), chosen)
    found = new.predict_many([graphs[k] for k in others], genes[others])
    assert len(set(chosen.tolist())) == 10
    assert (spearman(y[others], found.latency_s) or 0.0) > 0.97
    assert np.median(np.abs(found.latency_s / y[others] - 1)) < 0.05


def test_five_samples_tell_how_fast_a_device_like_others_is(space: tuple[Genes, list[Graph]]) -> None:
    genes, graphs = space
    y = 3.0 * device("removes dead branches", genes, graphs)
    sources = [
        WholeGraphPredictor.fit(device(kind, genes, graphs)[:300], graphs[:300], genes[:300], target=kind)
        for kind in ("removes dead branches", "runs branches in parallel")
    ]
    chosen = choose_samples(Encoder.of(graphs, genes).encode(graphs, genes), None, 5)

    new = adapt(sources, y[chosen], [graphs[k] for k in chosen], genes[chosen])

    errors = np.abs(new.predict_many(graphs, genes).latency_s / y - 1.0)
    assert np.median(errors) < 0.1
    assert sum(part.seconds for part in new.explain(graphs[7], list(genes[7]))) == pytest.approx(
        new.predict(graphs[7], list(genes[7])).latency_s
    )


def test_sources_that_mislead_are_given_up(space: tuple[Genes, list[Graph]]) -> None:
    genes, graphs = space
    y = device("runs everything", genes, graphs)
    sources = [WholeGraphPredictor.fit(1e-6 / y[:300], graphs[:300], genes[:300], target="the other way round")]
    chosen = np.arange(300, 320)
    samples = [graphs[k] for k in chosen]

    new = adapt(sources, y[chosen], samples, genes[chosen])

    alone = WholeGraphPredictor.fit(y[chosen], samples, genes[chosen])
    tested = slice(400, None)
    errors = [
        np.mean(np.abs(one.predict_many(graphs[tested], genes[tested]).latency_s / y[tested] - 1.0))
        for one in (new, alone)
    ]
    assert errors[0] < 1.25 * errors[1]


def test_genes_alone_are_enough_for_a_space_without_graphs() -> None:
    random = np.random.default_rng(0)
    genes = random.integers(0, 9, (900, 22))
    table = random.uniform(0.5, 3.0, (22, 9))
    y = 1e-3 * (5 + table[np.arange(22), genes].sum(axis=1)) * random.normal(1, 0.01, 900)

    found = WholeGraphPredictor.fit(y[:700], genes=genes[:700]).predict_many(genes=genes[700:])

    assert (spearman(y[700:], found.latency_s) or 0.0) > 0.97


def test_whole_milliseconds_are_learned_with_their_ties(space: tuple[Genes, list[Graph]]) -> None:
    genes, graphs = space
    y = np.ceil(4e3 * device("removes dead branches", genes, graphs)) / 1e3

    found = WholeGraphPredictor.fit(y[:100], graphs[:100], genes[:100]).predict_many(graphs[100:], genes[100:])

    assert np.mean(np.abs(found.latency_s / y[100:] - 1) < 0.1) > 0.8


def test_a_constant_latency_is_predicted_as_what_it_is(space: tuple[Genes, list[Graph]]) -> None:
    genes, graphs = space

    found = WholeGraphPredictor.fit(np.full(30, 2e-3), graphs[:30], genes[:30]).predict_many(graphs, genes)

    assert found.latency_s == pytest.approx(np.full(len(graphs), 2e-3), rel=0.02)


def test_an_operator_that_no_net_had_is_named_and_widens_the_interval(space: tuple[Genes, list[Graph]]) -> None:
    _, graphs = space
    y = device("runs everything", space[0], graphs)
    predictor = WholeGraphPredictor.fit(y[:60], graphs[:60])
    net = builder("onnx")
    other = net.graph(net.activate(net.image(16, 16, 8), "tanh"))

    known, unknown = predictor.predict(graphs[70]), predictor.predict(other)
    many = predictor.predict_many([graphs[70], other])

    assert "Tanh" in unknown.notes[0]
    assert unknown.high_s / unknown.latency_s > known.high_s / known.latency_s
    assert unknown.distance > known.distance
    assert not many.unknown[0]
    assert "Tanh" in many.unknown[1][0]
    assert many.low_s == pytest.approx(np.array([known.low_s, unknown.low_s]))
    assert many.high_s == pytest.approx(np.array([known.high_s, unknown.high_s]))


def test_sources_that_know_different_operators_are_each_asked_in_their_own_way(
    space: tuple[Genes, list[Graph]],
) -> None:
    genes, graphs = space
    y = device("removes dead branches", genes, graphs)
    no_pools = [k for k, row in enumerate(genes) if not (row == 1).any()][:40]
    sources = [
        WholeGraphPredictor.fit(y[:80], graphs[:80], genes[:80]),
        WholeGraphPredictor.fit(y[no_pools], [graphs[k] for k in no_pools], genes[no_pools], gene_sizes=[4] * 6),
    ]
    net = builder("onnx")
    other = net.graph(net.activate(net.image(16, 16, 8), "tanh"))

    new = adapt(sources, 2 * y[100:115], graphs[100:115], genes[100:115], target="new")

    found = new.predict_many([*graphs[300:600], other], genes[300:601])
    assert (spearman(y[300:600], found.latency_s[:300]) or 0.0) > 0.95
    assert not any(found.unknown[:300])
    assert "Tanh" in found.unknown[300][0]
    assert new.predict(other, genes[600].tolist()).high_s == pytest.approx(found.high_s[300])
    with pytest.raises(ValueError, match="use said_of"):
        said_by(sources, sources[0].encoder.encode(graphs, genes))
    with pytest.raises(ValueError, match="different numbers of genes: 0, 6"):
        adapt([sources[0], WholeGraphPredictor.fit(y[:9], graphs[:9])], y[:9], graphs[:9], genes[:9])


def test_a_model_is_predicted_as_a_file_or_as_its_bytes(space: tuple[Genes, list[Graph]], tmp_path: Path) -> None:
    genes, graphs = space
    net = builder("onnx")
    x = net.image(16, 16, 8)
    graph = net.graph(net.conv(net.conv(x, 8, 3), 8, 1))
    data = onnx_bytes(graph)
    (tmp_path / "net.onnx").write_bytes(data)
    predictor = WholeGraphPredictor.fit(device("runs everything", genes, graphs)[:60], graphs[:60])

    found = predictor.predict(graph)

    assert not found.notes
    assert predictor.predict(data).latency_s == pytest.approx(found.latency_s, rel=1e-3)
    assert predictor.predict(tmp_path / "net.onnx") == predictor.predict(data)
    assert predictor.predict_many([data]).latency_s == pytest.approx([found.latency_s], rel=1e-3)
    with pytest.raises(ValueError, match="not an ONNX model"):
        predictor.predict(b"nothing")
    with pytest.raises(ValueError, match="level is 2"):
        predictor.predict(data, level=2)


@pytest.mark.parametrize(
    ("latency_s", "message"),
    [
        ([1.0, 2.0], "too few"),
        ([1.0, -2.0, 3.0], "not a number above 0"),
        ([1.0, float("nan"), 3.0], "not a number above"),
    ],
)
def test_measurements_that_make_no_sense_are_refused(latency_s: list[float], message: str) -> None:
    genes = np.zeros((len(latency_s), 2), dtype=np.int64)
    with pytest.raises(ValueError, match=message):
        WholeGraphPredictor.fit(latency_s, genes=genes)


def test_what_does_not_belong_together_is_refused(space: tuple[Genes, list[Graph]]) -> None:
    genes, graphs = space
    with pytest.raises(ValueError, match="give graphs, or genes, or both"):
        WholeGraphPredictor.fit([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="there are 4 graphs for 3 measurements"):
        WholeGraphPredictor.fit([1.0, 2.0, 3.0], graphs[:4])
    predictor = WholeGraphPredictor.fit([1.0, 2.0, 3.0], genes=genes[:3])
    with pytest.raises(ValueError, match="none of the training's had"):
        predictor.predict_many(genes=np.full((1, 6), 9))
    with pytest.raises(ValueError, match="name at least one predictor"):
        adapt([], [1.0, 2.0, 3.0], graphs[:3])
    with pytest.raises(ValueError, match="20 nets cannot be chosen of 3"):
        choose_samples(predictor.encoder.encode(None, genes[:3]), None, 20)


def test_values_that_no_sample_had_are_predicted_where_the_size_of_the_space_is_named() -> None:
    random = np.random.default_rng(0)
    genes = random.integers(0, 4, (80, 6))
    table = random.uniform(0.5, 3.0, (6, 5))
    new = genes.copy()
    new[np.arange(80), np.arange(80) % 6] = 4
    y, new_y = (1e-3 * (2.0 + table[np.arange(6), some].sum(axis=1)) for some in (genes, new))
    wide = WholeGraphPredictor.fit(y * random.normal(1, 0.02, 80), genes=genes, gene_sizes=[5] * 6)

    known, found = wide.predict_many(genes=genes), wide.predict_many(genes=new)

    width = found.high_s / found.low_s
    assert 1.2 * np.median(known.high_s / known.low_s) < np.median(width)
    assert (width < 10).all()
    assert ((found.low_s <= new_y) & (new_y <= found.high_s)).mean() > 0.7
    with pytest.raises(ValueError, match="name the size of the space"):
        WholeGraphPredictor.fit(y, genes=genes).predict_many(genes=new)


def chains(lengths: list[int], tails: list[int], side: int = 16) -> list[Graph]:
    """Chains of convolutions that end in some activations."""
    graphs = []
    for length, tail in zip(lengths, tails, strict=True):
        net = builder("onnx")
        x = net.image(side, side, 8)
        for _ in range(length):
            x = net.conv(x, 8, 3)
        for _ in range(tail):
            x = net.activate(x, "relu")
        graphs.append(net.graph(x))
    return graphs


def test_what_never_varied_is_unsure_but_not_absurd() -> None:
    random = np.random.default_rng(0)
    lengths = random.integers(1, 7, 40).tolist()
    y = 1e-3 * (0.5 + np.array(lengths)) * random.normal(1.0, 0.01, 40)
    predictor = WholeGraphPredictor.fit(y, chains(lengths, [1] * 40))

    found = predictor.predict_many(chains([4, 4, 4, 4], [1, 2, 0, 5]))

    width = found.high_s / found.low_s
    assert width[0] < 1.1
    assert (1.2 * width[0] < width[1:3]).all()
    assert width[1] < width[3] < 100
    # One more is taken for nothing or for about as much as what did vary: a convolution, 1 ms.
    more_s = 1.2e-3 * np.array([0, 1, -1, 4])
    assert (found.latency_s >= 4.4e-3 + np.minimum(more_s, 0)).all()
    assert (found.latency_s <= 4.6e-3 + np.maximum(more_s, 0)).all()
    assert (found.latency_s[:2] < found.latency_s[[1, 3]]).all()


def test_nets_that_were_all_alike_give_wide_intervals_for_others() -> None:
    y = 1e-3 * np.random.default_rng(0).normal(1.0, 0.02, 30)
    predictor = WholeGraphPredictor.fit(
        y, chains([3] * 30, [1] * 30), np.zeros((30, 2), dtype=np.int64), gene_sizes=[2, 2]
    )

    same, other = chains([3], [1])[0], chains([6], [1])[0]
    found = predictor.predict_many([same, other, same], np.array([[0, 0], [0, 0], [1, 0]]))

    width = found.high_s / found.low_s
    assert width[0] < 1.3
    assert (width[0] < width[1:]).all()
    assert (width[1:] < 100).all()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([3, 3], "there are 2 gene_sizes for 3 genes"),
        ([3, 3, 2], "gene 2 has the value 2, and gene_sizes give it 2 values"),
    ],
)
def test_sizes_that_do_not_fit_the_genes_are_refused(sizes: list[int], message: str) -> None:
    genes = np.array([[0, 0, 0], [1, 1, 1], [2, 2, 2]])
    with pytest.raises(ValueError, match=message):
        WholeGraphPredictor.fit([1.0, 2.0, 3.0], genes=genes, gene_sizes=sizes)


def test_genes_that_are_none_are_refused(space: tuple[Genes, list[Graph]]) -> None:
    with pytest.raises(ValueError, match="gene_sizes are given, but no genes"):
        WholeGraphPredictor.fit([1.0, 2.0, 3.0], space[1][:3], gene_sizes=[4])
    with pytest.raises(ValueError, match="give integers"):
        WholeGraphPredictor.fit([1.0, 2.0, 3.0], genes=np.zeros(3, dtype=np.int64))
    with pytest.raises(ValueError, match="a gene is below 0"):
        WholeGraphPredictor.fit([1.0, 2.0, 3.0], genes=np.full((3, 2), -1))


def test_what_the_predictor_was_fitted_to_must_be_given(space: tuple[Genes, list[Graph]]) -> None:
    genes, graphs = space
    predictor = WholeGraphPredictor.fit([1.0, 2.0, 3.0], graphs[:3], genes[:3], gene_sizes=[4] * 6)

    with pytest.raises(ValueError, match="fitted to graphs"):
        predictor.predict_many(genes=genes[:3])
    with pytest.raises(ValueError, match="fitted to genes"):
        predictor.predict_many(graphs[:3])
    with pytest.raises(ValueError, match="there are 3 graphs for 2 rows of genes"):
        predictor.predict_many(graphs[:3], genes[:2])


def test_measuring_stops_when_errors_no_longer_fall_or_are_small_enough() -> None:
    assert not is_enough([0.5, 0.4])
    assert is_enough([0.5, 0.04], target_error=0.05)
    assert not is_enough([0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.08, 0.06])
    assert is_enough([0.5, 0.3, 0.2, 0.2, 0.21, 0.2, 0.2, 0.21, 0.2, 0.2, 0.2, 0.2])


def test_nothing_that_runs_in_vain_is_left_of_a_pruned_graph() -> None:
    net = builder("onnx")
    x = net.image(8, 8, 4)
    net.conv(x, 4, 3)  # nobody reads it
    constant = net.weights((1, 4, 8, 8))
    folded = net.activate(Value(constant.name, (1, 8, 8, 4), is_image=True), "relu")
    (same,) = net.operator("Identity", [net.conv(x, 4, 1)], [(1, 4, 8, 8)])
    out = net.add(Value(same.name, (1, 8, 8, 4), is_image=True), folded)

    left = pruned(net.graph(out))

    assert [node.type for node in left.operators] == ["Conv", "Add"]
    assert left.operators[1].inputs[0] == left.operators[0].outputs[0]
