"""What the architectures that were evaluated say of the others: a Gaussian process over genes, for each objective.

The covariance has two parts over the same lengths. In one the genes add up (latencies nearly do), in the other all of
them play together (accuracies do). How much each counts is decided by evidence, and so are the lengths.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["GeneProcess", "squared_distances"]

Array = NDArray[np.float64]
# Hyperparameters are chosen on so many points at most.
MOST_FOR_EVIDENCE = 300
# Weak priors on logarithms: amplitude of the sum, of the product, noise, length (in units of a group's distance).
PRIOR = np.array([np.log(0.7), np.log(0.7), np.log(0.1), np.log(1.0)])
PRIOR_SD = np.array([1.0, 1.0, 1.0, 1.0])
LIMITS = (-5.0, 4.0)
JITTER = 1e-8


@dataclass
class GeneProcess:
    """A process that was fitted to n points; `theta` are logarithms: sum, product, noise, and a length per group."""

    points: Array
    groups: NDArray[np.int64]
    targets: Array
    theta: Array
    mean: float
    scale: float

    @classmethod
    def fit(
        cls, x: Array, groups: NDArray[np.int64], y: Array, start: Array | None = None, *, keep: bool = False
    ) -> GeneProcess:
        """Fit to y (n,) at x (n, d), whose columns belong to `groups` (d,).

        Args:
            x: the points.
            groups: which columns belong together.
            y: what was found there.
            start: an earlier `theta` to begin from.
            keep: take `start` as it is.
        """
        mean, scale = float(y.mean()), float(max(y.std(), 1e-9))
        targets = (y - mean) / scale
        theta = start if keep and start is not None else _most_evident(_squares(x, x, groups), targets, start)
        return cls(x, groups, targets, theta, mean, scale)

    def predict(self, x: Array, distances: tuple[Array, Array] | None = None) -> tuple[Array, Array]:
        """Mean and standard deviation of the noiseless value at x (m, d), each (m,).

        `distances` are those of `squared_distances` for these points and x: processes over the same points share them.
        """
        from scipy.linalg import cho_solve, cholesky, solve_triangular

        among, to_points = distances or squared_distances(self.points, x, self.groups)
        own = _covariance(among, self.theta)
        own[np.diag_indices_from(own)] += np.exp(2 * self.theta[2]) + JITTER
        factor = cholesky(own, lower=True, check_finite=False)
        weights = cho_solve((factor, True), self.targets, check_finite=False)
        between = _covariance(to_points, self.theta)
        inner = solve_triangular(factor, between.T, lower=True, check_finite=False)
        prior = np.exp(2 * self.theta[0]) + np.exp(2 * self.theta[1])
        variance = np.maximum(prior - (inner**2).sum(axis=0), 1e-10)
        return self.mean + self.scale * (between @ weights), self.scale * np.sqrt(variance)


def squared_distances(points: Array, x: Array, groups: NDArray[np.int64]) -> tuple[Array, Array]:
    """Of n points among themselves, and of x (m, d) to them, by group: (groups, n, n) and (groups, m, n).

    The latter are many and in single precision: what is predicted of candidates needs no more.
    """
    return _squares(points, points, groups), _squares(x, points, groups).astype(np.float32)


def _squares(a: Array, b: Array, groups: NDArray[np.int64]) -> Array:
    """Squared distances of each group, (groups, n, m)."""
    found = []
    for group in np.unique(groups):
        left, right = a[:, groups == group], b[:, groups == group]
        squared = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None, :] - 2.0 * (left @ right.T)
        found.append(np.maximum(squared, 0.0))
    return np.stack(found)


def _covariance(squares: Array, theta: Array) -> Array:
    each = np.exp(squares * (-0.5 * np.exp(-2 * theta[3:])).astype(squares.dtype)[:, None, None])
    found: Array = np.exp(2 * theta[0]) * each.mean(axis=0) + np.exp(2 * theta[1]) * each.prod(axis=0)
    return found


def _most_evident(squares: Array, y: Array, start: Array | None) -> Array:
    from scipy.optimize import minimize

    n_groups = len(squares)
    if len(y) > MOST_FOR_EVIDENCE:
        squares, y = squares[:, -MOST_FOR_EVIDENCE:, -MOST_FOR_EVIDENCE:], y[-MOST_FOR_EVIDENCE:]
    length = PRIOR[3] + 0.5 * np.log(n_groups)
    prior = np.concatenate([PRIOR[:3], np.full(n_groups, length)])
    widths = np.concatenate([PRIOR_SD[:3], np.full(n_groups, PRIOR_SD[3])])
    found = minimize(
        lambda theta: _loss(theta, squares, y, prior, widths), prior if start is None else start,
        jac=True, method="L-BFGS-B", bounds=[LIMITS] * len(prior), options={"maxiter": 40 if start is None else 15},
    )  # fmt: skip
    return np.asarray(found.x, dtype=np.float64)


def _loss(theta: Array, squares: Array, y: Array, prior: Array, widths: Array) -> tuple[float, Array]:
    """Minus the log evidence and the log priors, with its gradient."""
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    shrunk = squares * np.exp(-2 * theta[3:])[:, None, None]
    each = np.exp(-0.5 * shrunk)
    adding = np.exp(2 * theta[0]) * each.mean(axis=0)
    product = np.exp(2 * theta[1]) * each.prod(axis=0)
    noise = np.exp(2 * theta[2])
    covariance = adding + product
    covariance[np.diag_indices_from(covariance)] += noise + JITTER
    try:
        factor = cho_factor(covariance, lower=True, check_finite=False)
    except LinAlgError:
        return 1e10, np.zeros_like(theta)
    weights = cho_solve(factor, y, check_finite=False)
    outer = np.outer(weights, weights) - cho_solve(factor, np.eye(len(y)), check_finite=False)
    off = (theta - prior) / widths
    value = 0.5 * y @ weights + np.log(np.diag(factor[0])).sum() + 0.5 * (off**2).sum()
    gradient = np.empty_like(theta)
    gradient[0] = -(outer * adding).sum()
    gradient[1] = -(outer * product).sum()
    gradient[2] = -noise * np.trace(outer)
    alone = np.exp(2 * theta[0]) / len(squares) * each
    alone += product
    alone *= shrunk
    gradient[3:] = -0.5 * np.tensordot(alone, outer, axes=2)
    return float(value), gradient + off / widths
