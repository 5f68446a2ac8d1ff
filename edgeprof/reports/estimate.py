"""Predictions as text and as a JSON document: latency with its interval, the bill of each operator, what is unknown."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from edgeprof.models.groups import counted
from edgeprof.reports.quantities import duration, percent, plain
from latency_models.estimate import BOUND, DATA_SHEET, Estimate

__all__ = ["render_estimate", "render_predictor", "to_document", "write_documents"]

SCHEMA = 1
MOST_UNCOVERED = 8
# A correction of the sum that is smaller than this share is not shown.
LEAST_SHOWN = 1e-3
MEBIBYTE = 1024 * 1024
ORIGINS = {
    "learned": "predicted from measurements of the device",
    "emulated": "predicted from an EMULATED device: it tells nothing of real hardware",
    "simulated": "predicted from a SIMULATED board: nothing of it was measured on hardware",
    DATA_SHEET: "DATA SHEET: reckoned from what is published of the board; nothing was measured",
}


def render_estimate(model: str, estimate: Estimate, top: int = 12, predictor: str | None = None) -> RenderableType:
    """One prediction: the figure with its interval, what it does not know, and the operators that cost most.

    The name of the predictor is told where that of its target is another one.
    """
    interval = f"{duration(estimate.low_s)} to {duration(estimate.high_s)}"
    parts: list[RenderableType] = [
        f"[bold]{escape(plain(model))}[/] on {escape(estimate.target)}: [bold]{duration(estimate.latency_s)}[/]"
        f"  ({100 * estimate.level:g}% interval {interval})",
        f"  {ORIGINS.get(estimate.origin, estimate.origin)}",
    ]
    if predictor is not None and not estimate.target.startswith(f"{predictor} "):
        parts.append(f"  by the predictor {escape(plain(predictor))}")
    if estimate.distance > 0.1:
        parts.append(
            f"  it lies {estimate.distance:.1f} factors of two beyond what was measured: the interval is wider"
        )
    parts += [f"  [yellow]{escape(plain(note))}[/]" for note in estimate.notes]
    parts += _others(estimate)
    parts += _uncovered(estimate)
    if estimate.operators:
        parts.append(_bill(estimate, top))
    return Group(*parts)


def _others(estimate: Estimate) -> list[RenderableType]:
    parts: list[RenderableType] = []
    if estimate.energy is not None:
        one = estimate.energy
        parts.append(f"  energy above rest {one.value * 1e3:.3g} mJ  ({one.low * 1e3:.3g} to {one.high * 1e3:.3g})")
    elif estimate.energy_missing:
        parts.append(f"  no energy: {escape(estimate.energy_missing)}")
    if estimate.peak_memory is not None:
        one = estimate.peak_memory
        low, high = one.low / MEBIBYTE, one.high / MEBIBYTE
        parts.append(f"  peak memory {one.value / MEBIBYTE:.3g} MiB  ({low:.3g} to {high:.3g})")
    elif estimate.peak_memory_missing:
        parts.append(f"  no peak memory: {escape(estimate.peak_memory_missing)}")
    return parts


def _uncovered(estimate: Estimate) -> list[RenderableType]:
    if not estimate.uncovered:
        return []
    reasons: dict[str, list[str]] = defaultdict(list)
    for one in estimate.uncovered:
        reasons[one.reason].append(one.operator)
    kernels = counted(len(estimate.uncovered), "kernel")
    head = f"[yellow]not covered: {kernels} with a bound and no prediction[/]"
    parts: list[RenderableType] = [f"  {head} ({percent(estimate.uncovered_share)} of the sum)"]
    for reason, operators in list(reasons.items())[:MOST_UNCOVERED]:
        others = f" and {len(operators) - 1} more" if len(operators) > 1 else ""
        parts.append(f"    {escape(plain(reason))}: {escape(plain(operators[0]))}{others}")
    if len(reasons) > MOST_UNCOVERED:
        parts.append(f"    and {len(reasons) - MOST_UNCOVERED} more reasons (--json has all)")
    return parts


def _bill(estimate: Estimate, top: int) -> Table:
    """Kernels, what is in none of them, and what the whole net takes more or less than their sum: it adds up."""
    total = estimate.summed_s or 1.0
    table = Table(box=box.SIMPLE, pad_edge=False)
    for name in ("nodes", "kernel"):
        table.add_column(name, overflow="fold")
    for name in ("predicted", "interval", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("by")
    dearest = sorted(estimate.operators, key=lambda one: -one.latency_s)
    for one in dearest[:top]:
        table.add_row(
            escape(plain(", ".join(one.nodes[:3]) + (" ..." if len(one.nodes) > 3 else ""))),
            escape(one.family),
            duration(one.latency_s),
            f"{duration(one.low_s)} to {duration(one.high_s)}",
            percent(one.latency_s / total),
            one.basis,
        )
    left = dearest[top:]
    if left:
        seconds = sum(one.latency_s for one in left)
        table.add_row(f"{len(left)} more", "", duration(seconds), "", percent(seconds / total), "")
    if estimate.undescribed_s:
        seconds = estimate.undescribed_s
        table.add_row("of unknown shapes", "", duration(seconds), "", percent(seconds / total), BOUND)
    off_s = estimate.latency_s - estimate.summed_s
    if abs(off_s) > LEAST_SHOWN * estimate.latency_s:
        sign = "-" if off_s < 0 else "+"
        table.add_row("the whole net", "", f"{sign}{duration(abs(off_s))}", "", "", "correction")
    return table


# --- predictors -------------------------------------------------------------------------------------------------------


def render_predictor(metrics: Mapping[str, float], worst: int | None = None) -> RenderableType:
    """Held-out errors: end to end, and of each family of kernels, or of so many that weigh most: error times number."""
    parts: list[RenderableType] = []
    n = int(metrics.get("nets/n", 0))
    if n:
        parts.append(
            f"whole nets that were held out: {n}, mean error {percent(metrics['nets/mape'])}, "
            f"within 5 %: {percent(metrics['nets/within5'])}, within 10 %: {percent(metrics['nets/within10'])}"
        )
    else:
        parts.append("no whole net was measured yet: sums are not corrected, intervals are not calibrated")
    families = sorted({key.split("/")[1] for key in metrics if key.startswith("kernels/")})
    if not families:
        return Group(*parts)
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("kernels held out" if worst is None else "kernels held out that err most")
    for name in ("measured", "mean error", "within 10 %"):
        table.add_column(name, justify="right")
    count = {name: int(metrics[f"kernels/{name}/n"]) for name in families}
    error = {name: metrics[f"kernels/{name}/mape"] for name in families}
    families.sort(key=lambda name: -count[name] * (1.0 if worst is None else error[name]))
    shown = families[:worst]
    for name in shown:
        table.add_row(
            escape(name),
            str(count[name]),
            percent(error[name]),
            percent(metrics[f"kernels/{name}/within10"]),
        )
    if len(families) > len(shown):
        table.add_row(f"{len(families) - len(shown)} more (predictors show NAME)", "", "", "")
    parts.append(table)
    return Group(*parts)


# --- documents --------------------------------------------------------------------------------------------------------


def to_document(model: str, estimate: Estimate, path: str | None = None) -> dict[str, Any]:
    """The prediction as JSON: docs/reference/predictions.md. Infinite distances are null."""
    return {
        "schema": SCHEMA,
        "model": model,
        "path": path,
        "target": estimate.target,
        "origin": estimate.origin,
        "latency_s": estimate.latency_s,
        "low_s": estimate.low_s,
        "high_s": estimate.high_s,
        "level": estimate.level,
        "distance": _finite(estimate.distance),
        "energy": _interval(estimate.energy, "j"),
        "energy_missing": estimate.energy_missing,
        "peak_memory": _interval(estimate.peak_memory, "bytes"),
        "peak_memory_missing": estimate.peak_memory_missing,
        "operators": [
            {
                "nodes": list(one.nodes),
                "family": one.family,
                "latency_s": one.latency_s,
                "low_s": one.low_s,
                "high_s": one.high_s,
                "basis": one.basis,
                "distance": _finite(one.distance),
                "macs": one.macs,
                "energy_j": one.energy_j,
            }
            for one in estimate.operators
        ],
        "uncovered": [
            {"operator": one.operator, "reason": one.reason, "latency_s": one.latency_s} for one in estimate.uncovered
        ],
        "notes": list(estimate.notes),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _interval(found: Any, unit: str) -> dict[str, float] | None:
    if found is None:
        return None
    value, low, high = found.value, found.low, found.high
    if unit == "bytes":
        value, low, high = round(value), round(low), round(high)
    return {f"value_{unit}": value, f"low_{unit}": low, f"high_{unit}": high, "level": found.level}


def write_documents(documents: Sequence[dict[str, Any]], *, is_one: bool) -> str:
    """JSON text: an object for one model, a list for several."""
    return json.dumps(documents[0] if is_one else list(documents), indent=1, allow_nan=False) + "\n"
