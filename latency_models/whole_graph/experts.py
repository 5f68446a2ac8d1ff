"""Several ways to explain latencies of whole graphs, each weighed by the evidence for it and none picked.

Which features matter differs between devices: where dead branches run, counts of all operators tell; where they are
removed, those of what is left; where branches run in parallel, depth. Picking one by cross-validation on ten samples
picks wrongly; the evidence (Rasmussen and Williams, 2006, section 5.4) does not have to pick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latency_models.whole_graph.additive_process import AdditiveProcess, log_sd
from latency_models.whole_graph.features import ALL, LIVE, PATH, PLACES, SHAPE, SOURCES, Design

__all__ = ["Experts", "Positive"]

Array = NDArray[np.float64]
# Which blocks of features each expert looks at; those that a design does not have are left out.
VIEWS: tuple[tuple[str, ...], ...] = (
    (ALL,), (LIVE,), (PATH,), (PATH, LIVE), (PLACES,), (ALL, PLACES), (LIVE, PLACES), (ALL, LIVE, PLACES, SHAPE),
)  # fmt: skip
SOURCE_VIEWS: tuple[tuple[str, ...], ...] = (
    (SOURCES,), (SOURCES, ALL), (SOURCES, LIVE), (SOURCES, ALL, LIVE, PLACES, SHAPE),
)  # fmt: skip
# Views of counts also have a form in which every operator takes time, and none gives some back.
COUNTS = ((ALL,), (LIVE,), (PATH,))
# Of a typical latency: the least that is ever predicted, and what an operator takes where nothing tells.
LEAST_SHARE, UNKNOWN_SHARE = 0.02, 0.05
# An expert with less weight than this is dropped.
LEAST_WEIGHT = 1e-3


@dataclass(frozen=True)
class Positive:
    """Latency as a sum of what each operator takes, none below 0: `weights` (columns,) and `constant`, in seconds.

    What was the same in all samples has no weight of its own: it is in the constant. `usual` (columns,) is how often
    such a column occurred, and NaN for all others; one more or less of it takes about as long as others do, `each_s`,
    and is as unsure. No latency is below `least_s`.
    """

    block: str
    weights: Array
    constant: float
    sd: float
    usual: Array
    each_s: float
    least_s: float

    @classmethod
    def fit(cls, design: Design, block: str, latency_s: Array) -> tuple[Positive, Array]:
        """Fit by relative errors; the latency of each of the n graphs from all others comes with it, (n,)."""
        counts = design.blocks[block]
        varies = counts.std(axis=0) > 0
        x = np.concatenate([counts[:, varies], np.ones((len(latency_s), 1))], axis=1) / latency_s[:, None]
        solution = _solve(x)
        left_out = np.empty_like(latency_s)
        for fold in _folds(len(latency_s)):
            kept = np.setdiff1d(np.arange(len(latency_s)), fold)
            left_out[fold] = x[fold] @ _solve(x[kept]) * latency_s[fold]
        left_out = np.maximum(left_out, 0.05 * latency_s)
        sd = float(np.sqrt(np.mean((left_out / latency_s - 1.0) ** 2)))
        weights = np.zeros(counts.shape[1])
        weights[varies] = solution[:-1]
        taking = weights[weights > 0]
        typical_s = float(np.exp(np.mean(np.log(latency_s))))
        made = cls(
            block,
            weights,
            float(solution[-1]),
            max(sd, 1e-3),
            np.where(varies, np.nan, counts[0]),
            float(np.median(taking)) if len(taking) else UNKNOWN_SHARE * typical_s,
            LEAST_SHARE * typical_s,
        )
        return made, left_out

    def predict(self, design: Design) -> tuple[Array, Array]:
        """Seconds of m graphs and the standard deviation of their logarithm, each (m,)."""
        counts = design.blocks[self.block]
        unusual = self.each_s * np.nan_to_num(counts - self.usual)
        found = np.maximum(counts @ self.weights + self.constant + unusual.sum(axis=1), self.least_s)
        unsure = log_sd(np.sqrt((unusual**2).sum(axis=1)) / found)
        return found, np.sqrt(self.sd**2 + unsure**2)


def _solve(x: Array) -> Array:
    from scipy.optimize import nnls

    return np.asarray(nnls(x, np.ones(len(x)))[0], dtype=np.float64)


def _folds(n: int) -> Sequence[NDArray[np.int64]]:
    """One by one where there are few, else ten parts."""
    order = np.random.default_rng(0).permutation(n)
    return [np.array([k]) for k in range(n)] if n <= 40 else [order[k::10] for k in range(10)]


@dataclass(frozen=True)
class Experts:
    """A mixture: experts with their weights, which sum to 1. `left_out_s` (n,) and `left_out_sd` are of each sample.

    `freedom` is how many degrees of freedom the samples have left beside what the experts use, on their mean.
    """

    members: tuple[AdditiveProcess | Positive, ...]
    weights: tuple[float, ...]
    left_out_s: Array
    left_out_sd: Array
    freedom: float

    @classmethod
    def fit(cls, design: Design, latency_s: Array, seed: int = 0) -> Experts:
        """Fit all of them to n graphs that took `latency_s` (n,)."""
        members: list[AdditiveProcess | Positive] = []
        evidence: list[float] = []
        left_out: list[tuple[Array, Array]] = []
        freedom: list[float] = []
        n = len(latency_s)
        for view in _views(design):
            process = AdditiveProcess.fit(Design({name: design.blocks[name] for name in view}), latency_s, seed=seed)
            held, sd = process.leave_one_out()
            members.append(process)
            evidence.append(process.evidence * n)
            left_out.append((held, sd))
            freedom.append(process.freedom())
            if view in COUNTS:
                positive, held_positive = Positive.fit(design, view[0], latency_s)
                members.append(positive)
                # What its errors on samples left out say for it, on top of the evidence for its free form. Those of
                # the free form flatter: the samples left out still chose its hyperparameters (few samples choose no
                # more than half as many), and each of these gains about as much as one nat (Akaike, 1974). The sum
                # was solved anew each time and chose nothing.
                flattered = min(len(process.theta), n / 2)
                gained = _log_density(held_positive, latency_s) - _log_density(held, latency_s) + flattered
                evidence.append(process.evidence * n + gained)
                left_out.append((held_positive, np.full(n, positive.sd)))
                freedom.append(float(n - (positive.weights > 0).sum() - (positive.constant > 0)))
        weights = _softmax(np.array(evidence))
        kept = [k for k in range(len(members)) if weights[k] >= LEAST_WEIGHT]
        chosen = weights[kept] / weights[kept].sum()
        held_s, held_sd = _mixed([left_out[k] for k in kept], chosen)
        left = float(chosen @ np.array([freedom[k] for k in kept]))
        return cls(tuple(members[k] for k in kept), tuple(float(w) for w in chosen), held_s, held_sd, left)

    def predict(self, design: Design) -> tuple[Array, Array]:
        """Seconds of m graphs and the standard deviation of their logarithm, each (m,)."""
        return _mixed([one.predict(design) for one in self.members], np.array(self.weights))


def _views(design: Design) -> list[tuple[str, ...]]:
    """The views that this design can have, each once."""
    has = design.blocks
    wanted = (*VIEWS, *SOURCE_VIEWS) if SOURCES in has else VIEWS
    found = [tuple(name for name in view if name in has) for view in wanted]
    views = [view for view in dict.fromkeys(found) if view]
    return [view for view in views if SOURCES not in has or SOURCES in view or len(view) <= 2]


def _log_density(held_s: Array, latency_s: Array) -> float:
    errors = held_s / latency_s - 1.0
    variance = max(float(np.mean(errors**2)), 1e-8)
    return -0.5 * len(errors) * float(np.log(2 * np.pi * variance) + 1.0)


def _softmax(values: Array) -> Array:
    raised = np.exp(values - values.max())
    return np.asarray(raised / raised.sum(), dtype=np.float64)


def _mixed(answers: Sequence[tuple[Array, Array]], weights: Array) -> tuple[Array, Array]:
    """Mean of several answers, and a spread that has their disagreement in it."""
    seconds = np.stack([answer[0] for answer in answers])
    spreads = np.stack([answer[1] for answer in answers])
    mean = weights @ seconds
    apart = weights @ (np.log(np.maximum(seconds, 1e-12)) - np.log(np.maximum(mean, 1e-12))) ** 2
    return np.maximum(mean, 1e-9), np.sqrt(weights @ spreads**2 + apart)
