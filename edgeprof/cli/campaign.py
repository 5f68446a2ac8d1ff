"""`edgeprof campaign`: many models on many devices, in one go that survives whatever happens meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeprof.cli.stores import open_store, store_option

if TYPE_CHECKING:
    from edgeprof.campaign import Ending, Outline, Plan
    from edgeprof.fleet import Device, Fleet
    from edgeprof.run import Run
    from edgeprof.store import Campaign, Store

__all__ = ["campaign", "go"]

EXIT_ERROR, EXIT_SOME_FAILED = 1, 3


@click.group(
    epilog="""\b
Examples:
  edgeprof campaign run plan.toml --dry-run
  edgeprof campaign run plan.toml
  edgeprof campaign status
  edgeprof campaign resume"""
)
def campaign() -> None:
    """Many models on many devices: interleaved, retried, resumed."""


JSON = click.option("--json", "as_json", is_flag=True, help="The recap as JSON on standard output.")
LIMIT = click.option("--limit", multiple=True, metavar="PATTERN", help="Only devices or groups like this, as 'pi*'.")
EXCLUDE = click.option("--exclude", multiple=True, metavar="PATTERN", help="No devices or groups like this.")
PARALLEL = click.option("--parallel", type=click.IntRange(1), help="Devices at once.  [default: all]")
FAIL = click.option(
    "--fail-percent", type=click.FloatRange(0, 100), help="Stop when more than this share of devices was given up."
)
DETACH = click.option("--detach", is_flag=True, help="Hand every job to its device and leave; resume collects.")


@campaign.command(
    epilog="""\b
Examples:
  edgeprof campaign run plan.toml
  edgeprof campaign run plan.toml --limit 'pi*' --exclude pi3 --dry-run
  edgeprof campaign run -m a.tflite -m b.tflite --all --runtime litert --runtime tflite --repetitions 3"""
)
@click.argument("plan_path", required=False, type=click.Path(path_type=Path), metavar="[PLAN]")
@click.option("-m", "--model", "models", multiple=True, metavar="FILE", help="A model, in place of a plan; repeat it.")
@click.option("-d", "--device", "names", multiple=True, help="Device of fleet.toml; may be repeated.")
@click.option("--group", "groups", multiple=True, help="Every device of a group.")
@click.option("--all", "every", is_flag=True, help="Every device: those of fleet.toml, and this machine.")
@click.option(
    "--runtime", "runtimes", multiple=True, type=click.Choice(["onnxruntime", "litert", "tflite", "simulated"])
)
@click.option("--threads", multiple=True, type=click.IntRange(1), help="Threads inside an operator; may be repeated.")
@click.option("--batch", "batches", multiple=True, type=click.IntRange(1), help="Batch size; may be repeated.")
@click.option("--operators", is_flag=True, help="Time every operator too.")
@click.option("--rounds", type=click.IntRange(1), help="Rounds of each job.  [default: 5]")
@click.option("--min-runs", type=click.IntRange(1), help="Runs of a round, at least.  [default: 20]")
@click.option("--min-time", type=click.FloatRange(0), help="Seconds of a round, at least.  [default: 1]")
@click.option("--gate-timeout", type=click.FloatRange(0), help="Seconds a job waits for quiet, in all.  [default: 60]")
@click.option("--deadline", type=click.FloatRange(1), help="Seconds for a job.  [default: 900]")
@click.option("--repetitions", type=click.IntRange(1), help="How often each combination is measured.  [default: 1]")
@click.option("--seed", type=int, help="Seed of the order of the jobs.  [default: 0]")
@click.option("--retries", type=click.IntRange(0, 100), help="Further attempts of a job that failed.  [default: 2]")
@click.option("--time-budget", type=click.FloatRange(1), help="Seconds for each device.")
@click.option("--name", help="A name for the campaign.")
@LIMIT
@EXCLUDE
@PARALLEL
@FAIL
@DETACH
@click.option("--dry-run", is_flag=True, help="Say what would be measured where, and touch nothing.")
@store_option
@JSON
def run(
    plan_path: Path | None,
    limit: tuple[str, ...],
    exclude: tuple[str, ...],
    parallel: int | None,
    fail_percent: float | None,
    detach: bool,
    dry_run: bool,
    place: str | None,
    as_json: bool,
    **flags: Any,
) -> int:
    """Measure every model of PLAN on every device of it; flags can stand in its place.

    Each device works through its jobs in a seeded random order, none waits for another. What is finished is in the
    store at once: end this command in any way, and `campaign resume` goes on where it was.
    """
    from edgeprof.campaign import choose_devices, draw_up, new_campaign, read_models
    from edgeprof.cli.output import console
    from edgeprof.reports.campaign import render_outline

    plan = _plan(plan_path, flags, {"parallel": parallel, "fail_percent": fail_percent})
    devices = choose_devices(_fleet(), plan, limit, exclude)
    models = read_models(plan)
    outline, left_out = draw_up(plan, devices, models)
    if dry_run:
        console().print(render_outline(outline, left_out))
        return 0
    for one in left_out:
        click.echo(f"edgeprof: left out: {one.model} {one.configuration}: {one.reason}", err=True)
    with open_store(place) as store:
        begun = new_campaign(outline, store)
        click.echo(f"campaign {begun.id}: {len(outline.jobs)} jobs on {len(devices)} devices", err=True)
        return go(begun, outline, devices, models, store, detach=detach, take_over=False, as_json=as_json)


@campaign.command(
    epilog="""\b
Examples:
  edgeprof campaign resume
  edgeprof campaign resume nightly --limit 'pi*' --retry-failed"""
)
@click.argument("reference", default="latest", metavar="[CAMPAIGN]")
@LIMIT
@EXCLUDE
@PARALLEL
@click.option("--retry-failed", is_flag=True, help="Try the jobs that failed once more, too.")
@click.option(
    "--take-over", is_flag=True, help="Even if another controller seems to run it: its results then do not count."
)
@store_option
@JSON
def resume(
    reference: str,
    limit: tuple[str, ...],
    exclude: tuple[str, ...],
    parallel: int | None,
    retry_failed: bool,
    take_over: bool,
    place: str | None,
    as_json: bool,
) -> int:
    """Go on with a campaign (an id, a name, or the latest): collect what devices have measured, do what is left."""
    import msgspec

    from edgeprof.campaign import Outline, choose_devices, unchanged

    with open_store(place, reading=True) as store:
        found = store.campaign(reference)
        outline = Outline.from_json(found.plan, f"campaign {found.id}")
        named = msgspec.structs.replace(outline.plan, devices=outline.devices, groups=(), all=False)
        if parallel is not None:
            named = msgspec.structs.replace(named, parallel=parallel)
        devices = choose_devices(_fleet(), named, limit, exclude)
        outline = msgspec.structs.replace(outline, plan=msgspec.structs.replace(outline.plan, parallel=named.parallel))
        models = unchanged(outline)
        return go(
            found,
            outline,
            devices,
            models,
            store,
            detach=False,
            take_over=take_over,
            as_json=as_json,
            retry_failed=retry_failed,
        )


@campaign.command(epilog="\b\nExample:\n  edgeprof campaign status --json")
@click.argument("reference", default="latest", metavar="[CAMPAIGN]")
@store_option
@JSON
def status(reference: str, place: str | None, as_json: bool) -> int:
    """What became of a campaign so far; no device is touched."""
    with open_store(place, reading=True) as store:
        found = store.campaign(reference)
        _recap(found, store, None, as_json)
        if not as_json:
            _tell_who_is_at_it(found, store)
    return 0


@campaign.command(name="list", epilog="\b\nExample:\n  edgeprof campaign list")
@store_option
@click.option("--json", "as_json", is_flag=True, help="A list of campaigns as JSON.")
def list_campaigns(place: str | None, as_json: bool) -> int:
    """Every campaign of the store, newest first."""
    import json

    from edgeprof.cli.output import console
    from edgeprof.reports.campaign import counts, render_list

    with open_store(place, reading=True) as store:
        found = [(one, store.jobs(one.id)) for one in store.campaigns()]
    if as_json:
        plain = [
            {"campaign": one.id, "name": one.name, "created_at_s": one.created_at_s, "counts": counts(jobs)}
            for one, jobs in found
        ]
        click.echo(json.dumps(plain, indent=1))
    else:
        console().print(render_list(found))
    return 0


def go(
    found: Campaign,
    outline: Outline,
    devices: tuple[Device, ...],
    models: Any,
    store: Store,
    *,
    detach: bool,
    take_over: bool = False,
    as_json: bool = False,
    retry_failed: bool = False,
) -> int:
    """Do what is left of a campaign and print its recap; the exit code."""
    from edgeprof.campaign import Controller
    from edgeprof.cli.campaign_display import display

    ending: Ending | None = None
    with Controller(found, outline, store, take_over=take_over) as controller:
        try:
            with display(_left(store, found.id, devices, retry_failed=retry_failed)) as tell:
                ending = controller.run(devices, models, tell, detach=detach, retry_failed=retry_failed)
        except KeyboardInterrupt:
            click.echo("edgeprof: interrupted; what devices measure now they measure to the end", err=True)
            click.echo(f"  what to do: edgeprof campaign resume {found.id}", err=True)
            return 130
    _recap(found, store, ending, as_json)
    if detach:
        click.echo(f"to collect: edgeprof campaign resume {found.id}", err=True)
        return EXIT_SOME_FAILED if ending.given_up else 0
    states = {job.state for job in store.jobs(found.id)}
    if states == {"done"}:
        return 0
    if states - {"done", "failed"}:
        click.echo(f"edgeprof: not all was done; go on with: edgeprof campaign resume {found.id}", err=True)
    return EXIT_SOME_FAILED if "done" in states else EXIT_ERROR


def _left(store: Store, campaign_id: str, devices: tuple[Device, ...], *, retry_failed: bool) -> dict[str, int]:
    from edgeprof.campaign import left_states

    states = left_states(retry_failed=retry_failed)
    left = {device.name: 0 for device in devices}
    for job in store.jobs(campaign_id):
        if job.device in left and job.state in states:
            left[job.device] += 1
    return left


def _tell_who_is_at_it(found: Campaign, store: Store) -> None:
    """Whether anybody works on what is left, and what to type if nobody does."""
    from edgeprof.campaign import Place, left_states

    if not any(job.state in left_states() for job in store.jobs(found.id)):
        return
    place = None if found.controller is None else Place.read(found.controller_place)
    if place is not None and not place.is_gone:
        click.echo(f"process {place.pid} on {place.host} is at it")
    else:
        click.echo(f"nobody is at it; go on with: edgeprof campaign resume {found.id}")


def _recap(found: Campaign, store: Store, ending: Ending | None, as_json: bool) -> None:
    import json

    from edgeprof.campaign import Outline, campaign_cost
    from edgeprof.cli.output import console
    from edgeprof.reports.campaign import render_recap, render_results, to_document

    jobs = store.jobs(found.id)
    runs = _runs(found, store)
    cost = campaign_cost(store.own_costs(found.id), jobs, runs)
    given_up = {name: str(error) for name, error in ending.given_up.items()} if ending is not None else {}
    if as_json:
        click.echo(json.dumps(to_document(found, jobs, given_up, cost), indent=1))
    else:
        console().print(render_recap(found, jobs, given_up, cost))
        results = render_results(Outline.from_json(found.plan, f"campaign {found.id}"), jobs, runs)
        if results is not None:
            console().print(results)
    for name, error in ending.given_up.items() if ending is not None else ():
        if error.advice:
            click.echo(f"edgeprof: {name}: what to do: {error.advice}", err=True)
    if ending is not None and ending.stopped:
        click.echo(f"edgeprof: stopped: {ending.stopped} (--fail-percent)", err=True)


def _runs(found: Campaign, store: Store) -> dict[str, Run]:
    """The campaign's runs; one that cannot be read is left out, as `runs show` will say."""
    from edgeprof.run import Run

    rows = store.runs_of(found.id)
    return {row.id: run for row, run in zip(rows, store.read(rows), strict=True) if isinstance(run, Run)}


def _plan(path: Path | None, flags: dict[str, Any], changes: dict[str, Any]) -> Plan:
    """The plan of the file, or the one that the flags describe; `changes` of the command line come on top."""
    import msgspec

    from edgeprof.campaign import plan_of, read_plan

    # A flag that was not given is None, no values or False; 0 is a value.
    own = {key: value for key, value in flags.items() if value is not None and value is not False and value != ()}
    if path is not None:
        if own:
            options = {one.name: one.opts[-1] for one in click.get_current_context().command.params}
            named = ", ".join(sorted(options[key] for key in own))
            raise click.UsageError(f"with a plan, what these say belongs into the plan: {named}")
        plan = read_plan(path)
    elif not flags["models"]:
        raise click.UsageError("name a plan, or models by -m FILE")
    else:
        plan = plan_of(_raw(own), "the command line", Path.cwd())
    return msgspec.structs.replace(plan, **{key: value for key, value in changes.items() if value is not None})


# What a flag is called in a plan.
MATRIX = {"runtimes": "runtime", "threads": "threads", "batches": "batch"}
DEFAULTS = {
    "operators": "operators",
    "rounds": "rounds",
    "min_runs": "min_runs",
    "min_time": "min_s",
    "gate_timeout": "gate_timeout_s",
    "deadline": "deadline_s",
}
TOP = {
    "models": "models",
    "names": "devices",
    "groups": "groups",
    "every": "all",
    "repetitions": "repetitions",
    "seed": "seed",
    "retries": "retries",
    "time_budget": "time_budget_s",
    "name": "name",
}


def _raw(flags: dict[str, Any]) -> dict[str, Any]:
    """Flags as a plan.toml would say them; this machine where no device is named."""
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in flags.items()}
    raw = {TOP[key]: value for key, value in plain.items() if key in TOP}
    if not raw.keys() & {"devices", "groups", "all"}:
        raw["devices"] = ["local"]
    raw["defaults"] = {DEFAULTS[key]: value for key, value in plain.items() if key in DEFAULTS}
    raw["matrix"] = {MATRIX[key]: value for key, value in plain.items() if key in MATRIX}
    return raw


def _fleet() -> Fleet:
    from edgeprof.fleet import Fleet
    from edgeprof.places import fleet_file

    return Fleet.read(fleet_file())
