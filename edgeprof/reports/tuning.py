"""A tuning as tables on a terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from device_agents.wire import MEASURED, SIMULATED
from edgeprof.reports.quantities import duration, energy, energy_interval, interval, plain
from edgeprof.tuning.objective import EDP, LATENCY, Objective
from edgeprof.tuning.outcome import Judged, Outcome, cap_sentence, conclusion
from edgeprof.tuning.session import Found
from edgeprof.values import Value

__all__ = ["objective_words", "render_tuning", "to_document"]

SCHEMA = 1
MOST_TIES, MOST_FAILURES = 5, 5


def render_tuning(found: Found, recipe: Path, code: Sequence[Path] = ()) -> RenderableType:
    """The default, what is handed over, what cannot be told from it, the front, and what it all rests on."""
    outcome = found.outcome
    parts: list[RenderableType] = [_rows(outcome)]
    if len(outcome.front) > 1:
        parts.append(_front(outcome))
    parts += [Text(plain(line), style=style) for line, style in _lines(found)]
    parts.append(Text(plain(f"recipe: {recipe}")))
    if code:
        parts.append(Text(plain("code: " + ", ".join(map(str, code)) + " (C++ and Kotlin: not compiled here)")))
    return Group(*parts)


def _rows(outcome: Outcome) -> Table:
    table = _table(outcome, f"for {outcome.objective.name}", "")
    for role, judged in _roles(outcome):
        style = "bold" if judged is outcome.chosen else ""
        table.add_row(role, *_cells(judged, outcome), style=style)
    return table


def _roles(outcome: Outcome) -> Iterator[tuple[str, Judged]]:
    if outcome.default is not None and outcome.default is not outcome.chosen:
        yield "default", outcome.default
    yield ("the default, handed over" if outcome.is_default_as_good else "handed over"), outcome.chosen
    if outcome.best is not outcome.chosen:
        yield "smallest, not surely", outcome.best
    ties = [one for one in outcome.ties if one is not outcome.chosen]
    for one in ties[:MOST_TIES]:
        yield "not told apart", one
    alone = outcome.without_root
    if alone is not None and outcome.chosen.configuration.needs and alone not in ties[:MOST_TIES]:
        yield "best without root", alone


def _front(outcome: Outcome) -> Table:
    table = _table(outcome, "latency against energy, by what was measured", "front")
    for number, one in enumerate(outcome.front, 1):
        table.add_row(str(number), *_cells(one, outcome))
    return table


def _table(outcome: Outcome, title: str, first: str) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False, title=title)
    table.add_column(first)
    table.add_column("configuration", overflow="fold")
    table.add_column("latency", justify="right")
    if _has_energy(outcome):
        table.add_column("energy above rest", justify="right")
    if outcome.objective.name == EDP:
        table.add_column("energy x time", justify="right")
    if outcome.objective.latency_budget_s is not None:
        table.add_column("in budget")
    table.add_column("needs")
    table.add_column("from")
    return table


def _cells(judged: Judged, outcome: Outcome) -> Iterator[str]:
    yield plain(judged.configuration.name)
    yield _range(*interval(judged.latency.value, judged.latency.low, judged.latency.high))
    if _has_energy(outcome):
        value = judged.energy
        yield _range(*energy_interval(value.value, value.low, value.high)) if value is not None else "not measured"
    if outcome.objective.name == EDP:
        middle, low, high = judged.value.value, judged.value.low, judged.value.high
        yield f"{objective_words(outcome.objective, middle)} ({low:.3g} to {high:.3g})"
    if outcome.objective.latency_budget_s is not None:
        yield "yes" if judged.keeps_budget else "not surely"
    yield ", ".join(judged.configuration.needs) or "-"
    yield judged.latency.origin


def objective_words(objective: Objective, value: float) -> str:
    """A number of what shall be small, in its unit."""
    if objective.name == EDP:
        return f"{value:.3g} J s"
    return duration(value) if objective.name == LATENCY else energy(value)


def _has_energy(outcome: Outcome) -> bool:
    return outcome.objective.needs_energy or outcome.chosen.energy is not None


def _range(middle: str, bounds: str) -> str:
    return f"{middle} ({bounds})"


def _lines(found: Found) -> Iterator[tuple[str, str]]:
    """What is said below the tables, with its style."""
    outcome = found.outcome
    if outcome.chosen.latency.origin == SIMULATED:
        yield "SIMULATED board: nothing of it was measured", "yellow"
    yield conclusion(outcome), "bold" if outcome.chosen.keeps_budget else "bold yellow"
    n_more = len([one for one in outcome.ties if one is not outcome.chosen]) - MOST_TIES
    if n_more > 0:
        yield f"and {n_more} more that cannot be told apart", "dim"
    before = f", {found.n_before} of them in earlier sittings" if found.n_before else ""
    yield (
        (
            f"{found.n_measured} of {found.n_configurations} configurations were measured, "
            f"in {found.n_jobs} measurements{before}; ended: {found.why}"
        ),
        "",
    )
    if outcome.chosen.configuration.needs:
        without = outcome.without_root
        rest = f"the best without it: {without.configuration.name}" if without is not None else "nothing else ran"
        yield f"needs {', '.join(outcome.chosen.configuration.needs)} (its caps of clocks); {rest}", "yellow"
    why = cap_sentence(outcome)
    if why is not None:
        yield why, ""
    for one in outcome.failed[:MOST_FAILURES]:
        yield f"did not run: {one.configuration.name}: {one.failure}", "yellow"
    if len(outcome.failed) > MOST_FAILURES:
        yield f"and {len(outcome.failed) - MOST_FAILURES} more that did not run", "yellow"
    for note in dict.fromkeys((*found.notes, *(note for one in outcome.chosen.seen.measured for note in one.notes))):
        yield note, "yellow"


# --- as JSON --------------------------------------------------------------------------------------------------------


def to_document(found: Found) -> dict[str, Any]:
    """The whole as plain data; units are in the names."""
    outcome = found.outcome
    return {
        "schema": SCHEMA,
        "objective": outcome.objective.name,
        "latency_budget_s": outcome.objective.latency_budget_s,
        "origin": outcome.chosen.latency.origin,
        "is_measured": outcome.chosen.latency.origin == MEASURED,
        "conclusion": conclusion(outcome),
        "default_is_as_good": outcome.is_default_as_good,
        "keeps_budget": outcome.chosen.keeps_budget,
        "chosen": _judged(outcome.chosen),
        "best": _judged(outcome.best),
        "default": _judged(outcome.default) if outcome.default is not None else None,
        "default_failure": outcome.default_failure,
        "without_root": _judged(outcome.without_root) if outcome.without_root is not None else None,
        "ties": [_judged(one) for one in outcome.ties],
        "front": [_judged(one) for one in outcome.front],
        "failed": [{"configuration": one.configuration.name, "reason": one.failure} for one in outcome.failed],
        "n_configurations": found.n_configurations,
        "n_measured": found.n_measured,
        "n_jobs": found.n_jobs,
        "n_before": found.n_before,
        "ended_by": found.ended_by,
        "why_ended": found.why,
        "cap_sentence": cap_sentence(outcome),
        "notes": list(found.notes),
        "recipe": msgspec.to_builtins(found.recipe),
    }


def _judged(one: Judged) -> dict[str, Any]:
    return {
        "name": one.configuration.name,
        "configuration": asdict(one.configuration),
        "value": _value(one.value),
        "latency_s": _value(one.latency),
        "energy_j": _value(one.energy) if one.energy is not None else None,
        "keeps_budget": one.keeps_budget,
        "needs": list(one.configuration.needs),
        "runs": list(one.seen.runs),
    }


def _value(value: Value) -> dict[str, Any]:
    return asdict(value)
