"""What a predicted latency of a whole graph is made of: the experts' sums, each with the weight of its expert.

Sums can be taken apart to the column: so much for each kind of operator and each value at a position, on the mean over
the experts. What smooth parts add, and experts in logarithms, are no sums and are one part each. A part tells what the
regression makes of a column, beside all others that it knows: where several say nearly the same, one can be large and
another below 0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from latency_models.predictor import Part
from latency_models.whole_graph.additive_process import AdditiveProcess
from latency_models.whole_graph.experts import Experts, Positive
from latency_models.whole_graph.features import ALL, LIVE, PATH, PLACES, SHAPE, SHAPE_COLUMNS, SOURCES, Design, Encoder

__all__ = ["CONSTANT", "explained"]

CONSTANT = "what is the same for all nets"
SMOOTH = "what no sum explains: thresholds, parallel branches, caches"
OF_SOURCES = "what predictors of other devices say, against the samples' mean"
IN_LOGARITHMS = "experts in logarithms, which are no sums"
KEPT_POSITIVE = "kept above 0"


def explained(experts: Experts, encoder: Encoder, design: Design) -> tuple[Part, ...]:
    """The parts of the latency of the only graph of `design`, in seconds: they add up to what the experts predict."""
    seconds: dict[str, float] = defaultdict(float)
    for weight, expert in zip(experts.weights, experts.members, strict=True):
        whole = float(expert.predict(design)[0][0])
        taken = 0.0
        for what, part_s in _parts(expert, encoder, design):
            seconds[what] += weight * part_s
            taken += part_s
        rest = IN_LOGARITHMS if isinstance(expert, AdditiveProcess) and expert.logarithms else KEPT_POSITIVE
        if abs(whole - taken) > 1e-12 * whole:
            seconds[rest] += weight * (whole - taken)
    constant_s = seconds.pop(CONSTANT, 0.0)
    others = sorted(((what, s) for what, s in seconds.items() if s), key=lambda one: -abs(one[1]))
    return (Part(CONSTANT, constant_s), *(Part(what, part_s) for what, part_s in others))


def _parts(expert: AdditiveProcess | Positive, encoder: Encoder, design: Design) -> Iterator[tuple[str, float]]:
    """Each part of one expert, the same name perhaps several times."""
    if isinstance(expert, Positive):
        yield CONSTANT, expert.constant
        each_s = np.where(np.isnan(expert.usual), expert.weights, expert.each_s)
        yield from _named(expert.block, design, encoder, each_s, np.nan_to_num(expert.usual))
        return
    if expert.logarithms:
        return
    constant_s = expert.unit * (expert.mean + expert.follows)
    if expert.follows:
        yield OF_SOURCES, expert.unit * float(expert.expected(design)[0] - expert.mean - expert.follows)
    for name, each_s in expert.linear().items():
        center = expert.centers[name]
        if name in (SHAPE, SOURCES):  # these are never 0: only how they differ says something
            yield from _named(name, design, encoder, each_s, center)
        else:
            constant_s -= float(each_s @ center)
            yield from _named(name, design, encoder, each_s)
    yield CONSTANT, constant_s
    yield SMOOTH, float(expert.smooth(design)[0])


def _named(
    block: str, design: Design, encoder: Encoder, each_s: np.ndarray, center: np.ndarray | float = 0.0
) -> Iterator[tuple[str, float]]:
    """What each column of a block takes, of `each_s` (columns,) for one of it beyond `center`."""
    labels = _labels(block, design, encoder)
    for label, part_s in zip(labels, (design.blocks[block][0] - center) * each_s, strict=True):
        if part_s:
            yield label, float(part_s)


def _labels(block: str, design: Design, encoder: Encoder) -> list[str]:
    """In words, what each column of a block stands for."""
    if block == PLACES:
        sizes = enumerate(encoder.gene_sizes)
        return [f"gene {place} is {value}" for place, size in sizes for value in range(size)]
    if block == SHAPE:
        return [f"{column} of the whole net, against the samples' mean" for column in SHAPE_COLUMNS]
    if block == SOURCES:
        return [OF_SOURCES] * design.blocks[SOURCES].shape[1]
    if LIVE not in design.blocks:
        return [f"genes that are {value}, anywhere" for value in range(design.blocks[ALL].shape[1])]
    counts = design.blocks[PATH if block == PATH else ALL][0]
    where = " on the path with most work" if block == PATH else ""
    return [f"{int(n)} x {kind.strip()}{where}" for n, kind in zip(counts, encoder.kinds, strict=True)]
