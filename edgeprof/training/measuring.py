"""Measure one probe or one net on a device under the measuring protocol, and keep the run in the training's store."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from device_agents import wire
from edgeprof import gate_timeout
from edgeprof.models import ModelFile, read_model
from edgeprof.profiling import OnProgress, OpenDevice, Settings
from edgeprof.run import Run
from edgeprof.training.nets import draw_net
from edgeprof.training.probes import draw_probe
from latency_models.graph import Graph

__all__ = ["FORMATS", "NET", "PROBE", "Bench", "model_bytes", "name_of"]

FORMATS = {"onnxruntime": "onnx", "litert": "tflite", "tflite": "tflite", "simulated": "onnx"}
PROBE, NET = "probe", "net"
# A probe's own latency is not wanted, only its kernels': thirty runs of them, or what fits into a second and a half.
OF_PROBES = wire.Schedule(
    rounds=1, min_runs=3, min_s=0.0, max_s=2.0, warmup_min_runs=1, operator_runs=30, operator_max_s=1.5
)
OF_NETS = wire.Schedule(
    rounds=3, min_runs=10, min_s=0.3, max_s=3.0, warmup_min_runs=3, operator_runs=15, operator_max_s=1.5
)
GATE_S = 2.0


def model_bytes(graph: Graph, seed: int = 0) -> bytes:
    """The file of a graph that was built in code, with weights drawn by the seed."""
    if graph.format == "tflite":
        from edgeprof.models.write_tflite import tflite_bytes

        return tflite_bytes(graph, seed)
    from latency_models.write_onnx import onnx_bytes

    return onnx_bytes(graph, seed)


def name_of(kind: str, precision: str, number: int, family: str = "") -> str:
    """What a probe or a net is called in its run: it tells how to build it anew, with the training's seed."""
    middle = f"-{family.replace(' ', '_')}" if family else ""
    return f"{kind}{middle}-{precision}-{number}"


@dataclass
class Bench:
    """Measures probes and nets on one device with one runtime and its options; `seed` is the training's."""

    opened: OpenDevice
    runtime: str
    seed: int
    options: wire.RuntimeOptions = field(default_factory=wire.RuntimeOptions)
    energy: wire.EnergyPlan | None = None
    on_progress: OnProgress | None = None

    @property
    def format(self) -> str:
        """The format that the runtime takes."""
        return FORMATS[self.runtime]

    def probe(self, number: int, precision: str = "float32", only: str | None = None) -> Run:
        """Measure the kernels of a probe."""
        graph = draw_probe(self.seed, number, self.format, precision, only)
        return self._measured(graph, name_of(PROBE, precision, number), OF_PROBES, None)

    def net(self, number: int, family: str, precision: str = "float32") -> Run:
        """Measure a whole net."""
        graph = draw_net(self.seed, number, family, self.format, precision)
        return self._measured(graph, name_of(NET, precision, number, family), OF_NETS, self.energy)

    def _measured(self, graph: Graph, name: str, schedule: wire.Schedule, energy: wire.EnergyPlan | None) -> Run:
        settings = Settings(
            runtime=self.runtime,
            options=self.options,
            schedule=schedule,
            gate=wire.Gate(timeout_s=min(GATE_S, gate_timeout.usual_s())),
            operators=True,
            seed=self.seed,
            check_outputs=False,
            energy=energy,
        )
        return with_model(graph, name, self.seed, lambda model: self.opened.profile(model, settings, self.on_progress))


def with_model(graph: Graph, name: str, seed: int, use: Callable[[ModelFile], Run]) -> Run:
    """Use a graph as a model file, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="edgeprof-training-") as folder:
        path = Path(folder) / f"{name}.{graph.format}"
        path.write_bytes(model_bytes(graph, seed))
        return use(read_model(path))
