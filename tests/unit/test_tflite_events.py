from __future__ import annotations

import pytest

from device_agents.runtimes.tflite_events import (
    DELEGATED,
    OPERATOR,
    SECTION,
    CallbackRecorder,
    Event,
    KernelTimes,
    callback_bias_s,
    own_times,
)


def operator(name: str, index: int, start_s: float, duration_s: float, subgraph: int = 0) -> Event:
    return Event(OPERATOR, name, index, subgraph, start_s, duration_s)


def delegated(name: str, index: int, duration_s: float = 1.0) -> Event:
    return Event(DELEGATED, name, index, 0, None, duration_s)


def invoke(subgraph: int, start_s: float, duration_s: float) -> Event:
    return Event(SECTION, "Invoke", 0, subgraph, start_s, duration_s)


def test_an_operator_that_calls_a_graph_is_left_with_its_own_time() -> None:
    events = [
        invoke(0, 0.0, 20.0),
        operator("WHILE", 0, 1.0, 10.0),
        invoke(1, 2.0, 8.0),
        operator("ADD", 0, 3.0, 6.0, subgraph=1),
        operator("MUL", 1, 11.0, 5.0),
    ]

    own = own_times(events)

    assert own[1] == pytest.approx(2.0)
    assert own[3:] == [pytest.approx(6.0), pytest.approx(5.0)]


def test_sections_other_than_invoke_take_nothing_from_an_operator() -> None:
    events = [operator("CALL_ONCE", 0, 0.0, 10.0), Event(SECTION, "AllocateTensors", 0, 1, 1.0, 5.0)]

    assert own_times(events)[0] == 10.0


def test_the_parts_of_a_delegate_are_told_apart() -> None:
    times = KernelTimes()

    times.add_run([delegated("Conv", 0), delegated("Add", 1), operator("SPLIT", 9, 0.0, 1.0), delegated("Conv", 0)])

    assert [kernel.name for kernel in times.kernels()] == ["Conv part 0 0", "Add part 0 1", "SPLIT 9", "Conv part 1 0"]
    assert times.n_delegated() == 3


def test_a_kernel_that_runs_again_in_a_loop_is_summed() -> None:
    times = KernelTimes()
    body = [invoke(1, 0.0, 2.0), operator("ADD", 0, 0.0, 1.0, 1), invoke(1, 2.0, 2.0), operator("ADD", 0, 2.0, 1.5, 1)]

    times.add_run(body)

    (kernel,) = times.kernels()
    assert kernel.times_s == (2.5,)
    assert (kernel.node, kernel.subgraph, kernel.level) == (0, 1, "node")


def test_a_kernel_that_a_run_did_not_reach_took_no_time_there() -> None:
    times = KernelTimes()

    times.add_run([operator("A", 0, 0.0, 1.0)])
    times.add_run([operator("A", 0, 0.0, 2.0), operator("B", 1, 2.0, 3.0)])

    assert [kernel.times_s for kernel in times.kernels()] == [(1.0, 2.0), (0.0, 3.0)]


def test_the_bias_is_subtracted_from_what_callbacks_timed_and_never_below_zero() -> None:
    times = KernelTimes(bias_s=0.5)

    times.add_run([operator("A", 0, 0.0, 2.0), operator("B", 1, 2.0, 0.1), delegated("C", 0, 1.0)])

    assert [kernel.times_s for kernel in times.kernels()] == [(1.5,), (0.0,), (1.0,)]


def test_status_words_are_not_times() -> None:
    recorder = CallbackRecorder()

    recorder.add(32, b"Invoke", -1, 0, 2**32)
    recorder.add(DELEGATED, b"Conv", 0, 0, 7)

    (event,) = recorder.take()
    assert event.name == "Conv"
    assert event.duration_s == pytest.approx(7e-6)
    assert recorder.take() == []


def test_the_bias_of_callbacks_is_more_than_nothing() -> None:
    assert callback_bias_s() > 0.0
