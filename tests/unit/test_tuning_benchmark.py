"""The boards of benchmarks/tuner.py, and how it judges a choice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.tuner import BOARDS, BROKEN_BUDGET, BUDGETED, Bench, Scene, figures_of, scene, true_values
from device_agents import topology, wire
from device_agents.runtimes.simulated_machine import SimulatedMachine
from edgeprof.models.simulated import on_the_wire
from edgeprof.tuning.configuration import Configuration
from edgeprof.tuning.objective import ENERGY, LATENCY
from edgeprof.tuning.space import Choices, clusters, configurations
from latency_models import boards

FILES = sorted(BOARDS.glob("*.toml"))
MODEL = wire.ModelRef("m.onnx", "onnx", "digest", (wire.FileRef("m.onnx", "digest", 1000),))


@pytest.fixture(scope="module")
def symmetric() -> Scene:
    return scene(BOARDS / "symmetric.toml", "products")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_boards_say_that_they_are_invented_and_have_hundreds_of_configurations(path: Path) -> None:
    board = boards.parse(path.stem, path.read_text("utf-8"))
    told = topology.read(SimulatedMachine(on_the_wire(board), 0))

    assert board.description.startswith("Invented")
    assert {figure.source for figure in board.figures.values()} == {"invented"}
    assert board.name not in boards.names()
    assert 200 <= len(configurations(told, Choices(runtimes=("simulated",), caps=True))) <= 2000
    assert len(clusters(told)) == len(board.clusters)


def test_they_are_different_boards() -> None:
    kinds = {len(boards.parse(path.stem, path.read_text("utf-8")).clusters) for path in FILES}

    assert len(FILES) >= 4
    assert kinds == {1, 2, 3}


def test_heat_counts_in_the_truth() -> None:
    hot = on_the_wire(boards.parse("hot", (BOARDS / "hot.toml").read_text("utf-8")))
    conv = (wire.Work("conv", "Conv", 50_000_000, 100_000),)
    job = wire.Job(MODEL, "simulated", board=replace(hot, noise=0.0, sensor=None), work=conv)
    all_fast = Configuration(runtime="simulated", threads=4, affinity=(4, 5, 6, 7), placement="big")
    cool = replace(job, board=replace(hot, noise=0.0, sensor=None, trip_c=200.0))

    assert true_values(job, all_fast)[0] > 1.05 * true_values(cool, all_fast)[0]


def test_regret_is_the_share_above_the_best_that_keeps_the_budget(symmetric: Scene) -> None:
    limit_s = symmetric.objective(BUDGETED).latency_budget_s
    thrifty, fastest = int(np.argmin(symmetric.energy_j)), int(np.argmin(symmetric.latency_s))

    assert limit_s is not None
    assert symmetric.latency_s.min() < limit_s < symmetric.latency_s[thrifty]
    assert symmetric.regret(LATENCY, fastest) == symmetric.regret(ENERGY, thrifty) == 0.0
    assert symmetric.regret(BUDGETED, thrifty) == BROKEN_BUDGET
    assert symmetric.regret(BUDGETED, fastest) > 0.0
    assert symmetric.regret(ENERGY, fastest) == pytest.approx(
        symmetric.energy_j[fastest] / symmetric.energy_j[thrifty] - 1
    )


def test_measuring_is_noisy_and_more_thorough_is_less_so(symmetric: Scene) -> None:
    bench = Bench(symmetric, 0)
    one = symmetric.configurations[5]

    def errors(level: int) -> np.ndarray:
        seen = [bench(one, level).latency for _ in range(300)]
        return np.log([value.value / float(symmetric.latency_s[5]) for value in seen if value is not None])

    assert 1.3 < errors(1).std() / errors(3).std() < 2.5
    assert abs(errors(1).mean()) < 0.002


def test_figures_are_over_all_runs_and_by_goal() -> None:
    runs: list[dict[str, object]] = [
        {"goal": goal, "regret": regret, "random_regret": 0.5, "measured": 10, "configurations": 100 + k}
        for k, (goal, regret) in enumerate([(LATENCY, 0.0), (ENERGY, 0.04), (BUDGETED, 0.01)])
    ]

    figures = figures_of(runs)

    assert (figures["median_regret"], figures["worst_regret"]) == (0.01, 0.04)
    assert (figures["energy_worst_regret"], figures["random_median_regret"]) == (0.04, 0.5)
    assert figures["measured_share"] == 0.1
