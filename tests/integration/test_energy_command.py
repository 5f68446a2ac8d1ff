"""`edgeprof profile --energy` as a person types it."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from edgeprof.models.example import write_example
from edgeprof.store import Store
from tests.integration.command_line import CommandLine
from tests.integration.test_agent import processes

QUICK = ("--rounds", "1", "--min-runs", "2", "--min-time", "0", "--gate-timeout", "0")


@pytest.fixture
def typed(tmp_path: Path) -> CommandLine:
    write_example(tmp_path / "a.onnx")
    line = CommandLine(tmp_path)
    assert line.run("devices", "add", "board", "sim:jetson-nano").returncode == 0
    return line


def test_a_board_with_a_sensor_gives_joules_of_the_model_and_of_its_operators(typed: CommandLine) -> None:
    done = typed.run("profile", "a.onnx", "-d", "board", "--energy", "--json", "a.json", *QUICK)

    assert done.returncode == 0, done.stderr
    document = json.loads((typed.folder / "a.json").read_text())
    energy, operators = document["energy"], document["operator_energies"]
    assert document["origin"] == "simulated"
    assert energy["meter"]["boundary"] == "module"
    assert 0 < energy["net_j"]["low"] < energy["net_j"]["value"] < energy["gross_j"]["value"]
    assert len(energy["windows"]) == 5
    assert all(one["isolated_j"] is not None for one in operators["operators"])
    assert operators["closure"]["value"] == pytest.approx(1.0, abs=0.05)


def test_what_is_kept_has_the_loops_and_is_shown_again(typed: CommandLine) -> None:
    assert typed.run("profile", "a.onnx", "-d", "board", "--energy", *QUICK).returncode == 0

    shown = typed.run("runs", "show", "latest")

    assert "per inference, rest included" in shown.stdout
    assert "of the whole" in shown.stdout
    with Store(typed.folder / "edgeprof" / "store.sqlite") as store:
        run = store.get("latest")
    assert run.loops is not None
    assert run.loops.empty is not None


def test_without_a_budget_operators_are_left_out_and_the_model_is_measured(typed: CommandLine) -> None:
    done = typed.run("profile", "a.onnx", "-d", "board", "--energy", "--energy-budget", "0", *QUICK)

    assert done.returncode == 0, done.stderr
    assert "per inference, rest included" in done.stdout
    assert "no operator was measured in a loop" in done.stdout


def test_a_meter_that_is_named_and_not_there_is_told_before_anything_is_measured(typed: CommandLine) -> None:
    done = typed.run("profile", "a.onnx", "--energy", "--meter", "hwmon:nothing", *QUICK)

    assert done.returncode == 1
    assert "no meter is called 'hwmon:nothing'; there are: " in done.stderr
    assert "--meters" in done.stderr
    assert typed.run("runs", "list", "--json").stdout.strip() == "[]"


def test_a_simulated_board_is_not_measured_by_a_plug(typed: CommandLine) -> None:
    done = typed.run("profile", "a.onnx", "-d", "board", "--energy", "--meter", "tasmota:127.0.0.1:9", *QUICK)

    assert done.returncode == 1
    assert "simulated board" in done.stderr


def test_a_pass_without_a_trace_says_how_to_attach_one(typed: CommandLine) -> None:
    done = typed.run("profile", "a.onnx", "-d", "board", "--energy", "--meter", "external", *QUICK)

    assert done.returncode == 0, done.stderr
    assert "edgeprof runs attach " in done.stderr
    said = typed.run("carbon", "latest")
    assert said.returncode == 1
    assert "runs attach" in said.stderr


def test_options_of_energy_without_energy_are_slips(typed: CommandLine) -> None:
    for option, value in (("--energy-window", "20"), ("--energy-windows", "7"), ("--energy-budget", "60")):
        done = typed.run("profile", "a.onnx", "-d", "board", option, value, *QUICK)

        assert done.returncode == 2
        assert f"{option} says how energy is measured" in done.stderr


def test_a_board_without_a_sensor_costs_the_energy_and_not_the_latency(typed: CommandLine) -> None:
    assert typed.run("devices", "add", "old", "sim:pi-4").returncode == 0

    done = typed.run("profile", "a.onnx", "-d", "old", "--energy", "--json", "a.json", *QUICK)

    assert done.returncode == 3
    assert "no energy was measured: " in done.stderr
    assert "edgeprof carbon" in done.stderr
    document = json.loads((typed.folder / "a.json").read_text())
    assert document["energy"] is None
    assert document["energy_missing"]
    assert document["latency"]["median_s"] > 0


def test_a_plug_that_does_not_answer_is_told_before_anything_is_measured(typed: CommandLine) -> None:
    done = typed.run("profile", "a.onnx", "--energy", "--meter", "shelly:127.0.0.1:9", *QUICK)

    assert done.returncode == 1
    assert "127.0.0.1" in done.stderr
    assert "Traceback" not in done.stderr
    assert typed.run("runs", "list", "--json").stdout.strip() == "[]"


def test_a_meter_without_energy_is_a_slip(typed: CommandLine) -> None:
    done = typed.run("profile", "a.onnx", "--meter", "pi-pmic")

    assert done.returncode == 2
    assert "add --energy" in done.stderr


def test_a_campaign_measures_energy_where_its_plan_says_so(typed: CommandLine) -> None:
    plan = (
        'models = ["a.onnx"]\ndevices = ["board"]\n[defaults]\nenergy = true\nrounds = 1\nmin_runs = 1\nmin_s = 0.0\n'
    )
    (typed.folder / "plan.toml").write_text(plan)

    done = typed.run("campaign", "run", "plan.toml")

    assert done.returncode == 0, done.stderr
    assert "per inference, rest included" in typed.run("runs", "show", "latest").stdout


def test_an_interruption_while_operators_are_measured_loses_nothing_of_the_model(typed: CommandLine) -> None:
    process = typed.start("profile", "a.onnx", "-d", "board", "--energy", *QUICK)
    with Store(typed.folder / "edgeprof" / "store.sqlite") as store:
        while not (kept := store.list()):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        run = store.get(kept[0].id)

    assert process.returncode not in (0, 3), said
    assert "Traceback" not in said
    assert run.profile.energy is not None
    assert run.loops is None
    assert processes(typed.folder) == []


def test_grams_of_a_run_with_energy_come_from_its_meter(typed: CommandLine) -> None:
    assert typed.run("profile", "a.onnx", "-d", "board", "--energy", "--energy-budget", "0", *QUICK).returncode == 0

    done = typed.run("carbon", "latest", "--zone", "FR", "--rate", "1/s")

    assert done.returncode == 0, done.stderr
    assert "module" in done.stdout
    assert "MODELLED" not in done.stdout
