"""What single kernels take: looked up where this very kernel was measured, else by its family, else bounded."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
from numpy.typing import NDArray

from latency_models.features import Form, form
from latency_models.kernels import KernelSpec
from latency_models.observations import KernelSample
from latency_models.predictors.family import FEWEST, NORMAL_90, Family, Prediction
from latency_models.surroundings import Context, places_of

__all__ = ["BASES", "Bound", "KernelTimes", "Known", "Times"]

Array = NDArray[np.float64]
# Of one kernel, what `Times` has of many.
Row = tuple[float, float, float, int]
BASES = ("look-up", "learned", "extrapolated", "bound")
LOOK_UP, LEARNED, EXTRAPOLATED, BOUND = range(4)
# Up to this distance (in factors of two) a kernel counts as inside what was measured.
INSIDE = 0.1
# Errors are found by leaving out one of so many parts of what was measured.
FOLDS = 5
# The bound is what so many of the kernels nearest in MACs and bytes do not exceed.
BOUND_QUANTILE = 0.75
NEIGHBOURS = 40
MOST_FOR_BOUND = 3000
# A bound is right within a factor of five or so: the standard deviation of its logarithm.
BOUND_SD = 1.0
# Two means of one kernel, measured in two models, differ by about this at least.
LEAST_SD = 0.015
# As if so many more models had shown how much a kernel differs between models: as much as those of its family do.
BELIEF_IN_SD = 2.0


@dataclass(frozen=True)
class Known:
    """A kernel that was measured in `n` models, and what it took more in them than its family predicts there.

    `log_ratio` is the mean logarithm of measured over predicted, `sd` how much it differs from model to model. Of a
    kernel whose family was not learned, it is the logarithm of seconds.
    """

    log_ratio: float
    sd: float
    n: int


@dataclass(frozen=True)
class Times:
    """Of n kernels, each (n,): seconds, standard deviation of their logarithm, distance, place in `BASES`."""

    time_s: Array
    sd: Array
    distance: Array
    basis: NDArray[np.int64]


@dataclass(frozen=True)
class Bound:
    """What kernels of any kind took: `work` (n, 2) in log2 of MACs and bytes, and `log_s` (n,)."""

    work: Array
    log_s: Array

    @classmethod
    def of(cls, members: Sequence[tuple[Form, KernelSample]], seed: int) -> Bound:
        """Of measured kernels; of many, some."""
        chosen = np.random.default_rng(seed).permutation(len(members))[:MOST_FOR_BOUND]
        work = np.array([_work(members[k][0]) for k in chosen])
        return cls(work, np.array([np.log(members[k][1].time_s) for k in chosen]))

    def seconds(self, one: Form) -> float:
        """What most kernels with about as many MACs and bytes do not exceed."""
        return self.seconds_for(one.macs, one.moved_bytes)

    def seconds_for(self, macs: float, moved_bytes: float) -> float:
        """The same for so many MACs and bytes."""
        own = np.log2([1.0 + macs, 1.0 + moved_bytes])
        apart = np.abs(self.work - own).sum(axis=1)
        near = np.argsort(apart, kind="stable")[:NEIGHBOURS]
        # Where all that was measured is smaller, it takes as many times longer as it is larger.
        larger = max(0.0, float((own - self.work[near].max(axis=0)).max()))
        return float(np.exp(np.quantile(self.log_s[near], BOUND_QUANTILE)) * 2.0**larger)


def _work(one: Form) -> tuple[float, float]:
    return float(np.log2(1.0 + one.macs)), float(np.log2(1.0 + one.moved_bytes))


@dataclass
class KernelTimes:
    """Everything that was learned about single kernels of one target.

    `few` has how many were measured of families that were not learned, `typical` the seconds that a kernel of each type
    takes in the median: all there is to say of one whose shapes are not known.
    """

    families: dict[str, Family]
    table: dict[tuple[str, bytes], Known]
    bound: Bound
    few: dict[str, int] = field(default_factory=dict)
    typical: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._remembered: dict[object, Row] = {}

    @classmethod
    def fit(cls, samples: Sequence[KernelSample], seed: int = 0) -> tuple[KernelTimes, Times]:
        """Fit to n measured kernels.

        Returns:
            What was learned, and for each sample what is predicted without its group and those held out with it.

        Raises:
            ValueError: there are none, or a time is not above 0.
        """
        if not samples:
            raise ValueError("no kernel was measured")
        if any(not one.time_s > 0 or not np.isfinite(one.time_s) for one in samples):
            raise ValueError("a kernel's time is not above 0")
        members = list(zip(_forms(samples), samples, strict=True))
        folds = _folds(samples)
        by_family: dict[str, list[int]] = defaultdict(list)
        for place, (one, _) in enumerate(members):
            by_family[one.family].append(place)
        families, few, without = {}, {}, dict[int, dict[str, Family]]()
        for name, places in sorted(by_family.items()):
            if len(places) < FEWEST:
                few[name] = len(places)
                continue
            own = [members[place] for place in places]
            families[name], others = Family.fit(
                name,
                [one for one, _ in own],
                np.array([sample.time_s for _, sample in own]),
                np.array([sample.spread for _, sample in own]),
                np.array([float(sample.n_runs) for _, sample in own]),
                folds[places],
                seed,
            )
            for fold, family in others.items():
                without.setdefault(fold, {})[name] = family
        fitted = cls(families, _table(members, families), Bound.of(members, seed), few, _typical(samples))
        held_out = _held_out(members, folds, without, seed)
        widen = _look_ups_off_by(held_out, samples)
        fitted.table = {key: replace(one, sd=one.sd * widen) for key, one in fitted.table.items()}
        held_out.sd[held_out.basis == LOOK_UP] *= widen
        return fitted, held_out

    def forget(self) -> None:
        """Forget what was asked before: for those who measure how long the answer takes."""
        self._remembered.clear()

    def predict(self, kernels: Sequence[KernelSpec], context: Context | None = None, *, is_part: bool = False) -> Times:
        """Predict the n kernels of a model in the order in which they run.

        Args:
            kernels: of the model.
            context: of the model; None finds it out.
            is_part: the kernels are but a part of the model, whose context is given.
        """
        return self.predict_forms(_within(kernels, context or Context.of(kernels), is_part))

    def predict_forms(self, forms: Sequence[Form]) -> Times:
        """Predict n kernels, each in its model."""
        keys = [(one.family, one.values.tobytes()) for one in forms]
        new: dict[str, dict[object, Form]] = defaultdict(dict)
        for key, one in zip(keys, forms, strict=True):
            if key not in self._remembered:
                new[one.family][key] = one
        for name, members in new.items():
            self._remember(name, members)
        return _times([self._remembered[key] for key in keys])

    def _remember(self, name: str, members: dict[object, Form]) -> None:
        family, forms = self.families.get(name), list(members.values())
        if family is None:
            for key, one in members.items():
                self._remembered[key] = _known_or_bounded(one, self.table.get(one.key), self.bound)
            return
        found = family.predict(forms)
        for k, (key, one) in enumerate(members.items()):
            self._remembered[key] = _with_known(found, k, self.table.get(one.key))

    def reason(self, family: str) -> str:
        """Why there is but a bound for kernels of a family."""
        if family in self.few:
            n = self.few[family]
            return f"only {n} of this kind {'was' if n == 1 else 'were'} measured, which is too few"
        return "no kernel of this kind was ever measured"


def _times(rows: Sequence[Row]) -> Times:
    time_s, sd, distance, basis = (
        (np.array(column) for column in zip(*rows, strict=True)) if rows else [np.zeros(0)] * 4
    )
    return Times(time_s, sd, distance, basis.astype(np.int64))


def _forms(samples: Sequence[KernelSample]) -> list[Form]:
    """Each in its model; all kernels of a model are among the samples, in the order in which they ran, or nearly so."""
    together: dict[str, list[int]] = defaultdict(list)
    for place, sample in enumerate(samples):
        together[sample.source].append(place)
    found: dict[int, Form] = {}
    for places in together.values():
        kernels = [samples[place].kernel for place in places]
        forms = _within(kernels, Context.of(kernels))
        found.update(zip(places, forms, strict=True))
    return [found[place] for place in range(len(samples))]


def _within(kernels: Sequence[KernelSpec], context: Context, is_part: bool = False) -> list[Form]:
    found = places_of(kernels, is_part=is_part)
    return [form(kernel).within(context, place) for kernel, place in zip(kernels, found, strict=True)]


def _known_or_bounded(one: Form, known: Known | None, bound: Bound) -> Row:
    """The time of a kernel whose family was not learned; as in `Times`."""
    if known is not None:
        return float(np.exp(known.log_ratio)), max(known.sd, 0.1), 0.0, LOOK_UP
    return bound.seconds(one), BOUND_SD, float("inf"), BOUND


def _with_known(found: Prediction, k: int, known: Known | None) -> Row:
    """The time of a kernel that was predicted as number k, and perhaps measured; as in `Times`."""
    log_s, sd, distance = float(found.log_s[k]), float(found.sd[k]), float(found.distance[k])
    basis = LEARNED if distance <= INSIDE else EXTRAPOLATED
    if known is not None:
        # The family tells what the surroundings do, the models with this very kernel what is its own: the surer they
        # are of that, beside the family, the more of it counts.
        of_mean = known.sd**2 / known.n
        weight = sd**2 / (sd**2 + of_mean)
        log_s += weight * known.log_ratio
        sd, basis = (known.sd**2 + weight * of_mean) ** 0.5, LOOK_UP
    return float(np.exp(log_s)), sd, distance, basis


def _folds(samples: Sequence[KernelSample]) -> NDArray[np.int64]:
    """Which samples are held out together, (n,): whole groups, dealt from the largest on so that folds are alike."""
    sizes = Counter(one.group or one.source for one in samples)
    ordered = sorted(sizes, key=lambda group: (-sizes[group], group))
    fold_of = {group: k % FOLDS for k, group in enumerate(ordered)}
    return np.array([fold_of[one.group or one.source] for one in samples])


def _held_out(
    members: Sequence[tuple[Form, KernelSample]],
    folds: NDArray[np.int64],
    without: Mapping[int, dict[str, Family]],
    seed: int,
) -> Times:
    """What is said of each kernel by what the other folds make."""
    n = len(members)
    found = Times(np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n, dtype=np.int64))
    for fold in map(int, np.unique(folds)):
        others = [one for one, own in zip(members, folds, strict=True) if own != fold] or members
        families = without.get(fold, {})
        made = KernelTimes(families, _table(others, families), Bound.of(others, seed))
        outside = folds == fold
        own = made.predict_forms([one for (one, _), is_own in zip(members, outside, strict=True) if is_own])
        for column in fields(Times):
            getattr(found, column.name)[outside] = getattr(own, column.name)
    return found


def _typical(samples: Sequence[KernelSample]) -> dict[str, float]:
    by_type: dict[str, list[float]] = defaultdict(list)
    for one in samples:
        by_type[one.kernel.type].append(one.time_s)
    return {type: float(np.median(times_s)) for type, times_s in sorted(by_type.items()) if len(times_s) >= FEWEST}


def _look_ups_off_by(held_out: Times, samples: Sequence[KernelSample]) -> float:
    """By how much kernels that are looked up differ more from model to model than those that were seen say."""
    known = held_out.basis == LOOK_UP
    if known.sum() < FEWEST:
        return 1.0
    taken_s = np.array([one.time_s for one in samples])[known]
    ratios = np.abs(np.log(taken_s / held_out.time_s[known])) / held_out.sd[known]
    return max(1.0, float(np.quantile(ratios, 0.9)) / NORMAL_90)


def _table(
    members: Sequence[tuple[Form, KernelSample]], families: Mapping[str, Family]
) -> dict[tuple[str, bytes], Known]:
    """The kernels that were measured in at least two models: one alone may have been disturbed."""
    by_key: dict[tuple[str, bytes], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for place, (one, sample) in enumerate(members):
        by_key[one.key][sample.source].append(place)
    several = {key: sources for key, sources in by_key.items() if len(sources) > 1}
    left = _left_by(
        members, [place for sources in several.values() for own in sources.values() for place in own], families
    )
    means = {key: np.array([np.mean(left[own]) for own in sources.values()]) for key, sources in several.items()}
    squares, degrees = defaultdict[str, float](float), defaultdict[str, int](int)
    for (family, _), of_key in means.items():
        squares[family] += float(of_key.var()) * len(of_key)
        degrees[family] += len(of_key) - 1
    found = {}
    for key, of_key in means.items():
        family, n = key[0], len(of_key)
        usual = max(LEAST_SD**2, squares[family] / degrees[family])
        own = float(of_key.var()) * n
        sd = ((own + BELIEF_IN_SD * usual) / (n - 1 + BELIEF_IN_SD)) ** 0.5
        found[key] = Known(float(np.median(of_key)), sd, n)
    return found


def _left_by(
    members: Sequence[tuple[Form, KernelSample]], places: Sequence[int], families: Mapping[str, Family]
) -> Array:
    """What families leave of the log seconds of some members, (n,); where there is no family, all of it."""
    left = np.full(len(members), np.nan)
    by_family: dict[str, list[int]] = defaultdict(list)
    for place in places:
        left[place] = np.log(members[place][1].time_s)
        by_family[members[place][0].family].append(place)
    for name, own in by_family.items():
        if name in families:
            left[own] -= families[name].predict([members[place][0] for place in own]).log_s
    return left
