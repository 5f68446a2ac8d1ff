"""Map the kernels a TFLite runtime timed back to the nodes of the user's file.

Nodes that TFLite runs itself are timed under their index, which is exact. Operators inside the XNNPACK delegate are
timed under the name of their class only, in the order of execution: they are aligned with the file's nodes as two
sequences, with gaps on both sides. An event whose partner differs between equally good alignments stays unmapped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from device_agents.wire import Kernel, OperatorPass
from edgeprof.models.alignment import align
from edgeprof.models.groups import Explainer, counted, listed, without_origin
from edgeprof.run import Operator
from latency_models.graph import Graph
from latency_models.graph import Operator as Node

__all__ = ["map_kernels"]

# Below this share of aligned events the two sequences are not about the same thing, and nothing of it is shown.
MIN_ALIGNED = 0.8
# Bounds the alignment's memory (about 10 bytes a cell) and time.
MAX_CELLS = 25_000_000

# Which operator types an XNNPACK operator may stand for, by the beginning of its name, longest beginning first; seen
# with XNNPACK in TFLite 2.14, 2.17 and LiteRT 2.3. A name that is missing here stays unmapped.
_CLASSES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Fully Connected", ("CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL")),
    ("Dynamic Fully Connected", ("FULLY_CONNECTED", "BATCH_MATMUL")),
    ("Batch Matrix Multiply", ("BATCH_MATMUL",)),
    ("Convolution", ("CONV_2D", "DEPTHWISE_CONV_2D")),
    ("Deconvolution", ("TRANSPOSE_CONV",)),
    ("PReLU", ("PRELU",)),
    ("Leaky ReLU", ("LEAKY_RELU",)),
    ("Add", ("ADD",)),
    ("Multiply", ("MUL",)),
    ("Subtract", ("SUB",)),
    ("Divide", ("DIV",)),
    ("Maximum", ("MAXIMUM",)),
    ("Minimum", ("MINIMUM",)),
    ("Squared Difference", ("SQUARED_DIFFERENCE",)),
    ("Constant Pad", ("PAD", "PADV2")),
    ("Max Pooling", ("MAX_POOL_2D",)),
    ("Average Pooling", ("AVERAGE_POOL_2D", "MEAN")),
    ("Global", ("MEAN", "AVERAGE_POOL_2D", "SUM")),
    ("Mean", ("MEAN",)),
    ("Sum", ("SUM",)),
    ("Copy", ("CONCATENATION", "RESHAPE", "EXPAND_DIMS", "SQUEEZE", "READ_VARIABLE")),
    ("Concatenate", ("CONCATENATION",)),
    ("Split", ("SPLIT",)),
    ("Static Reshape", ("RESHAPE", "EXPAND_DIMS", "SQUEEZE")),
    ("Clamp", ("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "MINIMUM", "MAXIMUM")),
    ("Transpose", ("TRANSPOSE",)),
    ("Resize Bilinear", ("RESIZE_BILINEAR",)),
    ("Sigmoid", ("LOGISTIC",)),
    ("HardSwish", ("HARD_SWISH",)),
    ("Softmax", ("SOFTMAX",)),
    ("Slice", ("STRIDED_SLICE", "SLICE")),
    ("Space To Depth", ("SPACE_TO_DEPTH",)),
    ("Depth To Space", ("DEPTH_TO_SPACE",)),
    ("Convert", ("QUANTIZE", "DEQUANTIZE")),
    ("Tanh", ("TANH",)),
    ("ELU", ("ELU",)),
    ("GELU", ("GELU",)),
    ("Abs", ("ABS",)),
    ("Negate", ("NEG",)),
    ("Square Root", ("SQRT",)),
    ("Reciprocal Square Root", ("RSQRT",)),
    ("Square", ("SQUARE",)),
    ("Floor", ("FLOOR",)),
    ("Ceiling", ("CEIL",)),
    ("Exp", ("EXP",)),
    ("Log", ("LOG",)),
    (
        "Unary Elementwise",
        (
            "LOGISTIC",
            "TANH",
            "RELU",
            "RELU6",
            "HARD_SWISH",
            "DEQUANTIZE",
            "QUANTIZE",
            "ABS",
            "NEG",
            "EXP",
            "LOG",
            "SQRT",
        ),
    ),
)

# A node of these types is run inside its neighbour when XNNPACK fuses it: activations by what makes their input,
# padding by what reads their output (xnn_subgraph_optimize in xnnpack/src/subgraph.c).
_FUSED_BACKWARD = frozenset(("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1"))
_FUSED_FORWARD = frozenset(("PAD", "PADV2"))
_FUSING = frozenset(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "ADD", "SUB", "MUL", "DIV"))
_FUSING = _FUSING | {"MAX_POOL_2D", "AVERAGE_POOL_2D"}

# What a node without an event costs an alignment: nothing where it is known to disappear.
_OFTEN_SILENT = _FUSED_BACKWARD | _FUSED_FORWARD | {"RESHAPE", "EXPAND_DIMS", "SQUEEZE", "VAR_HANDLE"}
_OFTEN_SILENT = _OFTEN_SILENT | {"READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE"}
_SILENCE, _UNEXPECTED_SILENCE = 0.0, 1.0
_EXACT, _LIKELY, _POSSIBLE, _SECOND_STEP = 8.0, 4.0, 3.0, 2.5


@dataclass(frozen=True)
class _Candidate:
    """A node that may show up in the sequence of events; `step` "clamp" is the activation fused into it."""

    node: Node
    step: str = ""


@dataclass
class _Mapping:
    """Which node each kernel ran; `steps` are kernels that ran only the second step of a node."""

    nodes: dict[int, Node] = field(default_factory=dict)
    steps: set[int] = field(default_factory=set)
    is_aligned: bool = False
    notes: list[str] = field(default_factory=list)


def map_kernels(graph: Graph, recorded: OperatorPass) -> tuple[tuple[Operator, ...], tuple[str, ...]]:
    """One operator for each kernel, and notes; see `edgeprof.models.map_operators`."""
    kernels = recorded.kernels
    by_index = {(node.subgraph, node.index): node for node in graph.operators}
    mapping = _Mapping()
    for index, kernel in enumerate(kernels):
        exact = by_index.get((kernel.subgraph, kernel.node)) if kernel.node is not None else None
        if kernel.level == "node" and exact is not None and "delegate" not in kernel.type.lower():
            mapping.nodes[index] = exact
    _align_delegated(graph, kernels, mapping)
    fused = _fused_into(graph, mapping)
    explainer = Explainer(graph)
    operators = []
    for index, kernel in enumerate(kernels):
        if index not in mapping.nodes:
            operators.append(without_origin(index, kernel, "unmapped"))
        elif index in mapping.steps:
            operators.append(explainer.explained(index, kernel, [mapping.nodes[index]], part=True))
        else:
            node = mapping.nodes[index]
            group = sorted((node, *fused.get(node.name, ())), key=lambda member: (member.subgraph, member.index))
            operators.append(explainer.explained(index, kernel, group))
    notes = (*graph.notes, *mapping.notes, *_notes(graph, operators, kernels, mapping))
    return tuple(operators), notes


def _classes(name: str) -> tuple[str, ...]:
    matching = [entry for entry in _CLASSES if name.startswith(entry[0])]
    return tuple(max(matching, key=lambda entry: len(entry[0]))[1]) if matching else ()


# --- events and nodes ----------------------------------------------------------------------------------------------


def _align_delegated(graph: Graph, kernels: Sequence[Kernel], mapping: _Mapping) -> None:
    """Align what ran inside a delegate; nodes timed exactly are fixed points of the alignment."""
    delegated = [index for index, kernel in enumerate(kernels) if kernel.level == "delegate"]
    if not delegated:
        return
    candidates = _candidates(graph)
    events = [index for index, kernel in enumerate(kernels) if kernel.level == "delegate" or index in mapping.nodes]
    if len(events) * len(candidates) > MAX_CELLS:
        mapping.notes.append(f"{len(delegated)} delegate events: too many to be aligned with the file's nodes")
        return
    exact = {mapping.nodes[index].name for index in mapping.nodes}
    scores = [[_score(kernels[i], mapping.nodes.get(i), candidate, exact) for candidate in candidates] for i in events]
    silence = [
        _SILENCE if candidate.step or candidate.node.type in _OFTEN_SILENT else _UNEXPECTED_SILENCE
        for candidate in candidates
    ]
    pairs = align(scores, silence)
    inside = {events[row] for row in pairs.aligned} - mapping.nodes.keys()
    share = len(inside) / len(delegated)
    if share < MIN_ALIGNED:
        mapping.notes.append(
            f"only {len(inside)} of {len(delegated)} delegate events fit the order of the file's nodes, so none "
            "of them is mapped; without XNNPACK every node is timed by itself"
        )
        return
    mapping.is_aligned = True
    for row, column in pairs.certain.items():
        index = events[row]
        if index not in mapping.nodes:
            mapping.nodes[index] = candidates[column].node
            if candidates[column].step:
                mapping.steps.add(index)
    mapping.notes.append(f"{counted(len(delegated), 'delegate event')} mapped by their kind and their order")
    ambiguous = len(inside) - sum(index in mapping.nodes for index in inside)
    if ambiguous:
        mapping.notes.append(f"{counted(ambiguous, 'delegate event')} could be any of several nodes, left unmapped")


def _candidates(graph: Graph) -> list[_Candidate]:
    found = []
    for node in graph.operators:
        if node.subgraph == 0 and not node.is_folded:
            found.append(_Candidate(node))
            if node.attributes.get("fused_activation_function"):
                found.append(_Candidate(node, "clamp"))
    return found


def _score(kernel: Kernel, exact: Node | None, candidate: _Candidate, taken: set[str]) -> float | None:
    """How well an event fits a node; None if it cannot be that node."""
    if exact is not None:
        return _EXACT if candidate.node.name == exact.name and not candidate.step else None
    if candidate.node.name in taken:
        return None
    name = kernel.type or kernel.name
    if candidate.step:
        return _SECOND_STEP if name.startswith("Clamp") else None
    classes = _classes(name)
    if candidate.node.type not in classes:
        return None
    if name.startswith("Convolution") and ("DWConv" in name) != (candidate.node.type == "DEPTHWISE_CONV_2D"):
        return _POSSIBLE
    return _LIKELY if candidate.node.type == classes[0] or len(classes) <= 3 else _POSSIBLE


def _fused_into(graph: Graph, mapping: _Mapping) -> dict[str, list[Node]]:
    """Nodes without an event that are known to run inside a neighbour, by the neighbour's name."""
    if not mapping.is_aligned:
        return {}
    timed = {node.name: node for index, node in mapping.nodes.items() if index not in mapping.steps}
    producers = {output: node for node in graph.operators for output in node.outputs}
    readers: dict[str, list[Node]] = {}
    for node in graph.operators:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    fused: dict[str, list[Node]] = {}
    for node in graph.operators:
        if node.name in timed or not node.inputs or not node.outputs:
            continue
        neighbour = None
        if node.type in _FUSED_BACKWARD:
            neighbour = producers.get(node.inputs[0])
        elif node.type in _FUSED_FORWARD and len(readers.get(node.outputs[0], [])) == 1:
            neighbour = readers[node.outputs[0]][0]
        if neighbour is not None and neighbour.name in timed and neighbour.type in _FUSING:
            fused.setdefault(neighbour.name, []).append(node)
    return fused


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
        yield f"{steps} with only the activation of a node whose main part is another kernel"
    covered = {name for operator in operators for name in operator.nodes}
    folded = sum(node.is_folded for node in graph.operators)
    if folded:
        yield f"{counted(folded, 'node')} computed once, when the model was loaded"
    left = [node for node in graph.operators if node.name not in covered and not node.is_folded and not node.subgraph]
    if left and mapping.nodes:
        yield f"{counted(len(left), 'node')} covered by no kernel: {listed([node.name for node in left])}"
