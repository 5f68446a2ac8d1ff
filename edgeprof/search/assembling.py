"""From a plan to what works: the space, the data, the judge, predictors and devices, the strategy."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgeprof.carbon import Intensity
from edgeprof.carbon.of_run import find_intensity
from edgeprof.errors import SearchError, UsageError
from edgeprof.fleet import Fleet
from edgeprof.imports import imported
from edgeprof.places import fleet_file
from edgeprof.search.costs import Costs, Estimator, TargetCosts
from edgeprof.search.devices import Bench
from edgeprof.search.evaluating import Evaluator, Proxy
from edgeprof.search.evaluation import Goal
from edgeprof.search.judging import ByFunction, ByTable, Judge
from edgeprof.search.plan import Plan, Target
from edgeprof.search.proxies import OfGraph, OfNet
from edgeprof.search.space import SearchSpace
from edgeprof.search.spaces import space_of
from edgeprof.search.strategies.base import Strategy
from edgeprof.training.keeping import load_predictor
from edgeprof.training.measuring import FORMATS
from latency_models.adapted import Adapted
from latency_models.predictor import Predictor

if TYPE_CHECKING:
    from edgeprof.search.learning.data import Dataset

__all__ = ["RUNS", "SUPERNET", "Assembled", "assemble", "strategy_of"]

SUPERNET, RUNS = "supernet.npz", "runs.sqlite"
LIMITS = {
    "latency": "latency_s", "energy": "energy_j", "memory": "memory_bytes", "size": "size_bytes", "carbon": "carbon_g",
}  # fmt: skip


@dataclass
class Assembled:
    """All parts of a search. Close it: devices may be open."""

    plan: Plan
    space: SearchSpace
    goals: tuple[Goal, ...]
    evaluator: Evaluator
    judge: Judge | None
    benches: Mapping[str, Bench]
    intensity: Intensity
    data: Dataset | None
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def n_objectives(self) -> int:
        return sum(goal.is_objective for goal in self.goals)

    def __enter__(self) -> Assembled:
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.close()


def assemble(plan: Plan, beside: Path, folder: Path, tell: Callable[[str], None] = lambda text: None) -> Assembled:
    """All that a plan names.

    Args:
        plan: what is to be done.
        beside: the folder in which the plan's paths are looked for.
        folder: the study's, for what is kept.
        tell: hears of devices that are lost for a moment.

    Raises:
        EdgeprofError: something that it names is not there, or does not go together.
    """
    space = space_of(plan.space, beside)
    if not space.genes or space.n_architectures < 2:
        raise SearchError(f"{space.name} has one net: there is nothing to search", "give it choices")
    data = None
    if plan.data is not None:
        from edgeprof.search.learning.data import read_data

        source = plan.data.source
        inside = beside / source
        source = str(inside) if inside.exists() else source
        data = read_data(source, kind=plan.data.kind, side=plan.data.side, seed=plan.data.seed)
    targets = [_target(one, beside) for one in plan.targets]
    names = [target.name for target in targets]
    if len(set(names)) < len(names):
        raise UsageError(f"two targets are called {max(names, key=names.count)}", "name each device once")
    goals = goals_of(plan, names)
    benches = _benches(plan, targets, space, folder, tell)
    intensity = find_intensity(zone=plan.carbon.zone, intensity=plan.carbon.intensity, provider=plan.carbon.provider)
    grid = intensity.input
    needs_error = any(goal.name == "error" for goal in goals)
    judge = _judge(plan, space, data, beside, folder) if needs_error else None
    evaluator = Evaluator(
        goals=goals,
        costs=Costs(
            space, tuple(targets), frozenset(goal.name.split(" ")[0] for goal in goals),
            (grid.value, grid.low, grid.high),
        ),
        judge=judge,
        across=plan.across,
        devices=benches,
        when={one.name: one.in_the_loop for one in plan.targets if one.in_the_loop != "never"},
        proxy=_proxy(plan, space, data),
        epochs=plan.accuracy.epochs,
        halving=plan.accuracy.halving,
        seed=plan.search.seed,
    )  # fmt: skip
    stack = ExitStack()
    for bench in benches.values():
        stack.enter_context(bench)
    return Assembled(plan, space, goals, evaluator, judge, benches, intensity, data, stack)


def goals_of(plan: Plan, targets: list[str]) -> tuple[Goal, ...]:
    """Objectives first, then what has a limit alone."""
    several = plan.across == "each" and len(targets) > 1
    limits = plan.limits
    of_limits: dict[str, float] = {
        name: limit for name, attribute in LIMITS.items() if (limit := getattr(limits, attribute)) is not None
    }
    if limits.accuracy is not None:
        of_limits["error"] = 1.0 - limits.accuracy
    found = []
    for name in (*plan.objectives, *(name for name in of_limits if name not in plan.objectives)):
        is_of_targets = name in ("latency", "energy", "memory", "carbon")
        for full in [f"{name} {target}" for target in targets] if several and is_of_targets else [name]:
            found.append(Goal(full, of_limits.get(name), name in plan.objectives))
    return tuple(found)


def _target(one: Target, beside: Path) -> TargetCosts:
    estimator: Estimator | None = None
    format = FORMATS[one.runtime] if one.runtime is not None else "onnx"
    if one.predictor is not None:
        inside = beside / one.predictor
        loaded: Predictor | Adapted = load_predictor(str(inside) if inside.is_file() else one.predictor)
        format = FORMATS.get(loaded.target.runtime, "onnx")
        if one.runtime is not None and loaded.target.runtime != one.runtime:
            raise UsageError(
                f"{one.predictor} predicts {loaded.target.runtime}, and the target says {one.runtime}",
                "leave runtime out, or name a predictor of it",
            )
        estimator = loaded
    elif one.board is not None:
        from latency_models.boards import UnknownBoard
        from latency_models.datasheet import BoardPredictor

        try:
            estimator = BoardPredictor.of(one.board, threads=one.threads)
        except (UnknownBoard, ValueError) as error:
            raise UsageError(str(error), "edgeprof sim list shows the boards that are described") from error
    return TargetCosts(one.name, estimator, format, one.weight)


def _benches(
    plan: Plan, targets: list[TargetCosts], space: SearchSpace, folder: Path, tell: Callable[[str], None]
) -> dict[str, Bench]:
    found = {}
    fleet = Fleet.read(fleet_file())
    for one, target in zip(plan.targets, targets, strict=True):
        if one.device is None:
            continue
        device = fleet.device(one.device)
        predictor = target.estimator if isinstance(target.estimator, Predictor | Adapted) else None
        usual = "simulated" if device.board is not None else "onnxruntime"
        runtime = one.runtime or (predictor.target.runtime if predictor is not None else usual)
        energy = bool({"energy", "carbon"} & set(plan.objectives)) and one.in_the_loop == "always"
        found[one.name] = Bench(device, runtime, space, folder / RUNS, one.threads, energy, on_lost=tell)
    return found


def _judge(plan: Plan, space: SearchSpace, data: Dataset | None, beside: Path, folder: Path) -> Judge:
    accuracy, seed = plan.accuracy, plan.search.seed
    if accuracy.by == "table":
        return ByTable(beside / str(accuracy.table), space)
    if accuracy.by == "function":
        function = imported(str(accuracy.function), beside)
        if not callable(function):
            raise UsageError(f"{accuracy.function} cannot be called", "name a function")
        return ByFunction(function, space, seed, accuracy.epochs, data)
    try:
        import torch

        from edgeprof.search.learning.fitting import Recipe
        from edgeprof.search.learning.judges import BySupernet, ByTraining
    except ImportError as error:
        raise UsageError(
            "to train nets torch is needed, which is not there", "pip install 'edgeprof[torch]'"
        ) from error
    torch.set_num_threads(plan.search.threads or len(os.sched_getaffinity(0)))
    if data is None:
        raise UsageError(f'accuracy by "{accuracy.by}" needs [data]', "name what nets are trained on")
    recipe = Recipe(accuracy.epochs, accuracy.batch, accuracy.learning_rate)
    final = accuracy.final_epochs or accuracy.epochs
    if accuracy.by == "supernet":
        return BySupernet(space, data, recipe, final, seed, folder / SUPERNET)
    return ByTraining(space, data, recipe, final, seed)


def _proxy(plan: Plan, space: SearchSpace, data: Dataset | None) -> Proxy | None:
    name = plan.accuracy.proxy
    if name is None:
        return None
    if name in ("parameters", "macs"):
        return OfGraph(name, space)
    if data is None:
        raise UsageError(f"{name} looks at data, and there is no [data]", "give it, or another proxy")
    return OfNet(name, space, data, plan.search.seed)


def strategy_of(plan: Plan, space: SearchSpace, n_objectives: int, worker: int = 0) -> Strategy:
    """The strategy; workers beside the first have other seeds, so that they do not all ask the same."""
    seed, name = plan.search.seed + 1_000_003 * worker, plan.search.strategy
    if name in ("tpe", "nsga2", "nsga3"):
        from edgeprof.search.strategies.by_optuna import OptunaStrategy

        population = max(10, min(50, math.isqrt(plan.search.evaluations) * 2))
        return OptunaStrategy(space, n_objectives, seed, sampler=name, population=population)
    if name.startswith("nni-"):
        from edgeprof.search.strategies.by_nni import NniStrategy

        return NniStrategy(space, n_objectives, seed, strategy=name)
    if name == "pymoo":
        from edgeprof.search.strategies.by_pymoo import PymooStrategy

        return PymooStrategy(space, n_objectives, seed, population=max(10, min(40, plan.search.evaluations // 5)))
    if name == "evolution":
        from edgeprof.search.strategies.evolution import RegularisedEvolution

        return RegularisedEvolution(
            space, n_objectives, seed, population=max(10, min(30, plan.search.evaluations // 4))
        )
    if name == "local":
        from edgeprof.search.strategies.local_search import LocalSearch

        return LocalSearch(space, n_objectives, seed)
    if name == "random":
        from edgeprof.search.strategies.random_search import RandomSearch

        return RandomSearch(space, n_objectives, seed)
    from edgeprof.search.strategies.guided import Guided

    return Guided(space, n_objectives, seed)
