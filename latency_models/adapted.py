"""A predictor of a new device from those of others and a few whole nets: their answers, blended and shifted.

Latencies of a net on devices of a kind differ by a factor and a little more. In logarithms the new device is a mean of
what the sources say, with weights near equal, a free shift, and a small residual model of what the net's time goes to.
This is a Bayesian linear model (Rasmussen and Williams, 2006, section 2.1), so that ten nets are enough and five are
better than none; how noisy it is and how far weights may go are not picked but averaged over by their evidence.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from latency_models.correction import GROUPS, group_of
from latency_models.estimate import LEARNED, Estimate
from latency_models.making_kernels import Kernels
from latency_models.observations import Target
from latency_models.predictor import DISTINCT, LEAST_S, Model, Part, Predictor, doubts
from latency_models.scores import Scores

__all__ = ["FEWEST", "Adapted", "Blend"]

Array = NDArray[np.float64]
FEWEST = 3
# Beliefs before any sample: any shift; a residual of 2 to 30 %; weights within so much of equal, shares of time within
# so much of no influence.
SHIFT_SD = 5.0
NOISES = (0.02, 0.04, 0.08, 0.15, 0.3)
WEIGHT_SDS = (0.05, 0.3)
# Columns beside what the sources say: the shares of all groups of kernels but the first, with which they sum to 1.
N_SHARES = len(GROUPS) - 1


@dataclass(frozen=True)
class Blend:
    """log latency = coefficients . (log latency of each source, shares, 1), with their covariance; `noise` is the rest.

    Columns are d = sources + `N_SHARES` + 1; `coefficients` (d,), `covariance` (d, d).
    """

    coefficients: Array
    covariance: Array
    noise: float

    @classmethod
    def fit(cls, x: Array, y: Array) -> Blend:
        """The mean of all beliefs by their evidence, of n nets with columns `x` (n, d) and log latencies `y` (n,)."""
        n_sources = x.shape[1] - N_SHARES - 1
        mean = np.array([1.0 / n_sources] * n_sources + [0.0] * (N_SHARES + 1))
        found, evidence, noises = [], [], []
        for noise, weight_sd in itertools.product(NOISES, WEIGHT_SDS):
            prior = np.diag(np.array([weight_sd] * (n_sources + N_SHARES) + [SHIFT_SD]) ** 2)
            of_y = x @ prior @ x.T + noise**2 * np.eye(len(y))
            gain = np.linalg.solve(of_y, x @ prior).T
            off = y - x @ mean
            found.append((mean + gain @ off, prior - gain @ x @ prior))
            evidence.append(-0.5 * float(off @ np.linalg.solve(of_y, off) + np.linalg.slogdet(of_y)[1]))
            noises.append(noise)
        raised = np.array(evidence)
        weights = np.exp(raised - raised.max())
        weights /= weights.sum()
        means, spreads = np.stack([mean for mean, _ in found]), np.stack([spread for _, spread in found])
        blended: Array = weights @ means
        apart = means - blended
        covariance = np.einsum("k,kij->ij", weights, spreads) + (weights[:, None] * apart).T @ apart
        return cls(blended, covariance, float(np.sqrt(weights @ np.square(noises))))

    def predict(self, row: Array) -> tuple[float, float]:
        """Mean and standard deviation of the log latency of one net (d,)."""
        unsure = max(0.0, float(row @ self.covariance @ row))
        return float(row @ self.coefficients), math.sqrt(unsure + self.noise**2)


@dataclass(frozen=True)
class Adapted:
    """Predicts as `Predictor` does, by asking predictors of other devices."""

    target: Target
    sources: tuple[Predictor, ...]
    blend: Blend
    scores: Scores
    metrics: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def fit(
        cls, target: Target, sources: Sequence[Predictor], models: Sequence[Model], latency_s: Sequence[float]
    ) -> Adapted:
        """Fit to n nets that took `latency_s` (n,) on the new device.

        Raises:
            ValueError: there is no source, or there are too few nets, or a latency is not above 0.
        """
        if not sources:
            raise ValueError("name at least one predictor of another device")
        if len(latency_s) < FEWEST:
            raise ValueError(f"{len(latency_s)} nets are too few: measure at least {FEWEST}")
        if not all(math.isfinite(one) and one > 0 for one in latency_s):
            raise ValueError("a latency is not a number above 0")
        x = np.stack([_columns([source.predict(model) for source in sources]) for model in models])
        y = np.log(np.asarray(latency_s, dtype=np.float64))
        held = [Blend.fit(np.delete(x, k, 0), np.delete(y, k)).predict(x[k]) for k in range(len(y))]
        errors = np.array([y[k] - mean for k, (mean, _) in enumerate(held)])
        relative = np.abs(np.expm1(-errors))
        metrics = {
            "nets/n": float(len(y)),
            DISTINCT: float(len(np.unique(y))),
            "nets/mape": float(relative.mean()),
            "nets/within5": float((relative <= 0.05).mean()),
            "nets/within10": float((relative <= 0.1).mean()),
        }
        scores = Scores(tuple(float(abs(error) / sd) for error, (_, sd) in zip(errors, held, strict=True)))
        return cls(target, tuple(sources), Blend.fit(x, y), scores, metrics)

    def predict(
        self,
        model: Model,
        *,
        level: float = 0.9,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        batch: int | None = None,
    ) -> Estimate:
        """Predict as `Predictor.predict` does; the bill is that of the source that counts most, scaled to the whole.

        Raises:
            GraphError: it is no model, it is damaged, or the shapes do not fit it.
            OSError: the file cannot be read.
        """
        asked = [source.predict(model, level=level, shapes=shapes, batch=batch) for source in self.sources]
        return self._blended(asked, level)

    def estimate(self, made: Kernels, level: float = 0.9) -> Estimate:
        """The estimate for kernels that a model was already taken apart into."""
        return self._blended([source.estimate(made, level) for source in self.sources], level)

    def explain(
        self, model: Model, *, shapes: Mapping[str, tuple[int, ...]] | None = None, batch: int | None = None
    ) -> tuple[Part, ...]:
        """What a predicted latency is made of: the parts of the source that counts most, and how the blend differs.

        Raises:
            GraphError: it is no model, it is damaged, or the shapes do not fit it.
            OSError: the file cannot be read.
        """
        main = self.sources[int(np.argmax(self.blend.coefficients[: len(self.sources)]))]
        parts = main.explain(model, shapes=shapes, batch=batch)
        latency_s = self.predict(model, shapes=shapes, batch=batch).latency_s
        off = Part(f"this device beside {main.target.device}", latency_s - sum(part.seconds for part in parts))
        return (*parts, off)

    def predict_many(
        self,
        models: Sequence[Model],
        *,
        level: float = 0.9,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        batch: int | None = None,
    ) -> list[Estimate]:
        """Predict models one after another, each as by `predict`."""
        return [self.predict(model, level=level, shapes=shapes, batch=batch) for model in models]

    def _blended(self, said: Sequence[Estimate], level: float) -> Estimate:
        mean, sd = self.blend.predict(_columns(said))
        latency_s = max(math.exp(min(mean, 20.0)), LEAST_S)
        heaviest = int(np.argmax(self.blend.coefficients[: len(said)]))
        main = said[heaviest]
        spans = self.scores.quantile(level) * sd
        if main.uncovered:  # a source that is unsure makes the blend as unsure
            spans += math.log(max(1.0, main.high_s / main.latency_s))
        factor = math.exp(min(20.0, spans))
        scale = latency_s / main.latency_s
        operators = tuple(
            replace(
                one,
                latency_s=one.latency_s * scale,
                low_s=one.low_s * scale / factor,
                high_s=one.high_s * scale * factor,
            )
            for one in main.operators
        )
        return Estimate(
            latency_s=latency_s,
            low_s=latency_s / factor,
            high_s=latency_s * factor,
            level=level,
            origin=LEARNED if self.target.origin == "measured" else self.target.origin,
            target=self.target.words,
            operators=operators,
            uncovered=main.uncovered,
            distance=max(one.distance for one in said),
            energy_missing="energy is not adapted from other devices",
            peak_memory_missing="memory is not adapted from other devices",
            notes=tuple(self._notes(heaviest, main, level)),
        )

    def _notes(self, main: int, said: Estimate, level: float) -> list[str]:
        names = ", ".join(source.target.device for source in self.sources)
        of_source = doubts(self.sources[main].scores, level, self.sources[main].metrics)
        return [
            f"adapted from {names}: the bill is theirs, scaled; no kernel was timed on this device",
            *doubts(self.scores, level, self.metrics),
            *(note for note in said.notes if note not in of_source),
        ]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as one file, its sources inside; `latency_models.load` reads it.

        Raises:
            OSError: the file cannot be written.
        """
        from latency_models.archive import save_adapted

        save_adapted(self, path)


def _columns(said: Sequence[Estimate]) -> Array:
    """What the sources say of one net, where its time goes on their mean, and 1."""
    shares = np.mean([_shares(one) for one in said], axis=0)
    return np.array([*(math.log(one.latency_s) for one in said), *shares, 1.0])


def _shares(said: Estimate) -> Array:
    found = np.zeros(len(GROUPS))
    for one in said.operators:
        found[group_of(one.family)] += one.latency_s
    return np.asarray(found[1:] / max(float(found.sum()), 1e-12), dtype=np.float64)
