"""Predictors as tables: which there are, what one was trained on, how it stands against runs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from edgeprof.models.groups import counted
from edgeprof.reports.quantities import duration, percent, plain
from latency_models.adapted import Adapted
from latency_models.correction import Correction
from latency_models.predictor import Predictor

if TYPE_CHECKING:
    from edgeprof.training.evaluating import Evaluation

__all__ = ["render_evaluation", "render_list", "render_provenance", "to_row", "to_rows", "what_of"]


def to_row(name: str, predictor: Predictor | Adapted) -> dict[str, Any]:
    """A predictor as plain values."""
    return {
        "name": name,
        "target": asdict(predictor.target),
        "metrics": dict(predictor.metrics),
        "provenance": dict(predictor.provenance),
    }


def to_rows(found: Mapping[str, Predictor | Adapted]) -> list[dict[str, Any]]:
    """Predictors as plain values, by name."""
    return [to_row(name, predictor) for name, predictor in found.items()]


def render_list(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """A line for each predictor."""
    table = Table(box=box.SIMPLE, pad_edge=False)
    for column in ("name", "machine", "runtime", "threads", "origin"):
        table.add_column(column)
    for column in ("nets held out", "within 10 %", "kernels"):
        table.add_column(column, justify="right")
    for row in rows:
        target, metrics = row["target"], row["metrics"]
        n = int(metrics.get("nets/n", 0))
        table.add_row(
            escape(row["name"]),
            escape(plain(target["machine"])),
            f"{target['runtime']} {target['runtime_version']}",
            str(target["threads"]),
            target["origin"],
            str(n),
            percent(metrics["nets/within10"]) if n else "-",
            str(row["provenance"].get("n_kernels", "-")),
        )
    return table


def render_provenance(name: str, predictor: Predictor | Adapted) -> RenderableType:
    """What a predictor predicts, and what it was made of."""
    target, facts = predictor.target, predictor.provenance
    lines = [
        f"[bold]{escape(name)}[/]: {escape(plain(target.machine))} ({target.architecture}), {target.runtime} "
        f"{target.runtime_version}, {counted(target.threads, 'thread')}, {target.delegate or 'no delegate'}: "
        f"{target.origin}",
    ]
    if "measured_from_s" in facts:
        begun = time.strftime("%Y-%m-%d %H:%M", time.gmtime(float(str(facts["measured_from_s"]))))
        lines.append(
            f"  measured from {begun} UTC for {duration(float(str(facts.get('spent_s', 0.0))))}, "
            f"edgeprof {facts.get('edgeprof_version')}, seed {facts.get('seed')}"
        )
    if isinstance(predictor, Adapted):
        return Group(*lines, _render_blend(predictor))
    if "n_models" in facts:
        lines.append(
            f"  {what_of(facts)}; {facts.get('n_disturbed')} of the models were disturbed and are not used; "
            f"{counted(int(str(facts.get('n_kernels_of_own_runs') or 0)), 'kernel')} of your own runs"
            f"{_left_out(facts.get('n_own_runs_left_out'))}"
        )
    lines.extend(_render_correction("a net", predictor.correction))
    if predictor.correction_quantised not in (None, predictor.correction):
        lines.extend(_render_correction("one in whole numbers", predictor.correction_quantised))
    return Group(*lines)


def what_of(facts: Mapping[str, object]) -> str:
    """What a predictor was made of, in words."""
    kernels, nets, models = (
        counted(int(str(facts.get(name) or 0)), noun)
        for name, noun in (("n_kernels", "kernel"), ("n_nets", "whole net"), ("n_models", "model"))
    )
    return f"{kernels} and {nets} of {models}"


def _render_correction(what: str, one: Correction | None) -> list[str]:
    if one is None or not one.n_nets:
        return []
    factors = ", ".join(f"{value:.2f}" for value in one.factors)
    return [
        f"  {what} takes ({factors}) times its kernels that multiply, are depthwise, move; "
        f"{duration(one.per_kernel_s)} a kernel, {duration(one.per_run_s)} a run; "
        f"timing a kernel takes {duration(one.overhead_s)}; predicted nets are scaled by {one.scale:.2f}"
    ]


def _left_out(n_runs: object) -> str:
    return f" ({n_runs} of these runs are left out: their verdict speaks against them)" if n_runs else ""


def _render_blend(adapted: Adapted) -> str:
    sources = zip(adapted.blend.coefficients, adapted.sources, strict=False)
    said = ", ".join(f"{weight:.2f} of {escape(one.target.device)}" for weight, one in sources)
    n, n_disturbed = int(adapted.metrics["nets/n"]), adapted.provenance.get("n_disturbed", 0)
    shift, noise = adapted.blend.coefficients[-1], percent(adapted.blend.noise)
    return (
        f"  adapted with {n} whole nets ({n_disturbed} were disturbed and are not used): in logarithms {said}, "
        f"shifted by {shift:+.2f}; what is left is {noise}"
    )


def render_evaluation(name: str, evaluation: Evaluation) -> RenderableType:
    """Predictions beside what was measured."""
    parts: list[RenderableType] = []
    found = evaluation.figures
    if found is not None:
        rank = f", rank correlation {found.spearman:.3f}" if found.spearman is not None else ""
        parts.append(
            f"{escape(name)} against {counted(found.n, 'run')}: within 5 %: {percent(found.within5)}, within 10 %: "
            f"{percent(found.within10)}, mean error {percent(found.mape)}{rank}, "
            f"inside their 90 % intervals: {percent(found.coverage)}"
        )
    elif evaluation.rows:
        parts.append(f"{escape(name)}: the verdict of every run speaks against it, so that none counts in figures")
    else:
        parts.append(f"{escape(name)}: no run could be compared")
        if not evaluation.left_out:
            parts.append(
                "  no run of its device and runtime is in the store: "
                "edgeprof profile MODEL -d DEVICE --operators makes one"
            )
    n_doubtful = sum(not row.is_dependable for row in evaluation.rows)
    if found is not None and n_doubtful:
        parts.append(f"  {n_doubtful} more are shown, but do not count: their verdict speaks against them")
    if evaluation.rows:
        parts.append(_rows(evaluation))
    parts += [f"  left out {run}: {escape(plain(reason))}" for run, reason in list(evaluation.left_out.items())[:10]]
    if len(evaluation.left_out) > 10:
        parts.append(f"  and {len(evaluation.left_out) - 10} more")
    return Group(*parts)


def _rows(evaluation: Evaluation) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False)
    for column in ("run", "model"):
        table.add_column(column, overflow="fold")
    for column in ("measured", "predicted", "error", "interval", "uncovered"):
        table.add_column(column, justify="right")
    table.add_column("verdict")
    for row in evaluation.rows:
        table.add_row(
            row.run,
            escape(plain(row.model)),
            duration(row.measured_s),
            duration(row.predicted_s),
            f"{row.error:+.1%}",
            f"{duration(row.low_s)} to {duration(row.high_s)}",
            str(row.n_uncovered),
            row.verdict,
        )
    return table
