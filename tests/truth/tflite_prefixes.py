"""Which node of a TFLite file each event of XNNPACK belongs to, found out by cutting the model short.

The model is run again and again, each time with one node more. The events that are new in a run are those of the node
that came in. Names of operators and the order of nodes in the file play no part in it. Where one node's event takes the
place of another's (a Pad that the following convolution swallows) it is the newcomer's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from device_agents import inputs, wire
from device_agents.machine import Machine
from device_agents.runtimes import RuntimeRefusal, open_session
from edgeprof.run import Operator

# Without data of their own: they can't be outputs.
STATE = (schema.TensorType.RESOURCE, schema.TensorType.VARIANT)


@dataclass(frozen=True)
class Truth:
    """`owners[i]` is the index of the node that delegated kernel i ran; None where this does not tell.

    `kernels` are those of the whole model, with the ones that TFLite timed itself under their index.
    """

    kernels: tuple[wire.Kernel, ...]
    owners: tuple[int | None, ...]

    def right_and_wrong(self, operators: Sequence[Operator]) -> tuple[int, int]:
        """How many delegated kernels have their owner in their group, and how many have not."""
        delegated = [o for k, o in zip(self.kernels, operators, strict=True) if k.level == "delegate"]
        fits = [
            any(name.rpartition("_")[2] == str(owner) for name in operator.nodes)
            for owner, operator in zip(self.owners, delegated, strict=True)
            if owner is not None
        ]
        return sum(fits), len(fits) - sum(fits)


def find(path: Path, folder: Path) -> Truth:
    """Run every beginning of the model on LiteRT with XNNPACK."""
    model = _load(path.read_bytes())
    n_nodes = len(model.subgraphs[0].operators)
    is_stateful = any(tensor.type in STATE for tensor in model.subgraphs[0].tensors)
    names: list[str] = []
    owners: list[int | None] = []
    kernels: tuple[wire.Kernel, ...] = ()
    is_told = True
    for n in range(1, n_nodes + 1):
        beginning = folder / "beginning.tflite"
        beginning.write_bytes(_cut(path.read_bytes(), n))
        recorded = _record(beginning)
        if recorded is None:
            is_told = is_told and _is_constant(model, n - 1)
            continue
        new = [kernel.type for kernel in recorded if kernel.level == "delegate"]
        owners = _owners(names, owners, new, n - 1 if is_told else None)
        names, kernels, is_told = new, recorded, True
    if is_stateful:
        # Reading a variable and joining what was read look alike, and one may replace the other.
        owners = [None if name.startswith("Copy") else owner for name, owner in zip(names, owners, strict=True)]
    return Truth(kernels, tuple(owners))


def _owners(old: list[str], owners: list[int | None], new: list[str], node: int | None) -> list[int | None]:
    found: list[int | None] = [node] * len(new)
    for block in SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks():
        found[block.b : block.b + block.size] = owners[block.a : block.a + block.size]
    return found


def _record(path: Path) -> tuple[wire.Kernel, ...] | None:
    """The kernels of one run; None where it does not run, as a beginning that has only constants."""
    try:
        session = open_session(
            wire.Job(wire.ModelRef(path.name, "tflite", "", ()), "litert"), str(path), Machine(), True
        )
    except RuntimeRefusal:
        return None
    try:
        session.set_inputs(inputs.make(session.inputs, 0))
        session.run()
        session.begin_recording()
        session.run()
        session.after_run()
        return session.end_recording().kernels
    except RuntimeRefusal:
        return None
    finally:
        session.close()


def _is_constant(model: schema.ModelT, index: int) -> bool:
    """Whether a node only unpacks weights, which happens before the first run."""
    code = model.operatorCodes[model.subgraphs[0].operators[index].opcodeIndex]
    kinds = (schema.BuiltinOperator.DEQUANTIZE, schema.BuiltinOperator.DENSIFY)
    return max(code.builtinCode, code.deprecatedBuiltinCode) in kinds


# --- cutting -------------------------------------------------------------------------------------------------------


def _load(data: bytes) -> schema.ModelT:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(data, 0))


def _cut(data: bytes, n: int) -> bytes:
    """The model with its first n nodes; what later nodes would read are its outputs now."""
    model = _load(data)
    graph = model.subgraphs[0]
    needed = set(np.asarray(graph.outputs).tolist())
    needed.update(int(tensor) for node in graph.operators[n:] for tensor in node.inputs)
    made = (int(tensor) for node in graph.operators[:n] for tensor in node.outputs)
    graph.outputs = [tensor for tensor in made if tensor in needed and graph.tensors[tensor].type not in STATE]
    graph.operators = graph.operators[:n]
    model.signatureDefs = model.metadata = None
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
