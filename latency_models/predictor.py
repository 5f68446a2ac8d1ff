"""A predictor of one target: `Predictor.fit` makes it of measurements, `predict` answers for a model.

predictor = latency_models.load("pi5-onnxruntime.predictor")
estimate = predictor.predict("model.onnx")
print(estimate.latency_s, estimate.low_s, estimate.high_s, estimate.uncovered)
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_models.correction import GROUPS, Correction, Net, correction_for, group_of, is_whole, net_sd
from latency_models.correction import held_out as held_out_scores
from latency_models.estimate import LEARNED, Estimate, OperatorEstimate, Uncovered
from latency_models.features import form
from latency_models.graph import Graph
from latency_models.kernel_times import BASES, BOUND, BOUND_SD, KernelTimes, Times
from latency_models.kernels import KernelSpec
from latency_models.making_kernels import KernelMaker, Kernels
from latency_models.net_sums import NetSums, energy_columns, memory_columns
from latency_models.observations import KernelSample, NetSample, Target
from latency_models.one_thread import one_thread
from latency_models.patterns import Patterns
from latency_models.scores import Scores, normal_spans

__all__ = ["ALL_ALIKE", "DISTINCT", "LEAST_S", "Model", "Part", "Predictor", "doubts", "taken_apart"]

Array = NDArray[np.float64]
# No model takes less: entering and leaving the runtime alone is as long.
LEAST_S = 1e-6
# How far a net may be from the sum of its kernels, the standard deviation of its logarithm, where no net was measured:
# the factors of groups of kernels that trainings with two runtimes found lie between 0.87 and 1.45.
UNCORRECTED_SD = 0.15
# How many different latencies the nets of a training had, among its metrics; and what to say where it was one.
DISTINCT = "nets/distinct"
ALL_ALIKE = "all nets took the same: a clock too coarse, or one net measured again and again; intervals mean little"
Model = str | os.PathLike[str] | bytes | Graph


@dataclass(frozen=True)
class Part:
    """One part of a predicted latency; below 0 where something is taken off."""

    what: str
    seconds: float


@dataclass
class Predictor:
    """What was learned about one target.

    `correction` is of nets that do not compute in whole numbers, `correction_quantised` of those that do; None takes
    the other one.
    """

    target: Target
    times: KernelTimes
    patterns: Patterns
    correction: Correction
    scores: Scores
    correction_quantised: Correction | None = None
    energy: NetSums | None = None
    memory: NetSums | None = None
    seed: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._maker = KernelMaker(
            self.target, self.patterns, self.times.typical, partial(self.times.bound.seconds_for, 0.0)
        )

    # --- fitting ---

    @classmethod
    def fit(
        cls, target: Target, kernels: Sequence[KernelSample], nets: Sequence[NetSample] = (), *, seed: int = 0
    ) -> Predictor:
        """Fit to kernels, and to whole nets for what their sum misses and for the intervals.

        Raises:
            ValueError: no kernel was measured, a time is not above 0, or some kernels of a net were timed and some not.
        """
        measured = [net for net in nets if net.kernels]
        for net in measured:
            if not (math.isfinite(net.latency_s) and net.latency_s > 0):
                raise ValueError(f"{net.name} took {net.latency_s} s, which is not above 0")
            if net.timed and len(net.timed) != len(net.kernels):
                raise ValueError(f"{net.name} has {len(net.kernels)} kernels, and {len(net.timed)} of them were timed")
        samples = [*kernels, *(one for net in measured for one in net.timed)]
        with one_thread():
            times, held_out = KernelTimes.fit(samples, seed)
        patterns = Patterns.learn(one.nodes for one in samples)
        if not measured:
            metrics = _metrics(samples, held_out, None)
            return cls(target, times, patterns, Correction.none(), Scores(()), seed=seed, metrics=metrics)
        found = list(_without_themselves(measured, times, held_out, len(kernels)))
        apart = [taken_apart(net.kernels, one) for net, one in zip(measured, found, strict=True)]
        own = [
            one if not net.timed else replace(one, time_s=np.array([kernel.time_s for kernel in net.timed]))
            for net, one in zip(measured, apart, strict=True)
        ]
        latency_s = np.array([net.latency_s for net in measured])
        sds = np.array([net_sd(one.time_s, one.sd) for one in found])
        scores, errors = held_out_scores(own, apart, latency_s, sds, [net.family for net in measured])
        return cls(
            target,
            times,
            patterns,
            correction_for(False, own, apart, latency_s),
            scores,
            correction_for(True, own, apart, latency_s),
            energy=_energy(measured, apart),
            memory=_memory(measured),
            seed=seed,
            metrics={**_metrics(samples, held_out, errors), DISTINCT: float(len(np.unique(latency_s)))},
        )

    # --- predicting ---

    def predict(
        self,
        model: Model,
        *,
        level: float = 0.9,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        batch: int | None = None,
    ) -> Estimate:
        """Predict the latency of a model: a file, the bytes of one, or a graph.

        Args:
            model: ONNX or TFLite.
            level: the probability with which the truth shall lie in the interval.
            shapes: of inputs whose dimensions the file leaves open; 1 is assumed for what is not given, and said.
            batch: the first dimension of every other input where the file leaves it open.

        Raises:
            GraphError: it is no model, it is damaged, or the shapes do not fit it.
            OSError: the file cannot be read.
        """
        return self.estimate(self._maker.of_model(model, shapes, batch), level)

    def kernels_of(self, graph: Graph) -> Kernels:
        """The kernels that the target's runtime makes of a graph."""
        return self._maker.of_graph(graph)

    def estimate(self, made: Kernels, level: float = 0.9) -> Estimate:
        """The estimate for kernels that a model was already taken apart into."""
        if not 0.0 < level < 1.0:
            raise ValueError(f"level is {level}: it lies between 0 and 1, as 0.9 does")
        times = self.times.predict(made.kernels)
        latency_s, sd = self._latency(made, times)
        spans = self.scores.quantile(level)
        factor = float(np.exp(min(20.0, spans * sd)))
        operators = tuple(self._operators(made, times, level))
        nothing = () if made.kernels or made.unknown else ("nothing in it runs: this is what calling a runtime takes",)
        notes = (*made.notes, *nothing, *doubts(self.scores, level, self.metrics))
        return Estimate(
            latency_s=latency_s,
            low_s=latency_s / factor,
            high_s=latency_s * factor,
            level=level,
            origin=self.target.origin if self.target.origin != "measured" else LEARNED,
            target=self.target.words,
            operators=operators,
            uncovered=tuple(self._uncovered(made, times)),
            distance=_distance(times),
            **self._others(made, times, level),
            notes=notes,
        )

    def explain(
        self, model: Model, *, shapes: Mapping[str, tuple[int, ...]] | None = None, batch: int | None = None
    ) -> tuple[Part, ...]:
        """What a predicted latency is made of, part by part, in seconds; they add up to it.

        Raises:
            GraphError: it is no model, it is damaged, or the shapes do not fit it.
            OSError: the file cannot be read.
        """
        made = self._maker.of_model(model, shapes, batch)
        apart = taken_apart(made.kernels, self.times.predict(made.kernels))
        one, parts = self.correction_of(apart), []
        without, with_overhead = apart.sums(one.overhead_s), apart.sums(0.0)
        for place, group in enumerate(GROUPS):
            parts.append(Part(f"kernels, {group}, alone", float(with_overhead[place])))
        parts.append(Part("timing them, which is in their times", float(without[:3].sum() - with_overhead[:3].sum())))
        in_net = sum((one.factors[place] - 1.0) * without[place] for place in range(len(GROUPS)))
        parts.append(Part("in a net and not alone", float(in_net)))
        parts.append(Part("dispatch of kernels", one.per_kernel_s * float(without[3])))
        parts.append(Part("the run itself", one.per_run_s))
        so_far = sum(part.seconds for part in parts)
        parts.append(Part("what predictions were off by", (one.scale - 1.0) * so_far))
        parts.append(Part("what has unknown shapes, bounded", sum(unknown.latency_s for unknown in made.unknown)))
        least_s = max(one.per_run_s, LEAST_S) - sum(part.seconds for part in parts)
        if least_s > 0:
            parts.append(Part("no run takes less", least_s))
        return tuple(parts)

    def predict_many(
        self,
        models: Sequence[Model],
        *,
        level: float = 0.9,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        batch: int | None = None,
    ) -> list[Estimate]:
        """Predict models one after another; kernels that they share are predicted once, each as by `predict`."""
        return [self.predict(model, level=level, shapes=shapes, batch=batch) for model in models]

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Predictor:
        """Read what `save` wrote.

        Raises:
            OSError: the file cannot be read.
            ArchiveError: it is no predictor, is damaged or too new, or was adapted (`latency_models.load` reads both).
        """
        from latency_models.archive import ArchiveError, load

        found = load(path)
        if not isinstance(found, cls):
            raise ArchiveError(f"{Path(path).name} was adapted from others: read it with latency_models.load")
        return found

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as one file, whole or not at all; `latency_models.load` reads it.

        Raises:
            OSError: the file cannot be written.
        """
        from latency_models.archive import save

        save(self, path)

    def correction_of(self, net: Net) -> Correction:
        """The correction for a net of its kind."""
        return self.correction_quantised or self.correction if net.is_quantised else self.correction

    def spread_of(self, kernels: Sequence[KernelSpec], level: float = 0.9) -> Array:
        """How wide each kernel's interval is, to one side and relative, (n,): where measuring teaches most."""
        found: Array = np.expm1(np.minimum(5.0, normal_spans(level) * self.times.predict(kernels).sd))
        return found

    def _latency(self, made: Kernels, times: Times) -> tuple[float, float]:
        """Seconds of the net, and the standard deviation of their logarithm; what is unknown counts for its bound."""
        unknown_s = sum(one.latency_s for one in made.unknown)
        apart = taken_apart(made.kernels, times)
        correction = self.correction_of(apart)
        known_s = float(correction.apply([apart])[0]) if made.kernels else 0.0
        latency_s = max(known_s + unknown_s, correction.per_run_s, LEAST_S)
        if not made.kernels and not made.unknown:
            return latency_s, BOUND_SD
        sd = net_sd(np.append(times.time_s, unknown_s), np.append(times.sd, BOUND_SD))
        return latency_s, math.hypot(sd, self.uncorrected_sd)

    @property
    def uncorrected_sd(self) -> float:
        """What is to be added to the deviation of every net, since no whole net was ever measured."""
        return 0.0 if self.scores.values else UNCORRECTED_SD

    def _others(self, made: Kernels, times: Times, level: float) -> dict[str, Any]:
        """Energy and peak memory, or why there is none."""
        found: dict[str, Any] = {}
        few = "too few nets were measured with it when this predictor was trained"
        if self.energy is None or not made.kernels:
            found["energy_missing"] = f"{few}: train with --energy, for longer where it was"
        else:
            apart = taken_apart(made.kernels, times)
            found["energy"] = self.energy.interval(energy_columns(apart.time_s, apart.group), level)
        if self.memory is None or not made.kernels:
            found["peak_memory_missing"] = few
        else:
            found["peak_memory"] = self.memory.interval(memory_columns(made.kernels), level)
        return found

    def _operators(self, made: Kernels, times: Times, level: float) -> Sequence[OperatorEstimate]:
        spans = normal_spans(level)
        found = []
        for k, kernel in enumerate(made.kernels):
            time_s, factor = float(times.time_s[k]), float(np.exp(min(20.0, spans * times.sd[k])))
            found.append(
                OperatorEstimate(
                    nodes=made.nodes[k],
                    family=form(kernel).family,
                    latency_s=time_s,
                    low_s=time_s / factor,
                    high_s=time_s * factor,
                    basis=BASES[times.basis[k]],
                    distance=float(times.distance[k]),
                    macs=kernel.macs,
                )
            )
        return found

    def _uncovered(self, made: Kernels, times: Times) -> Sequence[Uncovered]:
        bounded = []
        for k, kernel in enumerate(made.kernels):
            if times.basis[k] != BOUND:
                continue
            family = form(kernel).family
            # The family says the element type too, in which a kind may be new that is known in another.
            kind = family if family.startswith(kernel.type) else f"{kernel.type} ({family})"
            bounded.append(
                Uncovered(
                    operator=", ".join(made.nodes[k]) or kernel.type,
                    reason=f"{kind}: {self.times.reason(family)}",
                    latency_s=float(times.time_s[k]),
                )
            )
        return [*bounded, *made.unknown]


def _without_themselves(nets: Sequence[NetSample], times: KernelTimes, held_out: Times, first: int) -> Iterator[Times]:
    """What is said of the kernels of each net by what was learned without it and those alike.

    `held_out` has the kernels that were timed in the nets, in order, from number `first` on.
    """
    for net in nets:
        if net.timed:
            own = slice(first, first + len(net.timed))
            yield Times(held_out.time_s[own], held_out.sd[own], held_out.distance[own], held_out.basis[own])
        else:
            yield times.predict(net.kernels)
        first += len(net.timed)


def doubts(scores: Scores, level: float, metrics: Mapping[str, float] | None = None) -> list[str]:
    """What to say where too few nets were left out for an interval at this level, or all of them took the same."""
    found = [ALL_ALIKE] if (metrics or {}).get(DISTINCT) == 1 and len(scores.values) > 1 else []
    if scores.guarantees(level):
        return found
    n, n_kinds = len(scores.values), scores.n_families
    kinds = (f" of {n_kinds} kinds" if n_kinds != 1 else " of one kind") if scores.families else ""
    if not n:
        return [*found, "no whole net was measured: the interval is a guess, and not calibrated"]
    nets = "only 1 whole net was" if n == 1 else f"only {n} whole nets{kinds} were"
    return [
        *found,
        f"{nets} measured: the interval at {level:.0%} is an extrapolation",
    ]


def taken_apart(kernels: Sequence[KernelSpec], times: Times) -> Net:
    """The kernels of a net with their times, by groups, for the correction."""
    families = [form(kernel).family for kernel in kernels]
    group = np.array([group_of(family) for family in families], dtype=np.int64)
    whole_s = times.time_s[np.array([is_whole(family) for family in families], dtype=np.bool_)].sum()
    return Net(times.time_s, group, bool(2 * whole_s > times.time_s.sum()))


def _energy(nets: Sequence[NetSample], apart: Sequence[Net]) -> NetSums | None:
    """From the nets whose energy was measured; nothing is assumed for the others."""
    known = [(net.energy_j, one) for net, one in zip(nets, apart, strict=True) if net.energy_j is not None]
    rows = [(joules, energy_columns(one.time_s, one.group)) for joules, one in known if joules > 0]
    return _net_sums(rows)


def _memory(nets: Sequence[NetSample]) -> NetSums | None:
    known = [(net.peak_memory_bytes, memory_columns(net.kernels)) for net in nets if net.peak_memory_bytes is not None]
    return _net_sums([(float(n_bytes), columns) for n_bytes, columns in known if n_bytes > 0])


def _net_sums(rows: Sequence[tuple[float, Array]]) -> NetSums | None:
    if not rows:
        return None
    return NetSums.fit(np.stack([columns for _, columns in rows]), np.array([value for value, _ in rows]))


def _distance(times: Times) -> float:
    total = float(times.time_s.sum())
    if total <= 0:
        return 0.0
    return float((np.minimum(times.distance, 10.0) * times.time_s).sum() / total)


def _metrics(samples: Sequence[KernelSample], held_out: Times, net_errors: Array | None) -> dict[str, float]:
    """Held-out errors: of each family of kernels and, where nets were measured, end to end."""
    found: dict[str, float] = {}
    errors: dict[str, list[float]] = defaultdict(list)
    for sample, predicted_s in zip(samples, held_out.time_s, strict=True):
        errors[form(sample.kernel).family].append(abs(float(predicted_s) / sample.time_s - 1.0))
    for name, of_family in sorted(errors.items()):
        found[f"kernels/{name}/n"] = float(len(of_family))
        found[f"kernels/{name}/mape"] = float(np.mean(of_family))
        found[f"kernels/{name}/within10"] = float(np.mean(np.array(of_family) <= 0.1))
    if net_errors is not None:
        relative = np.abs(np.expm1(-net_errors))
        found["nets/n"] = float(len(net_errors))
        found["nets/mape"] = float(relative.mean())
        found["nets/within5"] = float((relative <= 0.05).mean())
        found["nets/within10"] = float((relative <= 0.1).mean())
    return found
