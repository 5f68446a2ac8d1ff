"""The doctor: why a file is as fast or slow as it is on a device, from its operators; each finding with its cost.

Pure functions over runs with operators. Nothing is assumed of a runtime: what is said of an operator was measured.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from edgeprof.operators import RESOLUTION_STEPS, OperatorRow, operator_rows
from edgeprof.run import Run

__all__ = ["Finding", "explain", "explain_against", "too_short"]

# Kernels that convert between float and integers, or rearrange data, and compute nothing of the model.
CONVERSIONS = (
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "Cast",
    "Convert",
    "Quantize",
    "Dequantize",
)
LAYOUTS = ("ReorderInput", "ReorderOutput", "Transpose")
# Kernels of ONNX Runtime that compute in integers; XNNPACK has the element type in their names.
INTEGER = ("QLinear", "QGemm", "ConvInteger", "MatMulInteger", "DynamicQuantizeMatMul", "QAttention")
XNNPACK_INTEGER = ("QS8", "QC8", "QU8", "QD8")
# The one whose kernels are plain loops (facts are measured: see the finding's cost).
PLAIN_INTEGER = "ConvInteger"
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
# What is told: costs of at least this share of a run, and so many of a kind.
WORTH_TELLING = 0.02
MOST_TOLD = 3
# An operator with less than this share of the usual rate of its type is off the fast path, or its shape is unlucky.
SLOW_RATE = 1 / 3
FEWEST_TO_COMPARE = 4


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`what` was seen in the file called `name`; `cost_s` is what it takes of a run, `share` that of the run.

    A gain is a negative cost.
    """

    name: str
    what: str
    cost_s: float
    share: float
    remedy: str


@dataclass(frozen=True)
class Timed:
    """A kernel: what the runtime calls its kind, and what it is in the words of the file."""

    kind: str
    row: OperatorRow

    @property
    def time_s(self) -> float:
        return self.row.median_s or 0.0

    @property
    def is_integer(self) -> bool:
        return self.kind.startswith(INTEGER) or any(one in self.kind for one in XNNPACK_INTEGER)

    @property
    def weighted_nodes(self) -> tuple[str, ...]:
        """The nodes with weights that it runs; they keep their names when a file is changed."""
        return tuple(
            node.removesuffix("_quant")
            for node, kind in zip(self.row.nodes, self.row.type.split(" + "), strict=False)
            if kind.startswith(WEIGHTED)
        )


def timed(run: Run) -> list[Timed]:
    """The kernels that took time."""
    recorded = run.profile.operators
    if recorded is None:
        return []
    return [Timed(recorded.kernels[row.index].type, row) for row in operator_rows(run) if row.median_s]


def explain(name: str, run: Run) -> list[Finding]:
    """What is slow about a file by itself: layouts, conversions, slow operators, what a delegate left."""
    kernels = timed(run)
    total = sum(one.time_s for one in kernels)
    if not total:
        return []
    found = [
        *_overhead(name, kernels, total, CONVERSIONS, "convert between float and integers", MORE_OR_NOTHING),
        *_overhead(name, kernels, total, LAYOUTS, "rearrange data between layouts", OUT_OF_THE_MIDDLE),
        *_slow_operators(name, kernels, total),
        *_refused(name, run, kernels, total),
    ]
    return _worth_telling(found, run)


def too_short(run: Run) -> bool:
    """Whether its operators are too short for the clock of the profiler: what is told of them would be rounding."""
    kernels = timed(run)
    total = sum(one.time_s for one in kernels)
    return sum(one.time_s for one in kernels if one.row.below_resolution) > total / 2


def _worth_telling(found: Iterable[Finding], run: Run) -> list[Finding]:
    """The dearest first; nothing that the steps of the profiler's clock alone could be."""
    recorded = run.profile.operators
    least_s = RESOLUTION_STEPS * recorded.resolution_s if recorded is not None else 0.0
    told = [one for one in found if abs(one.share) >= WORTH_TELLING and abs(one.cost_s) >= least_s]
    return sorted(told, key=lambda one: -one.cost_s)


MORE_OR_NOTHING = "quantise the operators around them too, or none of them"
OUT_OF_THE_MIDDLE = "keep operators that need another layout out of the middle of the model"
OTHER_NUMBERS = "other activations (u8 for s8, or the other way round) may have integer kernels on this device"
OTHER_SHAPE = "try channels in multiples of 8 or 16, or another kernel size, where you can train it anew"


def _overhead(
    name: str, kernels: Sequence[Timed], total: float, kinds: Sequence[str], what: str, remedy: str
) -> Iterator[Finding]:
    of_kind = [one for one in kernels if one.kind in kinds and not one.weighted_nodes]
    cost = sum(one.time_s for one in of_kind)
    if of_kind:
        what = f"{len(of_kind)} of {len(kernels)} kernels {what}"
        yield Finding(name=name, what=what, cost_s=cost, share=cost / total, remedy=remedy)


def _slow_operators(name: str, kernels: Sequence[Timed], total: float) -> Iterator[Finding]:
    """Those that compute far fewer multiply-accumulates a second than others of their kind in the same run."""
    by_kind: dict[str, list[Timed]] = defaultdict(list)
    for one in kernels:
        if one.row.macs_per_s:
            by_kind[_comparable(one)].append(one)
    slow = []
    for kind, group in by_kind.items():
        if len(group) < FEWEST_TO_COMPARE:
            continue
        usual = median(one.row.macs_per_s or 0.0 for one in group)
        for one in group:
            share_of_usual = (one.row.macs_per_s or 0.0) / usual
            # What it would take at the usual rate is not lost.
            lost = one.time_s * (1 - share_of_usual)
            if share_of_usual < SLOW_RATE and not one.row.below_resolution:
                slow.append((lost, one, kind, share_of_usual))
    for lost, one, kind, share_of_usual in sorted(slow, key=lambda found: -found[0])[:MOST_TOLD]:
        shapes = " x ".join(str(list(shape)) for shape in one.row.input_shapes[:2])
        nodes = ", ".join(one.weighted_nodes) or one.row.name
        yield Finding(
            name=name,
            what=f"{nodes} ({shapes}) computes at {share_of_usual:.0%} of the rate of other {kind}",
            cost_s=lost,
            share=lost / total,
            remedy=OTHER_SHAPE,
        )


def _comparable(one: Timed) -> str:
    """Depthwise convolutions are compared with each other."""
    shapes = one.row.input_shapes
    is_depthwise = "Conv" in one.kind and any(len(shape) == 4 and shape[1] == 1 for shape in shapes[1:])
    return f"depthwise {one.kind}" if is_depthwise else one.kind


def _refused(name: str, run: Run, kernels: Sequence[Timed], total: float) -> Iterator[Finding]:
    """Where a delegate took some of the model, what it left to plain kernels."""
    recorded = run.profile.operators
    levels = {kernel.level for kernel in recorded.kernels} if recorded is not None else set()
    if recorded is None or levels != {"delegate", "node"}:
        return
    left = [one for one in kernels if recorded.kernels[one.row.index].level == "node"]
    cost = sum(one.time_s for one in left)
    yield Finding(
        name=name,
        what=f"the delegate left {len(left)} operators to plain kernels: "
        + ", ".join(sorted({one.kind for one in left})),
        cost_s=cost,
        share=cost / total,
        remedy="replace them by operators that the delegate has, or keep them at the ends of the model",
    )


def explain_against(name: str, run: Run, original: Run) -> list[Finding]:
    """Why a file is faster or slower than the original: operator by operator, and what came on top."""
    kernels, before = timed(run), timed(original)
    total = sum(one.time_s for one in before)
    if not total or not kernels:
        return []
    found = [*_changed_nodes(name, kernels, before, total), *_by_number(name, kernels, total)]
    return _worth_telling(found, run)


def by_node(kernels: Sequence[Timed]) -> Mapping[tuple[str, ...], float]:
    """Seconds by the nodes with weights that a kernel runs."""
    found: dict[tuple[str, ...], float] = defaultdict(float)
    for one in kernels:
        nodes = tuple(sorted(one.weighted_nodes))
        if nodes:
            found[nodes] += one.time_s
    return found


def _changed_nodes(name: str, kernels: Sequence[Timed], before: Sequence[Timed], total: float) -> Iterator[Finding]:
    now, then = by_node(kernels), by_node(before)
    both = [node for node in now if node in then]
    for lost, node in sorted(((now[node] - then[node], node) for node in both), reverse=True)[:MOST_TOLD]:
        if lost > 0:
            yield Finding(
                name=name,
                what=f"{', '.join(node)} takes {now[node] / then[node]:.2f} times as long as in the original",
                cost_s=lost,
                share=lost / total,
                remedy="leave it as it is: mixed precision can",
            )
    faster = [node for node in both if now[node] < then[node]]
    gained = sum(then[node] - now[node] for node in faster)
    if faster:
        what = f"{len(faster)} of {len(both)} operators with weights are faster than in the original"
        yield Finding(name=name, what=what, cost_s=-gained, share=-gained / total, remedy="")


def _by_number(name: str, kernels: Sequence[Timed], total: float) -> Iterator[Finding]:
    """In a quantised file, operators that ran in float all the same; and integers without a fast kernel."""
    weighted = [one for one in kernels if one.weighted_nodes]
    floats = [one for one in weighted if not one.is_integer]
    is_quantised = any(one.is_integer or one.kind in CONVERSIONS for one in kernels)
    cost = sum(one.time_s for one in floats)
    if floats and is_quantised:
        what = f"{len(floats)} of {len(weighted)} operators with weights ran in float"
        yield Finding(name=name, what=what, cost_s=cost, share=cost / total, remedy=OTHER_NUMBERS)
    plain = [one for one in kernels if one.kind == PLAIN_INTEGER]
    cost = sum(one.time_s for one in plain)
    if plain:
        yield Finding(
            name=name,
            what=f"{len(plain)} convolutions ran as {PLAIN_INTEGER}, which quantises anew in every run",
            cost_s=cost,
            share=cost / total,
            remedy="dynamic quantisation is for nets of matrix products: take static int8 for convolutions",
        )
