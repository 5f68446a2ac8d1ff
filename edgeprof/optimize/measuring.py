"""The device that candidates race on: one link kept open, every run kept, and a lost link tried again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from device_agents import wire
from edgeprof import gate_timeout
from edgeprof.battery import LOW_BATTERY, running_empty
from edgeprof.errors import JobRefused, MeasurementError
from edgeprof.fleet import Device
from edgeprof.metering import metered
from edgeprof.models import ModelFile, read_model
from edgeprof.optimize.channels import as_taken
from edgeprof.optimize.samples import Samples
from edgeprof.outputs import disagreements
from edgeprof.profiling import OpenDevice, Settings
from edgeprof.run import Run
from edgeprof.spooled import Patience, considerate, usual_patience, when_free
from edgeprof.values import Value, values_of

__all__ = ["Bench", "Refusal"]

# Refusals that are about the device and not about one file.
OF_DEVICE = frozenset({"leased", "keeper-silent", "runtime-missing", "no-space", "no-meter"})
QUICK = wire.Schedule(rounds=3, min_runs=10, min_s=0.2, max_s=2.0)
GATE_S = 5.0
# Somebody else's measurement is over sooner; what was made by then took longer.
WAIT_S = 600.0


@dataclass(frozen=True)
class Refusal:
    """Why a candidate cannot be used on the device: a result."""

    reason: str


@dataclass
class Bench:
    """A context manager. `runtime` runs files of `format`, the original's; others are run by the first that can.

    `sample` is one of the user's: candidates run on it, and their outputs are held against those of the same file on
    this machine.
    """

    device: Device
    runtime: str | None
    format: str
    options: wire.RuntimeOptions
    sample: Samples | None = None
    energy: wire.EnergyPlan | None = None
    keep: Callable[[Run], object] = lambda run: None
    tell: Callable[[str], None] = lambda text: None
    patience: Patience = field(init=False)
    opened: OpenDevice = field(init=False)

    def __post_init__(self) -> None:
        self.patience = usual_patience(lambda text: self.tell(f"{self.device.name}: {text}"))
        self.opened = OpenDevice(self.device, measure=metered(considerate))

    def __enter__(self) -> Bench:
        self.opened.connect()
        try:
            self._require_charge()
        except BaseException:
            self.opened.close()
            raise
        return self

    def _require_charge(self) -> None:
        """Of a battery that runs empty the later candidates would be measured at other clocks.

        Raises:
            JobRefused: battery-low.
        """
        share = running_empty(self.opened.any_agent().conditions())
        if share is not None:
            raise JobRefused(
                f"{self.device.name}: its battery is down to {share:.0%} and discharging: clocks are lowered soon",
                f"charge it above {LOW_BATTERY:.0%}",
                "battery-low",
            )

    def __exit__(self, *error: object) -> None:
        self.opened.close()

    def model(self, path: Path) -> ModelFile:
        """A file with the values that candidates run on.

        Raises:
            ModelError, InputError: it is no model, or cannot take them.
        """
        plain = read_model(path)
        if self.sample is None or plain.format == self.format:
            values = None if self.sample is None else self.sample.one(0)
            return read_model(path, self.options.shapes, self.options.batch, values)
        return read_model(path, values=as_taken(self.sample, path).one(0))

    def measure(
        self, path: Path, *, check: bool = True, operators: bool = False, energy: bool = False
    ) -> Run | Refusal:
        """Run a file on the device; the run is kept. `check`: hold its outputs against this machine's.

        Raises:
            LinkError, AgentError, DeviceGivenUp: the device is lost, also after some time, or is somebody else's.
        """
        model = self.model(path)
        is_other = model.format != self.format
        settings = Settings(
            runtime=None if is_other else self.runtime,
            options=replace(self.options, shapes={}, batch=None) if is_other else self.options,
            schedule=QUICK,
            gate=wire.Gate(timeout_s=min(GATE_S, gate_timeout.usual_s())),
            operators=operators,
            energy=self.energy if energy else None,
            check_outputs=check,
        )
        try:
            run = self.patience.persist(
                self.opened,
                lambda: when_free(lambda: self.opened.profile(model, settings), WAIT_S, self.tell),
            )
        except JobRefused as refusal:
            if refusal.kind in OF_DEVICE:
                raise
            return Refusal(f"{refusal.kind}: {refusal}")
        self.keep(run)
        objection = self._objection(run)
        return Refusal(objection) if objection else run

    def _objection(self, run: Run) -> str:
        """What it computes there that it should not."""
        if not run.profile.outputs_are_finite:
            return "it gives NaN or infinity on the device"
        if run.output_check is not None:
            return "on the device: " + "; ".join(found) if (found := disagreements(run.output_check)) else ""
        return ""


def found_in(run: Run) -> dict[str, Value] | Refusal:
    """Latency, and energy where it was measured."""
    try:
        return values_of(run)
    except MeasurementError as error:
        return Refusal(str(error))
