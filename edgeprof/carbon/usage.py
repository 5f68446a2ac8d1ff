"""What one inference of a run takes from its device: time, energy above rest, and the power at rest around it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from device_agents.wire import BOUNDARIES, DC_INPUT, MEASURED, UNSTATED
from edgeprof.carbon import inputs
from edgeprof.carbon.inputs import NORMAL, TRIANGULAR, Input
from edgeprof.energy import Interval, ModelEnergy
from edgeprof.errors import CarbonError, MeasurementError, UsageError
from edgeprof.run import Run
from edgeprof.statistics import summarise
from edgeprof.throughput import throughput

__all__ = ["IDLE", "LATENCY", "NET", "ModelledPower", "Usage", "at_boundary", "measured_usage", "modelled_usage"]

LATENCY, NET, IDLE = "duration of an inference", "energy above rest", "power at rest"
# The 97.5 % quantile of the normal distribution over its 95 % quantile: from a 95 % interval to a 90 % one.
FROM_95_TO_90 = 1.6448536 / 1.9599640
MODELLED_NOTE = "no meter: figures of the board's data, not of this board at work"


@dataclass(frozen=True, kw_only=True)
class ModelledPower:
    """Power of a board while the model runs and at rest, from its data; `sources` says from where."""

    active_w: Interval
    idle_w: Interval
    sources: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Usage:
    """One inference at the boundary of a sensor. `latency` is the time for which it has the device to itself.

    With several streams that is the time between two ends. `is_measured` tells a meter's figures from a model's.
    """

    run_id: str
    subject: str
    origin: str
    boundary: str
    is_measured: bool
    method: str
    latency: Input
    net: Input
    idle: Input
    memory_bytes: int | None
    notes: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[Input, ...]:
        return (self.latency, self.net, self.idle)


def measured_usage(run: Run, energy: ModelEnergy) -> Usage:
    """What a meter saw."""
    meter = energy.meter
    source = f"run {run.id}, meter {meter.name} ({meter.source})"
    return _usage(
        run, boundary=meter.boundary, is_measured=run.profile.origin == MEASURED, latency=_latency(run),
        method=f"energy pass of run {run.id}, meter {meter.name} at the {meter.boundary} boundary",
        net=_metered(NET, "J", run, energy.net_j, source), idle=_metered(IDLE, "W", run, energy.idle_w, source),
        notes=(*(f"not in the energy: {what}" for what in meter.not_covered), *_calibration(energy), *energy.notes),
    )  # fmt: skip


def at_boundary(usage: Usage, boundary: str) -> Usage:
    """The same where the user says where the sensor sits, which a chip on a bus cannot.

    Raises:
        UsageError: there is no such boundary, or the meter itself says another.
    """
    if boundary not in BOUNDARIES:
        raise UsageError(f"there is no boundary {boundary!r}", f"there are {', '.join(BOUNDARIES)}")
    if usage.boundary not in (UNSTATED, boundary):
        raise UsageError(
            f"run {usage.run_id} was taken at the {usage.boundary} boundary, not at {boundary}", "leave --boundary out"
        )
    said = f"that the sensor sits at the {boundary} boundary was given by the user"
    return replace(usage, boundary=boundary, notes=(*usage.notes, said))


def modelled_usage(run: Run, power: ModelledPower) -> Usage:
    """What a board's data say; the power of a whole board is that at its DC input."""
    latency = _latency(run)
    source = "; ".join(power.sources)
    active, idle = power.active_w, power.idle_w
    # Both move together from board to board, so low goes with low.
    load = [max(0.0, a - i) for a, i in ((active.value, idle.value), (active.low, idle.low), (active.high, idle.high))]
    value, low, high = (one * latency.value for one in load)
    net = Input(
        name=NET, value=value, unit="J", kind=inputs.MODELLED, source=source, low=min(low, value),
        high=max(high, value), shape=TRIANGULAR, note=MODELLED_NOTE,
    )  # fmt: skip
    rest = Input(
        name=IDLE, value=idle.value, unit="W", kind=inputs.MODELLED, source=source, low=idle.low, high=idle.high,
        shape=TRIANGULAR, note=MODELLED_NOTE,
    )  # fmt: skip
    return _usage(
        run, boundary=DC_INPUT, is_measured=False, latency=latency, net=net, idle=rest,
        method="no energy was measured: MODELLED from the board's figures and the measured latency",
        notes=("energy is modelled, not measured: profile with --energy on a device with a power meter",),
    )  # fmt: skip


def _usage(run: Run, **rest: Any) -> Usage:
    job = run.profile.job
    return Usage(
        run_id=run.id, origin=run.profile.origin, memory_bytes=_memory(run),
        subject=f"{job.model.name}{_inputs(run)} with {job.runtime} on {run.device}", **rest,
    )  # fmt: skip


def _inputs(run: Run) -> str:
    """The shapes of its inputs: an inference of a batch of eight is another functional unit than of a single image."""
    if run.profile.job.board is not None:  # a simulated board computes nothing, and has no real inputs
        return ""
    shapes = ["x".join(map(str, tensor.shape)) or "scalar" for tensor in run.profile.inputs]
    return f" ({', '.join(shapes)})" if shapes else ""


def _memory(run: Run) -> int | None:
    board = run.profile.job.board
    return run.profile.machine.memory_bytes if board is None else board.memory_bytes


def _latency(run: Run) -> Input:
    try:
        summary = summarise(run.profile)
    except MeasurementError as error:
        raise CarbonError(f"run {run.id} has no latency: {error}", "profile the model again") from error
    is_measured = run.profile.origin == MEASURED
    one = Input.exactly(
        LATENCY, summary.median_s, "s", inputs.MEASURED if is_measured else inputs.MODELLED,
        f"run {run.id}, median of the latency pass ({run.profile.origin})",
    )  # fmt: skip
    streams = run.profile.job.options.streams
    if streams > 1:
        total = throughput(run.profile)
        period_s = summary.median_s / streams if total is None else 1.0 / total.inferences_per_s
        return replace(
            one, value=period_s, low=period_s, high=period_s, note=f"one of {streams} streams' inferences ends"
        )
    if summary.median_low_s is None or summary.median_high_s is None:
        return replace(one, note="no interval: too few runs")
    low, high = (one.value + (end - one.value) * FROM_95_TO_90 for end in (summary.median_low_s, summary.median_high_s))
    return one.within(low, high, NORMAL)


def _calibration(energy: ModelEnergy) -> tuple[str, ...]:
    return () if energy.calibration is None else (f"the meter's values were corrected: {energy.calibration}",)


def _metered(name: str, unit: str, run: Run, found: Interval, source: str) -> Input:
    is_measured = run.profile.origin == MEASURED
    return Input(
        name=name, value=max(found.value, 0.0), unit=unit, source=source, low=max(found.low, 0.0),
        high=max(found.high, 0.0), shape=NORMAL, kind=inputs.MEASURED if is_measured else inputs.MODELLED,
        note=None if is_measured else f"{run.profile.origin}, not measured",
    )  # fmt: skip
