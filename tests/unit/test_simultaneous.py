"""Several inferences at once: that they are, when they end, and what is kept of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import count

import pytest

from device_agents.simultaneous import timed_together

PATIENCE_S = 20.0


def ticks() -> Callable[[], float]:
    """A clock that moves by one with every look at it."""
    numbers = count()
    return lambda: float(next(numbers))


def test_all_streams_run_at_the_same_time() -> None:
    meeting = threading.Barrier(3)

    def run() -> None:
        meeting.wait(PATIENCE_S)  # nobody gets past it unless all three are inside a run

    latencies, _ = timed_together([run] * 3, time.perf_counter, min_runs=2, min_s=0.0, max_s=PATIENCE_S)

    assert len(latencies) >= 6


def test_every_stream_makes_the_minimum_of_runs_and_every_run_is_kept() -> None:
    n_runs = [0, 0]

    def counted(k: int) -> Callable[[], None]:
        def run() -> None:
            n_runs[k] += 1
            time.sleep(0.001 * k)

        return run

    latencies, wall_s = timed_together([counted(0), counted(1)], ticks(), min_runs=20, min_s=0.0, max_s=1e9)

    assert min(n_runs) >= 20
    assert len(latencies) == sum(n_runs)
    assert min(latencies) > 0
    assert max(latencies) <= wall_s


def test_the_cap_ends_every_stream() -> None:
    latencies, wall_s = timed_together([lambda: None] * 2, ticks(), min_runs=10**9, min_s=0.0, max_s=50.0)

    assert latencies
    assert wall_s >= 50.0


def test_what_a_run_raises_is_raised_once_every_stream_has_ended() -> None:
    def fail() -> None:
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        timed_together([lambda: None, fail], ticks(), min_runs=10**9, min_s=0.0, max_s=1e9)

    assert [t for t in threading.enumerate() if t.name.startswith("stream")] == []
