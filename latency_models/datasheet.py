"""Predict without any device: from what is published of a board, with an interval to match how little that says.

Each kernel takes as long as its MACs at a share of the processor's peak, or its bytes at the memory's bandwidth,
whichever is longer (Williams et al., Roofline, CACM 2009), and a few thousand cycles for itself. How large a share real
runtimes reach differs by kind of kernel and from one runtime to the next; the shares and their spreads are assumptions,
written down in `SHARES`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from latency_models.boards import Board, load
from latency_models.estimate import BOUND, DATA_SHEET, Estimate, OperatorEstimate, Uncovered
from latency_models.features import form
from latency_models.graph import GraphError
from latency_models.kernel_times import BOUND_SD
from latency_models.kernels import KernelSpec
from latency_models.making_kernels import UNKNOWN, KernelMaker, Kernels
from latency_models.observations import Target
from latency_models.patterns import Patterns
from latency_models.predictor import Model
from latency_models.scores import normal_spans

__all__ = ["ALIASES", "BoardPredictor", "Share"]

# What people type for the boards that have a file.
ALIASES: Mapping[str, str] = {
    "raspberrypi-3": "pi-3",
    "raspberrypi-4": "pi-4",
    "raspberrypi-5": "pi-5",
    "raspberrypi-zero-2": "pi-zero-2",
    "raspberry-pi-4": "pi-4",
    "raspberry-pi-5": "pi-5",
    "rk3588": "rock-5b",
    "rock5b": "rock-5b",
    "snapdragon-845": "phone-sdm845",
    "snapdragon-865": "phone-sm8250",
}


@dataclass(frozen=True)
class Share:
    """Of the peak that kernels of a kind reach: the middle, and the standard deviation of its logarithm."""

    middle: float
    sd: float


# Assumed: dense products run at half of the peak in good libraries and at a quarter in others; depthwise convolutions
# reuse little of what they load (Ma et al., ShuffleNet V2, 2018, section 2, on why MACs mislead).
SHARES: Mapping[str, Share] = {
    "convolution": Share(0.5, 0.45),
    "pointwise convolution": Share(0.5, 0.45),
    "grouped convolution": Share(0.25, 0.7),
    "depthwise convolution": Share(0.15, 0.7),
    "transposed convolution": Share(0.3, 0.7),
    "dense": Share(0.4, 0.6),
    "matrix product": Share(0.35, 0.6),
}
OTHERS = Share(0.25, 0.9)
# Of the bandwidth, for kernels that move more than they multiply.
MOVING = Share(0.5, 0.7)
# Dispatch and loop overhead of a kernel: assumed, with a factor of three either way.
CYCLES_PER_KERNEL = 8_000.0
# The whole net errs in one direction: a runtime is good or it is not.
OF_NET = 0.5
# Several threads never share perfectly; each further one adds this part of a core.
PER_THREAD = 0.8
# A figure that nobody published costs so much more certainty.
GUESSED = 0.5
# A vector of 128 bits holds four float32: one fused multiply-add a cycle is what every such core can do.
LANE_BITS = {"float32": 32, "int8": 8}


@dataclass(frozen=True)
class BoardPredictor:
    """Predicts for one board with `threads` threads on its fastest cores."""

    board: Board
    threads: int = 1

    @classmethod
    def of(cls, name: str, threads: int = 1) -> BoardPredictor:
        """Of a board in the catalogue, by its name or one of `ALIASES`.

        Raises:
            UnknownBoard: there is none of this name.
            BoardError: its file makes no sense.
            ValueError: it has too few cores for so many threads, or too little is published of it.
        """
        board = load(ALIASES.get(name, name))
        made = cls(board, threads)
        cores = made._figure(f"clusters.{made._cluster}.cores")
        if cores is not None and not 1 <= threads <= cores:
            raise ValueError(f"{name} has {cores:.0f} cores of its fastest kind: {threads} threads are not predicted")
        if all(figure.is_assumed for figure in board.figures.values()):
            raise ValueError(f"nothing is published of {name}: its figures are invented")
        if made._clock_hz() is None or made._figure("memory.bandwidth_bytes_per_s") is None:
            raise ValueError(f"too little is published of {name}: its clock or its memory's bandwidth is not known")
        return made

    def predict(
        self,
        model: Model,
        *,
        level: float = 0.9,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        batch: int | None = None,
    ) -> Estimate:
        """Predict the latency of a model, as `Predictor.predict` does."""
        return self._estimate(self._maker().of_model(model, shapes, batch), level)

    # --- kernels ---

    def _maker(self) -> KernelMaker:
        """An unknown runtime: what it fuses is not known, but for activations into what multiplies."""
        target = Target(
            device=self.board.name,
            machine=self.board.description,
            architecture=UNKNOWN,
            runtime=UNKNOWN,
            runtime_version=UNKNOWN,
            threads=self.threads,
            origin=DATA_SHEET,
        )
        return KernelMaker(target, Patterns(FUSED), moving_s=self._moving_s)

    def _estimate(self, made: Kernels, level: float) -> Estimate:
        spans = normal_spans(level)
        unknown_s = [one.latency_s for one in made.unknown]
        operators, uncovered, total = [], list(made.unknown), sum(unknown_s)
        apart, together = sum((one * BOUND_SD) ** 2 for one in unknown_s), total * BOUND_SD
        for kernel, nodes in zip(made.kernels, made.nodes, strict=True):
            seconds, sd, is_known = self._kernel(kernel)
            sd = sd if is_known else BOUND_SD
            total += seconds
            apart += (seconds * sd) ** 2
            together += seconds * sd
            factor = math.exp(spans * sd)
            operators.append(
                OperatorEstimate(
                    nodes=nodes,
                    family=form(kernel).family,
                    latency_s=seconds,
                    low_s=seconds / factor,
                    high_s=seconds * factor,
                    basis=DATA_SHEET if is_known else BOUND,
                    macs=kernel.macs,
                )
            )
            if not is_known:
                reason = f"{kernel.type}: how many multiplications it takes is not known"
                uncovered.append(Uncovered(operator=", ".join(nodes), reason=reason, latency_s=seconds))
        if not total:
            raise GraphError("it has no operator that runs: there is nothing to predict")
        sd = math.sqrt(OF_NET * (together / total) ** 2 + (1 - OF_NET) * apart / total**2 + self._ignorance() ** 2)
        factor = math.exp(spans * sd)
        return Estimate(
            latency_s=total,
            low_s=max(total / factor, self._fastest_s(made)),
            high_s=total * factor,
            level=level,
            origin=DATA_SHEET,
            target=f"{self.board.name}, {self.threads} {'thread' if self.threads == 1 else 'threads'}",
            operators=tuple(operators),
            uncovered=tuple(uncovered),
            energy_missing="a data sheet does not tell it",
            peak_memory_missing="it depends on a runtime that is not known here",
            notes=(*made.notes, *self._notes()),
        )

    def _kernel(self, kernel: KernelSpec) -> tuple[float, float, bool]:
        """Seconds, the standard deviation of their logarithm, and whether its MACs are known."""
        one = form(kernel)
        family, _, precision = one.family.removesuffix(" in blocks").rpartition(" ")
        share = SHARES.get(family, OTHERS)
        computing = one.macs / (self._peak(precision) * share.middle)
        moving = self._moving_s(one.moved_bytes)
        own = CYCLES_PER_KERNEL / (self._clock_hz() or 1e9)
        seconds = max(computing, moving) + own
        sd = share.sd if computing > moving else MOVING.sd
        return seconds, sd, kernel.macs is not None

    def _moving_s(self, moved_bytes: float) -> float:
        return moved_bytes / ((self._figure("memory.bandwidth_bytes_per_s") or 1e9) * MOVING.middle)

    # --- the board ---

    @property
    def _cluster(self) -> str:
        """The fastest kind of core."""
        return max(self.board.clusters, key=lambda name: self._of_cluster(name))

    def _of_cluster(self, name: str) -> float:
        clocks = self.board.figures.get(f"clusters.{name}.clocks_hz")
        per_cycle = self._figure(f"clusters.{name}.fp32_macs_per_cycle") or 1.0
        highest = clocks.value[-1] if clocks is not None and isinstance(clocks.value, tuple) else 0.0
        return highest * per_cycle

    def _clock_hz(self) -> float | None:
        clocks = self.board.figures.get(f"clusters.{self._cluster}.clocks_hz")
        return clocks.value[-1] if clocks is not None and isinstance(clocks.value, tuple) else None

    def _figure(self, path: str) -> float | None:
        """A number that is cited or assumed; None if there is neither."""
        found = self.board.figures.get(path)
        return float(found.value) if found is not None and isinstance(found.value, int | float) else None

    def _macs_per_cycle(self, precision: str) -> tuple[float, bool]:
        """Of one core, and whether it was published."""
        cluster = f"clusters.{self._cluster}"
        name = "int8" if precision.removesuffix("-dynamic") in ("int8", "uint8") else "fp32"
        found = self._figure(f"{cluster}.{name}_macs_per_cycle")
        if found is not None:
            return found, True
        plain = self._figure(f"{cluster}.fp32_macs_per_cycle")
        if plain is not None:
            return plain * (2.0 if name == "int8" else 1.0), False
        bits = self._figure(f"{cluster}.simd_bits") or 128.0
        return bits / LANE_BITS["float32"], False

    def _peak(self, precision: str) -> float:
        """MACs a second of all threads together."""
        per_cycle, _ = self._macs_per_cycle(precision)
        return per_cycle * (self._clock_hz() or 1e9) * (1.0 + PER_THREAD * (self.threads - 1))

    def _ignorance(self) -> float:
        return 0.0 if self._macs_per_cycle("float32")[1] else GUESSED

    def _fastest_s(self, made: Kernels) -> float:
        """Nothing runs faster than the peak of all cores."""
        macs = sum(kernel.macs or 0 for kernel in made.kernels)
        per_cycle = max(self._macs_per_cycle("float32")[0], self._macs_per_cycle("int8")[0])
        return macs / (per_cycle * (self._clock_hz() or 1e9) * self.threads)

    def _notes(self) -> list[str]:
        notes = ["shares of the peak, and cycles of a kernel, are assumptions: nothing was measured on this board"]
        if not self._macs_per_cycle("float32")[1]:
            notes.append("how many MACs a core does in a cycle is not published: one vector of its width was taken")
        return notes


# Activations that every runtime for devices puts into the operator before, in ONNX's words (TFLite's are options).
FUSED: Mapping[tuple[str, ...], int] = {
    ("Conv", "Relu"): 1,
    ("Conv", "Clip"): 1,
    ("ConvTranspose", "Relu"): 1,
    ("Gemm", "Relu"): 1,
    ("MatMul", "Add"): 1,
    ("Add", "Relu"): 1,
}
