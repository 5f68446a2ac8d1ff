"""How several models stand to each other on a device: in the first minute of running without rest, and in the last.

Pure functions; docs/how-to/sustained.md explains them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from edgeprof.sustained import Stretch, Sustained

__all__ = ["Standing", "Standings", "standings"]

# Sensors and rooms differ by so much from one time to the next.
AS_WARM_K = 3.0


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One model's ranks, 1 for the fastest: how many others are surely faster, and one.

    `began_warmer_k` is against the model that began coolest; None where no temperature can be read.
    """

    run: str
    model: str
    first_rank: int
    last_rank: int
    first_median_s: float
    last_median_s: float
    began_warmer_k: float | None


@dataclass(frozen=True, kw_only=True)
class Standings:
    """The models of one device, the fastest of the last minute first.

    `tau` is Kendall's coefficient between the two orders, in which models whose intervals overlap are tied: 1 the same
    order, -1 the reverse. `swaps` says in words whose order turned round. `doubts` is what speaks against comparing.
    """

    device: str
    models: tuple[Standing, ...]
    tau: float | None
    tau_missing: str | None
    swaps: tuple[str, ...]
    doubts: tuple[str, ...]


def standings(found: Sequence[Sustained]) -> Standings | None:
    """The standings of what ran on one device; None of fewer than two."""
    if len(found) < 2:
        return None
    names = _names(found)
    firsts, lasts = [one.first_minute for one in found], [one.last_minute for one in found]
    coolest_c = min((one.began_c for one in found if one.began_c is not None), default=None)
    models = [
        Standing(
            run=one.run,
            model=name,
            first_rank=_rank(one.first_minute, firsts),
            last_rank=_rank(one.last_minute, lasts),
            first_median_s=one.first_minute.median_s,
            last_median_s=one.last_minute.median_s,
            began_warmer_k=None if one.began_c is None or coolest_c is None else one.began_c - coolest_c,
        )
        for name, one in zip(names, found, strict=True)
    ]
    tau = _tau(firsts, lasts)
    return Standings(
        device=found[0].device,
        models=tuple(sorted(models, key=lambda model: (model.last_rank, model.last_median_s))),
        tau=tau,
        tau_missing=None if tau is not None else "in one of the two minutes no model is surely faster than another",
        swaps=tuple(_swaps(names, firsts, lasts)),
        doubts=tuple(_doubts(names, found, models)),
    )


def _names(found: Sequence[Sustained]) -> list[str]:
    """The models' names with their batches, and with the run where two are still the same."""
    names = [one.model if one.batch is None else f"{one.model}, batch {one.batch}" for one in found]
    return [f"{name} ({one.run})" if names.count(name) > 1 else name for name, one in zip(names, found, strict=True)]


def _order(a: Stretch, b: Stretch) -> int:
    """-1 where `a` is surely faster, 1 where `b` is, 0 where their intervals overlap or one has none."""
    if a.low_s is None or a.high_s is None or b.low_s is None or b.high_s is None:
        return 0
    return -1 if a.high_s < b.low_s else 1 if b.high_s < a.low_s else 0


def _rank(one: Stretch, every: Sequence[Stretch]) -> int:
    return 1 + sum(_order(other, one) < 0 for other in every)


def _tau(firsts: Sequence[Stretch], lasts: Sequence[Stretch]) -> float | None:
    """Kendall's general coefficient of correlation between two sets of paired comparisons (tau-b where ties are plain).

    Kendall, Rank Correlation Methods (1948), sections 2.2 and 3.3.
    """
    pairs = [(_order(firsts[i], firsts[j]), _order(lasts[i], lasts[j])) for i, j in combinations(range(len(firsts)), 2)]
    n_first, n_last = sum(a * a for a, _ in pairs), sum(b * b for _, b in pairs)
    return sum(a * b for a, b in pairs) / math.sqrt(n_first * n_last) if n_first and n_last else None


def _swaps(names: Sequence[str], firsts: Sequence[Stretch], lasts: Sequence[Stretch]) -> Iterator[str]:
    for i, j in combinations(range(len(names)), 2):
        before, after = _order(firsts[i], firsts[j]), _order(lasts[i], lasts[j])
        if before and after and before != after:
            faster, slower = (names[i], names[j]) if before < 0 else (names[j], names[i])
            yield f"{faster} is faster than {slower} in the first minute, and slower in the last"


def _doubts(names: Sequence[str], found: Sequence[Sustained], models: Sequence[Standing]) -> Iterator[str]:
    for model in models:
        if model.began_warmer_k is not None and model.began_warmer_k > AS_WARM_K:
            yield f"{model.model} began {model.began_warmer_k:.0f} K warmer than the coolest: its first minute suffers"
    if len({round(one.asked_s) for one in found}) > 1:
        yield "they did not run for the same time, so their last minutes are not the same minute"
    for what, values in (("origins", {one.origin for one in found}), ("devices", {one.device for one in found})):
        if len(values) > 1:
            yield f"{what} differ: {', '.join(sorted(values))}"
    for name, one in zip(names, found, strict=True):
        if one.doubts:
            yield f"{name} is in doubt: {one.doubts[0]}"
