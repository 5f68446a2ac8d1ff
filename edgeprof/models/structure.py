"""The structural check of a mapping: is every node of the file in exactly one group, and has every kernel an origin?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from edgeprof.run import Operator, Structure
from latency_models.graph import Graph

__all__ = ["check_structure"]

# A failure is told by name; of more than this many the number tells enough.
MOST_NAMES = 50


def check_structure(
    graph: Graph, operators: Sequence[Operator], folded: Collection[str], idle: Collection[str]
) -> Structure:
    """Count how kernels and nodes cover each other.

    Args:
        graph: the file.
        operators: what every kernel stands for; those with the same nodes are one group.
        folded: names of nodes that were computed when the model was loaded.
        idle: names of nodes that did not run: branches not taken, and functions not called.
    """
    times = Counter(node for group in {operator.nodes for operator in operators} for node in group)
    repeated = [name for name, n in times.items() if n > 1]
    uncovered = [node.name for node in graph.operators if node.name not in times]
    missing = [name for name in uncovered if name not in folded and name not in idle]
    unmapped = [operator.kernel for operator in operators if operator.origin == "unmapped"]
    return Structure(
        n_nodes=len(graph.operators),
        n_grouped=len(times) - len(repeated),
        n_folded=sum(name in folded for name in uncovered),
        n_idle=sum(name in idle and name not in folded for name in uncovered),
        n_repeated=len(repeated),
        n_missing=len(missing),
        n_unmapped=len(unmapped),
        repeated=tuple(repeated[:MOST_NAMES]),
        missing=tuple(missing[:MOST_NAMES]),
        unmapped=tuple(unmapped[:MOST_NAMES]),
    )
