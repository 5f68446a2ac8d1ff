"""How many candidates a second a predictor ranks for a search, and what memory that takes.

The space is the one like Once-for-all's with all its genes (four resolutions, two widths, five stages), the predictor
one of this machine that was made for the occasion from half a minute of measuring (`--from STORE` takes an earlier
training); how good it is does not matter here. `candidates_per_s`: 100,000 architectures drawn as the search draws
them, predicted with intervals, and the front of latency and number of weights found; the tables of the space's parts
are filled in that time too, as a search would. `predict_per_s` is without that, `table_fill_s` that alone. Beside them
in the same run `one_by_one_per_s`: each architecture built as a graph and predicted by itself, as is done for what is
evaluated. `rss_bytes` is the largest memory of the process. Wanted: 100,000 in under a minute.

    python benchmarks/search_speed.py [--from STORE] [--out RAW.json]
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from edgeprof.fleet import Device
from edgeprof.profiling import OpenDevice
from edgeprof.run import Run
from edgeprof.search.front import is_on_front
from edgeprof.search.spaces import OnceForAll
from edgeprof.store import Store
from edgeprof.training.fitting import fit
from edgeprof.training.loop import Training
from edgeprof.training.plan import Plan
from latency_models.predictor import Predictor
from latency_models.tables import GeneTable

N_CANDIDATES, N_ALONE, MINUTES = 100_000, 40, 0.5
KIBIBYTE = 1024


def predictor_of(place: Path | None) -> Predictor:
    """Of an earlier training, or of one here and now."""
    if place is not None:
        with Store(str(place)) as store:
            return fit([one for one in store.read(store.list()) if isinstance(one, Run)], 0)
    device = Device(name="local", python=sys.executable)
    with tempfile.TemporaryDirectory() as folder, Store(f"{folder}/runs.sqlite") as store, OpenDevice(device) as opened:
        return Training(opened, store, Plan(runtime="onnxruntime", budget_s=60 * MINUTES)).run().predictor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="place", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    predictor, space, rng = predictor_of(arguments.place), OnceForAll(), np.random.default_rng(0)
    began_s = time.perf_counter()
    table = GeneTable(predictor, space.sizes, space.slots())
    filled_s = time.perf_counter() - began_s
    genes = np.stack([rng.integers(size, size=N_CANDIDATES) for size in space.sizes], axis=1)
    found = table.predict(genes)
    predicted_s = time.perf_counter() - began_s - filled_s
    expansion = np.array(space.expansions)[genes[:, 4::2] % len(space.expansions)].sum(axis=1)
    front = is_on_front(np.stack([found.latency_s, -expansion.astype(float)], axis=1))
    all_s = time.perf_counter() - began_s
    alone_s, ratios = [], []
    for place in rng.choice(N_CANDIDATES, N_ALONE, replace=False):
        begun_s = time.perf_counter()
        estimate = predictor.predict(space.graph(tuple(map(int, genes[place]))))
        alone_s.append(time.perf_counter() - begun_s)
        ratios.append(float(found.latency_s[place] / estimate.latency_s))
    figures = {
        "candidates_per_s": N_CANDIDATES / all_s,
        "predict_per_s": N_CANDIDATES / predicted_s,
        "table_fill_s": filled_s,
        "one_by_one_per_s": 1.0 / float(np.median(alone_s)),
        "table_against_alone": float(np.median(ratios)),
        "rss_bytes": float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIBIBYTE),
        "front": float(front.sum()),
    }
    if arguments.out is not None:
        arguments.out.write_text(json.dumps({"alone_s": alone_s, "ratios": ratios}))
    print(json.dumps({"name": "search_speed", "figures": figures}))


if __name__ == "__main__":
    main()
