"""The cell of NAS-Bench-201: four nodes, an operation on each of the six edges between them.

Dong and Yang, NAS-Bench-201: extending the scope of reproducible neural architecture search, 2020: a stem, three stages
of equal cells with twice the channels and half the image each, residual blocks between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeprof.search.space import Architecture, Gene, SearchSpace
from latency_models.building import BuildError, GraphBuilder, Value

__all__ = ["NasBench201"]

Array = NDArray[np.float64]
OPERATIONS = ("none", "skip_connect", "avg_pool_3x3", "nor_conv_1x1", "nor_conv_3x3")
NONE = 0
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
# The ways from the first node to the last, as places of edges.
PATHS = ((3,), (0, 4), (1, 5), (0, 2, 5))


class NasBench201(SearchSpace):
    """The space; its sizes are those of the paper unless others are given.

    `prunes`: edges from which nothing reaches the end are none, as any runtime that looks leaves them out. Tables of
    latencies that were measured with them have nets of their own for each.
    """

    name = "nasbench201"

    def __init__(
        self, *, n_cells: int = 5, channels: int = 16, side: int = 32, n_classes: int = 10, prunes: bool = True
    ) -> None:
        self._n_cells, self._channels, self._side, self._n_classes = n_cells, channels, side, n_classes
        self._prunes = prunes

    @property
    def genes(self) -> tuple[Gene, ...]:
        return tuple(Gene(f"{a}->{b}", OPERATIONS) for a, b in EDGES)

    def canonical(self, architecture: Architecture) -> Architecture:
        if not self._prunes:
            return architecture
        alive = {edge for path in _paths(architecture) for edge in path}
        return tuple(value if edge in alive else NONE for edge, value in enumerate(architecture))

    def encode(self, architectures: Sequence[Architecture]) -> tuple[Array, NDArray[np.int64]]:
        """Beside the edges each way through the cell: whether it is open, and what lies on it (White et al., 2019)."""
        columns, groups = super().encode(architectures)
        found, of_found = [columns], [groups]
        for number, path in enumerate(PATHS):
            on_path = np.array(architectures, dtype=np.int64).reshape(-1, len(EDGES))[:, path]
            is_open = (on_path != NONE).all(axis=1).astype(np.float64)
            shares = [(on_path == value).mean(axis=1) * is_open for value in range(1, len(OPERATIONS))]
            found.append(np.stack([is_open, *shares], axis=1) / math.sqrt(2.0))
            of_found.append(np.full(1 + len(shares), len(EDGES) + number))
        return np.concatenate(found, axis=1), np.concatenate(of_found)

    def build(self, net: GraphBuilder, architecture: Architecture) -> Value:
        if not _paths(architecture):
            raise BuildError("no edge leads from the first node of this cell to the last: it computes nothing")
        x = net.conv(net.image(self._side, self._side, 3), self._channels, 3)
        for stage in range(3):
            if stage:
                x = _halved(net, x)
            for cell in range(self._n_cells):
                with net.part(f"cell {stage}.{cell}"):
                    x = _cell(net, x, architecture)
        pooled = net.global_average(net.activate(x, "relu"), keep=False)
        return net.dense(pooled, self._n_classes)


def _paths(architecture: Architecture) -> list[tuple[int, ...]]:
    """The ways on which every edge has an operation."""
    return [path for path in PATHS if all(architecture[edge] != NONE for edge in path)]


def _cell(net: GraphBuilder, x: Value, architecture: Architecture) -> Value:
    nodes: list[Value | None] = [x, None, None, None]
    for edge, (start, end) in enumerate(EDGES):
        source, operation = nodes[start], OPERATIONS[architecture[edge]]
        if source is None or operation == "none":
            continue
        with net.part(f"{start}->{end}"):
            made = _operation(net, source, operation)
        before = nodes[end]
        nodes[end] = made if before is None else net.add(before, made)
    last = nodes[3]
    if last is None:
        raise BuildError("no edge leads to the last node of this cell")
    return last


def _operation(net: GraphBuilder, x: Value, operation: str) -> Value:
    if operation == "skip_connect":
        return x
    if operation == "avg_pool_3x3":
        return net.pool(x, "average", 3, 1, padding="same")
    return net.conv(net.activate(x, "relu"), x.channels, 3 if operation == "nor_conv_3x3" else 1)


def _halved(net: GraphBuilder, x: Value) -> Value:
    """A residual block with twice the channels and half the image."""
    inner = net.conv(net.activate(x, "relu"), 2 * x.channels, 3, 2)
    inner = net.conv(net.activate(inner, "relu"), 2 * x.channels, 3)
    return net.add(net.conv(net.pool(x, "average", 2, 2), 2 * x.channels, 1), inner)
