"""How good outputs are, the more the better: top-1, the cosine to what the original says, or a function of the user's.

What a candidate loses is told with an upper bound: few samples say little, and a budget that was kept on them may not
be kept on others.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeprof.errors import EdgeprofError, UsageError
from edgeprof.imports import imported
from edgeprof.models.arrays import Array

__all__ = ["COSINE", "TOP1", "Loss", "Metric", "MetricError", "metric_named"]

TOP1, COSINE = "top1", "cosine"
Outputs = Mapping[str, Array]
Floats = NDArray[np.float64]
# Of the resampled losses this quantile is the bound. That holds about nine times in ten, and not nineteen in twenty: of
# answers that change very seldom a few hundred samples may have none (tests/unit/test_optimize_metrics.py).
QUANTILE = 0.95
RESAMPLES = 300
# Samples with the most alike gaps, of which any may stand for another.
NEIGHBOURS = 30
# A function of the user's may be slow: with so many resamples a bound is still one.
RESAMPLES_OF_USER = 40


class MetricError(EdgeprofError):
    """The outputs of a candidate cannot be scored."""


MEND = (
    "mend the function: it is called with the outputs by name, each (n, ...), and the labels (n,), and gives a number"
)


def _where(error: BaseException) -> str:
    """The last line of the user's own code that an error went through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename) != Path(__file__)]
    return f" at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""


@dataclass(frozen=True)
class Loss:
    """What was lost on the samples, and the most that may be lost on others, nine times in ten; shares, as 0.005.

    `score` is the candidate's own.
    """

    score: float
    observed: float
    bound: float


@dataclass(frozen=True)
class Metric:
    """`score` takes outputs (n, ...) by name, the original's, and labels (n,) or None. `per_sample` gives (n,)."""

    name: str
    score: Callable[[Outputs, Outputs, NDArray[np.int64] | None], float]
    resamples: int = RESAMPLES

    def loss(self, found: Outputs, original: Outputs, labels: NDArray[np.int64] | None, seed: int = 0) -> Loss:
        """What `found` loses against the original's outputs.

        Raises:
            MetricError: the user's function raises, or gives no number.
        """
        best, own = self._scored(original, original, labels), self._scored(found, original, labels)
        rng = np.random.default_rng(seed)
        n = len(next(iter(original.values())))
        losses = []
        for _ in range(self.resamples):
            k = rng.integers(0, n, n)
            of = ({name: array[k] for name, array in side.items()} for side in (original, found))
            one, other = of
            some = None if labels is None else labels[k]
            losses.append(self._scored(one, one, some) - self._scored(other, one, some))
        return Loss(own, best - own, max(best - own, float(np.quantile(losses, QUANTILE))))

    def _scored(self, found: Outputs, original: Outputs, labels: NDArray[np.int64] | None) -> float:
        try:
            score = float(self.score(found, original, labels))
        except Exception as error:  # whatever the user's code raises
            raise MetricError(
                f"the metric {self.name} fails{_where(error)}: {type(error).__name__}: {error}", MEND
            ) from error
        if not math.isfinite(score):
            raise MetricError(f"the metric {self.name} gives {score}", MEND)
        return score


@dataclass(frozen=True)
class Top1(Metric):
    """The share of samples whose largest output is that of their label.

    Its bound does not wait for a sample to flip: what a candidate does to the gap between the two largest outputs of
    a sample, it might have done to any with a gap like that, which says how many would flip among other samples.
    """

    def loss(self, found: Outputs, original: Outputs, labels: NDArray[np.int64] | None, seed: int = 0) -> Loss:
        if labels is None:
            raise MetricError("top-1 needs labels")
        was, now = _classes(original), _classes(found)
        if was.shape != now.shape:
            raise MetricError(f"the outputs have the shape {list(now.shape)}, the original's {list(was.shape)}")
        score = float((now.argmax(axis=1) == labels).mean())
        observed = float((was.argmax(axis=1) == labels).mean()) - score
        before = _gaps(was, labels)
        order = np.argsort(before)
        gap, moved = before[order], (_gaps(now, labels) - before)[order]
        rng = np.random.default_rng(seed)
        expected = []
        for _ in range(self.resamples):
            k = np.sort(rng.integers(0, len(gap), len(gap)))
            expected.append(_expected_loss(gap[k], moved[k]))
        return Loss(score, observed, max(observed, float(np.quantile(expected, QUANTILE))))


def _expected_loss(gap: Floats, moved: Floats) -> float:
    """What is lost less what is won, as a share, where each sample may be moved as any of its neighbours was.

    `gap`, sorted, is the label's output less the largest other, `moved` what the candidate does to it, (n,) each.
    """
    n = len(gap)
    width = min(NEIGHBOURS, n)
    first = np.clip(np.arange(n) - width // 2, 0, n - width)
    after = gap[:, None] + moved[first[:, None] + np.arange(width)]
    right = gap[:, None] > 0
    return float(((right & (after < 0)).sum() - (~right & (after > 0)).sum()) / after.size)


def _gaps(outputs: Floats, labels: NDArray[np.int64]) -> Floats:
    rows = np.arange(len(labels))
    of_label = outputs[rows, labels]
    others = outputs.copy()
    others[rows, labels] = -np.inf
    gaps: Floats = of_label - others.max(axis=1)
    return gaps


def _classes(outputs: Outputs) -> Floats:
    """The first output as (n, classes)."""
    first = np.asarray(next(iter(outputs.values())), dtype=np.float64)
    return first.reshape(len(first), -1)


def _top1(found: Outputs, original: Outputs, labels: NDArray[np.int64] | None) -> float:
    if labels is None:
        raise MetricError("top-1 needs labels")
    return float((_classes(found).argmax(axis=1) == labels).mean())


def _cosine(found: Outputs, original: Outputs, labels: NDArray[np.int64] | None) -> float:
    """The mean over samples, of the output that is worst."""
    return min(float(_cosines(found[name], original[name]).mean()) for name in original)


def _cosines(found: Array, expected: Array) -> Floats:
    """(n,); 0 where one side alone is zero, which points nowhere, and 1 where both are."""
    a = np.asarray(found, dtype=np.float64).reshape(len(found), -1)
    b = np.asarray(expected, dtype=np.float64).reshape(len(expected), -1)
    if a.shape != b.shape:
        raise MetricError(f"an output has the shape {list(np.shape(found))}, the original's {list(np.shape(expected))}")
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    both_zero = (np.abs(a).max(axis=1, initial=0.0) == 0) & (np.abs(b).max(axis=1, initial=0.0) == 0)
    cosines = np.divide((a * b).sum(axis=1), lengths, out=np.zeros(len(a)), where=lengths > 0)
    return np.where(both_zero, 1.0, cosines)


def metric_named(text: str | None, has_labels: bool, beside: Path) -> Metric:
    """`top1`, `cosine`, or the import path of a function of the user's; None: top-1 where there are labels.

    A function is given the outputs by name (n, ...) and the labels (n,) or None, and gives a number, more is better.

    Raises:
        UsageError: there is no such thing, or top-1 has no labels to go by.
    """
    name = text or (TOP1 if has_labels else COSINE)
    if name == TOP1:
        if not has_labels:
            raise UsageError(
                "top1 needs labels, and the data has none", "add them as 'labels', or take --metric cosine"
            )
        return Top1(TOP1, _top1)
    if name == COSINE:
        return Metric(COSINE, _cosine)
    if ":" not in name:
        advice = "take top1 or cosine, or write your own as file.py:name"
        raise UsageError(f"there is no metric {name!r}", advice)
    function = imported(name, beside)
    if not callable(function):
        raise UsageError(f"{name} is no function", "give one that takes (outputs, labels) and returns a number")

    def score(found: Outputs, original: Outputs, labels: NDArray[np.int64] | None) -> float:
        return float(function(found, labels))

    return Metric(name, score, RESAMPLES_OF_USER)
