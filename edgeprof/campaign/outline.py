"""The jobs of a plan in the order in which each device shall do them; what the store keeps of a campaign."""

from __future__ import annotations

import dataclasses
import fnmatch
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from edgeprof.campaign.plan import Configuration, Plan
from edgeprof.errors import FleetError, ModelError, PlanError
from edgeprof.fleet import Device, Fleet
from edgeprof.models import ModelFile, read_model
from edgeprof.profiling import BY_PROGRAM, RUNTIMES_BY_FORMAT, Settings, misfit_by_program

__all__ = ["LeftOut", "Outline", "PlannedJob", "choose_devices", "draw_up", "read_models"]

# Version of the document that the store keeps. History:
# 1  first version
SCHEMA = 1


class PlannedJob(NamedTuple):
    """One measurement: indices into the outline's devices, models and configurations, and which repetition it is."""

    device: int
    model: int
    configuration: int
    repetition: int


class PlannedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model as it was when the campaign began."""

    path: str
    name: str
    digest: str


class LeftOut(NamedTuple):
    """What of models x configurations makes no sense, and why."""

    model: str
    configuration: str
    reason: str


class Outline(msgspec.Struct, frozen=True, kw_only=True):
    """A campaign, spelled out. `jobs[k]` is job number k; those of one device stand in the order it does them."""

    plan: Plan
    devices: tuple[str, ...]
    models: tuple[PlannedModel, ...]
    jobs: tuple[PlannedJob, ...]
    schema: int = SCHEMA

    def settings(self, job: PlannedJob) -> Settings:
        """How it is measured."""
        configuration = self.plan.configurations[job.configuration]
        return configuration.settings()

    def title(self, job: PlannedJob) -> str:
        """The job in a person's words."""
        title = self.plan.title(job.configuration)
        again = f"#{job.repetition + 1}" if self.plan.repetitions > 1 else ""
        return " ".join(part for part in (self.models[job.model].name, title, again) if part)

    def to_json(self) -> str:
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, document: str, where: str) -> Outline:
        """Read back what `to_json` wrote.

        Raises:
            PlanError: it is no outline, or a newer edgeprof's.
        """
        try:
            outline = msgspec.json.decode(document, type=cls)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise PlanError(f"{where}: its plan cannot be read: {error}", "run the campaign anew") from error
        if outline.schema != SCHEMA:
            advice = "install a newer edgeprof: pip install --upgrade edgeprof"
            raise PlanError(f"{where}: its plan has schema {outline.schema}, this edgeprof reads {SCHEMA}", advice)
        return outline


def choose_devices(
    fleet: Fleet, plan: Plan, limit: Sequence[str] = (), exclude: Sequence[str] = ()
) -> tuple[Device, ...]:
    """The devices of the plan, each once; of them those that a pattern of `limit` names and none of `exclude` does.

    A pattern is a name or a group, with the wildcards of a shell.

    Raises:
        FleetError: a device or group is unknown, or none is left.
    """
    chosen = [fleet.device(name) for name in plan.devices]
    chosen += [device for group in plan.groups for device in fleet.group(group)]
    chosen += fleet.devices if plan.all else ()
    unique = {device.name: device for device in chosen}
    for pattern in (*limit, *exclude):
        if not any(_is_meant(device, pattern) for device in unique.values()):
            raise FleetError(f"no device of this campaign is like {pattern!r}", f"it has {', '.join(unique)}")
    left = [
        device
        for device in unique.values()
        if (not limit or any(_is_meant(device, one) for one in limit))
        and not any(_is_meant(device, one) for one in exclude)
    ]
    if not left:
        raise FleetError("--limit and --exclude leave no device", f"the plan has {', '.join(unique)}")
    return tuple(left)


def _is_meant(device: Device, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in (device.name, *device.groups))


def read_models(plan: Plan) -> dict[tuple[int, int], ModelFile]:
    """Every model of the plan as each configuration takes it: batch and shapes decide its inputs.

    Raises:
        ModelError: one cannot be read, or does not have these shapes.
    """
    return {
        (m, c): read_model(Path(path), dict(configuration.shapes), configuration.batch)
        for m, path in enumerate(plan.models)
        for c, configuration in enumerate(plan.configurations)
    }


def draw_up(
    plan: Plan, devices: Sequence[Device], models: dict[tuple[int, int], ModelFile]
) -> tuple[Outline, tuple[LeftOut, ...]]:
    """Spell a plan out, and say what of it no device could do.

    Every device gets randomised complete blocks: each repetition is a block, shuffled on its own, so that what drifts
    (a room that warms up) falls on all configurations alike. The seed and the device's name decide the order.

    Raises:
        PlanError: nothing is left to do.
    """
    jobs: list[PlannedJob] = []
    left_out: dict[LeftOut, None] = {}
    for d, device in enumerate(devices):
        pairs = []
        for (m, c), model in models.items():
            reason = _misfit(device, model, plan.configurations[c])
            if reason is None:
                pairs.append((m, c))
            else:
                left_out[LeftOut(model.name, plan.title(c), reason)] = None
        order = random.Random(f"{plan.seed}/{device.name}")
        for repetition in range(plan.repetitions):
            block = pairs.copy()
            order.shuffle(block)
            jobs += [PlannedJob(d, m, c, repetition) for m, c in block]
    if not jobs:
        why = "; ".join(f"{one.model}: {one.reason}" for one in left_out)
        raise PlanError(f"there is nothing to measure: {why}", "choose runtimes that run these models")
    planned = {m: PlannedModel(path=str(one.path), name=one.name, digest=one.digest) for (m, _), one in models.items()}
    outline = Outline(
        plan=plan, devices=tuple(d.name for d in devices), models=tuple(planned.values()), jobs=tuple(jobs)
    )
    return outline, tuple(left_out)


def _misfit(device: Device, model: ModelFile, configuration: Configuration) -> str | None:
    """Why this device cannot measure this model in this way, as far as that can be known beforehand."""
    runtime = configuration.runtime
    if device.board is not None:
        return None if runtime in (None, "simulated") else f"{device.name} simulates a board: it has no {runtime}"
    if runtime == "simulated":
        return f"{device.name} is no simulated board"
    if device.scheme == "adb" or runtime == BY_PROGRAM:
        problem = misfit_by_program(device, model.format, runtime, None)
        return None if problem is None else str(problem)
    if runtime is not None and runtime not in RUNTIMES_BY_FORMAT[model.format]:
        return f"{runtime} does not run .{model.format} files"
    return None


def unchanged(outline: Outline) -> dict[tuple[int, int], ModelFile]:
    """The models of a campaign that goes on, which must be those that it began with.

    Raises:
        ModelError: one is gone or has changed.
    """
    models = read_models(outline.plan)
    for (m, _), model in models.items():
        planned = outline.models[m]
        if model.digest != planned.digest:
            raise ModelError(
                f"{planned.path} has changed since the campaign began: its SHA-256 was {planned.digest}",
                "put the old file back, or run the campaign anew",
            )
    return models


def with_noise_of_its_own(settings: Settings, job: PlannedJob) -> Settings:
    """A simulated board draws its noise from the seed: every repetition needs another, or all would be the same."""
    return dataclasses.replace(settings, seed=settings.seed + job.repetition)
