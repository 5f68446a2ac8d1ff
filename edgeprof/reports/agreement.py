"""Whether outputs agreed with the reference's, in one sentence for every page that shows a run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeprof.outputs import disagreements
from edgeprof.reports.quantities import count, plain
from edgeprof.run import OutputCheck, OutputDifference, Run

__all__ = ["ADVICE", "Agreement", "agreement"]

ADVICE = (
    "profile with plain kernels (--optimization none, --no-xnnpack, no delegate) to see which of them does it, or with "
    "the same version of the runtime on both sides; a model that draws random numbers has no reference"
)
# Cosines are shown rounded down: what stands after ≥ must hold.
COSINE_DIGITS = 5


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """`agrees` is None where nothing was compared; `doubts` are the reasons where it is False."""

    agrees: bool | None
    sentence: str
    doubts: tuple[str, ...] = ()


def agreement(run: Run) -> Agreement:
    """What the check of outputs found, in words without what a terminal would obey."""
    check = run.output_check
    if check is None:
        why = run.output_check_missing or "the run is older than this check"
        return Agreement(agrees=None, sentence=plain(f"not checked: {why}"))
    compared = [output for output in check.outputs if output.missing is None]
    left_out = [
        f"output {output.name!r} was not compared: {output.missing}" for output in check.outputs if output.missing
    ]
    if not compared:
        return Agreement(agrees=None, sentence=plain("; ".join(left_out) or "not checked: the model has no outputs"))
    doubts = disagreements(check)
    parts = [_figures(compared, _reference(run, check), agrees=not doubts), *_extent(compared), *left_out]
    return Agreement(agrees=not doubts, sentence=plain("; ".join(parts)), doubts=tuple(map(plain, doubts)))


def _reference(run: Run, check: OutputCheck) -> str:
    name = f"{check.runtime} {check.runtime_version} on the host"
    if check.runtime_version == run.profile.runtime_version:
        return name
    return f"{name} (the device has {run.profile.runtime_version})"


def _figures(compared: list[OutputDifference], reference: str, *, agrees: bool) -> str:
    if not any(output.n_unequal for output in compared):
        return f"identical to those of {reference}"
    words = f"{'agree' if agrees else 'DISAGREE'} with {reference}"
    figures = []
    cosines = [output.cosine for output in compared if output.cosine is not None]
    if cosines:
        figures.append(f"cosine ≥ {_rounded_down(min(cosines))}")
    worst = max(compared, key=lambda output: (output.max_error_of_peak or 0.0, output.max_error or 0.0))
    if worst.max_error is not None:
        figures.append(f"max error {worst.max_error:.2g} (of peak {worst.peak:.3g})")
    return f"{words}: {', '.join(figures)}" if figures else words


def _rounded_down(cosine: float) -> str:
    scale = 10**COSINE_DIGITS
    return f"{math.floor(cosine * scale) / scale:.{COSINE_DIGITS}f}"


def _extent(compared: list[OutputDifference]) -> list[str]:
    n_all, n = sum(output.n_values for output in compared), sum(output.n_compared for output in compared)
    return [f"compared {count(n)} of {count(n_all)} values, evenly spread"] if n < n_all else []
