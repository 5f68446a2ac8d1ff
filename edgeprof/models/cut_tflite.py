"""Cut nodes out of a TFLite file as a small model, with the constants, quantisation and options they had."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tflite

from edgeprof.models.tflite_writer import Table, write_tflite
from latency_models.graph import Operator as Node

__all__ = ["TfliteCutter", "empty_tflite"]

# Written first in every file made here; no runtime reads it.
DESCRIPTION = b"cut out by edgeprof"
CALLING = frozenset(("IF", "WHILE", "CALL", "CALL_ONCE", "STABLEHLO_COMPOSITE", "STABLEHLO_WHILE", "STABLEHLO_SCATTER"))
# More than a permutation or the bounds of a slice take.
MAX_TOLD_BYTES = 64
FOLDED = ("DEQUANTIZE", "DENSIFY")


class TfliteCutter:
    """Cuts groups of nodes out of one model, which stays as it is."""

    def __init__(self, model: Table) -> None:
        self._model = model
        self._main = model.tables("Subgraphs")[0]
        self._operators = self._main.tables("Operators")
        self._tensors = self._main.tables("Tensors")
        self._makers = {t: k for k, op in enumerate(self._operators) for t in op.indices("Outputs")}

    def cut(self, nodes: Sequence[Node]) -> bytes | str:
        """The model of these nodes of the file, or why there is none."""
        inside = [node.name for node in nodes if node.subgraph != 0]
        if inside:
            return f"{inside[0]} lies in a graph that another operator calls: alone it does not run as it does there"
        calling = [node.name for node in nodes if node.type in CALLING]
        if calling:
            return f"{calling[0]} calls another graph of the file, and what that does depends on the data"
        chosen = self._with_constants({node.index for node in nodes})
        operators = [self._operators[k] for k in sorted(chosen)]
        made = [t for op in operators for t in op.indices("Outputs")]
        read = [t for op in operators for t in op.indices("Inputs") if t >= 0]
        inputs = [t for t in dict.fromkeys(read) if t not in set(made) and not self._is_constant(t)]
        inputs = [t for t in inputs if not self._tensors[t].fields.get("IsVariable")]
        outputs = self._outputs(chosen, made)
        handles = [t for t in (*inputs, *outputs) if self._tensors[t].fields.get("Type") in _HANDLES]
        if handles:
            return "it reads or makes a handle of something that another operator keeps"
        if not outputs:
            return "nothing that it makes can be read"
        return write_tflite(self._model_of(operators, inputs, outputs))

    def constants(self, nodes: Sequence[Node]) -> tuple[bytes, ...]:
        """What small constants and custom options tell these nodes to do: permutations, bounds, sizes; no weights."""
        found = []
        for node in nodes:
            if node.subgraph != 0:
                continue
            operator = self._operators[node.index]
            told = [operator.fields["CustomOptions"]] if "CustomOptions" in operator.fields else []
            if not node.macs:
                data = [self._data(t) for t in operator.indices("Inputs") if t >= 0]
                told += [one for one in data if one is not None and len(one) <= MAX_TOLD_BYTES]
            found += [bytes(one) for one in told]
        return tuple(found)

    def _with_constants(self, chosen: set[int]) -> set[int]:
        """With the nodes that make their constants when the model is loaded, and the handles of their variables."""
        waiting, found = list(chosen), set(chosen)
        while waiting:
            for tensor in self._operators[waiting.pop()].indices("Inputs"):
                maker = self._makers.get(tensor)
                if maker is not None and maker not in found and self._belongs(maker):
                    found.add(maker)
                    waiting.append(maker)
        return found

    def _belongs(self, k: int) -> bool:
        kind, inputs = self._kind(k), self._operators[k].indices("Inputs")
        if kind in FOLDED:
            return all(self._is_constant(t) or self._belongs(self._makers.get(t, k)) for t in inputs if t >= 0)
        return kind == "VAR_HANDLE"

    def _kind(self, k: int) -> str:
        code = self._model.tables("OperatorCodes")[self._operators[k].fields.get("OpcodeIndex", 0)].fields
        builtin = max(code.get("BuiltinCode", 0), code.get("DeprecatedBuiltinCode", 0))
        return _BUILTINS.get(int(builtin), "")

    def _data(self, tensor: int) -> Any:
        return self._model.tables("Buffers")[self._tensors[tensor].fields.get("Buffer", 0)].fields.get("Data")

    def is_made_once(self, tensor: int) -> bool:
        """Whether its value is in the file, or made when the model is loaded."""
        maker = self._makers.get(tensor)
        return self._is_constant(tensor) or (maker is not None and self._belongs(maker))

    def _is_constant(self, tensor: int) -> bool:
        data = self._data(tensor)
        return data is not None and len(data) > 0

    def _outputs(self, chosen: set[int], made: Sequence[int]) -> list[int]:
        """What others read of it, or the model gives; if nobody does, all that it makes."""
        others = {t for k, op in enumerate(self._operators) if k not in chosen for t in op.indices("Inputs")}
        others.update(self._main.indices("Outputs"))
        own = {t for k in chosen for t in self._operators[k].indices("Inputs")}
        return [t for t in made if t in others] or [t for t in made if t not in own]

    def _model_of(self, operators: Sequence[Table], inputs: Sequence[int], outputs: Sequence[int]) -> Table:
        used = [t for op in operators for name in ("Inputs", "Outputs", "Intermediates") for t in op.indices(name)]
        tensors = [t for t in dict.fromkeys((*inputs, *used, *outputs)) if t >= 0]
        number = {-1: -1, **{t: k for k, t in enumerate(tensors)}}
        buffers = list(dict.fromkeys((0, *(self._tensors[t].fields.get("Buffer", 0) for t in tensors))))
        codes = list(dict.fromkeys(op.fields.get("OpcodeIndex", 0) for op in operators))
        graph = {
            "Tensors": [self._moved_tensor(t, buffers) for t in tensors],
            "Inputs": [number[t] for t in inputs],
            "Outputs": [number[t] for t in outputs],
            "Operators": [_moved_operator(op, number, codes) for op in operators],
        }
        fields = {
            "Version": self._model.fields.get("Version", 3),
            "OperatorCodes": [self._model.tables("OperatorCodes")[k] for k in codes],
            "Subgraphs": [Table("SubGraph", graph)],
            "Description": DESCRIPTION,
            "Buffers": [self._model.tables("Buffers")[k] for k in buffers],
        }
        return Table("Model", fields)

    def _moved_tensor(self, tensor: int, buffers: Sequence[int]) -> Table:
        old = self._tensors[tensor].fields
        return Table("Tensor", {**old, "Buffer": buffers.index(old.get("Buffer", 0))})


def _moved_operator(operator: Table, number: dict[int, int], codes: Sequence[int]) -> Table:
    fields = {**operator.fields, "OpcodeIndex": codes.index(operator.fields.get("OpcodeIndex", 0))}
    fields.pop("DebugMetadataIndex", None)
    for name in ("Inputs", "Outputs", "Intermediates"):
        if name in fields:
            fields[name] = [number[t] for t in operator.indices(name)]
    return Table("Operator", fields)


def empty_tflite() -> bytes:
    """A model that does next to nothing: it gives one float another shape. What is left is calling the runtime."""
    shapes = ([1], [1, 1])
    tensors = [
        Table("Tensor", {"Shape": shape, "Type": tflite.TensorType.FLOAT32, "Buffer": 0, "Name": name})
        for shape, name in zip(shapes, (b"input", b"output"), strict=True)
    ]
    options = Table("ReshapeOptions", {"NewShape": shapes[1]})
    kind = tflite.BuiltinOptions.ReshapeOptions
    operator = {"Inputs": [0], "Outputs": [1], "BuiltinOptionsType": kind, "BuiltinOptions": options}
    graph = {"Tensors": tensors, "Inputs": [0], "Outputs": [1], "Operators": [Table("Operator", operator)]}
    reshape = tflite.BuiltinOperator.RESHAPE
    code = Table("OperatorCode", {"DeprecatedBuiltinCode": reshape, "BuiltinCode": reshape, "Version": 1})
    fields = {"Version": 3, "OperatorCodes": [code], "Subgraphs": [Table("SubGraph", graph)]}
    return write_tflite(Table("Model", {**fields, "Description": DESCRIPTION, "Buffers": [Table("Buffer")]}))


_HANDLES = (tflite.TensorType.RESOURCE, tflite.TensorType.VARIANT)
_BUILTINS: dict[int, str] = {code: name for name, code in vars(tflite.BuiltinOperator).items() if isinstance(code, int)}
