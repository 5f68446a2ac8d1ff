"""How far off predictions were on nets that were left out, and how wide an interval must be because of it."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

__all__ = ["Scores", "normal_spans"]


def normal_spans(level: float) -> float:
    """How many standard deviations of a normal distribution hold this share of it, on both sides of the mean."""
    return NormalDist().inv_cdf(0.5 + level / 2)


# However well predicted: nets that all took the same, to the last digit, tell nothing of how far off predictions are.
LEAST_SPANS = 0.5


@dataclass(frozen=True)
class Scores:
    """Errors of whole nets in units of their predicted standard deviation, and the family that each net is of.

    What is predicted for is a net of a family that nobody measured, and errors are more alike within a family than
    between families; so families count and not nets. Were one net of each drawn at random, an interval of the
    ceil((F + 1) level)th smallest of their F scores would hold with its level (split conformal prediction); of all such
    draws the median is taken (Dunn, Wasserman and Ramdas, Distribution-free prediction sets for two-layer hierarchical
    models, 2022). Where `families` is empty, each score is one of its own.
    """

    values: tuple[float, ...]
    families: tuple[str, ...] = ()

    @functools.lru_cache(maxsize=256)  # noqa: B019 - a predictor has one of these, and it is small
    def quantile(self, level: float) -> float:
        """How many standard deviations an interval of this level spans on each side."""
        groups = self._groups()
        if not groups:
            return 2.0 * normal_spans(level)
        n = len(groups)
        rank = math.ceil((n + 1) * level)
        if rank <= n:
            return max(LEAST_SPANS, _typical_of_rank(groups, rank))
        # Too few for this level: beyond the worst by as much as a normal distribution's tail goes on. A few that were
        # met well by chance are no reason to be surer than the predictions themselves are, but for less.
        beyond = _typical_of_rank(groups, n) * normal_spans(level) / normal_spans(n / (n + 1))
        return max(beyond, (1.0 + 1.0 / n) * normal_spans(level))

    def guarantees(self, level: float) -> bool:
        """Whether there are families enough for this level."""
        n = len(self._groups())
        return math.ceil((n + 1) * level) <= n

    @property
    def n_families(self) -> int:
        """How many families the scores are of."""
        return len(self._groups())

    def _groups(self) -> list[list[float]]:
        if not self.families:
            return [[value] for value in self.values]
        found: dict[str, list[float]] = {}
        for family, value in zip(self.families, self.values, strict=True):
            found.setdefault(family, []).append(value)
        return list(found.values())


def _typical_of_rank(groups: Sequence[Sequence[float]], rank: int) -> float:
    """The median of the rank-th smallest of one value of each group, drawn at random."""
    ordered = sorted(value for group in groups for value in group)
    low, high = 0, len(ordered) - 1
    while low < high:
        middle = (low + high) // 2
        if _chance_of_as_many(groups, rank, ordered[middle]) >= 0.5:
            high = middle
        else:
            low = middle + 1
    return ordered[low]


def _chance_of_as_many(groups: Sequence[Sequence[float]], rank: int, limit: float) -> float:
    """The probability that at least `rank` of the drawn values do not exceed the limit."""
    chances = [1.0]  # of exactly so many, of the groups so far
    for group in groups:
        below = sum(value <= limit for value in group) / len(group)
        without, with_it = [*chances, 0.0], [0.0, *chances]
        chances = [(1.0 - below) * a + below * b for a, b in zip(without, with_it, strict=True)]
    return sum(chances[rank:])
