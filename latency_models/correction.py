"""From the sum of kernels to the latency of a whole net, and how far off that was on nets that were not used for it.

A net takes what its kernels take one by one, a little more or less for each kind (caches that are warm or cold), a
little for each kernel (dispatch) and something for itself (calling the runtime). These few numbers are fitted to whole
nets, drawn towards "nothing to correct", so that a handful of nets is enough. Nets that compute in whole numbers have
factors of their own: theirs are many small kernels between the large ones, and other loops. What a run and timing a
kernel cost is the runtime's, and the same for all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from latency_models.scores import Scores

__all__ = ["GROUPS", "Correction", "Net", "correction_for", "group_of", "held_out", "is_whole", "net_sd"]

Array = NDArray[np.float64]
# Kinds of kernels whose time in a net may differ from that alone in its own way.
GROUPS = ("multiplying", "depthwise", "moving")
# How far from "nothing to correct" is plausible: a quarter of each group's time, a microsecond a kernel, 20 a net.
BELIEF = np.array([0.25, 0.25, 0.25, 1e-6, 2e-5])
NOTHING = np.array([1.0, 1.0, 1.0, 0.0, 0.0])
ERROR = 0.05
# As if so many nets had shown that predictions are not off.
BELIEF_IN_SCALE = 8.0
# Profilers take up to some microseconds to time a kernel; which it is, the nets tell.
OVERHEADS_S = (0.0, 2e-7, 4e-7, 6e-7, 8e-7, 1e-6, 1.25e-6, 1.5e-6, 1.75e-6, 2e-6, 2.5e-6, 3e-6, 4e-6, 6e-6)
# Of a kernel's time at least this much is its own.
LEAST_SHARE = 0.1
# Errors of kernels in one net go the same way to this part.
TOGETHER = 0.3
# With fewer nets of a kind (whole numbers or not), all of them tell.
FEWEST_OF_KIND = 12
# Element types that whole numbers are kept in; "-dynamic" of what quantises its input itself.
WHOLE = frozenset(("int8", "uint8", "int8-dynamic", "uint8-dynamic"))
# Even of a net that is well known, so much is not.
LEAST_SD = 0.02


def group_of(family: str) -> int:
    """The place in `GROUPS` of a family of kernels."""
    if family.startswith("depthwise"):
        return 1
    return 0 if "convolution" in family or family.startswith(("dense", "matrix product")) else 2


def is_whole(family: str) -> bool:
    """Whether kernels of a family compute in whole numbers."""
    return not WHOLE.isdisjoint(family.split())


def net_sd(time_s: Array, sd: Array) -> float:
    """Standard deviation of the logarithm of a sum of kernels, each of which takes `time_s` with `sd`."""
    total = float(time_s.sum())
    if total <= 0:
        return LEAST_SD
    shares = time_s / total * sd
    apart, together = float((shares**2).sum()), float(shares.sum()) ** 2
    return math.sqrt(LEAST_SD**2 + TOGETHER * together + (1 - TOGETHER) * apart)


@dataclass(frozen=True)
class Net:
    """The kernels of one net, n of them: what each takes alone and its place in `GROUPS`, both (n,).

    `is_quantised`: it spends most of its time in whole numbers.
    """

    time_s: Array
    group: NDArray[np.int64]
    is_quantised: bool = False

    def sums(self, overhead_s: float) -> Array:
        """Seconds of each group without the overhead of timing, and the number of kernels, (4,)."""
        left = np.maximum(self.time_s - overhead_s, LEAST_SHARE * self.time_s)
        return np.append(np.bincount(self.group, weights=left, minlength=len(GROUPS)), float(len(left)))


@dataclass(frozen=True)
class Correction:
    """latency = scale x (sum over groups of factor x seconds + per_kernel_s x kernels + per_run_s).

    Timing a kernel costs `overhead_s`, which is in its time and not in a net's. All of these come from what the kernels
    of the nets themselves took (in the same minute, so that a slower moment is in both); `scale` is what predictions
    of these kernels were off by, all in all. `n_nets` it was fitted to.
    """

    factors: tuple[float, float, float]
    per_kernel_s: float
    per_run_s: float
    overhead_s: float
    n_nets: int
    scale: float = 1.0

    @classmethod
    def none(cls) -> Correction:
        """Nothing is known of whole nets: the sum as it is."""
        return cls((1.0, 1.0, 1.0), 0.0, 0.0, 0.0, 0)

    @classmethod
    def fit(cls, nets: Sequence[Net], latency_s: Array) -> Correction:
        """Fit to n nets, which took `latency_s` (n,); of several overheads of timing the best is taken."""
        found = [cls._with_overhead(overhead_s, nets, latency_s) for overhead_s in OVERHEADS_S]
        return min(found, key=lambda one: one[1])[0]

    @classmethod
    def _with_overhead(cls, overhead_s: float, nets: Sequence[Net], latency_s: Array) -> tuple[Correction, float]:
        """The correction, and how badly it fits."""
        found = _weights(nets, latency_s, overhead_s, None)
        made = cls._of_weights(found, overhead_s, len(nets))
        errors = np.minimum(np.abs(np.log(made.apply(nets) / latency_s)), 1.0)
        return made, float(np.mean(errors)) + float((((found - NOTHING) / BELIEF) ** 2).sum()) * ERROR / len(nets) / 10

    @classmethod
    def _of_weights(cls, found: Array, overhead_s: float, n_nets: int) -> Correction:
        factors = tuple(float(max(LEAST_SHARE, value)) for value in found[:3])
        per_kernel_s, per_run_s = (float(max(0.0, value)) for value in found[3:])
        return cls((factors[0], factors[1], factors[2]), per_kernel_s, per_run_s, overhead_s, n_nets)

    def refitted(self, nets: Sequence[Net], latency_s: Array) -> Correction:
        """With factors, and seconds a kernel, from other nets: a run, and timing a kernel, cost what they did."""
        found = _weights(nets, latency_s, self.overhead_s, self.per_run_s)
        return self._of_weights(found, self.overhead_s, len(nets))

    def apply(self, nets: Sequence[Net]) -> Array:
        """Latencies of n nets in seconds, (n,)."""
        sums = np.stack([net.sums(self.overhead_s) for net in nets])
        found: Array = sums[:, :3] @ np.array(self.factors) + self.per_kernel_s * sums[:, 3] + self.per_run_s
        return found * self.scale

    def scaled_to(self, nets: Sequence[Net], latency_s: Array) -> Correction:
        """With the scale at which predicted nets are right in the middle; of few nets, only part of the way."""
        off = float(np.median(np.log(latency_s / self.apply(nets))))
        return replace(self, scale=self.scale * math.exp(off * len(nets) / (len(nets) + BELIEF_IN_SCALE)))


def _weights(nets: Sequence[Net], latency_s: Array, overhead_s: float, per_run_s: float | None) -> Array:
    """The factors of groups, the seconds a kernel and a run, (5,), by robust least squares of relative errors.

    `per_run_s` is what a run takes, where it is known.
    """
    sums = np.stack([net.sums(overhead_s) for net in nets])
    columns = np.concatenate([sums, np.ones((len(sums), 1))], axis=1) / latency_s[:, None]
    nothing, belief = NOTHING.copy(), BELIEF.copy()
    if per_run_s is not None:
        nothing[4], belief[4] = per_run_s, 1e-9
    weights, found = np.ones(len(sums)), nothing
    for _ in range(5):
        rows = np.concatenate([columns * (weights / ERROR)[:, None], np.diag(1.0 / belief)])
        wanted = np.concatenate([weights / ERROR, nothing / belief])
        found = np.linalg.lstsq(rows, wanted, rcond=None)[0]
        errors = np.abs(columns @ found - 1.0)
        typical = max(0.01, float(np.median(errors)))
        weights = np.sqrt(np.minimum(1.0, 2.0 * typical / np.maximum(errors, 1e-9)))
    return np.asarray(found, dtype=np.float64)


def correction_for(
    is_quantised: bool, measured: Sequence[Net], predicted: Sequence[Net], latency_s: Array
) -> Correction:
    """The correction for nets in whole numbers, or for all others, from n nets that took `latency_s` (n,).

    Args:
        is_quantised: for which kind.
        measured: the nets with what their kernels took.
        predicted: the same with what is predicted of their kernels.
        latency_s: what they took as a whole.
    """
    if not measured:
        return Correction.none()
    found = Correction.fit(measured, latency_s)
    own = np.array([net.is_quantised == is_quantised for net in measured], dtype=np.bool_)
    if own.sum() < FEWEST_OF_KIND or own.all():
        return found.scaled_to(predicted, latency_s)
    refitted = found.refitted(_those(measured, own), latency_s[own])
    return refitted.scaled_to(_those(predicted, own), latency_s[own])


def held_out(
    measured: Sequence[Net], predicted: Sequence[Net], latency_s: Array, sds: Array, families: Sequence[str]
) -> tuple[Scores, Array]:
    """Scores of n nets, each family predicted by a correction that was fitted to the others; log errors too."""
    errors = np.empty(len(latency_s))
    kinds = np.array([net.is_quantised for net in predicted], dtype=np.bool_)
    for family in set(families):
        outside = np.array([one == family for one in families])
        others = _those(measured, ~outside), _those(predicted, ~outside), latency_s[~outside]
        for kind in (False, True):
            own = outside & (kinds == kind)
            if own.any():
                correction = correction_for(kind, *others)
                errors[own] = np.log(latency_s[own] / correction.apply(_those(predicted, own)))
    return Scores(tuple(float(value) for value in np.abs(errors) / sds), tuple(families)), errors


def _those(nets: Sequence[Net], chosen: NDArray[np.bool_]) -> list[Net]:
    return [net for net, is_chosen in zip(nets, chosen, strict=True) if is_chosen]
