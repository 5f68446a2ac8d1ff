"""What a training does next: which probe or net each step measures, so that it can go on after any interruption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from device_agents import wire
from edgeprof.run import Run
from edgeprof.training.measuring import NET, PROBE
from latency_models.kernels import KernelSpec

__all__ = ["CANDIDATES", "CYCLE", "Plan", "Step", "next_step", "parse_name", "step_at"]

# Each step has so many probes to choose from; their numbers are the step's number times this, and those that follow.
CANDIDATES = 16
# What the steps of a cycle measure: kind and precision. Probes show kernels of every size; nets show them as they are
# in nets, with what they read still in a cache.
FLOAT, INT8 = "float32", "int8"
CYCLE = (
    (PROBE, FLOAT), (NET, FLOAT), (PROBE, INT8), (PROBE, FLOAT), (NET, FLOAT), (PROBE, FLOAT), (PROBE, INT8),
    (NET, INT8), (PROBE, FLOAT), (NET, FLOAT), (PROBE, FLOAT), (PROBE, FLOAT), (NET, FLOAT), (PROBE, INT8),
    (PROBE, FLOAT), (NET, INT8),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be trained, and for how long.

    `budget_s` is measuring time, over all sittings. The training ends before it when the held-out error of whole nets
    is below `target_error`. `wanted` are kernels of models that the user will predict: probes like them are preferred.
    """

    runtime: str
    options: wire.RuntimeOptions = field(default_factory=wire.RuntimeOptions)
    seed: int = 0
    budget_s: float = 1800.0
    target_error: float | None = None
    wanted: tuple[KernelSpec, ...] = ()
    energy: wire.EnergyPlan | None = None


@dataclass(frozen=True)
class Step:
    """One measurement: the `number`th step of a training; `turn` others of its kind and precision come before it."""

    number: int
    kind: str
    precision: str
    turn: int


def step_at(number: int) -> Step:
    """The step of this number, from 0."""
    cycle, place = divmod(number, len(CYCLE))
    what = CYCLE[place]
    return Step(number, *what, turn=cycle * CYCLE.count(what) + CYCLE[:place].count(what))


class Name(NamedTuple):
    """What the name of a probe's or a net's model says; `family` is "" of probes."""

    kind: str
    family: str
    precision: str
    number: int


def parse_name(name: str) -> Name | None:
    """Of a model that `measuring.name_of` named; None of any other."""
    parts = name.rpartition(".")[0].split("-")
    if len(parts) not in (3, 4) or parts[0] not in (PROBE, NET) or not parts[-1].isdigit():
        return None
    family = parts[1].replace("_", " ") if len(parts) == 4 else ""
    return Name(parts[0], family, parts[-2], int(parts[-1]))


def next_step(runs: Sequence[Run]) -> int:
    """The number of the step that comes after all that was measured."""
    found = [parse_name(run.profile.job.model.name) for run in runs]
    return 1 + max((one.number // CANDIDATES for one in found if one is not None), default=-1)
