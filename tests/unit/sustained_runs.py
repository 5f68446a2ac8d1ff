"""Runs without rest for tests: of a simulated board that heats up, and of seeded numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from device_agents import measure
from device_agents.runtimes import machine_for
from device_agents.runtimes.simulated import open_session
from device_agents.wire import (
    SIMULATED,
    Conditions,
    GateOutcome,
    Job,
    ModelRef,
    Progress,
    Round,
    RuntimeOptions,
    Schedule,
    Work,
)
from edgeprof.models import board_to_simulate
from edgeprof.run import Run
from tests.unit.profiles import look, make_profile, make_run

ROUND_S = 10.0
# Changes to the look at the end of round k: k -> fields of Conditions; -1 is the look before the first round.
Change = Callable[[int], dict[str, Any]]
# A virtual machine: nothing can be read there.
NOTHING_READABLE: dict[str, Any] = {
    "clocks": (),
    "temperatures_c": {},
    "throttled": None,
    "unreadable": {"temperature": "no sensor"},
}


def ignore(progress: Progress) -> None:
    pass


def schedule(lasts_s: float) -> Schedule:
    return Schedule(
        rounds=round(lasts_s / ROUND_S), min_runs=1, min_s=ROUND_S, max_s=ROUND_S, without_rest_s=lasts_s, keep_runs=50
    )


HEAVY = Work("conv", "Conv", 1, 1, time_s=0.2)


def on_board(
    board: str, *, threads: int = 4, lasts_s: float = 420.0, work: Work = HEAVY, name: str = "heavy.onnx"
) -> Run:
    """A model of one operator on a simulated board."""
    job = Job(
        ModelRef(name, "onnx", "e" * 64, ()),
        "simulated",
        RuntimeOptions(threads=threads),
        schedule=schedule(lasts_s),
        board=board_to_simulate(board),
        work=(work,),
    )
    machine = machine_for(job)
    session = open_session(job, "", machine, False)
    rounds = measure._rounds(partial(measure.timed_runs, session.run, machine.now), job, machine, ignore, 0.2)
    return make_run(
        replace(make_profile(), job=job, rounds=rounds, origin=SIMULATED), id=f"{board}-{name}", device=board
    )


def of_numbers(
    middles_s: Sequence[float],
    change: Change = lambda _: {},
    *,
    noise: float = 0.01,
    seed: int = 0,
    n_runs: int = 20,
    name: str = "net.onnx",
    **fields: Any,
) -> Run:
    """Rounds of ten seconds without a pause, with these latencies in the middle; of each `n_runs` were kept."""
    rng = np.random.default_rng(seed)
    before = at(0.0, change(-1))
    rounds = []
    for k, middle_s in enumerate(middles_s):
        after = at((k + 1) * ROUND_S, change(k))
        kept = tuple((middle_s * np.exp(noise * rng.standard_normal(n_runs))).tolist())
        opened = GateOutcome(True, 12.0 if k == 0 else 0.0)
        rounds.append(Round(kept, before, after, opened, 1, ROUND_S, max(n_runs, int(ROUND_S / middle_s))))
        before = after
    profile = make_profile()
    model = replace(profile.job.model, name=name)
    job = replace(profile.job, model=model, schedule=schedule(len(middles_s) * ROUND_S))
    return make_run(replace(profile, job=job, rounds=tuple(rounds)), **fields)


def at(at_s: float, changes: dict[str, Any]) -> Conditions:
    return look(at_s, at_s, changes)
