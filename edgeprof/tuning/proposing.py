"""What the measured configurations say of the others: a Gaussian process over their features, and what to measure next.

The covariance has two parts: in one the (logarithmic) features act as powers of a product, as speeds and clocks nearly
do, and a Matern 5/2 with a length for each feature takes what that cannot explain. Rasmussen and Williams, Gaussian
Processes for Machine Learning (2006), algorithm 2.1 and section 5.4. Points are added one by one, by a row of the
Cholesky factor each, so that a proposal costs little beside a measurement.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["Process", "expected_gain", "probability_below", "spread_out"]

Array = NDArray[np.float64]
JITTER = 1e-8
LIMITS = (-7.0, 5.0)
# Weak priors on the logarithms: of the bends and of the powers, in units of the spread of what was measured; of the
# noise that measuring does not explain, as a share of a value; of lengths, in units of a feature's spread, times the
# root of the number of features.
PRIOR, PRIOR_SD = (math.log(0.5), math.log(0.5), math.log(0.005), math.log(1.5)), (1.0, 1.0, 1.0, 1.0)
# How far it may be trusted is judged by so many measurements.
RECENT = 16
FIRST_ITERATIONS, LATER_ITERATIONS = 60, 15


class Process:
    """A process over `candidates` (N, d), of which some were measured: `mean` and `sd` (N,) say what is expected.

    Both are of the noiseless value; `sd` grows when what was expected turned out wrong by more than it said.
    """

    def __init__(self, candidates: Array) -> None:
        center, scale = candidates.mean(axis=0), np.maximum(candidates.std(axis=0), 1e-9)
        self._z = (candidates - center) / scale
        if self._z.shape[1] == 0:  # nothing tells them apart
            self._z = np.zeros((len(candidates), 1))
        d = self._z.shape[1]
        self._theta = np.array([*PRIOR[:3], *[PRIOR[3] + 0.5 * math.log(d)] * d])
        self._prior, self._prior_sd = self._theta.copy(), np.array([*PRIOR_SD[:3], *[PRIOR_SD[3]] * d])
        self._is_fitted = False
        self._places: list[int] = []
        self._rows: Array = np.empty((0, len(self._z)))
        self._weights: Array = np.empty(0)
        self._mean: Array = np.zeros(len(self._z))
        self._variance: Array = np.ones(len(self._z))
        self._middle, self._spread = 0.0, 1.0
        self._surprises: list[float] = []

    def fit(self, places: list[int], y: Array, noise: Array) -> None:
        """Choose what is most evident from `y` (n,) at those places; `noise` are known variances of measuring."""
        self._middle, self._spread = float(np.median(y)), float(max(y.std(), 1e-6))
        known, spread = self._z[places], self._spread
        iterations = LATER_ITERATIONS if self._is_fitted else FIRST_ITERATIONS
        targets = (y - self._middle) / spread
        self._prior[2] = PRIOR[2] - math.log(spread)
        self._theta = _most_evident(
            known, targets, noise / spread**2, self._theta, (self._prior, self._prior_sd), iterations
        )
        self._is_fitted = True
        self._begin(places, targets, noise / spread**2)

    def add(self, place: int, y: float, noise: float) -> None:
        """One more measurement, with lengths and amplitudes as they were fitted."""
        variance = self._spread**2 * (max(float(self._variance[place]), 0.0) + math.exp(2 * self._theta[2])) + noise
        self._surprises.append((y - float(self.mean[place])) ** 2 / variance)
        self._append(place, y, noise)

    def _append(self, place: int, y: float, noise: float) -> None:
        n = len(self._places)
        to_all = self._covariance(self._z[place : place + 1], self._z)[0]
        row = self._rows[:n, place]
        own = to_all[place] + noise / self._spread**2 + math.exp(2 * self._theta[2]) + JITTER
        corner = math.sqrt(max(own - float(row @ row), JITTER))
        new = (to_all - row @ self._rows[:n]) / corner
        weight = ((y - self._middle) / self._spread - float(row @ self._weights[:n])) / corner
        if n == len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty((max(32, n), len(self._z)))])
            self._weights = np.concatenate([self._weights, np.empty(max(32, n))])
        self._rows[n], self._weights[n] = new, weight
        self._places.append(place)
        self._mean = self._mean + weight * new
        self._variance = self._variance - new**2

    @property
    def mean(self) -> Array:
        found: Array = self._middle + self._spread * self._mean
        return found

    @property
    def sd(self) -> Array:
        found: Array = self._spread * np.sqrt(np.maximum(self._variance, 1e-12)) * self._doubt
        return found

    @property
    def _doubt(self) -> float:
        """By how much errors of what was expected of the last measurements were larger than they should have been."""
        last = self._surprises[-RECENT:]
        return math.sqrt(max(1.0, (sum(last) + RECENT / 2) / (len(last) + RECENT / 2)))

    def _begin(self, places: list[int], targets: Array, noise: Array) -> None:
        """What `_append` would come to after all of these, at once."""
        from scipy.linalg import cholesky, solve_triangular

        to_all = self._covariance(self._z[places], self._z)
        own = to_all[:, places]
        own[np.diag_indices_from(own)] += noise + math.exp(2 * self._theta[2]) + JITTER
        factor = cholesky(own, lower=True, check_finite=False)
        self._places = list(places)
        self._rows = solve_triangular(factor, to_all, lower=True, check_finite=False)
        self._weights = solve_triangular(factor, targets, lower=True, check_finite=False)
        powers = math.exp(2 * self._theta[1]) / self._z.shape[1]
        prior = math.exp(2 * self._theta[0]) + powers * (1.0 + (self._z**2).sum(axis=1))
        self._mean = self._weights @ self._rows
        self._variance = prior - (self._rows**2).sum(axis=0)

    def _covariance(self, a: Array, b: Array) -> Array:
        shrink = np.exp(-self._theta[3:])
        left, right = a * shrink, b * shrink
        squared = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None, :] - 2.0 * (left @ right.T)
        r = np.sqrt(5.0 * np.maximum(squared, 0.0))
        bends = math.exp(2 * self._theta[0]) * (1.0 + r + r**2 / 3.0) * np.exp(-r)
        found: Array = bends + math.exp(2 * self._theta[1]) / a.shape[1] * (1.0 + a @ b.T)
        return found


def expected_gain(mean: Array, sd: Array, best: float) -> Array:
    """How far below `best` each is expected to lie, where it does (expected improvement: Jones et al., 1998)."""
    from scipy.special import ndtr

    u = (best - mean) / sd
    found: Array = sd * (u * ndtr(u) + np.exp(-0.5 * u**2) / math.sqrt(2 * math.pi))
    return found


def probability_below(mean: Array, sd: Array, limit: float) -> Array:
    from scipy.special import ndtr

    found: Array = ndtr((limit - mean) / sd)
    return found


def spread_out(candidates: Array, first: list[int], n: int, rng: np.random.Generator) -> list[int]:
    """So many more places, each as far as can be from all before it in standardised features; ties by lot."""
    z = (candidates - candidates.mean(axis=0)) / np.maximum(candidates.std(axis=0), 1e-9)
    z = z * rng.uniform(0.7, 1.3, size=z.shape[1])
    nearest = np.full(len(z), np.inf)
    for place in first:
        nearest = np.minimum(nearest, ((z - z[place]) ** 2).sum(axis=1))
    found: list[int] = []
    for _ in range(min(n, len(z) - len(set(first)))):
        farthest = np.flatnonzero(nearest >= nearest.max() * (1 - 1e-9))
        place = int(rng.choice(farthest))
        found.append(place)
        nearest = np.minimum(nearest, ((z - z[place]) ** 2).sum(axis=1))
    return found


def _most_evident(z: Array, y: Array, noise: Array, start: Array, prior: tuple[Array, Array], iterations: int) -> Array:
    """Logarithms of the amplitudes, the noise and the lengths where the evidence, with the priors, is largest."""
    from scipy.optimize import minimize

    d = z.shape[1]
    squares = np.stack([np.ravel(z[:, k, None] - z[None, :, k]) ** 2 for k in range(d)])
    powers = (1.0 + z @ z.T) / d
    found = minimize(
        lambda theta: _loss(theta, squares, powers, y, noise, prior), start,
        jac=True, method="L-BFGS-B", bounds=[LIMITS] * len(start), options={"maxiter": iterations},
    )  # fmt: skip
    return np.asarray(found.x, dtype=np.float64)


def _loss(
    theta: Array, squares: Array, powers: Array, y: Array, noise: Array, prior: tuple[Array, Array]
) -> tuple[float, Array]:
    """Minus the log evidence and the log priors, with the gradient; `squares` is (d, n * n)."""
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    bent, straight, own = np.exp(2 * theta[:3])
    shrink = np.exp(-2 * theta[3:])
    r = np.sqrt(5.0 * (shrink @ squares)).reshape(len(y), len(y))
    decay = np.exp(-r)
    bends = bent * (1.0 + r + r**2 / 3.0) * decay
    covariance = bends + straight * powers
    covariance[np.diag_indices_from(covariance)] += noise + own + JITTER
    try:
        factor = cho_factor(covariance, lower=True, check_finite=False)
    except LinAlgError:
        return 1e10, np.zeros_like(theta)
    weights = cho_solve(factor, y, check_finite=False)
    inverse = cho_solve(factor, np.eye(len(y)), check_finite=False)
    outer = np.outer(weights, weights) - inverse
    off = (theta - prior[0]) / prior[1]
    value = 0.5 * y @ weights + np.log(np.diag(factor[0])).sum() + 0.5 * (off**2).sum()
    gradient = np.empty_like(theta)
    gradient[0] = -(outer * bends).sum()
    gradient[1] = -straight * (outer * powers).sum()
    gradient[2] = -own * np.trace(outer)
    gradient[3:] = -0.5 * shrink * (squares @ np.ravel(outer * (bent * (5.0 / 3.0) * (1.0 + r) * decay)))
    return float(value), gradient + off / prior[1]
