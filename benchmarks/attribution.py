"""How well operators' energies are found by loops, where the truth is known: on a simulated board with a power sensor.

Everything is simulated; the passes and the arithmetic are those that measure real devices. Each trial is a model of 20
operators of 30 us to 3 ms (in equal steps of their logarithm, shuffled) that take 2 to 7 W above rest. The board rests
at 3 W; its sensor has white noise of 0.15 W on each value, steps of 20 mW, and drifts by 0.1 W a minute; calling the
runtime takes 2 us. In the model each operator takes up to 10 % more or less power than alone: nobody tells the
estimator, and only the sum over the model can mend a part of it.

`median_error_*`, `worst_error_*`: an operator alone, against the truth of it alone, over all trials; `coverage_*`: the
share of 90 % intervals that hold the truth. `in_model_*`: what it is said to take in the model, against that truth.
Wanted: 0.01 and 0.03 at 10 Hz, 0.01 and 0.05 at 1 Hz, coverage 0.85 to 0.95.

    python benchmarks/attribution.py [--out RAW.json] [--trials 10] [--seed 1]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from device_agents import measure, wire
from device_agents.energy_pass import energy_pass
from device_agents.operator_pass import operator_pass
from device_agents.runtimes.simulated_machine import SimulatedMachine
from edgeprof.energy import OperatorEnergies, attribute
from edgeprof.models import board_to_simulate
from edgeprof.run import OperatorLoop, OperatorLoops, Run

N_OPERATORS = 20
SHORTEST_S, LONGEST_S = 30e-6, 3e-3
LEAST_W, MOST_W = 2.0, 7.0
IDLE_W, NOISE_W, STEP_W, DRIFT_W_PER_MIN = 3.0, 0.15, 0.02, 0.1
DISPATCH_S = 2e-6
HIDDEN = 0.1
RATES_HZ = (10.0, 1.0)
DIGEST = "0" * 64


def board(rate_hz: float) -> wire.Board:
    """One whose clocks never fall, so that nothing but the sensor stands between the estimate and the truth."""
    sensor = wire.Sensor("module", rate_hz, NOISE_W, STEP_W, DRIFT_W_PER_MIN / 60)
    return dataclasses.replace(
        board_to_simulate("pi-5"),
        idle_w=IDLE_W,
        capacitance_j_per_k=1e9,
        run_overhead_s=DISPATCH_S,
        sensor=sensor,
    )


def operators(random: np.random.Generator) -> tuple[wire.Work, ...]:
    times_s = np.geomspace(SHORTEST_S, LONGEST_S, N_OPERATORS)
    random.shuffle(times_s)
    return tuple(
        wire.Work(
            f"operator {k}",
            "Conv",
            0,
            0,
            time_s=float(time_s),
            active_w=float(random.uniform(LEAST_W, MOST_W)),
            in_model_power=float(random.uniform(1 - HIDDEN, 1 + HIDDEN)),
        )
        for k, time_s in enumerate(times_s)
    )


def job(rate_hz: float, work: tuple[wire.Work, ...], seed: int) -> wire.Job:
    model = wire.ModelRef("net.onnx", "onnx", DIGEST, (wire.FileRef("net.onnx", DIGEST, 1),))
    return wire.Job(
        model, "simulated", operators=True, seed=seed, board=board(rate_hz), work=work, energy=wire.EnergyPlan()
    )


def energy_of(rate_hz: float, work: tuple[wire.Work, ...], seed: int) -> wire.EnergyPass:
    asked = job(rate_hz, work, seed)
    body, _ = energy_pass(asked, "", (), machine_of(asked), lambda _progress: None)
    return msgspec.convert(msgspec.to_builtins(body), wire.EnergyPass)


def machine_of(asked: wire.Job) -> SimulatedMachine:
    assert asked.board is not None
    return SimulatedMachine(asked.board, asked.seed)


def run_of(rate_hz: float, work: tuple[wire.Work, ...], seed: int) -> Run:
    """As `profile --energy` brings it back: the model, then every operator and an empty model in a loop."""
    asked = job(rate_hz, work, seed)
    latency, _ = measure.latency_pass(asked, "", (), machine_of(asked), lambda _progress: None)
    recorded, _ = operator_pass(asked, "", (), machine_of(asked), lambda _progress: None)
    rest: dict[str, Any] = {
        "job": asked,
        "origin": wire.SIMULATED,
        "agent_digest": "",
        "python": "",
        "machine": machine_of(asked).describe(),
        "started_at_s": 0.0,
        "operators": recorded,
        "energy": energy_of(rate_hz, work, seed),
    }
    profile = msgspec.convert(msgspec.to_builtins({**latency, **rest}), wire.Profile)
    loops = OperatorLoops(
        seed=seed,
        operators=tuple(
            OperatorLoop(kernels=(k,), energy=energy_of(rate_hz, (one,), seed + 1 + k)) for k, one in enumerate(work)
        ),
        empty=energy_of(rate_hz, (), seed + 1 + len(work)),
    )
    return Run(id="simulated", created_at_s=0.0, device="board", edgeprof_version="", profile=profile, loops=loops)


def judged(work: tuple[wire.Work, ...], found: OperatorEnergies) -> list[dict[str, Any]]:
    """Every operator against its truth, alone and in the model."""
    rows = []
    for one, energy in zip(work, found.operators, strict=True):
        assert one.active_w is not None
        assert one.time_s is not None
        alone_j = one.active_w * one.time_s
        row: dict[str, Any] = {"time_s": one.time_s, "truth_j": alone_j, "missing": energy.missing}
        if energy.isolated_j is not None:
            row["error"] = abs(energy.isolated_j.value / alone_j - 1)
            row["covered"] = energy.isolated_j.low <= alone_j <= energy.isolated_j.high
        if energy.in_model_j is not None:
            row["in_model_error"] = abs(energy.in_model_j.value / (alone_j * one.in_model_power) - 1)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    raw: dict[str, list[dict[str, Any]]] = {}
    figures: dict[str, float] = {}
    for rate_hz in RATES_HZ:
        rows: list[dict[str, Any]] = []
        for trial in range(options.trials):
            work = operators(np.random.default_rng((options.seed, trial)))
            seed = 1_000_000 * options.seed + 1_000 * trial
            rows += judged(work, attribute(run_of(rate_hz, work, seed)))
        name = f"{rate_hz:g}hz"
        known = [row for row in rows if "error" in row]
        figures[f"median_error_{name}"] = float(np.median([row["error"] for row in known]))
        figures[f"worst_error_{name}"] = max(row["error"] for row in known)
        figures[f"coverage_{name}"] = float(np.mean([row["covered"] for row in known]))
        figures[f"in_model_median_error_{name}"] = float(np.median([row["in_model_error"] for row in known]))
        figures[f"not_known_{name}"] = len(rows) - len(known)
        raw[name] = rows
    if options.out:
        options.out.write_text(json.dumps({"seed": options.seed, **raw}, indent=1))
    print(json.dumps({"name": "attribution", "figures": figures}))


if __name__ == "__main__":
    main()
