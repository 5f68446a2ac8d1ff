"""`edgeprof carbon`: grams of CO2e per inference of a run that was kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgeprof.cli.stores import open_store, store_option

if TYPE_CHECKING:
    from edgeprof.carbon import BreakEven, Case
    from edgeprof.run import Run

__all__ = ["carbon"]

EXIT_SOME_FAILED = 3
Given = TypeVar("Given")

EPILOG = """\b
Examples:
  edgeprof carbon latest --zone FR --rate 10/s
  edgeprof carbon 20260131-1200 --intensity "56 g/kWh" --embodied "10 kg" --lifetime "4 y"
  edgeprof carbon model.tflite --zone US-CA --device "Pixel 7" --json -
  edgeprof carbon OLD --compare NEW --rate 10/s --zone DE      keep the old device, or buy the new one?
  edgeprof carbon --list-zones

\b
Without --zone the world's average stands, and without --embodied or --device a lower bound; both are said.
With --compare the options marked * may be given twice: for RUN, then for RUN2."""


@click.command(epilog=EPILOG)
@click.argument("reference", required=False, metavar="[RUN|MODEL]")
@click.option("--zone", metavar="CODE|NAME", help="Country or US state: FR, FRA, France, US-CA.  [default: the world]")
@click.option("--intensity", metavar="QUANTITY", help='Of the grid, in place of a zone: "56 g/kWh", "40-70 g/kWh".')
@click.option("--provider", type=click.Choice(["gb"]), help="Ask a service for the intensity now: gb, Great Britain.")
@click.option("--rate", metavar="N/UNIT", help="How many inferences there are to do: 10/s, 200/h, 1000/day.")
@click.option("--compare", metavar="RUN2", help="Another run: does its device pay back against keeping RUN's?")
@click.option("--embodied", multiple=True, metavar="QUANTITY", help='* Of making the device: "10 kg", "8-12 kg".')
@click.option("--lifetime", multiple=True, metavar="QUANTITY", help='* Of the device: "4 y", "3-6 y".')
@click.option("--device", multiple=True, metavar="NAME", help="* A device of --list-devices, in place of --embodied.")
@click.option("--psu-w", multiple=True, type=float, help="* Rated watts of the power supply.  [default: 15]")
@click.option("--psu-v", multiple=True, type=click.FloatRange(0, min_open=True), help="* Its volts.  [default: 5]")
@click.option("--supply-efficiency", multiple=True, type=float, help="* The power supply's, if known: 0.88.")
@click.option("--battery-roundtrip", multiple=True, type=float, help="* Of charger and battery.  [default: 0.9]")
@click.option(
    "--boundary", multiple=True, metavar="PLACE", help="* Where a sensor sits that cannot tell: dc-input, wall."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the draws from the ranges.")
@click.option("--list-zones", is_flag=True, help="List countries and states with their intensity.")
@click.option("--list-devices", is_flag=True, help="List devices with a published footprint.")
@click.option("--json", "json_target", metavar="FILE", help="Write JSON to FILE; - is standard output.")
@store_option
def carbon(
    reference: str | None,
    zone: str | None,
    intensity: str | None,
    provider: str | None,
    rate: str | None,
    compare: str | None,
    seed: int,
    list_zones: bool,
    list_devices: bool,
    json_target: str | None,
    place: str | None,
    **devices: Any,
) -> int:
    """Tell the grams of CO2e per inference of a run, with the source of every input.

    RUN is an id or its beginning, "latest", or a file that `runs export` wrote. Of a MODEL file the newest run that
    was kept is taken; nothing is measured.
    """
    from edgeprof.errors import UsageError

    if list_zones or list_devices:
        return _list(list_zones, list_devices)
    if reference is None:
        raise UsageError("which run? RUN is missing", "edgeprof runs list shows them; `latest` is the newest")
    from edgeprof.carbon import case_of, state
    from edgeprof.carbon.of_run import find_intensity

    references = [reference] if compare is None else [reference, compare]
    options = [_own_options(devices, k, len(references)) for k in range(len(references))]
    runs = [_find(one, place) for one in references]
    grid = find_intensity(zone=zone, intensity=intensity, provider=provider)
    cases = [case_of(run, grid, rate=rate, **own) for run, own in zip(runs, options, strict=True)]
    statements = [state(case, seed=seed) for case in cases]
    found, missing = (None, None) if compare is None else _keep_or_buy(cases, seed)
    from edgeprof.reports.carbon import render_carbon, to_document

    if json_target != "-":
        _print(render_carbon(statements, found, missing))
    if json_target is not None:
        from edgeprof.cli.output import write_text

        write_text(json_target, to_document(statements, found, missing))
    return EXIT_SOME_FAILED if missing is not None else 0


def _list(list_zones: bool, list_devices: bool) -> int:
    from edgeprof.reports.carbon import render_devices, render_zones

    if list_zones:
        _print(render_zones())
    if list_devices:
        _print(render_devices())
    return 0


def _own_options(devices: dict[str, tuple[Any, ...]], k: int, n: int) -> dict[str, Any]:
    """What was given for run `k` of `n`: an option that stands once is for all of them."""
    from edgeprof.errors import UsageError

    for name, given in devices.items():
        if len(given) > n:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} was given {len(given)} times", "once, or with --compare twice: for RUN, RUN2")
    own = {name: _of(given, k) for name, given in devices.items()}
    if own["psu_v"] is None:
        del own["psu_v"]
    return own


def _of(given: tuple[Given, ...], k: int) -> Given | None:
    return given[min(k, len(given) - 1)] if given else None


def _keep_or_buy(cases: list[Case], seed: int) -> tuple[BreakEven | None, str | None]:
    """The break-even of two cases, or why there is none."""
    from edgeprof.carbon import break_even
    from edgeprof.errors import CarbonError

    old, new = cases
    try:
        return break_even(old, new, seed=seed), None
    except CarbonError as error:
        return None, f"{error}; {error.advice}"


def _find(reference: str, place: str | None) -> Run:
    """The run that is meant; of a model file the newest that was kept."""
    from edgeprof.cli.runs import load_each

    path = Path(reference)
    if not path.is_file() or path.suffix == ".json":
        return load_each([reference], place)[0]
    from edgeprof.errors import CarbonError
    from edgeprof.models import read_model

    digest = read_model(path).digest
    with open_store(place, reading=True) as store:
        rows = store.list(model=digest, limit=1)
        if not rows:
            raise CarbonError(
                f"{reference} was never profiled here", f"measure it: edgeprof profile {reference} -d DEVICE --energy"
            )
        click.echo(f"edgeprof: {reference}: run {rows[0].id} on {rows[0].device}, its newest", err=True)
        return store.get(rows[0].id)


def _print(renderable: Any) -> None:
    from edgeprof.cli.output import console

    console().print(renderable)
