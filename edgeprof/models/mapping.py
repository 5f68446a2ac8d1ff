"""Say for every kernel that a runtime timed which nodes of the user's file it ran."""

from __future__ import annotations

from device_agents.wire import OperatorPass
from edgeprof.models.groups import Explainer, without_origin
from edgeprof.models.reading import ModelFile
from edgeprof.run import Operator

__all__ = ["map_operators"]


def map_operators(model: ModelFile, recorded: OperatorPass) -> tuple[tuple[Operator, ...], tuple[str, ...]]:
    """One operator for each recorded kernel, in order, and in words what of the mapping is doubtful.

    What cannot be mapped for a reason is shown as unmapped, never guessed.
    """
    if recorded.method == "simulated":
        return _by_exact_name(model, recorded), ()
    if model.format == "tflite":
        from edgeprof.models import tflite_mapping

        return tflite_mapping.map_kernels(model.graph, recorded)
    from edgeprof.models import onnx_mapping

    return onnx_mapping.map_kernels(model.graph, recorded)


def _by_exact_name(model: ModelFile, recorded: OperatorPass) -> tuple[Operator, ...]:
    """A simulated device runs exactly the operators it was told, under their names."""
    nodes = {node.name: node for node in model.graph.operators}
    explainer = Explainer(model.graph)
    return tuple(
        explainer.explained(index, kernel, [nodes[kernel.name]])
        if kernel.name in nodes
        else without_origin(index, kernel, "unmapped")
        for index, kernel in enumerate(recorded.kernels)
    )
