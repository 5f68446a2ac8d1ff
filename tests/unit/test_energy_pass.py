"""The energy pass: on simulated boards with a known truth, and on this machine with files that change."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from device_agents.energy_pass import energy_pass, require_discharging, sampling
from device_agents.machine import Machine
from device_agents.power import choose, discover
from device_agents.runtimes import RuntimeRefusal
from device_agents.runtimes.simulated_machine import SimulatedMachine
from device_agents.wire import (
    BUSY,
    EXTERNAL,
    IDLE,
    MARK,
    Board,
    Cluster,
    EnergyPass,
    EnergyPlan,
    FileRef,
    Gate,
    Job,
    ModelRef,
    Progress,
    RuntimeOptions,
    Sensor,
    Work,
)
from tests.moved_machine import MovedMachine

QUIET = Sensor("module", rate_hz=10.0, noise_w=0.0, step_w=0.0)
BOARD = Board(
    name="test-board",
    clusters=(Cluster(name="cpu", cores=4, clocks_hz=(1.0e9,), macs_per_cycle=4.0, core_active_w=2.0),),
    memory_bytes=2_000_000_000,
    memory_bytes_per_s=4e9,
    operator_overhead_s=4e-6,
    noise=0.0,
    idle_w=3.0,
    ambient_c=25.0,
    resistance_k_per_w=1.0,
    capacitance_j_per_k=1e9,
    trip_c=90.0,
    hysteresis_k=2.0,
    poll_s=1.0,
    sensor=QUIET,
)
WORK = (Work("conv", "Conv", 0, 0, time_s=30e-6, active_w=4.0), Work("relu", "Relu", 0, 0, time_s=70e-6, active_w=2.0))
MODEL = ModelRef("m.onnx", "onnx", "digest", (FileRef("m.onnx", "digest", 1),))
JOB = Job(MODEL, "simulated", board=BOARD, work=WORK, energy=EnergyPlan())


def passed(job: Job, machine: Machine | None = None, said: list[Progress] | None = None) -> EnergyPass:
    """An energy pass as the host gets it."""
    if machine is None:
        assert job.board is not None
        machine = SimulatedMachine(job.board, job.seed)
    body, _ = energy_pass(job, "", (), machine, (said if said is not None else []).append)
    return msgspec.convert(msgspec.to_builtins(body), EnergyPass)


def with_sensor(**changes: Any) -> Job:
    return replace(JOB, board=replace(BOARD, sensor=replace(QUIET, **changes)))


def new_values(found: EnergyPass, kind: str) -> list[float]:
    """What the sensor showed in all windows of a kind, once per new value; the first may belong to before."""
    assert found.trace is not None
    shown = list(zip(found.trace.at_s, found.trace.values[0], strict=True))
    values: list[float] = []
    for window in found.windows:
        inside = [value for at_s, value in shown if window.start_s <= at_s <= window.end_s]
        if window.kind == kind:
            values += [value for value, _ in itertools.groupby(inside)][2:-1]
    return values


def test_every_busy_window_lies_between_two_idle_ones_and_one_trace_covers_them_all() -> None:
    found = passed(JOB)

    assert [window.kind for window in found.windows] == [IDLE] + [BUSY, IDLE] * 7
    assert all(a.end_s <= b.start_s for a, b in itertools.pairwise(found.windows))
    assert found.trace is not None
    assert found.trace.at_s[0] <= found.windows[0].start_s
    assert found.trace.at_s[-1] >= found.windows[-1].end_s
    assert found.trace.failure is None
    assert list(found.trace.at_s) == sorted(found.trace.at_s)
    assert found.began.at_s <= found.windows[0].start_s
    assert found.windows[-1].end_s <= found.ended.at_s


def test_runs_are_counted_and_take_what_the_board_takes_for_them() -> None:
    busy = [window for window in passed(JOB).windows if window.kind == BUSY]

    for window in busy:
        assert window.end_s - window.start_s == pytest.approx(10.0, abs=0.05)
        assert (window.end_s - window.start_s) / window.n_runs == pytest.approx(100e-6)
    assert all(window.n_runs == 0 for window in passed(JOB).windows if window.kind == IDLE)


@pytest.mark.parametrize(("rate_hz", "busy_s", "idle_s"), [(10.0, 10.0, 5.0), (1.0, 20.0, 10.0), (0.1, 60.0, 60.0)])
def test_a_window_is_as_long_as_the_meter_needs_for_enough_new_values_but_not_endless(
    rate_hz: float, busy_s: float, idle_s: float
) -> None:
    for window in passed(with_sensor(rate_hz=rate_hz)).windows:
        wanted = busy_s if window.kind == BUSY else idle_s
        assert window.end_s - window.start_s == pytest.approx(wanted, abs=0.05)


def test_some_busy_windows_among_the_others_are_asked_at_the_lower_rate() -> None:
    plan = EnergyPlan(windows=5, observer_windows=2, observer_slowdown=4.0, rate_hz=20.0)
    found = passed(replace(JOB, energy=plan))
    busy = [window for window in found.windows if window.kind == BUSY]
    assert found.trace is not None

    assert [window.rate_hz for window in busy] == [20.0, 5.0, 20.0, 20.0, 20.0, 5.0, 20.0]
    for window in busy:
        assert window.rate_hz is not None
        reads = sum(window.start_s <= at_s < window.end_s for at_s in found.trace.at_s)
        assert reads == pytest.approx(window.rate_hz * (window.end_s - window.start_s), abs=2)


def test_for_a_meter_elsewhere_nothing_is_read_and_a_rhythm_goes_before_and_after() -> None:
    plan = EnergyPlan(meter=EXTERNAL, windows=2, marks=2)
    found = passed(replace(JOB, board=replace(BOARD, sensor=None), energy=plan))

    pulses = [MARK, IDLE] * 2
    assert [window.kind for window in found.windows] == [IDLE, *pulses, IDLE, BUSY, IDLE, BUSY, IDLE, *pulses]
    assert found.trace is None
    assert all(window.rate_hz is None for window in found.windows)
    marks = [window for window in found.windows if window.kind == MARK]
    assert all(window.end_s - window.start_s == pytest.approx(0.5, abs=0.05) for window in marks)


def test_it_says_how_far_it_is_and_how_long_it_will_take() -> None:
    said: list[Progress] = []
    passed(JOB, said=said)

    energy = [progress for progress in said if progress.stage == "energy"]
    assert [progress.done for progress in energy] == list(range(15))
    assert energy[0].remaining_s == pytest.approx(7 * 10 + 8 * 5)


def test_the_same_seed_gives_the_same_trace_and_another_seed_another_one() -> None:
    noisy = with_sensor(noise_w=0.15)

    assert passed(noisy).trace == passed(noisy).trace
    assert passed(noisy).trace != passed(replace(noisy, seed=1)).trace


# --- the simulated sensor, through the code that reads real chips ---


def test_the_sensor_is_found_as_a_hwmon_chip_that_says_what_it_is() -> None:
    (info,) = discover(SimulatedMachine(with_sensor(step_w=0.02).board or BOARD, 0))

    assert info.name == "hwmon:simulated"
    assert (info.source, info.kind, info.boundary) == ("hwmon", "power", "module")
    assert info.period_s == pytest.approx(0.1)
    assert info.resolution == pytest.approx(0.02)


def test_values_are_the_mean_power_at_rest_and_in_the_loop() -> None:
    found = passed(JOB)
    in_loop_w = 3.0 + (30 * 4.0 + 70 * 2.0) / 100

    assert new_values(found, IDLE) == pytest.approx([3.0] * len(new_values(found, IDLE)), abs=1e-5)
    busy = new_values(found, BUSY)
    assert busy == pytest.approx([in_loop_w] * len(busy), abs=1e-5)


def test_the_integral_of_what_is_shown_is_the_energy_that_was_taken() -> None:
    """One value a second, each the mean since the last one, while rest and load change within its period."""
    machine = SimulatedMachine(replace(BOARD, sensor=replace(QUIET, rate_hz=1.0)), seed=3)
    path = "/sys/class/hwmon/hwmon0/power1_input"
    shown: list[tuple[float, float]] = []

    def look() -> None:
        value = int(machine.read(path)) * 1e-6
        if not shown or value != shown[-1][1]:
            shown.append((machine.now(), value))

    taken_j = 0.0
    with machine.every(0.001, look):
        for k in range(200):
            machine.work(0.3 + 0.001 * k, (1,), 7.0)
            machine.sleep(0.45)
            taken_j += 7.0 * (0.3 + 0.001 * k) + 3.0 * 0.45
    seen_j = sum((b[0] - a[0]) * b[1] for a, b in itertools.pairwise(shown))
    periods = [b[0] - a[0] for a, b in itertools.pairwise(shown[1:])]  # two where a value happens to stay the same

    assert seen_j == pytest.approx(taken_j, abs=2 * 7.0 * 1.0)
    assert seen_j == pytest.approx(taken_j, rel=0.02)
    assert periods == pytest.approx([round(period) for period in periods], abs=0.0021)


def test_noise_is_white_and_of_the_size_that_was_asked_for() -> None:
    values = new_values(passed(with_sensor(noise_w=0.15)), IDLE)
    mean = sum(values) / len(values)
    spread = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5

    assert len(values) > 300
    assert mean == pytest.approx(3.0, abs=4 * 0.15 / len(values) ** 0.5)
    assert spread == pytest.approx(0.15, rel=0.15)


def test_values_are_multiples_of_the_step() -> None:
    found = passed(with_sensor(noise_w=0.15, step_w=0.02))
    assert found.trace is not None

    for value in set(found.trace.values[0]):
        assert value / 0.02 == pytest.approx(round(value / 0.02), abs=1e-3)


def test_drift_grows_with_time() -> None:
    found = passed(with_sensor(drift_w_per_s=0.1 / 60))
    assert found.trace is not None
    shown = list(zip(found.trace.at_s, found.trace.values[0], strict=True))
    ends = [max(k for k in shown if k[0] <= window.end_s) for window in (found.windows[0], found.windows[-1])]
    (first_s, first_w), (last_s, last_w) = ends

    assert last_w - first_w == pytest.approx((last_s - first_s) * 0.1 / 60, abs=2e-3)


def test_in_a_model_an_operator_takes_its_power_there_and_alone_its_own() -> None:
    conv = replace(WORK[0], in_model_power=1.1)
    alone = new_values(passed(replace(JOB, work=(conv,))), BUSY)
    together = new_values(passed(replace(JOB, work=(conv, WORK[1]))), BUSY)

    assert alone == pytest.approx([7.0] * len(alone), abs=1e-5)
    assert together == pytest.approx([3.0 + (30 * 4.0 * 1.1 + 70 * 2.0) / 100] * len(together), abs=1e-5)


def test_an_empty_model_takes_what_calling_the_runtime_takes() -> None:
    idle_call = replace(JOB, board=replace(BOARD, run_overhead_s=2e-6), work=())
    busy = [window for window in passed(idle_call).windows if window.kind == BUSY]

    assert (busy[0].end_s - busy[0].start_s) / busy[0].n_runs == pytest.approx(2e-6)


# --- refusals ---


def test_a_board_without_a_sensor_is_refused_in_clear_words() -> None:
    with pytest.raises(RuntimeRefusal, match="no power meter") as refusal:
        passed(replace(JOB, board=replace(BOARD, sensor=None)))
    assert refusal.value.kind == "no-meter"
    assert refusal.value.advice


def test_a_meter_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(RuntimeRefusal, match=r"'wattmeter'.*hwmon:simulated") as refusal:
        passed(replace(JOB, energy=EnergyPlan(meter="wattmeter")))
    assert refusal.value.kind == "no-meter"


def written(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging"])
def test_a_battery_on_a_charger_is_refused(tmp_path: Path, status: str) -> None:
    battery = "sys/class/power_supply/battery"
    written(
        tmp_path, {f"{battery}/type": "Battery\n", f"{battery}/status": f"{status}\n", f"{battery}/capacity": "71\n"}
    )

    with pytest.raises(RuntimeRefusal, match=f"battery {status} at 71 %") as refusal:
        require_discharging(MovedMachine(tmp_path))
    assert refusal.value.kind == "charging"
    assert "unplug" in refusal.value.advice


def test_a_battery_that_feeds_the_device_is_not_refused(tmp_path: Path) -> None:
    battery = "sys/class/power_supply/battery"
    written(tmp_path, {f"{battery}/type": "Battery\n", f"{battery}/status": "Discharging\n"})

    require_discharging(MovedMachine(tmp_path))


# --- this machine's clock, threads and runtimes, with a chip's files in a folder ---

CHIP = "sys/class/hwmon/hwmon7"
SHORT = EnergyPlan(
    windows=2, window_s=0.3, idle_s=0.2, min_updates=1, max_window_s=0.3, rate_hz=100.0, observer_windows=0
)


class Shown(MovedMachine):
    """Moved, but what is no meter is this machine's own: processes, clocks, load."""

    def read(self, path: str) -> str:
        return super().read(path) if path.startswith("/sys/class/hwmon") else Machine.read(self, path)

    def list(self, path: str) -> list[str]:
        return super().list(path) if path.startswith("/sys/class/hwmon") else Machine.list(self, path)


@contextmanager
def changing(file: Path) -> Iterator[None]:
    """A sensor that has a new value every 5 ms."""
    over = threading.Event()

    def change() -> None:
        with file.open("r+b", buffering=0) as opened:  # in place and whole, as a kernel's file
            for value in itertools.cycle((b"2000000\n", b"2100000\n")):
                opened.seek(0)
                opened.write(value)
                if over.wait(0.005):
                    return

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def real_job(models_dir: Path, name: str, runtime: str) -> tuple[Job, str]:
    path = next(models_dir.rglob(name))
    model = ModelRef(path.name, path.suffix[1:], "digest", (FileRef(path.name, "digest", path.stat().st_size),))
    return Job(model, runtime, gate=Gate(timeout_s=0.0), energy=SHORT), str(path)


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_a_real_runtime_is_looped_while_a_real_file_is_read(tmp_path: Path, models_dir: Path, runtime: str) -> None:
    written(tmp_path, {f"{CHIP}/name": "ina226\n", f"{CHIP}/power1_input": "2000000\n"})
    job, path = real_job(models_dir, "nmp.onnx" if runtime == "onnxruntime" else "*.tflite", runtime)

    with changing(tmp_path / CHIP / "power1_input"):
        body, laps = energy_pass(job, path, (), Shown(tmp_path), lambda _progress: None)
    found = msgspec.convert(msgspec.to_builtins(body), EnergyPass)

    assert [window.kind for window in found.windows] == [IDLE, BUSY, IDLE, BUSY, IDLE]
    assert all(window.n_runs > 0 for window in found.windows if window.kind == BUSY)
    assert found.trace is not None
    assert found.trace.meter.boundary == "unstated"
    assert set(found.trace.values[0]) <= {2.0, 2.1}
    assert found.trace.at_s[0] <= found.windows[0].end_s
    assert found.trace.at_s[-1] >= found.windows[-1].end_s
    assert found.trace.read_s is not None
    assert found.trace.failure is None
    assert list(laps) == ["open", "warm-up", "gate", "windows"]


def test_of_several_streams_one_is_measured_and_that_is_said(tmp_path: Path, models_dir: Path) -> None:
    written(tmp_path, {f"{CHIP}/name": "ina226\n", f"{CHIP}/power1_input": "2000000\n"})
    job, path = real_job(models_dir, "nmp.onnx", "onnxruntime")

    body, _ = energy_pass(
        replace(job, options=RuntimeOptions(streams=2)), path, (), Shown(tmp_path), lambda _progress: None
    )
    assert "energy is that of one stream alone, not of 2" in body["notes"]


class Vanishing(SimulatedMachine):
    """A board whose sensor can be read for so many seconds of the board's time, and then no more."""

    leaves_at_s = 40.0

    def read(self, path: str) -> str:
        if path.endswith("power1_input") and self.now() >= self.leaves_at_s:
            raise OSError(19, "No such device")
        return super().read(path)


def test_a_meter_that_goes_in_mid_pass_is_told_in_the_trace_and_the_pass_goes_on() -> None:
    found = passed(JOB, Vanishing(BOARD, 0))
    assert found.trace is not None

    assert len(found.windows) == 15
    assert max(found.trace.at_s) < Vanishing.leaves_at_s
    assert min(found.trace.failed_at_s) >= Vanishing.leaves_at_s
    assert "No such device" in (found.trace.failure or "")


def test_a_meter_that_goes_before_it_is_opened_is_a_refusal(tmp_path: Path) -> None:
    """Found, then unplugged: a file that is there no more."""
    written(tmp_path, {f"{CHIP}/name": "ina226\n", f"{CHIP}/power1_input": "2000000\n"})
    machine = MovedMachine(tmp_path)
    meter = choose(machine, "")
    (tmp_path / CHIP / "power1_input").unlink()

    with pytest.raises(RuntimeRefusal) as refusal, sampling(meter, SHORT, machine):
        pytest.fail("the meter is not there")
    assert refusal.value.kind == "no-meter"
