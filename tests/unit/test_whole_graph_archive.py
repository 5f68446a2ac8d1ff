"""Predictors of whole graphs as files, and what their predictions are made of."""

from __future__ import annotations

import json
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import latency_models
from latency_models import archive
from latency_models.archive import ArchiveError
from latency_models.graph import Graph
from latency_models.predictor import Predictor
from latency_models.whole_graph import AdaptedPredictor, WholeGraphPredictor, adapt
from latency_models.whole_graph.additive_process import AdditiveProcess
from latency_models.whole_graph.experts import Experts, Positive
from latency_models.whole_graph.explaining import CONSTANT, IN_LOGARITHMS, OF_SOURCES, explained
from tests.unit.kernel_makers import TARGET, conv_samples
from tests.unit.test_whole_graph import cell, chains, device

Genes = NDArray[np.int64]
N = 60


@pytest.fixture(scope="module")
def nets() -> tuple[Genes, list[Graph]]:
    genes = np.random.default_rng(0).integers(1, 4, (N, 6))
    genes[::3, 1] = 0
    return genes, [cell(row) for row in genes]


@pytest.fixture(scope="module")
def predictor(nets: tuple[Genes, list[Graph]]) -> WholeGraphPredictor:
    genes, graphs = nets
    y = device("spills its cache", genes, graphs)
    found = WholeGraphPredictor.fit(y[:30], graphs[:30], genes[:30], gene_sizes=[4] * 6, target="a box")
    return replace(found, provenance={"who": "a test"})


@pytest.fixture(scope="module")
def adapted(nets: tuple[Genes, list[Graph]], predictor: WholeGraphPredictor) -> AdaptedPredictor:
    genes, graphs = nets
    other = WholeGraphPredictor.fit(device("runs everything", genes, graphs)[:20], graphs[:20], genes[:20])
    y = 2 * device("removes dead branches", genes, graphs)
    return adapt([predictor, other], y[:10], graphs[:10], genes[:10], target="another box")


def test_what_was_written_reads_back_and_answers_the_same(
    predictor: WholeGraphPredictor, nets: tuple[Genes, list[Graph]], tmp_path: Path
) -> None:
    genes, graphs = nets
    predictor.save(tmp_path / "box.predictor")

    again = WholeGraphPredictor.load(tmp_path / "box.predictor")

    assert again.predict(graphs[50], genes[50].tolist()) == predictor.predict(graphs[50], genes[50].tolist())
    assert (again.predict_many(graphs, genes).high_s == predictor.predict_many(graphs, genes).high_s).all()
    assert again.explain(graphs[50], genes[50].tolist()) == predictor.explain(graphs[50], genes[50].tolist())
    assert (again.target, again.encoder, again.metrics) == ("a box", predictor.encoder, predictor.metrics)
    assert again.provenance == {"who": "a test"}
    again.save(tmp_path / "again.predictor")
    assert (tmp_path / "again.predictor").read_bytes() == (tmp_path / "box.predictor").read_bytes()


def test_an_adapted_one_is_one_file_with_its_sources(
    adapted: AdaptedPredictor, nets: tuple[Genes, list[Graph]], tmp_path: Path
) -> None:
    genes, graphs = nets
    adapted.save(tmp_path / "new.predictor")

    again = AdaptedPredictor.load(tmp_path / "new.predictor")

    assert again.predict(graphs[50], genes[50].tolist()) == adapted.predict(graphs[50], genes[50].tolist())
    assert again.explain(graphs[50], genes[50].tolist()) == adapted.explain(graphs[50], genes[50].tolist())
    assert "adapted from a box, target" in again.predict(graphs[50], genes[50].tolist()).notes


def test_a_predictor_of_genes_alone_is_kept_too(tmp_path: Path) -> None:
    genes = np.random.default_rng(0).integers(0, 3, (30, 4))
    predictor = WholeGraphPredictor.fit(1e-3 * (1 + genes.sum(axis=1)), genes=genes)
    predictor.save(tmp_path / "genes.predictor")

    again = WholeGraphPredictor.load(tmp_path / "genes.predictor")

    assert again.predict(genes=[0, 1, 2, 0]) == predictor.predict(genes=[0, 1, 2, 0])
    parts = again.explain(genes=[0, 1, 2, 0])
    assert sum(part.seconds for part in parts) == pytest.approx(again.predict(genes=[0, 1, 2, 0]).latency_s)


def test_one_function_reads_all_kinds_and_each_class_only_its_own(
    predictor: WholeGraphPredictor, adapted: AdaptedPredictor, tmp_path: Path
) -> None:
    predictor.save(tmp_path / "whole.predictor")
    adapted.save(tmp_path / "adapted.predictor")
    Predictor.fit(TARGET, conv_samples(60)).save(tmp_path / "kernels.predictor")

    kinds = [type(latency_models.load(tmp_path / f"{name}.predictor")) for name in ("whole", "adapted", "kernels")]

    assert kinds == [WholeGraphPredictor, AdaptedPredictor, Predictor]
    with pytest.raises(ArchiveError, match="was adapted from others"):
        WholeGraphPredictor.load(tmp_path / "adapted.predictor")
    with pytest.raises(ArchiveError, match="was not adapted from others"):
        AdaptedPredictor.load(tmp_path / "whole.predictor")
    with pytest.raises(ArchiveError, match="was not learned from whole graphs"):
        WholeGraphPredictor.load(tmp_path / "kernels.predictor")
    for name in ("whole", "adapted"):
        with pytest.raises(ArchiveError, match="was learned from whole graphs and knows no kernels"):
            archive.load(tmp_path / f"{name}.predictor")


def test_damage_anywhere_is_refused_and_never_read_as_something_else(
    adapted: AdaptedPredictor, nets: tuple[Genes, list[Graph]], tmp_path: Path
) -> None:
    path = tmp_path / "new.predictor"
    adapted.save(path)
    data = path.read_bytes()
    random = np.random.default_rng(0)
    expected = adapted.predict(nets[1][50], nets[0][50].tolist())
    for place in random.integers(0, len(data), 40):
        damaged = bytearray(data)
        damaged[int(place)] ^= 0xFF
        path.write_bytes(bytes(damaged))
        try:
            again = AdaptedPredictor.load(path)
        except ArchiveError:
            continue
        assert again.predict(nets[1][50], nets[0][50].tolist()) == expected  # a byte that nothing depends on


@pytest.mark.parametrize("size", [0, 10, 1000, -20])
def test_a_file_that_was_cut_off_is_refused(predictor: WholeGraphPredictor, size: int, tmp_path: Path) -> None:
    path = tmp_path / "box.predictor"
    predictor.save(path)
    path.write_bytes(path.read_bytes()[:size])

    with pytest.raises(ArchiveError, match=r"box\.predictor"):
        latency_models.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "has schema 2"),
        ({"experts": []}, "weights for 0 experts"),
        ({"experts": [{"form": "magic"}]}, "is damaged"),
        ({"encoder": None}, "is damaged"),
        ({"format": "else"}, "is no predictor"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(
    predictor: WholeGraphPredictor, change: dict[str, object], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "box.predictor"
    predictor.save(path)
    with zipfile.ZipFile(path) as stored:
        parts = {name: stored.read(name) for name in stored.namelist()}
    parts["manifest.json"] = json.dumps({**json.loads(parts["manifest.json"]), **change}).encode()
    with zipfile.ZipFile(path, "w") as changed:
        for name, data in parts.items():
            changed.writestr(name, data)

    with pytest.raises(ArchiveError, match=message):
        latency_models.load(path)


def test_a_pickle_is_never_read(predictor: WholeGraphPredictor, tmp_path: Path) -> None:
    path = tmp_path / "box.predictor"
    predictor.save(path)
    with zipfile.ZipFile(path, "a") as stored:
        stored.writestr("payload.pkl", pickle.dumps({}))

    with pytest.raises(ArchiveError, match="parts are missing or were added"):
        latency_models.load(path)


def test_parts_add_up_to_what_is_predicted(
    predictor: WholeGraphPredictor, adapted: AdaptedPredictor, nets: tuple[Genes, list[Graph]]
) -> None:
    for one in (predictor, adapted):
        for genes, graph in zip(nets[0][30:40], nets[1][30:40], strict=True):
            parts = one.explain(graph, genes.tolist())
            assert sum(part.seconds for part in parts) == pytest.approx(one.predict(graph, genes.tolist()).latency_s)
    assert any(part.what == OF_SOURCES for part in parts)


def test_a_sum_is_taken_apart_into_what_each_operator_takes() -> None:
    random = np.random.default_rng(0)
    lengths, tails = random.integers(1, 7, 50), random.integers(0, 4, 50)
    y = 1e-3 * (2.0 + lengths + 0.5 * tails)
    parts = WholeGraphPredictor.fit(y, chains(lengths.tolist(), tails.tolist())).explain(chains([4], [2])[0])

    seconds = {part.what: part.seconds for part in parts}
    convs_s = sum(part_s for what, part_s in seconds.items() if what.startswith("4 x Conv"))
    tails_s = sum(part_s for what, part_s in seconds.items() if what.startswith("2 x Relu"))
    assert convs_s == pytest.approx(4e-3, rel=0.25)
    assert tails_s == pytest.approx(1e-3, rel=0.25)
    assert seconds[CONSTANT] == pytest.approx(2e-3, rel=0.4)


def test_what_is_no_sum_is_one_part(nets: tuple[Genes, list[Graph]], predictor: WholeGraphPredictor) -> None:
    genes, graphs = nets
    y = device("spills its cache", genes, graphs)[:20]
    design = predictor.encoder.encode(graphs[:20], genes[:20])
    process = AdditiveProcess.fit(design, y, logarithms=True)
    positive, _ = Positive.fit(design, "all", y)
    experts = Experts((process, positive), (0.5, 0.5), y, y, 10.0)

    parts = explained(experts, predictor.encoder, design.rows(slice(3, 4)))

    (rest,) = (part.seconds for part in parts if part.what == IN_LOGARITHMS)
    assert rest == pytest.approx(0.5 * float(process.predict(design)[0][3]))
    assert sum(part.seconds for part in parts) == pytest.approx(float(experts.predict(design)[0][3]))
