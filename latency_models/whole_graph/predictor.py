"""A predictor of whole graphs: fitted to end-to-end latencies, with intervals from samples that were left out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latency_models.estimate import LEARNED, Estimate
from latency_models.graph import Graph
from latency_models.one_thread import one_thread
from latency_models.predictor import ALL_ALIKE, DISTINCT, Model, Part
from latency_models.scores import Scores
from latency_models.tables import ManyEstimates
from latency_models.whole_graph.experts import Experts
from latency_models.whole_graph.explaining import explained
from latency_models.whole_graph.features import Design, Encoder

__all__ = [
    "FEWEST",
    "GraphEstimates",
    "WholeGraphPredictor",
    "checked",
    "graph_of",
    "graphs_of",
    "one_estimate",
    "one_net",
    "widened",
]

Array = NDArray[np.float64]
Genes = NDArray[np.integer]
FEWEST = 3
# No relative error of end-to-end measurements is known to be smaller.
LEAST_SD = 0.003
# As many hyperparameters are chosen by the samples, about, and no more than half as many as there are samples.
CHOSEN = 5.0
# Experts can use up all samples; what is left then is known no better than this.
LEAST_FREEDOM = 1.0


@dataclass(frozen=True)
class GraphEstimates(ManyEstimates):
    """Of m nets. `unknown` has the kinds of operators of each that no measured net had, which widen its interval.

    It is empty where there are no graphs to look at.
    """

    unknown: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class WholeGraphPredictor:
    """What was learned about one target from whole graphs alone; `target` is its name."""

    target: str
    encoder: Encoder
    experts: Experts
    scores: Scores
    metrics: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        latency_s: Sequence[float] | Array,
        graphs: Sequence[Model] | None = None,
        genes: Genes | None = None,
        *,
        gene_sizes: Sequence[int] | None = None,
        target: str = "target",
        seed: int = 0,
    ) -> WholeGraphPredictor:
        """Fit to n measurements.

        Args:
            latency_s: what each net took, (n,).
            graphs: the nets, as for `predict`; or None, and `genes` alone tell them apart.
            genes: the nets as integers, (n, genes), where they come from one space.
            gene_sizes: how many values each gene has, (genes,): give them where the n nets do not have all values.
            target: what is predicted, for messages.
            seed: of what is drawn.

        Raises:
            ValueError: there are too few, a latency is not above 0, or they do not belong together.
            GraphError: one is no model.
            OSError: a file cannot be read.
        """
        known_s = checked(latency_s, graphs, genes)
        read = graphs_of(graphs)
        encoder = Encoder.of(read, genes, gene_sizes)
        return cls.of_design(encoder.encode(read, genes), known_s, encoder, target, seed)

    @classmethod
    def of_design(
        cls, design: Design, latency_s: Array, encoder: Encoder, target: str = "target", seed: int = 0
    ) -> WholeGraphPredictor:
        """Fit to nets that were encoded already."""
        with one_thread():
            experts = Experts.fit(design, latency_s, seed)
        errors = np.abs(np.log(latency_s / np.maximum(experts.left_out_s, 1e-12)))
        # Samples left out one by one still chose hyperparameters, with what the experts' parts leave of them: that
        # flatters, as it does errors of a fit (Akaike's final prediction error, 1969, with these numbers).
        flattered = np.sqrt(1.0 + min(CHOSEN, len(errors) / 2) / max(LEAST_FREEDOM, experts.freedom))
        scores = Scores(tuple(float(v) for v in flattered * errors / np.maximum(experts.left_out_sd, LEAST_SD)))
        return cls(target, encoder, experts, scores, _metrics(experts.left_out_s, latency_s))

    def predict(
        self,
        model: Model | None = None,
        genes: Sequence[int] | None = None,
        *,
        level: float = 0.9,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        batch: int | None = None,
    ) -> Estimate:
        """Predict one net; it has no bill for operators, since none was ever timed.

        Args:
            model: ONNX or TFLite, a file or the bytes of one, or a graph; None where the predictor knows genes alone.
            genes: the net as integers, (genes,), where the predictor was fitted to them.
            level: the probability with which the truth shall lie in the interval.
            shapes: of inputs whose dimensions the file leaves open; 1 is assumed for what is not given, and said.
            batch: the first dimension of every other input where the file leaves it open.

        Raises:
            ValueError: what the predictor was fitted to is missing, or genes are out of the range of the space.
            GraphError: it is no model, it is damaged, or the shapes do not fit it.
            OSError: the file cannot be read.
        """
        graph = None if model is None else graph_of(model, shapes, batch)
        found = self.predict_many(*one_net(graph, genes), level=level)
        return one_estimate(self, found, graph)

    def predict_many(
        self, graphs: Sequence[Model] | None = None, genes: Genes | None = None, *, level: float = 0.9
    ) -> GraphEstimates:
        """Predict m nets; `predict` says the same of each.

        Raises:
            ValueError: what the predictor was fitted to is missing, or genes are out of the range of the space.
            GraphError: one is no model.
            OSError: a file cannot be read.
        """
        read = graphs_of(graphs)
        return widened(self.of_encoded(self.encoder.encode(read, genes), level), self.encoder, read)

    def explain(
        self,
        model: Model | None = None,
        genes: Sequence[int] | None = None,
        *,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        batch: int | None = None,
    ) -> tuple[Part, ...]:
        """What a predicted latency is made of, part by part, in seconds; they add up to it.

        Each kind of operator and each value at a position is a part, as far as the latency is a sum of them; what no
        sum explains is one more. Parts are what a regression found, and no measured times of operators.

        Raises:
            ValueError: what the predictor was fitted to is missing, or genes are out of the range of the space.
            GraphError: it is no model, it is damaged, or the shapes do not fit it.
            OSError: the file cannot be read.
        """
        graph = None if model is None else graph_of(model, shapes, batch)
        return explained(self.experts, self.encoder, self.encoder.encode(*one_net(graph, genes)))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> WholeGraphPredictor:
        """Read what `save` wrote.

        Raises:
            OSError: the file cannot be read.
            ArchiveError: it is no predictor of whole graphs, is damaged or too new, or was adapted
                (`latency_models.load` reads all kinds).
        """
        from latency_models.archive import ArchiveError
        from latency_models.whole_graph.archive import load

        found = load(path)
        if not isinstance(found, cls):
            raise ArchiveError(f"{Path(path).name} was adapted from others: read it with latency_models.load")
        return found

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as one file, whole or not at all; `latency_models.load` reads it.

        Raises:
            OSError: the file cannot be written.
        """
        from latency_models.whole_graph.archive import save

        save(self, path)

    def of_encoded(self, design: Design, level: float = 0.9) -> ManyEstimates:
        """Predict m nets that were encoded already; what the encoder does not know of is not seen."""
        if not 0.0 < level < 1.0:
            raise ValueError(f"level is {level}: it lies between 0 and 1, as 0.9 does")
        seconds, sd = self.experts.predict(design)
        factor = np.exp(np.minimum(20.0, self.scores.quantile(level) * np.maximum(sd, LEAST_SD)))
        return ManyEstimates(seconds, seconds / factor, seconds * factor, level)


def graph_of(model: Model, shapes: Mapping[str, tuple[int, ...]] | None = None, batch: int | None = None) -> Graph:
    """The graph of a model; see `WholeGraphPredictor.predict`."""
    if isinstance(model, Graph):
        return model
    from latency_models.reading import read

    return read(model, shapes=shapes, batch=batch, default_dim=1)


def graphs_of(models: Sequence[Model] | None) -> list[Graph] | None:
    """The graphs of m models."""
    return None if models is None else [graph_of(model) for model in models]


def one_net(graph: Graph | None, genes: Sequence[int] | None) -> tuple[list[Graph] | None, Genes | None]:
    """One net as `predict_many` takes it."""
    return None if graph is None else [graph], None if genes is None else np.array([genes])


def widened(found: ManyEstimates, encoder: Encoder, graphs: Sequence[Graph] | None) -> GraphEstimates:
    """With what no measured net had: each kind of it may take as long as all that is known."""
    unknown = tuple(tuple(encoder.unknown(graph)) for graph in graphs) if graphs and encoder.kinds else ()
    factor = np.array([1.0 + len(kinds) for kinds in unknown]) if unknown else 1.0
    return GraphEstimates(found.latency_s, found.low_s / factor, found.high_s * factor, found.level, unknown)


def one_estimate(
    predictor: WholeGraphPredictor, found: GraphEstimates, graph: Graph | None, notes: Sequence[str] = ()
) -> Estimate:
    """The only one of `found`, with what is to be known of it."""
    unknown = found.unknown[0] if found.unknown else ()
    said = [*notes, *([ALL_ALIKE] if predictor.metrics.get(DISTINCT) == 1 else [])]
    if unknown:
        said.append(f"kinds of operators that no measured net had: {', '.join(unknown)}")
    if not predictor.scores.guarantees(found.level):
        said.append(f"only {len(predictor.scores.values)} nets were measured: the interval is an extrapolation")
    return Estimate(
        latency_s=float(found.latency_s[0]),
        low_s=float(found.low_s[0]),
        high_s=float(found.high_s[0]),
        level=found.level,
        origin=LEARNED,
        target=predictor.target,
        distance=float(len(unknown)),
        energy_missing="only latencies were given",
        peak_memory_missing="only latencies were given",
        notes=(*said, *(graph.notes if graph is not None else ())),
    )


def _metrics(left_out_s: Array, latency_s: Array) -> dict[str, float]:
    """Errors on nets that were left out one by one (they still chose how features are weighed)."""
    relative = np.abs(left_out_s / latency_s - 1.0)
    return {
        DISTINCT: float(len(np.unique(latency_s))),
        "nets/n": float(len(relative)),
        "nets/mape": float(relative.mean()),
        "nets/within5": float((relative <= 0.05).mean()),
        "nets/within10": float((relative <= 0.1).mean()),
    }


def checked(latency_s: Sequence[float] | Array, graphs: Sequence[Model] | None, genes: Genes | None) -> Array:
    """The latencies as numbers, (n,), of which there are as many as there are nets; ValueError where not."""
    found = np.asarray(latency_s, dtype=np.float64)
    if found.ndim != 1 or len(found) < FEWEST:
        raise ValueError(f"{len(found)} measurements are too few: give at least {FEWEST}")
    if not np.isfinite(found).all() or (found <= 0).any():
        raise ValueError("a latency is not a number above 0")
    for given, what in ((graphs, "graphs"), (genes, "genes")):
        if given is not None and len(given) != len(found):
            raise ValueError(f"there are {len(given)} {what} for {len(found)} measurements")
    return found
