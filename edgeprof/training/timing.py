"""What timing a kernel adds to its time, told by kernels that have next to nothing to do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgeprof.run import Described, Run
from latency_models.kernels import KernelSpec

__all__ = ["Timing", "middle", "together"]

# Kernels with no more work than this take less than it takes to time them.
LITTLE_BYTES, LITTLE_MACS = 4096, 10_000
# Of so many of them the quarter that is fastest has nothing else in it; fewer tell nothing.
QUANTILE, FEWEST = 0.25, 20
# Of a kernel's time at least this much is its own.
LEAST_SHARE = 0.1
# The middle half of a kernel's runs: interruptions are in the upper quarter.
QUARTER = 0.25


@dataclass(frozen=True)
class Timing:
    """`fixed_s` and `each_s` for every tensor that a kernel reads or writes; `factors` of runs by id, where known.

    ONNX Runtime's profiler writes down the shapes of a kernel's tensors before it looks at the clock again (KernelScope
    in core/framework/sequential_executor.cc). With few tensors that takes 1 us on one machine and 7 on another, and
    more when it is busy. Other runtimes' profilers only look at the clock.
    """

    fixed_s: float = 0.0
    each_s: float = 0.0
    factors: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Timing:
        """What the runs of one target tell; nothing is added where they tell nothing."""
        found = [(run.id, n, seconds) for run in runs for n, seconds in _little(run)]
        by_n: dict[int, list[float]] = defaultdict(list)
        for _, n, seconds in found:
            by_n[n].append(seconds)
        counts = {n: len(times) for n, times in by_n.items() if len(times) >= FEWEST}
        if len(counts) < 2:
            return cls()
        rows = np.array([[1.0, n] for n in counts])
        low_s = np.array([np.quantile(by_n[n], QUANTILE) for n in counts])
        weights = np.sqrt(np.array(list(counts.values())))
        fixed_s, each_s = np.linalg.lstsq(rows * weights[:, None], low_s * weights, rcond=None)[0]
        made = cls(max(0.0, float(fixed_s)), max(0.0, float(each_s)))
        ratios: dict[str, list[float]] = defaultdict(list)
        for run, n, seconds in found:
            ratios[run].append(seconds / max(made._usual_s(n), 1e-9))
        made.factors.update({run: float(np.quantile(own, QUANTILE)) for run, own in ratios.items()})
        return made

    def without(self, run: Run, one: Described, times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the kernels of one description took themselves in each run, of the `times_s` (n,) that were recorded."""
        usual_s = self._usual_s(_n_tensors(one.kernel)) if run.profile.job.runtime == "onnxruntime" else 0.0
        added_s = usual_s * self.factors.get(run.id, 1.0) * len(one.kernels)
        found: NDArray[np.float64] = np.maximum(times_s - added_s, LEAST_SHARE * times_s)
        return found

    def _usual_s(self, n: int) -> float:
        return self.fixed_s + self.each_s * n


def _little(run: Run) -> Iterator[tuple[int, float]]:
    """Of kernels with little to do, the number of their tensors and what was recorded for each."""
    if run.profile.job.runtime != "onnxruntime" or run.profile.operators is None:
        return
    for one in run.described:
        if one.kernel.moved_bytes <= LITTLE_BYTES and (one.kernel.macs or 0) <= LITTLE_MACS:
            yield _n_tensors(one.kernel), middle(together(run, one)) / len(one.kernels)


def _n_tensors(kernel: KernelSpec) -> int:
    return sum(one is not None for one in kernel.inputs) + len(kernel.outputs)


def together(run: Run, one: Described) -> NDArray[np.float64]:
    """Seconds of each profiled run, (n,): the sum of the kernels that ran the same nodes."""
    recorded = run.profile.operators
    kernels = recorded.kernels if recorded is not None else ()
    total: NDArray[np.float64] = np.array([kernels[index].times_s for index in one.kernels]).sum(axis=0)
    return total


def middle(times_s: NDArray[np.float64]) -> float:
    """Mean of the middle half: of clocks that count microseconds, a median would be one of them."""
    ordered = np.sort(times_s)
    cut = int(len(ordered) * QUARTER)
    return float(ordered[cut : len(ordered) - cut].mean())
