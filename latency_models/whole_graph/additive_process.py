"""A Gaussian process over whole graphs whose covariance is a sum: a linear part for each block, and a smooth one.

The linear part of a block is a sum of contributions, as latencies are where operators run one after another; the
smooth part is for what sums miss (thresholds, parallel branches, caches). How much each counts is found by the evidence
(Rasmussen and Williams, 2006, section 5.4), so that a device that is additive gets an additive model from few samples.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from latency_models.whole_graph.features import ALL, LIVE, PATH, PLACES, SHAPE, SOURCES, Design

__all__ = ["AdditiveProcess", "log_sd"]

Array = NDArray[np.float64]
# Of more samples, so many are looked at for the evidence.
MOST_FOR_EVIDENCE = 240
LIMITS = (-9.0, 4.0)
PRIOR_SD = 2.0
JITTER = 1e-7
# No graph is expected to take less than this beside others.
LEAST_RATIO = 0.02
# The least spread that a column counts as having. Less is none: what a net costs that differs there is not known from
# the samples, and must follow from what is usual. Logarithms and paths of nets of one space spread by this much.
LEAST_SPREAD = {SHAPE: np.array([0.05, 0.05, 0.5, 0.5, 0.5]), SOURCES: np.array(0.05)}
# A column that never varied gets the spread of the typical one that did, or this where none did: one operator more or
# less; a value that half of the nets have.
NO_SPREAD, USUAL_SPREAD = 1e-6, {ALL: 1.0, LIVE: 1.0, PATH: 1.0, PLACES: 0.5}
# At the start: each linear part half of the spread, the smooth one a fifth, the noise a twentieth.
START_LINEAR, START_SMOOTH, START_NOISE, START_LENGTH = np.log(0.3), np.log(0.2), np.log(0.05), np.log(1.0)


@dataclass
class AdditiveProcess:
    """A fitted process. Targets are relative to their mean; in `logarithms` they are logarithms of that.

    Where other devices say something, a graph is expected to take `follows` times what they say it takes beside others,
    and the process is about what is left: from a handful of samples that is little more than a device's own speed.
    """

    names: tuple[str, ...]
    centers: dict[str, Array]
    scales: dict[str, Array]
    points: dict[str, Array]
    targets: Array
    noise: Array
    theta: Array
    mean: float
    unit: float
    logarithms: bool
    evidence: float
    follows: float = 0.0
    _solved: tuple[Array, Array] | None = field(default=None, repr=False)
    _inverted: Array | None = field(default=None, repr=False)

    @classmethod
    def fit(cls, design: Design, latency_s: Array, *, logarithms: bool = False, seed: int = 0) -> AdditiveProcess:
        """Fit to n graphs that took `latency_s` (n,); the noise is in proportion to the latency either way."""
        unit = float(np.exp(np.mean(np.log(latency_s))))
        relative = latency_s / unit
        raw = np.log(relative) if logarithms else relative
        noise = np.ones_like(relative) if logarithms else np.clip(relative, 0.05, 20.0) ** 2
        expected, follows = np.zeros_like(raw), 0.0
        if SOURCES in design.blocks:
            expected = _said(design.blocks[SOURCES], logarithms=logarithms)
            follows = 1.0 if logarithms else float(np.sum(raw / noise) / np.sum(expected / noise))
        left = raw - follows * expected
        mean = float(np.average(left, weights=1.0 / noise))
        names = tuple(design.blocks)
        centers = {name: block.mean(axis=0) for name, block in design.blocks.items()}
        scales = {name: _scales(name, block) for name, block in design.blocks.items()}
        points = {name: _standard(block, centers[name], scales[name]) for name, block in design.blocks.items()}
        made = cls(
            names, centers, scales, points, left - mean, noise, np.zeros(0), mean, unit, logarithms, 0.0, follows
        )
        few = np.random.default_rng(seed).permutation(len(raw))[:MOST_FOR_EVIDENCE]
        made.theta, evidence = made._most_evident(few)
        # The evidence of latencies, and not of their logarithms or ratios: the two can then be compared.
        jacobian = -np.log(latency_s[few]).sum() if logarithms else -len(few) * np.log(unit)
        made.evidence = float(evidence + jacobian) / len(few)
        return made

    def predict(self, design: Design) -> tuple[Array, Array]:
        """Seconds of m graphs, and the standard deviation of their logarithm, each (m,)."""
        from scipy.linalg import solve_triangular

        points = {n: _standard(design.blocks[n], self.centers[n], self.scales[n]) for n in self.names}
        factor, weights = self._factor()
        between = self._covariance(points, self.points, self.theta)
        found = self.expected(design) + between @ weights
        inner = solve_triangular(factor, between.T, lower=True, check_finite=False)
        own = self._own(points, self.theta)
        variance = np.maximum(own - (inner**2).sum(axis=0), 0.0)
        noise = np.exp(2 * self.theta[-1])
        if self.logarithms:
            return self.unit * np.exp(found), np.sqrt(variance + noise)
        level = np.maximum(found, 0.02)
        return self.unit * level, log_sd(np.sqrt(variance / level**2 + noise))

    def leave_one_out(self) -> tuple[Array, Array]:
        """Seconds of each graph from all others, and the deviations (Rasmussen and Williams, equation 5.12), (n,)."""
        _, weights = self._factor()
        diagonal = self._diagonal()
        samples = Design({n: self.points[n] * self.scales[n] + self.centers[n] for n in self.names})
        found = self.expected(samples) + self.targets - weights / diagonal
        if self.logarithms:
            return self.unit * np.exp(found), np.sqrt(1.0 / diagonal)
        # What is not noise, and the noise in proportion to what was predicted: what came out must not widen its own
        # interval.
        own = np.exp(2 * self.theta[-1])
        level = np.maximum(found, 0.02)
        variance = np.maximum(1.0 / diagonal - self.noise * own, 0.0)
        return self.unit * level, log_sd(np.sqrt(variance / level**2 + own))

    def freedom(self) -> float:
        """Degrees of freedom that samples have left: n less what the parts use (Hastie and others, 2009, 5.4.1)."""
        return float((self.noise * np.exp(2 * self.theta[-1]) * self._diagonal()).sum())

    def expected(self, design: Design) -> Array:
        """What is expected of m graphs before any sample is looked at but for their mean, (m,)."""
        if not self.follows:
            return np.full(len(design), self.mean)
        return self.mean + self.follows * _said(design.blocks[SOURCES], logarithms=self.logarithms)

    def linear(self) -> dict[str, Array]:
        """Seconds for one more of each column, by block, (columns,); not of logarithms, whose parts do not add up."""
        _, weights = self._factor()
        found = {}
        for k, name in enumerate(self.names):
            slope = np.exp(2 * self.theta[k]) * (self.points[name].T @ weights) / self.points[name].shape[1]
            found[name] = np.asarray(self.unit * slope / self.scales[name], dtype=np.float64)
        return found

    def smooth(self, design: Design) -> Array:
        """Seconds that the smooth part adds to each of m graphs, (m,)."""
        points = {n: _standard(design.blocks[n], self.centers[n], self.scales[n]) for n in self.names}
        _, weights = self._factor()
        parts, squares = _parts(points, self.points, self.names)
        k = len(parts)
        between = np.exp(2 * self.theta[k] - squares * np.exp(-2 * self.theta[k + 1]))
        return np.asarray(self.unit * between @ weights, dtype=np.float64)

    # --- inside ---

    def _factor(self) -> tuple[Array, Array]:
        if self._solved is None:
            from scipy.linalg import cho_solve, cholesky

            covariance = self._covariance(self.points, self.points, self.theta)
            covariance[np.diag_indices_from(covariance)] += self.noise * np.exp(2 * self.theta[-1]) + JITTER
            factor = cholesky(covariance, lower=True, check_finite=False)
            self._solved = factor, cho_solve((factor, True), self.targets, check_finite=False)
        return self._solved

    def _diagonal(self) -> Array:
        """Of the inverse of the samples' covariance, (n,)."""
        if self._inverted is None:
            from scipy.linalg import solve_triangular

            factor, _ = self._factor()
            inverse = solve_triangular(factor, np.eye(len(factor)), lower=True, check_finite=False)
            self._inverted = (inverse**2).sum(axis=0)
        return self._inverted

    def _covariance(self, a: dict[str, Array], b: dict[str, Array], theta: Array) -> Array:
        parts, squares = _parts(a, b, self.names)
        total = sum(np.exp(2 * theta[k]) * part for k, part in enumerate(parts))
        smooth = np.exp(2 * theta[len(parts)] - squares * np.exp(-2 * theta[len(parts) + 1]))
        found: Array = total + smooth
        return found

    def _own(self, points: dict[str, Array], theta: Array) -> Array:
        found: Array = np.full(len(next(iter(points.values()))), np.exp(2 * theta[len(self.names)]))
        for k, name in enumerate(self.names):
            found = found + np.exp(2 * theta[k]) * (points[name] ** 2).mean(axis=1)
        return found

    def _most_evident(self, few: NDArray[np.int64]) -> tuple[Array, float]:
        from scipy.optimize import minimize

        points = {name: block[few] for name, block in self.points.items()}
        parts, squares = _parts(points, points, self.names)
        y, noise = self.targets[few], self.noise[few]
        spread = np.log(max(1e-3, float(np.std(y))))
        start = np.array([*[START_LINEAR] * len(parts), START_SMOOTH, START_LENGTH, START_NOISE])
        start[: len(parts) + 1] += spread - np.log(0.3)

        def loss(theta: Array) -> tuple[float, Array]:
            return _loss(theta, parts, squares, y, noise, start)

        found = minimize(
            loss, start, jac=True, method="L-BFGS-B", bounds=[LIMITS] * len(start), options={"maxiter": 80}
        )
        return np.asarray(found.x, dtype=np.float64), -float(found.fun)


def log_sd(relative_sd: Array) -> Array:
    """The deviation of the logarithm, of what has this relative deviation and is never below 0: of a log-normal."""
    found: Array = np.sqrt(np.log1p(np.square(relative_sd)))
    return found


def _said(block: Array, *, logarithms: bool) -> Array:
    """How long graphs take beside others on the sources, (m,): the first column of their block, and 1."""
    ratios: Array = np.maximum(1.0 + block[:, 0], LEAST_RATIO)
    return np.log(ratios) if logarithms else ratios


def _scales(name: str, block: Array) -> Array:
    """Spread of each column (columns,); components of sources keep their ratios: the first says most."""
    spreads: Array = block.std(axis=0)
    if name == SOURCES:
        return np.full_like(spreads, max(float(spreads.max()), float(LEAST_SPREAD[name])))
    if name in LEAST_SPREAD:
        return np.asarray(np.maximum(spreads, LEAST_SPREAD[name]), dtype=np.float64)
    varies = spreads > NO_SPREAD
    usual = float(np.median(spreads[varies])) if varies.any() else USUAL_SPREAD.get(name, 1.0)
    return np.where(varies, spreads, usual)


def _standard(block: Array, center: Array, scale: Array) -> Array:
    return (block - center) / scale


def _parts(a: dict[str, Array], b: dict[str, Array], names: tuple[str, ...]) -> tuple[list[Array], Array]:
    """Linear covariances of each block, and mean squared distances over all of them."""
    parts, total, columns = [], np.zeros((len(a[names[0]]), len(b[names[0]]))), 0
    for name in names:
        x, z = a[name], b[name]
        inner = x @ z.T
        parts.append(inner / x.shape[1])
        total += (x**2).sum(axis=1)[:, None] + (z**2).sum(axis=1)[None, :] - 2 * inner
        columns += x.shape[1]
    return parts, np.maximum(total, 0.0) / (2 * columns)


def _loss(
    theta: Array, parts: list[Array], squares: Array, y: Array, noise: Array, prior: Array
) -> tuple[float, Array]:
    """Minus the log evidence and the log priors, with the gradient."""
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    n, k = len(y), len(parts)
    amplitudes = np.exp(2 * theta[:k])
    shrink = np.exp(-2 * theta[k + 1])
    smooth = np.exp(2 * theta[k] - squares * shrink)
    own = noise * np.exp(2 * theta[-1])
    covariance = smooth + np.diag(own + JITTER)
    for amplitude, part in zip(amplitudes, parts, strict=True):
        covariance += amplitude * part
    try:
        factor = cho_factor(covariance, lower=True, check_finite=False)
    except LinAlgError:
        return 1e10, np.zeros_like(theta)
    weights = cho_solve(factor, y, check_finite=False)
    outer = np.outer(weights, weights) - cho_solve(factor, np.eye(n), check_finite=False)
    off = (theta - prior) / PRIOR_SD
    value = 0.5 * y @ weights + np.log(np.diag(factor[0])).sum() + 0.5 * n * np.log(2 * np.pi) + 0.5 * (off**2).sum()
    gradient = np.empty_like(theta)
    for place, (amplitude, part) in enumerate(zip(amplitudes, parts, strict=True)):
        gradient[place] = -amplitude * (outer * part).sum()
    gradient[k] = -(outer * smooth).sum()
    gradient[k + 1] = -(outer * (smooth * squares * shrink)).sum()
    gradient[-1] = -(np.diag(outer) * own).sum()
    return float(value), gradient + off / PRIOR_SD
