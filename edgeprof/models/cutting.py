"""The distinct operators of a run, each cut out as a small model of its own.

Kernels are the same operator where type, attributes, shapes and types of all tensors are the same; the values of
weights do not matter, those of small constants that say what to do (a permutation, the bounds of a slice) do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from device_agents.wire import Kernel, OperatorPass, Work
from edgeprof.errors import ModelError
from edgeprof.models.reading import ModelFile
from edgeprof.run import Operator, Run
from latency_models.graph import Graph
from latency_models.graph import Operator as Node

__all__ = ["Cut", "distinct_operators", "empty_model"]

UNMAPPED = "nobody knows which nodes of the file this kernel ran, so nothing can be cut out"
LAYOUT = "the runtime put it in to rearrange data between its neighbours: the file has nothing to cut out for it"


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A distinct operator: the kernels that are it, and its model, or for a simulated device its work.

    `types` are those of the kernels that one run of it should execute. `time_s` is what all `kernels` together take in
    one inference. `missing` says why there is no model.
    """

    kernels: tuple[int, ...]
    types: tuple[str, ...]
    time_s: float
    data: bytes | None = None
    work: Work | None = None
    missing: str | None = None


def distinct_operators(model: ModelFile, run: Run) -> tuple[Cut, ...]:
    """Every distinct operator of a run, in the order of first execution.

    Raises:
        ModelError: the file cannot be taken apart at all; or the run has no operators.
    """
    recorded = run.profile.operators
    if recorded is None:
        raise ModelError(
            f"the run of {model.name} has no operators: {run.profile.operators_missing or 'they were not timed'}",
            "profile with --operators",
        )
    source = _source(model, recorded, run.profile.job.work)
    found: dict[object, list[list[Operator]]] = defaultdict(list)
    for together in _executed_together(run.operators):
        found[source.key(together)].append(together)
    cuts = []
    for groups in found.values():
        kernels = tuple(operator.kernel for group in groups for operator in group)
        types = tuple(recorded.kernels[operator.kernel].type for operator in groups[0])
        time_s = sum(_mean(recorded.kernels[k].times_s) for k in kernels)
        cuts.append(source.cut(groups[0], Cut(kernels=kernels, types=types, time_s=time_s)))
    return tuple(cuts)


def empty_model(format: str) -> bytes:
    """A model of this format that does next to nothing: what is left is calling the runtime."""
    if format == "tflite":
        from edgeprof.models.cut_tflite import empty_tflite

        return empty_tflite()
    from edgeprof.models.cut_onnx import empty_onnx

    return empty_onnx()


def _executed_together(operators: Sequence[Operator]) -> list[list[Operator]]:
    """Operators by the nodes that they ran: what a runtime made several kernels of is cut out as a whole."""
    groups: dict[object, list[Operator]] = {}
    for operator in operators:
        groups.setdefault(operator.nodes or operator.kernel, []).append(operator)
    return list(groups.values())


def _mean(times_s: Sequence[float]) -> float:
    """Clocks of runtimes have steps of 1 us: the median of what is quicker would be 0."""
    return sum(times_s) / len(times_s) if times_s else 0.0


def signature(graph: Graph, nodes: Sequence[Node]) -> object:
    """What makes two groups of nodes the same operator: equal signatures."""
    numbers: dict[str, int] = {}

    def seen(name: str) -> object:
        if not name:
            return None
        tensor = graph.tensors.get(name)
        is_new = name not in numbers
        number = numbers.setdefault(name, len(numbers))
        return (number, is_new, tensor and (tensor.dtype, tensor.shape, tensor.is_constant))

    return tuple(
        (
            node.type,
            node.domain,
            repr(sorted(node.attributes.items(), key=lambda item: item[0])),
            tuple(seen(name) for name in node.inputs),
            tuple(seen(name) for name in node.outputs),
        )
        for node in nodes
    )


# --- where operators are cut from --------------------------------------------------------------------------------


class _Source:
    """A model's nodes, and what cuts them out."""

    def __init__(
        self, graph: Graph, kernels: Sequence[Kernel], cutter: Callable[[Sequence[Node]], bytes | str]
    ) -> None:
        self._graph = graph
        self._kernels = kernels
        self._nodes = {node.name: node for node in graph.operators}
        self._cut = cutter

    def nodes(self, group: Sequence[Operator]) -> list[Node]:
        return [self._nodes[name] for name in group[0].nodes if name in self._nodes]

    def key(self, group: Sequence[Operator]) -> object:
        kernels = tuple((self._kernels[o.kernel].type, self._kernels[o.kernel].input_shapes, o.origin) for o in group)
        nodes = self.nodes(group)
        return (kernels, signature(self._graph, nodes)) if nodes else (kernels, group[0].kernel)

    def cut(self, group: Sequence[Operator], cut: Cut) -> Cut:
        nodes = self.nodes(group)
        if not nodes:
            return replace(cut, missing=LAYOUT if group[0].origin == "layout" else UNMAPPED)
        found = self._cut(nodes)
        return replace(cut, missing=found) if isinstance(found, str) else replace(cut, data=found)


class _SimulatedSource(_Source):
    """A simulated device runs the work that its job names: an operator's alone is its model."""

    def __init__(self, graph: Graph, kernels: Sequence[Kernel], work: Sequence[Work]) -> None:
        super().__init__(graph, kernels, lambda _: UNMAPPED)
        self._work = {item.name: item for item in work}

    def _work_of(self, group: Sequence[Operator]) -> Work | None:
        return self._work.get(self._kernels[group[0].kernel].name)

    def key(self, group: Sequence[Operator]) -> object:
        work = self._work_of(group)
        return (super().key(group), replace(work, name="") if work is not None else None)

    def cut(self, group: Sequence[Operator], cut: Cut) -> Cut:
        work = self._work_of(group)
        return replace(cut, work=work) if work is not None else replace(cut, missing=UNMAPPED)


class _TfliteSource(_Source):
    def __init__(self, model: ModelFile, kernels: Sequence[Kernel]) -> None:
        from edgeprof.models.cut_tflite import TfliteCutter
        from edgeprof.models.tflite_writer import read_tables

        cutter = TfliteCutter(read_tables(model.path.read_bytes(), model.name))
        super().__init__(model.graph, kernels, cutter.cut)
        self._constants = cutter.constants

    def key(self, group: Sequence[Operator]) -> object:
        return (super().key(group), self._constants(self.nodes(group)))


class _OnnxSource(_Source):
    """Cuts from the file, and from the executed graph what runs in a layout that the runtime made."""

    def __init__(self, model: ModelFile, recorded: OperatorPass) -> None:
        from edgeprof.models.cut_onnx import OnnxCutter
        from edgeprof.models.onnx_mapping import Executed, of_recorded

        try:
            self._executed = of_recorded(model.graph, recorded)
        except ValueError:
            self._executed = Executed(model.graph, {}, model.graph)
        cutter = OnnxCutter(model.path, self._executed.graph)
        super().__init__(self._executed.graph, recorded.kernels, cutter.cut)
        self._constants = cutter.constants

    def key(self, group: Sequence[Operator]) -> object:
        return (super().key(group), self._constants(self.nodes(group)))

    def cut(self, group: Sequence[Operator], cut: Cut) -> Cut:
        from edgeprof.models.cut_onnx import CONTROL_FLOW, executed_alone
        from edgeprof.models.onnx_executed import NCHWC_DOMAIN

        number = self._executed.numbers.get(group[0].kernel)
        node = self._executed.executed.operators[number] if number is not None else None
        if node is None or node.type in CONTROL_FLOW or len(group) > 1:
            return super().cut(group, cut)
        shapes = self._kernels[group[0].kernel].input_shapes
        of_file = super().cut(group, cut)
        if node.domain != NCHWC_DOMAIN and of_file.missing is None:
            return of_file
        found = executed_alone(self._executed.executed, node, shapes)
        if isinstance(found, bytes):
            return replace(cut, data=found)
        return of_file if of_file.missing is not None else replace(cut, missing=found)


def _source(model: ModelFile, recorded: OperatorPass, work: Sequence[Work]) -> _Source:
    if recorded.method == "simulated":
        return _SimulatedSource(model.graph, recorded.kernels, work)
    if model.format == "tflite":
        return _TfliteSource(model, recorded.kernels)
    return _OnnxSource(model, recorded)
