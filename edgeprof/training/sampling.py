"""Which probe to measure next: the one whose kernels are known worst, of those that the user wants to predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeprof.training.plan import CANDIDATES, Step
from edgeprof.training.probes import draw_probe
from latency_models.features import form
from latency_models.kernels import KernelSpec
from latency_models.making_kernels import KernelMaker
from latency_models.predictor import Predictor

__all__ = ["choose_probe"]

# This share of all probes is drawn blindly: what a predictor is sure of may be wrong.
BLIND = 1 / 3
# Fewer candidates are looked at where drawing them would take longer than measuring.
LOOKED_AT = 8


@dataclass(frozen=True)
class _Wish:
    """How much kernels of a family matter to the user; `sizes` are the logarithms of their work."""

    sizes: np.ndarray


def choose_probe(
    step: Step, seed: int, format: str, predictor: Predictor | None, wanted: Sequence[KernelSpec] = ()
) -> int:
    """The number of the probe that a step measures.

    Args:
        step: the step.
        seed: of the training.
        format: of its models.
        predictor: what was fitted so far; None for nothing.
        wanted: kernels that the user will predict.
    """
    first = step.number * CANDIDATES
    rng = np.random.default_rng([seed, step.number])
    if predictor is None or rng.random() < BLIND:
        return first
    maker = KernelMaker(predictor.target, predictor.patterns)
    wishes = _wishes(wanted)
    scores = []
    for number in range(first, first + LOOKED_AT):
        made = maker.of_graph(draw_probe(seed, number, format, step.precision))
        scores.append(_score(made.kernels, predictor, wishes))
    return first + int(np.argmax(scores))


def _wishes(wanted: Sequence[KernelSpec]) -> dict[str, _Wish]:
    sizes: dict[str, list[float]] = {}
    for kernel in wanted:
        one = form(kernel)
        sizes.setdefault(one.family, []).append(np.log2(1 + one.macs + one.moved_bytes))
    return {family: _Wish(np.array(values)) for family, values in sizes.items()}


def _score(kernels: Sequence[KernelSpec], predictor: Predictor, wishes: dict[str, _Wish]) -> float:
    """How much measuring these teaches: how wide their intervals are, the widest counting most."""
    if not kernels:
        return 0.0
    spread = np.minimum(predictor.spread_of(kernels), 3.0)
    if wishes:
        spread = spread * np.array([_likeness(kernel, wishes) for kernel in kernels])
    ordered = np.sort(spread)[::-1][:5]
    return float(ordered.mean())


def _likeness(kernel: KernelSpec, wishes: dict[str, _Wish]) -> float:
    """Of a kernel to those that are wanted: 1 for the same family and size, little for another family."""
    one = form(kernel)
    wish = wishes.get(one.family)
    if wish is None:
        return 0.05
    size = np.log2(1 + one.macs + one.moved_bytes)
    return float(np.exp(-0.5 * (np.abs(wish.sizes - size).min() / 2.0) ** 2))
