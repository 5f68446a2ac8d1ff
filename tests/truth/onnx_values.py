"""What each kernel of ONNX Runtime computes, told by values alone: the truth that a mapping can be held against.

Every tensor of the file and every tensor of the graph that the runtime really executed is computed once, for the same
random inputs. Two tensors are taken for the same if they hold the same numbers, in whatever order: the runtime's
blocked layouts only move numbers (and pad with zeros). Names, types and shapes play no part in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from edgeprof.run import Operator
from latency_models.graph import Graph

Array = NDArray[np.generic]
TOLERANCE = 1e-3
# Tensors with fewer different numbers than this are told apart by chance only.
FEWEST_NUMBERS = 4


@dataclass(frozen=True)
class Verdict:
    """`right` and `wrong` are names of kernels; those that values cannot tell are in neither."""

    right: tuple[str, ...]
    wrong: tuple[str, ...]
    untold: tuple[str, ...]


def judge(
    model: onnx.ModelProto,
    executed: onnx.ModelProto,
    feeds: Mapping[str, Array],
    graph: Graph,
    operators: Mapping[str, Operator],
) -> Verdict:
    """Hold `operators` (by the name of the executed node) against what the kernels compute.

    A kernel is mapped rightly if a node of its group makes each tensor that the kernel makes, and if every tensor that
    the group reads from outside is one that the kernel reads.
    """
    values = _all_values(model, feeds)
    fixed = _independent(values, _all_values(model, _other(feeds)))
    original = _Fingerprints({name: value for name, value in values.items() if name not in fixed})
    optimized = _all_values(executed, feeds)
    right: list[str] = []
    wrong: list[str] = []
    untold: list[str] = []
    for node in executed.graph.node:
        operator = operators.get(node.name)
        if operator is None or node.op_type in ("ReorderInput", "ReorderOutput", "Constant"):
            continue
        if operator.origin == "layout":
            (right if _only_moves(node, optimized) else wrong).append(node.name)
            continue
        made = [original.equal_to(optimized[name]) for name in node.output if name in optimized]
        if not any(made):
            untold.append(node.name)
            continue
        read = set().union(*(original.equal_to(optimized[name]) for name in node.input if name in optimized))
        read.update(name for name in node.input)
        (right if _fits(operator, graph, made, read, fixed) else wrong).append(node.name)
    return Verdict(tuple(right), tuple(wrong), tuple(untold))


def _fits(operator: Operator, graph: Graph, made: Sequence[set[str]], read: set[str], fixed: set[str]) -> bool:
    members = [node for node in graph.operators if node.name in set(operator.nodes)]
    outputs = {name for node in members for name in node.outputs}
    if not members or not all(outputs & names for names in made if names):
        return False
    outside = {name for node in members for name in node.inputs if name and name not in outputs}
    weights = {name for name, tensor in graph.tensors.items() if tensor.is_constant}
    missed = outside - weights - fixed - read
    # Of a dequantisation that several kernels do, each for itself, only the first has it in its group.
    producers = {name: node for node in graph.operators for name in node.outputs}
    return all(producers[name].type == "DequantizeLinear" and producers[name].inputs[0] in read for name in missed)


def _only_moves(node: onnx.NodeProto, values: Mapping[str, Array]) -> bool:
    """Whether a node has the same numbers in its output as in its first input; true where that input is a weight."""
    source, result = values.get(node.input[0]), values.get(node.output[0])
    return source is None or result is None or _same(_numbers(source), _numbers(result))


def _other(feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Other numbers of the same shapes."""
    return {name: np.flip(value) if value.ndim else value for name, value in feeds.items()}


def _independent(one: Mapping[str, Array], other: Mapping[str, Array]) -> set[str]:
    """Tensors that do not depend on the input: constants, and what is made of them and of shapes alone."""
    return {name for name, value in one.items() if np.array_equal(value, other[name])}


class _Fingerprints:
    """Finds tensors that hold the same numbers as a given one."""

    def __init__(self, values: Mapping[str, Array]) -> None:
        self._sorted = {name: _numbers(value) for name, value in values.items()}

    def equal_to(self, value: Array) -> set[str]:
        numbers = _numbers(value)
        if len(numbers) < FEWEST_NUMBERS:
            return set()
        return {name for name, other in self._sorted.items() if _same(numbers, other)}


def _numbers(value: Array) -> NDArray[np.float64]:
    """Sorted, without zeros, with which blocked layouts pad, and what is next to them: an activation's rounding."""
    flat = np.asarray(value).ravel()
    if flat.dtype.kind not in "fiub":
        return np.zeros(0)
    numbers = np.sort(flat.astype(np.float64))
    kept: NDArray[np.float64] = numbers[np.abs(numbers) > TOLERANCE * TOLERANCE * np.abs(numbers).max(initial=0.0)]
    return kept


def _same(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Of sorted numbers, some of which may have been left out as zeros."""
    longest = max(len(one), len(other))
    if abs(len(one) - len(other)) > TOLERANCE * longest:
        return False
    # Most are told apart by their ends, without sorting them anew with the zeros that are missing.
    if longest and not np.allclose(_ends(one, longest), _ends(other, longest), rtol=0.0, atol=TOLERANCE * _reach(one)):
        return False
    one, other = (np.sort(np.append(x, np.zeros(max(len(one), len(other)) - len(x)))) for x in (one, other))
    return bool(np.abs(one - other).max(initial=0.0) <= TOLERANCE * np.abs(one).max(initial=0.0))


def _ends(numbers: NDArray[np.float64], longest: int) -> tuple[float, float]:
    low, high = float(numbers[0]), float(numbers[-1])
    return (low, high) if len(numbers) == longest else (min(low, 0.0), max(high, 0.0))


def _reach(numbers: NDArray[np.float64]) -> float:
    return max(abs(float(numbers[0])), abs(float(numbers[-1])))


def _all_values(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Every tensor that a node of the main graph makes."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    _drop_unused_inputs(exposed.graph)
    have = {value.name for value in exposed.graph.output}
    for node in model.graph.node:
        for name in node.output:
            if name and name not in have:
                exposed.graph.output.append(onnx.ValueInfoProto(name=name))
                have.add(name)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(exposed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    given = {value.name: feeds[value.name] for value in session.get_inputs() if value.name in feeds}
    values = dict(zip(names, session.run(names, given), strict=True))
    values.update(feeds)
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def _drop_unused_inputs(graph: onnx.GraphProto) -> None:
    """Of folded weights that old files also list as inputs, the runtime leaves the inputs behind."""
    used = {name for node in graph.node for name in node.input} | {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.input if value.name in used or _has_bodies(graph)]
    del graph.input[:]
    graph.input.extend(kept)


def _has_bodies(graph: onnx.GraphProto) -> bool:
    return any(attribute.type == onnx.AttributeProto.GRAPH for node in graph.node for attribute in node.attribute)


def optimized(path: Path, folder: Path) -> onnx.ModelProto:
    """The graph that the runtime executes for this file, with its weights."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimized.onnx")
