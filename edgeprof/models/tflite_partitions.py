"""In which order TFLite runs a graph of which a delegate takes a part.

The delegate's nodes are gathered into as few parts as their inputs allow, so nodes move before others that stand
before them in the file; nodes with side effects keep their order (PartitionGraphIntoIndependentNodeSubsets in
tensorflow/lite/graph_info.cc, OpMightHaveSideEffect in tensorflow/lite/core/subgraph.cc).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from latency_models.graph import Operator as Node

__all__ = ["Part", "partition"]

SIDE_EFFECTS = frozenset(("CALL_ONCE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "IF", "WHILE"))
SIDE_EFFECTS = SIDE_EFFECTS | {"HASHTABLE", "HASHTABLE_FIND", "HASHTABLE_IMPORT", "HASHTABLE_SIZE"}


@dataclass(frozen=True)
class Part:
    """Nodes that run one after the other, all of them inside the delegate or none."""

    is_delegated: bool
    nodes: tuple[Node, ...]


def partition(nodes: Sequence[Node], own: Collection[str]) -> list[Part]:
    """Split the nodes of one graph, in the order of the file, into the parts that run one after the other.

    Args:
        nodes: every node of the graph.
        own: names of the nodes that TFLite runs itself.
    """
    waiting = list(nodes)
    pending = {name for node in nodes for name in node.outputs}
    parts: list[Part] = []
    while waiting:
        kind: bool | None = None
        taken: list[Node] = []
        left: list[Node] = []
        is_held = False
        for node in waiting:
            is_delegated = node.name not in own
            has_effect = node.type in SIDE_EFFECTS
            is_ready = not (has_effect and is_held) and not any(name in pending for name in node.inputs)
            if is_ready and kind in (None, is_delegated):
                kind = is_delegated
                taken.append(node)
                pending.difference_update(node.outputs)
            else:
                left.append(node)
                is_held = is_held or has_effect
        if not taken:  # a cycle: nobody could run it; keep the order of the file
            return [*parts, Part(True, tuple(left))]
        parts.append(Part(bool(kind), tuple(taken)))
        waiting = left
    return parts
