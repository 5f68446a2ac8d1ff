"""Run in the environment of `make nni`: NNI's spaces as ours, its strategies over our evaluation. Writes found.json."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from edgeprof.search.plan import parse_plan
from edgeprof.search.session import begin, finish, opened, work
from edgeprof.search.space import SearchSpace
from edgeprof.search.spaces import space_of
from edgeprof.search.study import DONE, Study

FUNCTION = """
def train(candidate):
    n = sum(p.numel() for p in candidate.net().parameters())
    return 0.9 - 1.0 / (1.0 + n / 1e5)
"""
HUB = """
objectives = ["error", "latency"]
[search]
evaluations = 4
strategy = "{strategy}"
[space]
{space}
[accuracy]
by = "function"
function = "mine.py:train"
[[targets]]
board = "raspberrypi-5"
"""
LAYERS = """
input = [8, 8, 1]
layers = [
  { conv = [4, 8, 16], kernel = [1, 3, 5], activation = "relu" },
  { conv = [4, 8, 16], kernel = [1, 3, 5] },
  { global_average = true },
  { dense = 4 },
]
"""
SPACES = {
    "MobileNetV3Space": (3, 224, 224), "ShuffleNetSpace": (3, 224, 224), "ProxylessNAS": (3, 224, 224),
    "NasBench201": (3, 32, 32),
}  # fmt: skip


def searched(folder: Path, space: str, strategy: str, evaluations: int) -> list[tuple[int, ...]]:
    folder.mkdir()
    (folder / "mine.py").write_text(FUNCTION)
    text = HUB.format(space=space, strategy=strategy).replace("evaluations = 4", f"evaluations = {evaluations}")
    begin(parse_plan(text, "search.toml"), text, folder, folder / "study")
    with opened(folder / "study") as search:
        ended = work(search, folder / "study")
        assert ended.by == "evaluations", ended
        with Study(folder / "study", search.space, search.n_objectives) as study:
            return [one.architecture for one in study.trials() if one.state == DONE]


def graphs(name: str, space: SearchSpace, n: int = 1) -> list[int]:
    rng = np.random.default_rng(1)
    return [len(space.graph(space.sample(rng)).operators) for _ in range(n)]


def main() -> None:
    folder = Path(sys.argv[1])
    found: dict[str, object] = {}
    for name, shape in SPACES.items():
        space = space_of({"nni": f"nni.nas.hub.pytorch:{name}", "input": list(shape)}, folder)
        found[name] = {"genes": len(space.genes), "operators": graphs(name, space)}
    hub = 'nni = "nni.nas.hub.pytorch:NasBench201"\ninput = [3, 32, 32]'
    found["hub searched by ours"] = len(set(searched(folder / "hub", hub, "guided", 4)))
    with opened(folder / "hub" / "study") as search:
        members = finish(search, folder / "hub" / "study").members
    found["files"] = sorted({name for one in members for name in one.files})
    for strategy in ("nni-random", "nni-evolution", "nni-tpe"):
        asked = searched(folder / strategy, LAYERS, strategy, 8)
        found[strategy] = len(set(asked))
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
