"""Gaussian process regression with a Matern 5/2 covariance and a length scale for each feature.

Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), algorithm 2.1 and section 5.4. Far from what
was measured the prediction goes back to the mean, and its variance to the prior's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

__all__ = ["GaussianProcess"]

Array = NDArray[np.float64]
# Hyperparameters are chosen on so many points, and predictions lean on so many.
MOST_FOR_EVIDENCE = 220
MOST_POINTS = 700
JITTER = 1e-8
LIMITS = (-6.0, 6.0)
# Weak priors on the logarithms keep a few points from being explained by noise alone or by no noise at all.
PRIOR_MEAN = {"amplitude": np.log(0.3), "noise": np.log(0.06), "length": np.log(2.0)}
PRIOR_SD = {"amplitude": 1.0, "noise": 0.7, "length": 1.2}


@dataclass
class GaussianProcess:
    """A fitted process. `points` (n, d) are standardised by `center` and `scale`; `noise` (n,) is in variances.

    `chosen` (n,) are the places of the points in what it was fitted to.
    """

    points: Array
    targets: Array
    noise: Array
    chosen: NDArray[np.int64]
    center: Array
    scale: Array
    log_amplitude: float
    log_noise: float
    log_lengths: Array
    mean: float

    def __post_init__(self) -> None:
        self._solved: tuple[Array, Array] | None = None

    @classmethod
    def fit(cls, x: Array, y: Array, noise: Array, seed: int = 0) -> GaussianProcess:
        """Fit to `y` (n,) at `x` (n, d), each with a known variance of measuring `noise` (n,) beside a common one."""
        center, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-9)
        z = (x - center) / scale
        rng = np.random.default_rng(seed)
        chosen = rng.permutation(len(y))[:MOST_POINTS]
        few = chosen[:MOST_FOR_EVIDENCE]
        mean = float(np.median(y))
        theta = _most_evident(z[few], y[few] - mean, noise[few])
        return cls(
            z[chosen], y[chosen] - mean, noise[chosen], chosen, center, scale, theta[0], theta[1], theta[2:], mean
        )

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Mean and variance (of a new measurement, without its own noise of measuring) at `x` (m, d)."""
        return self.predict_standardised((x - self.center) / self.scale)

    def predict_standardised(self, z: Array) -> tuple[Array, Array]:
        """As `predict`, of points that are standardised as its own."""
        factor, weights = self._factor()
        between = self._covariance(z, self.points)
        from scipy.linalg import solve_triangular

        mean = self.mean + between @ weights
        inner = solve_triangular(factor, between.T, lower=True, check_finite=False)
        variance = np.exp(2 * self.log_amplitude) - (inner**2).sum(axis=0)
        return mean, np.maximum(variance, 0.0) + np.exp(2 * self.log_noise)

    def without(self, held_out: NDArray[np.bool_]) -> GaussianProcess:
        """The same process without some of its points: for errors on what it has not seen."""
        kept = ~held_out
        return replace(
            self,
            points=self.points[kept],
            targets=self.targets[kept],
            noise=self.noise[kept],
            chosen=self.chosen[kept],
        )

    def _factor(self) -> tuple[Array, Array]:
        if self._solved is None:
            from scipy.linalg import cho_solve, cholesky

            covariance = self._covariance(self.points, self.points)
            covariance[np.diag_indices_from(covariance)] += self.noise + np.exp(2 * self.log_noise) + JITTER
            factor = cholesky(covariance, lower=True, check_finite=False)
            self._solved = factor, cho_solve((factor, True), self.targets, check_finite=False)
        return self._solved

    def _covariance(self, a: Array, b: Array) -> Array:
        lengths = np.exp(self.log_lengths)
        found: Array = np.exp(2 * self.log_amplitude) * _matern(_distances(a / lengths, b / lengths))
        return found


def _distances(a: Array, b: Array) -> Array:
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :] - 2.0 * (a @ b.T)
    distances: Array = np.sqrt(np.maximum(squared, 0.0))
    return distances


def _matern(r: Array) -> Array:
    scaled = np.sqrt(5.0) * r
    covariance: Array = (1.0 + scaled + scaled**2 / 3.0) * np.exp(-scaled)
    return covariance


def _most_evident(z: Array, y: Array, noise: Array) -> Array:
    """Logarithms of amplitude, noise and lengths where the evidence, with the priors, is largest."""
    from scipy.optimize import minimize

    d = z.shape[1]
    prior = np.array([PRIOR_MEAN["amplitude"], PRIOR_MEAN["noise"], *[PRIOR_MEAN["length"] + 0.5 * np.log(d)] * d])
    widths = np.array([PRIOR_SD["amplitude"], PRIOR_SD["noise"], *[PRIOR_SD["length"]] * d])
    squares = np.stack([np.ravel(z[:, k, None] - z[None, :, k]) ** 2 for k in range(d)])

    def loss(theta: Array) -> tuple[float, Array]:
        return _loss(theta, squares, y, noise, prior, widths)

    found = minimize(loss, prior, jac=True, method="L-BFGS-B", bounds=[LIMITS] * len(prior), options={"maxiter": 60})
    return np.asarray(found.x, dtype=np.float64)


def _loss(theta: Array, squares: Array, y: Array, noise: Array, prior: Array, widths: Array) -> tuple[float, Array]:
    """Minus the log evidence and the log priors, with the gradient; `squares` is (d, n * n)."""
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    amplitude, own = np.exp(2 * theta[0]), np.exp(2 * theta[1])
    shrink = np.exp(-2 * theta[2:])
    r = np.sqrt(5.0 * (shrink @ squares)).reshape(len(y), len(y))
    decay = np.exp(-r)
    signal = amplitude * (1.0 + r + r**2 / 3.0) * decay
    covariance = signal + np.diag(noise + own + JITTER)
    try:
        factor = cho_factor(covariance, lower=True, check_finite=False)
    except LinAlgError:
        return 1e10, np.zeros_like(theta)
    weights = cho_solve(factor, y, check_finite=False)
    inverse = cho_solve(factor, np.eye(len(y)), check_finite=False)
    outer = np.outer(weights, weights) - inverse
    off = (theta - prior) / widths
    value = 0.5 * y @ weights + np.log(np.diag(factor[0])).sum() + 0.5 * (off**2).sum()
    slope = amplitude * (5.0 / 3.0) * (1.0 + r) * decay
    gradient = np.empty_like(theta)
    gradient[0] = -0.5 * (outer * (2.0 * signal)).sum()
    gradient[1] = -0.5 * 2.0 * own * np.trace(outer)
    gradient[2:] = -0.5 * shrink * (squares @ np.ravel(outer * slope))
    return float(value), gradient + off / widths
