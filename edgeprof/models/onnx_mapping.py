"""Map the kernels ONNX Runtime timed back to the nodes of the user's file, by way of the graph it really executed.

A kernel bears the name of a node of the optimized graph. That node is anchored at the original nodes that produce its
outputs; the original graph is then walked back from the anchors through everything no other kernel produces. How
ONNX Runtime names what it rewrites was observed with 1.32; whatever does not fit is reported, see `_notes`.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from device_agents.wire import Kernel, OperatorPass
from edgeprof.models.groups import Explainer, counted, listed, without_origin
from edgeprof.run import Operator
from latency_models import onnx_graph
from latency_models.graph import Graph
from latency_models.graph import Operator as Node

__all__ = ["map_kernels"]

ACTIVATIONS = frozenset(
    ("Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Gelu", "Elu", "Swish")
)
SAME_SHAPE = ACTIVATIONS | {"BatchNormalization", "Cast", "Dropout", "Identity"}
CONTROL_FLOW = frozenset(("If", "Loop", "Scan"))
NCHWC_DOMAIN = "com.microsoft.nchwc"
MAX_GRAPH_BYTES = 256 * 1024 * 1024


def map_kernels(graph: Graph, recorded: OperatorPass) -> tuple[tuple[Operator, ...], tuple[str, ...]]:
    """One operator for each kernel, and notes; see `edgeprof.models.map_operators`."""
    try:
        executed = _executed_graph(recorded.graph)
    except ValueError as error:
        return _by_name(graph, recorded.kernels, str(error))
    kernels = _Kernels(executed, recorded.kernels)
    real = graph.with_shapes(_real_shapes(graph, executed, kernels))
    groups = _Groups(real, executed)
    explainer = Explainer(_with_inner_shapes(real, groups))
    operators: list[Operator] = []
    nodes = {node.name: node for node in explainer.graph.operators}
    for index, kernel in enumerate(recorded.kernels):
        number = kernels.executed.get(index)
        found = groups.members[number] if number is not None else []
        if found:
            operators.append(explainer.explained(index, kernel, [nodes[node.name] for node in found]))
        else:
            layout = number is not None and _is_layout(executed.operators[number])
            operators.append(without_origin(index, kernel, "layout" if layout else "unmapped"))
    notes = _notes(operators, recorded.kernels, groups, kernels)
    return tuple(operators), (*graph.notes, *notes)


def _executed_graph(text: str | None) -> Graph:
    if text is None:
        raise ValueError("the runtime did not hand back the graph it executed")
    try:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(base64.b64decode(text, validate=True), MAX_GRAPH_BYTES)
        model = onnx_graph.parse(data, "the executed graph")
    except (ValueError, zlib.error) as error:
        raise ValueError(f"the graph that the runtime executed cannot be read ({error})") from error
    return onnx_graph.of_model(model, "executed", infer=False)


def _is_layout(node: Node) -> bool:
    """Nodes the runtime inserts to rearrange data (nchwc_transformer.cc, transpose optimizer)."""
    if node.type in ("ReorderInput", "ReorderOutput"):
        return True
    return node.type == "Reshape" and node.local(node.name).startswith("Reshape_token")


def _original_names(name: str) -> Iterator[str]:
    """What a rewritten node may have been called.

    The NCHWc rewriter names a node after the original output tensor, with a suffix; BatchNormalization and Mul that
    became a depthwise convolution have one more (onnxruntime/core/optimizer/nchwc_transformer.cc).
    """
    yield name
    for layout in ("_nchwc", "_nhwc"):
        if name.endswith(layout):
            stripped = name.removesuffix(layout)
            yield stripped
            for rewritten in ("_bn", "_mul"):
                if stripped.endswith(rewritten):
                    yield stripped.removesuffix(rewritten)


# --- kernels and the nodes of the executed graph -------------------------------------------------------------------


class _Kernels:
    """`executed[i]` is the number of the executed graph's operator that kernel i is; ambiguous ones are left out."""

    def __init__(self, executed: Graph, kernels: Sequence[Kernel]) -> None:
        self.kernels = kernels
        self.executed: dict[int, int] = {}
        by_name: dict[tuple[str, str], list[int]] = defaultdict(list)
        unnamed: dict[str, list[int]] = defaultdict(list)
        for number, node in enumerate(executed.operators):
            if node.type == "Constant":
                continue
            if node.name_is_invented:
                unnamed[node.type].append(number)
            else:
                by_name[node.local(node.name), node.type].append(number)
        waiting: dict[str, list[int]] = defaultdict(list)
        same_name = Counter((kernel.name, kernel.type) for kernel in kernels)
        for index, kernel in enumerate(kernels):
            found = by_name.get((kernel.name, kernel.type), [])
            if found and len(found) == same_name[kernel.name, kernel.type]:
                # Bodies may repeat names; the file is written in the order in which the runtime executes.
                self.executed[index] = found.pop(0)
                same_name[kernel.name, kernel.type] -= 1
            elif re.fullmatch(re.escape(kernel.type) + r"_?\d*", kernel.name) or not kernel.name:
                waiting[kernel.type].append(index)
        for kind, indices in waiting.items():
            # A node without a name is profiled under its type and an index that the file does not keep.
            if len(indices) == len(unnamed[kind]):
                self.executed.update(zip(indices, unnamed[kind], strict=True))


def _real_shapes(graph: Graph, executed: Graph, kernels: _Kernels) -> dict[str, tuple[int, ...]]:
    """Shapes that the runtime saw, for tensors of the file whose shape could not be inferred."""
    find = _Finder(graph)
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

    for index, number in kernels.executed.items():
        node, kernel = executed.operators[number], kernels.kernels[index]
        learn(node, node.inputs, kernel.input_shapes)
        learn(node, node.outputs, kernel.output_shapes)
    return shapes


def _with_inner_shapes(graph: Graph, groups: _Groups) -> Graph:
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


# --- groups of original nodes --------------------------------------------------------------------------------------


class _Finder:
    """Finds tensors and nodes of the file under the names that the executed graph uses for them.

    Names inside bodies are unique only within their body; where a body was dissolved into its surroundings, a name
    counts if the whole file has it once.
    """

    def __init__(self, graph: Graph) -> None:
        self.producers: dict[str, Node] = {}
        self.nodes: dict[str, Node] = {}
        self._tensors: dict[str, list[str]] = defaultdict(list)
        self._names: dict[str, list[str]] = defaultdict(list)
        for name in graph.inputs:
            self._tensors[name].append(name)
        for node in graph.operators:
            self.nodes[node.name] = node
            if not node.name_is_invented:
                self._names[node.local(node.name)].append(node.name)
            for output in node.outputs:
                if output:
                    self._tensors[node.local(output)].append(output)
                    if not node.is_folded:
                        self.producers[output] = node

    def tensor(self, node: Node, name: str) -> str | None:
        """The file's tensor that `node` of the executed graph calls `name`."""
        plain = node.local(name)
        candidates = self._tensors.get(plain, [])
        return name if name in candidates else candidates[0] if len(candidates) == 1 else None

    def producer(self, node: Node, name: str) -> Node | None:
        return self.producers.get(self.tensor(node, name) or "")

    def named(self, node: Node, name: str) -> Node | None:
        """The file's node of this name."""
        full = f"{node.body}/{name}" if node.body else name
        candidates = self._names.get(name, [])
        found = full if full in candidates else candidates[0] if len(candidates) == 1 else None
        return self.nodes[found] if found else None


@dataclass
class _Groups:
    """`members[i]` are the original nodes, in the file's order, that operator i of the executed graph stands for."""

    graph: Graph
    executed: Graph
    members: list[list[Node]] = field(default_factory=list)
    folded: set[str] = field(default_factory=set)
    shared: set[str] = field(default_factory=set)
    left: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.find = _Finder(self.graph)
        self.readers: dict[str, list[Node]] = defaultdict(list)
        for node in self.graph.operators:
            for name in node.inputs:
                self.readers[name].append(node)
        anchors = [self._anchors(node) for node in self.executed.operators]
        self.owned = {output for found in anchors for node in found for output in node.outputs}
        for number, node in enumerate(self.executed.operators):
            anchors[number] = self._extended(node, anchors[number])
        self._find_folded()
        order = {node.name: position for position, node in enumerate(self.graph.operators)}
        taken: set[str] = {node.name for found in anchors for node in found}
        for found in anchors:
            reached = self._walk_back(found)
            own = [node for node in reached if node in found or node.name not in taken]
            self.shared.update(node.name for node in reached if node not in found and node.name in taken)
            taken.update(node.name for node in own)
            self.members.append(sorted(own, key=lambda node: order[node.name]))
        self.left = [node for node in self.graph.operators if node.name not in taken | self.folded]

    def _anchors(self, node: Node) -> list[Node]:
        if _is_layout(node) or node.type == "Constant":
            return []
        found = [self.find.producer(node, output) for output in node.outputs if output]
        # A dissolved If leaves its own output's name on a node of its body.
        same = self.find.named(node, node.local(node.name))
        if same is not None and same.type == node.type:
            found.append(same)
        anchors = list({anchor.name: anchor for anchor in found if anchor is not None}.values())
        if anchors:
            return anchors
        for name in _original_names(node.local(node.name)):
            anchor = self.find.producer(node, name) or self.find.named(node, name)
            if anchor is not None and not anchor.is_folded:
                return [anchor]
        return []

    def _extended(self, node: Node, anchors: list[Node]) -> list[Node]:
        """A convolution anchored by its own name took in what follows it: a residual sum, then an activation."""
        if len(anchors) != 1 or node.type not in ("Conv", "FusedConv"):
            return anchors
        anchor = anchors[0]
        if len(node.inputs) > 3 and node.inputs[3] and anchor.type not in ("Add", "Sum"):
            anchor = self._following(anchor, frozenset(("Add", "Sum")))
        if "activation" in node.attributes and anchor.type not in ACTIVATIONS:
            anchor = self._following(anchor, ACTIVATIONS)
        return [anchor]

    def _following(self, anchor: Node, types: frozenset[str]) -> Node:
        """The next node of one of these types that nobody owns yet; it is owned now, in the anchor's place."""
        for reader in self.readers[anchor.outputs[0]]:
            if reader.type in types and not self.owned.intersection(reader.outputs):
                self.owned.difference_update(anchor.outputs)
                self.owned.update(reader.outputs)
                return reader
        return anchor

    def _find_folded(self) -> None:
        """Nodes that ran when the model was loaded: made from constants alone, or a constant in the executed graph."""
        constant = {name for name, tensor in self.graph.tensors.items() if tensor.is_constant}
        outer = self.executed.operators[0] if self.executed.operators else None
        if outer is not None:
            stored = (name for name, tensor in self.executed.tensors.items() if tensor.is_constant)
            constant.update(original for name in stored if (original := self.find.tensor(outer, name)))
        for node in self.graph.operators:
            if node.type in CONTROL_FLOW or self.owned.intersection(node.outputs):
                continue
            outputs = [name for name in node.outputs if name]
            inputs = [name for name in node.inputs if name]
            if all(name in constant for name in outputs) or (inputs and all(name in constant for name in inputs)):
                constant.update(outputs)
                self.folded.add(node.name)
        for node in reversed(self.graph.operators):  # what only fed folded nodes was folded with them
            readers = [reader for name in node.outputs for reader in self.readers[name]]
            if readers and not self.owned.intersection(node.outputs) and node.type not in CONTROL_FLOW:
                is_output = any(name in self.graph.outputs for name in node.outputs)
                if not is_output and all(reader.name in self.folded for reader in readers):
                    self.folded.add(node.name)

    def _walk_back(self, anchors: list[Node]) -> list[Node]:
        seen: dict[str, Node] = {}
        stack = list(anchors)
        while stack:
            node = stack.pop()
            if node.name in seen or node.name in self.folded:
                continue
            seen[node.name] = node
            sources = (self.find.producers.get(name) for name in node.inputs if name not in self.owned)
            stack.extend(source for source in sources if source is not None)
        return list(seen.values())


# --- in words ------------------------------------------------------------------------------------------------------


def _notes(
    operators: Sequence[Operator], kernels: Sequence[Kernel], groups: _Groups, matched: _Kernels
) -> Iterator[str]:
    unmapped = [kernels[operator.kernel].name for operator in operators if operator.origin == "unmapped"]
    if unmapped:
        yield f"{counted(len(unmapped), 'kernel')} could not be mapped to nodes of the file: {listed(unmapped)}"
    bodies = [kernel.name for kernel in kernels if kernel.type in CONTROL_FLOW]
    if bodies:
        yield f"the time of control flow is what it spent outside the nodes inside it: {listed(bodies)}"
    repeated = [name for name, n in Counter(node for op in operators for node in op.nodes).items() if n > 1]
    if repeated:
        yield f"{counted(len(repeated), 'node')} ran in more than one kernel: {listed(repeated)}"
    if groups.shared:
        shared = sorted(groups.shared)
        yield f"{counted(len(shared), 'node')} fed several kernels, counted with the first: {listed(shared)}"
    timed = set(matched.executed.values())
    idle = [node.name for number, group in enumerate(groups.members) if number not in timed for node in group]
    if idle:
        yield f"{counted(len(idle), 'node')} did not run in this pass (branches not taken): {listed(idle)}"
    outside = [node.name for node in groups.left if not node.body]
    if outside:
        yield f"{counted(len(outside), 'node')} covered by no kernel: {listed(outside)}"
    inside = [node.name for node in groups.left if node.body]
    if inside:
        yield f"{counted(len(inside), 'node')} inside control flow covered by no kernel: {listed(inside)}"
    computed = sum(node.type != "Constant" for node in groups.graph.operators if node.name in groups.folded)
    if computed:
        yield f"{counted(computed, 'node')} computed once, when the model was loaded"


def _by_name(graph: Graph, kernels: Sequence[Kernel], why: str) -> tuple[tuple[Operator, ...], tuple[str, ...]]:
    """Without the executed graph only names are left: a kernel is shown as the node it is named after."""
    find, explainer = _Finder(graph), Explainer(graph)
    operators = []
    for index, kernel in enumerate(kernels):
        probe = Node(index=index, name=kernel.name, type=kernel.type, inputs=(), outputs=())
        names = _original_names(kernel.name)
        node = next((n for name in names if (n := find.named(probe, name) or find.producer(probe, name))), None)
        if _is_layout(probe):
            operators.append(without_origin(index, kernel, "layout"))
        elif node is None or node.is_folded:
            operators.append(without_origin(index, kernel, "unmapped"))
        else:
            operators.append(explainer.explained(index, kernel, [node]))
    return tuple(operators), (*graph.notes, f"{why}: kernels are mapped by name, fused nodes are shown in part")
