"""The recipe of an outcome: settings, proof and where it was found, drawn together from what was measured."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from device_agents import wire
from edgeprof import __version__
from edgeprof.fleet import Device
from edgeprof.models import ModelFile
from edgeprof.tuning.journal import Entry
from edgeprof.tuning.outcome import Judged, Outcome, cap_sentence, conclusion
from edgeprof.tuning.recipe import (
    SCHEMA,
    Cap,
    Chosen,
    DeviceFacts,
    Interval,
    Measured,
    ModelFacts,
    Recipe,
    RecipeSettings,
    Tried,
)
from edgeprof.values import Value

__all__ = ["recipe_of"]


def recipe_of(
    outcome: Outcome,
    *,
    model: ModelFile,
    device: Device,
    machine: wire.MachineInfo,
    topology: wire.Topology,
    entries: Sequence[Entry],
    n_configurations: int,
    notes: Sequence[str],
    are_kept: bool,
) -> Recipe:
    """What is handed over of a tuning.

    `entries` are all measurements, `notes` what the device kept from it; runs that are not kept are not named.
    """
    versions = {e.configuration.runtime: e.runtime_version for e in entries if e.runtime_version is not None}

    def chosen(judged: Judged | None) -> Chosen | None:
        return _chosen(judged, versions, topology, are_kept) if judged is not None else None

    why = cap_sentence(outcome)
    seen = {entry.configuration for entry in entries}
    return Recipe(
        schema=SCHEMA,
        edgeprof_version=__version__,
        made_at=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        objective=outcome.objective.name,  # type: ignore[arg-type]
        latency_budget_s=outcome.objective.latency_budget_s,
        conclusion=conclusion(outcome),
        model=ModelFacts(name=model.name, format=model.format, digest=model.digest),  # type: ignore[arg-type]
        device=DeviceFacts(
            name=device.name,
            architecture=wire.SIMULATED if device.board is not None else machine.architecture,
            kernel="no kernel" if device.board is not None else machine.kernel,
            n_cpus=len(topology.cpus),
            model=device.board or machine.model,
            cpu=None if device.board is not None else machine.cpu,
            memory_bytes=None if device.board is not None else machine.memory_bytes,
            emulator=None if device.board is not None else machine.emulator,
            board=device.board,
        ),
        best=_chosen(outcome.chosen, versions, topology, are_kept),
        default=chosen(outcome.default),
        without_root=chosen(outcome.without_root) if outcome.chosen.configuration.needs else None,
        tried=Tried(
            configurations=n_configurations,
            measured=len(seen),
            jobs=len(entries),
            failed=len(outcome.failed),
        ),
        notes=(
            *([why] if why is not None else []),
            *notes,
            *_doubts(outcome.chosen),
            *([] if are_kept else ["the runs were not kept in a store"]),
        ),
    )


def _chosen(judged: Judged, versions: dict[str, str], topology: wire.Topology, are_kept: bool) -> Chosen:
    configuration = judged.configuration
    before_hz = {policy.name: policy.max_hz for policy in topology.policies}
    return Chosen(
        settings=RecipeSettings(
            runtime=configuration.runtime,
            runtime_version=versions.get(configuration.runtime),
            threads=configuration.threads,
            affinity=configuration.affinity,
            spinning=configuration.spinning,
            xnnpack=configuration.xnnpack,
            provider=configuration.provider,
            delegate=configuration.delegate,
            clock_caps=tuple(
                Cap(policy=cap.policy, max_hz=cap.max_hz, before_hz=before_hz.get(cap.policy))
                for cap in configuration.caps
            ),
        ),
        measured=Measured(
            origin=judged.latency.origin,
            latency_s=_interval(judged.latency),
            energy_j=_interval(judged.energy) if judged.energy is not None else None,
            runs=judged.seen.runs if are_kept else (),
        ),
        needs=configuration.needs,
    )


def _interval(value: Value) -> Interval:
    return Interval(value=value.value, low=value.low, high=value.high)


def _doubts(judged: Judged) -> tuple[str, ...]:
    return tuple(dict.fromkeys(note for one in judged.seen.measured for note in one.notes))
