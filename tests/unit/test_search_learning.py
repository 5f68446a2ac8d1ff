"""Nets of a space in torch: they compute what their files compute, learn, and share weights."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from edgeprof.errors import EvaluationFailed, UsageError
from edgeprof.search.space import Architecture, Gene, SearchSpace
from edgeprof.search.spaces import Layers, NasBench201, Sound, Transformer
from latency_models.building import BuildError, GraphBuilder, Value
from tests.unit.spaces import Widths, small_images

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed: run `make torch`", allow_module_level=True)

import torch

from edgeprof.search.learning.comparing import largest_difference
from edgeprof.search.learning.data import Dataset, Part, read_data
from edgeprof.search.learning.exporting import as_onnx, as_tflite, as_weights
from edgeprof.search.learning.fitting import Recipe, accuracy, fit, see
from edgeprof.search.learning.judges import BySupernet, ByTraining
from edgeprof.search.learning.module import Net
from edgeprof.search.learning.scoring import naswot, synflow
from edgeprof.search.learning.supernet import Supernet
from edgeprof.search.learning.tape import tape_of

ODD = Layers(
    input=[9, 7, 3],
    layers=[
        {"conv": [8, 12], "kernel": [2, 3], "stride": 2, "activation": ["prelu", "swish", "gelu"]},
        {"depthwise": 4, "repeat": [1, 2], "activation": "leaky_relu", "residual": True},
        {"pool": ["average", "max"], "kernel": 3, "stride": 2, "padding": ["same", "valid"]},
        {"flatten": True},
        {"dense": 5},
    ],
    name="odd",
)
SPACES: dict[str, SearchSpace] = {
    "once-for-all": small_images(), "sound": Sound(length=20, inputs=5), "images": Transformer(side=8, head=8),
    "tokens": Transformer(side=None, length=9, head=8), "cells": NasBench201(n_cells=1, side=8), "odd": ODD,
    "widths": Widths(),
}  # fmt: skip


def trained_a_little(space: SearchSpace, architecture: Architecture) -> Net:
    """With statistics that batches gave, so that there is something to fold."""
    net = Net(tape_of(space, architecture), seed=3)
    shape = tuple(dim or 0 for dim in net.tape.graph.shape(net.tape.graph.inputs[0]) or ())
    net.train()
    for seed in range(3):
        net(torch.randn((6, *shape[1:]), generator=torch.Generator().manual_seed(seed)))
    net.eval()
    return net


@pytest.mark.parametrize("name", SPACES)
def test_files_of_both_formats_compute_what_the_net_computes(name: str) -> None:
    space, rng, n = SPACES[name], np.random.default_rng(5), 0
    while n < 4:
        architecture = space.sample(rng)
        try:
            net = trained_a_little(space, architecture)
        except BuildError:
            continue  # a cell that leads nowhere
        n += 1
        for format, data in (("onnx", as_onnx(net)), ("tflite", as_tflite(net, space, architecture))):
            off = largest_difference(net, data, format, 2)
            assert off is not None
            assert off < 1e-3, (format, architecture)
    assert set(as_weights(net)) == {name for step in net.tape.steps for name in step.weights}


def test_a_file_with_other_weights_is_told_from_the_net() -> None:
    space = Widths()
    one, other = trained_a_little(space, (1, 1, 1)), Net(tape_of(space, (1, 1, 1)), seed=4)

    assert (largest_difference(one, as_onnx(other), "onnx", 2) or 0.0) > 0.01


def test_what_cannot_be_trained_is_said() -> None:
    class Recurrent(SearchSpace):
        name = "recurrent"
        genes = (Gene("units", (4, 8)),)

        def build(self, net: GraphBuilder, architecture: Architecture) -> Value:
            return net.mean(net.lstm(net.input((1, 6, 3)), 4))

    with pytest.raises(BuildError, match="lstm cannot be trained here: give a training function of your own"):
        Net(tape_of(Recurrent(), (0,)))


def patterned(n: int = 240, seed: int = 0) -> Dataset:
    """Images of 8 x 8 in noise, striped across, striped down, checked or plain: learned in a moment."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, n)
    x = rng.normal(size=(n, 1, 8, 8)).astype(np.float32)
    row, column = np.indices((8, 8)) % 2
    patterns = np.stack([row, column, row ^ column, np.zeros((8, 8))]).astype(np.float32)
    x = 0.5 * x + 2.0 * patterns[y][:, None]
    train, valid, test = (Part(x[k::3], y[k::3].astype(np.int64)) for k in range(3))
    return Dataset("patterned", train, valid, test, tuple("abcd"))


def test_a_net_learns_and_the_same_seed_gives_the_same_curve() -> None:
    data, recipe = patterned(), Recipe(epochs=6, batch=32)

    curves = [fit(Net(tape_of(small_images(), (0,) * 12), seed=1), data, recipe, seed=2) for _ in range(2)]

    assert curves[0] == curves[1]
    assert curves[0][-1] > 0.8
    assert len(curves[0]) == 6


def test_a_training_ends_where_it_is_told_to() -> None:
    asked: list[int] = []

    def goes_on(epoch: int, reached: float) -> bool:
        asked.append(epoch)
        return epoch < 2

    curve = fit(Net(tape_of(Widths(), (0, 0, 1))), patterned(60), Recipe(epochs=5, batch=16), goes_on=goes_on)

    assert len(curve) == 2
    assert asked == [1, 2]


def test_a_loss_that_is_no_number_is_a_failure_and_said() -> None:
    data = patterned(60)
    data.train.x[:] = np.nan

    with pytest.raises(EvaluationFailed, match="the loss became nan in epoch 1"):
        fit(Net(tape_of(Widths(), (0, 0, 1))), data, Recipe(epochs=2, batch=16))


def test_data_of_another_shape_is_refused_with_both_shapes() -> None:
    data = patterned(60)
    train, valid = (Part(np.repeat(part.x, 3, axis=1), part.y) for part in (data.train, data.valid))
    three = Dataset("three", train, valid, valid, data.classes)

    with pytest.raises(UsageError, match=r"\[3, 8, 8\], and the nets of this space take \[1, 8, 8\]"):
        fit(Net(tape_of(Widths(), (0, 0, 1))), three, Recipe(epochs=1))


def test_nets_of_a_supernet_share_its_weights_and_inherit_them() -> None:
    data, space = patterned(), small_images()
    supernet = Supernet(space, seed=1)
    small, large = supernet.net(supernet.smallest), supernet.net(supernet.largest)
    assert small.weights is large.weights

    supernet.train(data, Recipe(epochs=8, batch=32))

    assert supernet.accuracy(supernet.largest, data) > 0.7
    assert supernet.accuracy(supernet.smallest, data) > 0.5
    own = supernet.own(supernet.smallest, data)
    assert accuracy(own, data.valid) == supernet.accuracy(supernet.smallest, data)
    fit(own, data, Recipe(epochs=1, batch=32))
    assert own.weights is not supernet.weights


def test_a_supernet_goes_on_where_it_was(tmp_path: Path) -> None:
    data, recipe = patterned(90), Recipe(epochs=4, batch=32)
    whole = Supernet(Widths(), seed=1)
    whole.train(data, recipe)

    begun = Supernet(Widths(), seed=1)

    class Killed(Exception):
        pass

    def stop(done: int) -> None:
        begun.save(tmp_path / "net.npz")
        if done == 2:
            raise Killed

    with pytest.raises(Killed):
        begun.train(data, recipe, stop)
    again = Supernet(Widths(), seed=1)
    again.load(tmp_path / "net.npz")
    assert again.done == 2
    again.train(data, recipe)

    for name, one in whole.weights.named_parameters():
        np.testing.assert_allclose(
            dict(again.weights.named_parameters())[name].detach(), one.detach(), rtol=1e-5, atol=1e-6
        )


def test_a_supernet_of_something_else_is_refused(tmp_path: Path) -> None:
    Supernet(Widths(), seed=1).save(tmp_path / "net.npz")

    with pytest.raises(UsageError, match="of another space, seed or version"):
        Supernet(Widths(), seed=2).load(tmp_path / "net.npz")
    (tmp_path / "net.npz").write_bytes(b"PK\x03\x04garbage")
    with pytest.raises(UsageError, match="no supernet that can be read"):
        Supernet(Widths(), seed=1).load(tmp_path / "net.npz")


def test_statistics_of_shared_weights_are_those_of_the_net() -> None:
    data = patterned(120)
    net = Supernet(Widths()).net((0, 0, 1))
    before = net(torch.zeros(2, 1, 8, 8))
    see(net, data)

    assert not torch.allclose(before, net.eval()(torch.zeros(2, 1, 8, 8)))
    assert not net.training


def test_judges_say_how_and_finish_with_files_and_what_was_never_seen(tmp_path: Path) -> None:
    data, space = patterned(), Widths()
    with pytest.raises(UsageError, match="nets of widths tell 10 classes apart, and patterned has 4"):
        ByTraining(space, data, Recipe(epochs=1), 1, 0)
    space.n_classes = 4
    for judge in (
        ByTraining(space, data, Recipe(epochs=3, batch=32), 5, 0),
        BySupernet(space, data, Recipe(epochs=6, batch=32), 3, 0, tmp_path / "net.npz"),
    ):
        judge.prepare(lambda text: None)
        found, finished = judge.judge((3, 3, 1)), judge.finish((3, 3, 1))
        assert 0.0 < found.accuracy <= 1.0
        assert found.n == len(data.valid)
        assert finished.net is not None
        assert finished.n_test == len(data.test)
        assert finished.accuracy == accuracy(finished.net, data.valid)
    assert (tmp_path / "net.npz").is_file()


def test_scores_need_no_training_and_leave_the_net_as_it_was() -> None:
    data = patterned(120)
    nets = {architecture: Net(tape_of(Widths(), architecture), seed=0) for architecture in ((0, 0, 0), (3, 3, 1))}
    for net in nets.values():
        before = as_weights(net)
        assert np.isfinite(naswot(net, data.train.x[:16]))
        assert np.isfinite(synflow(net))
        for name, values in as_weights(net).items():
            if name in before and values.ndim == 4:
                np.testing.assert_array_equal(np.sign(values), np.sign(before[name]))
    scores = [synflow(net) for net in nets.values()]
    assert scores[1] > scores[0], "more flows through more"


def test_digits_come_in_three_parts_by_class() -> None:
    data = read_data("digits", seed=1)

    assert len(data.train) + len(data.valid) + len(data.test) == 1797
    for part in (data.train, data.valid, data.test):
        assert set(part.y) == set(range(10))
    assert abs(float(data.train.x.mean())) < 1e-3
