"""The measuring loop under a clock that the test moves: when rounds begin and end, and what is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest

from device_agents import measure
from device_agents.machine import Machine
from device_agents.operator_pass import operator_pass
from device_agents.runtimes import RuntimeRefusal
from device_agents.wire import Gate, Job, ModelRef, Progress, Round, RuntimeOptions, Schedule
from tests.odd_models import write_chain, write_loop


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


# --- rounds without rest -------------------------------------------------------------------------------------------


class Warm(Clock):
    """A machine that has been hot for long: its gate has to wait until it can tell that it cools no more."""

    def __init__(self) -> None:
        super().__init__()
        self.n_looks = 0

    def list(self, path: str) -> list[str]:
        return ["thermal_zone0"] if path == "/sys/class/thermal" else []

    def read(self, path: str) -> str:
        if path == "/sys/class/thermal/thermal_zone0/type":
            return "cpu-thermal"
        if path == "/sys/class/thermal/thermal_zone0/temp":
            return "60000"
        if path == "/proc/meminfo":
            self.n_looks += 1
        raise FileNotFoundError(path)


def sustained(clock: Clock, latency_s: float, schedule: Schedule, report: measure.Report = ignore) -> tuple[Round, ...]:
    job = Job(ModelRef("m", "onnx", "0", ()), "none", gate=Gate(timeout_s=300.0), schedule=schedule)
    return measure._rounds(alone(clock, repeat(latency_s)), job, clock, report, latency_s)


def test_without_rest_the_gate_holds_the_first_round_alone_and_the_model_never_pauses() -> None:
    clock = Warm()

    rounds = sustained(clock, 0.25, Schedule(rounds=6, min_runs=1, min_s=10.0, max_s=10.0, without_rest_s=60.0))

    assert [r.gate.waited_s > 0 for r in rounds] == [True] + 5 * [False]
    assert [r.before.at_s for r in rounds[1:]] == [r.after.at_s for r in rounds[:-1]]
    assert rounds[-1].after.at_s - rounds[0].before.at_s == sum(r.wall_s or 0.0 for r in rounds) == 60.0
    assert clock.n_looks == 7


def test_without_rest_a_model_slower_than_a_round_ends_when_the_time_is_over() -> None:
    rounds = sustained(Clock(), 25.0, Schedule(rounds=6, min_runs=1, min_s=10.0, max_s=10.0, without_rest_s=60.0))

    assert [len(r.latencies_s) for r in rounds] == [1, 1, 1]


def test_without_rest_the_time_that_is_left_is_told_as_it_is() -> None:
    told: list[Progress] = []

    sustained(Clock(), 25.0, Schedule(rounds=6, min_s=10.0, max_s=10.0, without_rest_s=60.0), told.append)

    assert [(p.stage, p.remaining_s) for p in told] == [("gate", 60), ("rounds", 60), ("rounds", 35), ("rounds", 10)]


def test_of_a_round_only_so_many_latencies_are_sent_and_all_its_runs_are_counted() -> None:
    clock = Clock()
    job = Job(ModelRef("m", "onnx", "0", ()), "none", schedule=Schedule(rounds=1, min_s=1.0, keep_runs=10))
    growing = chain(repeat(0.01, measure.WINDOW_RUNS), (0.01 + 1e-6 * k for k in range(1000)))

    (one,) = measure._rounds(alone(clock, growing), job, clock, ignore, 0.01)

    assert len(one.latencies_s) == 10
    assert one.n_runs == 100
    assert [round((s - 0.01) * 1e6) for s in one.latencies_s] == list(range(5, 100, 10))


def test_a_round_that_has_no_more_runs_than_are_kept_sends_them_all() -> None:
    clock = Clock()
    job = Job(ModelRef("m", "onnx", "0", ()), "none", schedule=Schedule(rounds=1, min_s=1.0, keep_runs=1000))

    (one,) = measure._rounds(alone(clock, repeat(0.01)), job, clock, ignore, 0.01)

    assert len(one.latencies_s) == 100
    assert one.n_runs is None


# --- the operator pass ---------------------------------------------------------------------------------------------


def profile_of_chain(tmp_path: Path, n_nodes: int, **schedule: object) -> dict[str, Any]:
    path = tmp_path / "chain.onnx"
    write_chain(path, n_nodes)
    job = Job(
        ModelRef("chain.onnx", "onnx", "0", ()),
        "onnxruntime",
        schedule=Schedule(**schedule),  # type: ignore[arg-type]
        gate=Gate(timeout_s=0.0, window_s=0.0),
        operators=True,
    )
    body, _ = operator_pass(job, str(path), (), Machine(), ignore)
    return body


def test_a_model_of_many_kernels_is_profiled_in_batches_that_give_every_run(tmp_path: Path) -> None:
    body = profile_of_chain(tmp_path, 100, operator_runs=10, operator_batch_events=700, operator_max_s=1e6)

    assert body["n_batches"] > 1
    assert len(body["latencies_s"]) == 10
    assert len(body["kernels"]) == 100
    assert {len(kernel["times_s"]) for kernel in body["kernels"]} == {10}
    assert body["graph"] is not None
    assert body["notes"] == ()


def test_a_model_that_fits_is_profiled_in_one_batch(tmp_path: Path) -> None:
    body = profile_of_chain(tmp_path, 100, operator_runs=10)

    assert body["n_batches"] == 1
    assert len(body["latencies_s"]) == 10


def test_a_batch_too_large_for_any_bound_still_gives_one_run(tmp_path: Path) -> None:
    body = profile_of_chain(tmp_path, 100, operator_runs=2, operator_batch_events=1, operator_max_s=0.0)

    assert body["n_batches"] == 1
    assert len(body["latencies_s"]) == 1


def test_a_batch_that_is_refused_costs_its_runs_alone(tmp_path: Path) -> None:
    path = tmp_path / "chain.onnx"
    write_chain(path, 100)
    schedule = Schedule(operator_runs=10, operator_batch_events=700, operator_max_s=1e6)
    model = ModelRef("chain.onnx", "onnx", "0", ())
    job = Job(model, "onnxruntime", schedule=schedule, gate=Gate(timeout_s=0.0, window_s=0.0))

    def remove_model(progress: Progress) -> None:
        if progress.done:
            path.unlink(missing_ok=True)

    body, _ = operator_pass(job, str(path), (), Machine(), remove_model)

    assert body["n_batches"] == 1
    assert 1 <= len(body["latencies_s"]) < 10
    assert any("no further batch of profiled runs" in note for note in body["notes"])


def test_a_model_with_control_flow_begins_with_a_small_batch(tmp_path: Path) -> None:
    path = tmp_path / "loop.onnx"
    write_loop(path, 50)
    job = Job(
        ModelRef("loop.onnx", "onnx", "0", ()),
        "onnxruntime",
        schedule=Schedule(operator_runs=20, operator_batch_events=1000, operator_max_s=1e6),
        gate=Gate(timeout_s=0.0, window_s=0.0),
    )

    body, _ = operator_pass(job, str(path), (), Machine(), ignore)

    assert body["n_batches"] >= 3
    assert len(body["latencies_s"]) == 20


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
