"""`edgeprof runs`: the profiles that were kept."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from edgeprof.cli.attach import attach
from edgeprof.cli.collect import collect
from edgeprof.cli.lineage import show_lineage
from edgeprof.cli.prune import prune
from edgeprof.cli.stores import open_store, store_option
from edgeprof.cli.sustained import sustained_runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from edgeprof.errors import StoreError
    from edgeprof.lineage import Descent
    from edgeprof.reports.tables import ListedRun
    from edgeprof.run import Run
    from edgeprof.store import Store, StoredRun

STANDARD_INPUT = "-"


@click.group()
def runs() -> None:
    """Profiles that were kept, with their raw samples."""


runs.add_command(collect)
runs.add_command(attach)
runs.add_command(sustained_runs)
runs.add_command(show_lineage)
runs.add_command(prune)


# --- list, show ----------------------------------------------------------------------------------------------------


@runs.command("list", epilog="Example: edgeprof runs list --device pi5 --limit 5")
@click.option("-d", "--device", help="Only runs on this device.")
@click.option("--model", help="Only runs of this model: its name, or the beginning of its digest.")
@click.option("--runtime", help="Only runs with this runtime.")
@click.option(
    "--campaign", metavar="CAMPAIGN", help="Only runs of this campaign: its id or the beginning, or its name."
)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, newest first.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_option
def list_runs(
    device: str | None,
    model: str | None,
    runtime: str | None,
    campaign: str | None,
    limit: int,
    place: str | None,
    as_json: bool,
) -> None:
    """List runs, newest first."""
    from edgeprof.reports.tables import render_list

    with open_store(place, reading=True) as store:
        campaign_id = None if campaign is None else store.campaign(campaign).id
        rows = store.list(device=device, model=model, runtime=runtime, campaign_id=campaign_id)
        if device is not None and not rows:
            _tell_devices(store, device)
        shown = [_listed(row, run) for row, run in zip(rows, store.read(rows[:limit]), strict=False)]
    if as_json:
        _print_json([_listed_json(run) for run in shown])
    else:
        _print(render_list(shown, len(rows) - len(shown)))


@runs.command(epilog="Example: edgeprof runs show latest --top 10")
@click.argument("run", metavar="RUN")
@click.option("--top", type=click.IntRange(1), default=20, show_default=True, help="Operators to print.")
@click.option(
    "--group-by",
    type=click.Choice(["node", "type", "block", "layer"]),
    default="node",
    show_default=True,
    help="What a line of the operator table stands for.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the run's JSON document.")
@store_option
def show(run: str, top: int, group_by: str, place: str | None, as_json: bool) -> None:
    """Print a run: latency, verdict, operators.

    RUN is an id or its beginning, "latest", or a file that `runs export` wrote.
    """
    from edgeprof.reports.text import render_run

    (found,) = load_each([run], place)
    if as_json:
        from edgeprof.reports.document import write_documents

        click.echo(write_documents([found]), nl=False)
    else:
        _print(render_run(found, top=top, group_by=group_by))


# --- export, import ------------------------------------------------------------------------------------------------


EXPORT_EPILOG = """\b
Examples:
  edgeprof runs export latest --json run.json
  edgeprof runs export 20260131 --csv operators.csv
  edgeprof runs export latest --csv - --samples
  edgeprof runs export latest --trace trace.json      open it in https://ui.perfetto.dev
  edgeprof runs export latest --share bundle.json     for strangers: without names, addresses and paths"""


@runs.command(epilog=EXPORT_EPILOG)
@click.argument("references", metavar="RUN...", nargs=-1, required=True)
@click.option("--json", "json_target", metavar="FILE", help="Everything, as JSON that `runs import` reads.")
@click.option("--csv", "csv_target", metavar="FILE", help="A row per operator.")
@click.option("--samples", is_flag=True, help="With --csv: a row per latency sample instead.")
@click.option("--trace", "trace_target", metavar="FILE", help="One inference, in Chrome's trace format.")
@click.option(
    "--share",
    "share_target",
    metavar="FILE",
    help="A bundle that anybody may have: without names, addresses, paths and serial numbers.",
)
@store_option
def export(
    references: tuple[str, ...],
    json_target: str | None,
    csv_target: str | None,
    samples: bool,
    trace_target: str | None,
    share_target: str | None,
    place: str | None,
) -> None:
    """Write runs to files; - is standard output.

    RUN is an id or its beginning, "latest", or a file that `runs export` wrote.
    """
    from edgeprof.cli.output import write_text
    from edgeprof.errors import UsageError

    targets = [target for target in (json_target, csv_target, trace_target, share_target) if target is not None]
    if not targets:
        raise UsageError("nothing says what to write", "give --json FILE, --csv FILE, --trace FILE or --share FILE")
    if len(set(targets)) < len(targets):
        raise UsageError("two formats would be written to the same place", "name another file for each")
    if samples and csv_target is None:
        raise UsageError("--samples is a kind of CSV", "give --csv FILE too")
    found = [run for held in _load(references, place) for run in held]
    lineage = _lineage_of(found, references, place) if json_target is not None else {}
    # Everything is made before anything is written: a run without operators leaves no half of an export.
    texts = [
        (target, _rendered(kind, found, lineage))
        for kind, target in _kinds(json_target, csv_target, samples, trace_target, share_target)
    ]
    for target, text in texts:
        write_text(target, text)


def _kinds(
    json_target: str | None, csv_target: str | None, samples: bool, trace_target: str | None, share_target: str | None
) -> list[tuple[str, str]]:
    asked = [("json", json_target), ("samples" if samples else "operators", csv_target), ("trace", trace_target)]
    asked.append(("share", share_target))
    return [(kind, target) for kind, target in asked if target is not None]


def _lineage_of(found: Sequence[Run], references: Sequence[str], place: str | None) -> dict[str, tuple[Descent, ...]]:
    """How each model came to be, as the store knows it; of files alone no store is asked, and nothing is known."""
    if all(_is_file(reference) for reference in references):
        return {}
    with open_store(place, reading=True) as store:
        digests = {run.profile.job.model.digest for run in found}
        return {digest: store.lineage(digest).ancestors for digest in digests}


def _rendered(kind: str, found: Sequence[Run], lineage: dict[str, tuple[Descent, ...]]) -> str | bytes:
    if kind == "json":
        from edgeprof.reports.document import write_documents

        return write_documents(found, lineage)
    if kind == "share":
        from edgeprof.places import fleet_file
        from edgeprof.sharing import own_names, write_bundle

        return write_bundle(found, own_names(fleet_file()))
    if kind == "trace":
        from edgeprof.reports.trace import trace_json

        return trace_json(found)
    from edgeprof.reports.csv import operators_csv, samples_csv

    return samples_csv(found) if kind == "samples" else operators_csv(found)


@runs.command(
    "import",
    short_help="Keep runs that were exported elsewhere.",
    epilog="Example: edgeprof runs import run.json colleague/*.json bundle.json",
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@store_option
def import_runs(files: tuple[str, ...], place: str | None) -> None:
    """Keep runs that were exported elsewhere; all of them or none.

    A run that is here already is left alone. What the files say of how the models were made is kept too. Of a bundle
    that was made with --share everything is checked first, and its devices are called shared-...; it may be anybody's.
    - is standard input.
    """
    from edgeprof.reports.document import read_lineage
    from edgeprof.sharing import is_bundle

    texts = [(_text_of(file), _name_of(file)) for file in files]
    found = [run for text, where in texts for run in _runs_in(text, where)]
    lineage = [edge for text, where in texts if not is_bundle(text) for edge in read_lineage(text, where)]
    with open_store(place) as store:
        imported = store.import_runs(found, lineage)
    for run_id in imported.added:
        click.echo(f"imported {run_id}")
    if imported.known:
        click.echo(f"{len(imported.known)} here already")


# --- compare, why --------------------------------------------------------------------------------------------------


@runs.command(short_help="Which of two runs is faster?", epilog="Example: edgeprof runs compare 20260131-12 latest")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_option
def compare(a: str, b: str, as_json: bool, place: str | None) -> None:
    """Compare the latency of two runs: is B faster or slower than A, and how surely?

    A and B are ids or their beginnings, "latest", or files that `runs export` wrote.
    """
    from edgeprof.comparison import compare as compare_profiles
    from edgeprof.reports.tables import render_comparison
    from edgeprof.store import stored

    left, right = load_each([a, b], place)
    comparison = compare_profiles(left.profile, right.profile)
    if as_json:
        _print_json({"a": left.id, "b": right.id, "comparison": comparison})
    else:
        _print(render_comparison(stored(left), stored(right), comparison))


@runs.command(short_help="What differs between two runs?", epilog="Example: edgeprof runs why 20260131-12 latest")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_option
def why(a: str, b: str, as_json: bool, place: str | None) -> None:
    """Tell what differs between two runs, the likeliest cause of a difference in latency first.

    A and B are ids or their beginnings, "latest", or files that `runs export` wrote.
    """
    from edgeprof.comparison import why as differences_of
    from edgeprof.reports.tables import render_differences

    left, right = load_each([a, b], place)
    differences = differences_of(left, right)
    if as_json:
        _print_json({"a": left.id, "b": right.id, "differences": differences})
    else:
        _print(render_differences(differences))


# --- pieces --------------------------------------------------------------------------------------------------------


def _tell_devices(store: Store, device: str) -> None:
    """Where a device has no runs: which have, for those who mistyped it."""
    names = store.devices()
    if names and device not in names:
        click.echo(f"edgeprof: no runs on {device!r}; there are runs on {', '.join(map(repr, names))}", err=True)


def load_each(references: Sequence[str], place: str | None) -> list[Run]:
    """One run for each reference."""
    from edgeprof.errors import UsageError

    loaded = _load(references, place)
    for reference, held in zip(references, loaded, strict=True):
        if len(held) != 1:
            raise UsageError(f"{reference}: holds {len(held)} runs, and one is wanted", "edgeprof runs import it first")
    return [held[0] for held in loaded]


def _load(references: Sequence[str], place: str | None) -> list[tuple[Run, ...]]:
    """The runs that each reference means; the store is opened only if one of them is not a file."""
    loaded: list[tuple[Run, ...]] = []
    with ExitStack() as stack:
        store: Store | None = None
        for reference in references:
            if _is_file(reference):
                loaded.append(_read_file(reference))
            else:
                store = store or stack.enter_context(open_store(place, reading=True))
                loaded.append((store.get(reference),))
    return loaded


def _is_file(reference: str) -> bool:
    return reference.endswith(".json") or "/" in reference or Path(reference).is_file()


def _read_file(name: str) -> tuple[Run, ...]:
    return _runs_in(_text_of(name), _name_of(name))


def _runs_in(text: bytes, where: str) -> tuple[Run, ...]:
    """Of documents of ours, or of a bundle of anybody's, which is checked."""
    from edgeprof.reports.document import read_documents
    from edgeprof.sharing import is_bundle, read_bundle

    return read_bundle(text, where) if is_bundle(text) else read_documents(text, where)


def _name_of(name: str) -> str:
    return "standard input" if name == STANDARD_INPUT else name


def _text_of(name: str) -> bytes:
    from edgeprof.errors import StoreError

    try:
        if name == STANDARD_INPUT:
            return _bounded(sys.stdin.buffer)
        with Path(name).open("rb") as file:
            return _bounded(file)
    except OSError as error:
        raise StoreError(f"{name}: cannot be read: {error.strerror}", "check the name of the file") from error


def _bounded(file: BinaryIO) -> bytes:
    """All of a file; of a stranger's bundle no more than is accepted, and a byte by which that shows."""
    from edgeprof.sharing import HEAD_BYTES, MAX_BYTES, is_bundle

    head = file.read(HEAD_BYTES)
    return head + (file.read(MAX_BYTES + 1 - len(head)) if is_bundle(head) else file.read())


def _listed(row: StoredRun, run: Run | StoreError) -> ListedRun:
    from edgeprof.errors import MeasurementError, StoreError
    from edgeprof.reports.tables import ListedRun
    from edgeprof.statistics import summarise
    from edgeprof.verdict import judge

    if isinstance(run, StoreError):
        return ListedRun(stored=row, unreadable=str(run), do=run.advice)
    try:
        summary = summarise(run.profile)
    except MeasurementError:
        return ListedRun(stored=row, verdict=judge(run.profile).level)
    return ListedRun(stored=row, median_s=summary.median_s, verdict=judge(run.profile, summary).level)


def _listed_json(run: ListedRun) -> dict[str, Any]:
    from dataclasses import asdict

    figures = {"median_s": run.median_s, "verdict": run.verdict, "unreadable": run.unreadable}
    return {**asdict(run.stored), **figures}


def _print(renderable: RenderableType) -> None:
    from edgeprof.cli.output import console

    console().print(renderable)


def _print_json(content: object) -> None:
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(content), indent=1))
