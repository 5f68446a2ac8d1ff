"""The entry gate, on a recorded machine whose clock the test moves."""

from __future__ import annotations

from device_agents import gate
from device_agents.wire import Gate
from tests.recorded_machine import RecordedMachine

ZONE = "/sys/class/thermal/thermal_zone0/temp"


class BusyMachine(RecordedMachine):
    """A Pi on which other programs keep a share of the CPUs busy until a moment."""

    def __init__(self, share: float, until_s: float) -> None:
        super().__init__("pi4-documented")
        self.share, self.until_s, self.busy, self.total = share, until_s, 1000.0, 100_000.0
        self.overrides["/proc/device-tree/model"] = "some other board"

    def sleep(self, seconds: float) -> None:
        self.total += 100 * seconds * 4
        self.busy += 100 * seconds * 4 * (self.share if self.clock_s < self.until_s else 0.0)
        super().sleep(seconds)

    def read(self, path: str) -> str:
        if path == "/proc/stat":
            return f"cpu {self.busy:.0f} 0 0 {self.total - self.busy:.0f} 0 0 0 0 0 0\n"
        return super().read(path)


def test_a_quiet_cool_device_passes_at_once() -> None:
    machine = BusyMachine(0.0, 0.0)
    machine.overrides[ZONE] = "40000"

    outcome = gate.wait(machine, Gate())

    assert outcome.passed
    assert outcome.reasons == ()
    assert outcome.waited_s < 1


def test_the_gate_waits_until_other_programs_are_done() -> None:
    machine = BusyMachine(0.9, 20.0)
    machine.overrides[ZONE] = "40000"

    outcome = gate.wait(machine, Gate())

    assert outcome.passed
    assert 19 < outcome.waited_s < 23


def test_a_device_that_stays_busy_times_out_and_says_why() -> None:
    machine = BusyMachine(0.9, 1e9)

    outcome = gate.wait(machine, Gate(timeout_s=30.0))

    assert not outcome.passed
    assert 30 <= outcome.waited_s < 32
    assert "90% of the CPUs busy" in outcome.reasons[0]


def test_a_warm_device_passes_once_it_has_stopped_cooling() -> None:
    machine = BusyMachine(0.0, 0.0)
    machine.overrides[ZONE] = "58000"

    outcome = gate.wait(machine, Gate(settle_s=10.0))

    assert outcome.passed
    assert 10 <= outcome.waited_s < 12


def test_a_cooling_device_is_waited_for() -> None:
    class Cooling(BusyMachine):
        def read(self, path: str) -> str:
            return f"{80000 - 1000 * self.clock_s:.0f}" if path == ZONE else super().read(path)

    outcome = gate.wait(Cooling(0.0, 0.0), Gate())

    assert outcome.passed
    assert 34 <= outcome.waited_s <= 37


def test_a_clock_that_the_firmware_holds_down_keeps_the_gate_shut() -> None:
    machine = BusyMachine(0.0, 0.0)
    machine.overrides["/proc/device-tree/model"] = "Raspberry Pi 4"
    machine.overrides[ZONE] = "40000"
    machine.run = lambda argv, timeout_s=5.0: (0, "throttled=0x50004")  # type: ignore[method-assign]

    outcome = gate.wait(machine, Gate(timeout_s=5.0))

    assert not outcome.passed
    assert "0x50004" in outcome.reasons[0]
