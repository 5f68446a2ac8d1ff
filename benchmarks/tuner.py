"""How near the tuner's choice comes to the best configuration, where the whole truth is known.

Boards are data files with invented figures (tuner_boards/*.toml, or --boards FOLDER with your own): cores that contend
for memory, threads that wait for each other, clocks with cliffs, heat. Every configuration that `edgeprof tune` would
consider on a board is computed without noise; that is the truth, after `WARM_S` of running, so that heat counts. The
tuner measures with noise and sees nothing else: the board's own noise on every run, `WANDER` on every round, and
the sensor's noise on energy. Intervals are estimated from the rounds, as for a device. Re-measuring counts as well.

Regret is by how much, as a share, the truth of the chosen configuration exceeds that of the best one. One that
does not keep the latency budget counts `BROKEN_BUDGET`. The budget lies halfway (in logarithms) between the
shortest latency and that of the configuration with the least energy. `random_*`: the best of as many random
configurations, with the same noise and the same rule of choice. `measured_share` is the largest share of configurations
measured, every measurement counted. Wanted: a median regret of 0.02 and none above 0.08.

    python benchmarks/tuner.py [--out RAW.json] [--seeds 20] [--boards FOLDER] [--share 0.15] [--jobs 2]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

# Processes work side by side, each on one core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from device_agents import topology, wire
from device_agents.runtimes.simulated import SimulatedSession, open_session
from device_agents.runtimes.simulated_machine import SimulatedMachine
from edgeprof.models.simulated import on_the_wire, work
from edgeprof.statistics import student_t
from edgeprof.tuning.configuration import Configuration
from edgeprof.tuning.features import features
from edgeprof.tuning.objective import ENERGY, LATENCY, Measured, Objective
from edgeprof.tuning.racing import Combined, combined, contenders
from edgeprof.tuning.space import Choices, configurations
from edgeprof.tuning.tuner import tune
from edgeprof.values import Value
from latency_models import boards, builder
from latency_models.graph import Graph

Array = NDArray[np.float64]
BOARDS = Path(__file__).parent / "tuner_boards"
SHARE, SEEDS = 0.15, 20
# The truth is that of so long after running for so long.
WARM_S, WATCHED_S = 20.0, 10.0
# Between rounds a device is not quite the same: relative standard deviation.
WANDER = 0.01
# Rounds of a measurement, runs in each, and seconds of each window of energy, by how thorough it is.
ROUNDS, RUNS, WINDOW_S = {1: 3, 2: 5, 3: 7}, {1: 10, 2: 20, 3: 40}, {1: 2.0, 2: 4.0, 3: 8.0}
T_95 = {n: student_t(0.95, n - 1) for n in ROUNDS.values()}
BROKEN_BUDGET = 1.0
BUDGETED = "energy_in_time"
GOALS = (LATENCY, ENERGY, BUDGETED)
MODEL = wire.ModelRef("m.onnx", "onnx", "digest", (wire.FileRef("m.onnx", "digest", 1_000_000),))


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A model on a board: its configurations, what can be known of them, and their true latency and energy (n,)."""

    name: str
    board: wire.Board
    configurations: list[Configuration]
    features: Array
    latency_s: Array
    energy_j: Array

    def objective(self, goal: str) -> Objective:
        if goal != BUDGETED:
            return Objective(name=goal)
        thrifty_s = float(self.latency_s[np.argmin(self.energy_j)])
        return Objective(name=ENERGY, latency_budget_s=math.sqrt(float(self.latency_s.min()) * thrifty_s))

    def regret(self, goal: str, place: int) -> float:
        truth = self.latency_s if goal == LATENCY else self.energy_j
        limit_s = self.objective(goal).latency_budget_s or math.inf
        if self.latency_s[place] > limit_s:
            return BROKEN_BUDGET
        return float(truth[place] / truth[self.latency_s <= limit_s].min() - 1.0)


# --- what is run -------------------------------------------------------------------------------------------------


def convolutions() -> Graph:
    """A small classifier of images by convolutions and residual sums, which mostly computes."""
    net = builder("onnx", name="convolutions")
    x = net.conv(net.image(96, 96), 32, kernel=3, stride=2, activation="relu")
    for channels, stride in ((32, 1), (64, 2), (96, 1), (128, 2), (160, 1)):
        x = net.conv(x, channels, kernel=3, stride=stride, activation="relu")
        x = net.add(x, net.conv(x, channels, kernel=3, activation="relu"))
    return net.graph(net.dense(net.flatten(net.global_average(x)), 10))


def products() -> Graph:
    """Dense layers on a single vector, as in a recommender, which mostly fetches weights."""
    net = builder("onnx", name="products")
    x = net.input((1, 512))
    for units in (1024, 1024, 768, 768, 512, 512, 256):
        x = net.dense(x, units, activation="relu")
    return net.graph(net.dense(x, 64))


MODELS: dict[str, Callable[[], Graph]] = {"convolutions": convolutions, "products": products}


# --- the truth ---------------------------------------------------------------------------------------------------


def scene(path: Path, model: str) -> Scene:
    board = on_the_wire(boards.parse(path.stem, path.read_text("utf-8")))
    silent = replace(board, noise=0.0, sensor=None)
    told = topology.read(SimulatedMachine(board, 0))
    found = configurations(told, Choices(runtimes=("simulated",), caps=True))
    job = wire.Job(MODEL, "simulated", board=silent, work=work(MODELS[model]()))
    truth = np.array([true_values(job, one) for one in found])
    return Scene(
        name=f"{path.stem}/{model}",
        board=board,
        configurations=found,
        features=features(found, told),
        latency_s=truth[:, 0],
        energy_j=truth[:, 1],
    )


def true_values(job: wire.Job, one: Configuration) -> tuple[float, float]:
    """Seconds and joules above rest of an inference, when the board has become as warm as it gets."""
    job = replace(job, options=one.options(job.options), clock_caps=one.caps)
    if job.board is None:
        raise ValueError("the job has no board")
    machine = Accountant(job.board)
    session = open_session(job, "", machine, False)
    latency_s, energy_j = watched(session, machine, 0.0)
    settled_c = job.board.ambient_c + (job.board.idle_w + energy_j / latency_s) * job.board.resistance_k_per_w
    if settled_c < job.board.trip_c:  # it stays cool, and so every run is as the first
        return latency_s, energy_j
    watched(session, machine, WARM_S)
    return watched(session, machine, WATCHED_S)


def watched(session: SimulatedSession, machine: Accountant, seconds: float) -> tuple[float, float]:
    """Run at least once and for about so long; mean seconds and joules above rest of a run."""
    start_s, start_j = machine.now(), machine.energy_j
    n_runs = 0
    while n_runs == 0 or machine.now() < start_s + seconds:
        before_s = machine.now()
        session.run()
        # The others until the thermal governor looks next take as long.
        more = int(machine.board.poll_s / (machine.now() - before_s)) if seconds else 0
        if more:
            session.run_many(more)
        n_runs += 1 + more
    return (machine.now() - start_s) / n_runs, (machine.energy_j - start_j) / n_runs


class Accountant(SimulatedMachine):
    """The board, which also adds up what it takes above rest."""

    def __init__(self, board: wire.Board) -> None:
        self.energy_j = 0.0
        super().__init__(board, 0)

    def _warm(self, seconds: float, busy: tuple[int, ...], power_w: float) -> None:
        self.energy_j += seconds * (power_w - self.board.idle_w)
        super()._warm(seconds, busy, power_w)


# --- measuring, and choosing -------------------------------------------------------------------------------------


class Bench:
    """Measures configurations of a scene with noise."""

    def __init__(self, scene: Scene, seed: int) -> None:
        self._scene = scene
        self._places = {one: place for place, one in enumerate(scene.configurations)}
        self._rng = np.random.default_rng(seed)

    def __call__(self, one: Configuration, level: int) -> Measured:
        place, board = self._places[one], self._scene.board
        latency_s, energy_j = float(self._scene.latency_s[place]), float(self._scene.energy_j[place])
        noise = board.noise * math.sqrt(math.pi / 2 / RUNS[level])  # of a median
        latency = self._seen(latency_s, noise, ROUNDS[level])
        if board.sensor is None:
            return Measured(latency=latency)
        updates = board.sensor.rate_hz * WINDOW_S[level]
        noise = board.sensor.noise_w / math.sqrt(updates) / (energy_j / latency_s)
        return Measured(latency=latency, energy=self._seen(energy_j, noise, ROUNDS[level]))

    def _seen(self, truth: float, noise: float, n_rounds: int) -> Value:
        rounds = self._rng.normal(0.0, math.hypot(noise, WANDER), n_rounds)
        half = T_95[n_rounds] * float(rounds.std(ddof=1)) / math.sqrt(n_rounds)
        middle = float(rounds.mean())
        return Value(
            truth * math.exp(middle), truth * math.exp(middle - half), truth * math.exp(middle + half), "simulated"
        )


def tuned(scene: Scene, goal: str, seed: int, budget: int) -> tuple[int, int]:
    """The place that the tuner chooses, and how often it measured."""
    found = tune(
        scene.configurations, scene.features, Bench(scene, seed), scene.objective(goal), budget=budget, seed=seed
    )
    return scene.configurations.index(found.best), len(found.measurements)


def drawn(scene: Scene, goal: str, seed: int, budget: int) -> int:
    """The place of the best of so many drawn ones."""
    bench, objective = Bench(scene, seed), scene.objective(goal)
    places = np.random.default_rng([seed, 1]).permutation(len(scene.configurations))[:budget]
    known: list[Combined] = []
    for place in map(int, places):
        found = combined(place, [bench(scene.configurations[place], 1)], objective)
        known += [found] if found is not None else []
    return contenders(known)[0].place


def runs_of(seeds: int, share: float, place: tuple[Path, str]) -> list[dict[str, object]]:
    """Everything of one board and model."""
    one = scene(*place)
    n = len(one.configurations)
    budget = int(share * n)
    found: list[dict[str, object]] = []
    for goal in GOALS:
        for seed in range(seeds):
            chosen, measured = tuned(one, goal, seed, budget)
            found.append(
                {
                    "scene": one.name,
                    "goal": goal,
                    "seed": seed,
                    "configurations": n,
                    "measured": measured,
                    "chosen": one.configurations[chosen].name,
                    "regret": one.regret(goal, chosen),
                    "random_regret": one.regret(goal, drawn(one, goal, seed, measured)),
                }
            )
    return found


def figures_of(runs: list[dict[str, object]]) -> dict[str, float]:
    def numbers(key: str, goal: str | None = None) -> list[float]:
        return [float(str(run[key])) for run in runs if goal in (None, run["goal"])]

    shares = [float(str(run["measured"])) / float(str(run["configurations"])) for run in runs]
    figures = {
        "median_regret": statistics.median(numbers("regret")),
        "worst_regret": max(numbers("regret")),
        "random_median_regret": statistics.median(numbers("random_regret")),
        "random_worst_regret": max(numbers("random_regret")),
        "measured_share": max(shares),
        "median_measured": statistics.median(numbers("measured")),
        "fewest_configurations": min(numbers("configurations")),
        "most_configurations": max(numbers("configurations")),
    }
    for goal in GOALS:
        figures[f"{goal}_median_regret"] = statistics.median(numbers("regret", goal))
        figures[f"{goal}_worst_regret"] = max(numbers("regret", goal))
        figures[f"{goal}_random_median_regret"] = statistics.median(numbers("random_regret", goal))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--boards", type=Path, default=BOARDS)
    parser.add_argument("--share", type=float, default=SHARE)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    paths = sorted(arguments.boards.glob("*.toml"))
    if not paths:
        print(json.dumps({"name": "tuner", "skipped": f"there is no board (*.toml) in {arguments.boards}"}))
        return
    places = [(path, model) for path in paths for model in MODELS]
    with ProcessPoolExecutor(arguments.jobs) as pool:
        found = list(pool.map(partial(runs_of, arguments.seeds, arguments.share), places))
    runs = [run for part in found for run in part]
    if arguments.out is not None:
        arguments.out.write_text(json.dumps({"share": arguments.share, "runs": runs}))
    print(json.dumps({"name": "tuner", "figures": figures_of(runs)}))


if __name__ == "__main__":
    main()
