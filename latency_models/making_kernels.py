"""From a model to the kernels that a target's runtime makes of it: asked where the runtime is here, else as learned."""

from __future__ import annotations

import hashlib
import os
import platform
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from latency_models.estimate import Uncovered
from latency_models.graph import Graph, GraphError, Operator, branch_taken
from latency_models.kernels import NAMES_ALONE, KernelSpec, of_nodes
from latency_models.observations import Target
from latency_models.patterns import Patterns

__all__ = ["UNKNOWN", "KernelMaker", "Kernels", "WrongFormat"]

# The runtime of a target of which nothing was measured.
UNKNOWN = "unknown"

# An operator of which neither the shapes are known nor what its like takes counts for this, and never for nothing.
UNKNOWN_S = 1e-5
# What runtimes run; a simulated one takes both.
FORMATS = {"onnxruntime": "onnx", "litert": "tflite", "tflite": "tflite"}
WORDS = {"onnx": "ONNX", "tflite": "TFLite"}
# What the bodies of a choice are called (onnx's If).
BRANCHES = ("then_branch", "else_branch")
# Models whose kernels are remembered, by the digest of their file.
MOST_REMEMBERED = 64


Nodes = tuple[Operator, ...]


class WrongFormat(GraphError):
    """The model is of a format that the target's runtime does not run."""


@dataclass(frozen=True)
class Kernels:
    """The kernels of a model, with the names of the nodes that each runs; `unknown` has what could not be described."""

    kernels: tuple[KernelSpec, ...]
    nodes: tuple[tuple[str, ...], ...]
    unknown: tuple[Uncovered, ...] = ()
    notes: tuple[str, ...] = ()


class KernelMaker:
    """Makes kernels as one target's runtime does.

    `typical` are the seconds that kernels of a type usually take, and `moving_s` bounds what moving so many bytes
    takes: what there is to say of operators whose shapes are not known.
    """

    def __init__(
        self,
        target: Target,
        patterns: Patterns,
        typical: Mapping[str, float] | None = None,
        moving_s: Callable[[float], float] | None = None,
    ) -> None:
        self._target = target
        self._patterns = patterns
        self._typical = typical or {}
        self._moving_s = moving_s
        self._remembered: dict[object, Kernels] = {}

    def of_model(
        self,
        model: str | os.PathLike[str] | bytes | Graph,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        batch: int | None = None,
    ) -> Kernels:
        """The kernels of a model; see `Predictor.predict`."""
        if isinstance(model, Graph):
            return self.of_graph(model)
        from latency_models.reading import read

        data = model if isinstance(model, bytes) else Path(model).read_bytes()
        key = (hashlib.sha256(data).digest(), repr(sorted((shapes or {}).items())), batch)
        if key not in self._remembered:
            name = "the model" if isinstance(model, bytes) else Path(model).name
            graph = read(data, shapes=shapes, batch=batch, default_dim=1, name=name)
            while len(self._remembered) >= MOST_REMEMBERED:
                self._remembered.pop(next(iter(self._remembered)))
            self._remembered[key] = self.of_graph(graph, data if isinstance(model, bytes) else Path(model))
        return self._remembered[key]

    def of_graph(self, graph: Graph, source: bytes | Path | None = None) -> Kernels:
        """The kernels of a graph, whose file is `source` if there is one to ask the runtime with."""
        self._require_its_format(graph)
        executed, told, missing = self._asked(graph, source)
        if executed is not None:
            nodes, choices = _taken(executed)
            made = self._described(executed, [(node,) for node in nodes], (*graph.notes, *told, *choices))
            return _both(made, self._described(graph, [(node,) for node in missing], ()))
        groups: Sequence[Sequence[Operator]] = self._patterns.groups(_each_time(graph))
        unseen = sorted({node.type for group in groups if not self._patterns.knows(group) for node in group})
        if unseen and self._target.runtime != UNKNOWN:
            alone = "it is taken to run alone" if len(unseen) == 1 else "each is taken to run alone"
            told = (*told, f"which kernels the runtime makes of {', '.join(unseen)} was never seen: {alone}")
        return self._described(graph, groups, (*graph.notes, *told))

    def _require_its_format(self, graph: Graph) -> None:
        """A runtime runs one kind of model: a figure for another kind would be one for something that never runs."""
        wanted = FORMATS.get(self._target.runtime)
        if wanted is not None and graph.format != wanted:
            raise WrongFormat(
                f"{graph.name} is a model of {WORDS[graph.format]}, and {self._target.runtime}, which this predictor "
                f"knows, runs those of {WORDS[wanted]}"
            )

    def _described(self, graph: Graph, groups: Sequence[Sequence[Operator]], notes: tuple[str, ...]) -> Kernels:
        kernels, nodes, unknown = [], [], []
        for group in groups:
            kernel = of_nodes(graph, group)
            names = tuple(node.name for node in group)
            if kernel is not None:
                kernels.append(kernel)
                nodes.append(names)
            else:
                reason = f"{group[0].full_type}: {_why_not_described(graph, group)}"
                latency_s = max(self._bounded_s(graph, node) for node in group)
                unknown.append(Uncovered(operator=", ".join(names), reason=reason, latency_s=latency_s))
        n_empty = sum(any(not one.count for one in kernel.outputs) for kernel in kernels)
        if n_empty:
            told = f"{n_empty} operators come out empty with these sizes of inputs: is a larger shape meant?"
            notes = (*notes, told)
        return Kernels(tuple(kernels), tuple(nodes), tuple(unknown), notes)

    def _bounded_s(self, graph: Graph, node: Operator) -> float:
        """Seconds for a node whose shapes are not all known: of its type, else for its largest input, twice."""
        known = self._typical.get(node.full_type)
        if known is not None:
            return known
        largest = max((graph.tensors[name].size_bytes or 0 for name in node.inputs if name in graph.tensors), default=0)
        if self._moving_s is None or not largest:
            return UNKNOWN_S
        return max(UNKNOWN_S, self._moving_s(2.0 * largest))

    def _asked(self, graph: Graph, source: bytes | Path | None) -> tuple[Graph | None, tuple[str, ...], Nodes]:
        """What the runtime here makes of it, if there is one, what is to be known about that, and nodes it lacks."""
        if not self._can_ask(graph):
            why = self._why_not_asked(graph, source)
            return None, (why,) if why else (), ()
        from latency_models.ask_onnxruntime import version

        told: tuple[str, ...] = ()
        if version() != self._target.runtime_version:
            there = self._target.runtime_version
            told = (f"kernels are as ONNX Runtime {version()} makes them, which is here: the target has {there}",)
        try:
            executed = self._executed(graph, source)
        except GraphError as error:
            custom = tuple(node for node in graph.operators if node.is_custom)
            if not custom or source is None:
                raise
            executed = self._without(graph, source)
            names = ", ".join(sorted({node.full_type for node in custom}))
            how = "the rest is taken apart" + (" as learned in training" if executed is None else "")
            return executed, (*told, f"{error}; {how}, without {names}"), custom
        return executed, told if executed is not None else (), ()

    def _without(self, graph: Graph, source: bytes | Path) -> Graph | None:
        """What the runtime here makes of all but the custom operators; None where it takes not even that."""
        from latency_models.ask_onnxruntime import executed_graph
        from latency_models.without_custom import without_custom

        data = source if isinstance(source, bytes) else source.read_bytes()
        try:
            return executed_graph(without_custom(data, graph), graph, self._target.optimization)
        except GraphError:
            return None

    def _executed(self, graph: Graph, source: bytes | Path | None) -> Graph | None:
        """What the runtime here makes of it; of a graph without a file, of one with weights that are all alike."""
        from latency_models.ask_onnxruntime import executed_graph

        if source is not None:
            return executed_graph(source, graph, self._target.optimization)
        from latency_models.write_onnx import onnx_bytes

        try:
            return executed_graph(onnx_bytes(graph, seed=None), graph, self._target.optimization)
        except GraphError:
            return None  # a graph that was read, and whose constants are not all known: patterns are what is left

    def _can_ask(self, graph: Graph) -> bool:
        """Another version on the same kind of processor makes nearly the same kernels, which is said."""
        from latency_models.ask_onnxruntime import version

        return (
            graph.format == "onnx"
            and self._target.runtime == "onnxruntime"
            and self._target.delegate is None
            and self._target.architecture == platform.machine()
            and version() is not None
        )

    def _why_not_asked(self, graph: Graph, source: bytes | Path | None) -> str:
        if graph.format != "onnx" or self._target.runtime != "onnxruntime" or source is None:
            return ""
        from latency_models.ask_onnxruntime import version

        here = f"{platform.machine()} with ONNX Runtime {version() or '(none)'}"
        there = f"{self._target.architecture} with {self._target.runtime_version}"
        return f"kernels are as learned in training: this machine is {here}, the target {there}"


def _both(one: Kernels, other: Kernels) -> Kernels:
    """The kernels of both, one after the other."""
    return Kernels(
        (*one.kernels, *other.kernels),
        (*one.nodes, *other.nodes),
        (*one.unknown, *other.unknown),
        (*one.notes, *other.notes),
    )


def _each_time(graph: Graph) -> Graph:
    """Without what runs once before the first inference, and what only says which variable is meant."""
    once = tuple(f"{node.name}/" for node in graph.operators if node.type == "CALL_ONCE")
    nodes = [
        node
        for node in graph.operators
        if node.type not in NAMES_ALONE and not (once and f"{node.body}/".startswith(once))
    ]
    return replace(graph, operators=tuple(nodes))


def _why_not_described(graph: Graph, group: Sequence[Operator]) -> str:
    """Why there is no kernel for these nodes, in words."""
    shapes = [graph.shape(name) for node in group for name in (*node.inputs, *node.outputs) if name]
    if any(dim is not None and dim < 0 for shape in shapes for dim in shape or ()):
        return "its output would have a negative size with these sizes of inputs"
    return "a shape that it needs is not known before the model runs"


def _taken(executed: Graph) -> tuple[list[Operator], tuple[str, ...]]:
    """The nodes that run: of each choice (If) the branch that shapes decide on, else the larger one, which is said."""
    work: dict[str, dict[str, float]] = defaultdict(dict)
    decided = {node.name: branch_taken(node, executed.tensors) for node in executed.operators if node.type == "If"}
    for node in executed.operators:
        parts = node.body.split("/") if node.body else []
        for depth in range(1, len(parts)):
            if parts[depth] in BRANCHES:
                branches = work["/".join(parts[:depth])]
                amount = (node.macs or 0) + (node.moved_bytes or 0) + 1.0
                branches[parts[depth]] = branches.get(parts[depth], 0.0) + amount
    taken = {
        owner: decided.get(owner) or max(branches, key=lambda name: branches[name]) for owner, branches in work.items()
    }
    not_taken = tuple(f"{owner}/{name}/" for owner in work for name in work[owner] if name != taken[owner])
    nodes = [node for node in executed.operators if not node.is_folded and not f"{node.body}/".startswith(not_taken)]
    n_open = sum(decided.get(owner) is None and not f"{owner}/".startswith(not_taken) for owner in work)
    notes = (f"{n_open} choices depend on the data: the larger branch of each is counted",) if n_open else ()
    return nodes, notes
