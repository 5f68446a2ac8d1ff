"""Energy passes and profiles on a virtual board, by the real agent; what happens in mid-run is done by the test."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from device_agents import wire
from edgeprof.agent import Agent
from edgeprof.models.reading import ModelFile, read_model
from tests.boards.virtual_board import Pattern, VirtualBoard
from tests.lab import arm64

MODELS = Path(__file__).parents[2] / ".cache" / "models"
WAKE_WORD = "hey_jarvis.tflite"
# Rounds of a second: the zone is asked for its heat so often.
QUICK = wire.Schedule(rounds=5, min_s=1.0, max_s=2.0)
PLAN = wire.EnergyPlan(windows=3, window_s=2.0, idle_s=1.0, observer_windows=0)


@contextmanager
def agent_on(board: VirtualBoard) -> Iterator[Agent]:
    with board.link() as link, Agent(link, arm64.PYTHON, name="board") as agent:
        yield agent


def small_model() -> ModelFile:
    return read_model(next(MODELS.rglob(WAKE_WORD)))


def chip_of(agent: Agent) -> wire.MeterInfo:
    (chip,) = [meter for meter in agent.meters() if meter.source == "hwmon"]
    return chip


def energy_of(
    agent: Agent, plan: wire.EnergyPlan, *, in_window: Callable[[int], None] | None = None
) -> wire.EnergyPass:
    """An energy pass of a small real model; `in_window` is called with the number of each window as it begins.

    A plan that names no meter gets the power chip.
    """
    model = small_model()
    agent.push(model.to_send())
    named = dataclasses.replace(plan, meter=plan.meter or chip_of(agent).name)
    job = wire.Job(model=model.ref(), runtime="litert", gate=wire.Gate(timeout_s=0.0), energy=named)

    def told(progress: wire.Progress) -> None:
        if progress.stage == "energy" and in_window is not None:
            in_window(progress.done)

    return agent.energy(job, told).energy


def rest_w(truth: Pattern, energy: wire.EnergyPass, window: int) -> float:
    """What was shown in the two rests beside a window.

    Never the watts at rest that a pattern was asked for: on an emulated board, rest is not without work.
    """
    beside = [energy.windows[k] for k in (window - 1, window + 1)]
    return sum(truth.mean_w(rest.start_s, rest.end_s) for rest in beside) / 2
