"""The meters of a device, on machines written from documentation (tests/recorded/README.md) and on real files."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from device_agents.energy_pass import energy_pass
from device_agents.machine import Machine
from device_agents.power import choose, discover
from device_agents.power.sampler import MOST_FAILURES, Sampler
from device_agents.runtimes import RuntimeRefusal
from device_agents.wire import (
    DC_INPUT,
    ENERGY,
    MODULE,
    POWER,
    SOC_RAILS,
    UNSTATED,
    EnergyPlan,
    Job,
    MeterInfo,
    ModelRef,
)
from tests.moved_machine import MovedMachine
from tests.recorded_machine import RecordedMachine

T = TypeVar("T")


def read_once(machine: Machine, name: str = "") -> tuple[float, ...]:
    meter = choose(machine, name)
    meter.open()
    try:
        return meter.read()
    finally:
        meter.close()


def test_a_bare_chip_is_named_by_its_bus_and_does_not_claim_to_know_what_it_measures() -> None:
    machine = RecordedMachine("board-with-ina226-documented")

    (info,) = discover(machine)

    assert info.name == "hwmon:ina226@1-0040"
    assert info.boundary == UNSTATED
    assert info.period_s == 0.035
    assert info.resolution == pytest.approx(6.25e-3)
    assert info.not_covered == ("the chip does not say where its shunt is",)
    assert read_once(machine) == pytest.approx((4.08125,))


def test_disks_temperatures_and_graphics_chips_are_no_meters() -> None:
    assert len(discover(RecordedMachine("board-with-ina226-documented"))) == 1


def test_the_pmic_joins_current_and_voltage_by_the_name_of_the_rail() -> None:
    machine = RecordedMachine("pi5-documented")

    (info,) = discover(machine)
    watts = dict(zip(info.channels, read_once(machine), strict=True))

    assert len(watts) == 12
    assert "EXT5V" not in watts
    assert watts["VDD_CORE"] == pytest.approx(0.92871990 * 0.72097620)
    # Sum of the sample: docs/reference/meters.md.
    assert sum(watts.values()) == pytest.approx(1.898, abs=0.001)
    assert info.boundary == SOC_RAILS
    assert any("5 V rail" in what for what in info.not_covered)


def test_a_pmic_that_answers_nonsense_is_listed_with_the_reason(tmp_path: Path) -> None:
    machine = RecordedMachine("pi5-documented")
    machine.root = copy_of(machine.root, tmp_path)
    (machine.root / "commands" / "pmic_read_adc").write_text('error=1 error_msg="Command not registered"')

    (info,) = discover(machine)

    assert info.unusable is not None
    assert "no rail in the answer" in info.unusable
    with pytest.raises(RuntimeRefusal, match="no meter can be read"):
        choose(machine, "")


@pytest.mark.parametrize(
    ("board", "power_w"), [("jetson-nano-documented", 2.532), ("jetson-orin-nano-documented", 5.072 * 0.968)]
)
def test_a_rail_that_is_the_modules_input_is_the_total(board: str, power_w: float) -> None:
    machine = RecordedMachine(board)

    (info,) = discover(machine)

    assert len(info.channels) == 1
    assert info.boundary == MODULE
    assert read_once(machine) == pytest.approx((power_w,))


def test_without_a_total_rail_those_that_contain_no_others_add_up() -> None:
    machine = RecordedMachine("jetson-agx-orin-documented")

    (info,) = discover(machine)

    assert info.channels == ("VDD_GPU_SOC", "VDD_CPU_CV", "VDDQ_VDD2_1V8AO")
    assert info.boundary == SOC_RAILS
    assert sum(read_once(machine)) == pytest.approx(19.952 * 0.160 + 19.952 * 0.080 + 5.0 * 0.160)


def test_zones_inside_a_package_are_not_added_to_it() -> None:
    machine = RecordedMachine("pc-documented")

    package, dram, psys = discover(machine)

    assert package.channels == ("package-0",)
    assert read_once(machine) == pytest.approx((262_000.0,))
    assert (psys.name, psys.boundary, psys.kind) == ("rapl:psys", UNSTATED, ENERGY)
    assert psys.wraps_at_j == pytest.approx(262_143.328850)
    assert psys.resolution == pytest.approx(61e-6, rel=0.01)
    assert dram.channels == ("dram intel-rapl:0:2",)
    assert read_once(machine, "rapl:dram") == pytest.approx((5.0,))


def test_a_package_that_is_shown_by_a_second_way_is_counted_once(tmp_path: Path) -> None:
    write_files(
        tmp_path / "sys/class/powercap",
        {
            f"{zone}/{name}": text
            for zone in ("intel-rapl:0", "intel-rapl-mmio:0")
            for name, text in (("name", "package-0"), ("energy_uj", "1"), ("max_energy_range_uj", "262143328850"))
        },
    )

    (info,) = discover(MovedMachine(tmp_path))

    assert info.channels == ("package-0",)


def test_counters_that_wrap_at_different_values_claim_no_common_one(tmp_path: Path) -> None:
    zones = {"intel-rapl:0": 65_712_999_613, "intel-rapl:1": 262_143_328_850}
    write_files(
        tmp_path / "sys/class/powercap",
        {f"{zone}/name": f"package-{zone[-1]}" for zone in zones}
        | {f"{zone}/energy_uj": "1" for zone in zones}
        | {f"{zone}/max_energy_range_uj": str(range_uj) for zone, range_uj in zones.items()},
    )

    (info,) = discover(MovedMachine(tmp_path))

    assert info.channels == ("package-0", "package-1")
    assert info.wraps_at_j is None


def test_a_counter_that_may_not_be_read_says_what_to_do(tmp_path: Path) -> None:
    """Real files and a real ordinary user: recorded machines have no permissions."""
    zone = tmp_path / "sys/class/powercap/intel-rapl:0"
    zone.mkdir(parents=True)
    (zone / "name").write_text("package-0\n")
    (zone / "energy_uj").write_text("1\n")
    (zone / "energy_uj").chmod(0o000)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and str(folder) != "/" and os.getuid() == 0:
            folder.chmod(folder.stat().st_mode | 0o011)

    (info,) = as_ordinary_user(lambda: discover(MovedMachine(tmp_path)))

    assert info.unusable is not None
    assert "CVE-2020-8694" in info.unusable
    assert "udev rule" in info.unusable


def test_a_battery_is_read_by_the_specification_and_a_pens_is_none() -> None:
    machine = RecordedMachine("phone-with-rails-documented")
    found = {info.name: info for info in discover(machine)}

    assert set(found) == {"battery:battery", "odpm", "battery:termux"}
    assert found["battery:battery"].on_charge
    assert read_once(machine, "battery:battery") == pytest.approx((-0.412 * 3.85,))
    assert read_once(machine, "battery:termux") == pytest.approx((-0.412 * 3.85,))


def test_rails_of_a_phone_are_counters_that_a_charger_does_not_disturb() -> None:
    machine = RecordedMachine("phone-with-rails-documented")
    info = next(one for one in discover(machine) if one.source == "odpm")

    assert (info.kind, info.on_charge, info.period_s) == (ENERGY, False, 1 / 125)
    assert info.channels == ("VSYS_PWR_DISPLAY", "S2M_VDD_CPUCL2", "S2S_VDD_G3D")  # of both chips
    assert read_once(machine, info.name) == pytest.approx((1.0, 0.761330, 2.5))


def test_while_there_is_a_charger_what_it_does_not_disturb_goes_first() -> None:
    machine = RecordedMachine("phone-with-rails-documented")
    assert choose(machine, "").info.name == "battery:battery"

    machine.overrides["/sys/class/power_supply/battery/status"] = "Charging\n"

    assert choose(machine, "").info.name == "odpm"


def test_a_battery_alone_that_is_charged_is_refused_by_the_energy_pass() -> None:
    machine = RecordedMachine("phone-with-rails-documented")
    machine.overrides["/sys/class/power_supply/battery/status"] = "Charging\n"
    job = Job(ModelRef("none", "onnx", "0" * 64, ()), "onnxruntime", energy=EnergyPlan(meter="battery:battery"))

    with pytest.raises(RuntimeRefusal, match=r"battery Charging.*does not show what it takes") as refused:
        energy_pass(job, "", (), machine, lambda progress: None)
    assert refused.value.kind == "charging"


def test_a_pen_that_is_charged_does_not_count_as_the_devices_charger() -> None:
    machine = RecordedMachine("phone-with-rails-documented")
    machine.overrides["/sys/class/power_supply/pen/status"] = "Charging\n"

    assert choose(machine, "").info.name == "battery:battery"


def test_termux_alone_knows_of_the_charger_and_is_not_used_then(tmp_path: Path) -> None:
    machine = changed("phone-with-rails-documented", tmp_path)
    status = machine.root / "commands/termux-battery-status"
    status.write_text(status.read_text().replace("UNPLUGGED", "PLUGGED_USB"))

    termux = next(one for one in discover(machine) if one.source == "termux")

    assert termux.unusable == "the phone is charging (PLUGGED_USB): unplug it"


@pytest.mark.parametrize(
    "answer", ["", "[]", "{}", '{"current": null, "voltage": 3850}', "Termux:API is not installed"]
)
def test_termux_that_answers_nonsense_is_listed_with_the_reason(answer: str, tmp_path: Path) -> None:
    machine = changed("phone-with-rails-documented", tmp_path)
    (machine.root / "commands/termux-battery-status").write_text(answer)

    termux = next(one for one in discover(machine) if one.source == "termux")

    assert termux.unusable


def test_rails_without_root_come_from_the_service_in_the_steps_of_its_floats() -> None:
    machine = RecordedMachine("phone-over-adb-documented")

    (info,) = discover(machine)

    assert info.name == "odpm:dumpsys"
    assert info.period_s == 1.0
    assert info.resolution == pytest.approx(2**-10 * 1e-3 / 1)  # of 10 J: 24 bits above 2^14 mWs
    assert read_once(machine) == pytest.approx((10.24, 0.76133), rel=1e-6)


def test_a_counter_that_is_switched_off_leaves_the_power_of_its_chip(tmp_path: Path) -> None:
    write_files(
        tmp_path / "sys/class/hwmon/hwmon0",
        {"name": "ina238", "energy1_input": "not counting", "power1_input": "2000000"},
    )

    assert read_once(MovedMachine(tmp_path)) == pytest.approx((2.0,))


def test_what_cannot_be_opened_whole_leaves_no_descriptor_behind(tmp_path: Path) -> None:
    battery = tmp_path / "sys/class/power_supply/battery"
    write_files(battery, {"type": "Battery", "current_now": "-400000", "voltage_now": "3800000"})
    meter = choose(MovedMachine(tmp_path), "")
    (battery / "voltage_now").unlink()
    before = len(os.listdir("/proc/self/fd"))

    with pytest.raises(OSError, match="voltage_now"):
        meter.open()

    assert len(os.listdir("/proc/self/fd")) == before


def test_a_machine_without_meters_says_so_and_what_there_is_instead() -> None:
    machine = RecordedMachine("vm-x86")

    assert discover(machine) == ()
    with pytest.raises(RuntimeRefusal, match="no power meter that is known") as refused:
        choose(machine, "")
    assert refused.value.kind == "no-meter"
    assert "edgeprof carbon" in refused.value.advice


def test_an_unknown_name_lists_those_that_there_are() -> None:
    with pytest.raises(RuntimeRefusal, match=r"no meter here is called 'shunt'.*hwmon:ina226@1-0040"):
        choose(RecordedMachine("board-with-ina226-documented"), "shunt")


# --- sampling ---


class Failing:
    """A meter that is unplugged after two reads."""

    info = MeterInfo("test", "test", POWER, DC_INPUT, ("a",))

    def __init__(self) -> None:
        self.n_reads = 0

    def open(self) -> None:
        """Nothing."""

    def read(self) -> tuple[float, ...]:
        self.n_reads += 1
        if self.n_reads > 2:
            raise OSError(19, "No such device")
        return (float(self.n_reads),)

    def close(self) -> None:
        """Nothing."""


def test_a_meter_that_goes_away_leaves_failures_in_the_trace_and_nothing_is_raised() -> None:
    machine = RecordedMachine("vm-x86")

    with Sampler(Failing(), machine) as sampler:
        for _ in range(MOST_FAILURES + 10):
            sampler.sample()
            machine.sleep(0.1)

    trace = sampler.trace()
    assert trace.values == ((1.0, 2.0),)
    assert trace.at_s == (0.0, 0.1)
    assert trace.failure == "OSError: [Errno 19] No such device"
    assert len(trace.failed_at_s) == MOST_FAILURES


def test_a_real_file_that_changes_is_seen_through_one_descriptor(tmp_path: Path) -> None:
    power = write_chip(tmp_path, 3_000_000)
    machine = MovedMachine(tmp_path)

    with Sampler(choose(machine, ""), machine) as sampler:
        sampler.sample()
        power.write_text("5000000\n")
        sampler.sample()

    assert sampler.trace().values == ((3.0, 5.0),)


def test_real_sampling_goes_on_beside_other_work_and_ends_with_its_context(tmp_path: Path) -> None:
    write_chip(tmp_path, 1_000_000)
    machine = MovedMachine(tmp_path)

    with Sampler(choose(machine, ""), machine) as sampler:
        with machine.every(0.001, sampler.sample) as ticker:
            while len(sampler.trace().at_s) < 5:
                machine.sleep(0.001)
            ticker.period_s = 0.002
        n_reads = len(sampler.trace().at_s)
        machine.sleep(0.01)

    assert len(sampler.trace().at_s) == n_reads
    at_s = sampler.trace().at_s
    assert list(at_s) == sorted(at_s)


def write_chip(root: Path, microwatts: int) -> Path:
    chip = root / "sys/class/hwmon/hwmon0"
    chip.mkdir(parents=True)
    (chip / "name").write_text("ina219\n")
    (chip / "power1_input").write_text(f"{microwatts}\n")
    return chip / "power1_input"


def write_files(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{text}\n")


def changed(name: str, where: Path) -> RecordedMachine:
    """A recorded machine whose files a test may change."""
    machine = RecordedMachine(name)
    machine.root = copy_of(machine.root, where)
    return machine


def copy_of(folder: Path, where: Path) -> Path:
    return Path(shutil.copytree(folder, where / folder.name))


def as_ordinary_user(call: Callable[[], T]) -> T:
    """As nobody, where the tests run as root; else as whoever runs them, for whom mode 0 is closed, too."""
    if os.getuid() != 0:
        return call()
    os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        return call()
    finally:
        os.seteuid(0)
