"""Hold a predictor against runs that were measured: what it says of a model's kernels, and what the model took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from edgeprof.errors import MeasurementError
from edgeprof.models.groups import counted
from edgeprof.run import Run
from edgeprof.statistics import summarise
from edgeprof.training.observed import net_sample, target_of
from edgeprof.verdict import judge
from latency_models.adapted import Adapted
from latency_models.evaluation import Figures, figures
from latency_models.making_kernels import Kernels
from latency_models.predictor import Predictor

__all__ = ["Evaluation", "Row", "evaluate_runs"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run beside its prediction, in seconds; `verdict` is that of the run."""

    run: str
    model: str
    measured_s: float
    predicted_s: float
    low_s: float
    high_s: float
    n_uncovered: int
    verdict: str
    is_dependable: bool

    @property
    def error(self) -> float:
        """Relative to what was measured: 0.1 is a tenth too much."""
        return self.predicted_s / self.measured_s - 1.0


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All runs that could be compared, and why others could not, by run.

    `figures` are of those alone whose verdict does not speak against them; None where there are none.
    """

    rows: tuple[Row, ...]
    left_out: dict[str, str]
    figures: Figures | None

    def to_document(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {
            "figures": asdict(self.figures) if self.figures is not None else None,
            "rows": [{**asdict(row), "error": row.error} for row in self.rows],
            "left_out": self.left_out,
        }


def evaluate_runs(predictor: Predictor | Adapted, runs: Sequence[Run], level: float = 0.9) -> Evaluation:
    """Predict each run's kernels as the runtime made them, and compare with its median."""
    rows, left_out = [], {}
    for run in runs:
        reason = _unfit(predictor, run)
        if reason is not None:
            left_out[run.id] = reason
            continue
        verdict = judge(run.profile)
        kernels = tuple(one.kernel for one in run.described)
        estimate = predictor.estimate(Kernels(kernels, tuple(one.nodes for one in run.described)), level)
        rows.append(
            Row(
                run=run.id,
                model=run.profile.job.model.name,
                measured_s=summarise(run.profile).median_s,
                predicted_s=estimate.latency_s,
                low_s=estimate.low_s,
                high_s=estimate.high_s,
                n_uncovered=len(estimate.uncovered),
                verdict=verdict.level,
                is_dependable=verdict.is_dependable,
            )
        )
    dependable = [row for row in rows if row.is_dependable]
    found = figures(
        [row.measured_s for row in dependable],
        [row.predicted_s for row in dependable],
        [row.low_s for row in dependable],
        [row.high_s for row in dependable],
    )
    return Evaluation(rows=tuple(rows), left_out=left_out, figures=found)


def _unfit(predictor: Predictor | Adapted, run: Run) -> str | None:
    target = replace(target_of(run), device=predictor.target.device)
    if target != predictor.target:
        threads = counted(target.threads, "thread")
        return f"another target: {target.runtime} {target.runtime_version}, {threads}, {target.origin}"
    if run.id in _own_runs(predictor):
        return "the predictor was trained with it"
    if net_sample(run, "") is None:
        return "its kernels are not all described: profile with --operators"
    try:
        summarise(run.profile)
    except MeasurementError as error:
        return str(error)
    return None


def _own_runs(predictor: Predictor | Adapted) -> Sequence[object]:
    """The user's runs that it was trained with, by their identifiers."""
    found = predictor.provenance.get("own_runs", ())
    return found if isinstance(found, list | tuple) else ()
