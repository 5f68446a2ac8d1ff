"""`edgeprof check`: a gate for CI that stops a model which is too much slower than its baseline, or over a budget."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeprof.cli.profile import EXIT_NOT_TRUSTED as EXIT_STOPPED
from edgeprof.cli.profile import MOST_THREADS, Seconds
from edgeprof.cli.stores import open_store, store_option

if TYPE_CHECKING:
    from edgeprof.checking import Limits, Outcome
    from edgeprof.errors import EdgeprofError
    from edgeprof.fleet import Device
    from edgeprof.models import ModelFile
    from edgeprof.models.arrays import Array
    from edgeprof.profiling import OpenDevice, Settings
    from edgeprof.run import Run
    from edgeprof.store import Store

EPILOG = """\b
Examples:
  edgeprof profile old.onnx -d pi5 --json base.json
  edgeprof check new.onnx --baseline base.json --baseline-model old.onnx --max-regression 3%
  edgeprof check new.onnx --baseline base.json -d pi5 --budget latency=20ms --budget memory=200MB
  edgeprof check new.onnx --baseline base.json --markdown - --junit check.xml

\b
Exit codes: 0 passed; 4 slower, over budget, not trusted, or not decided; 1 an error; 2 usage."""


@click.command(epilog=EPILOG)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--baseline", "baseline_path", required=True, metavar="FILE", help="A run, as --json wrote it.")
@click.option(
    "--baseline-model",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The baseline's model file. Not needed where the device still has it, or it is MODEL itself.",
)
@click.option("--against-stored", is_flag=True, help="Compare with the samples in the baseline, measured another day.")
@click.option("--max-regression", default="3%", show_default=True, metavar="PERCENT", help="Allowed slow-down.")
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    metavar="KEY=LIMIT",
    help="At most: latency=20ms, first_inference=1s, memory=200MB, size=10MB.",
)
@click.option("--allow-inconclusive", is_flag=True, help="Pass what could not be decided; it is said all the same.")
@click.option("--require", type=click.Choice(["trusted"]), help="Fail unless both profiles are trusted.")
@click.option("-d", "--device", "name", help="Device of fleet.toml; the baseline's if none is named.")
@click.option(
    "--runtime",
    type=click.Choice(["onnxruntime", "litert", "tflite", "simulated"]),
    help="The candidate's; the baseline's if not given.",
)
@click.option("--threads", type=click.IntRange(1, MOST_THREADS), help="The candidate's; the baseline's if not given.")
@click.option(
    "--optimization",
    type=click.Choice(["all", "extended", "basic", "none"]),
    help="The candidate's graph optimization level (ONNX Runtime); the baseline's if not given.",
)
@click.option("--xnnpack/--no-xnnpack", default=None, help="The candidate's TFLite delegate; as the baseline's.")
@click.option(
    "--input",
    "input_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Values of the inputs, where the baseline was measured with some: the same file.",
)
@click.option("--max-pairs", type=click.IntRange(1), default=40, show_default=True, help="Pairs of blocks, at most.")
@click.option("--block-runs", type=click.IntRange(1), default=20, show_default=True, help="Runs of a block, at least.")
@click.option("--block-time", type=Seconds(0), default=0.5, show_default=True, help="Seconds of a block, at least.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the order of the blocks.")
@click.option("--markdown", "markdown_path", metavar="FILE", help="Write a summary; - is standard output.")
@click.option("--junit", "junit_path", metavar="FILE", help="Write JUnit XML; - is standard output.")
@click.option("--json", "json_path", metavar="FILE", help="Write JSON; - is standard output.")
@store_option
@click.option("--no-store", is_flag=True, help="Do not keep the two runs in the store.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def check(**options: Any) -> int:
    """Stop a release that is slower than its baseline by more than --max-regression, or over a budget.

    Baseline and candidate are measured in turn on the same device, in short blocks, until it is clear; what drifts
    meanwhile drifts for both. Both are kept as runs.
    """
    from edgeprof.budgets import read_budget, read_margin
    from edgeprof.checking import Limits
    from edgeprof.errors import EdgeprofError, UsageError

    if options["place"] and options["no_store"]:
        raise click.UsageError("--store and --no-store exclude each other")
    limits = Limits(
        max_regression=read_margin(options["max_regression"]),
        budgets=tuple(read_budget(text) for text in options["budgets"]),
        require_trusted=options["require"] == "trusted",
    )
    _require_targets(options)
    try:
        # Opened first: that there is no store must not be learned after minutes of measuring.
        with nullcontext() if options["no_store"] else open_store(options["place"]) as store:
            outcome = _measure(limits, options)
            complaint = _keep(outcome, store)
        _require_valid(outcome)
    except UsageError:
        raise
    except EdgeprofError as error:
        _report_error(error, options)
        raise
    _report(outcome, options)
    if complaint is not None:
        raise complaint
    return exit_code(outcome, allow_inconclusive=options["allow_inconclusive"])


def _require_targets(options: dict[str, Any]) -> None:
    from edgeprof.cli.output import require_writable
    from edgeprof.errors import UsageError

    targets = [t for t in (options["markdown_path"], options["junit_path"], options["json_path"]) if t is not None]
    if len(set(targets)) < len(targets):
        raise UsageError("two reports would be written to the same place", "name another file for each")
    for target in targets:
        require_writable(target)


# --- measure -------------------------------------------------------------------------------------------------------


def _measure(limits: Limits, options: dict[str, Any]) -> Outcome:
    from edgeprof.checking import Side, as_blocks, check_against_stored, check_interleaved, settings_of
    from edgeprof.cli.progress import progress_bar
    from edgeprof.profiling import OpenDevice
    from edgeprof.regression import Plan

    base = _read_baseline(options["baseline_path"])
    plan = Plan.up_to(options["max_pairs"])
    settings, block = settings_of(base), (options["block_runs"], options["block_time"])
    values = _values(base, options["input_path"])
    candidate = Side(model=_read(options["model"], base, values), settings=_changed(settings, options))
    title = f"{candidate.model.name} against {base.profile.job.model.name}"
    device = _device(base, options["name"])
    _tell_other_device(base, device)
    given = None if options["baseline_model"] is None else _read(options["baseline_model"], base, values)
    with OpenDevice(device) as opened, progress_bar(title) as on_progress:
        if options["against_stored"]:
            outcome = check_against_stored(
                opened, base, candidate, limits, seed=options["seed"], on_progress=on_progress
            )
        else:
            model = _baseline_model(opened, base, candidate.model, given)
            outcome = check_interleaved(
                opened,
                Side(model=model, settings=as_blocks(settings, *block)),
                Side(model=candidate.model, settings=as_blocks(candidate.settings, *block)),
                limits,
                plan=plan,
                seed=options["seed"],
                on_progress=on_progress,
            )
    return outcome


def _read_baseline(name: str) -> Run:
    from edgeprof.errors import StoreError, UsageError
    from edgeprof.reports.document import read_documents

    try:
        text = Path(name).read_bytes()
    except OSError as error:
        raise StoreError(
            f"{name}: the baseline cannot be read: {error.strerror}",
            "make one: edgeprof profile OLD_MODEL --json FILE, or edgeprof runs export ID --json FILE",
        ) from error
    found = read_documents(text, name)
    if len(found) != 1:
        raise UsageError(f"{name}: holds {len(found)} runs, and a baseline is one", "export the one that is meant")
    return found[0]


def _changed(settings: Settings, options: dict[str, Any]) -> Settings:
    """The candidate's settings: what was asked for, else the baseline's."""
    from dataclasses import replace

    asked = {name: options[name] for name in ("threads", "optimization", "xnnpack") if options[name] is not None}
    return replace(settings, runtime=options["runtime"] or settings.runtime, options=replace(settings.options, **asked))


def _values(base: Run, path: Path | None) -> dict[str, Array] | None:
    from edgeprof.errors import UsageError
    from edgeprof.models import read_arrays

    if path is None and base.profile.job.inputs:
        raise UsageError(
            "the baseline was measured with values of the user's own, and none are given", "name the file: --input"
        )
    return None if path is None else dict(read_arrays(path))


def _read(path: Path, base: Run, values: dict[str, Array] | None) -> ModelFile:
    from edgeprof.models import read_model

    options = base.profile.job.options
    return read_model(path, options.shapes, options.batch, values)


def _device(base: Run, name: str | None) -> Device:
    from edgeprof.fleet import Fleet
    from edgeprof.places import fleet_file

    return Fleet.read(fleet_file()).device(name or base.device)


def _tell_other_device(base: Run, device: Device) -> None:
    if device.name != base.device:
        click.echo(
            f"edgeprof: the baseline's own figures are of {base.device}; both models are measured on {device.name} now",
            err=True,
        )


def _baseline_model(opened: OpenDevice, base: Run, candidate: ModelFile, given: ModelFile | None) -> ModelFile:
    """The baseline's model: the file that was named, the candidate itself, or what the device has kept."""
    from edgeprof.errors import UsageError
    from edgeprof.models import remembered_model

    job = base.profile.job
    if given is not None:
        if given.digest != job.model.digest:
            raise UsageError(
                f"{given.path} is not the model of the baseline: its digest is {given.digest[:12]}, the baseline's "
                f"{job.model.digest[:12]}",
                "name the file that the baseline was measured with",
            )
        return given
    if candidate.digest == job.model.digest:
        return candidate
    if opened.device.board is None:
        remembered = remembered_model(job, candidate.inputs)
        agent = opened.ready_agent(job.runtime, job.options)
        if not agent.missing([file for file, _ in remembered.files]).missing:
            return remembered
    raise UsageError(
        f"{opened.device.name} does not have the baseline's model {job.model.name} ({job.model.digest[:12]})",
        "name its file: --baseline-model FILE; without it only --against-stored is possible, which is less sure",
    )


def _keep(outcome: Outcome, store: Store | None) -> EdgeprofError | None:
    """Store both runs; what went wrong if they could not be: the outcome is reported all the same."""
    from edgeprof.errors import StoreError

    try:
        if store is not None:
            store.import_runs([outcome.baseline, outcome.candidate])
    except StoreError as error:
        return error
    return None


def _require_valid(outcome: Outcome) -> None:
    """Raise MeasurementError where a profile cannot be used at all: that decides nothing about the model."""
    from edgeprof.errors import MeasurementError
    from edgeprof.verdict import INVALID, judge

    for run in (outcome.baseline, outcome.candidate):
        verdict = judge(run.profile)
        if verdict.level == INVALID:
            raise MeasurementError(f"{run.device}: run {run.id} is invalid: {verdict.reasons[0].what}", "check again")


# --- report --------------------------------------------------------------------------------------------------------


def _report(outcome: Outcome, options: dict[str, Any]) -> None:
    from edgeprof.cli.output import STANDARD_OUTPUT, console, write_text
    from edgeprof.reports.gate import check_document, junit_xml, markdown, render_outcome

    texts: list[tuple[str | None, str | bytes]] = [
        (options["markdown_path"], markdown(outcome)),
        (options["junit_path"], junit_xml(outcome, inconclusive_fails=not options["allow_inconclusive"])),
        (options["json_path"], check_document(outcome)),
    ]
    is_taken = any(target == STANDARD_OUTPUT for target, _ in texts)
    console(stderr=is_taken).print(render_outcome(outcome))
    for target, text in texts:
        if target is not None:
            write_text(target, text)


def _report_error(error: EdgeprofError, options: dict[str, Any]) -> None:
    """CI reads the JUnit file first: it must not show an older result, or none."""
    from edgeprof.cli.output import write_text
    from edgeprof.reports.gate import junit_of_error

    if options["junit_path"] is not None:
        write_text(options["junit_path"], junit_of_error(options["model"].name, error))


def exit_code(outcome: Outcome, *, allow_inconclusive: bool = False) -> int:
    """What the command exits with; says what to do where nothing was decided."""
    from edgeprof.regression import INCONCLUSIVE, PASSED

    if outcome.decision == PASSED:
        return 0
    if outcome.decision == INCONCLUSIVE:
        click.echo(
            "edgeprof: not decided: raise --max-pairs or --block-time, or quieten the device"
            + (
                "; passed because of --allow-inconclusive"
                if allow_inconclusive
                else "; that fails unless --allow-inconclusive"
            ),
            err=True,
        )
        return 0 if allow_inconclusive else EXIT_STOPPED
    return EXIT_STOPPED
