"""Map the kernels ONNX Runtime timed back to the nodes of the user's file, by way of the graph it really executed.

A kernel bears the name of a node of the executed graph (`onnx_executed`), which stands for a group of original nodes
(`onnx_groups`). Whatever does not fit is reported, see `_notes`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from device_agents.wire import Kernel, OperatorPass
from edgeprof.models.groups import Explainer, Mapping, counted, listed, without_origin
from edgeprof.models.onnx_executed import NCHWC_DOMAIN, is_layout, kernels_to_nodes, original_names, read_executed
from edgeprof.models.onnx_groups import CONTROL_FLOW, SAME_SHAPE, Finder, Groups
from edgeprof.run import Operator
from latency_models.graph import Graph
from latency_models.graph import Operator as Node

__all__ = ["Executed", "map_kernels", "of_recorded"]


class Executed(NamedTuple):
    """The executed graph, the number there of the operator that each kernel is, and the file's graph as it was run.

    `graph` has the shapes that the runtime saw, where the file does not tell them.
    """

    executed: Graph
    numbers: dict[int, int]
    graph: Graph


def of_recorded(graph: Graph, recorded: OperatorPass) -> Executed:
    """What was executed of the file's `graph`.

    Raises:
        ValueError: the runtime did not hand the executed graph back, or it cannot be read.
    """
    executed = read_executed(recorded.graph)
    numbers = kernels_to_nodes(executed, recorded.kernels)
    real = graph.with_shapes(_real_shapes(graph, executed, recorded.kernels, numbers))
    return Executed(executed, numbers, _with_inner_shapes(real, Groups(real, executed)))


def map_kernels(graph: Graph, recorded: OperatorPass) -> Mapping:
    """One operator for each kernel; see `edgeprof.models.map_operators`."""
    try:
        executed = read_executed(recorded.graph)
    except ValueError as error:
        return _by_name(graph, recorded.kernels, str(error))
    numbers = kernels_to_nodes(executed, recorded.kernels)
    real = graph.with_shapes(_real_shapes(graph, executed, recorded.kernels, numbers))
    groups = Groups(real, executed)
    explainer = Explainer(_with_inner_shapes(real, groups))
    operators: list[Operator] = []
    nodes = {node.name: node for node in explainer.graph.operators}
    for index, kernel in enumerate(recorded.kernels):
        number = numbers.get(index)
        found = groups.members[number] if number is not None else []
        if number is not None and found:
            members = [nodes[node.name] for node in found]
            operators.append(explainer.explained(index, kernel, members, part=groups.is_joint[number]))
        else:
            layout = number is not None and groups.rearranges(number)
            operators.append(without_origin(index, kernel, "layout" if layout else "unmapped"))
    idle = _idle(groups, set(numbers.values()))
    notes = (*graph.notes, *_notes(operators, recorded.kernels, groups, idle))
    return Mapping(tuple(operators), notes, frozenset(groups.folded), frozenset(idle))


def _idle(groups: Groups, timed: set[int]) -> list[str]:
    """Nodes of branches that were not taken: not timed, or in a body of which nothing was timed."""
    untimed = [node.name for number, group in enumerate(groups.members) if number not in timed for node in group]
    alive = {node.body for number in timed for node in groups.members[number]}
    return untimed + [node.name for node in groups.left if node.body and node.body not in alive]


def _real_shapes(
    graph: Graph, executed: Graph, kernels: Sequence[Kernel], numbers: dict[int, int]
) -> dict[str, tuple[int, ...]]:
    """Shapes that the runtime saw, for tensors of the file whose shape could not be inferred."""
    find = Finder(graph)
    shapes: dict[str, tuple[int, ...]] = {}

    def learn(node: Node, names: Iterable[str], seen: Sequence[tuple[int, ...]]) -> None:
        present = [name for name in names if name]
        if len(present) != len(seen) or node.domain == NCHWC_DOMAIN:  # that layout pads channels
            return
        for name, shape in zip(present, seen, strict=True):
            original = find.tensor(node, name)
            if original is None:
                continue
            known = graph.shape(original)
            if original in graph.tensors and (known is None or None in known):
                shapes[original] = shape

    for index, number in numbers.items():
        node, kernel = executed.operators[number], kernels[index]
        learn(node, node.inputs, kernel.input_shapes)
        learn(node, node.outputs, kernel.output_shapes)
    return shapes


def _with_inner_shapes(graph: Graph, groups: Groups) -> Graph:
    """Shapes inside fused groups, which no kernel shows: an activation's input has the shape of its output."""
    shapes: dict[str, tuple[int, ...]] = {}
    for members in groups.members:
        for node in reversed(members):
            if node.type not in SAME_SHAPE or not node.inputs or not node.outputs:
                continue
            inner, outer = node.inputs[0], node.outputs[0]
            known = shapes.get(outer) or graph.shape(outer)
            unknown = graph.shape(inner)
            if known is not None and None not in known and (unknown is None or None in unknown):
                shapes[inner] = tuple(dim for dim in known if dim is not None)
    return graph.with_shapes({name: shape for name, shape in shapes.items() if name in graph.tensors})


# --- in words ------------------------------------------------------------------------------------------------------


def _notes(
    operators: Sequence[Operator], kernels: Sequence[Kernel], groups: Groups, idle: Sequence[str]
) -> Iterator[str]:
    unmapped = [kernels[operator.kernel].name for operator in operators if operator.origin == "unmapped"]
    if unmapped:
        yield f"{counted(len(unmapped), 'kernel')} could not be mapped to nodes of the file: {listed(unmapped)}"
    bodies = [kernel.name for kernel in kernels if kernel.type in CONTROL_FLOW]
    if bodies:
        yield f"the time of control flow is what it spent outside the nodes inside it: {listed(bodies)}"
    repeated = [
        name for name, n in Counter(node for group in {op.nodes for op in operators} for node in group).items() if n > 1
    ]
    if repeated:
        yield f"{counted(len(repeated), 'node')} ran in more than one kernel: {listed(repeated)}"
    if groups.shared:
        shared = sorted(groups.shared)
        yield f"{counted(len(shared), 'node')} fed several kernels, counted with the first: {listed(shared)}"
    if idle:
        yield f"{counted(len(idle), 'node')} did not run in this pass (branches not taken): {listed(idle)}"
    silent = set(idle)
    missing = [node.name for node in groups.left if node.name not in silent]
    if missing:
        yield f"{counted(len(missing), 'node')} covered by no kernel: {listed(missing)}"
    computed = [node for node in groups.graph.operators if node.name in groups.folded]
    constants = sum(node.type == "Constant" for node in computed)
    if len(computed) > constants:
        told = f" ({constants} of them constants)" if constants else ""
        yield f"{counted(len(computed), 'node')} computed once, when the model was loaded{told}"


def _by_name(graph: Graph, kernels: Sequence[Kernel], why: str) -> Mapping:
    """Without the executed graph only names are left: a kernel is shown as the node it is named after."""
    find, explainer = Finder(graph), Explainer(graph)
    operators = []
    for index, kernel in enumerate(kernels):
        probe = Node(index=index, name=kernel.name, type=kernel.type, inputs=(), outputs=())
        names = [name for name, _ in original_names(kernel.name)]
        node = next((n for name in names if (n := find.named(probe, name) or find.producer(probe, name))), None)
        if is_layout(probe):
            operators.append(without_origin(index, kernel, "layout"))
        elif node is None or node.is_folded:
            operators.append(without_origin(index, kernel, "unmapped"))
        else:
            operators.append(explainer.explained(index, kernel, [node]))
    folded = frozenset(node.name for node in graph.operators if node.is_folded)
    note = f"{why}: kernels are mapped by name, fused nodes are shown in part"
    return Mapping(tuple(operators), (*graph.notes, note), folded, frozenset())
