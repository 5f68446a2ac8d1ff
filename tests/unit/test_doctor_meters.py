"""What the doctor says of a device's power meters."""

from __future__ import annotations

import pytest

from device_agents import conditions
from device_agents.power import discover
from edgeprof.doctor import Finding, described, meter_findings
from edgeprof.fleet import Device
from tests.recorded_machine import RecordedMachine

LOCAL = Device(name="local")


def found_on(machine: RecordedMachine, device: Device = LOCAL) -> list[Finding]:
    return list(meter_findings(device, discover(machine), conditions.read_power_source(machine)))


def test_a_meter_that_can_be_read_is_told_with_what_it_leaves_out() -> None:
    (finding,) = found_on(RecordedMachine("pi5-documented"))

    assert finding.level == "ok"
    assert "pi-pmic: boundary soc-rails, 12 channels, W in unknown steps, a new value every 0.1 s" in finding.what
    assert "not in it: all on the 5 V rail" in finding.what


def test_a_counter_is_told_in_joules() -> None:
    (package, _dram, _psys) = discover(RecordedMachine("pc-documented"))

    assert described(package).startswith("rapl:package: boundary soc-rails, J counted in steps of 6.1e-05 J, ")


def test_a_battery_on_a_charger_is_a_note_with_what_to_do() -> None:
    machine = RecordedMachine("phone-with-rails-documented")
    machine.overrides["/sys/class/power_supply/battery/status"] = "Charging\n"

    found = {finding.what.split()[2].rstrip(":"): finding for finding in found_on(machine)}

    assert found["odpm"].level == "ok"
    assert found["battery:battery"].level == "note"
    assert "battery Charging" in found["battery:battery"].what
    assert "unplug the charger" in found["battery:battery"].advice


def test_a_meter_that_cannot_be_read_is_a_note_with_the_reason() -> None:
    machine = RecordedMachine("board-with-ina226-documented")
    machine.overrides["/sys/class/hwmon/hwmon3/power1_input"] = "nonsense\n"

    unreadable, nothing = found_on(machine)

    assert (unreadable.level, nothing.level) == ("note", "note")
    assert "hwmon:ina226@1-0040 (unstated) cannot be read: " in unreadable.what
    assert "profile --energy will be refused" in nothing.what


@pytest.mark.parametrize(("meter", "n_findings"), [(None, 1), ("shelly:192.168.1.20", 0)])
def test_without_a_meter_there_is_a_note_unless_one_beside_the_device_is_set(
    meter: str | None, n_findings: int
) -> None:
    device = Device(name="board", address="ssh://board", meter=meter)

    assert len(found_on(RecordedMachine("vm-x86"), device)) == n_findings
