"""Configurations measured on a device: quickly while looking around, thoroughly where it decides.

What a configuration cannot do is a result. What the device cannot do ends the tuning: a lost link (after some tries),
somebody else's lease, an empty battery.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from device_agents import wire
from edgeprof import doctor, gate_timeout
from edgeprof.battery import LOW_BATTERY, running_empty
from edgeprof.errors import JobRefused, MeasurementError, MeterError, TuningError
from edgeprof.fleet import Device
from edgeprof.metering import metered
from edgeprof.meters import is_address
from edgeprof.models import ModelFile, board_to_simulate
from edgeprof.outputs import disagreements
from edgeprof.profiling import RUNTIMES_BY_FORMAT, OnProgress, OpenDevice, Settings
from edgeprof.run import Run
from edgeprof.spooled import Patience, considerate, usual_patience, when_free
from edgeprof.tuning.configuration import Configuration
from edgeprof.tuning.objective import Measured
from edgeprof.values import values_of
from edgeprof.verdict import judge

__all__ = ["QUICK", "THOROUGH", "BatteryLow", "Bench"]

T = TypeVar("T")

# Refusals that are about the device and not about one configuration.
OF_DEVICE = frozenset({"leased", "keeper-silent", "no-meter", "charging", "no-space", "version"})
QUICK, THOROUGH = 1, 2


@dataclass(frozen=True, kw_only=True)
class Care:
    """What one measurement of a level takes."""

    schedule: wire.Schedule
    energy: wire.EnergyPlan
    gate_s: float


# Windows of energy are short beside those of `profile --energy`: configurations are compared, by one meter, in turns.
CARE = {
    QUICK: Care(
        schedule=wire.Schedule(rounds=3, min_runs=10, min_s=0.2, max_s=2.0),
        energy=wire.EnergyPlan(windows=3, window_s=2.0, idle_s=1.5, min_updates=8, observer_windows=0),
        gate_s=5.0,
    ),
    THOROUGH: Care(
        schedule=wire.Schedule(rounds=5, min_runs=20, min_s=0.5, max_s=5.0),
        energy=wire.EnergyPlan(windows=5, window_s=4.0, idle_s=2.0, min_updates=20, observer_windows=0),
        gate_s=20.0,
    ),
    3: Care(
        schedule=wire.Schedule(rounds=7, min_runs=20, min_s=1.0, max_s=10.0),
        energy=wire.EnergyPlan(windows=7, window_s=8.0, idle_s=4.0, min_updates=20, observer_windows=0),
        gate_s=30.0,
    ),
}


class BatteryLow(TuningError):
    """The battery is running empty: what is measured then is not what the device does."""


@dataclass
class Bench:
    """One device with one model; a context manager. What was measured is handed to `keep`, if there is one.

    `energy` says whether joules are measured too, by `meter` or the device's own. `base` has the options that are no
    part of a configuration. `wait_s` is how long it waits for a device that somebody else holds.
    """

    device: Device
    model: ModelFile
    energy: bool = False
    meter: str = ""
    seed: int = 0
    base: wire.RuntimeOptions = field(default_factory=wire.RuntimeOptions)
    keep: Callable[[Run], None] | None = None
    tell: Callable[[str], None] = lambda text: None
    on_progress: OnProgress | None = None
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], float] = time.monotonic
    wait_s: float = 0.0
    patience: Patience = field(init=False)
    _opened: OpenDevice = field(init=False)

    def __post_init__(self) -> None:
        self.patience = usual_patience(lambda text: self.tell(f"{self.device.name}: {text}"))
        self._opened = OpenDevice(self.device, measure=metered(considerate))

    def __enter__(self) -> Bench:
        self._opened.connect()
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    # --- what there is ---

    def topology(self) -> wire.Topology:
        """The CPUs of the device, or of the board that it simulates, and what may be done with them."""
        board = board_to_simulate(self.device.board) if self.device.board is not None else None
        return self._persist(lambda: self._opened.any_agent().topology(board))

    def machine(self) -> wire.MachineInfo:
        """The device as it describes itself."""
        return self._persist(lambda: self._opened.any_agent().hello.machine)

    def runtimes(self, wanted: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Those that the device has for this model's format, of those that are wanted if any are.

        Raises:
            UsageError: one that is wanted does not take such a file.
            TuningError: there is none.
        """
        asked = wanted or (("simulated",) if self.device.board is not None else RUNTIMES_BY_FORMAT[self.model.format])
        there, reasons = [], []
        for name in dict.fromkeys(asked):
            (runtime,) = self._opened.candidates(self.model, Settings(runtime=name))
            try:
                self._ready(runtime)
                there.append(runtime)
            except JobRefused as refusal:
                if wanted:
                    raise
                reasons.append(str(refusal))
        for reason in reasons if there else ():
            self.tell(f"left out: {reason}")
        if not there:
            advice = f"see what is missing: edgeprof devices doctor {self.device.name}"
            raise TuningError("; ".join(reasons), advice)
        return tuple(there)

    def _ready(self, runtime: str) -> None:
        self._persist(lambda: self._opened.ready_agent(runtime, self.base))

    def require_meter(self) -> None:
        """Say before anything is measured that there is nothing to measure joules with.

        Raises:
            MeterError: no meter can be read, and why.
        """
        name = self.meter or self.device.meter or ""
        if is_address(name):
            return  # the first measurement asks it before it begins
        if self.device.board is not None:
            found = doctor.meters(self.device)
        else:
            found = self._persist(lambda: self._opened.any_agent().meters())
        usable = [one.name for one in found if one.unusable is None and name in ("", one.name)]
        if usable:
            return
        reasons = "; ".join(f"{one.name}: {one.unusable or 'is another one'}" for one in found) or "there is none"
        what = f"no meter called {name!r} can be read" if name else "no power meter can be read"
        raise MeterError(
            f"{self.device.name}: {what} ({reasons}), and energy is asked for",
            "tune for --objective latency, or give the device a meter (docs/how-to/meters.md)",
        )

    def require_charge(self) -> None:
        """Refuse a battery that is running empty.

        Raises:
            BatteryLow: below 15 % and discharging.
        """
        if self.device.board is None:
            self._check_charge(self._persist(lambda: self._opened.any_agent().conditions()))

    def _check_charge(self, seen: wire.Conditions) -> None:
        low = running_empty(seen)
        if low is not None:
            raise BatteryLow(
                f"{self.device.name}: its battery is at {low:.0%} and discharging: clocks are lowered soon",
                f"charge it above {LOW_BATTERY:.0%}, then tune (with --resume if something was measured)",
            )

    # --- measuring ---

    def measure(self, configuration: Configuration, level: int, number: int) -> tuple[Measured, Run | None]:
        """What a configuration takes, with the run; a refusal or crash is a failure, without one.

        `number` counts measurements: simulated ones differ by it.

        Raises:
            BatteryLow: after a run that shows it; the run is kept.
            LinkError, AgentError, DeviceGivenUp: the device is lost, also after some time, or is somebody else's.
            MeterError: the meter is not there.
        """
        measured, run = self._measured(self.settings(configuration, level, number))
        if run is not None and level < THOROUGH and self.energy and measured.energy is None:
            # Short windows do not always show a small load.
            measured, run = self._measured(self.settings(configuration, THOROUGH, number))
        return measured, run

    def _measured(self, settings: Settings) -> tuple[Measured, Run | None]:
        try:
            run = self._persist(lambda: self._when_free(settings))
        except JobRefused as refusal:
            if refusal.kind in OF_DEVICE:
                raise
            return Measured(failure=f"{refusal.kind}: {refusal}"), None
        if self.keep is not None:
            self.keep(run)
        return self._judged(run), run

    def _when_free(self, settings: Settings) -> Run:
        return when_free(
            lambda: self._opened.profile(self.model, settings, self.on_progress),
            self.wait_s,
            self.tell,
            self.sleep,
            self.now,
        )

    def settings(self, configuration: Configuration, level: int, number: int = 0) -> Settings:
        """How a configuration is measured."""
        care, is_simulated = CARE[min(level, max(CARE))], self.device.board is not None
        # A simulated board waits in its own time.
        wait_s = gate_timeout.USUAL_S if is_simulated else min(care.gate_s, gate_timeout.usual_s())
        return Settings(
            runtime=configuration.runtime,
            options=configuration.options(self.base),
            clock_caps=configuration.caps,
            schedule=care.schedule,
            gate=wire.Gate(timeout_s=wait_s),
            energy=dataclasses.replace(care.energy, meter=self.meter) if self.energy else None,
            check_outputs=level > QUICK,
            seed=self.seed + (number if is_simulated else 0),
        )

    def _judged(self, run: Run) -> Measured:
        try:
            values = values_of(run)
        except MeasurementError as error:
            return Measured(failure=str(error))
        wrong = disagreements(run.output_check) if run.output_check is not None else ()
        if wrong and run.profile.job.options.delegate is not None:
            return Measured(failure="computes something else: " + "; ".join(wrong))
        notes = [f"its outputs differ from those of plain kernels: {one}" for one in wrong]
        verdict = judge(run.profile)
        if run.profile.job.schedule != CARE[QUICK].schedule and not verdict.is_dependable:
            notes.append(f"its run {run.id} is {verdict.level}: {verdict.reasons[0].what}")
        energy = values.get("energy")
        if self.energy and (energy is None or energy.low <= 0):
            why = run.profile.energy_missing or "what the load adds cannot be told from the meter's noise"
            return Measured(latency=values["latency"], failure=f"no energy: {why}", notes=tuple(notes))
        return Measured(latency=values["latency"], energy=energy, notes=tuple(notes))

    def check_after(self, run: Run) -> None:
        """Whether the device is still fit to go on, by what the run saw last.

        Raises:
            BatteryLow: it is not.
        """
        if self.device.board is None and run.profile.rounds:
            self._check_charge(run.profile.rounds[-1].after)

    def _persist(self, action: Callable[[], T]) -> T:
        """Do it; when the link or the agent is lost, do it again on a new link."""
        return self.patience.persist(self._opened, action)
