"""What each operator takes: its own loop less an empty model's, scaled to the time it takes in the model.

The loop method: of those that a sensor slower than the operators allows, the one that identifies an operator. Slicing a
trace by time gives every operator the mean power, and a regression over mixes cannot tell operators from rest.
"""

from __future__ import annotations

import math

import numpy as np

from device_agents.wire import EnergyPass, OperatorPass
from edgeprof.energy.intervals import around, error_of
from edgeprof.energy.model import model_energy
from edgeprof.energy.results import Interval, ModelEnergy, OperatorEnergies, OperatorEnergy
from edgeprof.errors import MeasurementError
from edgeprof.run import OperatorLoop, Run

__all__ = ["attribute"]

# A number whose interval is wider than itself either way is none.
WIDEST_ERROR = 0.5
# Only where loops cover nearly all of the model's time do they have to add up to it.
COVERED_SHARE = 0.95
HOT = (
    "in a loop caches are warm and clocks settled: in the model an operator may take more or less; intervals are of the "
    "measurement alone"
)


def attribute(run: Run) -> OperatorEnergies:
    """Net energy of every kernel of the profile, and how they add up.

    Raises:
        MeasurementError: there is no energy of the whole model, no operator times, or they are of different meters.
    """
    recorded, energy, loops = run.profile.operators, run.profile.energy, run.loops
    if recorded is None or energy is None or loops is None:
        raise MeasurementError("operators, energy and loops are needed, and the run lacks one", "profile with --energy")
    whole, empty = model_energy(energy), _empty(loops.empty, loops.empty_missing)
    for loop in loops.operators:
        _require_same_meter(energy, loop.energy)
    times_s = _times_in_model(recorded, whole.latency_s.value - empty.latency_s.value)
    found = {kernel: one for loop in loops.operators for kernel, one in _of_loop(loop, empty, times_s).items()}
    missing = OperatorEnergy(kernel=-1, isolated_j=None, in_model_j=None, missing="it was not measured in a loop")
    ordered = [found.get(k, _as(missing, k)) for k in range(len(recorded.kernels))]
    covered = sum(times_s[one.kernel] for one in ordered if one.isolated_j is not None) / (sum(times_s) or 1.0)
    return _closed(ordered, whole, empty, covered)


def _as(one: OperatorEnergy, kernel: int) -> OperatorEnergy:
    return OperatorEnergy(kernel=kernel, isolated_j=None, in_model_j=None, missing=one.missing)


def _empty(energy: EnergyPass | None, missing: str | None) -> ModelEnergy:
    if energy is None:
        raise MeasurementError(f"what calling the runtime costs is not known: {missing}", "profile again with --energy")
    try:
        return model_energy(energy)
    except MeasurementError as error:
        raise MeasurementError(f"what calling the runtime costs is not known: {error}", error.advice) from error


def _require_same_meter(whole: EnergyPass, other: EnergyPass | None) -> None:
    if whole.trace is None or other is None or other.trace is None:
        return
    one, another = whole.trace.meter, other.trace.meter
    if (one.name, one.boundary) != (another.name, another.boundary):
        raise MeasurementError(
            f"the model was measured by {one.name} ({one.boundary}), an operator by {another.name} "
            f"({another.boundary}): they do not add up",
            "measure all of it with one meter: --meter",
        )


def _times_in_model(recorded: OperatorPass, room_s: float) -> list[float]:
    """Median times of the kernels, scaled down where the profiler made them longer than a run without it has room for."""
    times_s = [float(np.median(kernel.times_s)) if kernel.times_s else 0.0 for kernel in recorded.kernels]
    total_s = sum(times_s)
    scale = min(1.0, room_s / total_s) if total_s > 0 and room_s > 0 else 1.0
    return [scale * time_s for time_s in times_s]


def _of_loop(loop: OperatorLoop, empty: ModelEnergy, times_s: list[float]) -> dict[int, OperatorEnergy]:
    """The energy of every kernel that this loop stands for."""
    try:
        if loop.energy is None:
            raise MeasurementError(loop.missing or "it was not measured in a loop")
        isolated, isolated_s = _isolated(model_energy(loop.energy), empty)
    except MeasurementError as error:
        return {k: OperatorEnergy(kernel=k, isolated_j=None, in_model_j=None, missing=str(error)) for k in loop.kernels}
    found = {}
    for kernel in loop.kernels:
        scale = times_s[kernel] / isolated_s
        scaled = Interval(
            value=isolated.value * scale,
            low=isolated.low * scale,
            high=isolated.high * scale,
            confidence=isolated.confidence,
        )
        found[kernel] = OperatorEnergy(kernel=kernel, isolated_j=scaled, in_model_j=None)
    return found


def _isolated(loop: ModelEnergy, empty: ModelEnergy) -> tuple[Interval, float]:
    """Net joules and seconds of one run of the operator, without those of calling the runtime.

    Raises:
        MeasurementError: they cannot be told from it.
    """
    energy_j, time_s = loop.net_j.value - empty.net_j.value, loop.latency_s.value - empty.latency_s.value
    error_j = math.hypot(error_of(loop.net_j), error_of(empty.net_j))
    error_s = math.hypot(error_of(loop.latency_s), error_of(empty.latency_s))
    if time_s <= 2 * error_s:
        raise MeasurementError("its time cannot be told from that of calling the runtime")
    if energy_j <= 0 or error_j > WIDEST_ERROR * energy_j:
        raise MeasurementError("its energy cannot be told from that of calling the runtime with this meter")
    return around(energy_j, error_j), time_s


def _closed(
    operators: list[OperatorEnergy], whole: ModelEnergy, empty: ModelEnergy, covered: float
) -> OperatorEnergies:
    """With closure, and where nearly everything is covered, scaled so that all add up to the whole."""
    known = [one.isolated_j for one in operators if one.isolated_j is not None]
    sum_j = sum(one.value for one in known)
    error_j = math.sqrt(sum(error_of(one) ** 2 for one in known))
    room_j = whole.net_j.value - empty.net_j.value
    notes = [HOT]
    if not known or room_j <= 0:
        return OperatorEnergies(
            operators=tuple(operators), overhead_j=empty.net_j, closure=None, residual_j=None, notes=tuple(notes)
        )
    ratio = (sum_j + empty.net_j.value) / whole.net_j.value
    error = ratio * math.hypot(
        math.hypot(error_j, error_of(empty.net_j)) / (sum_j + empty.net_j.value),
        error_of(whole.net_j) / whole.net_j.value,
    )
    if covered < COVERED_SHARE:
        notes.append(f"loops cover {covered:.0%} of the time of all kernels: they need not add up to the whole")
    else:
        operators = [_scaled(one, room_j / sum_j) for one in operators]
    return OperatorEnergies(
        operators=tuple(operators),
        overhead_j=empty.net_j,
        closure=around(ratio, error),
        residual_j=whole.net_j.value - sum_j - empty.net_j.value,
        notes=tuple(notes),
    )


def _scaled(one: OperatorEnergy, scale: float) -> OperatorEnergy:
    if one.isolated_j is None:
        return one
    found = one.isolated_j
    scaled = Interval(
        value=found.value * scale, low=found.low * scale, high=found.high * scale, confidence=found.confidence
    )
    return OperatorEnergy(kernel=one.kernel, isolated_j=found, in_model_j=scaled)
