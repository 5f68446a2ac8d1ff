"""Batches of profiled runs: their sizes, and what is put together of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agents.operator_batches import MAX_TIMES, Batches, batch_runs
from device_agents.runtimes import Recorded
from device_agents.wire import Kernel, Schedule


def recorded(*kernels: tuple[str, str, tuple[float, ...]]) -> Recorded:
    return Recorded("profiler", [Kernel(name, kind, "kernel", times_s) for name, kind, times_s in kernels], 1e-6)


@given(st.integers(1, 10**7), st.integers(1, 1000), st.integers(1, 10**6), st.integers(0, 50))
def test_a_batch_keeps_to_the_bound_or_is_the_smallest_there_can_be(
    piled_up: int, n_left: int, bound: int, warmup: int
) -> None:
    schedule = Schedule(operator_batch_events=bound, warmup_min_runs=warmup)

    n_warmup, n_runs = batch_runs(schedule, piled_up, n_left)

    assert n_warmup >= 1
    assert 1 <= n_runs <= n_left
    assert (n_warmup + n_runs) * piled_up <= bound or (n_warmup, n_runs) == (1, 1)


def test_a_batch_of_a_model_that_nothing_is_known_of_is_small() -> None:
    assert batch_runs(Schedule(), None, 30) == (1, 1)


def test_where_nothing_piles_up_one_batch_has_every_run() -> None:
    assert batch_runs(Schedule(), 0, 30) == (3, 30)


def test_a_usual_model_needs_one_batch() -> None:
    assert batch_runs(Schedule(), 250, 30) == (3, 30)


def test_kernels_are_put_together_by_order_where_a_session_renamed_them() -> None:
    batches = Batches(3)

    batches.add(recorded(("conv", "Conv", (1.0,)), ("Mul_17", "Mul", (2.0,))), [3.5])
    batches.add(recorded(("conv", "Conv", (1.1, 1.2)), ("Mul_23", "Mul", (2.1, 2.2))), [3.6, 3.7])

    merged = batches.merged()
    assert [(k.name, k.times_s) for k in merged.kernels] == [("conv", (1.0, 1.1, 1.2)), ("Mul_17", (2.0, 2.1, 2.2))]
    assert batches.latencies_s == [3.5, 3.6, 3.7]
    assert batches.n_left == 0
    assert batches.notes() == ()


@pytest.mark.parametrize(
    "other", [[("a", "Relu"), ("b", "Tanh")], [("b", "Conv"), ("a", "Relu")], [("a", "Relu")], []], ids=str
)
def test_a_batch_that_ran_other_kernels_is_left_out_and_told(other: list[tuple[str, str]]) -> None:
    batches = Batches(5)
    batches.add(recorded(("a", "Relu", (1.0, 1.0)), ("b", "Conv", (2.0, 2.0))), [3.0, 3.0])

    batches.add(recorded(*((name, kind, (9.0,)) for name, kind in other)), [9.0])

    assert [k.times_s for k in batches.merged().kernels] == [(1.0, 1.0), (2.0, 2.0)]
    assert batches.latencies_s == [3.0, 3.0]
    assert batches.n_left == 2
    assert batches.notes()[0].startswith("1 profiled runs were left out")


def test_a_model_of_very_many_kernels_gets_fewer_runs() -> None:
    batches = Batches(30)

    batches.add(recorded(*((f"n{k}", "Relu", (1.0,)) for k in range(MAX_TIMES // 2))), [1.0])

    assert batches.n_left == 1
