"""`edgeprof demo`: the whole story on this machine, without any device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edgeprof.run import Run

MOST_WAITING_S = 15.0
EPILOG = "\b\nExample:\n  edgeprof demo"

NEXT = """
What to type next
  edgeprof profile YOUR_MODEL.onnx --operators        your own model, here
  edgeprof runs list                                  what was kept, with every raw sample
  edgeprof runs export {run} --trace trace.json       one inference, for chrome://tracing or ui.perfetto.dev
  edgeprof carbon {run} --zone FR --rate 10/s         grams where you are, with every input's source
  edgeprof devices add pi5 ssh://pi@raspberrypi.local --install-key
  edgeprof devices doctor pi5                         what is missing there
  edgeprof profile YOUR_MODEL.onnx -d pi5 --operators the same on your board
"""


@click.command(epilog=EPILOG)
def demo() -> int:
    """Make a small real model, profile it on this machine, and explain the numbers. Takes under a minute."""
    from device_agents import wire
    from edgeprof.cli.output import console
    from edgeprof.cli.progress import progress_bar
    from edgeprof.fleet import Fleet
    from edgeprof.models import read_model
    from edgeprof.models.example import write_example
    from edgeprof.places import data_dir, fleet_file, store_place
    from edgeprof.profiling import OpenDevice, Settings
    from edgeprof.reports.text import render_run
    from edgeprof.store import Store

    out = console()
    path = data_dir() / "demo" / "example.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_example(path)
    click.echo(f"1. Made a small image classifier: {path}")
    click.echo("2. The agent measures it here, through the same protocol as on a board. This takes about ten seconds,")
    click.echo(f"   and up to {MOST_WAITING_S:.0f} more where the machine is busy: rounds wait for quiet.")
    model = read_model(path)
    settings = Settings(operators=True, gate=wire.Gate(timeout_s=MOST_WAITING_S))
    with (
        Store(store_place()) as store,
        OpenDevice(Fleet.read(fleet_file()).device("local")) as device,
        progress_bar("example.onnx on this machine") as on_progress,
    ):
        run = device.profile(model, settings, on_progress)
        store.add(run)
    out.print(render_run(run, top=12))
    click.echo("3. The verdict above says how far to trust these numbers, and what would make them better.")
    _tell_grams(run)
    click.echo(NEXT.format(run=run.id), nl=False)
    return 0


def _tell_grams(run: Run) -> None:
    from edgeprof.carbon import carbon_of
    from edgeprof.reports.carbon import carbon_summary

    click.echo("4. Joules and grams of an inference: medians of what the inputs' ranges allow, and 90 % of it:")
    statement = carbon_of(run)
    for line in (*carbon_summary(statement), *(f"   {one}" for one in statement.attributions)):
        click.echo(line)
