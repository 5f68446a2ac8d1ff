"""The loops of operators, on this machine and on a simulated board: what is chosen, what fails, what is said."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from device_agents import wire
from edgeprof.fleet import Device
from edgeprof.models import read_model
from edgeprof.operator_loops import expected_s, loop_s, measure_loops
from edgeprof.profiling import OpenDevice, Settings
from tests.real_models import real_model
from tests.unit.recorded_here import run_here

NO_METER = wire.EnergyPlan(meter="no-such-meter", windows=1, window_s=0.01, idle_s=0.01)


def test_expected_time_counts_every_window_of_every_loop_and_the_empty_model() -> None:
    plan = wire.EnergyPlan(windows=5, window_s=10.0, idle_s=5.0, observer_windows=2)
    slow = wire.MeterInfo("slow", "", "power", "wall", ("w",), period_s=1.0)

    # Five windows of 10 s between six of 5 s; with a meter of 1 Hz and 20 updates, of 20 s and 10 s.
    assert expected_s(plan, None, 1) == pytest.approx(2 * (80.0 + 6.0))
    assert expected_s(plan, slow, 1) == pytest.approx(2 * (160.0 + 6.0))
    assert loop_s(plan, None) > 80.0


def test_without_a_meter_every_operator_is_missing_with_the_reason() -> None:
    model, run = run_here(real_model("magika.onnx").path)
    quick = replace(run.profile.job, gate=wire.Gate(max_load=1.0, timeout_s=0.0))
    run = replace(run, profile=replace(run.profile, job=quick))

    with OpenDevice(Device(name="here", python=sys.executable)) as opened:
        loops = measure_loops(opened, model, run, NO_METER, seed=3, most_operators=1)

    assert loops.seed == 3
    assert loops.empty is None
    assert loops.empty_missing is not None
    assert "meter" in loops.empty_missing
    assert sorted(k for loop in loops.operators for k in loop.kernels) == list(range(len(run.operators)))
    assert all(loop.missing is not None and loop.energy is None for loop in loops.operators)
    tried = [loop for loop in loops.operators if "meter" in (loop.missing or "")]
    assert len(tried) == 1
    left_out = [loop for loop in loops.operators if "there was time for 1 of" in (loop.missing or "")]
    assert left_out


def test_a_budget_too_small_for_one_loop_leaves_all_out_but_the_empty_model() -> None:
    model, run = run_here(real_model("magika.onnx").path)
    heard: list[tuple[int, int]] = []

    with OpenDevice(Device(name="here", python=sys.executable)) as opened:
        loops = measure_loops(
            opened, model, run, NO_METER, budget_s=1.0, on_loop=lambda done, n: heard.append((done, n))
        )

    assert heard == [(0, 1)]
    assert all("there was time for 0 of" in (loop.missing or "") for loop in loops.operators)


def test_on_a_simulated_board_the_largest_operator_and_the_empty_model_are_measured() -> None:
    plan = wire.EnergyPlan(windows=1, window_s=1.0, idle_s=1.0, min_updates=1, observer_windows=0)
    model = read_model(real_model("magika.onnx").path)

    with OpenDevice(Device(name="board", address="sim:pi-5", python=sys.executable)) as opened:
        run = opened.profile(model, Settings(operators=True))
        job = run.profile.job
        assert job.board is not None
        board = replace(job.board, sensor=wire.Sensor("dc-input", rate_hz=10.0, noise_w=0.1, step_w=0.02))
        run = replace(run, profile=replace(run.profile, job=replace(job, board=board)))
        loops = measure_loops(opened, model, run, plan, most_operators=1)

    assert loops.empty is not None, loops.empty_missing
    measured = [loop for loop in loops.operators if loop.energy is not None]
    assert len(measured) == 1
    assert measured[0].energy is not None
    assert [window.kind for window in measured[0].energy.windows] == ["idle", "busy", "idle"]
