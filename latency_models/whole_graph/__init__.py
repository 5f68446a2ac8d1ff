"""Learn the latency of whole graphs from end-to-end measurements alone: tables of others, closed runtimes."""

from __future__ import annotations

from latency_models.whole_graph.adapting import AdaptedPredictor, adapt, choose_samples, is_enough, said_by, said_of
from latency_models.whole_graph.predictor import WholeGraphPredictor

__all__ = ["AdaptedPredictor", "WholeGraphPredictor", "adapt", "choose_samples", "is_enough", "said_by", "said_of"]
