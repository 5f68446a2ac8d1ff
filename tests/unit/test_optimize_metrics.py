"""What a candidate loses: observed, and what may be lost on other samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeprof.errors import UsageError
from edgeprof.optimize.metrics import MetricError, metric_named


def _outputs(n: int, seed: int, noise: float, of: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ten classes: outputs, the same with noise, and labels, 95 % of which are right."""
    rng = np.random.default_rng([seed, of])
    labels = rng.integers(0, 10, n)
    outputs = rng.normal(0, 1, (n, 10))
    outputs[np.arange(n), np.where(rng.random(n) < 0.95, labels, (labels + 1) % 10)] += 5
    return outputs, outputs + rng.normal(0, noise, outputs.shape), labels


def test_top1_counts_flips_and_bounds_them_before_one_is_seen() -> None:
    was, now, labels = _outputs(300, 1, noise=0.3)
    metric = metric_named("top1", True, Path())

    loss = metric.loss({"y": now}, {"y": was}, labels)

    assert loss.score == np.mean(now.argmax(1) == labels)
    assert loss.observed == pytest.approx(np.mean(was.argmax(1) == labels) - loss.score)
    assert loss.bound >= loss.observed
    assert loss.bound > 0


@pytest.mark.parametrize("noise", [0.6, 1.0])
def test_the_bound_holds_on_other_samples_nine_times_in_ten(noise: float) -> None:
    """Of 60 sets of 300 samples: what is lost in truth, over very many samples, is no more than the bound."""
    metric = metric_named("top1", True, Path())
    was, now, labels = _outputs(100_000, 2, noise)
    truth = float(np.mean(was.argmax(1) == labels) - np.mean(now.argmax(1) == labels))

    held = 0
    for k in range(60):
        some, changed, right = _outputs(300, 3, noise, of=k + 1)
        held += metric.loss({"y": changed}, {"y": some}, right).bound >= truth

    assert held >= 47  # 54 expected; fewer than 47 has a chance of 1 in 200 if it holds nine times in ten


def test_what_loses_more_than_the_budget_seldom_passes() -> None:
    """It loses 0.7 points in truth; that its bound is below half a point must be rare."""
    metric = metric_named("top1", True, Path())

    passed = 0
    for k in range(60):
        some, changed, right = _outputs(300, 5, 0.6, of=k + 1)
        passed += metric.loss({"y": changed}, {"y": some}, right).bound <= 0.005

    assert passed <= 9


def test_the_same_outputs_lose_nothing() -> None:
    was, _, labels = _outputs(100, 4, 0.1)

    loss = metric_named(None, True, Path()).loss({"y": was}, {"y": was}, labels)

    assert (loss.observed, loss.bound) == (0.0, 0.0)


def test_cosine_is_of_the_worst_output_and_zero_points_nowhere() -> None:
    metric = metric_named(None, False, Path())
    a = np.eye(4)[:3]

    same = metric.loss({"p": a, "q": a}, {"p": a, "q": a}, None)
    gone = metric.loss({"p": a, "q": np.zeros_like(a)}, {"p": a, "q": a}, None)
    nothing = metric.loss({"p": np.zeros_like(a)}, {"p": np.zeros_like(a)}, None)

    assert (same.score, gone.score, nothing.score) == (1.0, 0.0, 1.0)
    assert gone.observed == 1.0


def test_a_function_of_the_users_is_called_and_its_faults_are_told(tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text(
        "def good(outputs, labels):\n    return float((outputs['y'] > 0).mean())\n"
        "def raises(outputs, labels):\n    raise KeyError('no such output')\n"
        "def nan(outputs, labels):\n    return float('nan')\n"
    )
    y = np.array([[1.0], [2.0], [-1.0], [3.0]])

    assert metric_named("score.py:good", False, tmp_path).loss({"y": -y}, {"y": y}, None).observed == 0.5
    with pytest.raises(MetricError, match=r"score\.py:raises fails at score\.py:4: KeyError"):
        metric_named("score.py:raises", False, tmp_path).loss({"y": y}, {"y": y}, None)
    with pytest.raises(MetricError, match="gives nan"):
        metric_named("score.py:nan", False, tmp_path).loss({"y": y}, {"y": y}, None)
    with pytest.raises(UsageError, match="has no missing"):
        metric_named("score.py:missing", False, tmp_path)
    with pytest.raises(UsageError, match="top1 needs labels"):
        metric_named("top1", False, tmp_path)
