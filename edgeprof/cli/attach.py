"""`edgeprof runs attach`: the trace of another power meter for a run that was measured while it recorded."""

from __future__ import annotations

from pathlib import Path

import click

from edgeprof.cli.stores import open_store, store_option

EPILOG = """\b
Examples:
  edgeprof runs attach latest trace.csv --boundary dc-input --clock unix
  edgeprof runs attach 20260131-12 trace.csv --boundary wall --clock own --column-power "P (mW)"
"""


@click.command(epilog=EPILOG, short_help="Give a run the trace of another power meter.")
@click.argument("run", metavar="RUN")
@click.argument("trace", metavar="TRACE.csv", type=click.Path(path_type=Path))
@click.option(
    "--boundary",
    required=True,
    type=click.Choice(["core", "soc-rails", "module", "battery", "dc-input", "wall"]),
    help="Where the meter sits.",
)
@click.option(
    "--clock",
    required=True,
    type=click.Choice(["device", "unix", "own"]),
    help="Whose clock its times are of: the device's monotonic one, wall-clock seconds since 1970, or its own.",
)
@click.option("--column-time", metavar="NAME", help="The column of times.  [default: time, timestamp or t]")
@click.option(
    "--column-power", metavar="NAME", help="The column of power.  [default: power or p, else volts x amperes]"
)
@click.option("--unit", type=click.Choice(["W", "mW", "uW"]), help="The unit of power.  [default: as its column says]")
@click.option("--replace", is_flag=True, help="Replace a trace that was attached before.")
@store_option
def attach(
    run: str,
    trace: Path,
    boundary: str,
    clock: str,
    column_time: str | None,
    column_power: str | None,
    unit: str | None,
    replace: bool,
    place: str | None,
) -> None:
    """Give a run, profiled with --energy --meter external, the power trace that a meter recorded meanwhile.

    The load of the energy pass aligns it. The run keeps its id; it gets all of the trace, or stays as it was.
    """
    from edgeprof.metering import attach as attach_trace
    from edgeprof.meters.csv_trace import Columns
    from edgeprof.reports.joules import energy_lines, joules

    columns = Columns(time=column_time, power=column_power, unit=unit)
    with open_store(place) as store:
        before = store.get(run)
        after = attach_trace(before, trace, boundary=boundary, clock=clock, columns=columns, replace=replace)
        store.replace(before, after)
    energy = after.profile.energy
    if energy is not None and energy.trace is not None:
        click.echo(f"{after.id}: {len(energy.trace.at_s)} values of {trace.name}, aligned {energy.trace.alignment}")
        for line in energy_lines(after, joules(after)):
            click.echo(f"  {line.label:16} {line.text}")
