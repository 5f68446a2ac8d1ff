"""Map the kernels a TFLite runtime timed back to the nodes of the user's file.

Nodes that TFLite runs itself are timed under their index, which is exact. Operators inside the XNNPACK delegate are
timed under the name of their class only, in the order of execution: they are aligned with what XNNPACK should make of
the file's nodes (`xnnpack`) in the order in which TFLite runs them (`tflite_partitions`), as two sequences, with gaps
on both sides. An event whose partner differs between equally good alignments stays unmapped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from device_agents.wire import Kernel, OperatorPass
from edgeprof.models.alignment import NEVER, Gains, align
from edgeprof.models.groups import Explainer, Mapping, counted, listed, without_origin
from edgeprof.models.tflite_partitions import partition
from edgeprof.models.xnnpack import (
    ABSORBED_BACKWARD,
    ABSORBED_FORWARD,
    FUSING,
    Kind,
    Slot,
    expected,
    is_squared_in_reduction,
    score,
)
from edgeprof.run import Operator
from latency_models.graph import Graph
from latency_models.graph import Operator as Node

__all__ = ["map_kernels"]

# Below this share of aligned events the two sequences are not about the same thing, and nothing of it is shown.
MIN_ALIGNED = 0.8
# Bounds the alignment's memory (4 bytes a cell) and time: ten thousand events with ten thousand nodes.
MAX_CELLS = 100_000_000
# A variable's handle, what reads it, and what that is read in: no chain of silent nodes is longer.
MAX_ABSORBED = 4
# Gain of a node that was timed under its index.
_EXACT = 80


@dataclass
class _Mapping:
    """Which node each kernel ran; `steps` are kernels that ran only a lesser step of a node."""

    nodes: dict[int, Node] = field(default_factory=dict)
    steps: set[int] = field(default_factory=set)
    is_aligned: bool = False
    notes: list[str] = field(default_factory=list)


def map_kernels(graph: Graph, recorded: OperatorPass) -> Mapping:
    """One operator for each kernel; see `edgeprof.models.map_operators`."""
    kernels = recorded.kernels
    by_index = {(node.subgraph, node.index): node for node in graph.operators}
    mapping = _Mapping()
    for index, kernel in enumerate(kernels):
        exact = by_index.get((kernel.subgraph, kernel.node)) if kernel.node is not None else None
        if kernel.level == "node" and exact is not None and "delegate" not in kernel.type.lower():
            mapping.nodes[index] = exact
    _align_delegated(graph, kernels, mapping)
    absorbed = _absorbed(graph, mapping)
    explainer = Explainer(graph)
    operators = []
    for index, kernel in enumerate(kernels):
        if index not in mapping.nodes:
            operators.append(without_origin(index, kernel, "unmapped"))
        else:
            node = mapping.nodes[index]
            group = sorted((node, *absorbed.get(node.name, ())), key=lambda member: (member.subgraph, member.index))
            operators.append(explainer.explained(index, kernel, group, step=index in mapping.steps))
    notes = (*graph.notes, *mapping.notes, *_notes(graph, operators, kernels, mapping))
    folded = frozenset(node.name for node in graph.operators if node.is_folded)
    return Mapping(tuple(operators), notes, folded, frozenset(_idle(graph, operators)))


def _idle(graph: Graph, operators: Sequence[Operator]) -> Iterator[str]:
    """Nodes of graphs of which nothing ran: branches not taken, and what runs only when the model is loaded."""
    covered = {name for operator in operators for name in operator.nodes}
    alive = {node.subgraph for node in graph.operators if node.name in covered}
    return (node.name for node in graph.operators if node.subgraph and node.subgraph not in alive)


# --- events and nodes ----------------------------------------------------------------------------------------------


def _align_delegated(graph: Graph, kernels: Sequence[Kernel], mapping: _Mapping) -> None:
    """Align what ran inside a delegate, graph by graph; nodes timed exactly are fixed points of the alignment."""
    for subgraph in dict.fromkeys(kernel.subgraph for kernel in kernels if kernel.level == "delegate"):
        events = [
            index
            for index, kernel in enumerate(kernels)
            if kernel.subgraph == subgraph and (kernel.level == "delegate" or index in mapping.nodes)
        ]
        nodes = [node for node in graph.operators if node.subgraph == subgraph]
        _align(graph, nodes, {index: kernels[index] for index in events}, mapping)


def _align(graph: Graph, nodes: Sequence[Node], events: dict[int, Kernel], mapping: _Mapping) -> None:
    delegated = [index for index, kernel in events.items() if kernel.level == "delegate"]
    slots = list(_slots(graph, nodes, {mapping.nodes[index].name for index in events if index in mapping.nodes}))
    if len(events) * len(slots) > MAX_CELLS:
        mapping.notes.append(f"{len(delegated)} delegate events: too many to be aligned with the file's nodes")
        return
    kinds, rows = _gains(events, slots, mapping)
    pairs = align(kinds, rows, [slot.silence for slot in slots])
    order = list(events)
    inside = {order[row] for row in pairs.aligned} & set(delegated)
    if len(inside) < MIN_ALIGNED * len(delegated):
        mapping.notes.append(
            f"only {len(inside)} of {len(delegated)} delegate events fit the order of the file's nodes, so none "
            "of them is mapped; without XNNPACK every node is timed by itself"
        )
        return
    mapping.is_aligned = True
    for row, column in pairs.certain.items():
        if order[row] not in mapping.nodes:
            mapping.nodes[order[row]] = slots[column].node
            if slots[column].kind.step:
                mapping.steps.add(order[row])
    mapping.notes.append(f"{counted(len(delegated), 'delegate event')} mapped by their kind and their order")
    ambiguous = len(inside) - sum(index in mapping.nodes for index in inside)
    if ambiguous:
        mapping.notes.append(f"{counted(ambiguous, 'delegate event')} could be any of several nodes, left unmapped")


def _slots(graph: Graph, nodes: Sequence[Node], own: set[str]) -> Iterator[Slot]:
    """Every place in the sequence of events, in the order of execution."""
    readers = _readers(graph)
    for part in partition(nodes, own):
        if part.is_delegated:
            yield from expected(graph, part.nodes, readers)
        else:
            yield from (Slot(node, Kind(node.type), 0) for node in part.nodes)


def _gains(events: dict[int, Kernel], slots: Sequence[Slot], mapping: _Mapping) -> tuple[Gains, list[int]]:
    """Gains of each kind of event with each slot, and the kind of each event; a node timed exactly is its own kind."""
    kinds = list(dict.fromkeys(slot.kind for slot in slots))
    of_slot = np.array([kinds.index(slot.kind) for slot in slots], dtype=np.intp)
    fixed = {mapping.nodes[index].name for index in events if index in mapping.nodes}
    is_free = np.array([slot.node.name not in fixed for slot in slots], dtype=bool)
    columns = {slot.node.name: j for j, slot in enumerate(slots)}
    table: dict[str, Gains] = {}
    names = []
    for index, kernel in events.items():
        exact = mapping.nodes.get(index)
        name = kernel.type or kernel.name if exact is None else f"node {exact.name}"
        names.append(name)
        if name in table:
            continue
        if exact is None:
            row = np.array([score(name, kind) for kind in kinds], dtype=np.int32)[of_slot]
            table[name] = np.where(is_free, row, np.int32(NEVER))
        else:
            table[name] = np.full(len(slots), NEVER, dtype=np.int32)
            if exact.name in columns:
                table[name][columns[exact.name]] = _EXACT
    order = {name: k for k, name in enumerate(table)}
    return np.array(list(table.values()), dtype=np.int32), [order[name] for name in names]


def _absorbed(graph: Graph, mapping: _Mapping) -> dict[str, list[Node]]:
    """Nodes without an event that are known to run inside a neighbour, by the neighbour's name."""
    if not mapping.is_aligned:
        return {}
    timed = {node.name: node for index, node in mapping.nodes.items() if index not in mapping.steps}
    producers = {output: node for node in graph.operators for output in node.outputs}
    readers = _readers(graph)
    hosts: dict[str, list[Node]] = {}
    for node in graph.operators:
        host: Node | None = node
        for _ in range(MAX_ABSORBED):
            if host is None or host.name in timed:
                break
            host = _host(host, producers, readers)
        if host is not None and host is not node and host.name in timed and not node.is_folded:
            hosts.setdefault(host.name, []).append(node)
    return hosts


def _host(node: Node, producers: dict[str, Node], readers: dict[str, list[Node]]) -> Node | None:
    """The neighbour that a node without an event is run in."""
    if node.type == "ASSIGN_VARIABLE":
        return producers.get(node.inputs[-1])
    if node.type in ABSORBED_BACKWARD and node.inputs:
        producer = producers.get(node.inputs[0])
        return producer if producer is not None and producer.type in FUSING else None
    if is_squared_in_reduction(node, readers):
        return readers[node.outputs[0]][0]
    if node.type in ABSORBED_FORWARD and node.outputs:
        behind = readers.get(node.outputs[0], [])
        if node.type == "VAR_HANDLE":  # reading and writing share one handle: it goes with whatever comes first
            return behind[0] if behind else None
        return behind[0] if len(behind) == 1 and (node.type == "READ_VARIABLE" or behind[0].type in FUSING) else None
    return None


def _readers(graph: Graph) -> dict[str, list[Node]]:
    readers: dict[str, list[Node]] = {}
    for node in graph.operators:
        for name in dict.fromkeys(node.inputs):
            readers.setdefault(name, []).append(node)
    return readers


# --- in words ------------------------------------------------------------------------------------------------------


def _notes(graph: Graph, operators: Sequence[Operator], kernels: Sequence[Kernel], mapping: _Mapping) -> Iterator[str]:
    unmapped = Counter(
        kernels[op.kernel].type or kernels[op.kernel].name for op in operators if op.origin == "unmapped"
    )
    if unmapped:
        kinds = [f"{kind} ({count})" for kind, count in unmapped.most_common()]
        yield f"{counted(unmapped.total(), 'kernel')} could not be mapped to nodes of the file: {listed(kinds)}"
    wrappers = [kernel.name for kernel in kernels if kernel.level == "node" and "delegate" in kernel.type.lower()]
    if wrappers:
        yield f"the time of a delegate contains the time of the operators inside it: {listed(wrappers)}"
    if mapping.steps:
        steps = counted(len(mapping.steps), "kernel")
        yield f"{steps} with only an activation or a copy for a node whose main part is another kernel"
    covered = {name for operator in operators for name in operator.nodes}
    folded = sum(node.is_folded for node in graph.operators)
    if folded:
        yield f"{counted(folded, 'node')} computed once, when the model was loaded"
    left = [node for node in graph.operators if node.name not in covered and not node.is_folded and not node.subgraph]
    if left and mapping.nodes:
        yield f"{counted(len(left), 'node')} covered by no kernel: {listed([node.name for node in left])}"
