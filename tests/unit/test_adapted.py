"""A new device from predictors of others and a few nets: blends, intervals, files, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import latency_models
from edgeprof.training.nets import draw_net, family_at
from latency_models.adapted import Adapted, Blend
from latency_models.archive import ArchiveError
from latency_models.building import builder
from latency_models.graph import Graph
from latency_models.observations import Target
from latency_models.predictor import Predictor
from tests.unit.kernel_makers import TARGET, conv_samples, nets

NEW = replace(TARGET, device="new")


@pytest.fixture(scope="module")
def sources() -> list[Predictor]:
    """One device, and another that takes longer for what is large."""
    slow = [replace(one, time_s=3.0 * one.time_s**1.1) for one in conv_samples(120)]
    return [
        Predictor.fit(replace(TARGET, device="first"), conv_samples(120), nets(8)),
        Predictor.fit(replace(TARGET, device="second"), slow),
    ]


@pytest.fixture(scope="module")
def graphs() -> list[Graph]:
    return [draw_net(7, number, family_at(number, "onnx"), "onnx") for number in range(40)]


def truths(sources: list[Predictor], graphs: list[Graph], noise: float = 0.02) -> list[float]:
    """A device between the two, half as fast, each net a little off."""
    random = np.random.default_rng(3)
    said = np.array([[one.predict(graph).latency_s for one in sources] for graph in graphs])
    return [float(v) for v in 2.0 * np.sqrt(said[:, 0] * said[:, 1]) * np.exp(random.normal(0, noise, len(graphs)))]


def test_ten_nets_of_the_new_device_are_enough(sources: list[Predictor], graphs: list[Graph]) -> None:
    true_s = truths(sources, graphs)
    adapted = Adapted.fit(NEW, sources, graphs[:10], true_s[:10])

    errors, inside = [], 0
    for graph, truth in zip(graphs[10:], true_s[10:], strict=True):
        estimate = adapted.predict(graph)
        errors.append(abs(estimate.latency_s / truth - 1))
        inside += estimate.low_s <= truth <= estimate.high_s
        assert sum(one.latency_s for one in estimate.operators) == pytest.approx(estimate.latency_s, rel=0.5)
    assert np.mean(errors) < 0.06
    assert inside >= 24
    assert adapted.metrics["nets/n"] == 10


def plain(number: int) -> Graph:
    """Convolutions as the sources know them."""
    random = np.random.default_rng(number)
    net = builder("onnx")
    x = net.image(int(random.integers(10, 40)), int(random.integers(10, 40)), int(random.integers(8, 64)))
    for _ in range(int(random.integers(2, 8))):
        x = net.conv(x, int(random.integers(8, 64)), 3, activation="relu")
    return net.graph(x)


def test_nets_that_say_more_make_intervals_narrower(sources: list[Predictor]) -> None:
    known = [plain(number) for number in range(31)]
    true_s = truths(sources, known, noise=0.1)
    few = [Adapted.fit(NEW, sources, known[k : k + 4], true_s[k : k + 4]).predict(known[30]) for k in range(0, 28, 4)]
    many = Adapted.fit(NEW, sources, known[:30], true_s[:30]).predict(known[30])

    assert many.uncovered == ()
    assert many.high_s / many.low_s < np.mean([one.high_s / one.low_s for one in few])
    assert all(any("extrapolation" in note for note in one.notes) for one in few)
    assert not any("extrapolation" in note for note in many.notes)


def test_an_estimate_says_whose_the_bill_is(sources: list[Predictor], graphs: list[Graph]) -> None:
    adapted = Adapted.fit(NEW, sources, graphs[:5], truths(sources, graphs)[:5])
    estimate = adapted.predict(graphs[20])

    assert estimate.target.startswith("new")
    assert "adapted from first, second" in estimate.notes[0]
    assert estimate.origin == "learned"
    assert estimate.energy is None
    assert estimate.energy_missing == "energy is not adapted from other devices"
    assert estimate.uncovered


def test_a_source_that_is_far_off_counts_less_where_nets_tell() -> None:
    random = np.random.default_rng(0)
    good = random.normal(-5, 1, 60)
    x = np.stack([good, random.normal(-5, 1, 60), np.zeros(60), np.zeros(60), np.ones(60)], axis=1)
    blend = Blend.fit(x, good + 0.7 + random.normal(0, 0.02, 60))

    assert blend.coefficients[0] == pytest.approx(1.0, abs=0.05)
    assert abs(blend.coefficients[1]) < 0.05
    assert blend.noise < 0.05


def test_it_is_one_file_with_its_sources(sources: list[Predictor], graphs: list[Graph], tmp_path: Path) -> None:
    adapted = replace(Adapted.fit(NEW, sources, graphs[:5], truths(sources, graphs)[:5]), provenance={"who": "a test"})
    adapted.save(tmp_path / "new.predictor")
    again = latency_models.load(tmp_path / "new.predictor")

    assert isinstance(again, Adapted)
    assert again.predict(graphs[9]) == adapted.predict(graphs[9])
    assert (again.target, again.metrics, again.provenance) == (NEW, adapted.metrics, {"who": "a test"})
    assert [one.name for one in tmp_path.iterdir()] == ["new.predictor"]
    with pytest.raises(ArchiveError, match="was adapted from others"):
        Predictor.load(tmp_path / "new.predictor")
    broken = bytearray((tmp_path / "new.predictor").read_bytes())
    broken[len(broken) // 2] ^= 0xFF
    (tmp_path / "broken.predictor").write_bytes(broken)
    with pytest.raises(ArchiveError, match=r"broken\.predictor"):
        latency_models.load(tmp_path / "broken.predictor")


@pytest.mark.parametrize(
    ("n", "latency_s", "message"),
    [(2, [1.0, 1.0], "2 nets are too few"), (3, [1.0, 0.0, 1.0], "not a number above 0")],
)
def test_too_little_is_refused(
    sources: list[Predictor], graphs: list[Graph], n: int, latency_s: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Adapted.fit(NEW, sources, graphs[:n], latency_s)
    with pytest.raises(ValueError, match="at least one predictor"):
        Adapted.fit(NEW, [], graphs[:3], [1.0, 1.0, 1.0])


def test_a_target_of_equal_latencies_is_predicted_as_such(sources: list[Predictor], graphs: list[Graph]) -> None:
    said: Target = NEW
    adapted = Adapted.fit(said, sources, graphs[:12], [0.01] * 12)

    assert adapted.predict(graphs[20]).latency_s == pytest.approx(0.01, rel=1.0)
