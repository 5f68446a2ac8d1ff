from __future__ import annotations

from dataclasses import replace

import pytest

from device_agents import conditions
from device_agents.runtimes import RuntimeRefusal, machine_for, simulated
from device_agents.runtimes.simulated_machine import SimulatedMachine
from device_agents.wire import SIMULATED, Board, FileRef, Job, ModelRef, RuntimeOptions, Work

BOARD = Board(
    name="test-board",
    cores=4,
    clock_hz=1.5e9,
    macs_per_s=6e9,
    memory_bytes_per_s=4e9,
    operator_overhead_s=4e-6,
    noise=0.01,
    memory_bytes=2_000_000_000,
    ambient_c=25.0,
    heating_c_per_s=2.0,
    cooling_per_s=0.02,
    throttle_c=80.0,
    throttle_share=0.3,
)
CONV = Work("conv", "Conv", 600_000_000, 1_000_000)
COPY = Work("copy", "Identity", 0, 400_000_000)
MODEL = ModelRef("m.onnx", "onnx", "digest", (FileRef("m.onnx", "digest", 1_000_000),))
JOB = Job(MODEL, "simulated", board=replace(BOARD, noise=0.0), work=(CONV, COPY))


def opened(job: Job, profiled: bool = False) -> tuple[simulated.SimulatedSession, SimulatedMachine]:
    machine = machine_for(job)
    assert isinstance(machine, SimulatedMachine)
    return simulated.open_session(job, "", machine, profiled), machine


def latency_s(job: Job) -> float:
    session, machine = opened(job)
    start = machine.now()
    session.run()
    return machine.now() - start


def test_an_operator_takes_what_computing_or_moving_takes_whichever_is_longer() -> None:
    assert latency_s(JOB) == pytest.approx(0.1 + 4e-6 + 0.1 + 4e-6)


def test_threads_help_computing_up_to_the_number_of_cores_and_never_moving() -> None:
    assert latency_s(replace(JOB, options=RuntimeOptions(threads=2))) == pytest.approx(0.05 + 0.1 + 8e-6)
    assert latency_s(replace(JOB, options=RuntimeOptions(threads=64))) == pytest.approx(0.025 + 0.1 + 8e-6)


def test_the_seed_makes_the_noise() -> None:
    noisy = replace(JOB, board=BOARD, seed=1)

    assert latency_s(noisy) == latency_s(noisy)
    assert latency_s(noisy) != latency_s(replace(noisy, seed=2))


def test_a_board_that_stays_busy_gets_hot_throttles_and_cools_down_again() -> None:
    session, machine = opened(JOB)
    cool_s = latency_s(JOB)

    for _ in range(400):
        session.run()
    hot = conditions.read(machine)
    start = machine.now()
    session.run()
    hot_s = machine.now() - start
    machine.sleep(600.0)
    rested = conditions.read(machine)

    assert hot.temperatures_c["cpu-thermal"] >= 79.0
    assert hot.clocks[0].time_in_state_s["1050000000"] > 0.0
    assert hot_s >= cool_s
    assert rested.temperatures_c["cpu-thermal"] == pytest.approx(25.0, abs=0.1)
    assert rested.clocks[0].current_hz == 1.5e9


def test_a_simulated_board_can_be_read_like_a_real_one() -> None:
    session, machine = opened(JOB)
    session.run()

    seen = conditions.read(machine)

    assert machine.origin == SIMULATED
    assert seen.clocks[0].governor == "performance"
    assert seen.clocks[0].cpus == "0 1 2 3"
    assert seen.at_s == machine.now()
    assert seen.busy_s is not None
    assert seen.busy_s > 0.0
    assert set(seen.pressure_s) == {"cpu", "memory", "io"}
    assert seen.memory_available_bytes == pytest.approx(2e9, rel=1e-3)
    assert seen.unreadable == {}


def test_sleeping_takes_no_real_time_and_no_cpu() -> None:
    _, machine = opened(JOB)
    before = conditions.read(machine)

    machine.sleep(3600.0)
    after = conditions.read(machine)

    assert after.at_s - before.at_s == 3600.0
    assert after.busy_s == before.busy_s
    assert after.total_s is not None
    assert before.total_s is not None
    assert after.total_s - before.total_s == pytest.approx(4 * 3600.0)


def test_other_files_and_programs_are_not_there() -> None:
    machine = SimulatedMachine(BOARD, 0)

    with pytest.raises(FileNotFoundError):
        machine.read("/etc/hostname")
    with pytest.raises(FileNotFoundError):
        machine.run(["vcgencmd", "get_throttled"])
    assert machine.list("/sys/class/hwmon") == []


@pytest.mark.parametrize("changes", [{"board": None}, {"work": ()}])
def test_a_job_without_board_or_work_is_refused(changes: dict[str, object]) -> None:
    job = replace(JOB, **changes)  # type: ignore[arg-type]

    with pytest.raises(RuntimeRefusal) as refused:
        simulated.open_session(job, "", machine_for(job), False)

    assert refused.value.kind == "bad-option"


def test_a_model_larger_than_the_boards_memory_is_refused() -> None:
    job = replace(JOB, board=replace(BOARD, memory_bytes=1000))

    with pytest.raises(RuntimeRefusal) as refused:
        opened(job)

    assert refused.value.kind == "out-of-memory"
