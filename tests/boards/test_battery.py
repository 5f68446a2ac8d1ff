"""A battery as a meter, by the kernel's battery class on a virtual board."""

from __future__ import annotations

import dataclasses

import pytest

from device_agents import wire
from edgeprof.agent import Agent
from edgeprof.energy.model import model_energy
from edgeprof.errors import JobRefused
from tests.boards.measuring import PLAN, agent_on, energy_of, rest_w
from tests.boards.virtual_board import VirtualBoard

pytestmark = [pytest.mark.ssh, pytest.mark.slow, pytest.mark.timeout(600)]


def battery_of(agent: Agent) -> wire.MeterInfo:
    (battery,) = [meter for meter in agent.meters() if meter.boundary == wire.BATTERY]
    return battery


def test_a_battery_on_a_charger_is_refused_as_a_meter(board: VirtualBoard) -> None:
    board.set_battery(status="charging", charger=True)
    with agent_on(board) as agent:
        battery = battery_of(agent)
        with pytest.raises(JobRefused, match="on a charger") as refused:
            energy_of(agent, dataclasses.replace(PLAN, meter=battery.name))

    assert battery.on_charge
    assert refused.value.kind == "charging"


def test_a_battery_that_says_milliamperes_and_counts_outflow_negative_is_set_right_and_told(
    board: VirtualBoard,
) -> None:
    board.set_battery(voltage_uv=4_000_000)
    board.play("--battery", "--load", "3", "2")
    with agent_on(board) as agent:
        # It says that it has a new value each second: the first of a window is not looked at.
        plan = dataclasses.replace(
            PLAN, meter=battery_of(agent).name, rate_hz=20.0, window_s=3.0, idle_s=2.5, min_updates=2
        )
        energy = energy_of(agent, plan)
    truth, found = board.played(), model_energy(energy)

    assert found.calibration is not None
    assert "sign was turned" in found.calibration
    assert "multiplied by 1000" in found.calibration
    for one in found.windows:
        window = energy.windows[one.window]
        assert one.power_w == pytest.approx(truth.mean_w(window.start_s, window.end_s), abs=0.5)
        assert one.idle_w == pytest.approx(rest_w(truth, energy, one.window), abs=0.5)
