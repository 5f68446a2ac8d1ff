"""What predictors are fitted to: kernels and whole nets that were measured on one target."""

from __future__ import annotations

from dataclasses import dataclass, field

from latency_models.kernels import KernelSpec

__all__ = ["KernelSample", "NetSample", "Target"]


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a predictor predicts for. All of it decides what a kernel takes; another one needs another predictor.

    `device` is the name in the user's fleet, `machine` what the device says it is ("Raspberry Pi 5 Model B Rev 1.0"),
    `architecture` as uname gives it. `optimization` and `delegate` are what was in force. `origin` is that of the
    measurements: "measured", "emulated" or "simulated".
    """

    device: str
    machine: str
    architecture: str
    runtime: str
    runtime_version: str
    threads: int = 1
    optimization: str = "all"
    delegate: str | None = None
    origin: str = "measured"

    @property
    def name(self) -> str:
        """As in "pi5-onnxruntime", what its predictor is called."""
        return f"{self.device}-{self.runtime}"

    @property
    def words(self) -> str:
        """The name, and what it holds for."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        delegate = f", {self.delegate}" if self.delegate else ""
        return f"{self.name} ({self.runtime} {self.runtime_version}, {threads}{delegate})"


@dataclass(frozen=True, kw_only=True)
class KernelSample:
    """A kernel that was timed inside a model: the mean of `n_runs`, whose relative standard deviation is `spread`.

    `source` is the digest of that model: kernels of one source were measured together, and share what disturbed them.
    `nodes` are the types of the nodes of the file that it ran, in order: what fusion is learned from. `energy_j` is
    above rest, None where it was not measured. When errors on unseen models are found, samples of one `group` are held
    out together: those of one family of nets; "" is the source alone.
    """

    kernel: KernelSpec
    time_s: float
    n_runs: int
    spread: float
    source: str
    nodes: tuple[str, ...] = ()
    energy_j: float | None = None
    group: str = ""


@dataclass(frozen=True, kw_only=True)
class NetSample:
    """A whole net, of a `family` of nets that are alike: its kernels as the runtime made them, and what it took.

    `latency_s` is the median without operator profiling; `timed` is what each kernel took with it, in the same minute,
    empty where that is not known. `energy_j` is above rest; `peak_memory_bytes` is what the process took more at its
    peak than before the model was loaded. None where it was not measured.
    """

    name: str
    family: str
    source: str
    kernels: tuple[KernelSpec, ...]
    latency_s: float
    timed: tuple[KernelSample, ...] = ()
    spread: float = 0.0
    energy_j: float | None = None
    peak_memory_bytes: int | None = None
    notes: tuple[str, ...] = field(default_factory=tuple)
