"""Options of `edgeprof profile`: what is read, and what is refused before anything is done."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from device_agents import wire
from edgeprof.cli.output import console, require_writable
from edgeprof.cli.profile import _is_trusted, profile
from edgeprof.cli.profile_settings import to_batches, to_settings
from edgeprof.errors import EdgeprofError
from edgeprof.profiling import Settings
from edgeprof.verdict import judge
from tests.unit.run_factory import make_run


def read(*arguments: str) -> Settings:
    context: dict[str, Any] = profile.make_context("profile", ["model.onnx", *arguments]).params
    return to_settings(context)


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0", (0,)),
        ("0,2-3", (0, 2, 3)),
        ("3-3,1", (3, 1)),
        ("4,0-1", (4, 0, 1)),
        ("1,1", (1,)),
        ("2,0-3", (2, 0, 1, 3)),
        ("4095", (4095,)),
    ],
)
def test_a_list_of_cpus_is_read_in_the_order_that_was_typed(text: str, cpus: tuple[int, ...]) -> None:
    assert read("--affinity", text).options.affinity == cpus


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--affinity", text] for text in ("3-2", "0-9999999999", "4096", "0-4096", "", ",", "0,,1", "1-", "-1", "x")),
        *(["--clock-cap", text] for text in ("", "policy0", "policy0=", "policy0=1.2", "policy0=0GHz", "=1GHz")),
        *(["--clock-cap", text] for text in ("policy0=-1GHz", "policy0=nanGHz", "policy0=1THz", "policy0=1e9Hz")),
        *(["--min-time", text] for text in ("nan", "inf", "-1")),
        *(["--max-time", text] for text in ("nan", "inf", "0.5")),
        *(["--gate-timeout", text] for text in ("nan", "inf")),
        *(["--deadline", text] for text in ("nan", "inf", "0")),
        *(["--threads", text] for text in ("0", "1025")),
        *(["--streams", text] for text in ("0", "-1", "257", "two")),
        *(["--shape", text] for text in ("x", "=1", "x=0", "x=1,,2", "x=a")),
        *(["--provider-option", text] for text in ("a", "=b")),
        *(["--delegate-option", text] for text in ("a", "=b")),
    ],
    ids=" ".join,
)
def test_an_option_that_makes_no_sense_is_a_usage_error_that_names_it(arguments: list[str]) -> None:
    with pytest.raises(click.BadParameter) as caught:
        read(*arguments)

    assert arguments[0] in caught.value.format_message()


@pytest.mark.parametrize(
    ("text", "max_hz"),
    [("1.2GHz", 1.2e9), ("1.1ghz", 1.1e9), ("1800 MHz", 1.8e9), ("600000kHz", 6e8), ("600000000Hz", 6e8)],
)
def test_a_cap_of_a_clock_has_its_unit(text: str, max_hz: float) -> None:
    assert read("--clock-cap", f"policy0={text}").clock_caps == (wire.ClockCap("policy0", max_hz),)


def test_two_caps_of_one_clock_are_a_usage_error() -> None:
    caps = read("--clock-cap", "policy0=1GHz", "--clock-cap", "policy4=2GHz").clock_caps

    assert [cap.policy for cap in caps] == ["policy0", "policy4"]
    with pytest.raises(click.BadParameter, match="two caps are given for policy0"):
        read("--clock-cap", "policy0=1GHz", "--clock-cap", "policy0=2GHz")


def test_spinning_is_left_to_the_runtime_unless_it_is_asked_for() -> None:
    spinning = [read(*arguments).options.spinning for arguments in ((), ("--spinning",), ("--no-spinning",))]

    assert spinning == [None, True, False]


def test_a_long_round_needs_no_second_option() -> None:
    schedule = read("--min-time", "40").schedule

    assert (schedule.min_s, schedule.max_s) == (40.0, 40.0)


def test_the_value_of_an_option_may_have_an_equals_sign() -> None:
    options = read("--provider-option", "a=b=c", "--delegate-option", "d=", "--delegate-option", "e==").options

    assert options.provider_options == {"a": "b=c"}
    assert options.delegate_options == {"d": "", "e": "="}


def test_the_name_of_an_input_may_have_an_equals_sign() -> None:
    shapes = read("--shape", "a=b=1,3", "--shape", "c=2x4", "--shape", "scalar=").options.shapes

    assert shapes == {"a=b": (1, 3), "c": (2, 4), "scalar": ()}


# --- output --------------------------------------------------------------------------------------------------------


def test_tables_in_a_file_are_wide_unless_columns_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.delenv("COLUMNS", raising=False)

    assert console().width == 160

    monkeypatch.setenv("COLUMNS", "100")
    assert console().width == 100


@pytest.mark.parametrize(
    ("target", "told"),
    [("nowhere/a.json", "there is no directory"), (".", "it is a directory"), ("f/a", "no directory")],
)
def test_a_place_that_cannot_be_written_is_told_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f").write_text("")

    with pytest.raises(EdgeprofError, match=told) as caught:
        require_writable(target)

    assert str(caught.value).startswith(f"{target}: cannot be written")
    assert caught.value.advice


@pytest.mark.parametrize("target", ["-", "new.json", "old.json", os.devnull])
def test_a_place_that_can_be_written_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.json").write_text("old")

    require_writable(target)

    assert [file.name for file in tmp_path.iterdir()] == ["old.json"]
    assert (tmp_path / "old.json").read_text() == "old"


@pytest.mark.parametrize(("origin", "passes"), [("measured", True), ("emulated", False), ("simulated", False)])
def test_only_a_measured_number_passes_require_trusted(origin: str, passes: bool) -> None:
    run = make_run(origin=origin)
    assert judge(run.profile).level == "trusted"

    assert _is_trusted(run) is passes


@pytest.mark.parametrize(("text", "sizes"), [(None, (None,)), ("4", (4,)), ("1,2,4", (1, 2, 4)), ("2,2", (2,))])
def test_a_list_of_batch_sizes_is_read(text: str | None, sizes: tuple[int | None, ...]) -> None:
    assert to_batches(text) == sizes


@pytest.mark.parametrize("text", ["", "0", "1,", "1,,2", "-1", "x", "1.5", "1000001", "9999999999", "²"])
def test_what_is_no_list_of_batch_sizes_is_a_usage_error(text: str) -> None:
    with pytest.raises(click.BadParameter, match="batch sizes"):
        to_batches(text)


def test_an_endless_sweep_is_a_usage_error() -> None:
    with pytest.raises(click.BadParameter, match="at most 32"):
        to_batches(",".join(map(str, range(1, 40))))
