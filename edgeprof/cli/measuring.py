"""What commands that measure have in common: waiting for a device that is held, keeping runs, telling what failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edgeprof.errors import EdgeprofError
    from edgeprof.models import ModelFile
    from edgeprof.run import Run
    from edgeprof.store import Store

__all__ = ["keep", "tell", "tell_assumptions", "when_free"]


def when_free(measure: Callable[[], Run], wait_s: float) -> Run:
    """Measure as soon as nobody else has the device, if that is soon enough."""
    from edgeprof import spooled

    return spooled.when_free(measure, wait_s, lambda text: click.echo(f"edgeprof: {text}", err=True))


def keep(run: Run, store: Store | None) -> Iterator[EdgeprofError]:
    """Store the run; what went wrong if it could not be."""
    from edgeprof.errors import StoreError

    try:
        if store is not None:
            store.add(run)
    except StoreError as error:
        yield error


def tell(error: Exception, debug: bool) -> None:
    """Say what went wrong and what to do; raise it where that is asked for."""
    if debug:
        raise error
    click.echo(f"edgeprof: {error}", err=True)
    advice = getattr(error, "advice", "")
    if advice:
        click.echo(f"  what to do: {advice}", err=True)


def tell_assumptions(models: Sequence[ModelFile]) -> None:
    """Before minutes are spent: which sizes nobody gave, and what is worth knowing of the values."""
    lines = {(model.name, note) for model in models for note in (*model.inputs.assumptions, *model.inputs.notes)}
    for name, note in sorted(lines):
        click.echo(f"edgeprof: {name}: {note}", err=True)
