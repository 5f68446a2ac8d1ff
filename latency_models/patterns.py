"""Which nodes of a file a runtime runs together, learned from what it did: never a rule that somebody wrote down.

A pattern is the types of the nodes of one kernel, in the order of the file. In a graph the longest pattern that fits
is taken: nodes that feed each other, none of whose inner results is needed elsewhere.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from latency_models.graph import Graph, Operator

__all__ = ["Patterns"]

# How far behind a node in the file the next one of its pattern may stand.
REACH = 24


@dataclass(frozen=True)
class Patterns:
    """How often each pattern was seen."""

    counts: Mapping[tuple[str, ...], int]

    @classmethod
    def learn(cls, seen: Iterable[Sequence[str]]) -> Patterns:
        """From the node types of each kernel that was recorded; kernels of unknown nodes are left out."""
        return cls(dict(Counter(tuple(types) for types in seen if types)))

    def groups(self, graph: Graph) -> tuple[tuple[Operator, ...], ...]:
        """The graph's nodes as kernels, in the order of the file; nodes that are folded run in none."""
        nodes = [node for node in graph.operators if not node.is_folded]
        readers = _readers(graph, nodes)
        by_first = self._by_first()
        taken: set[str] = set()
        groups = []
        for place, node in enumerate(nodes):
            if node.name in taken:
                continue
            window = [one for one in nodes[place + 1 : place + 1 + REACH] if one.name not in taken]
            group = next(
                (found for pattern in by_first[node.type] if (found := _fit(node, pattern, window, readers, graph))),
                (node,),
            )
            taken.update(one.name for one in group)
            groups.append(group)
        return tuple(groups)

    def knows(self, group: Sequence[Operator]) -> bool:
        """Whether the runtime was seen to run such nodes together."""
        return tuple(node.type for node in group) in self.counts

    def _by_first(self) -> Mapping[str, list[tuple[str, ...]]]:
        found: dict[str, list[tuple[str, ...]]] = defaultdict(list)
        for pattern in sorted(self.counts, key=lambda one: (-len(one), -self.counts[one], one)):
            found[pattern[0]].append(pattern)
        return found


def _readers(graph: Graph, nodes: Sequence[Operator]) -> Mapping[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for node in nodes:
        for name in node.inputs:
            found[name].add(node.name)
    for name in graph.outputs:
        found[name].add("")  # the user, who is no node
    return found


def _fit(
    first: Operator,
    pattern: tuple[str, ...],
    window: Sequence[Operator],
    readers: Mapping[str, set[str]],
    graph: Graph,
) -> tuple[Operator, ...] | None:
    """The nodes of the pattern that begins with `first`, or None."""
    group = [first]
    made = {name for name in first.outputs if name}
    rest = iter(window)
    for kind in pattern[1:]:
        found = next((node for node in rest if node.type == kind and _touches(node, made, first)), None)
        if found is None:
            return None
        group.append(found)
        made.update(name for name in found.outputs if name)
    members = {node.name for node in group}
    inner = [name for node in group[:-1] for name in node.outputs if name]
    # A result that something outside needs has to be written, so that what makes it ends a kernel.
    return None if any(readers[name] - members for name in inner) else tuple(group)


def _touches(node: Operator, made: set[str], first: Operator) -> bool:
    return node.body == first.body and any(name in made for name in node.inputs)
