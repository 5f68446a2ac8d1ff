"""Mixed precision: the operators that bear int8 worst stay as they are, as few as the budget needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from edgeprof.optimize.apart import CannotMake, call
from edgeprof.optimize.candidate import LOSSY, Candidate

if TYPE_CHECKING:
    from edgeprof.optimize.making import Made, Workshop

__all__ = ["mixed"]

# More than so large a share of the operators left out is no int8 model any more.
MOST_EXCLUDED = 0.75


def mixed(
    workshop: Workshop,
    name: str,
    base: Candidate,
    transform: tuple[str, str, str],
    arguments: Mapping[str, Any],
    most_s: float,
) -> Iterator[Made]:
    """One candidate, or why there is none: more and more operators are left out, worst first, until it is accepted.

    What an operator costs is the error of the outputs when it alone is quantised; those that there was no time for
    (`most_s`) are taken for harmless. `transform` is module, function and tool; its module has `sensitivities`, too.
    """
    workshop.tell(f"{name}: which operators bear it")
    asked = {**arguments, "source": str(base.path.resolve()), "most_s": most_s}
    try:
        errors = call(transform[0], "sensitivities", asked)
    except CannotMake as error:
        yield _none(name, f"the sensitivity of its operators cannot be told: {error}")
        return
    worst_first = sorted(errors, key=lambda node: -float(errors[node]))
    without = partial(_without, workshop, name, base, transform, arguments, worst_first)
    most = int(len(worst_first) * MOST_EXCLUDED)
    rejected, n = 0, 1
    made = without(n) if n <= most else _none(name, "it has no operators to leave out")
    while not made.is_accepted and n * 2 <= most:
        rejected, n = n, n * 2
        made = without(n)
    if not made.is_accepted:
        yield made
        return
    while n - rejected > 1:
        middle = (n + rejected) // 2
        made = without(middle)
        if made.is_accepted:
            n = middle
        else:
            rejected = middle
    # The last that was written need not be the one that was accepted: its file is written again.
    yield made if made.is_accepted else without(n)


def _without(
    workshop: Workshop,
    name: str,
    base: Candidate,
    transform: tuple[str, str, str],
    arguments: Mapping[str, Any],
    worst_first: list[str],
    n: int,
) -> Made:
    return workshop.make(name, LOSSY, base, *transform, {**arguments, "exclude": worst_first[:n]})


def _none(name: str, reason: str) -> Made:
    from edgeprof.optimize.gate import Decision
    from edgeprof.optimize.making import Made

    return Made(name=name, kind=LOSSY, decision=Decision(accepted=False, reason=reason))
