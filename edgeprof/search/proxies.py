"""What says without training how good a net may be. A filter, whose agreement with accuracies is measured and told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeprof.errors import EvaluationFailed
from edgeprof.search.evaluation import Evaluation
from edgeprof.search.space import Architecture, SearchSpace
from latency_models.building import BuildError

if TYPE_CHECKING:
    from edgeprof.search.learning.data import Dataset

__all__ = ["Agreement", "OfGraph", "OfNet", "agreement"]

# So many samples tell how a net that was not trained sees them apart.
SAMPLES = 64


@dataclass(frozen=True)
class OfGraph:
    """The number of `parameters` or `macs`, in logarithms."""

    name: str
    space: SearchSpace

    def score(self, architecture: Architecture) -> float:
        try:
            graph = self.space.graph(architecture)
        except BuildError as error:
            raise EvaluationFailed(str(error)) from error
        if self.name == "macs":
            return math.log1p(sum(node.macs or 0 for node in graph.operators))
        constants = [tensor for tensor in graph.tensors.values() if tensor.is_constant and tensor.values is None]
        return math.log1p(sum(math.prod(dim or 0 for dim in tensor.shape or ()) for tensor in constants))


@dataclass(frozen=True)
class OfNet:
    """`naswot` (Mellor et al., Neural architecture search without training, 2021), `synflow` (Tanaka et al., 2020)."""

    name: str
    space: SearchSpace
    data: Dataset
    seed: int = 0

    def score(self, architecture: Architecture) -> float:
        from edgeprof.search.learning.module import Net
        from edgeprof.search.learning.scoring import naswot, synflow
        from edgeprof.search.learning.tape import tape_of

        try:
            net = Net(tape_of(self.space, architecture), seed=self.seed)
        except BuildError as error:
            raise EvaluationFailed(str(error)) from error
        found = naswot(net, self.data.train.x[:SAMPLES]) if self.name == "naswot" else synflow(net)
        if not math.isfinite(found):
            raise EvaluationFailed(f"{self.name} is {found}")
        return found


@dataclass(frozen=True)
class Agreement:
    """The rank correlation of a proxy with the accuracies of `n` candidates that were judged."""

    name: str
    spearman: float
    n: int

    @property
    def words(self) -> str:
        return (
            f"{self.name} agrees with the accuracies of {self.n} candidates with a rank correlation of "
            f"{self.spearman:.2f}; what it ruled out was never judged"
        )


def agreement(name: str, results: Sequence[Evaluation]) -> Agreement | None:
    """How far a proxy agrees with what was found; None of fewer than five."""
    from scipy.stats import spearmanr

    pairs = [
        (one.scores[name], 1.0 - one.values["error"].value)
        for one in results
        if one.failure is None and name in one.scores and "error" in one.values
    ]
    if len(pairs) < 5 or len({score for score, _ in pairs}) < 2 or len({accuracy for _, accuracy in pairs}) < 2:
        return None
    scores, accuracies = np.array(pairs).T
    return Agreement(name, float(spearmanr(scores, accuracies).statistic), len(pairs))
