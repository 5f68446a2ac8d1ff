"""How long jobs wait for quiet where nobody says it: the environment does, for every command, plans and Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

import edgeprof
from edgeprof import gate_timeout
from edgeprof.campaign import plan_of
from edgeprof.cli.profile import profile
from edgeprof.cli.profile_settings import to_settings
from edgeprof.errors import UsageError
from edgeprof.models.example import write_example


def on_the_command_line(*arguments: str) -> float:
    context: dict[str, Any] = profile.make_context("profile", ["model.onnx", *arguments]).params
    return to_settings(context).gate.timeout_s


def in_a_plan(folder: Path, **defaults: Any) -> float:
    write_example(folder / "a.onnx")
    plan = plan_of({"models": ["a.onnx"], "devices": ["pi4"], "defaults": defaults}, "plan.toml", folder)
    return plan.configurations[0].settings().gate.timeout_s


def test_it_is_a_minute_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(gate_timeout.VARIABLE)
    assert on_the_command_line() == in_a_plan(tmp_path) == gate_timeout.usual_s() == 60.0

    monkeypatch.setenv(gate_timeout.VARIABLE, "7.5")
    assert on_the_command_line() == in_a_plan(tmp_path) == gate_timeout.usual_s() == 7.5


def test_what_is_given_beats_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(gate_timeout.VARIABLE, "7.5")

    assert on_the_command_line("--gate-timeout", "0") == 0.0
    assert in_a_plan(tmp_path, gate_timeout_s=20.0) == 20.0


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf"])
def test_what_is_no_time_is_refused_by_its_name(text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(gate_timeout.VARIABLE, text)

    with pytest.raises(click.BadParameter):
        on_the_command_line()
    for refused in (lambda: in_a_plan(tmp_path), lambda: edgeprof.profile("model.onnx", store=None)):
        with pytest.raises(UsageError, match=gate_timeout.VARIABLE) as caught:
            refused()
        assert "seconds" in caught.value.advice
