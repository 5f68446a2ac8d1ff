"""How exact measurements are, judged by all of a tuning."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeprof.tuning.exactness import LEAST_SCALE, Exactness, Seen
from edgeprof.tuning.objective import Measured
from edgeprof.tuning.racing import Z_95, log_error
from edgeprof.values import Value

ERROR = 0.01


def seen(middle: float, error: float, level: int = 1) -> Seen:
    half = Z_95 * error
    return level, Measured(latency=Value(middle, middle * math.exp(-half), middle * math.exp(half), "simulated"))


def error_of(exactness: Exactness, one: Seen) -> float:
    latency = exactness.steady(one).latency
    assert latency is not None
    return log_error(latency)


def repeated(spread: float, n: int = 400) -> dict[int, list[Seen]]:
    """Configurations measured twice that differ from themselves by so much, each time with the same error told."""
    random = np.random.default_rng(3)
    return {k: [seen(math.exp(x), ERROR) for x in random.normal(0.0, spread, 2)] for k in range(n)}


def test_an_error_that_is_small_by_luck_is_drawn_to_what_is_usual_at_its_level() -> None:
    usual = {k: [seen(1.0, ERROR)] for k in range(20)} | {99: [seen(1.0, ERROR / 10, level=2)]}
    exactness = Exactness(usual)

    assert 0.7 * ERROR < error_of(exactness, seen(1.0, ERROR / 100)) < ERROR
    assert error_of(exactness, seen(1.0, ERROR)) == pytest.approx(ERROR)
    assert ERROR < error_of(exactness, seen(1.0, 3 * ERROR)) < 3 * ERROR
    assert error_of(exactness, seen(1.0, ERROR / 10, level=2)) == pytest.approx(ERROR / 10)


def test_errors_grow_where_what_was_measured_again_differs_by_more_and_shrink_where_by_less() -> None:
    assert error_of(Exactness(repeated(3 * ERROR)), seen(1.0, ERROR)) == pytest.approx(3 * ERROR, rel=0.2)
    assert error_of(Exactness(repeated(ERROR)), seen(1.0, ERROR)) == pytest.approx(ERROR, rel=0.2)
    assert error_of(Exactness(repeated(ERROR / 2)), seen(1.0, ERROR)) == pytest.approx(ERROR / 2, rel=0.2)
    assert error_of(Exactness(repeated(0.0)), seen(1.0, ERROR)) == pytest.approx(LEAST_SCALE * ERROR)


def test_a_single_repetition_says_little() -> None:
    once = {0: [seen(1.0, ERROR), seen(1.0, ERROR)], 1: [seen(2.0, ERROR)]}

    assert error_of(Exactness(once), seen(1.0, ERROR)) > 0.9 * ERROR


def test_values_stay_as_they_are_and_what_is_missing_stays_missing() -> None:
    exactness = Exactness(repeated(ERROR))
    steady = exactness.steady(seen(1.5, ERROR))
    failed = Measured(failure="the runtime crashed")

    assert steady.latency is not None
    assert (steady.latency.value, steady.latency.origin, steady.energy) == (1.5, "simulated", None)
    assert exactness.steady((1, failed)) == failed
    assert error_of(Exactness({}), seen(1.5, ERROR)) == pytest.approx(ERROR)
