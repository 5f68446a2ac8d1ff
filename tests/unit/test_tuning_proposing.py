"""The process that says what is expected of configurations that were not measured."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprof.tuning.proposing import Process, expected_gain, probability_below, spread_out

RNG = np.random.default_rng(5)
X = RNG.uniform(-1, 1, (300, 4))
# A product of powers with a bend, in logarithms; the last feature does not matter.
Y = 1.5 * X[:, 0] - 0.8 * X[:, 1] + 0.3 * np.sin(3 * X[:, 2])
NOISE = 1e-6


def fitted(n: int) -> Process:
    process = Process(X)
    process.fit(list(range(n)), Y[:n], np.full(n, NOISE))
    return process


def test_it_foretells_what_was_not_measured_and_how_well() -> None:
    process = fitted(40)
    errors = np.abs(process.mean[40:] - Y[40:])

    assert np.median(errors) < 0.05
    assert np.mean(errors < 3 * process.sd[40:]) > 0.95


def test_it_goes_through_what_was_measured() -> None:
    process = fitted(40)

    assert np.abs(process.mean[:40] - Y[:40]).max() < 0.02
    assert process.sd[:40].max() < process.sd[40:].mean()


def test_points_added_one_by_one_say_the_same_as_all_at_once() -> None:
    whole, part = Process(X), Process(X)
    whole.fit(list(range(30)), Y[:30], np.full(30, NOISE))
    part.fit(list(range(30)), Y[:30], np.full(30, NOISE))

    direct = _posterior(part, X, list(range(34)), Y[:34])
    for place in range(30, 34):
        part.add(place, float(Y[place]), NOISE)

    assert part.mean == pytest.approx(direct, abs=1e-6)
    assert whole.mean != pytest.approx(direct, abs=1e-4)


def _posterior(process: Process, x: np.ndarray, places: list[int], y: np.ndarray) -> np.ndarray:
    """The mean by the textbook's formula, with what the process was fitted to be."""
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    covariance = process._covariance(z[places], z[places])
    noise = NOISE / process._spread**2 + np.exp(2 * process._theta[2]) + 1e-8
    weights = np.linalg.solve(covariance + noise * np.eye(len(places)), (y - process._middle) / process._spread)
    found: np.ndarray = process._middle + process._spread * process._covariance(z, z[places]) @ weights
    return found


def test_it_doubts_itself_after_surprises_and_not_after_what_it_expected() -> None:
    calm, shaken = fitted(40), fitted(40)
    before = calm.sd[200]

    for place in range(40, 48):
        calm.add(place, float(calm.mean[place]), NOISE)
        shaken.add(place, float(shaken.mean[place] + 10 * shaken.sd[place]), NOISE)

    assert calm.sd[200] <= before
    assert shaken.sd[200] > 2 * calm.sd[200]


def test_features_that_all_have_alike_are_no_trouble() -> None:
    process = Process(np.zeros((5, 0)))
    process.fit([0, 1], np.array([1.0, 1.2]), np.full(2, 1e-4))

    assert np.isfinite(process.mean).all()
    assert (process.sd > 0).all()


def test_gain_is_expected_of_what_is_lower_or_less_known() -> None:
    sd = np.array([0.1, 0.1, 0.5, 0.1])
    mean = np.array([1.0, 0.8, 1.0, 3.0])

    gain = expected_gain(mean, sd, 1.0)

    assert gain[0] == pytest.approx(0.1 / np.sqrt(2 * np.pi))
    assert gain[1] > 0.2
    assert gain[2] > gain[0] > gain[3] >= 0.0
    assert probability_below(mean, sd, 1.0) == pytest.approx([0.5, 0.97725, 0.5, 0.0], abs=1e-4)


def test_a_start_is_spread_out_without_repeating_and_decided_by_the_seed() -> None:
    places = spread_out(X, [0], 20, np.random.default_rng(1))
    nearest = min(np.linalg.norm(X[a] - X[b]) for a in places for b in places if a != b)
    drawn = [
        min(np.linalg.norm(X[a] - X[b]) for a in range(k, k + 20) for b in range(k, k + 20) if a != b) for k in (0, 50)
    ]

    assert len(set(places)) == 20
    assert 0 not in places
    assert nearest > 2 * max(drawn)
    assert places == spread_out(X, [0], 20, np.random.default_rng(1))
    assert len(spread_out(X[:3], [0], 20, np.random.default_rng(1))) == 2
