"""Latencies of whole search spaces: every part of an architecture is predicted once, then architectures are sums.

    slots = [Slot(genes=(0,), build=stem), Slot(genes=(1, 2), build=first_block), ...]
    table = GeneTable(predictor, sizes=(2, 3, 3), slots=slots)
    found = table.predict(genes)          # (100_000, 3) integers -> latencies and intervals, in a fraction of a second

A slot is a part whose operators depend on few genes. Fusion across slots is not seen: cut where nothing is fused, as
behind a residual sum or an activation.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latency_models.correction import LEAST_SD, TOGETHER, Correction
from latency_models.graph import Graph
from latency_models.kernel_times import BOUND_SD
from latency_models.making_kernels import Kernels
from latency_models.predictor import LEAST_S, Predictor, taken_apart
from latency_models.surroundings import Context

__all__ = ["GeneTable", "ManyEstimates", "Slot"]

Array = NDArray[np.float64]
# Neighbouring slots are put together while their table has no more entries: fewer look-ups for each architecture.
MOST_ENTRIES = 4096
# So few architectures are summed at once; of many, that would take memory.
FEW = 64
LATENCY, TIME, TOGETHER_S, APART_S2 = range(4)


@dataclass(frozen=True)
class Slot:
    """A part of an architecture: `build` gets the values of its `genes` and gives its graph, None for nothing."""

    genes: tuple[int, ...]
    build: Callable[[tuple[int, ...]], Graph | None]


@dataclass(frozen=True)
class ManyEstimates:
    """Of n architectures, each (n,): seconds, and the interval in which the truth lies with probability `level`."""

    latency_s: Array
    low_s: Array
    high_s: Array
    level: float


def _context(made: Sequence[Sequence[Kernels | None]]) -> Context:
    """What a typical architecture is around each of its parts: the mean of every slot, added up."""
    moved = weights = 0.0
    for slot in made:
        found = [Context.of(one.kernels) for one in slot if one is not None]
        moved += sum(one.moved_bytes for one in found) / max(1, len(slot))
        weights += sum(one.weight_bytes for one in found) / max(1, len(slot))
    return Context(moved, weights)


@dataclass(frozen=True)
class _Table:
    """Of one slot or of several: `rows` (entries, 4) for each combination of the values of its genes."""

    genes: tuple[int, ...]
    rows: Array


class GeneTable:
    """The latencies of a space whose architectures are lists of integers.

    Args:
        predictor: of the target.
        sizes: how many values each gene has, 0 to one less.
        slots: the parts; together they are the whole net.

    Raises:
        ValueError: a slot names a gene that there is not.
        TypeError: the predictor knows no kernels of its own.
    """

    def __init__(self, predictor: Predictor, sizes: Sequence[int], slots: Sequence[Slot]) -> None:
        self._sizes = tuple(sizes)
        for slot in slots:
            if any(not 0 <= gene < len(self._sizes) for gene in slot.genes):
                raise ValueError(f"a slot depends on genes {slot.genes}, but there are {len(self._sizes)}")
        if not isinstance(predictor, Predictor):
            raise TypeError(
                f"{type(predictor).__name__} knows no kernels of its own: a table is filled by a predictor that was "
                "trained on the device itself; others have predict_many"
            )
        self._predictor = predictor
        made = [self._made(slot) for slot in slots]
        context = _context(made)
        self._correction = self._correction_of([one for slot in made for one in slot if one is not None], context)
        tables = self._merged(
            [_Table(slot.genes, self._rows_of(one, context)) for slot, one in zip(slots, made, strict=True)]
        )
        self._rows = np.concatenate([table.rows for table in tables]) if tables else np.zeros((1, 4))
        self._limits = np.array(self._sizes)
        self._spans: dict[float, float] = {}
        self._weights = np.zeros((len(self._sizes), len(tables)))
        starts = [0, *itertools.accumulate(len(table.rows) for table in tables)][: len(tables)]
        self._starts = np.array(starts, dtype=np.int64)
        for place, table in enumerate(tables):
            step = 1
            for gene in reversed(table.genes):
                self._weights[gene, place] = step
                step *= self._sizes[gene]

    @property
    def n_entries(self) -> int:
        """How many rows the tables have in all."""
        return len(self._rows)

    def predict(self, genes: NDArray[np.integer] | Sequence[Sequence[int]], level: float = 0.9) -> ManyEstimates:
        """Predict n architectures.

        Args:
            genes: the architectures, (n, genes).
            level: of the intervals.

        Raises:
            ValueError: a gene is out of its range, or there are too few of them.
        """
        if not 0.0 < level < 1.0:
            raise ValueError(f"level is {level}: it lies between 0 and 1, as 0.9 does")
        given = np.asarray(genes)
        if given.dtype.kind not in "iu" and given.size:
            raise ValueError(f"genes are {given.dtype}: give integers")
        if given.ndim != 2 or given.shape[1] != len(self._sizes):
            raise ValueError(f"genes are of shape {given.shape}: {len(self._sizes)} are needed for each architecture")
        if ((given < 0) | (given >= self._limits)).any():
            raise ValueError(f"a gene is not between 0 and its size less one; the sizes are {self._sizes}")
        # Places are exact: far below what a double can count.
        places = (given @ self._weights).astype(np.int64) + self._starts
        if len(given) <= FEW:
            return self._estimates(self._rows[places].sum(axis=1), level)
        sums = np.zeros((len(given), 4))
        for column in range(places.shape[1]):
            sums += self._rows[places[:, column]]
        return self._estimates(sums, level)

    def _estimates(self, sums: Array, level: float) -> ManyEstimates:
        correction = self._correction
        latency_s = np.maximum(sums[:, LATENCY] + correction.scale * correction.per_run_s, LEAST_S)
        total = np.maximum(sums[:, TIME], 1e-12)
        variance = (TOGETHER * sums[:, TOGETHER_S] ** 2 + (1 - TOGETHER) * sums[:, APART_S2]) / total**2
        if level not in self._spans:
            self._spans[level] = self._predictor.scores.quantile(level)
        spans = self._spans[level]
        factor = np.exp(np.minimum(20.0, spans * np.sqrt(LEAST_SD**2 + variance + self._predictor.uncorrected_sd**2)))
        return ManyEstimates(latency_s, latency_s / factor, latency_s * factor, level)

    # --- filling ---

    def _made(self, slot: Slot) -> list[Kernels | None]:
        """The kernels of a slot for every combination of the values of its genes."""
        sizes = [self._sizes[gene] for gene in slot.genes]
        graphs = (slot.build(values) for values in itertools.product(*map(range, sizes)))
        return [None if graph is None else self._predictor.kernels_of(graph) for graph in graphs]

    def _correction_of(self, made: Sequence[Kernels], context: Context) -> Correction:
        """All parts are of nets of one kind: in whole numbers or not."""
        kernels = [kernel for one in made for kernel in one.kernels]
        times = self._predictor.times.predict(kernels, context, is_part=True)
        return self._predictor.correction_of(taken_apart(kernels, times))

    def _rows_of(self, made: Sequence[Kernels | None], context: Context) -> Array:
        return np.array([self._row(one, context) for one in made]).reshape(-1, 4)

    def _row(self, made: Kernels | None, context: Context) -> Array:
        """What a part adds: to the latency, to the time of kernels, and to the sums that the interval is made of."""
        if made is None:
            return np.zeros(4)
        unknown_s = sum(one.latency_s for one in made.unknown)
        if not made.kernels:
            return np.array([unknown_s, unknown_s, unknown_s * BOUND_SD, (unknown_s * BOUND_SD) ** 2])
        times = self._predictor.times.predict(made.kernels, context, is_part=True)
        correction = self._correction
        per_run_s = correction.scale * correction.per_run_s
        known_s = float(correction.apply([taken_apart(made.kernels, times)])[0]) - per_run_s
        parts = np.append(times.time_s * times.sd, unknown_s * BOUND_SD)
        return np.array(
            [known_s + unknown_s, float(times.time_s.sum()) + unknown_s, parts.sum(), float((parts**2).sum())]
        )

    def _merged(self, tables: Sequence[_Table]) -> list[_Table]:
        """Tables put together with their neighbours, while they stay small."""
        merged: list[_Table] = []
        for table in tables:
            if merged and math.prod(self._sizes[gene] for gene in {*merged[-1].genes, *table.genes}) <= MOST_ENTRIES:
                merged[-1] = self._together(merged[-1], table)
            else:
                merged.append(table)
        return merged

    def _together(self, a: _Table, b: _Table) -> _Table:
        genes = tuple(dict.fromkeys((*a.genes, *b.genes)))
        listed = list(itertools.product(*(range(self._sizes[gene]) for gene in genes)))
        combinations = np.array(listed, dtype=np.int64).reshape(len(listed), len(genes))
        return _Table(genes, a.rows[self._place(a, genes, combinations)] + b.rows[self._place(b, genes, combinations)])

    def _place(self, table: _Table, genes: tuple[int, ...], combinations: NDArray[np.int64]) -> NDArray[np.int64]:
        place = np.zeros(len(combinations), dtype=np.int64)
        for gene in table.genes:
            place = place * self._sizes[gene] + combinations[:, genes.index(gene)]
        return place
