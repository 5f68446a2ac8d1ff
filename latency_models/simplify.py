"""What is left of a graph when nothing runs in vain: constants folded, dead branches and passing-through gone."""

from __future__ import annotations

from dataclasses import replace

from latency_models.graph import Graph, Operator

__all__ = ["pruned"]

# They give on what they are given, when nothing is trained.
PASSING = frozenset(("Identity", "Dropout"))


def pruned(graph: Graph) -> Graph:
    """The operators that a runtime has to run: on something that is not constant, for something that is asked for.

    Operators in bodies of control flow stay with their owner. Tensors stay as they are.
    """
    folded = _folded(graph)
    alias: dict[str, str] = {}
    kept: list[Operator] = []
    for node in graph.operators:
        inputs = tuple(alias.get(name, name) for name in node.inputs)
        if node.type in PASSING and len(node.outputs) >= 1 and inputs and node.outputs[0] not in graph.outputs:
            alias[node.outputs[0]] = inputs[0]
        elif node.name not in folded:
            kept.append(replace(node, inputs=inputs) if inputs != node.inputs else node)
    return replace(graph, operators=_needed(graph, kept))


def _folded(graph: Graph) -> set[str]:
    """Names of nodes that are computed when the model is loaded."""
    constant = {name for name, tensor in graph.tensors.items() if tensor.is_constant}
    folded = set()
    for node in graph.operators:
        present = [name for name in node.inputs if name]
        is_random = node.type.startswith(("Random", "RANDOM"))
        if node.is_folded or (present and all(name in constant for name in present) and not is_random):
            folded.add(node.name)
            constant.update(name for name in node.outputs if name)
    return folded


def _needed(graph: Graph, kept: list[Operator]) -> tuple[Operator, ...]:
    """Those that an output needs, directly or through others."""
    wanted = set(graph.outputs)
    bodies = {node.body.split("/")[0] for node in kept if node.body}
    needed: list[Operator] = []
    for node in reversed(kept):
        # What is inside a body is needed as long as the node that owns it is; its names tell (see Operator.body).
        if node.body or node.name in bodies or wanted.intersection(node.outputs):
            needed.append(node)
            wanted.update(name for name in node.inputs if name)
    return tuple(reversed(needed))
