"""The outcome of `edgeprof check` for people, for a summary in Markdown, for a JUnit reader, and as JSON."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgeprof.checking import Check, Outcome
from edgeprof.errors import EdgeprofError, MeasurementError
from edgeprof.regression import FAILED, INCONCLUSIVE, PASSED
from edgeprof.reports.quantities import duration, plain
from edgeprof.run import Run
from edgeprof.statistics import summarise

__all__ = ["check_document", "junit_of_error", "junit_xml", "markdown", "render_outcome"]

STYLES = {PASSED: "bold green", FAILED: "bold red", INCONCLUSIVE: "bold yellow"}
# What XML 1.0 cannot carry, not even escaped (section 2.2 of the recommendation).
NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
SUITE = "edgeprof check"


def render_outcome(outcome: Outcome) -> RenderableType:
    """For a terminal."""
    grid = Table.grid(padding=(0, 2))
    for title, run in _sides(outcome):
        grid.add_row(title, Text(plain(f"{_name(run)}  {_median(run)}  run {run.id}")))
    grid.add_row("Measured", _how(outcome))
    for check in outcome.checks:
        answer = Text(check.decision.upper(), style=STYLES[check.decision]).append(f"  {plain(check.text)}", style="")
        grid.add_row(plain(check.name).capitalize(), answer)
    grid.add_row("Resolution", _resolution(outcome))
    for warning in outcome.warnings:
        grid.add_row("Beware", Text(plain(warning), style="yellow"))
    return Group(grid, Text(f"{outcome.decision.upper()}", style=STYLES[outcome.decision]))


def markdown(outcome: Outcome) -> str:
    """For the summary of a CI job: one table of the sides, one of the checks."""
    lines = [
        f"## edgeprof check: {outcome.decision}",
        "",
        "| | model | median | verdict of | run |",
        "|---|---|---|---|---|",
    ]
    for title, run in _sides(outcome):
        cells = (title.lower(), _name(run), _median(run), f"{run.device}, {run.profile.origin}", run.id)
        lines.append(_row(cells))
    lines += [
        "",
        "| check | decision | found | interval | limit | smallest visible difference |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_row(_cells(check)) for check in outcome.checks]
    lines += ["", *(f"- {_escaped(check.name)}: {_escaped(check.text)}" for check in outcome.checks)]
    lines += [f"- {_how(outcome)}; intervals at {outcome.confidence:.0%}"]
    lines += [f"- beware: {_escaped(warning)}" for warning in outcome.warnings]
    return "\n".join(lines) + "\n"


def junit_xml(outcome: Outcome, *, inconclusive_fails: bool = True) -> bytes:
    """One test case a check, in the form that Jenkins and GitHub's test reporters read."""
    failing = {FAILED, INCONCLUSIVE} if inconclusive_fails else {FAILED}
    failed = [check for check in outcome.checks if check.decision in failing]
    suite = _suite(len(outcome.checks), failures=len(failed))
    for check in outcome.checks:
        case = _case(suite, check.name, _name(outcome.candidate))
        if check.decision in failing:
            problem = ElementTree.SubElement(case, "failure", message=_xml(check.text), type=check.decision)
            problem.text = _xml("\n".join((check.text, _how(outcome), *outcome.warnings)))
        else:
            said = "\n".join((f"{check.decision}: {check.text}", _how(outcome), *outcome.warnings))
            ElementTree.SubElement(case, "system-out").text = _xml(said)
    return _bytes(suite)


def junit_of_error(model: str, error: EdgeprofError) -> bytes:
    """What a reader of test results is told where nothing could be decided because of an error."""
    suite = _suite(1, errors=1)
    case = _case(suite, "regression", model)
    problem = ElementTree.SubElement(case, "error", message=_xml(str(error)), type=type(error).__name__)
    problem.text = _xml(f"{error}\nwhat to do: {error.advice}" if error.advice else str(error))
    return _bytes(suite)


def check_document(outcome: Outcome) -> bytes:
    """Everything but the runs, which are in the store under their ids."""
    document: dict[str, Any] = {
        "schema": 1,
        "decision": outcome.decision,
        "is_interleaved": outcome.is_interleaved,
        "n_pairs": outcome.n_pairs,
        "max_pairs": outcome.max_pairs,
        "confidence": outcome.confidence,
        "max_regression": outcome.max_regression,
        "checks": outcome.checks,
        "baseline": _side(outcome.baseline),
        "candidate": _side(outcome.candidate),
        "log_ratios": outcome.log_ratios,
        "warnings": outcome.warnings,
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


# --- pieces --------------------------------------------------------------------------------------------------------


def _side(run: Run) -> dict[str, Any]:
    ref = run.profile.job.model
    return {
        "run": run.id,
        "model": ref.name,
        "digest": ref.digest,
        "device": run.device,
        "origin": run.profile.origin,
        "median_s": summarise(run.profile).median_s,
    }


def _sides(outcome: Outcome) -> tuple[tuple[str, Run], tuple[str, Run]]:
    return ("Baseline", outcome.baseline), ("Candidate", outcome.candidate)


def _name(run: Run) -> str:
    ref = run.profile.job.model
    return f"{ref.name} ({ref.digest[:12]})"


def _median(run: Run) -> str:
    try:
        return duration(summarise(run.profile).median_s)
    except MeasurementError:
        return "no usable sample"


def _how(outcome: Outcome) -> str:
    device = plain(f"on {outcome.candidate.device} ({outcome.candidate.profile.origin})")
    if not outcome.is_interleaved:
        return f"{device}, against stored samples of the baseline"
    return f"{device}, in turn: {outcome.n_pairs} pairs of at most {outcome.max_pairs}"


def _resolution(outcome: Outcome) -> str:
    smallest = outcome.regression.smallest_effect
    return "-" if smallest is None else f"a change of {smallest:.1%} would have shown with 80 % probability"


def _cells(check: Check) -> tuple[str, ...]:
    return (
        check.name,
        f"**{check.decision}**",
        _figure(check.found),
        "-" if check.low is None else f"{_figure(check.low)} to {_figure(check.high)}",
        _figure(check.limit),
        "-" if check.smallest_effect is None else f"{check.smallest_effect:.1%}",
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(_escaped(cell) for cell in cells) + " |"


def _escaped(text: str) -> str:
    """Text from a file or a device, with what Markdown or HTML would obey made harmless."""
    for character, harmless in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("`", "\\`")):
        text = text.replace(character, harmless)
    return plain(text)


def _suite(n_tests: int, *, failures: int = 0, errors: int = 0) -> ElementTree.Element:
    counts = {"tests": str(n_tests), "failures": str(failures), "errors": str(errors), "skipped": "0"}
    return ElementTree.Element("testsuite", {"name": SUITE, **counts})


def _case(suite: ElementTree.Element, name: str, model: str) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=_xml(f"edgeprof.{model}"), name=_xml(name))


def _xml(text: str) -> str:
    return NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def _bytes(suite: ElementTree.Element) -> bytes:
    whole = ElementTree.Element("testsuites")
    whole.append(suite)
    ElementTree.indent(whole)
    return bytes(ElementTree.tostring(whole, encoding="utf-8", xml_declaration=True)) + b"\n"
