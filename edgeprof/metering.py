"""Energy by a meter that is not on the device: recorded here while the device works, or attached to a run later."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

from device_agents import wire
from edgeprof.agent import Agent
from edgeprof.energy import model_energy
from edgeprof.errors import AgentError, LinkError, MeasurementError, MeterError
from edgeprof.meters import Meter, is_address, open_meter
from edgeprof.meters.alignment import Offset, RoundTrip, align, between, of_round_trips
from edgeprof.meters.csv_trace import DEVICE, OWN, UNIX, Columns, read_trace
from edgeprof.models import ModelFile
from edgeprof.profiling import Measure, OnProgress, OpenDevice, attached
from edgeprof.run import Run

__all__ = ["attach", "energy_alone", "metered"]

N_ROUND_TRIPS = 20
# What small computers take under load, from a microcontroller's board to a workstation.
LEAST_W, MOST_W = 0.01, 500.0
# Wall clocks of machines that keep them by NTP agree better than this; the load says by how much.
NTP_ERROR_S = 1.0


def metered(measure: Measure = attached, open_by_address: Callable[[str], Meter] = open_meter) -> Measure:
    """Measure as `measure` does, with the meter that the job or else fleet.toml names; for `OpenDevice(measure=...)`.

    One of this host records all the while; if it fails once the device works, that costs the energy and never the
    latency: `energy_missing` says why. One of the device is left to it; fleet.toml says where a bare chip sits.

    Raises (from what it returns):
        MeterError: the meter does not answer, before anything was measured.
        UsageError: its address makes no sense.
    """

    def with_meter(opened: OpenDevice, model: ModelFile, job: wire.Job, on_progress: OnProgress | None) -> wire.Profile:
        if job.energy is None:
            return measure(opened, model, job, on_progress)
        name = job.energy.meter or opened.device.meter or ""
        _require_there(opened, job, name)
        if not is_address(name):
            profile = measure(opened, model, _with_meter(job, name), on_progress)
            return _with_boundary(profile, opened.device.meter_boundary)
        job = _with_meter(job, wire.EXTERNAL)
        with open_by_address(name) as meter:
            before = _offset(opened.ready_agent(job.runtime, job.options))
            meter.start()
            profile = measure(opened, model, job, on_progress)
            try:
                after = _offset(opened.ready_agent(job.runtime, job.options))
                trace = _stopped(meter)
            except (MeterError, AgentError, LinkError) as error:
                return _without(profile, str(error))
        return _with_trace(profile, trace, between(before, after))

    return with_meter


def _require_there(opened: OpenDevice, job: wire.Job, name: str) -> None:
    """A meter that is named must be there before minutes are spent on latencies.

    Raises:
        MeterError: it is not.
    """
    if opened.device.board is not None:
        if is_address(name):
            raise MeterError(
                f"{opened.device.name}: is a simulated board, which {name} cannot measure",
                "leave --meter out: a simulated board has its own sensor, or none",
            )
        return
    if name in ("", wire.EXTERNAL) or is_address(name):
        return
    found = opened.ready_agent(job.runtime, job.options).meters()
    if name not in [meter.name for meter in found]:
        there = ", ".join(meter.name for meter in found) or "none"
        raise MeterError(
            f"{opened.device.name}: no meter is called {name!r}; there are: {there}",
            f"see them: edgeprof devices show {opened.device.name} --meters",
        )


def energy_alone(
    opened: OpenDevice,
    job: wire.Job,
    address: str,
    on_progress: OnProgress | None = None,
    open_by_address: Callable[[str], Meter] = open_meter,
) -> wire.EnergyPass:
    """The energy pass alone of a job whose files are on the device, by the meter at `address`, or the device's own.

    Raises:
        MeterError: the meter does not answer or fails.
        JobRefused, AgentLost: as for `Agent.energy`.
    """
    agent = opened.agent(job.runtime)
    if not is_address(address):
        found = agent.energy(_with_meter(job, address), on_progress).energy
        return _stated(found, opened.device.meter_boundary)
    with open_by_address(address) as meter:
        before = _offset(agent)
        meter.start()
        found = agent.energy(_with_meter(job, wire.EXTERNAL), on_progress).energy
        after = _offset(agent)
        trace = _stopped(meter)
    return dataclasses.replace(found, trace=align(trace, found.windows, between(before, after), must_show=False))


def _stopped(meter: Meter) -> wire.PowerTrace:
    # What the meter shows is late by up to a period: the last window must have been shown whole.
    time.sleep(2 * (meter.info.period_s or 0.0))
    return meter.stop()


def _with_meter(job: wire.Job, name: str) -> wire.Job:
    if job.energy is None or job.energy.meter == name:
        return job
    return dataclasses.replace(job, energy=dataclasses.replace(job.energy, meter=name))


def _with_boundary(profile: wire.Profile, boundary: str | None) -> wire.Profile:
    if profile.energy is None:
        return profile
    return dataclasses.replace(profile, energy=_stated(profile.energy, boundary))


def _stated(energy: wire.EnergyPass, boundary: str | None) -> wire.EnergyPass:
    """The user knows what a bare chip on a bus measures; what a meter itself knows is not overruled."""
    if boundary is None or energy.trace is None or energy.trace.meter.boundary != wire.UNSTATED:
        return energy
    meter = dataclasses.replace(energy.trace.meter, boundary=boundary)
    return dataclasses.replace(energy, trace=dataclasses.replace(energy.trace, meter=meter))


def _offset(agent: Agent) -> Offset:
    trips: list[RoundTrip] = []
    for _ in range(N_ROUND_TRIPS):
        sent_s = time.monotonic()
        device_s = agent.clocks().at_s
        trips.append(RoundTrip(sent_s=sent_s, device_s=device_s, received_s=time.monotonic()))
    return of_round_trips(trips)


def _with_trace(profile: wire.Profile, trace: wire.PowerTrace, offset: Offset) -> wire.Profile:
    if profile.energy is None:
        return profile
    try:
        aligned = align(trace, profile.energy.windows, offset, must_show=False)
    except MeterError as error:
        return _without(profile, str(error))
    return dataclasses.replace(profile, energy=dataclasses.replace(profile.energy, trace=aligned))


def _without(profile: wire.Profile, why: str) -> wire.Profile:
    return dataclasses.replace(profile, energy_missing=f"the meter failed: {why}")


def attach(
    run: Run, path: Path, *, boundary: str, clock: str, columns: Columns | None = None, replace: bool = False
) -> Run:
    """The run, under its id, with the trace of a file in its energy pass.

    Raises:
        MeterError: the run has no windows or has a trace, the file is no trace, or does not show or cover the windows.
    """
    energy = run.profile.energy
    if energy is None or not energy.windows:
        raise MeterError(
            f"run {run.id}: has no energy pass that a trace could be attached to",
            "profile with --energy --meter external while the meter records",
        )
    if energy.trace is not None and not replace:
        raise MeterError(
            f"run {run.id}: has a trace already, of {energy.trace.meter.name}", "replace it for good: --replace"
        )
    if energy.trace is not None and energy.trace.clock == "device" and energy.trace.offset_s is None:
        raise MeterError(f"run {run.id}: was measured by a meter of the device itself", "that trace is not replaced")
    trace = read_trace(path, boundary, columns)
    trace = align(trace, energy.windows, _known_offset(energy, trace, clock), must_show=True)
    _check_covers(energy, trace, path)
    _check_gives_a_number(dataclasses.replace(energy, trace=trace), path, columns)
    profile = dataclasses.replace(run.profile, energy=dataclasses.replace(energy, trace=trace), energy_missing=None)
    return dataclasses.replace(run, profile=profile)


def _check_gives_a_number(energy: wire.EnergyPass, path: Path, columns: Columns | None) -> None:
    """Whether the trace would give a number if the device had been calm: what the device did is not its fault."""
    calm = tuple(
        dataclasses.replace(window, before=wire.Conditions(window.start_s), after=wire.Conditions(window.end_s))
        for window in energy.windows
    )
    try:
        found = model_energy(dataclasses.replace(energy, windows=calm))
    except MeasurementError as error:
        raise MeterError(f"{path}: gives no number: {error}", error.advice) from error
    is_stated = columns is not None and columns.unit is not None
    if not (is_stated or LEAST_W <= found.power_w.value <= MOST_W):
        raise MeterError(
            f"{path}: shows {found.power_w.value:.3g} W while the model runs, which no board takes",
            "say the unit of its column, even if it is W: --unit mW",
        )


def _known_offset(energy: wire.EnergyPass, trace: wire.PowerTrace, clock: str) -> Offset | None:
    if clock == OWN:
        return None
    middle_s = (trace.at_s[0] + trace.at_s[-1]) / 2
    if clock == DEVICE:
        return Offset(at_s=middle_s, offset_s=0.0, error_s=0.0)
    if clock != UNIX:
        raise MeterError(f"no clock is called {clock!r}", f"use {DEVICE}, {UNIX} or {OWN}")
    began, ended = energy.began, energy.ended
    if began.wall_s is None or ended.wall_s is None:
        raise MeterError("the device told no wall-clock time", "use --clock own: the load aligns the trace")
    offsets = [began.at_s - began.wall_s, ended.at_s - ended.wall_s]
    stepped_s = abs(offsets[1] - offsets[0])
    return Offset(at_s=middle_s, offset_s=sum(offsets) / 2, error_s=NTP_ERROR_S + stepped_s)


def _check_covers(energy: wire.EnergyPass, trace: wire.PowerTrace, path: Path) -> None:
    start_s, end_s = trace.at_s[0], trace.at_s[-1]
    measured = [window for window in energy.windows if window.kind != wire.MARK]
    outside = [window for window in measured if window.start_s < start_s or window.end_s > end_s]
    if outside:
        raise MeterError(
            f"{path}: does not cover {len(outside)} of the {len(measured)} windows of the energy pass",
            "record from before the pass to after it",
        )
