"""`edgeprof search`: find networks on the front of accuracy and what a device takes for them, and verify it there."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeprof.cli.parameter_types import Duration

if TYPE_CHECKING:
    from edgeprof.search.assembling import Assembled
    from edgeprof.search.running import Ended, Event
    from edgeprof.search.session import Found

__all__ = ["hand_over", "search", "tell_progress"]

EXIT_SOME_FAILED = 3
# How often a line about the progress is printed where there is no terminal.
TELL_EVERY_S = 10.0
ENDED = {
    "evaluations": "all evaluations are done",
    "time": "the time is spent",
    "grams": "the grams are spent",
    "space": "nothing is left to ask for",
    "lost": "a device was lost",
    "failing": "the first candidates all fail for the same reason",
}

RUN_EPILOG = """\b
Examples:
  edgeprof search run search.toml
  edgeprof search run search.toml --out pi5-search --time 20m --max-gco2e 10

\b
A search that was interrupted, or killed, goes on with `edgeprof search resume STUDY`."""


@click.group()
def search() -> None:
    """Search networks for a device: accuracy against latency, energy, memory, size and carbon."""


def _budgets(command: Any) -> Any:
    for option in (
        click.option("--evaluations", type=click.IntRange(1), help="How many candidates.  [default: the plan's]"),
        click.option("--time", "time_s", type=Duration(), help="How long, over all sittings.  [default: the plan's]"),
        click.option("--max-gco2e", type=click.FloatRange(0, min_open=True), help="Grams that the search may cause."),
    ):
        command = option(command)
    return command


@search.command(epilog=RUN_EPILOG)
@click.argument("plan", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The study's folder.  [default: PLAN's name + .study]")
@_budgets
@click.option("--verify/--no-verify", default=True, show_default=True, help="Train and measure the front at the end.")
@click.option("--json", "json_target", metavar="FILE", help="Write what was found as JSON; - is standard output.")
def run(plan: Path, out: Path | None, **options: Any) -> int:
    """Search as PLAN (a search.toml) says, verify the front, and hand over its files."""
    from edgeprof.search.plan import read_plan
    from edgeprof.search.session import begin

    parsed = read_plan(plan)
    folder = out or plan.with_suffix(".study")
    begin(parsed, plan.read_text(), plan.parent, folder, **_given(options))
    click.echo(f"the study is in {folder}", err=True)
    return _go_on(folder, options)


@search.command(epilog="\b\nExample:\n  edgeprof search resume search.study --evaluations 200")
@click.argument("study", type=click.Path(path_type=Path))
@click.option("--retry-failed", is_flag=True, help="Evaluate again what failed, after you mended why.")
@_budgets
@click.option("--verify/--no-verify", default=True, show_default=True, help="Train and measure the front at the end.")
@click.option("--json", "json_target", metavar="FILE", help="Write what was found as JSON; - is standard output.")
def resume(study: Path, **options: Any) -> int:
    """Go on with a search that was interrupted, or with larger budgets; verify its front."""
    if options["retry_failed"]:
        from edgeprof.search.session import opened
        from edgeprof.search.study import Study

        with opened(study) as found, Study(study, found.space, found.n_objectives) as kept, kept.alone():
            click.echo(f"forgotten: {kept.forget_failures()} that failed", err=True)
    return _go_on(study, options)


@search.command(epilog="\b\nExample:\n  edgeprof search worker search.study &")
@click.argument("study", type=click.Path(path_type=Path))
@_budgets
def worker(study: Path, **options: Any) -> int:
    """Help with a search: any number of processes share a study. Ends when its budgets are spent; verifies nothing."""
    from edgeprof.search.session import opened, work

    with opened(study, _tell, **_given(options)) as found:
        ended = work(found, study, _Teller(found))
    _say_end(ended)
    return EXIT_SOME_FAILED if ended.by == "lost" else 0


@search.command(epilog="\b\nExample:\n  edgeprof search show search.study")
@click.argument("study", type=click.Path(path_type=Path))
def show(study: Path) -> int:
    """Show what a search has found so far. Nothing is evaluated."""
    from edgeprof.cli.output import console
    from edgeprof.reports.search import render_progress
    from edgeprof.search.progress import progress_of
    from edgeprof.search.session import opened
    from edgeprof.search.study import Study

    with opened(study) as found, Study(study, found.space, found.n_objectives) as kept:
        console().print(render_progress(progress_of(kept.trials(), found.goals), found.goals))
    return 0


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in ("evaluations", "time_s", "max_gco2e")}


def _go_on(folder: Path, options: dict[str, Any]) -> int:
    import json

    from edgeprof.cli.output import STANDARD_OUTPUT, console, require_writable, write_text
    from edgeprof.errors import SearchError
    from edgeprof.reports.search import progress_document, render_found, render_progress, to_document
    from edgeprof.search.progress import progress_of
    from edgeprof.search.session import finish, opened, work
    from edgeprof.search.study import Study

    target = options["json_target"]
    if target is not None:
        require_writable(target)
    out = console(stderr=target == STANDARD_OUTPUT)
    with opened(folder, _tell, **_given(options)) as found:
        ended = work(found, folder, _Teller(found))
        _say_end(ended)
        if ended.by == "failing":
            raise SearchError(ended.text, "mend it, then: edgeprof search resume STUDY --retry-failed")
        if not options["verify"]:
            with Study(folder, found.space, found.n_objectives) as kept:
                progress = progress_of(kept.trials(), found.goals)
            if target is not None:
                write_text(target, json.dumps(progress_document(progress), indent=1) + "\n")
            if target != STANDARD_OUTPUT:
                out.print(render_progress(progress, found.goals))
            click.echo(f"verify it: edgeprof search resume {folder}", err=True)
            return EXIT_SOME_FAILED if ended.by == "lost" else 0
        if ended.by == "lost":
            click.echo(f"go on when it is back: edgeprof search resume {folder}", err=True)
            return EXIT_SOME_FAILED
        result = finish(found, folder, _tell)
        hand_over(found, folder, result)
        if target is not None:
            write_text(target, json.dumps(to_document(result, found), indent=1) + "\n")
        if target != STANDARD_OUTPUT:
            out.print(render_found(result, found, folder))
    return EXIT_SOME_FAILED if any(one.failure is not None for one in result.members) else 0


def hand_over(found: Assembled, folder: Path, result: Found) -> None:
    """Cards beside the files, the whole as JSON, and a figure."""
    import json

    from edgeprof.files import write_whole
    from edgeprof.reports.search import card, draw_front, to_document
    from edgeprof.search.study import Study
    from edgeprof.search.verifying import FRONT

    for one in result.members:
        write_whole(folder / FRONT / one.name / "card.md", card(one, result, found).encode())
    write_whole(folder / "front.json", (json.dumps(to_document(result, found), indent=1) + "\n").encode())
    with Study(folder, found.space, found.n_objectives) as kept:
        figure = draw_front(result, found, [one.result for one in kept.trials() if one.result is not None])
    if figure is not None:
        write_whole(folder / "front.png", figure)


def tell_progress(found: Assembled) -> Callable[[Event], None]:
    """What says now and then how far a search is."""
    return _Teller(found)


def _tell(text: str) -> None:
    click.echo(f"  {text}", err=True)


def _say_end(ended: Ended) -> None:
    click.echo(f"ended: {ENDED[ended.by]}{': ' + ended.text if ended.text else ''}", err=True)


class _Teller:
    """Says now and then how far it is: evaluated, hypervolume, the best of each objective, grams, time left."""

    def __init__(self, found: Assembled) -> None:
        self._found = found
        self._began_s = self._told_s = time.monotonic()
        self._n_first: int | None = None

    def __call__(self, event: Event) -> None:
        if event.what == "told":
            click.echo(f"  {event.text}", err=True)
        elif event.what == "taken over":
            click.echo(f"  taken over: {event.text}", err=True)
        if event.what != "evaluated" or event.result is None:
            return
        if event.result.failure is not None:
            click.echo(f"  failed: {event.result.failure}", err=True)
        if self._n_first is None:  # what came before was done once for all
            self._n_first, self._began_s = event.n_done - 1, time.monotonic() - event.result.took_s
        if time.monotonic() - self._told_s > TELL_EVERY_S:
            self._told_s = time.monotonic()
            click.echo(f"  {self._words(event)}", err=True)

    def _words(self, event: Event) -> str:
        from edgeprof.reports.quantities import duration
        from edgeprof.reports.search import value_words

        progress, n_wanted = event.progress, self._found.plan.search.evaluations
        best = ", ".join(
            f"{name.replace('error', 'accuracy')} {value_words(name, value)} ({value.origin})"
            for name, value in (progress.best if progress is not None else {}).items()
        )
        volume = progress.hypervolume if progress is not None else None
        n_mine = max(1, event.n_done - (self._n_first or 0))
        left_s = (time.monotonic() - self._began_s) / n_mine * max(0, n_wanted - event.n_done)
        ruled = f"hypervolume {volume:.3f}; " if volume is not None else ""
        return (
            f"{event.n_done} of {n_wanted} evaluated; {ruled}best {best or 'none yet'}; "
            f"{event.grams:.2g} g CO2e so far; about {duration(left_s)} left"
        )
