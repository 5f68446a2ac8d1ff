"""Fronts, hypervolumes and expected gains, held against what counting and drawing say."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprof.search.front import Boxes, hypervolume, is_on_front


def front(m: int, seed: int = 0, n: int = 30) -> np.ndarray:
    points = np.random.default_rng(seed).random((n, m))
    return points[is_on_front(points)]


def test_the_front_is_what_nothing_is_better_than() -> None:
    points = np.array([[1.0, 4.0], [2.0, 2.0], [3.0, 3.0], [4.0, 1.0], [2.0, 2.0], [2.0, 5.0]])
    assert is_on_front(points).tolist() == [True, True, False, True, False, False]
    assert is_on_front(np.zeros((0, 2))).tolist() == []


def test_the_hypervolume_is_the_area_up_to_the_reference() -> None:
    reference = np.array([5.0, 5.0])
    assert hypervolume(np.array([[1.0, 4.0], [2.0, 2.0]]), reference) == pytest.approx(4 * 1 + 3 * 2)
    assert hypervolume(np.array([[6.0, 1.0]]), reference) == 0.0
    assert hypervolume(np.zeros((0, 2)), reference) == 0.0


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_the_gain_of_what_is_sure_is_the_difference_of_hypervolumes(m: int) -> None:
    points, reference = front(m), np.full(m, 1.1)
    candidates = np.random.default_rng(1).random((40, m)) * 1.3 - 0.1
    gains = Boxes.of(points, reference).expected_gain(candidates, np.full(candidates.shape, 1e-9))
    before = hypervolume(points, reference)
    true = [hypervolume(np.vstack([points, one]), reference) - before for one in candidates]
    np.testing.assert_allclose(gains, true, atol=1e-8)
    assert max(true) > 0


@pytest.mark.parametrize("m", [2, 3])
def test_the_expected_gain_is_the_mean_of_what_is_drawn(m: int) -> None:
    points, reference = front(m, n=12), np.full(m, 1.1)
    rng = np.random.default_rng(2)
    mean, sd = rng.random((3, m)), np.full((3, m), 0.25)
    gains = Boxes.of(points, reference).expected_gain(mean, sd)
    before = hypervolume(points, reference)
    for place in range(3):
        drawn = mean[place] + sd[place] * rng.normal(size=(4000, m))
        each = [hypervolume(np.vstack([points, one]), reference) - before for one in drawn]
        error = np.std(each) / np.sqrt(len(each))
        assert gains[place] == pytest.approx(np.mean(each), abs=5 * error)


def test_without_a_front_all_below_the_reference_is_free() -> None:
    boxes = Boxes.of(np.zeros((0, 2)), np.array([1.0, 2.0]))
    gains = boxes.expected_gain(np.array([[0.0, 0.5], [2.0, 0.0]]), np.full((2, 2), 1e-9))
    np.testing.assert_allclose(gains, [1.5, 0.0], atol=1e-8)


def test_points_with_equal_values_are_no_trouble() -> None:
    points = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    reference = np.full(3, 2.0)
    one = np.array([[0.5, 0.5, 0.5]])
    gain = Boxes.of(points, reference).expected_gain(one, np.full((1, 3), 1e-9))[0]
    assert gain == pytest.approx(
        hypervolume(np.vstack([points, one]), reference) - hypervolume(points, reference), abs=1e-8
    )
