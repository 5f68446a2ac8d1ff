"""What whole graphs are predicted from: how much of each kind of work there is, with and without what runs in vain.

Some runtimes execute dead branches and some remove them, so that both counts are given; the regression finds out which
one the device goes by. Where the nets of a space differ at positions, `genes` tell what stands where.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latency_models.graph import Graph, Operator
from latency_models.simplify import pruned

__all__ = ["ALL", "LIVE", "PATH", "PLACES", "SHAPE", "SHAPE_COLUMNS", "SOURCES", "Design", "Encoder"]

Array = NDArray[np.float64]
# The blocks of features, each of which a regression may weigh in its own way.
ALL, LIVE, PATH, PLACES, SHAPE = "all", "live", "path", "places", "shape"
# Columns of SHAPE: logarithms of multiply-accumulates and of bytes, longest paths, operators that are left.
SHAPE_COLUMNS = ("MACs", "bytes moved", "depth", "depth in multiplying operators", "operators")
# What predictors of other devices say (see `adapting`).
SOURCES = "sources"


@dataclass(frozen=True)
class Design:
    """Features of n graphs by block, each (n, columns)."""

    blocks: dict[str, Array]

    def __len__(self) -> int:
        return len(next(iter(self.blocks.values())))

    def rows(self, chosen: NDArray[np.integer] | slice) -> Design:
        """Some of the graphs."""
        return Design({name: block[chosen] for name, block in self.blocks.items()})


@dataclass(frozen=True)
class Encoder:
    """Turns graphs into features: `kinds` are the columns of counts, `gene_sizes` how many values each gene has."""

    kinds: tuple[str, ...]
    gene_sizes: tuple[int, ...]

    @classmethod
    def of(
        cls,
        graphs: Sequence[Graph] | None,
        genes: NDArray[np.integer] | None,
        gene_sizes: Sequence[int] | None = None,
    ) -> Encoder:
        """The encoder for a space, of which these are examples.

        Args:
            graphs: n nets, or None.
            genes: the same as integers, (n, genes), or None.
            gene_sizes: how many values each gene can have, (genes,). Without it none is known above those in `genes`.

        Raises:
            ValueError: there are neither graphs nor genes, or genes and their sizes do not belong together.
        """
        if graphs is None and genes is None:
            raise ValueError("give graphs, or genes, or both")
        kinds: set[str] = set()
        for graph in graphs or ():
            kinds.update(_kind(graph, node) for node in graph.operators if not node.is_folded)
        return cls(tuple(sorted(kinds)), _sizes(genes, gene_sizes))

    def encode(self, graphs: Sequence[Graph] | None, genes: NDArray[np.integer] | None) -> Design:
        """Features of n graphs, of n lists of genes, or of both: of what the encoder was made for.

        Raises:
            ValueError: the encoder was made for graphs or for genes that are missing here, there are not as many of
                one as of the other, or a gene is out of the range of the space.
        """
        if self.kinds and graphs is None:
            raise ValueError("the predictor was fitted to graphs: give them")
        if self.gene_sizes and genes is None:
            raise ValueError("the predictor was fitted to genes: give them")
        if graphs is not None and genes is not None and len(graphs) != len(genes):
            raise ValueError(f"there are {len(graphs)} graphs for {len(genes)} rows of genes")
        is_graphs = graphs is not None and (bool(self.kinds) or not self.gene_sizes)
        blocks: dict[str, Array] = {}
        if graphs is not None and is_graphs:
            rows = [self._of_graph(graph) for graph in graphs]
            blocks[ALL] = np.array([row[0] for row in rows]).reshape(len(rows), len(self.kinds))
            blocks[LIVE] = np.array([row[1] for row in rows]).reshape(len(rows), len(self.kinds))
            blocks[PATH] = np.array([row[3] for row in rows]).reshape(len(rows), len(self.kinds))
            blocks[SHAPE] = np.array([row[2] for row in rows]).reshape(len(rows), len(SHAPE_COLUMNS))
        if genes is not None and self.gene_sizes:
            blocks[PLACES] = self._one_hot(np.asarray(genes))
            if not is_graphs:
                blocks[ALL] = self._totals(np.asarray(genes))
        return Design(blocks)

    def unknown(self, graph: Graph) -> list[str]:
        """Kinds of operators that none of the graphs had which the encoder was made for."""
        kinds = {_kind(graph, node) for node in graph.operators if not node.is_folded}
        return sorted(kinds - set(self.kinds))

    def _of_graph(self, graph: Graph) -> tuple[Array, Array, Array, Array]:
        live = pruned(graph)
        counts = Counter(_kind(graph, node) for node in graph.operators if not node.is_folded)
        live_counts = Counter(_kind(live, node) for node in live.operators)
        on_path = Counter(_kind(live, node) for node in _heaviest_path(live))
        macs = sum(node.macs or 0 for node in live.operators)
        moved = sum(node.moved_bytes or 0 for node in live.operators)
        depth, heavy = _depths(live)
        shape = [np.log1p(macs), np.log1p(moved), float(depth), float(heavy), float(len(live.operators))]
        return (
            np.array([float(counts[kind]) for kind in self.kinds]),
            np.array([float(live_counts[kind]) for kind in self.kinds]),
            np.array(shape),
            np.array([float(on_path[kind]) for kind in self.kinds]),
        )

    def _one_hot(self, genes: NDArray[np.integer]) -> Array:
        if genes.ndim != 2 or genes.shape[1] != len(self.gene_sizes):
            raise ValueError(f"genes are of shape {genes.shape}, the space has {len(self.gene_sizes)} of them")
        if (genes < 0).any() or (genes >= np.array(self.gene_sizes)).any():
            raise ValueError(
                "a gene has a value that none of the training's had: name the size of the space (gene_sizes) to fit"
            )
        columns = [np.eye(size)[genes[:, place]] for place, size in enumerate(self.gene_sizes)]
        return np.concatenate(columns, axis=1)

    def _totals(self, genes: NDArray[np.integer]) -> Array:
        """How often each value occurs, wherever: for spaces that are genes alone, all of the same size."""
        most = max(self.gene_sizes)
        return np.stack([(genes == value).sum(axis=1) for value in range(most)], axis=1).astype(np.float64)


def _sizes(genes: NDArray[np.integer] | None, gene_sizes: Sequence[int] | None) -> tuple[int, ...]:
    """How many values each gene has: as given, or as many as were seen."""
    if genes is None:
        if gene_sizes is not None:
            raise ValueError("gene_sizes are given, but no genes")
        return ()
    found = np.asarray(genes)
    if found.ndim != 2 or not found.size or not np.issubdtype(found.dtype, np.integer):
        raise ValueError(f"genes are {found.dtype} of shape {found.shape}: give integers, (nets, genes)")
    if (found < 0).any():
        raise ValueError("a gene is below 0")
    seen = tuple(int(most) + 1 for most in found.max(axis=0))
    if gene_sizes is None:
        return seen
    if len(gene_sizes) != len(seen):
        raise ValueError(f"there are {len(gene_sizes)} gene_sizes for {len(seen)} genes")
    for place, (size, least) in enumerate(zip(gene_sizes, seen, strict=True)):
        if size < least:
            raise ValueError(f"gene {place} has the value {least - 1}, and gene_sizes give it {size} values")
    return tuple(int(size) for size in gene_sizes)


def _kind(graph: Graph, node: Operator) -> str:
    """Type, kernel and output of an operator: what two of one kind have in common takes about the same time."""
    window = node.attributes.get("kernel_shape") or node.attributes.get("filter_height") or ""
    shape = graph.shape(node.outputs[0]) if node.outputs and node.outputs[0] else None
    strides = node.attributes.get("strides") or node.attributes.get("stride_h") or ""
    return f"{node.type} {window} {strides} {list(shape) if shape else ''} {node.macs if node.macs else ''}"


def _heaviest_path(graph: Graph) -> list[Operator]:
    """Operators that wait for each other and have the most work together: with branches in parallel, these take time.

    Work is multiply-accumulates and bytes moved, one counting as much as the other.
    """
    work: dict[str, float] = defaultdict(float)
    maker: dict[str, Operator] = {}
    for node in graph.operators:
        own = float((node.macs or 0) + (node.moved_bytes or 0))
        until = own + max((work[name] for name in node.inputs if name), default=0.0)
        for name in node.outputs:
            work[name], maker[name] = until, node
    found: list[Operator] = []
    ends = [name for name in graph.outputs if name in maker]
    while ends:
        last = maker[max(ends, key=lambda name: work[name])]
        found.append(last)
        ends = [name for name in last.inputs if name in maker]
    return found


def _depths(graph: Graph) -> tuple[int, int]:
    """Operators on the longest path, and multiplying ones on the path that has most of them."""
    depth: dict[str, int] = defaultdict(int)
    heavy: dict[str, int] = defaultdict(int)
    for node in graph.operators:
        before = max((depth[name] for name in node.inputs if name), default=0)
        heavy_before = max((heavy[name] for name in node.inputs if name), default=0)
        for name in node.outputs:
            depth[name] = before + 1
            heavy[name] = heavy_before + (1 if node.macs else 0)
    return max(depth.values(), default=0), max(heavy.values(), default=0)
