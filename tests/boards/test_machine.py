"""What the agent sees of a whole machine: clusters, clocks, heat, and the model that the device tree names."""

from __future__ import annotations

import pytest

from device_agents import wire
from edgeprof.profiling import OpenDevice, Settings
from edgeprof.verdict import judge
from tests.boards.measuring import QUICK, agent_on, small_model
from tests.boards.virtual_board import FULL_KHZ, HOT_C, VirtualBoard

pytestmark = [pytest.mark.ssh, pytest.mark.slow, pytest.mark.timeout(600)]

# What a board at rest comes to, by how busy the host is that emulates it.
STEADY = ("trusted", "steady-unverified", "noisy", "drifting")
BIG, LITTLE = "0 1", "2 3"


def test_clusters_have_their_capacities_and_clocks(board: VirtualBoard) -> None:
    capacities = board.shell("cat /sys/devices/system/cpu/cpu*/cpu_capacity").split()
    with agent_on(board) as agent:
        machine, now = agent.hello.machine, agent.conditions()
        board.set_governor("powersave")
        board.until("grep -qx 600000 /sys/devices/system/cpu/cpufreq/policy2/scaling_cur_freq", "slow clocks")
        later = agent.conditions()

    assert machine.model == "edgeprof virtual board, big.LITTLE 2+2"
    assert machine.architecture == "aarch64"
    assert machine.n_cpus == 4
    assert capacities == ["1024", "1024", "446", "446"]
    assert {clocks.cpus for clocks in now.clocks} == {BIG, LITTLE}
    for before, after in zip(now.clocks, later.clocks, strict=True):
        assert (before.governor, after.governor) == ("performance", "powersave")
        assert before.hardware_max_hz == FULL_KHZ * 1e3
        assert (before.current_hz, after.current_hz) == (1.8e9, 600e6)
        assert after.time_in_state_s["600000000"] > before.time_in_state_s["600000000"]


def test_heat_is_seen_and_turns_the_verdict_to_throttled(board: VirtualBoard) -> None:
    settings = Settings(
        runtime="litert",
        schedule=QUICK,
        gate=wire.Gate(timeout_s=0.0),
        check_outputs=False,
    )

    def heat(progress: wire.Progress) -> None:
        if progress.stage == "rounds" and progress.done == 1:
            board.set_temperature(HOT_C)

    with OpenDevice(board.device(), link=board.link()) as opened:
        cool = judge(opened.profile(small_model(), settings).profile)
        hot = judge(opened.profile(small_model(), settings, heat).profile)

    assert cool.level in STEADY, cool.reasons
    assert hot.level == "throttled"
    assert "maximum clock of CPUs 0 1 fell from 1800 MHz" in hot.reasons[0].what
    board.until("grep -qx 1 /sys/class/thermal/cooling_device*/cur_state", "a cooling device is on", within_s=1)


def test_a_raspberry_pi_3_is_known_by_its_device_tree_and_its_heat_is_read(raspi3b: VirtualBoard) -> None:
    with agent_on(raspi3b) as agent:
        machine, now, meters = agent.hello.machine, agent.conditions(), agent.meters()

    assert machine.model == "Raspberry Pi 3 Model B"
    assert machine.n_cpus == 4
    assert now.temperatures_c["cpu-thermal"] == pytest.approx(25.2, abs=1)
    assert now.clocks == ()  # raspberrypi-cpufreq asks the firmware, which qemu does not emulate
    assert "clock" in now.unreadable
    assert [meter.name for meter in meters if meter.source == "hwmon"] == [f"hwmon:ina226@{raspi3b.meter_bus()}-0040"]
