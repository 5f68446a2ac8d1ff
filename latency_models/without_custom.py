"""An ONNX model without its custom operators, so that a runtime that lacks them can be asked about all the rest."""

from __future__ import annotations

import onnx
from onnx import TypeProto, ValueInfoProto

from latency_models.graph import STANDARD_DOMAINS, Graph
from latency_models.onnx_graph import element_type

__all__ = ["without_custom"]

# "ai.onnx" is the long name of "".
KNOWN = STANDARD_DOMAINS | {"ai.onnx"}


def without_custom(model: bytes, graph: Graph) -> bytes:
    """The model in which what custom operators make comes from outside, and what they read goes there.

    Args:
        model: an ONNX file without weights in other files; custom operators in bodies of control flow stay.
        graph: the same, as it was read.
    """
    proto = onnx.load_model_from_string(model)
    main = proto.graph
    gone = [node for node in main.node if node.domain not in KNOWN]
    kept = [node for node in main.node if node.domain in KNOWN]
    made_before = {name for node in gone for name in node.output if name}
    made = {name for node in kept for name in node.output if name}
    outputs = [value for value in main.output if value.name not in made_before]
    known = {value.name for value in outputs}
    read = dict.fromkeys(name for node in gone for name in node.input if name in made and name not in known)
    del main.node[:], main.output[:]
    main.node.extend(kept)
    main.output.extend([*outputs, *(_value(graph, name) for name in read)])
    main.input.extend(_value(graph, name) for name in sorted(made_before))
    opsets = [one for one in proto.opset_import if one.domain in KNOWN]
    del proto.opset_import[:]
    proto.opset_import.extend(opsets)
    return bytes(proto.SerializeToString())


def _value(graph: Graph, name: str) -> ValueInfoProto:
    """float32 where no type is known, and without a shape where that is not."""
    tensor = graph.tensors.get(name)
    found = ValueInfoProto(name=name, type=TypeProto())
    found.type.tensor_type.elem_type = element_type((tensor.dtype if tensor is not None else None) or "float32")
    if tensor is not None and tensor.shape is not None:
        for size in tensor.shape:
            dim = found.type.tensor_type.shape.dim.add()
            if size is not None:
                dim.dim_value = size
    return found
