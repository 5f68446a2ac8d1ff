"""`edgeprof runs collect`: fetch what devices measured on their own, whoever asked them to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeprof.cli.stores import open_store, store_option

if TYPE_CHECKING:
    from edgeprof.collecting import Found
    from edgeprof.fleet import Device
    from edgeprof.models import ModelFile
    from edgeprof.store import Store

__all__ = ["collect"]

EXIT_ERROR, EXIT_SOME_FAILED = 1, 3


@click.command(
    epilog="""\b
Examples:
  edgeprof runs collect -d pi5
  edgeprof runs collect -d pi5 --model model.onnx --discard"""
)
@click.option("-d", "--device", "names", multiple=True, required=True, help="Device of fleet.toml; may be repeated.")
@click.option(
    "--model",
    "models",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A model that was measured, for its operators and outputs; may be repeated.",
)
@click.option("--discard", is_flag=True, help="Have the device forget what is in the store then.")
@store_option
def collect(names: tuple[str, ...], models: tuple[Path, ...], discard: bool, place: str | None) -> int:
    """Fetch results that wait on devices, such as those of `profile --detach` of another host.

    What this store knows as a campaign is left to `campaign resume`. Without --discard devices keep what they have.
    """
    from edgeprof.cli.device_facts import fleet
    from edgeprof.errors import EdgeprofError
    from edgeprof.models import read_model

    devices = [fleet().device(name) for name in names]
    read = {model.digest: model for model in map(read_model, models)}
    n_failed = n_kept = 0
    with open_store(place) as store:
        for device in devices:
            try:
                kept, failed = _collect_from(device, read, store, discard=discard)
            except EdgeprofError as error:
                _tell(error)
                failed, kept = 1, 0
            n_kept, n_failed = n_kept + kept, n_failed + failed
    if n_failed:
        return EXIT_SOME_FAILED if n_kept else EXIT_ERROR
    return 0


def _collect_from(device: Device, models: dict[str, ModelFile], store: Store, *, discard: bool) -> tuple[int, int]:
    """How many results of the device are in the store now, and how many could not be got there."""
    from edgeprof import collecting
    from edgeprof.profiling import OpenDevice

    ours = {campaign.id for campaign in store.campaigns()}
    n_kept = n_failed = n_seen = 0
    with OpenDevice(device) as opened:
        for found in collecting.collect(opened, models):
            n_seen += 1
            campaign = next((one for one in ours if found.ticket.ticket.startswith(f"{one}.")), None)
            if campaign is not None:
                click.echo(f"{device.name}: {found.ticket.ticket}: fetch it by: edgeprof campaign resume {campaign}")
            elif found.run is not None:
                known = bool(store.import_runs([found.run]).known)
                n_kept += 1
                click.echo(f"{device.name}: run {found.run.id}{' was there already' if known else ''}")
                if discard:
                    collecting.discard(opened, found.ticket)
            else:
                n_failed += found.error is not None
                _tell_missing(device, found)
    if not n_seen:
        click.echo(f"{device.name}: nothing waits there")
    return n_kept, n_failed


def _tell_missing(device: Device, found: Found) -> None:
    if found.error is not None:
        _tell(found.error)
    else:
        click.echo(f"{device.name}: {found.ticket.ticket} ({found.ticket.label}) is {found.ticket.state}")


def _tell(error: Exception) -> None:
    click.echo(f"edgeprof: {error}", err=True)
    advice = getattr(error, "advice", "")
    if advice:
        click.echo(f"  what to do: {advice}", err=True)
