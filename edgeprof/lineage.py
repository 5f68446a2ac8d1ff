"""Which model file came from which, by what: an edge for each transform, and what they make together."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from edgeprof import __version__
from edgeprof.errors import StoreError

__all__ = ["Branch", "Descent", "Lineage", "branches", "check_descent"]

DIGEST = re.compile(r"[0-9a-f]{64}")
# The end of the year 9999, the last that Python's datetime can show.
END_OF_TIME_S = 253_402_300_800


@dataclass(frozen=True, kw_only=True)
class Descent:
    """One file came from another. Digests are those of runs (`ModelRef.digest`): of a model with all its files.

    `transform` is what was done, `tool` what did it, `options` how it was told to. `created_at_s`: seconds since 1970.
    """

    child_digest: str
    child_name: str
    parent_digest: str
    transform: str
    tool: str
    tool_version: str
    options: dict[str, str] = field(default_factory=dict)
    edgeprof_version: str = __version__
    created_at_s: float = field(default_factory=time.time)


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """All that led to the model `digest`, and all that was made of it; the nearest first."""

    digest: str
    ancestors: tuple[Descent, ...]
    descendants: tuple[Descent, ...]


@dataclass(frozen=True, kw_only=True)
class Branch:
    """A line of the tree, `depth` steps from its root. `by` is how it came from the line above it that is less deep.

    `is_known` where the same model stands further up already, with all that comes of it: files of several parents, or
    transforms that lead back to where they began.
    """

    depth: int
    digest: str
    by: Descent | None = None
    is_known: bool = False


def check_descent(descent: Descent, where: str) -> None:
    """Refuse what the types allow but no reader could use.

    Raises:
        StoreError: no digest, or an impossible date.
    """
    for name, digest in (("child_digest", descent.child_digest), ("parent_digest", descent.parent_digest)):
        if not DIGEST.fullmatch(digest):
            raise StoreError(f"{where}: {name} is {digest!r}, which is no SHA-256", "take the digest of a run's model")
    if not 0 <= descent.created_at_s < END_OF_TIME_S:
        raise StoreError(
            f"{where}: created_at_s is {descent.created_at_s}, which is no date", "give seconds since 1970"
        )


def branches(lineage: Lineage) -> tuple[Branch, ...]:
    """The tree, line by line: from every model that came from no other down to the last that was made of it."""
    below: dict[str, list[Descent]] = {}
    for edge in _unique((*lineage.ancestors, *lineage.descendants)):
        below.setdefault(edge.parent_digest, []).append(edge)
    children = {edge.child_digest for edges in below.values() for edge in edges}
    roots = [digest for digest in below if digest not in children] or [lineage.digest]
    seen: set[str] = set()
    return tuple(line for root in roots for line in _walk(root, below, seen))


def _unique(edges: Iterable[Descent]) -> Iterator[Descent]:
    """In a circle the same edge leads to a model and away from it."""
    return iter({(edge.child_digest, edge.parent_digest, edge.transform): edge for edge in edges}.values())


def _walk(root: str, below: Mapping[str, list[Descent]], seen: set[str]) -> Iterator[Branch]:
    waiting = [Branch(depth=0, digest=root)]
    while waiting:
        line = waiting.pop()
        if line.digest in seen:
            yield Branch(depth=line.depth, digest=line.digest, by=line.by, is_known=True)
            continue
        seen.add(line.digest)
        yield line
        edges = sorted(
            below.get(line.digest, ()), key=lambda edge: (edge.created_at_s, edge.child_digest), reverse=True
        )
        waiting += [Branch(depth=line.depth + 1, digest=edge.child_digest, by=edge) for edge in edges]
