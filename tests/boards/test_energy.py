"""A power chip found through the kernel and integrated; and what makes a window not count. On a virtual board."""

from __future__ import annotations

import dataclasses

import pytest

from device_agents.wire import BUSY, UNSTATED, EnergyPass
from edgeprof.energy.evidence import against
from edgeprof.energy.model import model_energy
from edgeprof.energy.traces import integral_j, mean_power, shown
from edgeprof.errors import MeasurementError
from tests.boards.measuring import PLAN, agent_on, energy_of, rest_w
from tests.boards.registers import POWER_STEP_W
from tests.boards.virtual_board import HOT_C, VirtualBoard

pytestmark = [pytest.mark.ssh, pytest.mark.slow, pytest.mark.timeout(600)]

TOLERANCE = 0.02
# Of the windows idle, busy, idle, busy, idle, busy, idle.
MIDDLE, LAST = 3, 5
# An edge of the pattern is known to half a period of the chip and a read: long windows have few for their length.
LONG = dataclasses.replace(PLAN, windows=2, window_s=3.0, idle_s=3.0)


def reasons(energy: EnergyPass) -> dict[int, str]:
    """Why windows do not count, by their number."""
    busy = [window for window in energy.windows if window.kind == BUSY]
    on_charge = energy.trace is not None and energy.trace.meter.on_charge
    return {
        k: "; ".join(against(window, busy, on_charge=on_charge))
        for k, window in enumerate(energy.windows)
        if window.kind == BUSY
    }


def test_the_chip_is_found_through_the_kernel_and_nothing_else_there_passes_for_a_meter(board: VirtualBoard) -> None:
    names = set(board.shell("cat /sys/class/hwmon/hwmon*/name").split())
    with agent_on(board) as agent:
        meters = [meter for meter in agent.meters() if meter.source == "hwmon"]

    assert names == {"ina226", "cpu_thermal", "test_battery", "test_ac", "test_usb"}
    (meter,) = meters
    assert meter.name == f"hwmon:ina226@{board.meter_bus()}-0040"
    assert meter.boundary == UNSTATED
    assert meter.period_s == 0.035  # update_interval: 16 averages of 1.1 ms for each of two inputs, in whole ms
    assert meter.resolution == pytest.approx(POWER_STEP_W)
    assert meter.unusable is None


def test_the_energy_of_every_window_is_the_integral_of_the_pattern_that_the_registers_followed(
    board: VirtualBoard,
) -> None:
    board.play("--levels", "3", "5.5", "4", "7", "--hold", "0.9")
    with agent_on(board) as agent:
        energy = energy_of(agent, LONG)
    truth = board.played()

    assert energy.trace is not None
    trace = shown(energy.trace)
    assert len(energy.windows) == 5
    for window in energy.windows:
        measured_j = integral_j(trace, window.start_s, window.end_s)
        assert measured_j == pytest.approx(truth.integral_j(window.start_s, window.end_s), rel=TOLERANCE)


def test_joules_per_inference_are_those_that_the_registers_showed_under_load(board: VirtualBoard) -> None:
    board.play("--load", "3", "2")
    with agent_on(board) as agent:
        energy = energy_of(agent, PLAN)
    truth = board.played()

    found = model_energy(energy)
    assert energy.windows[MIDDLE].n_runs > 0
    assert not found.discarded
    assert found.power_w.value > found.idle_w.value
    for one in found.windows:
        window = energy.windows[one.window]
        true_j = truth.integral_j(window.start_s, window.end_s) / window.n_runs
        assert one.gross_j == pytest.approx(true_j, rel=TOLERANCE)
        # A second of rest has few values of the chip, and an edge at each end.
        assert one.idle_w == pytest.approx(rest_w(truth, energy, one.window), abs=0.3)
    assert found.gross_j.low <= found.gross_j.value <= found.gross_j.high


def test_a_charger_that_is_plugged_in_mid_run_costs_that_window_alone(board: VirtualBoard) -> None:
    board.play("--load", "3", "2")

    def plug(window: int) -> None:
        if window == MIDDLE:
            board.set_battery(status="charging", charger=True)

    with agent_on(board) as agent:
        energy = energy_of(agent, PLAN, in_window=plug)

    said = reasons(energy)
    assert "what feeds the device changed from battery Discharging" in said[MIDDLE]
    assert [said[k] for k in said if k != MIDDLE] == ["", ""]
    with pytest.raises(MeasurementError, match="2 windows count, at least 3 must: what feeds the device changed"):
        model_energy(energy)


def test_clocks_that_a_hot_board_holds_down_discard_the_window(board: VirtualBoard) -> None:
    board.play("--load", "3", "2")

    def heat(window: int) -> None:
        if window == LAST:
            board.set_temperature(HOT_C)

    with agent_on(board) as agent:
        energy = energy_of(agent, dataclasses.replace(PLAN, window_s=4.0), in_window=heat)

    said = reasons(energy)
    assert [said[k] for k in said if k != LAST] == ["", ""]
    assert "maximum clock of CPUs 0 1 fell from 1800 MHz to " in said[LAST]
    assert "maximum clock of CPUs 2 3 fell from 1800 MHz to " in said[LAST]
    assert energy.windows[-1].after.temperatures_c["cpu-thermal"] == HOT_C


def test_a_meter_that_is_unplugged_in_mid_window_is_told_and_its_windows_are_refused(board: VirtualBoard) -> None:
    board.play("--load", "3", "2")

    def pull(window: int) -> None:
        if window == MIDDLE:
            board.unplug_meter()

    with agent_on(board) as agent:
        energy = energy_of(agent, PLAN, in_window=pull)
        left = [meter for meter in agent.meters() if meter.source == "hwmon"]
    truth = board.played()

    assert left == []
    assert energy.trace is not None
    assert energy.trace.failed_at_s
    assert "No such device" in (energy.trace.failure or "")
    trace, first = shown(energy.trace), energy.windows[1]
    true_w = truth.mean_w(first.start_s, first.end_s)
    assert mean_power(trace, first.start_s, first.end_s).power_w == pytest.approx(true_w, rel=TOLERANCE)
    with pytest.raises(MeasurementError, match=r"[01] windows count, at least 3 must: .*No such device"):
        model_energy(energy)
