"""Predict latency without a device: the graph of a model, its work, and boards to do it.

    import latency_models

    predictor = latency_models.load("pi5-onnxruntime.predictor")
    estimate = predictor.predict("model.onnx")

Everything is imported when it is first used, so that this package costs next to nothing until then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latency_models.adapted import Adapted
    from latency_models.archive import ArchiveError
    from latency_models.building import builder
    from latency_models.estimate import Estimate
    from latency_models.graph import Graph, GraphError
    from latency_models.loading import load
    from latency_models.observations import KernelSample, NetSample, Target
    from latency_models.predictor import Predictor
    from latency_models.tables import GeneTable, Slot

__all__ = [
    "Adapted",
    "ArchiveError",
    "Estimate",
    "GeneTable",
    "Graph",
    "GraphError",
    "KernelSample",
    "NetSample",
    "Predictor",
    "Slot",
    "Target",
    "builder",
    "load",
]

_HOMES = {
    "Adapted": "adapted",
    "ArchiveError": "archive",
    "Estimate": "estimate",
    "GeneTable": "tables",
    "Graph": "graph",
    "GraphError": "graph",
    "KernelSample": "observations",
    "NetSample": "observations",
    "Predictor": "predictor",
    "Slot": "tables",
    "Target": "observations",
    "builder": "building",
    "load": "loading",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
