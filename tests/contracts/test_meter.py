"""The laws of power meters, for every kind of meter that a device may have, on recorded machines."""

from __future__ import annotations

import math

import pytest

from device_agents import wire
from device_agents.machine import Machine
from device_agents.power import KINDS, PREFERRED, PowerMeter, discover, meters
from device_agents.runtimes.simulated_machine import SimulatedMachine
from edgeprof.models import board_to_simulate
from tests.recorded_machine import RecordedMachine

RECORDED = [
    "board-with-ina226-documented",
    "jetson-agx-orin-documented",
    "jetson-nano-documented",
    "jetson-orin-nano-documented",
    "pc-documented",
    "phone-over-adb-documented",
    "phone-with-rails-documented",
    "pi5-documented",
]
MACHINES = [*RECORDED, "simulated"]
# What each kind of meter calls itself.
SOURCES = {"jetson", "hwmon", "pi-pmic", "rapl", "battery", "odpm", "termux"}


def machine_of(name: str) -> Machine:
    if name != "simulated":
        return RecordedMachine(name)
    return SimulatedMachine(board_to_simulate("pi-5"), seed=0)


def found_on(name: str) -> list[PowerMeter]:
    found = meters(machine_of(name))
    assert found
    return found


@pytest.mark.parametrize("name", MACHINES)
def test_what_it_says_of_itself_is_complete_and_can_be_sent(name: str) -> None:
    for meter in found_on(name):
        info = meter.info
        assert info.unusable is None, info.unusable
        assert info.kind in (wire.POWER, wire.ENERGY)
        assert info.boundary in wire.BOUNDARIES
        assert len(set(info.channels)) == len(info.channels) > 0
        assert info.period_s is None or 0 < info.period_s <= 60
        assert info.resolution is None or 0 < info.resolution < 10
        assert info.kind == wire.ENERGY or info.wraps_at_j is None


@pytest.mark.parametrize("name", MACHINES)
def test_it_reads_a_finite_value_for_each_channel_again_and_again(name: str) -> None:
    for meter in found_on(name):
        meter.open()
        for _ in range(3):
            values = meter.read()
            assert len(values) == len(meter.info.channels)
            assert all(math.isfinite(value) for value in values)
        meter.close()


@pytest.mark.parametrize("name", MACHINES)
def test_it_is_opened_anew_after_it_was_closed_and_closed_twice(name: str) -> None:
    for meter in found_on(name):
        meter.close()
        meter.open()
        meter.open()
        first = meter.read()
        meter.close()
        meter.close()
        meter.open()
        assert len(meter.read()) == len(first)
        meter.close()


@pytest.mark.parametrize("name", MACHINES)
def test_a_meter_of_files_cannot_be_read_before_it_is_open(name: str) -> None:
    for meter in found_on(name):
        if meter.info.name not in ("battery:termux", "odpm:dumpsys"):
            with pytest.raises(OSError, match="not open"):
                meter.read()


@pytest.mark.parametrize("name", MACHINES)
def test_its_name_is_its_own_and_holds_no_number_that_changes_from_boot_to_boot(name: str) -> None:
    names = [info.name for info in discover(machine_of(name))]

    assert len(set(names)) == len(names)
    assert not any("hwmon" in one.partition(":")[2] or "iio:device" in one for one in names)


@pytest.mark.parametrize("name", MACHINES)
def test_those_that_see_most_come_first(name: str) -> None:
    ranks = [PREFERRED.index(info.boundary) for info in discover(machine_of(name))]

    assert ranks == sorted(ranks)


def test_every_kind_of_meter_is_among_the_machines() -> None:
    sources = {info.source for name in MACHINES for info in discover(machine_of(name))}

    assert sources == SOURCES
    assert len(SOURCES) == len(KINDS) + 1  # Android has rails and Termux
