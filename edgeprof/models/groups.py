"""What a timed kernel stands for: a group of nodes of the file, with the work they ask for together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from device_agents.wire import Kernel
from edgeprof.run import Operator
from latency_models.graph import Graph
from latency_models.graph import Operator as Node

__all__ = ["Explainer", "Mapping", "counted", "listed", "without_origin"]


# Nodes whose bodies run as often as the data says.
LOOPS = frozenset(("Loop", "Scan", "WHILE"))


class Mapping(NamedTuple):
    """What a mapper found: an operator for each kernel, notes, and which nodes no kernel needs to cover.

    `folded` were computed when the model was loaded, `idle` did not run in this pass.
    """

    operators: tuple[Operator, ...]
    notes: tuple[str, ...]
    folded: frozenset[str]
    idle: frozenset[str]


class Explainer:
    """Describes groups of nodes of one graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._loops = tuple(f"{node.name}/" for node in graph.operators if node.type in LOOPS)
        self.readers: dict[str, set[str]] = defaultdict(set)
        for node in graph.operators:
            for name in node.inputs:
                self.readers[name].add(node.name)

    def explained(
        self, index: int, kernel: Kernel, nodes: Sequence[Node], part: bool = False, step: bool = False
    ) -> Operator:
        """Kernel number `index` as the run of `nodes`, in the order of the file.

        `part` says that other kernels run these nodes too, so that their work is not this one's alone; `step` that this
        one does only an activation or a copy for them, which is no multiply-accumulate. The work of a loop's body is
        unknown: the file does not tell how often it runs.
        """
        inputs, outputs = self._boundary(nodes)
        macs = _sum(node.macs for node in nodes)
        is_repeated = any(f"{node.body}/".startswith(self._loops) for node in nodes) if self._loops else False
        if step:
            macs = 0
        elif (part and macs) or is_repeated:
            macs = None
        return Operator(
            kernel=index,
            origin="node" if len(nodes) == 1 else "fused",
            nodes=tuple(node.name for node in nodes),
            node_types=tuple(node.type for node in nodes),
            input_shapes=kernel.input_shapes or _shapes(inputs, self.graph),
            output_shapes=kernel.output_shapes or _shapes(outputs, self.graph),
            macs=macs,
            moved_bytes=None if part or step or is_repeated else self._moved_bytes(nodes, (*inputs, *outputs)),
        )

    def _boundary(self, nodes: Sequence[Node]) -> tuple[list[str], list[str]]:
        """Tensors that the group reads from outside, and those it makes that something outside reads."""
        made = {name for node in nodes for name in node.outputs if name}
        members = {node.name for node in nodes}
        inputs = dict.fromkeys(name for node in nodes for name in node.inputs if name and name not in made)
        outputs = [
            name
            for node in nodes
            for name in node.outputs
            if name in self.graph.outputs or self.readers.get(name, set()) - members
        ]
        # The last node's output leaves the group even where nothing in the file reads it (a body's result).
        return list(inputs), outputs or [name for name in nodes[-1].outputs if name]

    def _moved_bytes(self, nodes: Sequence[Node], boundary: Sequence[str]) -> int | None:
        if len(nodes) == 1:
            return nodes[0].moved_bytes
        tensors = self.graph.tensors
        return _sum(tensors[name].size_bytes if name in tensors else None for name in boundary)


def without_origin(index: int, kernel: Kernel, origin: str) -> Operator:
    """A kernel that is no node of the file ("layout"), or of which nobody knows ("unmapped")."""
    return Operator(kernel=index, origin=origin, input_shapes=kernel.input_shapes, output_shapes=kernel.output_shapes)


def counted(n: int, noun: str) -> str:
    """A number of things: 1 node, 2 nodes."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def listed(names: Collection[str], most: int = 5) -> str:
    """A few names and how many more there are."""
    shown = ", ".join(list(names)[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _shapes(names: Sequence[str], graph: Graph) -> tuple[tuple[int, ...], ...]:
    """All shapes, or none: a list with holes would be read wrongly."""
    known = []
    for name in names:
        shape = graph.shape(name)
        if shape is None or None in shape:
            return ()
        known.append(tuple(dim for dim in shape if dim is not None))
    return tuple(known)


def _sum(values: Iterable[int | None]) -> int | None:
    listed_values = list(values)
    known = [value for value in listed_values if value is not None]
    return sum(known) if len(known) == len(listed_values) else None
