"""A TFLite file as objects that can be changed (LiteRT's generated schema), and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["add_signature", "read", "write"]

FIRST_BUILDER_BYTES = 1 << 20
SIGNATURE = b"serving_default"


def read(path: str) -> Any:
    """A `ModelT`."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(Path(path).read_bytes(), 0))


def write(model: Any, path: str) -> None:
    """The whole file."""
    import flatbuffers

    builder = flatbuffers.Builder(FIRST_BUILDER_BYTES)
    builder.Finish(model.Pack(builder), b"TFL3")
    Path(path).write_bytes(bytes(builder.Output()))


def add_signature(model: Any) -> bool:
    """Name the first subgraph's inputs and outputs, where the file has no signature; whether that was needed.

    LiteRT's quantizer calibrates by signature, and older exporters wrote none.
    """
    from ai_edge_litert import schema_py_generated as schema

    if model.signatureDefs:
        return False
    graph = model.subgraphs[0]

    def named(index: int) -> Any:
        entry = schema.TensorMapT()
        entry.name = graph.tensors[index].name
        entry.tensorIndex = index
        return entry

    signature = schema.SignatureDefT()
    signature.signatureKey = SIGNATURE
    signature.subgraphIndex = 0
    signature.inputs = [named(index) for index in graph.inputs]
    signature.outputs = [named(index) for index in graph.outputs]
    model.signatureDefs = [signature]
    return True
