"""`--recipe`: a command that follows what a tuning found."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from device_agents import wire
from edgeprof.cli.recipe import Followed, recipe_options
from edgeprof.errors import TuningError
from edgeprof.fleet import Device
from edgeprof.models import read_model
from edgeprof.models.example import write_example
from edgeprof.profiling import Settings
from edgeprof.tuning.recipe import write_recipe
from tests.unit.profiles import make_profile, make_run
from tests.unit.recipes import CAPPED, PLAIN, make_recipe


@click.command()
@recipe_options
@click.option("--threads", type=int, default=1)
@click.option("--clock-cap", "clock_caps", multiple=True)
def follow(recipe_path: Path, without_root: bool, threads: int, clock_caps: tuple[str, ...]) -> None:
    """What `profile` does with it."""
    followed = Followed(recipe_path, Settings(seed=7), without_root=without_root)
    click.echo(followed.settings)


def typed(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(follow, ["--recipe", str(path), *arguments])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_recipe(make_recipe(best=CAPPED, without_root=PLAIN), tmp_path / "recipe.toml")
    return tmp_path / "recipe.toml"


def test_settings_are_the_recipes_and_without_root_the_other_ones(path: Path) -> None:
    whole, alone = typed(path), typed(path, "--without-root")

    assert "policy4" in whole.output
    assert "affinity=(4, 5, 6, 7)" in whole.output
    assert "seed=7" in whole.output
    assert "policy4" not in alone.output
    assert "affinity=(0, 1)" in alone.output


@pytest.mark.parametrize("given", [("--threads", "2"), ("--clock-cap", "policy0=1GHz")])
def test_what_the_recipe_says_cannot_be_said_twice(given: tuple[str, str], path: Path) -> None:
    done = typed(path, *given)

    assert done.exit_code == 2
    assert f"{given[0]} and --recipe exclude each other" in done.output


def test_another_model_is_refused_and_another_version_told(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_example(tmp_path / "other.onnx")
    with click.Context(follow).scope():
        followed = Followed(path, Settings())

    with pytest.raises(TuningError, match=r"other\.onnx is another model") as refused:
        followed.require([read_model(tmp_path / "other.onnx")], [])
    assert "edgeprof tune other.onnx -d pi5" in refused.value.advice
    with pytest.raises(TuningError, match="found on the device pi5, and phone is simulated"):
        followed.require([], [Device(name="phone", address="sim:phone-sdm845")])
    followed.require([], [Device(name="pi", address="ssh://pi@pi5")])
    followed.tell_differences([make_run(make_profile())])
    assert capsys.readouterr().err == ""
    other = make_run(dataclasses.replace(make_profile(), runtime_version="9.9", origin=wire.EMULATED))
    followed.tell_differences([other, other])
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "this is 9.9: tune again to be sure" in said[0]
