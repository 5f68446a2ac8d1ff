"""What each operator takes: its own loop less an empty model's, scaled to the time it takes in the model.

The loop method: of those that a sensor slower than the operators allows, the one that identifies an operator. Slicing a
trace by time gives every operator the mean power, and a regression over mixes cannot tell operators from rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_agents.wire import EnergyPass, OperatorPass
from edgeprof.energy.boundaries import not_one_meter
from edgeprof.energy.intervals import around, error_of
from edgeprof.energy.model import model_energy
from edgeprof.energy.results import ModelEnergy, OperatorEnergies, OperatorEnergy
from edgeprof.errors import MeasurementError
from edgeprof.run import OperatorLoop, Run

__all__ = ["attribute"]

# A number whose interval reaches further than this share of it either way is none.
WIDEST = 0.5
# Between the quartiles of a normal distribution lie so many standard deviations.
QUARTILES = 1.349
# Only where loops cover nearly all of the model's time do they have to add up to it.
COVERED_SHARE = 0.95
NOT_LOOPED = "it was not measured in a loop"
HOT = (
    "in a loop caches are warm and clocks settled: in the model an operator may take more or less; intervals are of "
    "the measurement alone"
)


def attribute(run: Run) -> OperatorEnergies:
    """Net energy of every kernel of the profile, and how they add up.

    Raises:
        MeasurementError: there is no energy of the whole model, no operator times, or they are of different meters.
    """
    recorded, energy, loops = run.profile.operators, run.profile.energy, run.loops
    if recorded is None or energy is None or loops is None:
        raise MeasurementError("operators, energy and loops are needed, and the run lacks one", "profile with --energy")
    for other in (loops.empty, *(loop.energy for loop in loops.operators)):
        _require_same_meter(energy, other)
    whole, empty = model_energy(energy), _empty(loops.empty, loops.empty_missing)
    inside = _times_in_model(recorded, whole, empty)
    found: dict[int, OperatorEnergy] = {}
    measured: list[_Isolated] = []
    for loop in loops.operators:
        try:
            one = _isolated(loop, empty)
        except MeasurementError as error:
            found |= {kernel: _missing(kernel, str(error)) for kernel in loop.kernels}
            continue
        measured.append(one)
        found |= {kernel: _of_kernel(kernel, one, empty, inside) for kernel in loop.kernels}
    ordered = [found.get(k) or _missing(k, NOT_LOOPED) for k in range(len(recorded.kernels))]
    return _closed(ordered, whole, empty, _summed(measured, empty, inside), sum(inside.times_s))


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
    reason = not_one_meter(whole.trace.meter, other.trace.meter)
    if reason is not None:
        raise MeasurementError(
            f"model and operators do not add up: {reason}", "measure all of it with one meter: --meter"
        )


@dataclass(frozen=True)
class _InModel:
    """The seconds of every kernel in the model, and their relative standard errors: of its share, and of all together.

    What makes a whole run slower or faster is the same for all its kernels.
    """

    times_s: list[float]
    share_errors: list[float]
    total_error: float


def _times_in_model(recorded: OperatorPass, whole: ModelEnergy, empty: ModelEnergy) -> _InModel:
    """Median times, scaled down where the profiler made them longer than a run without it has room for."""
    times_s = [float(np.median(kernel.times_s)) if kernel.times_s else 0.0 for kernel in recorded.kernels]
    room_s, total_s = whole.latency_s.value - empty.latency_s.value, sum(times_s)
    is_longer = 0 < room_s < total_s
    runs = [np.asarray(kernel.times_s, dtype=float) for kernel in recorded.kernels]
    if not runs or not runs[0].size or any(one.size != runs[0].size for one in runs):
        # Kernels were timed in different runs: nothing is common to them.
        return _InModel(times_s, [_median_error(one) for one in runs], 0.0)
    total = np.sum(runs, axis=0)
    error = error_of(whole.latency_s) / whole.latency_s.value if is_longer else _median_error(total)
    scale = room_s / total_s if is_longer else 1.0
    return _InModel([scale * time_s for time_s in times_s], [_median_error(one / total) for one in runs], error)


def _median_error(values: NDArray[np.float64]) -> float:
    """Relative standard error of their median, by the middle half of them: a few late ones say nothing."""
    if not values.size:
        return 0.0
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float((high - low) / QUARTILES * math.sqrt(math.pi / 2 / values.size) / middle) if middle > 0 else 0.0


def _missing(kernel: int, missing: str) -> OperatorEnergy:
    return OperatorEnergy(kernel=kernel, isolated_j=None, in_model_j=None, missing=missing)


# --- one loop -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Isolated:
    """One run of an operator without the call of the runtime: net joules and seconds, and their own errors.

    `own_error_j` is of the loop alone: what the empty model's is wrong by is the same for all operators.
    """

    kernels: tuple[int, ...]
    energy_j: float
    time_s: float
    own_error_j: float
    error_s: float


def _isolated(loop: OperatorLoop, empty: ModelEnergy) -> _Isolated:
    """What a loop says.

    Raises:
        MeasurementError: there is no loop, or nothing can be told from it.
    """
    if loop.energy is None:
        raise MeasurementError(loop.missing or NOT_LOOPED)
    found = model_energy(loop.energy)
    energy_j, time_s = found.net_j.value - empty.net_j.value, found.latency_s.value - empty.latency_s.value
    error_s = math.hypot(error_of(found.latency_s), error_of(empty.latency_s))
    if time_s <= 2 * error_s:
        raise MeasurementError("its time cannot be told from that of calling the runtime")
    own_error_j = error_of(found.net_j)
    if energy_j <= 0 or around(0.0, math.hypot(own_error_j, error_of(empty.net_j))).high > WIDEST * energy_j:
        raise MeasurementError("its energy cannot be told from that of calling the runtime with this meter")
    return _Isolated(loop.kernels, energy_j, time_s, own_error_j, error_s)


def _of_kernel(kernel: int, one: _Isolated, empty: ModelEnergy, inside: _InModel) -> OperatorEnergy:
    """Scaled to the time that this kernel takes in the model."""
    if inside.times_s[kernel] <= 0:
        return _missing(kernel, "the runtime gave it no time in the model")
    value_j = one.energy_j * inside.times_s[kernel] / one.time_s
    energy = math.hypot(one.own_error_j, error_of(empty.net_j)) / one.energy_j
    error = math.hypot(energy, one.error_s / one.time_s, inside.share_errors[kernel], inside.total_error)
    return OperatorEnergy(kernel=kernel, isolated_j=around(value_j, error * value_j), in_model_j=None)


# --- all loops ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sum:
    """All operators that were measured: joules, their error, and the time they take in the model."""

    energy_j: float
    error_j: float
    time_s: float


def _summed(measured: Sequence[_Isolated], empty: ModelEnergy, inside: _InModel) -> _Sum:
    """A loop's error is in all kernels that it stands for, and the empty model's in every operator."""
    runs = [sum(inside.times_s[kernel] for kernel in one.kernels) / one.time_s for one in measured]
    own = [
        n * math.hypot(one.own_error_j, one.energy_j * one.error_s / one.time_s)
        for n, one in zip(runs, measured, strict=True)
    ]
    # Counted against the overhead, which is added to the sum with the opposite sign.
    shared_j = (sum(runs) - 1) * error_of(empty.net_j)
    energy_j = sum(n * one.energy_j for n, one in zip(runs, measured, strict=True))
    return _Sum(
        energy_j=energy_j,
        error_j=math.hypot(*own, shared_j, energy_j * inside.total_error),
        time_s=sum(n * one.time_s for n, one in zip(runs, measured, strict=True)),
    )


def _closed(
    operators: list[OperatorEnergy], whole: ModelEnergy, empty: ModelEnergy, total: _Sum, time_s: float
) -> OperatorEnergies:
    """With closure, and where nearly everything is covered, scaled so that all add up to the whole."""
    notes = [HOT]
    room_j = whole.net_j.value - empty.net_j.value
    if total.energy_j <= 0 or room_j <= 0:
        return OperatorEnergies(
            operators=tuple(operators), overhead_j=empty.net_j, closure=None, residual_j=None, notes=tuple(notes)
        )
    sum_j = total.energy_j + empty.net_j.value
    error = math.hypot(total.error_j / sum_j, error_of(whole.net_j) / whole.net_j.value)
    if total.time_s < COVERED_SHARE * time_s:
        covered = total.time_s / time_s
        notes.append(f"loops cover {covered:.0%} of the time of all kernels: they need not add up to the whole")
    else:
        operators = [_scaled(one, room_j / total.energy_j, error) for one in operators]
    return OperatorEnergies(
        operators=tuple(operators),
        overhead_j=empty.net_j,
        closure=around(sum_j / whole.net_j.value, error * sum_j / whole.net_j.value),
        residual_j=whole.net_j.value - sum_j,
        notes=tuple(notes),
    )


def _scaled(one: OperatorEnergy, scale: float, error: float) -> OperatorEnergy:
    """By a factor that is itself known to within a relative standard error."""
    if one.isolated_j is None:
        return one
    value_j = one.isolated_j.value * scale
    relative = math.hypot(error_of(one.isolated_j) / one.isolated_j.value, error)
    return OperatorEnergy(kernel=one.kernel, isolated_j=one.isolated_j, in_model_j=around(value_j, relative * value_j))
