"""Facts about .tflite files: element types, and a check that a file is whole before native code is given it.

tflite-runtime 2.14 and LiteRT's C API follow a truncated file's offsets out of bounds and crash; this walk over the
tables they read (tensorflow/lite/schema/schema.fbs) finds such files first. It is not a full verifier.
"""

import mmap
import struct
from typing import Iterator, Optional

from device_agents.runtimes import RuntimeRefusal

IDENTIFIER = b"TFL3"
# TfLiteType in tensorflow/lite/core/c/c_api_types.h; LiteRT numbers its element types alike.
ELEMENT_TYPES = {
    1: "float32",
    2: "int32",
    3: "uint8",
    4: "int64",
    5: "string",
    6: "bool",
    7: "int16",
    9: "int8",
    10: "float16",
    11: "float64",
    13: "uint64",
    16: "uint32",
    17: "uint16",
}
# Positions of fields in schema.fbs.
MODEL_CODES, MODEL_SUBGRAPHS, MODEL_BUFFERS = 1, 2, 4
SUBGRAPH_TENSORS, SUBGRAPH_INPUTS, SUBGRAPH_OUTPUTS, SUBGRAPH_OPERATORS = 0, 1, 2, 3
TENSOR_SHAPE, TENSOR_NAME, TENSOR_QUANTIZATION = 0, 3, 4
OPERATOR_INPUTS, OPERATOR_OUTPUTS, OPERATOR_OPTIONS, OPERATOR_CUSTOM = 1, 2, 4, 5
BUFFER_DATA, BUFFER_OFFSET, BUFFER_SIZE = 0, 1, 2
CODE_CUSTOM = 1


def require_whole(path: str, name: str) -> None:
    """Refuse a file that is no TFLite model, or not all of one.

    Raises:
        RuntimeRefusal: model-invalid.
    """
    with open(path, "rb") as file:
        head = file.read(8)
        if head[4:8] != IDENTIFIER:
            raise RuntimeRefusal(
                "model-invalid", f"{name} is not a TFLite model: the identifier TFL3 is missing", "convert it again"
            )
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            try:
                _walk_model(_Table(content, _u32(content, 0)))
            except (struct.error, IndexError, ValueError) as error:
                raise RuntimeRefusal(
                    "model-invalid",
                    f"{name} is damaged or incomplete ({len(content)} bytes): {error}",
                    "copy or convert it again",
                ) from error


def _u32(content: mmap.mmap, at: int) -> int:
    return int(struct.unpack_from("<I", content, at)[0])


def _require_room(content: mmap.mmap, start: int, n: int) -> None:
    if start < 0 or start + n > len(content):
        raise ValueError(f"it refers to bytes {start} to {start + n}")


class _Table:
    """A flatbuffer table: a signed distance back to its vtable, then the fields."""

    def __init__(self, content: mmap.mmap, at: int) -> None:
        _require_room(content, at, 4)
        self._content = content
        self._at = at
        self._vtable = at - int(struct.unpack_from("<i", content, at)[0])
        _require_room(content, self._vtable, 4)
        self._vtable_bytes, table_bytes = struct.unpack_from("<HH", content, self._vtable)
        _require_room(content, self._vtable, self._vtable_bytes)
        _require_room(content, at, table_bytes)

    def _field(self, number: int) -> Optional[int]:
        slot = 4 + 2 * number
        if slot + 2 > self._vtable_bytes:
            return None
        offset = int(struct.unpack_from("<H", self._content, self._vtable + slot)[0])
        return self._at + offset if offset else None

    def u64(self, number: int) -> int:
        at = self._field(number)
        return 0 if at is None else int(struct.unpack_from("<Q", self._content, at)[0])

    def vector(self, number: int, item_bytes: int) -> range:
        """Where the items are; empty if the field is not there."""
        at = self._field(number)
        if at is None:
            return range(0)
        start = at + _u32(self._content, at) + 4
        n = _u32(self._content, start - 4)
        _require_room(self._content, start, n * item_bytes)
        return range(start, start + n * item_bytes, item_bytes)

    def tables(self, number: int) -> "Iterator[_Table]":
        for item in self.vector(number, 4):
            yield _Table(self._content, item + _u32(self._content, item))

    def child(self, number: int) -> "Optional[_Table]":
        at = self._field(number)
        return None if at is None else _Table(self._content, at + _u32(self._content, at))

    def require_range(self, start: int, n: int) -> None:
        _require_room(self._content, start, n)


def _walk_model(model: _Table) -> None:
    for code in model.tables(MODEL_CODES):
        code.vector(CODE_CUSTOM, 1)
    for buffer in model.tables(MODEL_BUFFERS):
        buffer.vector(BUFFER_DATA, 1)
        # Models beyond 2 GB keep data after the flatbuffer; 0 and 1 mean that there is none.
        if buffer.u64(BUFFER_OFFSET) > 1:
            buffer.require_range(buffer.u64(BUFFER_OFFSET), buffer.u64(BUFFER_SIZE))
    n_subgraphs = 0
    for subgraph in model.tables(MODEL_SUBGRAPHS):
        n_subgraphs += 1
        _walk_subgraph(subgraph)
    if n_subgraphs == 0:
        raise ValueError("it has no graph")


def _walk_subgraph(subgraph: _Table) -> None:
    subgraph.vector(SUBGRAPH_INPUTS, 4)
    subgraph.vector(SUBGRAPH_OUTPUTS, 4)
    for tensor in subgraph.tables(SUBGRAPH_TENSORS):
        tensor.vector(TENSOR_SHAPE, 4)
        tensor.vector(TENSOR_NAME, 1)
        quantization = tensor.child(TENSOR_QUANTIZATION)
        if quantization is not None:
            for number, item_bytes in ((0, 4), (1, 4), (2, 4), (3, 8)):  # min, max, scale, zero_point
                quantization.vector(number, item_bytes)
    for operator in subgraph.tables(SUBGRAPH_OPERATORS):
        operator.vector(OPERATOR_INPUTS, 4)
        operator.vector(OPERATOR_OUTPUTS, 4)
        operator.vector(OPERATOR_CUSTOM, 1)
        operator.child(OPERATOR_OPTIONS)
