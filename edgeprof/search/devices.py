"""Devices that measure candidates, in the loop of a search or at its end. What they measure is kept in the study."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from device_agents import wire
from edgeprof import gate_timeout
from edgeprof.errors import (
    EvaluationFailed,
    JobRefused,
    MeasurementError,
    ModelError,
    StoreError,
)
from edgeprof.fleet import Device
from edgeprof.metering import metered
from edgeprof.models import read_model
from edgeprof.profiling import OpenDevice, Settings
from edgeprof.run import Run
from edgeprof.search.space import Architecture, SearchSpace
from edgeprof.spooled import Patience, considerate, usual_patience
from edgeprof.store import Store
from edgeprof.training.measuring import FORMATS
from edgeprof.values import Value, values_of

__all__ = ["Bench", "found_in"]

IN_THE_LOOP = wire.Schedule(rounds=3, min_runs=10, min_s=0.2, max_s=2.0, warmup_min_runs=3)
AT_THE_END = wire.Schedule(rounds=5, min_runs=20, min_s=0.5, max_s=5.0)
GATE_S = 2.0
# Refusals that are about the device and not about one net.
OF_DEVICE = frozenset({"leased", "runtime-missing"})


@dataclass
class Bench:
    """One device with one runtime; a context manager. `runs` is where what it measured is kept."""

    device: Device
    runtime: str
    space: SearchSpace
    runs: Path
    threads: int = 1
    energy: bool = False
    on_lost: Callable[[str], None] = lambda text: None
    patience: Patience = field(init=False)
    _opened: OpenDevice = field(init=False)
    _measured: dict[Architecture, dict[str, Value]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.patience = usual_patience(lambda text: self.on_lost(f"{self.device.name}: {text}"))
        self._opened = OpenDevice(self.device, measure=metered(considerate))

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    @property
    def format(self) -> str:
        """The format that its runtime takes."""
        return FORMATS[self.runtime]

    def measure(self, architecture: Architecture) -> dict[str, Value]:
        """Latency of an architecture with weights that do not matter, and energy where it was asked for.

        Raises:
            EvaluationFailed: the net does not run there.
            LinkError, AgentError, DeviceGivenUp: the device is lost, also after some time.
        """
        if architecture not in self._measured:
            data = self.space.model(architecture, self.format)
            name = f"candidate-{'-'.join(map(str, architecture))}"
            self._measured[architecture] = found_in(self.profile(data, name, IN_THE_LOOP))
        return self._measured[architecture]

    def profile(self, data: bytes, name: str, schedule: wire.Schedule = AT_THE_END) -> Run:
        """Measure a file; the run is kept.

        Raises:
            EvaluationFailed: it does not run there.
            LinkError, AgentError, DeviceGivenUp: the device is lost, also after some time.
        """
        settings = Settings(
            runtime=self.runtime,
            options=wire.RuntimeOptions(threads=self.threads),
            schedule=schedule,
            gate=wire.Gate(timeout_s=min(GATE_S, gate_timeout.usual_s())),
            check_outputs=False,
            energy=wire.EnergyPlan() if self.energy else None,
        )
        with tempfile.TemporaryDirectory(prefix="edgeprof-search-") as folder:
            path = Path(folder) / f"{name[:80]}.{'onnx' if self.format == 'onnx' else 'tflite'}"
            path.write_bytes(data)
            try:
                model = read_model(path)
                run = self.patience.persist(self._opened, lambda: self._opened.profile(model, settings))
            except JobRefused as refusal:
                if refusal.kind in OF_DEVICE:
                    raise
                raise EvaluationFailed(f"{self.device.name} refuses it: {refusal}") from refusal
            except ModelError as error:
                raise EvaluationFailed(str(error)) from error
        self._keep(run)
        return run

    def _keep(self, run: Run) -> None:
        with Store(str(self.runs)) as store:
            try:
                store.add(run)
            except StoreError as error:
                self.on_lost(f"the run is not kept: {error}")


def found_in(run: Run) -> dict[str, Value]:
    """`values_of` a candidate's run.

    Raises:
        EvaluationFailed: nothing can be said of it.
    """
    try:
        return values_of(run)
    except MeasurementError as error:
        raise EvaluationFailed(f"{run.device}: {error}") from error
