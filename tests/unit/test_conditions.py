"""Reading a device's condition from recorded files."""

from __future__ import annotations

import pytest

from device_agents import conditions
from tests.recorded_machine import RecordedMachine


def test_a_machine_without_sensors_lists_what_cannot_be_read() -> None:
    seen = conditions.read(RecordedMachine("vm-x86"))

    assert seen.temperatures_c == {}
    assert seen.clocks == ()
    assert {"governor", "clock", "temperature"} <= set(seen.unreadable)


def test_load_cpu_time_and_pressure_are_read_from_proc() -> None:
    seen = conditions.read(RecordedMachine("vm-x86"))

    assert seen.load_1min is not None
    assert seen.busy_s is not None
    assert seen.total_s is not None
    assert 0 < seen.busy_s < seen.total_s
    assert set(seen.pressure_s) == {"cpu", "memory", "io"}
    assert seen.memory_available_bytes is not None


def test_a_pi_reports_clock_temperature_and_throttle_bits_in_si_units() -> None:
    seen = conditions.read(RecordedMachine("pi4-documented"))

    assert seen.clocks[0].governor == "ondemand"
    assert seen.clocks[0].current_hz == 600e6
    assert seen.clocks[0].max_hz == 1.8e9
    assert seen.clocks[0].time_in_state_s["1800000000"] == pytest.approx(98.76)
    assert seen.temperatures_c == {"cpu-thermal": 48.686}
    assert seen.throttled == 0x50000
    assert seen.unreadable == {}


def test_the_sysfs_node_serves_where_vcgencmd_is_missing() -> None:
    machine = RecordedMachine("pi4-documented")
    machine.overrides[conditions.PI_THROTTLED] = "4\n"
    machine.run = lambda argv, timeout_s=5.0: (_ for _ in ()).throw(FileNotFoundError(argv[0]))  # type: ignore[method-assign]

    assert conditions.read_throttled(machine) == 4


def test_a_board_without_throttle_bits_is_not_blamed_for_them() -> None:
    seen = conditions.read(RecordedMachine("vm-x86"))

    assert seen.throttled is None
    assert "throttle bits" not in seen.unreadable


def test_a_discharging_battery_is_the_power_source_and_absurd_zones_are_left_out() -> None:
    seen = conditions.read(RecordedMachine("phone-documented"))

    assert seen.power_source == "battery Discharging at 81 %"
    assert seen.temperatures_c == {"cpu0-silver": 36.1}


@pytest.mark.parametrize("garbage", ["", "cpu", "cpu a b c d e f g h", "x" * 1000])
def test_garbage_in_proc_is_unreadable_and_not_a_crash(garbage: str) -> None:
    machine = RecordedMachine("vm-x86")
    machine.overrides["/proc/stat"] = garbage

    seen = conditions.read(machine)

    assert seen.busy_s is None
    assert "cpu time" in seen.unreadable


def test_a_pi_describes_itself_by_its_device_tree() -> None:
    described = RecordedMachine("pi4-documented").describe()

    assert described.model == "Raspberry Pi 4 Model B Rev 1.4"
    assert described.cpu == "ARM part 0xd08"
    assert described.memory_bytes == 3884384 * 1024
    assert described.emulator is None


@pytest.mark.parametrize("model", ["linux,dummy-virt\0", "QEMU Virtual Machine\0"])
def test_an_emulated_board_gives_itself_away(model: str) -> None:
    machine = RecordedMachine("vm-x86")
    machine.overrides["/proc/device-tree/model"] = model

    assert machine.describe().emulator == "qemu-system"


def test_an_emulated_program_gives_itself_away_although_all_files_are_a_real_boards() -> None:
    machine = RecordedMachine("pi4-documented")
    machine.runs_as = "/usr/bin/qemu-aarch64-static"

    assert machine.describe().emulator == "qemu-user"


def test_the_cpu_of_an_emulators_host_is_not_taken_for_the_devices() -> None:
    machine = RecordedMachine("vm-x86")
    machine.runs_as = "/usr/bin/qemu-aarch64-static"

    described = machine.describe()

    assert described.emulator == "qemu-user"
    assert described.cpu is None
