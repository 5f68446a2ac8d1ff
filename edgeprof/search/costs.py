"""How costly a candidate is: predicted for each target, or taken from its graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from edgeprof.errors import SearchError
from edgeprof.search.space import Architecture, SearchSpace
from edgeprof.values import Value
from latency_models.building import BuildError
from latency_models.estimate import Estimate
from latency_models.graph import Graph, GraphError

__all__ = ["Costs", "Estimator", "TargetCosts", "across", "size_of_weights"]

OF_TARGETS = ("latency", "energy", "memory", "carbon")
J_PER_KWH = 3.6e6


class Estimator(Protocol):
    """What predicts: a `latency_models.Predictor`, or a board's data sheet."""

    def predict(self, model: Graph, *, level: float = 0.9) -> Estimate:
        """Of a graph."""


@dataclass(frozen=True)
class TargetCosts:
    """A target: what predicts it, in which format its runtime takes models, and what its seconds count."""

    name: str
    estimator: Estimator | None
    format: str = "onnx"
    weight: float = 1.0


@dataclass(frozen=True)
class Costs:
    """What architectures cost on each target, by name, before anything is trained or measured.

    `grams_per_kwh` are (value, low, high) of the electricity that devices use.
    """

    space: SearchSpace
    targets: tuple[TargetCosts, ...]
    wanted: frozenset[str]
    grams_per_kwh: tuple[float, float, float] | None = None

    def of(self, architecture: Architecture) -> tuple[dict[str, Value], dict[str, dict[str, Value]], tuple[str, ...]]:
        """What is predicted of an architecture.

        Returns:
            Its size, then by target what was wanted, and what the predictors want to be known.

        Raises:
            BuildError: it is no net, or a target's format has no such operators.
            SearchError: a target knows nothing of what is wanted.
        """
        graphs: dict[str, Graph] = {}
        found: dict[str, dict[str, Value]] = {}
        notes: list[str] = []
        for target in self.targets:
            if target.estimator is None:
                found[target.name] = {}
                continue
            if target.format not in graphs:
                graphs[target.format] = self.space.graph(architecture, target.format)
            try:
                estimate = target.estimator.predict(graphs[target.format])
            except BuildError:
                raise
            except GraphError as error:
                raise SearchError(
                    f"nets of {self.space.name} cannot be predicted for {target.name}: {error}",
                    "name a predictor of a runtime that runs them",
                ) from error
            found[target.name] = self._of_estimate(target, estimate)
            notes += [f"{target.name}: {words}" for words in _doubts(estimate)]
        size = {"size": size_of_weights(graphs.get("onnx") or self.space.graph(architecture))}
        return size, found, tuple(dict.fromkeys(notes))

    def unknown(self, architecture: Architecture) -> dict[str, tuple[float, tuple[str, ...]]]:
        """By target, the share of an architecture's time that stands on bounds alone, and of what."""
        found = {}
        for target in self.targets:
            if target.estimator is not None:
                estimate = target.estimator.predict(self.space.graph(architecture, target.format))
                found[target.name] = (estimate.uncovered_share, _unknown_kinds(estimate))
        return found

    def _of_estimate(self, target: TargetCosts, estimate: Estimate) -> dict[str, Value]:
        origin = "predicted" if estimate.origin == "learned" else f"predicted, {estimate.origin}"
        found = {"latency": Value(estimate.latency_s, estimate.low_s, estimate.high_s, origin)}
        for name, interval, missing in (
            ("energy", estimate.energy, estimate.energy_missing),
            ("memory", estimate.peak_memory, estimate.peak_memory_missing),
        ):
            if interval is not None:
                found[name] = Value(interval.value, interval.low, interval.high, origin)
            elif name in self.wanted or (name == "energy" and "carbon" in self.wanted):
                raise SearchError(
                    f"{target.name} predicts no {name}: {missing}",
                    "train its predictor with --energy, or leave this objective and limit out",
                )
        if "energy" in found and self.grams_per_kwh is not None:
            found["carbon"] = grams(found["energy"], self.grams_per_kwh)
        return found


def grams(energy: Value, grams_per_kwh: tuple[float, float, float]) -> Value:
    """Of CO2e for joules of use, without the device's making."""
    value, low, high = (
        joules / J_PER_KWH * g for joules, g in zip((energy.value, energy.low, energy.high), grams_per_kwh, strict=True)
    )
    return Value(value, low, high, energy.origin)


def _doubts(estimate: Estimate) -> list[str]:
    kinds = _unknown_kinds(estimate)
    return [f"not covered, so bounded: {', '.join(kinds)}"] if kinds else []


def _unknown_kinds(estimate: Estimate) -> tuple[str, ...]:
    return tuple(sorted({one.reason.split(":")[0] for one in estimate.uncovered}))


def size_of_weights(graph: Graph) -> Value:
    """The bytes of all constants: what of the net lies in flash, but for some hundreds of bytes of structure."""
    n = float(sum(tensor.size_bytes or 0 for tensor in graph.tensors.values() if tensor.is_constant))
    return Value(n, n, n, "counted")


def across(
    found: Mapping[str, Mapping[str, Value]], targets: Sequence[TargetCosts], how: str, size: Mapping[str, Value]
) -> dict[str, Value]:
    """Several targets as the values of goals: of each its own (`how` "each"), the worst, or the weighted sum."""
    values = dict(size)
    for name in OF_TARGETS:
        of_all = [(target, found[target.name][name]) for target in targets if name in found.get(target.name, {})]
        if len(of_all) < len(targets) or not of_all:
            continue
        if how == "each" and len(targets) > 1:
            values.update({f"{name} {target.name}": value for target, value in of_all})
            continue
        weighed = [_times(value, target.weight if len(targets) > 1 else 1.0) for target, value in of_all]
        values[name] = _joined(weighed, max if how == "worst" else sum)
    return values


def _times(value: Value, factor: float) -> Value:
    return Value(value.value * factor, value.low * factor, value.high * factor, value.origin)


def _joined(values: Sequence[Value], how: Callable[..., float]) -> Value:
    origins = ", ".join(dict.fromkeys(value.origin for value in values))
    return Value(
        float(how([one.value for one in values])),
        float(how([one.low for one in values])),
        float(how([one.high for one in values])),
        origins,
    )
