"""The race: ratios within a sweep, intervals over sweeps, and who stops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeprof.optimize.racing import standing, survivors
from edgeprof.values import Value


def _value(middle: float, half: float = 0.01) -> Value:
    return Value(middle, middle * (1 - half), middle * (1 + half), "measured")


def test_a_device_that_grows_slower_is_nobodys_luck() -> None:
    sweeps = [(_value(0.5 * slower), _value(slower)) for slower in (1.0, 1.2, 1.5)]

    found = standing("half", sweeps)

    assert found.speedup.value == pytest.approx(2.0)
    assert found.speedup.low > 1.98
    assert found.speedup.high < 2.02


def test_the_interval_contains_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        ratios = 2.0 * np.exp(rng.normal(0, 0.05, 4))
        found = standing("x", [(_value(1.0), _value(ratio)) for ratio in ratios])
        held += found.speedup.low <= 2.0 <= found.speedup.high

    assert 0.92 <= held / 400 <= 0.98


def test_of_one_sweep_the_interval_is_that_of_the_two_measurements() -> None:
    found = standing("x", [(_value(1.0, 0.1), _value(2.0, 0.02))])

    assert math.log(found.speedup.high / found.speedup.value) == pytest.approx(-math.sqrt(2) * math.log(0.9), rel=1e-6)


def test_who_is_beaten_in_everything_stops_and_who_may_win_goes_on() -> None:
    def of(name: str, ratios: list[float]) -> object:
        return standing(name, [(_value(1.0), _value(ratio)) for ratio in ratios])

    standings = [
        of("fast", [2.0, 2.1]),
        of("as fast", [2.1, 1.9]),
        of("slow and large", [0.5, 0.51]),
        of("slow and small", [0.7, 0.9]),
        of("slow and small, and known", [0.7, 0.701]),
    ]
    sizes = dict(zip((one.name for one in standings), (10, 10, 20, 5, 4), strict=True))  # type: ignore[attr-defined]
    losses = dict.fromkeys(sizes, 0.0)

    going = survivors(standings, sizes, losses)  # type: ignore[arg-type]

    assert going == ["fast", "as fast", "slow and small"]
