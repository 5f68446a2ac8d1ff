"""The structural check of a mapping in one line."""

from __future__ import annotations

from edgeprof.models.groups import counted
from edgeprof.run import Structure

__all__ = ["structure_line"]

NAMES_SHOWN = 5


def structure_line(structure: Structure) -> str:
    """Whether every node of the file is in exactly one group, and which are not."""
    told = f"{structure.n_grouped} of {structure.n_nodes} nodes in exactly one group"
    if structure.n_folded:
        told += f", {structure.n_folded} computed at load"
    if structure.n_idle:
        told += f", {structure.n_idle} not run"
    failures = (
        ("node", "in several groups", structure.n_repeated, structure.repeated),
        ("node", "in none", structure.n_missing, structure.missing),
        ("kernel", "without origin", structure.n_unmapped, tuple(map(str, structure.unmapped))),
    )
    for kind, what, n, names in failures:
        if n:
            more = f" and {n - NAMES_SHOWN} more" if n > NAMES_SHOWN else ""
            told += f"; {counted(n, kind)} {what}: {', '.join(names[:NAMES_SHOWN])}{more}"
    return told
