"""How much of the front a strategy finds with few evaluations, where the whole truth is known.

Tables: accuracies of all 15,625 cells of NAS-Bench-201 (folder `nas_dev` of $EDGEPROF_DATA) and their latencies on
published devices (`latency_dev`). One evaluation reveals three objectives of one cell: its accuracy and its latency on
two devices; a strategy reads nothing else, and a cell that is asked for again counts again. They are development data.

Figures: `NAME_N`, after N evaluations the share of the true front's hypervolume, the mean over seeds; objectives are
scaled to 0 and 1 at the best and the worst of the table, where the reference lies. `ours` is what `search run` takes
for dear evaluations; beside it random search, Optuna's TPE (multivariate) and NSGA-II, pymoo's NSGA-II, and
regularised evolution, on the same seeds. Populations are 20 for all that have one: with 40 they would be random for
most of the way. Wanted: ours at or above the best of the others at every N.

    python benchmarks/search.py [--out RAW.json] [--seeds 10] [--devices A B] [--accuracy NAME] [--only NAME ...]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

# Processes work side by side, each on one core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from edgeprof.search.front import hypervolume, is_on_front
from edgeprof.search.space import Architecture, SearchSpace
from edgeprof.search.spaces import NasBench201
from edgeprof.search.strategies import Strategy, Told
from edgeprof.search.strategies.by_optuna import OptunaStrategy
from edgeprof.search.strategies.by_pymoo import PymooStrategy
from edgeprof.search.strategies.evolution import RegularisedEvolution
from edgeprof.search.strategies.guided import Guided
from edgeprof.search.strategies.random_search import RandomSearch

Array = NDArray[np.float64]
BUDGETS = (50, 100, 200, 300)
POPULATION = 20
DEVICES, ACCURACY = ("1080ti_1", "samsung_s7"), "cifar10-test"
STRATEGIES: dict[str, Callable[[SearchSpace, int, int], Strategy]] = {
    "ours": Guided,
    "random": RandomSearch,
    "tpe": partial(OptunaStrategy, sampler="tpe"),
    "nsga2": partial(OptunaStrategy, sampler="nsga2", population=POPULATION),
    "pymoo": partial(PymooStrategy, population=POPULATION),
    "regevo": partial(RegularisedEvolution, population=POPULATION),
}


@dataclass(frozen=True)
class Table:
    """Of every architecture its place, and of each place what an evaluation gives, all to be small: (n, objectives)."""

    places: dict[Architecture, int]
    values: Array


def read(folder: Path, devices: tuple[str, ...], accuracy: str) -> Table:
    with np.load(folder / "nas_dev" / "nasbench201_accuracy.npz", allow_pickle=False) as data:
        places = {tuple(map(int, row)): place for place, row in enumerate(data["op_index"])}
        percent = data["accuracy_percent"][:, list(data["columns"].astype(str)).index(accuracy)]
    with np.load(folder / "latency_dev" / "nasbench201_latency_dev.npz", allow_pickle=False) as data:
        names = list(data["devices"].astype(str))
        latency_ms = [data["latency_ms"][names.index(device)] for device in devices]
    return Table(places, np.stack([-percent, *latency_ms], axis=1).astype(np.float64))


def shares(name: str, seed: int, table: Table) -> dict[int, float]:
    """The share of the true hypervolume after each of `BUDGETS`."""
    low, high = table.values.min(axis=0), table.values.max(axis=0)
    scaled = (table.values - low) / (high - low)
    reference = np.ones(scaled.shape[1])
    whole = hypervolume(scaled[is_on_front(scaled)], reference)
    strategy = STRATEGIES[name](NasBench201(prunes=False), scaled.shape[1], seed)
    seen, found = [], {}
    for n in range(1, max(BUDGETS) + 1):
        architecture = strategy.ask()
        place = table.places[architecture]
        strategy.tell(Told(architecture, tuple(map(float, table.values[place]))))
        seen.append(scaled[place])
        if n in BUDGETS:
            found[n] = hypervolume(np.array(seen), reference) / whole
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--devices", nargs="+", default=DEVICES)
    parser.add_argument("--accuracy", default=ACCURACY)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    arguments = parser.parse_args()
    folder = os.environ.get("EDGEPROF_DATA")
    if folder is None or not (Path(folder) / "nas_dev").is_dir():
        print(json.dumps({"name": "search", "skipped": "EDGEPROF_DATA names no folder with nas_dev and latency_dev"}))
        return
    table = read(Path(folder), tuple(arguments.devices), arguments.accuracy)
    jobs = [(name, seed) for name in arguments.only for seed in range(arguments.seeds)]
    with ProcessPoolExecutor(arguments.jobs) as pool:
        found = list(pool.map(shares, *zip(*jobs, strict=True), [table] * len(jobs)))
    figures, raw = {}, defaultdict[str, list[dict[int, float]]](list)
    for (name, _), one in zip(jobs, found, strict=True):
        raw[name].append(one)
    for name, runs in raw.items():
        figures.update({f"{name}_{n}": statistics.fmean(one[n] for one in runs) for n in BUDGETS})
    if arguments.out is not None:
        arguments.out.write_text(
            json.dumps({"devices": arguments.devices, "accuracy": arguments.accuracy, "runs": raw})
        )
    print(json.dumps({"name": "search", "figures": figures}))


if __name__ == "__main__":
    main()
