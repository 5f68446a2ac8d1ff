"""A step in a series: found where it is, and not found where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprof.step import FEWEST, first_beyond, step_up


def series(n: int, at: int, rise: float, *, alike: float = 0.0, noise: float = 0.01, seed: int = 0) -> list[float]:
    """Values around 1 with a step, each as like the one before it as `alike` says."""
    rng = np.random.default_rng(seed)
    white = rng.standard_normal(n)
    for k in range(1, n):
        white[k] = alike * white[k - 1] + np.sqrt(1 - alike**2) * white[k]
    values: list[float] = (np.exp(noise * white) * np.where(np.arange(n) < at, 1.0, 1.0 + rise)).tolist()
    return values


@pytest.mark.parametrize("place", [20, 60, 100])
def test_a_step_is_found_where_it_is(place: int) -> None:
    found = step_up(series(120, place, 0.10), 0.03)

    assert found is not None
    assert abs(found.n_before - place) <= 1
    assert found.n_before + found.n_after == 120
    assert found.rise == pytest.approx(0.10, abs=0.01)
    assert found.p_value < 1e-4


def test_a_step_down_and_one_that_is_too_small_are_none() -> None:
    assert step_up(series(120, 60, -0.10), 0.03) is None
    assert step_up(series(120, 60, 0.02), 0.03) is None
    assert step_up([1.0] * 120, 0.03) is None


@pytest.mark.parametrize("alike", [0.0, 0.5, 0.8])
def test_noise_is_hardly_ever_taken_for_a_step_even_where_neighbours_are_alike(alike: float) -> None:
    taken = [step_up(series(120, 0, 0.0, alike=alike, noise=0.05, seed=seed), 0.03) for seed in range(300)]

    assert sum(step is not None for step in taken) <= 9


def test_the_fewest_values_that_can_show_a_step_do_and_one_less_cannot() -> None:
    low, high = [1.0, 1.001] * (FEWEST // 4), [2.0, 2.001] * (FEWEST // 4)

    assert step_up([*low, *high], 0.03) is not None
    assert step_up([*low, *high[1:]], 0.03) is None


def test_of_a_rise_in_stages_the_first_one_is_told() -> None:
    values = [1.0] * 20 + [1.05] * 20 + [1.2] * 60

    found = step_up(values, 0.03)

    assert found is not None
    assert first_beyond(values, found, 1.03) == 20
