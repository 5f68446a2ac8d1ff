"""Cut an operator out of an ONNX file as a small model of its own.

Nodes of the file are cut out with their weights: the runtime fuses them again as it did in the whole model. That does
not hold where the runtime works in a layout of its own (NCHWc): alone, every cut would be framed by two kernels that
rearrange data. There, and inside control flow, the node that the runtime executed is what the model is made of; as the
device sends the executed graph without weights, those are drawn at random. The layout exists for float32 alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

from edgeprof.models.onnx_executed import NCHWC_DOMAIN
from latency_models.graph import Graph
from latency_models.graph import Operator as Node

__all__ = ["OnnxCutter", "empty_onnx", "executed_alone"]

MAX_BYTES = 2**31 - 1
CONTROL_FLOW = frozenset(("If", "Loop", "Scan"))
# Inputs whose values say how much there is to compute, by type; those of Reshape and Expand follow from the result.
SHAPING = {
    "Reshape": (1,), "Expand": (1,), "ConstantOfShape": (0,), "Slice": (1, 2, 3, 4), "Tile": (1,), "Pad": (1, 3),
    "Range": (0, 1, 2), "Resize": (1, 2, 3), "Upsample": (1,), "Unsqueeze": (1,), "Squeeze": (1,), "Split": (1,),
    "TopK": (1,), "OneHot": (1,), "CumSum": (1,), "ReduceMean": (1,), "ReduceSum": (1,), "ReduceMax": (1,),
}  # fmt: skip
FROM_RESULT = frozenset(("Reshape", "Expand", "ConstantOfShape"))
# More than the bounds of a slice or a list of axes have.
MAX_TOLD_VALUES = 8
WEIGHT_SCALE = 0.05


class OnnxCutter:
    """Cuts groups of nodes out of one model file. `graph` has the shapes that were executed."""

    def __init__(self, path: Path, graph: Graph) -> None:
        self._folder = path.parent
        self._graph = graph
        self._model = onnx.load(str(path), load_external_data=False)
        self._stored = {tensor.name: tensor for tensor in self._model.graph.initializer}
        self._sparse = {tensor.values.name: tensor for tensor in self._model.graph.sparse_initializer}
        self._makers = {name: k for k, node in enumerate(self._model.graph.node) for name in node.output if name}

    def cut(self, nodes: Sequence[Node]) -> bytes | str:
        """The model of these nodes, or why there is none."""
        inside = [node.name for node in nodes if node.body]
        if inside:
            return f"{inside[0]} lies inside control flow: alone it does not run as it does there"
        control = [node.name for node in nodes if node.type in CONTROL_FLOW]
        if control:
            return f"{control[0]} is control flow: what it does depends on the data"
        try:
            return self._cut(nodes)
        except _NotAlone as reason:
            return str(reason)

    def constants(self, nodes: Sequence[Node]) -> tuple[bytes, ...]:
        """What small stored constants tell these nodes to do: bounds of a slice, axes, scales; no weights."""
        names = [name for node in nodes if not node.macs for name in node.inputs if name in self._stored]
        small = [self._stored[name] for name in names if np.prod(self._stored[name].dims) <= MAX_TOLD_VALUES]
        return tuple(numpy_helper.to_array(one).tobytes() for one in small if not uses_external_data(one))

    def _cut(self, nodes: Sequence[Node]) -> bytes:
        chosen = {node.index for node in nodes}
        protos = {k: NodeProto() for k in chosen}
        for k, proto in protos.items():
            proto.CopyFrom(self._model.graph.node[k])
        made = {name for proto in protos.values() for name in proto.output if name}
        weights: list[TensorProto] = []
        for proto in protos.values():
            weights += self._values_from_result(proto, made)
        fixed = {tensor.name for tensor in weights}
        inputs: list[str] = []
        for name in dict.fromkeys(name for k in sorted(protos) for name in protos[k].input if name):
            if name in made or name in fixed:
                continue
            if self._is_constant(name):
                self._take_constant(name, protos, weights)
            else:
                inputs.append(name)
        self._require_free_values(nodes, set(inputs))
        outputs = self._outputs(nodes, chosen, made)
        graph = helper.make_graph(
            [protos[k] for k in sorted(protos)],
            "cut",
            [self._value(name) for name in inputs],
            [self._value(name, is_output=True) for name in outputs],
            list({tensor.name: tensor for tensor in weights}.values()),
            sparse_initializer=[self._sparse[n] for k in protos for n in protos[k].input if n in self._sparse],
        )
        model = ModelProto(ir_version=self._model.ir_version, producer_name="edgeprof", graph=graph)
        model.opset_import.extend(self._model.opset_import)
        model.functions.extend(self._model.functions)
        if model.ByteSize() > MAX_BYTES:
            raise _NotAlone("with its weights it is larger than the 2 GB that one ONNX file can hold")
        return bytes(model.SerializeToString())

    # --- constants

    def _is_constant(self, name: str, depth: int = 0) -> bool:
        """Stored, or made of stored values alone."""
        if name in self._stored or name in self._sparse:
            return True
        maker = self._makers.get(name)
        if maker is None or depth > len(self._makers):
            return False
        node = self._model.graph.node[maker]
        if node.op_type in CONTROL_FLOW or node.op_type.startswith("Random"):
            return False
        present = [one for one in node.input if one]
        return node.op_type == "Constant" or (
            bool(present) and all(self._is_constant(one, depth + 1) for one in present)
        )

    def _take_constant(self, name: str, protos: dict[int, NodeProto], weights: list[TensorProto]) -> None:
        if name in self._stored:
            weights.append(self._loaded(self._stored[name]))
        elif name not in self._sparse and self._makers[name] not in protos:
            maker = self._makers[name]
            protos[maker] = self._model.graph.node[maker]
            for one in protos[maker].input:
                if one:
                    self._take_constant(one, protos, weights)

    def _loaded(self, tensor: TensorProto) -> TensorProto:
        if not uses_external_data(tensor):
            return tensor
        copy = TensorProto()
        copy.CopyFrom(tensor)
        load_external_data_for_tensor(copy, str(self._folder))
        copy.ClearField("external_data")
        copy.data_location = TensorProto.DEFAULT
        return copy

    # --- what the data decides

    def _values_from_result(self, proto: NodeProto, made: set[str]) -> list[TensorProto]:
        """For a shape that is computed while the model runs, the one that came out; the node reads it by a new name."""
        if proto.op_type not in FROM_RESULT:
            return []
        place = SHAPING[proto.op_type][0]
        name = proto.input[place]
        if self._is_constant(name) or name in made:
            return []
        shape = self._known_shape(proto.output[0])
        if shape is None:
            raise _NotAlone(f"the shape that {proto.op_type} makes is computed while the model runs and is not known")
        proto.input[place] = f"{name}/as executed"
        return [numpy_helper.from_array(np.array(shape, dtype=np.int64), proto.input[place])]

    def _require_free_values(self, nodes: Sequence[Node], inputs: set[str]) -> None:
        for node in nodes:
            proto = self._model.graph.node[node.index]
            places = SHAPING.get(node.type, ()) if node.type not in FROM_RESULT else ()
            for place in places:
                if place < len(proto.input) and proto.input[place] in inputs:
                    raise _NotAlone(
                        f"the values of {proto.input[place]} decide what {node.type} computes, and they are known only "
                        "while the whole model runs"
                    )

    # --- what comes in and goes out

    def _outputs(self, nodes: Sequence[Node], chosen: set[int], made: set[str]) -> list[str]:
        outside = {name for op in self._graph.operators if op.body or op.index not in chosen for name in op.inputs}
        outside.update(self._graph.outputs)
        found = [name for node in nodes for name in node.outputs if name in made and name in outside]
        return found or [name for name in nodes[-1].outputs if name]

    def _known_shape(self, name: str) -> tuple[int, ...] | None:
        shape = self._graph.shape(name)
        if shape is None or None in shape:
            return None
        return tuple(dim for dim in shape if dim is not None)

    def _value(self, name: str, is_output: bool = False) -> onnx.ValueInfoProto:
        tensor = self._graph.tensors.get(name)
        shape = self._known_shape(name)
        if is_output and (tensor is None or tensor.dtype is None):
            return onnx.ValueInfoProto(name=name)  # the runtime infers it
        if tensor is None or tensor.dtype is None or shape is None:
            raise _NotAlone(f"type or shape of its input {name} is not known")
        return helper.make_tensor_value_info(name, _element_type(tensor.dtype), None if is_output else shape)


class _NotAlone(Exception):
    """Why an operator cannot be a model of its own."""


def _element_type(dtype: str) -> int:
    names = {"float32": "FLOAT", "float64": "DOUBLE"}
    try:
        return int(TensorProto.DataType.Value(names.get(dtype, dtype.upper())))
    except ValueError as error:
        raise _NotAlone(f"an input is of type {dtype}, which no values can be made for") from error


def executed_alone(executed: Graph, node: Node, input_shapes: Sequence[tuple[int, ...]], seed: int = 0) -> bytes | str:
    """The model of one node of the executed graph, its inputs of the shapes that the kernel had.

    Weights are drawn by the seed: how long a convolution or a rearrangement takes does not depend on their values.
    """
    present = [name for name in node.inputs if name]
    if len(present) != len(input_shapes):
        return "the shapes of its inputs were not recorded"
    rng = np.random.default_rng(seed)
    inputs, weights = [], []
    for name, shape in zip(present, input_shapes, strict=True):
        tensor = executed.tensors.get(name)
        dtype = tensor.dtype if tensor is not None else None
        if dtype != "float32" and not (dtype is None and node.domain == NCHWC_DOMAIN):
            return f"its input {name} is of type {dtype or 'unknown'}: only float32 can take any value"
        if tensor is not None and tensor.is_constant:
            values = (WEIGHT_SCALE * rng.standard_normal(shape)).astype(np.float32)
            weights.append(numpy_helper.from_array(values, name))
        else:
            inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    proto = helper.make_node(node.type, node.inputs, node.outputs, name="cut", domain=node.domain, **node.attributes)
    outputs = [onnx.ValueInfoProto(name=name) for name in node.outputs if name]  # the runtime infers their types
    opsets = [helper.make_opsetid(domain, version) for domain, version in executed.opsets.items()]
    graph = helper.make_graph([proto], "cut", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=opsets, producer_name="edgeprof")
    model.ir_version = IR_VERSION
    return bytes(model.SerializeToString())


# Read by every ONNX Runtime since 1.13.
IR_VERSION = 8


def empty_onnx() -> bytes:
    """A model that does next to nothing: it copies one float. What is left is calling the runtime."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1,)) for name in ("input", "output")]
    graph = helper.make_graph([helper.make_node("Identity", ["input"], ["output"])], "empty", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="edgeprof")
    model.ir_version = IR_VERSION
    return bytes(model.SerializeToString())
