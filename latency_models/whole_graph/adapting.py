"""Few samples on a new device: what predictors of other devices say, and a small residual, blended by evidence.

Latencies of one space on different devices have much in common. The sources' predictions are turned into their
principal components, which become one more block of features; how much they count beside what the samples tell by
themselves is found by the evidence, as everything else (see `experts`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latency_models.estimate import Estimate
from latency_models.graph import Graph
from latency_models.predictor import Model, Part
from latency_models.tables import ManyEstimates
from latency_models.whole_graph.explaining import explained
from latency_models.whole_graph.features import SOURCES, Design, Encoder
from latency_models.whole_graph.predictor import (
    Genes,
    GraphEstimates,
    WholeGraphPredictor,
    checked,
    graph_of,
    graphs_of,
    one_estimate,
    one_net,
    widened,
)

__all__ = [
    "AdaptedPredictor",
    "Components",
    "adapt",
    "adapt_encoded",
    "choose_samples",
    "is_enough",
    "said_by",
    "said_of",
]

Array = NDArray[np.float64]
# More components than this are noise of the sources.
MOST_COMPONENTS = 5
# Candidates looked at when samples are chosen.
MOST_CANDIDATES = 1500
# How much what sources say counts beside a block of counts, when samples are chosen.
SOURCES_COUNT = 2.0
# A sample's error is worth about so much beside a unit of what its features explain.
SAMPLE_NOISE = 0.05
# The error has stopped falling when it fell by less than this share over the last quarter of the samples.
LEAST_GAIN = 0.05


@dataclass(frozen=True)
class Components:
    """The sources' logarithms of latencies, less `center` (sources,), on `axes` (sources, components)."""

    center: Array
    axes: Array

    @classmethod
    def of(cls, logs: Array) -> Components:
        center = logs.mean(axis=0)
        _, strengths, axes = np.linalg.svd(logs - center, full_matrices=False)
        n = min(MOST_COMPONENTS, int((strengths > 1e-6 * strengths[0]).sum()))
        return cls(center, axes[: max(1, n)].T)

    def block(self, logs: Array) -> Array:
        """The components of m nets, and the mean of the sources' own ratios, (m, components + 1)."""
        moved = logs - self.center
        ratios = np.exp(np.clip(moved, -5, 5)).mean(axis=1) - 1.0
        return np.concatenate([ratios[:, None], moved @ self.axes], axis=1)


@dataclass(frozen=True)
class AdaptedPredictor:
    """A predictor that asks its sources first."""

    sources: tuple[WholeGraphPredictor, ...]
    components: Components
    inner: WholeGraphPredictor

    def predict(
        self,
        model: Model | None = None,
        genes: Sequence[int] | None = None,
        *,
        level: float = 0.9,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        batch: int | None = None,
    ) -> Estimate:
        """Predict one net; see `WholeGraphPredictor.predict`."""
        graph = None if model is None else graph_of(model, shapes, batch)
        found = self.predict_many(*one_net(graph, genes), level=level)
        names = ", ".join(source.target for source in self.sources)
        return one_estimate(self.inner, found, graph, [f"adapted from {names}"])

    def predict_many(
        self, graphs: Sequence[Model] | None = None, genes: Genes | None = None, *, level: float = 0.9
    ) -> GraphEstimates:
        """Predict m nets; see `WholeGraphPredictor.predict_many`."""
        read, encoder = graphs_of(graphs), self.inner.encoder
        found = self.of_encoded(encoder.encode(read, genes), said_of(self.sources, read, genes), level)
        return widened(found, encoder, read)

    def explain(
        self,
        model: Model | None = None,
        genes: Sequence[int] | None = None,
        *,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        batch: int | None = None,
    ) -> tuple[Part, ...]:
        """What a predicted latency is made of; see `WholeGraphPredictor.explain`. What sources say is one part."""
        graphs, of_net = one_net(None if model is None else graph_of(model, shapes, batch), genes)
        design = self.inner.encoder.encode(graphs, of_net)
        whole = _with_sources(design, said_of(self.sources, graphs, of_net), self.components)
        return explained(self.inner.experts, self.inner.encoder, whole)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> AdaptedPredictor:
        """Read what `save` wrote.

        Raises:
            OSError: the file cannot be read.
            ArchiveError: it is no predictor of whole graphs that was adapted, or is damaged or too new.
        """
        from latency_models.archive import ArchiveError
        from latency_models.whole_graph.archive import load

        found = load(path)
        if not isinstance(found, cls):
            raise ArchiveError(f"{Path(path).name} was not adapted from others: read it with latency_models.load")
        return found

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as one file, its sources inside, whole or not at all; `latency_models.load` reads it.

        Raises:
            OSError: the file cannot be written.
        """
        from latency_models.whole_graph.archive import save

        save(self, path)

    def of_encoded(self, design: Design, said_s: Array, level: float = 0.9) -> ManyEstimates:
        """Predict m nets that were encoded already, of which the sources said `said_s` (m, sources)."""
        return self.inner.of_encoded(_with_sources(design, said_s, self.components), level)


def said_by(sources: Sequence[WholeGraphPredictor], design: Design) -> Array:
    """What each source predicts for m nets that were encoded by the sources' own encoder, in seconds, (m, sources).

    Raises:
        ValueError: the sources' encoders differ: `said_of` asks each in its own way.
    """
    if len({source.encoder for source in sources}) > 1:
        raise ValueError("the sources know different kinds of operators or genes: use said_of, which encodes for each")
    return np.stack([one.of_encoded(design).latency_s for one in sources], axis=1)


def said_of(sources: Sequence[WholeGraphPredictor], graphs: Sequence[Graph] | None, genes: Genes | None) -> Array:
    """What each source predicts for m nets, in seconds, (m, sources), each seeing of them what it knows.

    Raises:
        ValueError: what a source was fitted to is missing, or genes are out of the range of its space.
    """
    encoded = {encoder: encoder.encode(graphs, genes) for encoder in dict.fromkeys(one.encoder for one in sources)}
    return np.stack([one.of_encoded(encoded[one.encoder]).latency_s for one in sources], axis=1)


def adapt(
    sources: Sequence[WholeGraphPredictor],
    latency_s: Sequence[float] | Array,
    graphs: Sequence[Model] | None = None,
    genes: Genes | None = None,
    *,
    target: str = "target",
    seed: int = 0,
) -> AdaptedPredictor:
    """A predictor of a new device from a few measurements on it.

    Args:
        sources: predictors of other devices, fitted to the same space.
        latency_s: what each of the n nets took, (n,).
        graphs: the nets that were measured, as for `WholeGraphPredictor.fit`.
        genes: the same as integers.
        target: what is predicted.
        seed: of what is drawn.

    Raises:
        ValueError: there is no source, they do not fit each other, or the measurements make no sense.
        GraphError: one is no model.
        OSError: a file cannot be read.
    """
    if not sources:
        raise ValueError("name at least one predictor of another device")
    known_s = checked(latency_s, graphs, genes)
    read = graphs_of(graphs)
    encoder = _joined([source.encoder for source in sources], read)
    found = adapt_encoded(encoder.encode(read, genes), said_of(sources, read, genes), known_s, encoder, target, seed)
    return AdaptedPredictor(tuple(sources), found.components, found.inner)


def adapt_encoded(
    design: Design, said_s: Array, latency_s: Array, encoder: Encoder, target: str = "target", seed: int = 0
) -> AdaptedPredictor:
    """As `adapt`, of n nets that were encoded already, and of which the sources said `said_s` (n, sources)."""
    components = Components.of(np.log(said_s))
    inner = WholeGraphPredictor.of_design(_with_sources(design, said_s, components), latency_s, encoder, target, seed)
    return AdaptedPredictor((), components, inner)


def choose_samples(pool: Design, said_s: Array | None, n: int, seed: int = 0) -> NDArray[np.int64]:
    """Which n nets of a pool to measure: each the one that is least known from those before it.

    With a linear model of the sources' components and the counts this is a greedy D-optimal design (Fedorov, Theory of
    optimal experiments, 1972).

    Args:
        pool: the m nets to choose from, encoded.
        said_s: what the sources say of them (see `said_by`), (m, sources); None for a design by the counts alone.
        n: how many.
        seed: of the candidates, where the pool is large.

    Raises:
        ValueError: the pool has fewer nets than that, or none are wanted.
    """
    if n < 1:
        raise ValueError(f"{n} nets are too few to measure: name at least 1")
    if n > len(pool):
        raise ValueError(f"{n} nets cannot be chosen of {len(pool)}")
    candidates: NDArray[np.int64] = np.random.default_rng(seed).permutation(len(pool))[:MOST_CANDIDATES]
    blocks = [_unit(block) / np.sqrt(block.shape[1]) for block in pool.rows(candidates).blocks.values()]
    if said_s is not None:
        logs = np.log(said_s[candidates])
        blocks.append(SOURCES_COUNT * _unit(Components.of(logs).block(logs)))
    left = np.concatenate([np.ones((len(candidates), 1)), *blocks], axis=1)
    variance = (left**2).sum(axis=1)
    chosen: list[int] = []
    for _ in range(n):
        best = int(np.argmax(variance))
        chosen.append(best)
        direction = left @ left[best] / (SAMPLE_NOISE + variance[best])
        left = left - np.outer(direction, left[best]) * _damping(float(variance[best]))
        variance = np.maximum((left**2).sum(axis=1), 0.0)
        variance[chosen] = -1.0
    picked: NDArray[np.int64] = candidates[np.array(chosen)]
    return picked


def is_enough(errors: Sequence[float], target_error: float | None = None) -> bool:
    """Whether to stop measuring: `errors` are left-out errors after each sample, the latest last.

    They are below the target, or no longer fall: over the last quarter of the samples by less than a twentieth.
    """
    if target_error is not None and errors and errors[-1] <= target_error:
        return True
    quarter = max(3, len(errors) // 4)
    if len(errors) < 2 * quarter:
        return False
    before, now = float(np.mean(errors[-2 * quarter : -quarter])), float(np.mean(errors[-quarter:]))
    return now > (1.0 - LEAST_GAIN) * before


def _joined(encoders: Sequence[Encoder], graphs: Sequence[Graph] | None) -> Encoder:
    """An encoder that knows all kinds of operators that a source or a sample had, and all values of genes."""
    n_genes = {len(encoder.gene_sizes) for encoder in encoders}
    if len(n_genes) > 1:
        raise ValueError(f"the sources have different numbers of genes: {', '.join(map(str, sorted(n_genes)))}")
    kinds = {kind for encoder in encoders for kind in encoder.kinds}
    if kinds:
        kinds.update(Encoder.of(graphs or (), None).kinds)
    sizes = zip(*(encoder.gene_sizes for encoder in encoders), strict=True)
    return Encoder(tuple(sorted(kinds)), tuple(max(of_gene) for of_gene in sizes))


def _damping(variance: float) -> float:
    """What one noisy measurement leaves of a direction: 1 takes all of it away."""
    kept = math.sqrt(SAMPLE_NOISE / (SAMPLE_NOISE + variance))
    return (1.0 - kept) * (SAMPLE_NOISE + variance) / max(variance, 1e-12)


def _unit(block: Array) -> Array:
    return np.asarray((block - block.mean(axis=0)) / np.maximum(block.std(axis=0), 1e-9), dtype=np.float64)


def _with_sources(design: Design, said_s: Array, components: Components) -> Design:
    return Design({**design.blocks, SOURCES: components.block(np.log(said_s))})
