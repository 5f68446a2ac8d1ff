"""Ranks of models in the first minute and the last: what is tied, what swaps, and how alike the orders are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from device_agents.wire import Work
from edgeprof.models import board_to_simulate
from edgeprof.standing import standings
from edgeprof.sustained import Sustained, sustained
from tests.unit.sustained_runs import of_numbers, on_board


def model(name: str, first_s: float, last_s: float, *, warm_c: float = 41.0, seed: int = 0, **fields: Any) -> Sustained:
    """A model with these latencies in its first six and its last six rounds, of a device that was so warm at first."""

    def heats(k: int) -> dict[str, Any]:
        return {"temperatures_c": {"cpu": warm_c + k + 1}}

    run = of_numbers([first_s] * 6 + [last_s] * 12, heats, name=name, seed=seed, **{"id": f"run-{name}", **fields})
    return sustained(run)


def test_a_model_that_throttles_falls_behind_one_that_does_not() -> None:
    found = standings([model("big", 0.010, 0.015), model("small", 0.012, 0.0121, seed=1)])

    assert found is not None
    assert [(one.model, one.first_rank, one.last_rank) for one in found.models] == [("small", 2, 1), ("big", 1, 2)]
    assert found.tau == -1.0
    assert found.swaps == ("big is faster than small in the first minute, and slower in the last",)
    assert found.doubts == ()


def test_on_a_board_that_throttles_a_model_that_computes_falls_behind_one_that_moves_memory() -> None:
    board = board_to_simulate("pi-4")
    (cluster,) = board.clusters
    macs = round(0.20 * cluster.cores * cluster.macs_per_cycle * cluster.clocks_hz[-1])
    computes = Work("conv", "Conv", macs, 1)
    moves = Work("add", "Add", 1, round(0.21 * board.memory_bytes_per_s))

    found = standings(
        [
            sustained(on_board("pi-4", work=computes, name="computes")),
            sustained(on_board("pi-4", work=moves, name="moves")),
        ]
    )

    assert found is not None
    assert [(one.model, one.first_rank, one.last_rank) for one in found.models] == [("moves", 2, 1), ("computes", 1, 2)]
    assert found.swaps == ("computes is faster than moves in the first minute, and slower in the last",)
    assert found.tau == -1.0
    assert found.doubts == ()


def test_models_whose_intervals_overlap_share_a_rank_and_the_next_one_counts_both() -> None:
    found = standings([model("a", 0.010, 0.012), model("b", 0.010, 0.013, seed=1), model("c", 0.020, 0.022, seed=2)])

    assert found is not None
    assert {one.model: (one.first_rank, one.last_rank) for one in found.models} == {
        "a": (1, 1),
        "b": (1, 2),
        "c": (3, 3),
    }
    # Two of three pairs are ordered at first, all three in the end: 2 / sqrt(2 * 3).
    assert found.tau == pytest.approx(2 / 6**0.5)
    assert found.swaps == ()


def test_where_nothing_can_be_told_apart_there_is_no_tau_and_a_reason() -> None:
    found = standings([model("a", 0.010, 0.012), model("b", 0.010, 0.013, seed=1)])

    assert found is not None
    assert found.tau is None
    assert found.tau_missing == "in one of the two minutes no model is surely faster than another"


def test_the_same_order_of_many_models_is_a_tau_of_one() -> None:
    found = standings([model(name, 0.01 * k, 0.012 * k, seed=k) for k, name in enumerate("abcde", 1)])

    assert found is not None
    assert found.tau == 1.0
    assert [one.model for one in found.models] == list("abcde")


def test_a_model_that_began_warmer_is_told() -> None:
    found = standings([model("a", 0.010, 0.012), model("b", 0.020, 0.022, warm_c=49.0, seed=1)])

    assert found is not None
    assert found.doubts == ("b began 8 K warmer than the coolest: its first minute suffers",)
    assert [one.began_warmer_k for one in found.models] == [0.0, 8.0]


def test_models_of_the_same_name_are_told_apart_by_their_runs_and_one_alone_has_no_rank() -> None:
    found = standings([model("a", 0.010, 0.012, id="x"), model("a", 0.020, 0.022, id="y", seed=1)])

    assert found is not None
    assert [one.model for one in found.models] == ["a (x)", "a (y)"]
    assert standings([model("a", 0.010, 0.012)]) is None


def test_the_same_model_in_several_batches_is_told_apart_by_them() -> None:
    def batched(batch: int) -> Sustained:
        return replace(model("net", 0.01 * batch, 0.012 * batch, seed=batch), batch=batch)

    found = standings([batched(1), batched(4)])

    assert found is not None
    assert [one.model for one in found.models] == ["net, batch 1", "net, batch 4"]


def test_doubts_of_a_model_and_different_times_are_doubts_of_the_comparison() -> None:
    def unplugged(k: int) -> dict[str, Any]:
        return {"power_source": "Mains online" if k < 5 else "battery Discharging at 80 %"}

    doubtful = sustained(of_numbers([0.02] * 30, unplugged, name="b", seed=1))

    found = standings([model("a", 0.010, 0.012), doubtful])

    assert found is not None
    assert found.doubts[0].startswith("they did not run for the same time")
    assert found.doubts[1].startswith("b is in doubt: the power source changed after 60 s")
