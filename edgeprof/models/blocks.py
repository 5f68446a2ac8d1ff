"""The block of the network that each node belongs to: by the exporter's names, or else by the structure of the graph.

docs/measuring.md ("Groups of operators") tells the rules. All of it takes time linear in the size of the graph.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgeprof.models.layers import common_layer, source_layers
from edgeprof.run import Operator
from latency_models.graph import Graph
from latency_models.graph import Operator as Node

__all__ = ["TOP", "blocks", "with_groups"]

# The block of nodes outside every named module.
TOP = "(top)"
LEAST_NAMED = 0.8
KERAS_BLOCK = re.compile(r"(.*?block_?\d+[a-z]?)(?:_|$)")
HEAVY = re.compile("conv|gemm|matmul|fully_connected|lstm|gru|rnn|attention", re.IGNORECASE)
POOL = re.compile("pool", re.IGNORECASE)
FOLLOWERS = re.compile("relu|clip|sigmoid|tanh|swish|gelu|elu|normalization|quantize|dropout", re.IGNORECASE)


def with_groups(operators: Sequence[Operator], graph: Graph) -> tuple[Operator, ...]:
    """The operators with the block and the layer of their nodes; those without nodes stay as they are."""
    if not operators:
        return ()
    layer_of = source_layers(graph)
    block_of = blocks(graph, layer_of)
    return tuple(
        replace(
            operator,
            block=" + ".join(dict.fromkeys(block_of[name] for name in operator.nodes if name in block_of)) or None,
            layer=common_layer(layer_of[name] for name in operator.nodes if name in layer_of),
        )
        for operator in operators
    )


def blocks(graph: Graph, layers: Mapping[str, str] | None = None) -> dict[str, str]:
    """The block of every node, by the node's name."""
    named = _by_name(graph, source_layers(graph) if layers is None else layers)
    return _by_structure(graph) if named is None else named


# --- by name -------------------------------------------------------------------------------------------------------


def _by_name(graph: Graph, layers: Mapping[str, str]) -> dict[str, str] | None:
    """None where the names do not cut the network into a sensible number of parts."""
    told = [node for node in graph.operators if not node.is_folded]
    if not told or sum(node.name in layers for node in told) < LEAST_NAMED * len(told):
        return None
    named = {node.name: _prefix(layers[node.name]) if node.name in layers else TOP for node in graph.operators}
    n_blocks = len({named[node.name] for node in told} - {TOP})
    return named if 2 <= n_blocks < len(told) / 2 else None


def _prefix(layer: str) -> str:
    if "/" in layer:
        match = KERAS_BLOCK.match(layer)
        return match[1] if match else layer
    parts = layer.split(".")
    number = next((k for k, part in enumerate(parts) if part.isdigit()), 0)
    return ".".join(parts[: number + 1])


# --- by structure --------------------------------------------------------------------------------------------------


def _by_structure(graph: Graph) -> dict[str, str]:
    owners, reads = _owners(graph)
    constant = {name for name, tensor in graph.tensors.items() if tensor.is_constant}
    flowing: list[Node] = []
    for node in graph.operators:
        if node.subgraph:
            continue
        if node.is_folded or all(name in constant for name in reads[node.name]):
            constant.update(node.outputs)
        else:
            flowing.append(node)
    found: dict[str, str] = {}
    for number, block in enumerate(_merged(_segments(flowing, reads, constant, set(graph.inputs)))):
        ends = block[0].type if len(block) == 1 else f"{block[0].type} ... {block[-1].type}"
        found.update((node.name, f"block {number} ({ends})") for node in block)
    _adopt_constant_nodes(graph, reads, found)
    return {node.name: found[owners[node.name]] for node in graph.operators}


def _owners(graph: Graph) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The node of the main graph that each node runs in (bodies follow their owner), and what each of those reads."""
    owners: dict[str, str] = {}
    reads: dict[str, list[str]] = {}
    main = ""
    for node in graph.operators:
        if not node.subgraph or not main:
            main = node.name
        owners[node.name] = main
        reads.setdefault(main, []).extend(name for name in node.inputs if name)
    return owners, reads


def _segments(
    flowing: Sequence[Node], reads: Mapping[str, Sequence[str]], constant: set[str], inputs: set[str]
) -> list[list[Node]]:
    """The nodes between places that at most one tensor passes."""
    places: dict[str, list[int]] = {}
    for place, node in enumerate(flowing):
        for name in dict.fromkeys(reads[node.name]):
            if name not in constant:
                places.setdefault(name, []).append(place)
    segments: list[list[Node]] = [[]]
    live: set[str] = set()
    for place, node in enumerate(flowing):
        segments[-1].append(node)
        read = [name for name in reads[node.name] if name in places]
        live.update(name for name in read if name in inputs and places[name][-1] > place)
        live.update(name for name in node.outputs if name in places and places[name][-1] > place)
        live.difference_update([name for name in read if places[name][-1] <= place])
        if len(live) <= 1:
            segments.append([])
    return [segment for segment in segments if segment]


def _merged(segments: Sequence[Sequence[Node]]) -> list[list[Node]]:
    """Blocks of segments: branched ones with what follows them, and the rows of nodes between them."""
    merged: list[list[Node]] = []
    is_branched = is_open = False  # of the last block: made of a branched segment; more of a row may join it
    for segment in segments:
        branches = len(segment) > 1 and any(HEAVY.search(node.type) for node in segment)
        follows = is_branched and len(segment) == 1 and FOLLOWERS.search(segment[0].type) is not None
        if merged and not branches and (follows or is_open):
            merged[-1].extend(segment)
        else:
            merged.append(list(segment))
            is_branched = branches
        is_open = not is_branched and not POOL.search(segment[-1].type)
    return merged


def _adopt_constant_nodes(graph: Graph, reads: Mapping[str, Sequence[str]], found: dict[str, str]) -> None:
    """Put nodes that weights alone feed into the block of their first reader, or what nobody reads into the top."""
    readers: dict[str, str] = {}
    main = [node for node in graph.operators if node.name in reads]
    for node in reversed(main):
        if node.name not in found:
            reader = next((readers[name] for name in node.outputs if name in readers), None)
            found[node.name] = found[reader] if reader is not None else TOP
        readers.update(dict.fromkeys(reads[node.name], node.name))
