"""How well whole nets are predicted from few measurements, from scratch and with the help of other devices.

Data: published latencies (HELP, NeurIPS 2021) of the 15,625 cells of NAS-Bench-201 on 20 devices, in the folder
`latency_dev` of $EDGEPROF_DATA; the 341 cells without a path from input to output are left out. Any other table in that
folder with the same arrays will do. They are development data: servers, GPUs and two phones, two of them in whole
milliseconds, and a random split has equivalent nets on both sides.

From scratch, on random samples, beside five baselines on the same samples and tests: `scratch_N_spearman`,
`scratch_N_within10` are means over devices; `worst_gap` is the largest shortfall against the best of the five, over
devices, N and both figures (each a mean over seeds). `adapt_N_*` leave one device out with all its batch sizes, and
measure N nets on it that were chosen by what the other devices' predictors (900 nets each) say. All measurements on the
new device count in N. Tests are 4,000 nets drawn by the seed, none trimmed.

Wanted: worst_gap under 0.01, adapt_10_spearman at least 0.95.

    python benchmarks/fewshot.py [--out RAW.json] [--seeds 5] [--devices NAME ...] [--tests 4000] [--jobs 2]
"""

from __future__ import annotations

import argparse
import json
import os
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Processes work side by side, each on one core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from latency_models.building import GraphBuilder, Value, builder
from latency_models.evaluation import spearman
from latency_models.graph import Graph
from latency_models.whole_graph.adapting import adapt_encoded, choose_samples
from latency_models.whole_graph.features import LIVE, PLACES, SHAPE, Design, Encoder
from latency_models.whole_graph.predictor import WholeGraphPredictor

Array = NDArray[np.float64]
OPERATORS = ("none", "skip_connect", "avg_pool_3x3", "nor_conv_1x1", "nor_conv_3x3")
# From which node to which, in the order of the file.
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
CHANNELS, SIDE = 16, 32
SCRATCH, ADAPTED = (20, 100, 900), (5, 10, 20)
SOURCE_SAMPLES, POOL = 900, 3000
BATCHES = ("1", "32", "256")


@dataclass(frozen=True)
class Table:
    """Nets as features and genes, devices, and latencies in seconds (devices, nets)."""

    design: Design
    genes: NDArray[np.int64]
    encoder: Encoder
    devices: tuple[str, ...]
    latency_s: Array


def cell(genes: NDArray[np.int64]) -> Graph:
    """One cell as a graph: edges that are "none" are not there, what leads nowhere is."""
    net = builder("onnx")
    nodes: list[Value | None] = [net.image(SIDE, SIDE, CHANNELS), None, None, None]
    for (source, target), gene in zip(EDGES, genes, strict=True):
        if gene:
            made = edge(net, nodes[source] or zeros(net), int(gene))
            before = nodes[target]
            nodes[target] = made if before is None else net.add(before, made)
    return net.graph(nodes[3] or zeros(net))


def zeros(net: GraphBuilder) -> Value:
    """What comes out of a node that nothing leads to: a constant, and so is all that is made of it."""
    stored = net.weights((1, CHANNELS, SIDE, SIDE))
    return Value(stored.name, (1, SIDE, SIDE, CHANNELS), is_image=True)


def edge(net: GraphBuilder, x: Value, gene: int) -> Value:
    name = OPERATORS[gene]
    if name == "skip_connect":
        return net.activate(x, "leaky_relu")  # stands for an identity, which is a kernel where it is executed
    if name == "avg_pool_3x3":
        return net.pool(x, "average", 3, 1, padding="same")
    return net.conv(x, CHANNELS, 1 if name == "nor_conv_1x1" else 3)


def read(path: Path) -> Table:
    with np.load(path, allow_pickle=False) as data:
        arch, devices = data["arch"].astype(str), tuple(data["devices"].astype(str))
        latency_s = data["latency_ms"].astype(np.float64) / 1e3
    genes = np.array(
        [[OPERATORS.index(part.split("~")[0]) for part in a.replace("+", "|").split("|") if part] for a in arch]
    )
    connected = np.array([is_connected(row) for row in genes])
    genes, latency_s = genes[connected], latency_s[:, connected]
    graphs = [cell(row) for row in genes]
    encoder = Encoder.of(graphs, genes)
    return Table(encoder.encode(graphs, genes), genes, encoder, devices, latency_s)


def genes_of(text: str) -> list[int]:
    """The operators of a cell's edges, as numbers."""
    return [OPERATORS.index(part.split("~")[0]) for part in text.replace("+", "|").split("|") if part]


def is_connected(genes: NDArray[np.int64]) -> bool:
    reached = {0}
    for (source, target), gene in zip(EDGES, genes, strict=True):
        if gene and source in reached:
            reached.add(target)
    return 3 in reached


# --- the five baselines -----------------------------------------------------------------------------------------------


def baselines(table: Table, known: NDArray[np.int64], tests: NDArray[np.int64], y: Array) -> dict[str, Array]:
    blocks = table.design.blocks
    one_hot, counts = blocks[PLACES], gene_counts(table.genes)
    flops = blocks[SHAPE][:, :1]
    graph = np.concatenate([blocks[LIVE], counts, blocks[SHAPE], live_one_hot(table)], axis=1)
    return {
        "ridge one-hot": ridge(one_hot[known], y, one_hot[tests]),
        "LightGBM + FLOPs": trees(np.concatenate([one_hot, flops], axis=1), known, tests, y),
        "GP one-hot": process(one_hot[known], y, one_hot[tests]),
        "additive NNLS": additive(counts[known], y, counts[tests]),
        "LightGBM + graph features": trees(graph, known, tests, y),
    }


def gene_counts(genes: NDArray[np.int64]) -> Array:
    return np.stack([(genes == value).sum(axis=1) for value in range(1, len(OPERATORS))], axis=1).astype(np.float64)


def live_one_hot(table: Table) -> Array:
    """One-hots of edges that are on a path from input to output."""
    live = np.array([live_genes(row) for row in table.genes])
    return np.concatenate([np.eye(len(OPERATORS))[live[:, k]] for k in range(len(EDGES))], axis=1)


def live_genes(genes: NDArray[np.int64]) -> list[int]:
    forward, backward = {0}, {3}
    for (source, target), gene in zip(EDGES, genes, strict=True):
        if gene and source in forward:
            forward.add(target)
    for (source, target), gene in reversed(list(zip(EDGES, genes, strict=True))):
        if gene and target in backward:
            backward.add(source)
    return [int(g) if s in forward and t in backward else 0 for (s, t), g in zip(EDGES, genes, strict=True)]


def ridge(x: Array, y: Array, tests: Array) -> Array:
    """Weighted by 1 / y, the strength of the penalty 1."""
    w = 1.0 / y**2
    a = np.c_[x, np.ones(len(x))]
    penalty = w.mean() * np.diag([1.0] * x.shape[1] + [0.0])
    found: Array = np.c_[tests, np.ones(len(tests))] @ np.linalg.solve((a * w[:, None]).T @ a + penalty, a.T @ (w * y))
    return found


def additive(x: Array, y: Array, tests: Array) -> Array:
    from scipy.optimize import nnls

    weights = nnls(np.c_[x, np.ones(len(x))] / y[:, None], np.ones(len(y)))[0]
    found: Array = np.c_[tests, np.ones(len(tests))] @ weights
    return found


def process(x: Array, y: Array, tests: Array) -> Array:
    """A Gaussian process with one length, which the evidence chooses, as the noise."""
    from scipy.linalg import cho_factor, cho_solve

    mean, scale = y.mean(), max(float(y.std()), 1e-12)
    z = (y - mean) / scale
    few = slice(0, 300)
    best: tuple[float, float, float] = (-np.inf, 1.0, 0.1)
    near = squares(x[few], x[few])
    for length in (1.0, 1.5, 2.5, 4.0, 8.0):
        for noise in (0.003, 0.01, 0.03, 0.1, 0.3):
            k = np.exp(-near / (2 * length**2)) + noise * np.eye(len(near))
            factor = cho_factor(k, lower=True)
            inner = z[few] @ cho_solve(factor, z[few])
            n = len(near)
            evidence = -0.5 * n * np.log(inner / n) - np.log(np.diag(factor[0])).sum()
            best = max(best, (float(evidence), length, noise))
    _, length, noise = best
    factor = cho_factor(np.exp(-squares(x, x) / (2 * length**2)) + noise * np.eye(len(x)), lower=True)
    found: Array = mean + scale * (np.exp(-squares(tests, x) / (2 * length**2)) @ cho_solve(factor, z))
    return found


def squares(a: Array, b: Array) -> Array:
    found: Array = np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * a @ b.T, 0.0)
    return found


def trees(x: Array, known: NDArray[np.int64], tests: NDArray[np.int64], y: Array) -> Array:
    import lightgbm

    settings = {
        "objective": "regression", "learning_rate": 0.05, "num_leaves": 15, "min_data_in_leaf": 5, "min_data_in_bin": 1,
        "verbosity": -1, "num_threads": 1, "seed": 0, "deterministic": True, "force_row_wise": True,
    }  # fmt: skip
    booster = lightgbm.train(settings, lightgbm.Dataset(x[known], np.log(y)), num_boost_round=300)
    found: Array = np.exp(np.asarray(booster.predict(x[tests], num_threads=1)))
    return found


# --- one device -------------------------------------------------------------------------------------------------------


def scores(y: Array, found: Array) -> list[float]:
    return [spearman(y, found) or 0.0, float((np.abs(found - y) / y <= 0.1).mean())]


def drawn(n_nets: int, known: NDArray[np.int64], n_tests: int, seed: int) -> NDArray[np.int64]:
    rest = np.setdiff1d(np.arange(n_nets), known)
    return np.random.default_rng([seed, 1]).permutation(rest)[:n_tests]


def from_scratch(device: int, seeds: int, n_tests: int) -> list[dict[str, Any]]:
    rows = []
    y = TABLE.latency_s[device]
    for n in SCRATCH:
        for seed in range(seeds):
            known = np.random.default_rng([seed, 0]).permutation(len(y))[:n]
            tests = drawn(len(y), known, n_tests, seed)
            ours = WholeGraphPredictor.of_design(TABLE.design.rows(known), y[known], TABLE.encoder, seed=seed)
            found = ours.of_encoded(TABLE.design.rows(tests))
            inside = (found.low_s <= y[tests]) & (y[tests] <= found.high_s)
            methods = {"ours": found.latency_s, **baselines(TABLE, known, tests, y[known])}
            rows.append(
                {
                    "device": TABLE.devices[device], "n": n, "seed": seed, "coverage90": float(inside.mean()),
                    **{name: scores(y[tests], one) for name, one in methods.items()},
                }
            )  # fmt: skip
    return rows


def said(device: int) -> Array:
    """What the predictor of a source says of all nets."""
    y = TABLE.latency_s[device]
    known = np.random.default_rng([device, 2]).permutation(len(y))[:SOURCE_SAMPLES]
    predictor = WholeGraphPredictor.of_design(TABLE.design.rows(known), y[known], TABLE.encoder)
    return predictor.of_encoded(TABLE.design).latency_s


def adapted(device: int, said_s: Array, seeds: int, n_tests: int) -> list[dict[str, Any]]:
    rows = []
    y = TABLE.latency_s[device]
    for n in ADAPTED:
        for seed in range(seeds):
            pool = np.random.default_rng([seed, 3]).permutation(len(y))[:POOL]
            known = pool[choose_samples(TABLE.design.rows(pool), said_s[pool], n, seed)]
            tests = drawn(len(y), known, n_tests, seed)
            ours = adapt_encoded(TABLE.design.rows(known), said_s[known], y[known], TABLE.encoder, seed=seed)
            found = ours.of_encoded(TABLE.design.rows(tests), said_s[tests])
            inside = (found.low_s <= y[tests]) & (y[tests] <= found.high_s)
            rows.append(
                {
                    "device": TABLE.devices[device], "n": n, "seed": seed, "coverage90": float(inside.mean()),
                    "ours": scores(y[tests], found.latency_s),
                }
            )  # fmt: skip
    return rows


def group(device: str) -> str:
    """One device under all its batch sizes; the two Xeon Silver count as one."""
    head, _, tail = device.rpartition("_")
    if head and tail in BATCHES and not head.startswith("essential"):
        return head
    return "silver" if device.startswith("silver") else device


def is_same(one: str, other: str) -> bool:
    return group(one) == group(other)


# --- figures ----------------------------------------------------------------------------------------------------------


def figures(scratch: list[dict[str, Any]], adaptation: list[dict[str, Any]]) -> dict[str, float | str]:
    found: dict[str, float | str] = {}
    worst, where = -np.inf, ""
    for n in SCRATCH:
        by_device: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in scratch:
            if row["n"] == n:
                by_device[row["device"]].append(row)
        means = []
        for device, rows in by_device.items():
            names = [name for name in rows[0] if isinstance(rows[0][name], list)]
            mean = {name: np.mean([row[name] for row in rows], axis=0) for name in names}
            means.append(mean["ours"])
            for k, what in enumerate(("spearman", "within10")):
                best = max((name for name in names if name != "ours"), key=lambda name: float(mean[name][k]))
                gap = float(mean[best][k] - mean["ours"][k])
                if gap > worst:
                    worst, where = gap, f"{device}, N = {n}, {what}, {best}"
        found[f"scratch_{n}_spearman"], found[f"scratch_{n}_within10"] = (float(v) for v in np.mean(means, axis=0))
        found[f"scratch_{n}_coverage90"] = float(np.mean([row["coverage90"] for row in scratch if row["n"] == n]))
    found["worst_gap"], found["where_worst"] = float(worst), where
    for n in ADAPTED:
        rows = [row for row in adaptation if row["n"] == n]
        means = [
            np.mean([row["ours"] for row in rows if row["device"] == device], axis=0)
            for device in {row["device"] for row in rows}
        ]
        found[f"adapt_{n}_spearman"], found[f"adapt_{n}_within10"] = (float(v) for v in np.mean(means, axis=0))
        found[f"adapt_{n}_coverage90"] = float(np.mean([row["coverage90"] for row in rows]))
    return found


TABLE: Table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--devices", nargs="*")
    parser.add_argument("--tests", type=int, default=4000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes side by side, one core each")
    options = parser.parse_args()
    folder = Path(os.environ.get("EDGEPROF_DATA", "")) / "latency_dev"
    tables = sorted(folder.glob("*.npz")) if os.environ.get("EDGEPROF_DATA") else []
    if not tables:
        print(json.dumps({"name": "fewshot", "skipped": "no latency_dev/*.npz in the folder that EDGEPROF_DATA names"}))
        return
    global TABLE
    TABLE = read(tables[0])
    places = [k for k, name in enumerate(TABLE.devices) if not options.devices or name in options.devices]
    with ProcessPoolExecutor(options.jobs) as pool:
        all_said = dict(enumerate(pool.map(said, range(len(TABLE.devices)))))
        futures = [pool.submit(from_scratch, k, options.seeds, options.tests) for k in places]
        others = {
            k: np.stack(
                [all_said[j] for j, name in enumerate(TABLE.devices) if group(name) != group(TABLE.devices[k])], axis=1
            )
            for k in places
        }
        adaptations = [pool.submit(adapted, k, others[k], options.seeds, options.tests) for k in places]
        scratch = [row for future in futures for row in future.result()]
        adaptation = [row for future in adaptations for row in future.result()]
    if options.out:
        options.out.write_text(json.dumps({"scratch": scratch, "adapted": adaptation}))
    print(json.dumps({"name": "fewshot", "figures": figures(scratch, adaptation)}))


if __name__ == "__main__":
    main()
