"""The measuring loop under a clock that the test moves: when rounds begin and end, and what is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain, repeat

import pytest

from device_agents import measure
from device_agents.machine import Machine
from device_agents.runtimes import RuntimeRefusal
from device_agents.wire import Gate, Job, ModelRef, Progress, RuntimeOptions, Schedule


class Clock(Machine):
    """A machine with nothing but a clock."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def now(self) -> float:
        return self.at_s

    def sleep(self, seconds: float) -> None:
        self.at_s += seconds


def inference(clock: Clock, latencies_s: Iterator[float]) -> Callable[[], None]:
    def run() -> None:
        clock.at_s += next(latencies_s)

    return run


def alone(clock: Clock, latencies_s: Iterator[float]) -> measure.TimedRuns:
    return partial(measure.timed_runs, inference(clock, latencies_s), clock.now)


def ignore(progress: Progress) -> None:
    pass


def test_a_round_of_a_slow_model_ends_after_the_minimum_of_runs() -> None:
    clock = Clock()

    samples, _ = measure.timed_runs(inference(clock, repeat(0.5)), clock.now, min_runs=20, min_s=1.0, max_s=30.0)

    assert len(samples) == 20


def test_a_round_of_a_fast_model_ends_after_the_minimum_of_seconds() -> None:
    clock = Clock()

    samples, _ = measure.timed_runs(inference(clock, repeat(0.001)), clock.now, min_runs=20, min_s=1.0, max_s=30.0)

    assert 999 <= len(samples) <= 1001


def test_the_cap_ends_a_round_whatever_was_reached() -> None:
    clock = Clock()

    samples, _ = measure.timed_runs(inference(clock, repeat(8.0)), clock.now, min_runs=20, min_s=1.0, max_s=30.0)

    assert len(samples) == 4


def test_every_sample_is_what_the_clock_said() -> None:
    clock = Clock()

    samples, _ = measure.timed_runs(inference(clock, iter([0.5, 0.25, 2.0])), clock.now, min_runs=3, min_s=0, max_s=9)

    assert samples == [0.5, 0.25, 2.0]


def test_a_steady_model_is_warm_after_two_windows() -> None:
    clock = Clock()

    samples, is_flat = measure.warm_up(alone(clock, repeat(0.1)), clock, Schedule(), ignore)

    assert is_flat
    assert len(samples) == 2 * measure.WINDOW_RUNS


def test_a_model_that_speeds_up_is_warmed_until_it_does_not() -> None:
    clock = Clock()
    latencies = chain([0.4, 0.4, 0.4, 0.3, 0.3, 0.3, 0.2, 0.2, 0.2], repeat(0.1))

    samples, is_flat = measure.warm_up(alone(clock, latencies), clock, Schedule(min_s=60.0), ignore)

    assert is_flat
    assert [round(s, 6) for s in samples[-6:]] == [0.1] * 6


def test_a_model_that_never_settles_stops_warming_at_its_budget_and_says_so() -> None:
    clock = Clock()
    growing = (0.01 * 1.1**k for k in range(1000))

    samples, is_flat = measure.warm_up(alone(clock, growing), clock, Schedule(), ignore)

    assert not is_flat
    assert sum(samples) >= 1.0


def test_all_rounds_together_wait_no_longer_than_the_gates_timeout() -> None:
    class Busy(Clock):
        def read(self, path: str) -> str:
            if path != "/proc/stat":
                raise FileNotFoundError(path)
            return f"cpu {100 * self.at_s:.0f} 0 0 0 0 0 0 0 0 0"

    clock = Busy()
    job = Job(ModelRef("m", "onnx", "0", ()), "none", gate=Gate(timeout_s=30.0), schedule=Schedule(rounds=4))

    rounds = measure._rounds(alone(clock, repeat(0.1)), job, clock, ignore, 0.1)

    assert [r.gate.passed for r in rounds] == [False] * 4
    assert 30 <= sum(r.gate.waited_s for r in rounds) < 32


class Filling(Clock):
    """A machine whose memory fills up, by the same step with every session that is opened on it."""

    n_sessions = 0

    def read(self, path: str) -> str:
        if path == "/proc/self/status":
            return f"VmRSS: {10_000 + 400 * self.n_sessions} kB\nVmHWM: 20000 kB"
        if path == "/proc/meminfo":
            return f"MemTotal: 9000 kB\nMemAvailable: {1000 - 400 * self.n_sessions} kB"
        raise FileNotFoundError(path)


class Idle:
    """A session that does nothing."""

    def set_inputs(self, data: Sequence[bytes]) -> None:
        pass

    def run(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_streams_that_memory_does_not_hold_are_refused_with_how_many_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Filling()

    def open_session(*_: object) -> Idle:
        machine.n_sessions += 1
        return Idle()

    monkeypatch.setattr(measure, "open_session", open_session)
    job = Job(ModelRef("m", "onnx", "0", ()), "none", RuntimeOptions(streams=8))

    with ExitStack() as stack, pytest.raises(RuntimeRefusal, match="left after 3 of 8 streams") as caught:
        measure._open_others(stack, job, "", (), machine)

    assert caught.value.kind == "out-of-memory"
    assert "--streams 3" in caught.value.advice
