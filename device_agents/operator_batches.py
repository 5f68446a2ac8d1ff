"""Batches of profiled runs: how many runs a session may record, and how several sessions come together.

A runtime that keeps every event until its session ends (ONNX Runtime) would fill a small board's memory. Its runs are
spread over sessions, each of which warms up again. Runtimes whose events are taken after every run need one batch.
"""

import dataclasses
from typing import List, Optional, Sequence, Tuple

from device_agents.runtimes import Recorded
from device_agents.wire import Kernel, Schedule

# Times of one pass that travel and are kept, over all kernels: 30 runs of 10,000 kernels, about 4 MB of the reply.
MAX_TIMES = 300_000
# Of the runs that a batch has room for, at most this part goes to warm-up.
WARMUP_PART = 4


def batch_runs(schedule: Schedule, piled_up: Optional[int], n_left: int) -> Tuple[int, int]:
    """Runs of warm-up and runs to record in the next batch, at least one of each.

    Args:
        schedule: `operator_batch_events` bounds the events that pile up.
        piled_up: how many events a run adds to those that the runtime keeps; None if that is not known yet.
        n_left: runs that are still wanted.
    """
    warmup = max(2, schedule.warmup_min_runs)
    if piled_up == 0:
        return warmup, n_left
    if piled_up is None:
        return 1, 1
    room = max(2, schedule.operator_batch_events // piled_up)
    warmup = min(warmup, max(1, room // WARMUP_PART))
    return warmup, max(1, min(n_left, room - warmup))


class Batches:
    """What all batches recorded, kernel by kernel; runs of batches that ran something else are left out."""

    def __init__(self, n_wanted: int) -> None:
        self.latencies_s: List[float] = []
        self.n_batches = 0
        self._n_wanted = n_wanted
        self._n_other = 0
        self._first: Optional[Recorded] = None
        self._times_s: List[List[float]] = []

    @property
    def n_left(self) -> int:
        """Runs that are still wanted; runs that had to be left out are not made again."""
        n_kernels = max(1, len(self._times_s))
        return min(self._n_wanted, max(1, MAX_TIMES // n_kernels)) - len(self.latencies_s) - self._n_other

    def add(self, recorded: Recorded, latencies_s: Sequence[float]) -> None:
        """Names of what a runtime rewrote are made anew in every session, so kernels are matched by order and type."""
        self.n_batches += 1
        if self._first is None:
            self._first = recorded
            self._times_s = [[] for _ in recorded.kernels]
        elif _types(recorded) != _types(self._first):
            self._n_other += len(latencies_s)
            return
        self.latencies_s.extend(latencies_s)
        for times_s, kernel in zip(self._times_s, recorded.kernels):
            times_s.extend(kernel.times_s)

    def merged(self) -> Recorded:
        """Everything but the times as the first batch had it."""
        if self._first is None:
            raise RuntimeError("there was no batch")
        if self.n_batches > 1:
            self._first.kernels = tuple(
                dataclasses.replace(kernel, times_s=tuple(times_s))
                for kernel, times_s in zip(self._first.kernels, self._times_s)
            )
        return self._first

    def notes(self) -> Tuple[str, ...]:
        """What is missing and why."""
        if not self._n_other:
            return ()
        return (
            f"{self._n_other} profiled runs were left out: another session of this model ran other kernels, "
            "or the same in another order",
        )


def _types(recorded: Recorded) -> List[Tuple[str, str]]:
    return [_type(kernel) for kernel in recorded.kernels]


def _type(kernel: Kernel) -> Tuple[str, str]:
    return kernel.level, kernel.type
