"""Recipes: what is written is read again, what makes no sense is refused by its key, and how one is followed."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agents import wire
from edgeprof.errors import TuningError
from edgeprof.profiling import Settings
from edgeprof.tuning.recipe import (
    Recipe,
    differences,
    dump_recipe,
    parse_recipe,
    read_recipe,
    require_model,
    to_settings,
    write_recipe,
)
from tests.unit.profiles import make_profile, make_run
from tests.unit.recipes import CAPPED, PLAIN, make_recipe

SNOWMAN = 'of "Zoë"\n\\ \N{SNOWMAN}'


def test_a_recipe_that_is_written_is_read_again(tmp_path: Path) -> None:
    recipe = make_recipe(conclusion=SNOWMAN, notes=("one", SNOWMAN), latency_budget_s=0.03)

    write_recipe(recipe, tmp_path / "recipe.toml")

    assert read_recipe(tmp_path / "recipe.toml") == recipe
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.toml"]


@given(name=st.text(st.characters(exclude_categories=["Cs"])), threads=st.integers(1, 1024))
def test_whatever_a_model_is_called_it_is_read_again(name: str, threads: int) -> None:
    model = msgspec.structs.replace(make_recipe().model, name=name)
    best = msgspec.structs.replace(PLAIN, settings=msgspec.structs.replace(PLAIN.settings, threads=threads))
    recipe = make_recipe(model=model, best=best)

    assert parse_recipe(dump_recipe(recipe), "here") == recipe


def test_units_and_what_is_unknown_are_in_the_file() -> None:
    text = dump_recipe(make_recipe(best=CAPPED))

    assert "latency_s = {value = 0.01, low = 0.0098, high = 0.0103}" in text
    assert 'clock_caps = [{policy = "policy4", max_hz = 1200000000.0, before_hz = 2400000000.0}]' in text
    assert "energy_j" in text
    assert "energy_j" not in dump_recipe(make_recipe(best=PLAIN, default=None, without_root=None)), "None is left out"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("schema = 1", "schema = 2", "schema 2, this edgeprof reads 1"),
        ("schema = 1", "", "it has no `schema`"),
        ("schema = 1", "schema = true", "it has no `schema`"),
        ("threads = 4", "threads = 0", "`int` >= 1 - at `$.best.settings.threads`"),
        ("threads = 4", 'threads = "4"', "`$.best.settings.threads`"),
        ("threads = 4", "threads = 4\nthraeds = 2", "unknown field `thraeds`"),
        ("affinity = [4, 5, 6, 7]", "affinity = [4, 5, 6, 4]", "best.settings.affinity has a CPU twice"),
        ("affinity = [4, 5, 6, 7]", "affinity = [-1]", "`$.best.settings.affinity[0]`"),
        ('policy = "policy4"', 'policy = "../x"', "matching regex"),
        ("max_hz = 1200000000.0", "max_hz = 0.0", "`float` > 0.0"),
        ("max_hz = 1200000000.0", "max_hz = inf", "a clock that is no number"),
        ("value = 0.01, low = 0.0098", "value = 0.01, low = 0.02", "best.measured.latency_s is no interval"),
        ("value = 0.01, low = 0.0098", "value = nan, low = 0.0098", "best.measured.latency_s is no interval"),
        ('objective = "energy"', 'objective = "joy"', "`$.objective`"),
        ('digest = "d', 'digest = "x', "`$.model.digest`"),
        ("[best.measured]", "[best.measured", "not valid TOML"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_key(old: str, new: str, said: str) -> None:
    text = dump_recipe(make_recipe(best=CAPPED))
    assert old in text

    with pytest.raises(TuningError, match=re.escape(said)) as refused:
        parse_recipe(text.replace(old, new, 1), "here.toml")

    assert str(refused.value).startswith("here.toml: ")
    assert refused.value.advice


def test_files_that_are_no_recipes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")

    for path, said in ((tmp_path / "none", "No such file"), (tmp_path, "directory"), (tmp_path / "binary", "no text")):
        with pytest.raises(TuningError, match=said):
            read_recipe(path)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(TuningError, match="cannot be written: No such file"):
        write_recipe(make_recipe(), tmp_path / "none" / "recipe.toml")


def test_settings_follow_the_recipe_and_leave_the_rest() -> None:
    base = Settings(operators=True, options=wire.RuntimeOptions(threads=7, optimization="basic"))

    settings = to_settings(make_recipe(best=CAPPED), base)

    assert settings.operators
    assert settings.runtime == "onnxruntime"
    assert settings.options == wire.RuntimeOptions(
        threads=4, affinity=(4, 5, 6, 7), spinning=False, optimization="basic"
    )
    assert settings.clock_caps == (wire.ClockCap("policy4", 1.2e9),)


def test_without_root_the_other_settings_are_followed() -> None:
    recipe = make_recipe(best=CAPPED, without_root=PLAIN)

    settings = to_settings(recipe, without_root=True)

    assert settings.clock_caps == ()
    assert settings.options.threads == PLAIN.settings.threads
    with pytest.raises(TuningError, match="nothing that works without root"):
        to_settings(make_recipe(best=CAPPED, without_root=None), without_root=True)
    assert to_settings(make_recipe(best=PLAIN), without_root=True) == to_settings(make_recipe(best=PLAIN))


def test_a_recipe_of_another_model_is_refused() -> None:
    recipe = make_recipe()

    require_model(recipe, recipe.model.digest, "net.onnx")
    with pytest.raises(TuningError, match=r"net2\.onnx is another model"):
        require_model(recipe, "e" * 64, "net2.onnx")


def test_what_is_not_as_it_was_is_said() -> None:
    recipe = make_recipe()
    run = make_run(make_profile())

    assert differences(recipe, run) == ()
    later = make_run(dataclasses.replace(make_profile(), runtime_version="9.9"))
    assert "found with onnxruntime 1.31.1, this is 9.9" in differences(recipe, later)[0]
    job = dataclasses.replace(run.profile.job, runtime="litert")
    assert "this ran on litert" in differences(recipe, make_run(make_profile(job=job)))[0]
    machine = dataclasses.replace(run.profile.machine, model="Raspberry Pi 4 Model B")
    assert (
        "this is pi5 (Raspberry Pi 4 Model B with 4)" in differences(recipe, make_run(make_profile(machine=machine)))[0]
    )
    assert "this run's are emulated" in differences(recipe, make_run(make_profile(origin=wire.EMULATED)))[0]


def test_every_part_of_a_recipe_is_in_its_reference() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "recipe.md").read_text()
    parts, seen = [Recipe], set()
    while parts:
        part = parts.pop()
        seen.add(part)
        for field in msgspec.structs.fields(part):
            assert f"`{field.name}`" in page, f"{part.__name__}.{field.name}"
            found = re.findall(r"edgeprof\.tuning\.recipe\.(\w+)", str(field.type))
            module = __import__("edgeprof.tuning.recipe", fromlist=found or ["Recipe"])
            parts += [kind for kind in (getattr(module, name) for name in found) if kind not in seen]
    assert len(seen) > 5


def test_the_recipe_shown_in_the_reference_can_be_read() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "recipe.md").read_text()
    (shown,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)

    recipe = parse_recipe(shown, "the page")

    assert recipe.best.settings.clock_caps[0].before_hz == 2.4e9
    assert parse_recipe(dump_recipe(recipe), "again") == recipe
