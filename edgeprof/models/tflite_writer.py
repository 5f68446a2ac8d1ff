"""Take a TFLite file apart into tables that can be changed, and write such tables as a TFLite file.

The `tflite` package has the schema's readers and the functions that write one field each, but nothing that holds a
table in between. `Table` is that, for every table of the schema: which fields there are, and of what kind, is read off
the package's own classes, so that a newer package brings the newer schema with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import flatbuffers
import numpy as np
import tflite
from flatbuffers.table import Table as RawTable
from numpy.typing import NDArray

from edgeprof.errors import ModelError

__all__ = ["Table", "read_tables", "write_tflite"]

IDENTIFIER = b"TFL3"
# Offsets in a flatbuffer are 32 bits wide and the runtimes read them as signed.
MAX_BYTES = 2**31 - 1
# `Buffer.data` has force_align: 16 in the schema (tensorflow/compiler/mlir/lite/schema/schema.fbs).
DATA_ALIGNMENT = 16
# Nothing in the schema is nested deeper than this; a damaged file may point in circles.
MAX_DEPTH = 32
# The unions, by table and field, with the enumeration that names the table. `Unknown` ones are left out by the readers.
UNIONS = {
    ("Operator", "BuiltinOptions"): "BuiltinOptions",
    ("Operator", "BuiltinOptions2"): "BuiltinOptions2",
    ("QuantizationParameters", "Details"): "QuantizationDetails",
    ("DimensionMetadata", "ArraySegments"): "SparseIndexVector",
    ("DimensionMetadata", "ArrayIndices"): "SparseIndexVector",
}

Value = Any


@dataclass
class Table:
    """A table of the schema: its name there and its fields, under the names that the `tflite` package gives them.

    A field is a number, text or other bytes, an array of numbers, a `Table`, or a list of `Table` or bytes. What the
    file does not have is not in `fields`.
    """

    kind: str
    fields: dict[str, Value] = field(default_factory=dict)

    def tables(self, name: str) -> list[Table]:
        """A list of tables, which may be changed; empty where there is none."""
        found: list[Table] = self.fields.setdefault(name, [])
        return found

    def indices(self, name: str) -> list[int]:
        """A list of numbers; empty where there is none."""
        return [int(value) for value in self.fields.get(name, ())]


def read_tables(data: bytes, name: str = "the model") -> Table:
    """The table `Model` of a TFLite file, with all that is below it.

    Raises:
        ModelError: it is damaged, has fields of a newer schema, or keeps data behind its tables (above 2 GB).
    """
    if data[4:8] != IDENTIFIER:
        raise ModelError(f"{name} is not a TFLite model", "name a .tflite file")
    try:
        model = _read(tflite.Model.GetRootAs(data, 0), "Model", name, 0)
    except ModelError:
        raise
    except Exception as error:  # offsets that lead outside end in whatever error the access makes
        raise ModelError(f"{name} is damaged: {error}", "copy or export it again") from error
    outside = [buffer for buffer in model.tables("Buffers") if buffer.fields.get("Offset", 0) > 1]
    operators = [operator for graph in model.tables("Subgraphs") for operator in graph.tables("Operators")]
    if outside or any(operator.fields.get("LargeCustomOptionsOffset", 0) > 1 for operator in operators):
        raise ModelError(f"{name} keeps data behind its tables, as files above 2 GB do: it cannot be taken apart")
    return model


def write_tflite(model: Table) -> bytes:
    """The file of a model.

    Raises:
        ModelError: it would take more than 2 GB, which the format does not allow.
    """
    size_bytes = sum(np.asarray(buffer.fields.get("Data", ())).nbytes for buffer in model.tables("Buffers"))
    if size_bytes > MAX_BYTES - (1 << 20):
        raise ModelError(f"the model's weights take {size_bytes} bytes; a TFLite file holds less than 2 GB")
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(_write(builder, model), IDENTIFIER)
    return bytes(builder.Output())


# --- what a table has, by the package's classes ------------------------------------------------------------------


@dataclass(frozen=True)
class _Schema:
    """The fields of one kind of table: which are lists, and the functions that write them, by name.

    `n_slots` is how many places a table has; those of fields that were given up stay empty.
    """

    reader: Any
    n_slots: int
    lists: frozenset[str]
    adders: Mapping[str, Any]
    starters: Mapping[str, Any]
    start: Any
    end: Any


@cache
def _schema(kind: str) -> _Schema:
    module = vars(tflite)
    prefix = f"{kind}Add"
    adders = {name.removeprefix(prefix): made for name, made in module.items() if re.match(f"{prefix}[A-Z]", name)}
    reader = module[kind]
    lists = frozenset(name for name in adders if hasattr(reader, f"{name}Length"))
    starters = {name: module[f"{kind}Start{name}Vector"] for name in lists}
    n_slots = 1 + max((_slot(adder) for adder in adders.values()), default=-1)
    return _Schema(reader, n_slots, lists, adders, starters, module[f"{kind}Start"], module[f"{kind}End"])


class _SlotProbe:
    """In the place of a builder: all that a function which adds a field does with it is to name the field's slot."""

    slot = 0

    def __getattr__(self, _: str) -> Any:
        def note(slot: int, *_: object) -> None:
            self.slot = slot

        return note


def _slot(adder: Any) -> int:
    probe = _SlotProbe()
    adder(probe, 0)
    return probe.slot


@cache
def _union_classes(enumeration: str) -> dict[int, str]:
    return {code: name for name, code in vars(getattr(tflite, enumeration)).items() if isinstance(code, int)}


# --- reading -----------------------------------------------------------------------------------------------------


def _read(reader: Any, kind: str, where: str, depth: int) -> Table:
    if depth > MAX_DEPTH:
        raise ModelError(f"{where} is damaged: its tables are nested without end", "copy or export it again")
    schema = _schema(kind)
    table = Table(kind)
    _require_known(reader, kind, schema.n_slots, where)
    for name in schema.adders:
        value = (
            _read_list(reader, name, where, depth)
            if name in schema.lists
            else _read_single(reader, kind, name, where, depth)
        )
        if value is not None:
            table.fields[name] = value
    return table


def _require_known(reader: Any, kind: str, n_known: int, where: str) -> None:
    """A field that this package does not know would be lost without a word."""
    raw = reader._tab
    vtable = raw.Pos - raw.Get(flatbuffers.number_types.SOffsetTFlags, raw.Pos)
    n_slots = raw.Get(flatbuffers.number_types.VOffsetTFlags, vtable) // 2 - 2
    if any(raw.Offset(4 + 2 * slot) for slot in range(n_known, n_slots)):
        raise ModelError(
            f"{where}: a {kind} has fields of a newer schema than this edgeprof's", "pip install --upgrade tflite"
        )


def _read_list(reader: Any, name: str, where: str, depth: int) -> Value | None:
    if getattr(reader, f"{name}IsNone")():
        return None
    length = getattr(reader, f"{name}Length")()
    if length > len(reader._tab.Bytes):
        raise ModelError(f"{where} is damaged: a list of {length} entries", "copy or export it again")
    as_array = getattr(reader, f"{name}AsNumpy", None)
    if as_array is not None:
        return as_array()
    found = [getattr(reader, name)(i) for i in range(length)]
    return [one if isinstance(one, bytes) else _read(one, type(one).__name__, where, depth + 1) for one in found]


def _read_single(reader: Any, kind: str, name: str, where: str, depth: int) -> Value | None:
    value = getattr(reader, name)()
    if value is None or isinstance(value, (int, float, bytes)):
        return value
    if not isinstance(value, RawTable):
        return _read(value, type(value).__name__, where, depth + 1)
    code = getattr(reader, f"{name}Type")()
    inner = _union_classes(UNIONS[kind, name]).get(code)
    if inner is None:
        raise ModelError(f"{where}: {name} number {code} is of a newer schema", "pip install --upgrade tflite")
    member = getattr(tflite, inner)()
    member.Init(value.Bytes, value.Pos)
    return _read(member, inner, where, depth + 1)


# --- writing -----------------------------------------------------------------------------------------------------


def _write(builder: Any, table: Table) -> int:
    schema = _schema(table.kind)
    ready = {name: _write_value(builder, schema, table.kind, name, value) for name, value in table.fields.items()}
    schema.start(builder)
    for name, value in ready.items():
        schema.adders[name](builder, value)
    return int(schema.end(builder))


def _write_value(builder: Any, schema: _Schema, kind: str, name: str, value: Value) -> Value:
    """The number itself, or where what is larger has been written."""
    if isinstance(value, Table):
        return _write(builder, value)
    if name not in schema.lists:
        return builder.CreateString(value) if isinstance(value, bytes) else value
    if isinstance(value, list) and value and isinstance(value[0], (Table, bytes)):
        offsets = [_write(builder, one) if isinstance(one, Table) else builder.CreateString(one) for one in value]
        schema.starters[name](builder, len(offsets))
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()
    return _write_numbers(builder, schema, kind, name, value)


def _write_numbers(builder: Any, schema: _Schema, kind: str, name: str, value: Value) -> int:
    reader = schema.reader
    numbers: NDArray[Any] = np.asarray(value)
    if not isinstance(value, np.ndarray):
        numbers = numbers.astype(_element_type(reader, name))
    data = numbers.tobytes()
    aligned = DATA_ALIGNMENT if (kind, name) == ("Buffer", "Data") else numbers.itemsize
    builder.StartVector(numbers.itemsize, numbers.size, aligned)
    builder.head = builder.Head() - len(data)
    builder.Bytes[builder.Head() : builder.Head() + len(data)] = data
    return int(builder.EndVector())


def _element_type(reader: Any, name: str) -> str:
    """Lists made here are of tensor and subgraph numbers or of sizes, 32 bits each, or of bytes."""
    is_bytes = (reader.__name__, name) in (("Buffer", "Data"), ("Operator", "CustomOptions"))
    return "uint8" if is_bytes else "int32"
