"""Operators added up by type, by block or by source layer: pure functions of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from edgeprof.operators import OperatorRow, operator_rows
from edgeprof.run import Run

__all__ = ["By", "OperatorGroup", "operator_groups"]

By = Literal["node", "type", "block", "layer"]


@dataclass(frozen=True, kw_only=True)
class OperatorGroup:
    """Kernels of one group. `time_s` is the sum of their medians, `share` of the sum over all kernels.

    `macs` is None where that of any kernel is not known; layout kernels have none to know.
    """

    name: str
    n_kernels: int
    time_s: float
    share: float | None
    macs: int | None


def operator_groups(run: Run, by: str) -> list[OperatorGroup]:
    """Groups, the longest first; empty where there was no operator pass.

    Layout and unmapped kernels are groups of their own, and so is what has no block or no layer.

    Raises:
        ValueError: there is no such grouping.
    """
    if by not in get_args(By):
        raise ValueError(f"operators are grouped by {', '.join(get_args(By))}, not by {by!r}")
    members: dict[str, list[OperatorRow]] = {}
    for row in operator_rows(run):
        members.setdefault(_name(row, by), []).append(row)
    return sorted((_group(name, rows) for name, rows in members.items()), key=lambda group: -group.time_s)


def _name(row: OperatorRow, by: str) -> str:
    if row.origin in ("layout", "unmapped"):
        return f"({row.origin})"
    told = {"node": row.name, "type": row.type, "block": row.block, "layer": row.layer}[by]
    return told or f"(no {by} known)"


def _group(name: str, rows: list[OperatorRow]) -> OperatorGroup:
    macs = [row.macs or 0 if row.origin == "layout" else row.macs for row in rows]
    known = [count for count in macs if count is not None]
    shares = [row.share for row in rows if row.share is not None]
    return OperatorGroup(
        name=name,
        n_kernels=len(rows),
        time_s=sum(row.median_s or 0.0 for row in rows),
        share=sum(shares) if shares else None,
        macs=sum(known) if len(known) == len(macs) else None,
    )
