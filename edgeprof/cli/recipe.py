"""`--recipe FILE`: a command that follows what `edgeprof tune` found."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeprof.cli.profile_settings import is_given

if TYPE_CHECKING:
    from edgeprof.fleet import Device
    from edgeprof.models import ModelFile
    from edgeprof.profiling import Settings
    from edgeprof.run import Run
    from edgeprof.tuning.recipe import Recipe

__all__ = ["Followed", "recipe_options"]

# What a recipe says itself.
SAID_BY_RECIPES = ("runtime", "threads", "affinity", "spinning", "xnnpack", "provider", "delegate", "clock_caps")


def recipe_options(command: click.decorators.FC) -> click.decorators.FC:
    """`--recipe` and `--without-root`."""
    path = click.option(
        "--recipe", "recipe_path", type=click.Path(path_type=Path), metavar="FILE", help="Run as `edgeprof tune` found."
    )
    alone = click.option("--without-root", is_flag=True, help="Of a recipe, what needs no permission.")
    return path(alone(command))


class Followed:
    """A recipe that a command follows.

    Raises:
        TuningError: the file cannot be used.
        click.UsageError: an option says something that the recipe says too.
    """

    def __init__(self, path: Path, settings: Settings, *, without_root: bool = False) -> None:
        from edgeprof.tuning.recipe import read_recipe, to_settings

        for name in SAID_BY_RECIPES:
            if is_given(name):
                option = "--" + name.replace("_", "-").removesuffix("s" if name == "clock_caps" else "")
                raise click.UsageError(f"{option} and --recipe exclude each other: the recipe says it")
        self.recipe: Recipe = read_recipe(path)
        self.settings = to_settings(self.recipe, settings, without_root=without_root)

    def require(self, models: Iterable[ModelFile], devices: Iterable[Device]) -> None:
        """Refuse another model than the recipe's, and a device that cannot follow it."""
        from edgeprof.tuning.recipe import require_device, require_model

        for model in models:
            require_model(self.recipe, model.digest, model.name)
        for device in devices:
            require_device(self.recipe, device)

    def tell_differences(self, runs: Iterable[Run]) -> None:
        """Say what of runs is not as it was for the recipe."""
        from edgeprof.tuning.recipe import differences

        for text in dict.fromkeys(text for run in runs for text in differences(self.recipe, run)):
            click.echo(f"edgeprof: {text}", err=True)
