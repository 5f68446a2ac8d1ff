"""What `edgeprof optimize` found: a table of everything that was tried, what was rejected and why, and the front."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgeprof.optimize.candidate import ORIGINAL
from edgeprof.optimize.contest import Tried
from edgeprof.optimize.explaining import Finding, explain, explain_against, too_short
from edgeprof.optimize.session import Optimized
from edgeprof.reports.quantities import duration, energy_interval, interval, plain, size

__all__ = ["findings", "render_optimized", "to_document"]

# Version of the JSON document (docs/reference/optimize.md).
SCHEMA = 1


def render_optimized(found: Optimized, findings: list[Finding]) -> RenderableType:
    """Everything, the fastest first; then what was rejected, and the findings."""
    alive = [one for one in found.tried if not one.reason and one.standing is not None]
    parts: list[RenderableType] = [_head(found), _table(found, alive)]
    rejected = [one for one in found.tried if one.reason]
    if rejected:
        parts.append(Text("Rejected", style="bold"))
        parts += [Text(plain(f"  {one.name}: {one.reason}")) for one in rejected]
    if findings:
        parts.append(
            Text("Why (shares of all that the original's operators take, as the profiler saw them)", style="bold")
        )
        parts += [_finding(one) for one in findings]
    short = [name for name, run in found.profiles.items() if too_short(run)]
    if short:
        parts.append(Text(plain(f"too short for the profiler's clock to say much of operators: {', '.join(short)}")))
    parts += [Text(plain(note), style="dim") for note in found.notes]
    parts.append(_conclusion(found))
    kept = [
        one.candidate.path for one in found.tried if one.name in found.front and one.kind != ORIGINAL and one.candidate
    ]
    if kept:
        parts.append(Text(plain(f"files of the front: {kept[0].parent}")))
    return Group(*parts)


def _head(found: Optimized) -> Text:
    judged = f"judged by {found.metric} on {found.n_samples} samples"
    if found.score is not None:
        judged += f" (the original: {found.score:.4f})"
    if found.n_calibration:
        judged += f", calibrated with {found.n_calibration} others"
    budget = f"; it may lose {found.budget:.2%}" if found.budget is not None else "; lossless changes alone"
    return Text(plain(f"{found.model.name} on {found.device}, {found.runtime}: {judged}{budget}"), style="bold")


def _table(found: Optimized, alive: list[Tried]) -> Table:
    has_energy = any(one.energy is not None for one in alive)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("Candidate")
    for name in ("Latency", "95 % interval", "Times as fast", "Size", "Memory", "Loses", "at most"):
        table.add_column(name, justify="right")
    if has_energy:
        table.add_column("Energy", justify="right")
    table.add_column("")
    for one in sorted(alive, key=lambda one: one.standing.latency.value if one.standing else 0.0):
        if one.standing is None:
            continue
        latency, speedup = one.standing.latency, one.standing.speedup
        middle, ends = interval(latency.value, latency.low, latency.high)
        loss = one.decision.loss
        row = [
            plain(one.name),
            middle,
            ends,
            "" if one.name == ORIGINAL else f"{speedup.value:.2f} ({speedup.low:.2f} to {speedup.high:.2f})",
            size(one.size_bytes),
            size(one.memory_bytes),
            "" if loss is None or one.name == ORIGINAL else f"{loss.observed:.2%}",
            "" if loss is None or one.name == ORIGINAL else f"{loss.bound:.2%}",
        ]
        if has_energy:
            row.append(
                " ".join(energy_interval(one.energy.value, one.energy.low, one.energy.high)) if one.energy else ""
            )
        mark = "best" if one.name == found.best else "front" if one.name in found.front else ""
        table.add_row(*row, mark, style="bold green" if one.name == found.best else None)
    return table


def _finding(one: Finding) -> RenderableType:
    cost = f"{duration(abs(one.cost_s))} ({abs(one.share):.0%})"
    lines = [Text(plain(f"  {one.name}: {one.what}: {'gains' if one.cost_s < 0 else 'costs'} {cost}"))]
    if one.remedy:
        lines.append(Text(plain(f"    -> {one.remedy}"), style="cyan"))
    return Group(*lines)


def _conclusion(found: Optimized) -> Text:
    origin = next((one.standing.latency.origin for one in found.tried if one.standing is not None), "measured")
    best = next((one for one in found.tried if one.name == found.best), None)
    if best is None or best.standing is None or best.candidate is None:
        return Text("Nothing is faster than the original for sure: keep it.", style="bold")
    of = best.standing.speedup
    text = f"{best.candidate.path}: {of.value:.2f} times as fast ({of.low:.2f} to {of.high:.2f}, {origin})"
    if best.decision.loss is not None:
        text += f", loses {best.decision.loss.observed:.2%} (at most {best.decision.loss.bound:.2%}) of {found.metric}"
    return Text(plain(text), style="bold")


def findings(found: Optimized) -> list[Finding]:
    """Of the original, and of every other file against it; empty without `--explain`."""
    original = found.profiles.get(ORIGINAL)
    told = explain(ORIGINAL, original) if original is not None else []
    for name, run in found.profiles.items():
        if name != ORIGINAL and original is not None:
            told += [*explain_against(name, run, original), *explain(name, run)]
    return told


def to_document(found: Optimized, told: list[Finding]) -> dict[str, Any]:
    """As JSON: docs/reference/optimize.md."""
    return {
        "schema": SCHEMA,
        "model": {"name": found.model.name, "digest": found.model.digest, "format": found.model.format},
        "device": found.device,
        "runtime": found.runtime,
        "metric": found.metric,
        "original_score": found.score,
        "n_samples": found.n_samples,
        "n_calibration": found.n_calibration,
        "max_accuracy_drop": found.budget,
        "front": list(found.front),
        "best": found.best,
        "candidates": [_candidate(one) for one in found.tried],
        "findings": [asdict(one) for one in told],
        "notes": list(found.notes),
    }


def _candidate(one: Tried) -> dict[str, Any]:
    loss, standing = one.decision.loss, one.standing
    return {
        "name": one.name,
        "kind": one.kind,
        "rejected": one.reason or None,
        "file": str(one.candidate.path) if one.candidate is not None and one.candidate.path.exists() else None,
        "steps": [asdict(step) for step in one.steps],
        "size_bytes": one.size_bytes,
        "memory_bytes": one.memory_bytes,
        "score": loss.score if loss is not None else None,
        "loss": loss.observed if loss is not None else None,
        "loss_bound": loss.bound if loss is not None else None,
        "largest_error_of_peak": one.decision.error,
        "latency_s": asdict(standing.latency) if standing is not None else None,
        "speedup": asdict(standing.speedup) if standing is not None else None,
        "n_sweeps": standing.n_sweeps if standing is not None else 0,
        "energy_j": asdict(one.energy) if one.energy is not None else None,
        "runs": list(one.runs),
    }
