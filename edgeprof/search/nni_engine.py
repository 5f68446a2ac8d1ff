"""NNI's side of a search (extra `nni`): a ModelSpace that mirrors a space of ours, and its strategies on that."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import nni
import torch
from nni.nas import strategy as strategies
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.space import RawFormatModelSpace

from edgeprof.search.space import Architecture, SearchSpace

__all__ = ["mirror", "run"]

SAMPLE = 0.3


class _Mirror(ModelSpace):
    """A choice for each gene; a frozen one is nothing but what was chosen."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.sizes = sizes
        for place, size in enumerate(sizes):
            self.add_mutable(nni.choice(_label(place), list(range(size))))

    def freeze(self, sample: dict[str, int]) -> torch.nn.Module:
        frozen = torch.nn.Module()
        frozen.chosen = tuple(int(sample[_label(place)]) for place in range(len(self.sizes)))
        return frozen

    def forward(self, x: Any) -> Any:
        return x


def _label(place: int) -> str:
    return f"gene {place}"


def mirror(space: SearchSpace) -> ModelSpace:
    """A space of ours as NNI sees it."""
    return _Mirror(space.sizes)


def run(
    name: str, space: SearchSpace, evaluate: Callable[[Architecture], float], seed: int, population: int, most: int
) -> None:
    """Let one of NNI's strategies ask for architectures until `most` were evaluated, or it has no more.

    Its sequential engine evaluates one after another, in this process; nothing listens on any port.
    """
    logging.getLogger("nni").setLevel(logging.ERROR)

    def evaluator(model: Any) -> None:
        nni.report_final_result(evaluate(model.chosen))

    chosen = _strategy(name, seed, population)
    chosen.initialize(
        RawFormatModelSpace(mirror(space), FunctionalEvaluator(evaluator)),
        SequentialExecutionEngine(max_model_count=most),
    )
    chosen.run()


def _strategy(name: str, seed: int, population: int) -> Any:
    if name == "nni-random":
        return strategies.Random(dedup=True, seed=seed)
    if name == "nni-tpe":
        return strategies.TPE(seed=seed)
    sample = max(2, int(SAMPLE * population))
    return strategies.RegularizedEvolution(population_size=population, sample_size=sample, seed=seed)
