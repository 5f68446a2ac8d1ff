"""Describe the kernels that a runtime timed in the words that predictors learn from: shapes, attributes, types."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from device_agents.wire import OperatorPass
from edgeprof.models.onnx_executed import kernels_to_nodes, read_executed
from edgeprof.models.reading import ModelFile
from edgeprof.run import Described, Operator
from latency_models.ask_onnxruntime import with_shapes_of
from latency_models.graph import Graph, size_of, with_work
from latency_models.kernels import NAMES_ALONE, of_nodes

__all__ = ["describe"]


def describe(model: ModelFile, recorded: OperatorPass, operators: Sequence[Operator]) -> tuple[Described, ...]:
    """Every kernel whose description is known; kernels that ran the same nodes together are one.

    ONNX Runtime's kernels are nodes of the graph that it executed, which came back with the profile; those of other
    runtimes are described by the nodes of the file that they ran.
    """
    types = {node.name: node.type for node in model.graph.operators}
    if model.format == "onnx" and recorded.method != "simulated":
        try:
            return _executed(model.graph, recorded, operators, types)
        except ValueError:
            pass  # the executed graph did not come back: the file's nodes are what is left
    return _of_file(model.graph, operators)


def _executed(
    graph: Graph, recorded: OperatorPass, operators: Sequence[Operator], types: dict[str, str]
) -> tuple[Described, ...]:
    executed = read_executed(recorded.graph)
    numbers = kernels_to_nodes(executed, recorded.kernels)
    executed = _as_recorded(with_shapes_of(executed, graph), recorded, numbers)
    nodes = {operator.kernel: operator.nodes for operator in operators}
    found = []
    for index, number in sorted(numbers.items()):
        kernel = of_nodes(executed, [executed.operators[number]])
        if kernel is not None:
            of_file = tuple(types[name] for name in nodes.get(index, ()) if name in types)
            found.append(Described(kernels=(index,), kernel=kernel, nodes=of_file))
    return tuple(found)


def _as_recorded(executed: Graph, recorded: OperatorPass, numbers: dict[int, int]) -> Graph:
    """With the shapes that the runtime saw, which go before those that were inferred.

    Tensors in a layout of blocks of channels keep theirs: their recorded channels are rounded up.
    """
    tensors = dict(executed.tensors)
    for index, number in numbers.items():
        node, kernel = executed.operators[number], recorded.kernels[index]
        for names, shapes in ((node.inputs, kernel.input_shapes), (node.outputs, kernel.output_shapes)):
            present = [name for name in names if name]
            if len(present) != len(shapes):
                continue
            for name, shape in zip(present, shapes, strict=True):
                old = tensors.get(name)
                if old is not None and not old.is_constant and (old.shape is None or None in old.shape):
                    tensors[name] = replace(old, shape=shape, size_bytes=size_of(old.dtype, shape))
    operators = tuple(with_work(executed.format, operator, tensors) for operator in executed.operators)
    return replace(executed, tensors=tensors, operators=operators)


def _of_file(graph: Graph, operators: Sequence[Operator]) -> tuple[Described, ...]:
    by_name = {node.name: node for node in graph.operators}
    together: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for operator in operators:
        if operator.nodes and all(name in by_name for name in operator.nodes):
            together[operator.nodes].append(operator.kernel)
    found = []
    for names, kernels in together.items():
        all_nodes = [by_name[name] for name in names]
        nodes = [node for node in all_nodes if node.type not in NAMES_ALONE] or all_nodes
        kernel = of_nodes(graph, nodes)
        if kernel is not None:
            found.append(Described(kernels=tuple(kernels), kernel=kernel, nodes=tuple(node.type for node in nodes)))
    return tuple(found)
