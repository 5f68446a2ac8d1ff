"""Which nodes of an ONNX file each node of the graph that ONNX Runtime executed stands for.

1. An executed node is *anchored* at the original nodes that make its outputs: found under the names of its outputs,
   its own name, or the names that the runtime's rewriters give (`onnx_executed`).
2. A convolution takes in what follows it: a residual sum, an activation; a quantised operator what quantises its
   result.
   What only rearranges data and was inserted by the runtime hands its anchors on to what it reads from.
3. What has no telling name is anchored through its readers: a reader that has the same type in both graphs reads the
   same tensors in the same places. The same way nodes are found that the runtime computes only once for several.
4. The group of an executed node is its anchors and, walking back from them, everything that nobody else makes.
5. Executed nodes that stand for the same node, of which the runtime made several, share one group.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from edgeprof.models.onnx_executed import is_inserted, is_layout, original_names, tensor_names
from latency_models.graph import Graph
from latency_models.graph import Operator as Node

__all__ = ["CONTROL_FLOW", "SAME_SHAPE", "Finder", "Groups"]

ACTIVATIONS = frozenset(
    ("Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Gelu", "Elu", "Swish")
)
SAME_SHAPE = ACTIVATIONS | {"BatchNormalization", "Cast", "Dropout", "Identity"}
CONTROL_FLOW = frozenset(("If", "Loop", "Scan"))
SUMS = frozenset(("Add", "Sum"))
# Executed types whose inputs are those of another type, in the same places.
SAME_INPUTS = {"FusedConv": "Conv", "FusedGemm": "Gemm"}
# Executed types that also quantise their result, which in the file is an operator of its own (qdq_transformer).
QUANTISED = frozenset(("QLinearConv", "QLinearMatMul", "QGemm", "QLinearAdd", "QLinearMul", "QLinearSigmoid"))
QUANTISED = QUANTISED | {"QLinearAveragePool", "QLinearGlobalAveragePool", "QLinearConcat", "QLinearSoftmax"}
QUANTISED = QUANTISED | {"QLinearLeakyRelu", "QLinearReduceMean", "QLinearWhere"}
# An activation, perhaps two, may stand in between.
MOST_BEFORE_QUANTISING = 3
# Inputs of a convolution: data, weights, bias, and what is added to the result.
RESIDUAL = 3
# How far from its anchor the node that gave a group its type is looked for.
MAX_STEPS = 200


class Finder:
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
class Groups:
    """`members[i]` are the original nodes, in the file's order, that operator i of the executed graph stands for.

    `folded` are nodes computed when the model was loaded, `shared` those that feed several executed nodes and are
    counted with the first, `left` those that nothing executed stands for. `is_joint[i]` says that other executed nodes
    stand for the same nodes.
    """

    graph: Graph
    executed: Graph
    members: list[list[Node]] = field(default_factory=list)
    is_joint: list[bool] = field(default_factory=list)
    folded: set[str] = field(default_factory=set)
    shared: set[str] = field(default_factory=set)
    left: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.find = Finder(self.graph)
        self.readers = _readers(self.graph.operators)
        self.owned: set[str] = set()
        # Anchors that an executed node is itself, in another form: their inputs are its inputs.
        self._rewritten: set[str] = set()
        self._makers = {output: k for k, node in enumerate(self.executed.operators) for output in node.outputs}
        self._anchors = [self._by_name(node) for node in self.executed.operators]
        self._hand_on()
        for found in self._anchors:
            self._own(found)
        for number, node in enumerate(self.executed.operators):
            self._anchors[number] = self._extended(node, self._anchors[number])
        self._find_folded()
        self._anchor_through_readers()
        self._gather()
        self._join()
        taken = {node.name for found in self.members for node in found}
        taken |= self.folded
        self.left = [node for node in self.graph.operators if node.name not in taken]

    def _own(self, nodes: Iterable[Node]) -> None:
        self.owned.update(output for node in nodes for output in node.outputs)

    # --- 1: names

    def _by_name(self, node: Node) -> list[Node]:
        if is_layout(node) or node.type == "Constant":
            return []
        found = [self.find.producer(node, output) for output in node.outputs if output]
        # A dissolved If leaves its own output's name on a node of its body.
        same = self.find.named(node, node.local(node.name))
        if same is not None and same.type == node.type:
            found.append(same)
        anchors = list({anchor.name: anchor for anchor in found if anchor is not None}.values())
        return anchors or self._by_derived_name(node)

    def _by_derived_name(self, node: Node) -> list[Node]:
        for name, is_rewritten in original_names(node.local(node.name)):
            anchor = self.find.producer(node, name) or self.find.named(node, name)
            if anchor is not None and not anchor.is_folded:
                if is_rewritten:
                    self._rewritten.add(anchor.name)
                return [anchor]
        for output in node.outputs:
            for name in tensor_names(node.local(output)):
                anchor = self.find.producer(node, name)
                if anchor is not None and anchor.type == node.type:
                    return [anchor]
        return []

    def _hand_on(self) -> None:
        """A Squeeze behind the Split that replaced a Gather makes the Gather's output; it is the Split that gathers."""
        given: dict[int, list[Node]] = defaultdict(list)
        for number, node in enumerate(self.executed.operators):
            anchors = self._anchors[number]
            if not is_inserted(node) or not anchors or any(anchor.type == node.type for anchor in anchors):
                continue
            self._anchors[number] = []
            maker = self._maker(node.inputs[0]) if node.inputs else None
            if maker is None or self._makes_known(self.executed.operators[maker]):
                self._anchors[number] = anchors
            else:
                given[maker] += anchors
        for maker, anchors in given.items():
            self._anchors[maker] = anchors

    def _makes_known(self, node: Node) -> bool:
        """Whether the file has one of its outputs under the same name."""
        return any(self.find.producer(node, output) for output in node.outputs if output)

    # --- 2: what a convolution takes in

    def _extended(self, node: Node, anchors: list[Node]) -> list[Node]:
        """What a node anchored by its own name took in: a residual sum, then an activation, or a quantisation."""
        if len(anchors) == 1 and node.type in QUANTISED and not self._makes_known(node):
            return [self._quantised(anchors[0])]
        if len(anchors) != 1 or node.type not in ("Conv", "FusedConv"):
            return anchors
        anchor = anchors[0]
        if len(node.inputs) > RESIDUAL and node.inputs[RESIDUAL] and anchor.type not in SUMS:
            anchor = self._following(anchor, SUMS)
        if "activation" in node.attributes and anchor.type not in ACTIVATIONS:
            anchor = self._following(anchor, ACTIVATIONS)
        return [anchor]

    def _quantised(self, anchor: Node) -> Node:
        """The QuantizeLinear that ends the only way on from the anchor."""
        last = anchor
        for _ in range(MOST_BEFORE_QUANTISING):
            readers = self.readers[last.outputs[0]]
            if last.type == "QuantizeLinear" or len(readers) != 1:
                break
            last = readers[0]
        if last.type != "QuantizeLinear" or self.owned.intersection(last.outputs):
            return anchor
        self.owned.difference_update(anchor.outputs)
        self._own([last])
        return last

    def _following(self, anchor: Node, types: frozenset[str]) -> Node:
        """The next node of one of these types that nobody owns yet; it is owned now, in the anchor's place."""
        for reader in self.readers[anchor.outputs[0]]:
            if reader.type in types and not self.owned.intersection(reader.outputs):
                self.owned.difference_update(anchor.outputs)
                self._own([reader])
                return reader
        return anchor

    # --- what never runs

    def _find_folded(self) -> None:
        """Nodes that ran when the model was loaded: made from constants alone, or a constant in the executed graph."""
        constant = {name for name, tensor in self.graph.tensors.items() if tensor.is_constant}
        outer = self.executed.operators[0] if self.executed.operators else None
        if outer is not None:
            stored = (name for name, tensor in self.executed.tensors.items() if tensor.is_constant)
            constant.update(original for name in stored if (original := self.find.tensor(outer, name)))
        stored_names = set(constant)
        for node in self.graph.operators:
            if node.type in CONTROL_FLOW or self.owned.intersection(node.outputs):
                continue
            if node.type == "DequantizeLinear" and not stored_names.intersection(node.outputs):
                continue  # a quantised kernel reads the weights as they are stored
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

    # --- 3: readers

    def _anchor_through_readers(self) -> None:
        """Readers come after what they read, so one way back through the executed graph carries all there is."""
        for node, anchors in zip(reversed(self.executed.operators), reversed(self._anchors), strict=True):
            for anchor in list(anchors):
                for name, original in self._paired_inputs(node, anchor):
                    maker = self._maker(name)
                    if maker is not None:
                        self._learn(maker, original)

    def _maker(self, name: str) -> int | None:
        """Who computes this tensor of the executed graph: whatever only rearranges it is passed over."""
        maker = self._makers.get(name)
        while maker is not None and self.rearranges(maker):
            inputs = self.executed.operators[maker].inputs
            maker = self._makers.get(inputs[0]) if inputs else None
        return maker

    def rearranges(self, number: int) -> bool:
        """Whether this executed node stands for no node of the file, but only rearranges data."""
        node = self.executed.operators[number]
        return is_layout(node) or (is_inserted(node) and not self._anchors[number])

    def _paired_inputs(self, node: Node, anchor: Node) -> list[tuple[str, str]]:
        """Inputs of an executed node, each with the file's tensor that it holds."""
        kind = SAME_INPUTS.get(node.type, node.type)
        head = anchor if anchor.name in self._rewritten else self._nearest(anchor, kind)
        if head is None:
            return []
        pairs = [
            (name, original)
            for name, original in zip(
                node.inputs[:RESIDUAL] if kind == "Conv" else node.inputs, head.inputs, strict=False
            )
            if name and original
        ]
        if kind == "Conv" and len(node.inputs) > RESIDUAL and node.inputs[RESIDUAL]:
            total = self._nearest(anchor, "Add") or self._nearest(anchor, "Sum")
            group = {output for member in self._walk_back([anchor]) for output in member.outputs}
            others = [name for name in total.inputs if name not in group] if total is not None else []
            pairs += [(node.inputs[RESIDUAL], others[0])] if len(others) == 1 else []
        return pairs

    def _nearest(self, anchor: Node, kind: str) -> Node | None:
        """The node of this type nearest to the anchor, going back through what nobody else makes."""
        seen, front = {anchor.name}, [anchor]
        while front and len(seen) < MAX_STEPS:
            match = next((node for node in front if node.type == kind), None)
            if match is not None:
                return match
            sources = [
                self.find.producers.get(name) for node in front for name in node.inputs if name not in self.owned
            ]
            front = [
                node for node in sources if node is not None and node.name not in seen and node.name not in self.folded
            ]
            seen.update(node.name for node in front)
        return None

    def _learn(self, number: int, tensor: str) -> None:
        """Executed node `number` makes this tensor of the file."""
        producer = self.find.producers.get(tensor)
        if producer is None or tensor in self.owned or producer.name in self.folded:
            return
        anchors = self._anchors[number]
        own = {output for anchor in anchors for output in anchor.outputs}
        if any(own.intersection(node.inputs) for node in self._walk_back([producer])):
            return  # what lies between was left out, or belongs to the reader
        anchors.append(producer)
        self._own([producer])

    # --- 4: groups

    def _gather(self) -> None:
        order = {node.name: position for position, node in enumerate(self.graph.operators)}
        taken: set[str] = {node.name for found in self._anchors for node in found}
        for found in self._anchors:
            anchors = {node.name for node in found}
            reached = self._walk_back(found)
            own = [node for node in reached if node.name in anchors or node.name not in taken]
            self.shared.update(node.name for node in reached if node.name not in anchors and node.name in taken)
            taken.update(node.name for node in own)
            self.members.append(sorted(own, key=lambda node: order[node.name]))
        self.is_joint = [False] * len(self.members)

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

    # --- 5: several for one

    def _join(self) -> None:
        """A node that is a function to the runtime, for instance, is executed as several nodes."""
        readers = _readers(self.executed.operators)
        numbers = {id(node): number for number, node in enumerate(self.executed.operators)}
        for number in reversed(range(len(self.executed.operators))):
            node = self.executed.operators[number]
            if not self.members[number] and node.type != "Constant" and not self.rearranges(number):
                served = {numbers[id(reader)] for output in node.outputs for reader in readers[output]}
                if self._only_prepares(node, served):
                    self._unite([*served, number])
        first: dict[str, int] = {}
        for number, found in enumerate(self.members):
            self._unite({number, *(first.setdefault(member.name, number) for member in found)})

    def _only_prepares(self, node: Node, served: Iterable[int]) -> bool:
        """Whether a node without an anchor reads nothing of the file but what the nodes that it serves should read."""
        if not served or not all(self.members[number] for number in served):
            return False
        known = {name for tensor in node.inputs if (name := self.find.tensor(node, tensor)) is not None}
        return known <= {name for number in served for member in self.members[number] for name in member.inputs}

    def _unite(self, numbers: Iterable[int]) -> None:
        joint = {node.name: node for number in numbers for node in self.members[number]}
        if len(list(numbers)) > 1:
            for number in numbers:
                self.members[number], self.is_joint[number] = list(joint.values()), True


def _readers(operators: Iterable[Node]) -> dict[str, list[Node]]:
    readers: dict[str, list[Node]] = defaultdict(list)
    for node in operators:
        for name in dict.fromkeys(node.inputs):
            if name:
                readers[name].append(node)
    return readers
