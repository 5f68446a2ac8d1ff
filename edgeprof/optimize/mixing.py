"""Mixed precision: the operators that bear int8 worst stay as they are, as few as the budget needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    module: str,
    function: str,
    tool: str,
    arguments: Mapping[str, Any],
    for_sensitivity: Mapping[str, Any],
    most_s: float,
) -> Iterator[Made]:
    """Candidates with more and more operators left out, worst first: doubled until one is accepted, then halved back.

    What an operator costs is the error of the outputs when it alone is quantised; those that there was no time for are
    taken for harmless.
    """
    workshop.tell(f"{name}: which operators bear it")
    try:
        errors = call(
            module, "sensitivities", {"source": str(base.path.resolve()), **for_sensitivity, "most_s": most_s}
        )
    except CannotMake as error:
        yield _none(name, f"the sensitivity of its operators cannot be told: {error}")
        return
    worst_first = sorted(errors, key=lambda node: -float(errors[node]))
    most = int(len(worst_first) * MOST_EXCLUDED)
    rejected, n, made = 0, 1, None
    while n <= most:
        made = _with_excluded(workshop, name, base, module, function, tool, arguments, worst_first[:n])
        if made.is_accepted:
            break
        rejected, n = n, n * 2
    if made is None or not made.is_accepted:
        yield made or _none(name, "it has no operators to leave out")
        return
    best = made
    while n - rejected > 1:
        middle = (n + rejected) // 2
        made = _with_excluded(workshop, name, base, module, function, tool, arguments, worst_first[:middle])
        if made.is_accepted:
            best, n = made, middle
        else:
            rejected = middle
    # The last that was written need not be the one: its file is written again.
    yield (
        best
        if made is best
        else _with_excluded(workshop, name, base, module, function, tool, arguments, worst_first[:n])
    )


def _with_excluded(
    workshop: Workshop,
    name: str,
    base: Candidate,
    module: str,
    function: str,
    tool: str,
    arguments: Mapping[str, Any],
    excluded: list[str],
) -> Made:
    return workshop.make(name, LOSSY, base, module, function, tool, {**arguments, "exclude": excluded})


def _none(name: str, reason: str) -> Made:
    from edgeprof.optimize.gate import Decision
    from edgeprof.optimize.making import Made

    return Made(name=name, kind=LOSSY, decision=Decision(accepted=False, reason=reason))
