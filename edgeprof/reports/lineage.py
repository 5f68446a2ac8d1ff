"""Which model came from which, with what runs say of each: a tree on a terminal, or JSON."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from device_agents.wire import MEASURED
from edgeprof.errors import MeasurementError, StoreError
from edgeprof.lineage import Branch, Lineage, branches
from edgeprof.reports.quantities import duration, plain
from edgeprof.statistics import summarise
from edgeprof.store import Store

__all__ = ["Family", "Member", "Ran", "family", "render_family"]

SHORT_DIGEST = 12
INDENT = "   "
MOST_OPTIONS = 6


@dataclass(frozen=True, kw_only=True)
class Ran:
    """The newest of `n_runs` runs of a model on a device with a runtime; `missing` is why it has no median."""

    run: str
    device: str
    runtime: str
    origin: str
    median_s: float | None
    missing: str | None
    n_runs: int


@dataclass(frozen=True, kw_only=True)
class Member:
    """One model: `name` is None where neither a run nor a transform named it."""

    digest: str
    name: str | None
    runs: tuple[Ran, ...]


@dataclass(frozen=True, kw_only=True)
class Family:
    """The lineage of a model, and every model in it."""

    lineage: Lineage
    members: tuple[Member, ...]


def family(store: Store, digest: str) -> Family:
    """What the store knows of the model, of those that led to it, and of those that were made of it."""
    lineage = store.lineage(digest)
    digests = tuple(dict.fromkeys(line.digest for line in branches(lineage)))
    names = store.model_names(digests)
    members = (Member(digest=one, name=names.get(one), runs=_ran(store, one)) for one in digests)
    return Family(lineage=lineage, members=tuple(members))


def _ran(store: Store, digest: str) -> tuple[Ran, ...]:
    rows = [row for row in store.list(model=digest) if row.model_digest == digest]
    newest = {(row.device, row.runtime): row for row in reversed(rows)}
    counts = [sum((row.device, row.runtime) == place for row in rows) for place in newest]
    found = []
    for row, run, n_runs in zip(newest.values(), store.read(newest.values()), counts, strict=True):
        median_s, missing = None, None
        try:
            if isinstance(run, StoreError):
                raise run
            median_s = summarise(run.profile).median_s
        except (StoreError, MeasurementError) as error:
            missing = str(error)
        found.append(
            Ran(
                run=row.id,
                device=row.device,
                runtime=row.runtime,
                origin=row.origin,
                median_s=median_s,
                missing=missing,
                n_runs=n_runs,
            )
        )
    return tuple(sorted(found, key=lambda one: (one.device, one.runtime)))


def render_family(found: Family) -> RenderableType:
    """The tree, each model with its runs below it; the one that was asked for is marked."""
    members = {member.digest: member for member in found.members}
    lines: list[Text] = []
    for line in branches(found.lineage):
        lines += _lines(line, members, is_asked=line.digest == found.lineage.digest)
    if not (found.lineage.ancestors or found.lineage.descendants):
        lines.append(Text("nothing is known of where it came from, nor of anything made of it", style="dim"))
    return Group(*lines)


def _lines(line: Branch, members: Mapping[str, Member], *, is_asked: bool) -> list[Text]:
    member, indent = members[line.digest], INDENT * line.depth
    name = plain(member.name) if member.name is not None else "(no name)"
    head = Text.assemble(indent, (name, "bold reverse" if is_asked else "bold"), f"  {line.digest[:SHORT_DIGEST]}")
    if line.by is not None:
        head.append(f"  by {_by(line)}")
    if line.is_known:
        head.append("  (see above)", style="dim")
        return [head]
    return [head, *(Text(f"{indent}{INDENT}{_told(run)}", style="dim") for run in member.runs)]


def _by(line: Branch) -> str:
    by = line.by
    if by is None:
        return ""
    options = [f"{key}={text}" for key, text in sorted(by.options.items())]
    shown = ", ".join(options[:MOST_OPTIONS]) + (", ..." if len(options) > MOST_OPTIONS else "")
    when = time.strftime("%Y-%m-%d", time.gmtime(by.created_at_s))
    return plain(f"{by.transform} ({by.tool} {by.tool_version}{f'; {shown}' if shown else ''}), {when}")


def _told(ran: Ran) -> str:
    median = duration(ran.median_s) if ran.median_s is not None else f"no latency ({ran.missing})"
    origin = "" if ran.origin == MEASURED else f", {ran.origin.upper()}"
    more = f", the newest of {ran.n_runs}" if ran.n_runs > 1 else ""
    return plain(f"{median} on {ran.device}, {ran.runtime}{origin} (run {ran.run}{more})")
