"""Nets in whole numbers have a correction of their own, where there are enough of them."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import latency_models
from latency_models.archive import MANIFEST, sealed, write
from latency_models.correction import FEWEST_OF_KIND, Net, correction_for, held_out, is_whole
from latency_models.kernels import KernelSpec, Operand
from latency_models.making_kernels import Kernels
from latency_models.observations import KernelSample, NetSample
from latency_models.predictor import Predictor
from tests.unit.kernel_makers import TARGET, conv_samples, net, nets, seconds

SLOWER = 1.6


def made(n: int, is_quantised: bool, factor: float, seed: int) -> tuple[list[Net], np.ndarray]:
    """Nets of one kind that take so many times what their kernels take."""
    random = np.random.default_rng(seed)
    found = [Net(random.uniform(1e-5, 1e-3, 20), np.zeros(20, dtype=np.int64), is_quantised) for _ in range(n)]
    return found, np.array([factor * float(one.time_s.sum()) for one in found])


def test_each_kind_of_net_tells_of_its_own() -> None:
    floats, floats_s = made(20, False, 1.0, 1)
    whole, whole_s = made(20, True, 1.3, 2)
    both, both_s = [*floats, *whole], np.concatenate([floats_s, whole_s])

    for kind, factor in ((False, 1.0), (True, 1.3)):
        correction = correction_for(kind, both, both, both_s)
        assert correction.n_nets == 20
        assert correction.apply(floats[:1])[0] == pytest.approx(factor * floats_s[0], rel=0.03)


def test_too_few_of_a_kind_are_told_by_all() -> None:
    floats, floats_s = made(20, False, 1.0, 1)
    whole, whole_s = made(FEWEST_OF_KIND - 1, True, 1.0, 2)
    both, both_s = [*floats, *whole], np.concatenate([floats_s, whole_s])

    assert correction_for(True, both, both, both_s).n_nets == len(both)
    assert correction_for(False, both, both, both_s).n_nets == len(floats)
    assert correction_for(True, [], [], np.zeros(0)).n_nets == 0


def test_what_is_held_out_is_predicted_by_its_kind() -> None:
    floats, floats_s = made(30, False, 1.0, 1)
    whole, whole_s = made(30, True, 1.3, 2)
    both, both_s = [*floats, *whole], np.concatenate([floats_s, whole_s])
    families = [f"family {k % 3}" for k in range(60)]

    _, errors = held_out(both, both, both_s, np.full(60, 0.1), families)

    assert np.abs(errors).max() < 0.03


def test_families_tell_what_they_compute_in() -> None:
    assert is_whole("convolution uint8 in blocks")
    assert is_whole("dense int8-dynamic")
    assert not is_whole("convolution float32 in blocks")
    assert not is_whole("Gather int64")


# --- in a predictor ---


def quantised(kernel: KernelSpec) -> KernelSpec:
    def eight(one: Operand) -> Operand:
        return replace(one, dtype="int8")

    inputs = tuple(None if one is None else eight(one) for one in kernel.inputs)
    return replace(kernel, inputs=inputs, outputs=tuple(map(eight, kernel.outputs)))


def of_both_kinds() -> tuple[list[KernelSample], list[NetSample]]:
    floats, whole_nets = conv_samples(200), []
    whole = [
        replace(one, kernel=quantised(one.kernel), source=f"int8 {one.source}", time_s=one.time_s / 2) for one in floats
    ]
    for k in range(20):
        kernels = tuple(quantised(kernel) for kernel in net(500 + k))
        latency_s = SLOWER * sum(seconds(kernel) / 2 for kernel in net(500 + k))
        whole_nets.append(
            NetSample(name=f"w{k}", family=f"whole {k % 4}", source=f"w{k}", kernels=kernels, latency_s=latency_s)
        )
    return [*floats, *whole], [*nets(20), *whole_nets]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.fit(TARGET, *of_both_kinds())


def latency_s(predictor: Predictor, kernels: tuple[KernelSpec, ...]) -> float:
    return predictor.estimate(Kernels(kernels, tuple((f"node {k}",) for k in range(len(kernels))))).latency_s


def test_a_net_in_whole_numbers_is_corrected_by_its_like(predictor: Predictor) -> None:
    for seed in range(900, 905):
        true_s = SLOWER * sum(seconds(kernel) / 2 for kernel in net(seed))
        assert latency_s(predictor, tuple(map(quantised, net(seed)))) == pytest.approx(true_s, rel=0.12)
        true_s = 1.1 * sum(seconds(kernel) for kernel in net(seed)) + 2e-5
        assert latency_s(predictor, net(seed)) == pytest.approx(true_s, rel=0.12)


def test_both_are_kept_in_the_file_and_old_files_have_one(predictor: Predictor, tmp_path: Path) -> None:
    path, old = tmp_path / "new.predictor", tmp_path / "old.predictor"
    predictor.save(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(parts.pop(MANIFEST))
    del manifest["correction_quantised"], manifest["parts"]
    write(old, sealed(manifest, parts))

    again, before = latency_models.load(path), latency_models.load(old)

    assert isinstance(again, Predictor)
    assert isinstance(before, Predictor)
    assert again.correction_quantised == predictor.correction_quantised
    whole = tuple(map(quantised, net(900)))
    assert latency_s(again, whole) == latency_s(predictor, whole)
    assert before.correction_quantised is None
    assert latency_s(before, net(900)) == latency_s(predictor, net(900))
    assert latency_s(before, whole) < latency_s(predictor, whole)
