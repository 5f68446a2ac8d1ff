"""The operator table: what each kernel took in the words of the file, and how all of them add up.

Pure functions; docs/measuring.md explains every formula and constant.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from device_agents.wire import Kernel, OperatorPass
from edgeprof.run import Operator, Run
from edgeprof.statistics import MAD_TO_SIGMA, Array, usable_rounds

__all__ = ["OperatorRow", "OperatorTotals", "operator_rows", "operator_totals", "robust_spread"]

# Two sums of operators that differ by more than this need a word.
SUMS_AGREE = 0.05
# A runtime's clock of step r misjudges one duration by up to r: below 10 r that is more than a tenth of it.
RESOLUTION_STEPS = 10


@dataclass(frozen=True, kw_only=True)
class OperatorRow:
    """One line of the operator table. `share` is of the sum of all kernels' medians.

    `below_resolution` marks a time under ten steps of the runtime's clock: not reliable. `intensity` is
    multiply-accumulates per byte moved. What could not be derived is None.
    """

    index: int
    name: str
    type: str
    kernel: str
    origin: str
    nodes: tuple[str, ...]
    median_s: float | None
    share: float | None
    spread: float | None
    below_resolution: bool
    input_shapes: tuple[tuple[int, ...], ...]
    output_shapes: tuple[tuple[int, ...], ...]
    macs: int | None
    moved_bytes: int | None
    intensity: float | None
    macs_per_s: float | None
    block: str | None = None
    layer: str | None = None


@dataclass(frozen=True, kw_only=True)
class OperatorTotals:
    """How the operator pass adds up against itself and against the latency pass.

    `sum_s` is the median over runs of the sum of all kernels. `overhead` is profiled over unprofiled median, less 1;
    `remainder_s` is what of the profiled median no kernel explains. `note` says what of this is doubtful.
    """

    n_kernels: int
    n_unmapped: int
    sum_s: float | None
    profiled_median_s: float | None
    overhead: float | None
    remainder_s: float | None
    remainder_share: float | None
    unmapped_share: float | None
    note: str | None = None


def operator_rows(run: Run) -> list[OperatorRow]:
    """The operator table in execution order; empty where there was no operator pass."""
    recorded = run.profile.operators
    if recorded is None:
        return []
    total = sum(m for k in recorded.kernels if (m := _median(k.times_s)) is not None)
    explained = {operator.kernel: operator for operator in run.operators}
    return [
        _row(i, kernel, explained.get(i, Operator(kernel=i, origin="unmapped")), recorded.resolution_s, total)
        for i, kernel in enumerate(recorded.kernels)
    ]


def _row(index: int, kernel: Kernel, operator: Operator, resolution_s: float, total_s: float) -> OperatorRow:
    middle = _median(kernel.times_s)
    macs, moved = operator.macs, operator.moved_bytes
    return OperatorRow(
        index=index,
        name=" + ".join(operator.nodes) or kernel.name,
        type=" + ".join(operator.node_types) or kernel.type,
        kernel=kernel.name,
        origin=operator.origin,
        nodes=operator.nodes,
        median_s=middle,
        share=middle / total_s if middle is not None and total_s > 0 else None,
        spread=robust_spread(kernel.times_s),
        below_resolution=middle is not None and middle < RESOLUTION_STEPS * resolution_s,
        input_shapes=operator.input_shapes or kernel.input_shapes,
        output_shapes=operator.output_shapes or kernel.output_shapes,
        macs=macs,
        moved_bytes=moved,
        intensity=macs / moved if macs is not None and moved else None,
        macs_per_s=macs / middle if macs is not None and middle else None,
        block=operator.block,
        layer=operator.layer,
    )


def operator_totals(run: Run) -> OperatorTotals | None:
    """Sum, overhead and unexplained remainder of the operator pass; None where there was none."""
    recorded = run.profile.operators
    if recorded is None:
        return None
    rows = operator_rows(run)
    total, note = _sum_per_run(recorded)
    note = note or _unsteady(total, sum(row.median_s or 0.0 for row in rows))
    profiled = _median(recorded.latencies_s)
    rounds = usable_rounds(run.profile)
    unprofiled = float(np.median(np.concatenate(rounds))) if rounds else None
    remainder = _difference(profiled, total, len(rows))
    if (streams := run.profile.job.options.streams) > 1:
        # One stream alone against several at once would show what they cost each other, not what the profiler costs.
        unprofiled = None
        alone = f"operators were timed with one stream alone, the latency is that of {streams} at once"
        note = alone if note is None else f"{note}; {alone}"
    unmapped = [row for row in rows if row.origin == "unmapped"]
    shares = [row.share for row in unmapped if row.share is not None]
    return OperatorTotals(
        n_kernels=len(rows),
        n_unmapped=len(unmapped),
        sum_s=total,
        profiled_median_s=profiled,
        overhead=_difference(profiled / unprofiled, 1.0, 1) if profiled is not None and unprofiled else None,
        remainder_s=remainder,
        remainder_share=remainder / profiled if remainder is not None and profiled else None,
        unmapped_share=sum(shares) if any(row.share is not None for row in rows) else None,
        note=note,
    )


def _difference(whole: float | None, total: float | None, n_parts: int) -> float | None:
    """`whole` - `total`, a sum of `n_parts`; 0 where it is no more than the rounding of as many additions."""
    if whole is None or total is None:
        return None
    rounding = (n_parts + 1) * sys.float_info.epsilon * max(abs(whole), abs(total))
    return whole - total if abs(whole - total) > rounding else 0.0


def _sum_per_run(recorded: OperatorPass) -> tuple[float | None, str | None]:
    lengths = {len(kernel.times_s) for kernel in recorded.kernels}
    if lengths <= {0}:
        return None, "no kernel was timed"
    if len(lengths) == 1:
        return _median(np.sum([kernel.times_s for kernel in recorded.kernels], axis=0)), None
    medians = [m for k in recorded.kernels if (m := _median(k.times_s)) is not None]
    return sum(medians), "not every kernel was timed in every run: the sum is of the kernels' medians"


def _unsteady(total: float | None, of_medians: float) -> str | None:
    """Where whole runs were slow the median of their sums lies above the sum of the kernels' medians."""
    if not total or abs(of_medians / total - 1.0) <= SUMS_AGREE:
        return None
    return (
        f"the kernels' medians add up to {of_medians / total:.0%} of the sum of kernels, which is the median over "
        "whole runs: some runs were slow as a whole; shares are of the medians"
    )


def _median(samples: Sequence[float] | Array) -> float | None:
    return float(np.median(samples)) if len(samples) else None


def robust_spread(samples: Sequence[float]) -> float | None:
    """1.4826 MAD / median; None where there is no median to relate to."""
    middle = _median(samples)
    if not middle:
        return None
    return MAD_TO_SIGMA * float(np.median(np.abs(np.asarray(samples) - middle))) / middle
