"""The graph that ONNX Runtime really executed: read it, find its nodes under the names of kernels, know its habits.

How ONNX Runtime names what it rewrites was observed with 1.32; the source files that do it are named below.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from device_agents.wire import Kernel
from latency_models import onnx_graph
from latency_models.graph import Graph
from latency_models.graph import Operator as Node

__all__ = [
    "NCHWC_DOMAIN",
    "is_inserted",
    "is_layout",
    "kernels_to_nodes",
    "layout_name",
    "original_names",
    "read_executed",
    "tensor_names",
]

NCHWC_DOMAIN = "com.microsoft.nchwc"
MAX_GRAPH_BYTES = 256 * 1024 * 1024
# Graph::GenerateNodeName and GenerateNodeArgName make a name unique so (onnxruntime/core/graph/graph.cc).
UNIQUE = re.compile(r"_token_\d+$")
# Many fusions name the new node after a node that they replace, as in "Mul_5/QuickGeluFusion/".
FUSION = re.compile(r"^(.+)/\w*Fusion/?$")
REARRANGING = ("Transpose", "Squeeze", "Unsqueeze", "Reshape")


def read_executed(text: str | None) -> Graph:
    """The executed graph as the agent sent it: ONNX without weights, compressed, base64.

    Raises:
        ValueError: it is missing or cannot be read.
    """
    if text is None:
        raise ValueError("the runtime did not hand back the graph it executed")
    try:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(base64.b64decode(text, validate=True), MAX_GRAPH_BYTES)
        model = onnx_graph.parse(data, "the executed graph")
    except (ValueError, zlib.error) as error:
        raise ValueError(f"the graph that the runtime executed cannot be read ({error})") from error
    return onnx_graph.of_model(model, "executed", infer=False)


# --- names ---------------------------------------------------------------------------------------------------------


def is_layout(node: Node) -> bool:
    """Nodes that only rearrange data for the runtime's own sake (nchwc_transformer.cc, Memcpy between devices)."""
    return node.type in ("ReorderInput", "ReorderOutput", "MemcpyFromHost", "MemcpyToHost")


def is_inserted(node: Node) -> bool:
    """Nodes that rearrange data, or give it another type, and bear a name that the runtime made.

    transpose_optimizer.cc, matmul_add_fusion.cc and gather_fusion.cc insert such nodes around what they rewrite, and
    insert_cast_transformer.cc around what has no kernel for float16; a node of the file may bear such a name too.
    """
    name = UNIQUE.sub("", node.local(node.name))
    if node.type == "Cast":
        return name.startswith("InsertedPrecisionFreeCast_")
    made = (node.type, f"{node.type}_transpose", "gemm_input_reshape", "gemm_output_reshape")
    return node.type in REARRANGING and name in made


def layout_name(name: str) -> str:
    """What was called so before the NCHWc rewriter: it appends a suffix to the name of the original output."""
    for layout in ("_nchwc", "_nhwc"):
        if name.endswith(layout):
            return name.removesuffix(layout)
    return name


def original_names(name: str) -> Iterator[tuple[str, bool]]:
    """What a rewritten node may have been called, and whether it is that node itself in another form.

    BatchNormalization and Mul that became a depthwise convolution have one more suffix (nchwc_transformer.cc).
    """
    yield name, False
    # A dequantisation is repeated for each of its readers (ensure_unique_dq_for_node_unit.cc).
    unique = UNIQUE.sub("", name).removesuffix("/duplicated")
    if unique != name:
        yield unique, False
    plain = layout_name(name)
    if plain != name:
        yield plain, False
        for rewritten in ("_bn", "_mul"):
            if plain.endswith(rewritten):
                yield plain.removesuffix(rewritten), True
    fusion = FUSION.match(name)
    if fusion:
        yield fusion.group(1), False


def tensor_names(name: str) -> Iterator[str]:
    """What a tensor of the executed graph may be called in the file."""
    yield name
    plain = UNIQUE.sub("", name)
    if plain != name:
        yield plain


# --- kernels -------------------------------------------------------------------------------------------------------


def kernels_to_nodes(executed: Graph, kernels: Sequence[Kernel]) -> dict[int, int]:
    """For the index of each kernel the number of the executed graph's operator that it is; ambiguous ones are left out.

    Bodies may repeat names: the file is written in the order in which the runtime executes. The names of nodes that
    came out of a function are made anew in every session, as their type and a number: they are told by type and order.
    """
    by_name: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, node in enumerate(executed.operators):
        if node.type != "Constant" and not node.name_is_invented:
            by_name[node.local(node.name), node.type].append(number)
    found: dict[int, int] = {}
    waiting: dict[str, list[int]] = defaultdict(list)
    same_name = Counter((kernel.name, kernel.type) for kernel in kernels)
    for index, kernel in enumerate(kernels):
        nodes = by_name.get((kernel.name, kernel.type), [])
        if nodes and len(nodes) == same_name[kernel.name, kernel.type]:
            found[index] = nodes.pop(0)
            same_name[kernel.name, kernel.type] -= 1
        elif not kernel.name or _is_made_name(kernel.name, kernel.type):
            waiting[kernel.type].append(index)
    taken = set(found.values())
    for kind, indices in waiting.items():
        left = [
            number
            for number, node in enumerate(executed.operators)
            if node.type == kind and number not in taken
            and (node.name_is_invented or _is_made_name(node.local(node.name), kind))
        ]  # fmt: skip
        if len(indices) == len(left):
            found.update(zip(indices, left, strict=True))
    return found


def _is_made_name(name: str, kind: str) -> bool:
    return re.fullmatch(re.escape(kind) + r"_?\d*(_token_\d+)?", name) is not None
