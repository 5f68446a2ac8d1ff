"""Say for every kernel that a runtime timed which nodes of the user's file it ran."""

from __future__ import annotations

from typing import NamedTuple

from device_agents.wire import OperatorPass
from edgeprof.models.groups import Explainer, Mapping, without_origin
from edgeprof.models.reading import ModelFile
from edgeprof.models.structure import check_structure
from edgeprof.run import Operator, Structure

__all__ = ["Mapped", "map_operators"]


class Mapped(NamedTuple):
    """One operator for each recorded kernel, in order; in words what of it is doubtful; and the structural check."""

    operators: tuple[Operator, ...]
    notes: tuple[str, ...]
    structure: Structure


def map_operators(model: ModelFile, recorded: OperatorPass) -> Mapped:
    """What every kernel ran. What cannot be mapped for a reason is shown as unmapped, never guessed."""
    found = _map(model, recorded)
    return Mapped(found.operators, found.notes, check_structure(model.graph, found.operators, found.folded, found.idle))


def _map(model: ModelFile, recorded: OperatorPass) -> Mapping:
    if recorded.method == "simulated":
        return _by_exact_name(model, recorded)
    if model.format == "tflite":
        from edgeprof.models import tflite_mapping

        return tflite_mapping.map_kernels(model.graph, recorded)
    from edgeprof.models import onnx_mapping

    return onnx_mapping.map_kernels(model.graph, recorded)


def _by_exact_name(model: ModelFile, recorded: OperatorPass) -> Mapping:
    """A simulated device runs exactly the operators it was told, under their names."""
    nodes = {node.name: node for node in model.graph.operators}
    explainer = Explainer(model.graph)
    operators = tuple(
        explainer.explained(index, kernel, [nodes[kernel.name]])
        if kernel.name in nodes
        else without_origin(index, kernel, "unmapped")
        for index, kernel in enumerate(recorded.kernels)
    )
    folded = frozenset(node.name for node in model.graph.operators if node.is_folded)
    return Mapping(operators, (), folded, frozenset(node.name for node in model.graph.operators if node.body))
