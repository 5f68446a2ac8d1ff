"""How often `edgeprof check` decides rightly: injected slow-downs that it catches, and alarms where nothing changed.

Each trial is a whole check with its default options, at --max-regression 3%, on a simulated board whose figures are
modelled, not measured: every run is off by 2 % (standard deviation), every block by another 1 %, and on top the board
drifts by a random walk of 0.2 % a block, which both sides share. Noise is drawn anew for every block. Times come from
the agent's own measuring loop over its simulated runtime, run in this process to save a start for every block.

`caught`: trials with a candidate that is 5 % slower that the check stopped, in % (exit code 4; wanted: 95 or more).
`false_alarms`: trials with nothing changed that it stopped all the same, undecided ones included, in % (wanted: 5 or
fewer). `inconclusive_*` of them were not decided; `pairs_*` is the median number of pairs of blocks.

    python benchmarks/gate.py [--out RAW.json] [--trials 100]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from device_agents import measure, wire
from device_agents.runtimes.simulated_machine import SimulatedMachine
from edgeprof.checking import Limits, Side, as_blocks, check_interleaved, settings_of
from edgeprof.cli.check import exit_code
from edgeprof.fleet import Device
from edgeprof.models import ModelFile, read_model
from edgeprof.models.example import write_example
from edgeprof.profiling import OnProgress, OpenDevice, Settings
from edgeprof.regression import INCONCLUSIVE

RUN_NOISE, BLOCK_NOISE, DRIFT = 0.02, 0.01, 0.002
INJECTED = 1.05
LIMITS = Limits(max_regression=0.03)
CANDIDATE_NAME = "candidate.onnx"


class UnsteadyBoard:
    """Measures jobs on a board that is never quite the same; the candidate takes `slowdown` times as long."""

    def __init__(self) -> None:
        self.begin(0, 1.0)

    def begin(self, seed: int, slowdown: float) -> None:
        self._random = np.random.default_rng(seed)
        self._slowdown = slowdown
        self._drift = 0.0

    def __call__(
        self, opened: OpenDevice, model: ModelFile, job: wire.Job, on_progress: OnProgress | None
    ) -> wire.Profile:
        self._drift += DRIFT * self._random.standard_normal()
        slow = float(np.exp(self._drift + BLOCK_NOISE * self._random.standard_normal()))
        if job.model.name == CANDIDATE_NAME:
            slow *= self._slowdown
        assert job.board is not None
        board = dataclasses.replace(
            job.board,
            noise=RUN_NOISE,
            clusters=tuple(dataclasses.replace(c, macs_per_cycle=c.macs_per_cycle / slow) for c in job.board.clusters),
            memory_bytes_per_s=job.board.memory_bytes_per_s / slow,
            operator_overhead_s=job.board.operator_overhead_s * slow,
        )
        job = dataclasses.replace(job, board=board, seed=int(self._random.integers(2**31)))
        machine = SimulatedMachine(board, job.seed)
        body, stages_s = measure.latency_pass(job, "", (), machine, lambda _progress: None)
        rest: dict[str, Any] = {
            "job": job,
            "origin": machine.origin,
            "agent_digest": opened.agent(job.runtime).hello.agent_digest,
            "python": opened.agent(job.runtime).hello.python,
            "machine": machine.describe(),
            "started_at_s": 0.0,
            "stages_s": stages_s,
        }
        return msgspec.convert(msgspec.to_builtins({**body, **rest}), wire.Profile)


def trials(
    board: UnsteadyBoard, opened: OpenDevice, model: ModelFile, n: int, slowdown: float, first_seed: int
) -> list[dict[str, Any]]:
    candidate_model = dataclasses.replace(model, name=CANDIDATE_NAME, digest=f"{int(model.digest, 16) ^ 1:064x}")
    board.begin(first_seed, 1.0)
    settings = as_blocks(settings_of(opened.profile(model, Settings())))
    baseline, candidate = Side(model=model, settings=settings), Side(model=candidate_model, settings=settings)
    found = []
    for k in range(n):
        board.begin(first_seed + k, slowdown)
        outcome = check_interleaved(opened, baseline, candidate, LIMITS, seed=k)
        found.append(
            {
                "slowdown": slowdown,
                "seed": first_seed + k,
                "exit_code": exit_code(outcome),
                "decision": outcome.decision,
                "log_ratios": outcome.log_ratios,
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    parser.add_argument("--trials", type=int, default=100)
    options = parser.parse_args()
    board = UnsteadyBoard()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        path = Path(folder) / "baseline.onnx"
        write_example(path)
        device = Device(name="board", address="sim:example", python=sys.executable)
        with OpenDevice(device, measure=board) as opened:
            slower = trials(board, opened, read_model(path), options.trials, INJECTED, 1_000)
            same = trials(board, opened, read_model(path), options.trials, 1.0, 2_000)
    if options.out:
        options.out.write_text(json.dumps({"slower": slower, "same": same}, indent=1))
    figures: dict[str, float] = {
        "caught": _percent(trial["exit_code"] == 4 for trial in slower),
        "false_alarms": _percent(trial["exit_code"] == 4 for trial in same),
    }
    for name, group in (("slower", slower), ("same", same)):
        figures[f"inconclusive_{name}"] = _percent(trial["decision"] == INCONCLUSIVE for trial in group)
        figures[f"pairs_{name}"] = statistics.median(len(trial["log_ratios"]) for trial in group)
    print(json.dumps({"name": "gate", "figures": figures}))


def _percent(outcomes: Any) -> float:
    return 100 * statistics.fmean(map(float, outcomes))


if __name__ == "__main__":
    main()
