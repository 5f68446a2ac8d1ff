from __future__ import annotations

import math
from dataclasses import replace

import pytest

from device_agents import conditions, topology
from device_agents.runtimes import RuntimeRefusal, machine_for, simulated
from device_agents.runtimes.simulated_machine import SimulatedMachine
from device_agents.wire import SIMULATED, Board, ClockCap, Cluster, FileRef, Job, ModelRef, RuntimeOptions, Work

CPU = Cluster(name="cpu", cores=4, clocks_hz=(0.75e9, 1.05e9, 1.5e9), macs_per_cycle=4.0, core_active_w=2.0)
BOARD = Board(
    name="test-board",
    clusters=(CPU,),
    memory_bytes=2_000_000_000,
    memory_bytes_per_s=4e9,
    operator_overhead_s=4e-6,
    noise=0.01,
    idle_w=1.0,
    ambient_c=25.0,
    resistance_k_per_w=10.0,
    capacitance_j_per_k=5.0,
    trip_c=50.0,
    hysteresis_k=2.0,
    poll_s=1.0,
)
LITTLE = Cluster(name="little", cores=2, clocks_hz=(0.5e9, 1.0e9), macs_per_cycle=4.0, core_active_w=0.25)
BIG = Cluster(name="big", cores=2, clocks_hz=(1.0e9, 1.5e9, 2.0e9), macs_per_cycle=8.0, core_active_w=3.0)
BIG_LITTLE = replace(BOARD, clusters=(LITTLE, BIG), noise=0.0)
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


def test_of_a_big_little_board_the_fastest_cores_are_taken_first_and_the_slowest_taken_bounds_an_operator() -> None:
    def with_threads(threads: int, affinity: tuple[int, ...] = ()) -> float:
        options = RuntimeOptions(threads=threads, affinity=affinity)
        return latency_s(replace(JOB, board=BIG_LITTLE, options=options, work=(CONV,)))

    assert with_threads(1) == pytest.approx(600e6 / 16e9 + 4e-6)
    assert with_threads(2) == pytest.approx(600e6 / 32e9 + 4e-6)
    assert with_threads(3) == pytest.approx(600e6 / (3 * 4e9) + 4e-6)
    assert with_threads(2, affinity=(0, 1)) == pytest.approx(600e6 / 8e9 + 8e-6)


def test_a_board_that_stays_busy_gets_hot_throttles_and_cools_down_again() -> None:
    """One busy core adds 2 W over 10 K/W: it would settle at 55 degrees, five above the trip."""
    session, machine = opened(JOB)
    begin = conditions.read(machine)
    cool_s = latency_s(JOB)

    for _ in range(2000):
        session.run()
    hot = conditions.read(machine)
    machine.sleep(600.0)
    rested = conditions.read(machine)
    start = machine.now()
    session.run()

    assert begin.temperatures_c["cpu-thermal"] == pytest.approx(35.0, abs=0.2)
    assert 47.0 <= hot.temperatures_c["cpu-thermal"] <= 51.0
    assert hot.clocks[0].time_in_state_s["1050000000"] > 0.0
    assert sum(hot.clocks[0].time_in_state_s.values()) == pytest.approx(hot.at_s, abs=0.1)
    assert hot.at_s > 2000 * cool_s
    assert rested.temperatures_c["cpu-thermal"] == pytest.approx(35.0, abs=0.1)
    assert rested.clocks[0].current_hz == 1.5e9
    assert machine.now() - start == pytest.approx(cool_s)


def test_a_throttled_board_says_so_as_the_kernel_does() -> None:
    machine = SimulatedMachine(replace(BIG_LITTLE, trip_c=36.0), 0)
    machine.work(3.5, (0, 2))

    seen = conditions.read(machine)

    assert machine.is_throttled
    assert [clock.cpus for clock in seen.clocks] == ["0 1", "2 3"]
    assert [clock.hardware_max_hz for clock in seen.clocks] == [1.0e9, 2.0e9]
    assert [clock.current_hz for clock in seen.clocks] == [clock.max_hz for clock in seen.clocks] == [0.5e9, 1.0e9]
    assert machine.read("/sys/class/thermal/thermal_zone0/trip_point_0_temp") == "36000\n"


def test_an_operator_of_a_long_run_takes_the_clock_at_its_start() -> None:
    """Noise off, a run of 300 s: its first operators run at the full clock, its last at a lower one."""
    job = replace(JOB, work=(replace(CONV, macs=60_000_000_000),) * 30)
    session, _ = opened(job, profiled=True)

    session.run()
    times = [kernel.times_s[0] for kernel in session.end_recording().kernels]

    assert times[0] == pytest.approx(10.0, rel=1e-5)
    assert max(times) > 13.0
    assert {round(time, 2) for time in times} <= {round(60e9 / (4 * hz), 2) for hz in CPU.clocks_hz}


def test_power_is_that_at_rest_plus_that_of_every_busy_core_at_its_clock() -> None:
    machine = SimulatedMachine(replace(BIG_LITTLE, trip_c=36.0), 0)

    assert machine.power_w(machine.at_rest) == 1.0
    assert machine.power_w((2, 1)) == pytest.approx(1.0 + 2 * 0.25 + 3.0)

    machine.work(2.5, (0, 2))

    assert machine.clocks_hz == (0.5e9, 1.0e9)
    assert machine.power_w((2, 1)) == pytest.approx(1.0 + 2 * 0.125 + 1.5)


def test_temperature_follows_the_resistance_and_the_capacitance() -> None:
    machine = SimulatedMachine(replace(BOARD, trip_c=200.0), 0)

    machine.work(50.0, (4,))

    assert machine.temperature_c == pytest.approx(25.0 + 90.0 - 80.0 * math.exp(-1.0))


@pytest.mark.parametrize(
    "changes",
    [
        {"clusters": ()},
        {"clusters": (replace(CPU, clocks_hz=()),)},
        {"clusters": (replace(CPU, clocks_hz=(2e9, 1e9)),)},
        {"clusters": (replace(CPU, cores=0),)},
        {"clusters": (replace(CPU, cores=10**9),)},
        {"memory_bytes_per_s": 0.0},
        {"resistance_k_per_w": 0.0},
        {"noise": -0.1},
        {"poll_s": 0.0},
        {"clusters": (replace(CPU, volts=(0.8, 0.9)),)},
        {"clusters": (replace(CPU, volts=(1.0, 0.9, 0.8)),)},
        {"clusters": (replace(CPU, core_bytes_per_s=0.0),)},
        {"clusters": (replace(CPU, shared_active_w=-1.0),)},
        {"contention": -0.1},
        {"slow_memory_share": 0.0},
        {"slow_memory_share": 1.1},
        {"balance": 1.1},
        {"asleep_share": -0.1},
        {"wake_s": -1e-6},
    ],
)
def test_a_board_that_makes_no_sense_is_refused_by_name(changes: dict[str, object]) -> None:
    with pytest.raises(RuntimeRefusal, match="the figures of the board test-board make no sense"):
        SimulatedMachine(replace(BOARD, **changes), 0)  # type: ignore[arg-type]


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


def test_a_simulated_board_describes_itself_and_not_the_machine_it_is_computed_on() -> None:
    described = SimulatedMachine(BIG_LITTLE, 0).describe()

    assert (described.model, described.architecture, described.n_cpus) == ("test-board", "simulated", 4)
    assert described.memory_bytes == BOARD.memory_bytes
    assert described.emulator is None


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


@pytest.mark.parametrize("changes", [{"board": None}])
def test_a_job_without_a_board_is_refused(changes: dict[str, object]) -> None:
    job = replace(JOB, **changes)  # type: ignore[arg-type]

    with pytest.raises(RuntimeRefusal) as refused:
        simulated.open_session(job, "", machine_for(job), False)

    assert refused.value.kind == "bad-option"


def test_a_model_larger_than_the_boards_memory_is_refused() -> None:
    job = replace(JOB, board=replace(BOARD, memory_bytes=1000))

    with pytest.raises(RuntimeRefusal) as refused:
        opened(job)

    assert refused.value.kind == "out-of-memory"


# --- what threads and clocks do to each other ---

PINNED_EACH = RuntimeOptions(threads=3, affinity=(2, 3, 0))


def on(board: Board, options: RuntimeOptions, work: tuple[Work, ...] = (CONV,), caps: tuple[ClockCap, ...] = ()) -> Job:
    return replace(JOB, board=board, options=options, work=work, clock_caps=caps)


def power_w(job: Job) -> float:
    """Mean power above rest during one run."""
    session, machine = opened(job)
    board = machine.board
    before_c = machine.temperature_c
    start_s = machine.now()
    session.run()
    kept = math.exp(-(machine.now() - start_s) / (board.resistance_k_per_w * board.capacitance_j_per_k))
    settled_c = (machine.temperature_c - before_c * kept) / (1.0 - kept)
    return (settled_c - board.ambient_c) / board.resistance_k_per_w - board.idle_w


def test_a_cap_holds_the_clock_of_its_cluster_at_the_step_below_and_the_files_tell_so() -> None:
    job = on(BIG_LITTLE, RuntimeOptions(threads=2), caps=(ClockCap("policy2", 1.6e9),))
    session, machine = opened(job)

    session.run()
    seen = conditions.read(machine)

    assert [clock.max_hz for clock in seen.clocks] == [1.0e9, 1.5e9]
    assert [clock.hardware_max_hz for clock in seen.clocks] == [1.0e9, 2.0e9]
    assert latency_s(job) == pytest.approx(600e6 / (2 * 8 * 1.5e9) + 4e-6 * 2.0 / 1.5)
    assert session.in_force["clock_caps"] == "policy2: 1500 MHz"


@pytest.mark.parametrize(
    ("max_hz", "why"), [(1.0, "goes no lower than 500 MHz"), (9e9, "goes no higher than 1000 MHz")]
)
def test_a_cap_that_a_board_cannot_keep_is_refused_as_that_of_a_real_one_is(max_hz: float, why: str) -> None:
    with pytest.raises(RuntimeRefusal, match=why) as refused:
        SimulatedMachine(BIG_LITTLE, 0).cap((ClockCap("policy0", max_hz),))

    assert refused.value.kind == "bad-option"


def test_heat_may_lower_a_capped_clock_further() -> None:
    machine = SimulatedMachine(replace(BIG_LITTLE, trip_c=36.0), 0)
    machine.cap((ClockCap("policy0", 0.5e9), ClockCap("policy2", 1.5e9)))
    capped = machine.clocks_hz
    machine.work(3.5, (0, 2))

    assert capped == (0.5e9, 1.5e9)
    assert machine.clocks_hz == (0.5e9, 1.0e9)


def test_a_cap_of_a_policy_that_the_board_does_not_have_is_refused_with_those_it_has() -> None:
    with pytest.raises(RuntimeRefusal, match="has no clock policy 'policy1'") as refused:
        opened(on(BIG_LITTLE, RuntimeOptions(), caps=(ClockCap("policy1", 1e9),)))

    assert refused.value.kind == "bad-option"
    assert "policy0, policy2" in refused.value.advice


def test_the_kernel_s_capacities_are_of_speed_and_the_topology_can_be_read() -> None:
    told = topology.read(SimulatedMachine(BIG_LITTLE, 0))

    assert [cpu.capacity for cpu in told.cpus] == [256, 256, 1024, 1024]
    assert [cpu.policy for cpu in told.cpus] == ["policy0", "policy0", "policy2", "policy2"]
    assert all(cpu.usable for cpu in told.cpus)
    assert [policy.clocks_hz for policy in told.policies] == [LITTLE.clocks_hz, BIG.clocks_hz]
    assert all(policy.settable for policy in told.policies)


def test_with_voltages_power_goes_with_their_square_and_what_a_cluster_shares_does_not_go_with_the_clock() -> None:
    big = replace(BIG, volts=(0.6, 0.8, 1.0), shared_active_w=0.4)
    machine = SimulatedMachine(replace(BIG_LITTLE, clusters=(LITTLE, big)), 0)

    machine.cap((ClockCap("policy2", 1.0e9),))

    assert machine.power_w((0, 2)) == pytest.approx(1.0 + 0.4 + 2 * 3.0 * 0.5 * 0.36)
    assert machine.power_w((0, 0)) == 1.0


def test_a_model_that_moves_much_takes_least_energy_between_the_lowest_and_the_highest_clock() -> None:
    cpu = replace(CPU, volts=(0.7, 0.8, 1.1), shared_active_w=2.0)
    board = replace(BOARD, clusters=(cpu,), noise=0.0, trip_c=200.0)
    mixed = (replace(CONV, macs=400_000_000), COPY)

    def energy_j(clock_hz: float) -> float:
        job = on(board, RuntimeOptions(), mixed, (ClockCap("policy0", clock_hz),))
        return power_w(job) * latency_s(job)

    low, middle, high = (energy_j(hz) for hz in cpu.clocks_hz)

    assert middle < 0.97 * low
    assert middle < 0.9 * high


def test_moving_is_bound_by_what_a_core_and_a_cluster_can_draw_and_cores_contend() -> None:
    drawing = replace(CPU, core_bytes_per_s=1e9, bytes_per_s=2.5e9)
    board = replace(BOARD, clusters=(drawing,), noise=0.0)
    contended = replace(board, contention=0.1)

    def moving_s(board: Board, threads: int) -> float:
        return latency_s(on(board, RuntimeOptions(threads=threads), (COPY,))) - 4e-6

    assert [moving_s(board, n) for n in (1, 2, 4)] == pytest.approx([0.4, 0.2, 0.16])
    assert [moving_s(contended, n) for n in (1, 2, 4)] == pytest.approx([0.4, 0.22, 0.16 * 1.3])


def test_memory_falls_off_a_cliff_when_no_busy_cluster_has_the_clock_for_it() -> None:
    board = replace(BOARD, clusters=(replace(CPU, full_memory_from_hz=1.0e9),), noise=0.0, slow_memory_share=0.5)

    def moving_s(clock_hz: float) -> float:
        caps = (ClockCap("policy0", clock_hz),)
        return latency_s(on(board, RuntimeOptions(), (replace(COPY, macs=0),), caps)) - 4e-6 * 1.5e9 / clock_hz

    assert [moving_s(hz) for hz in CPU.clocks_hz] == pytest.approx([0.2, 0.1, 0.1])


def test_barriers_cost_for_each_thread_and_more_across_clusters() -> None:
    board = replace(BIG_LITTLE, barrier_s=1e-5, crossing_s=3e-5)
    nothing = (Work("nothing", "Identity", 0, 0),)

    def around_s(affinity: tuple[int, ...]) -> float:
        return latency_s(on(board, RuntimeOptions(threads=len(affinity), affinity=affinity), nothing)) - 4e-6

    assert around_s((2,)) == pytest.approx(0.0, abs=1e-9)
    assert around_s((2, 3)) == pytest.approx(1e-5)
    assert around_s((2, 3, 0)) == pytest.approx(2e-5 + 3e-5)


def test_the_calling_thread_is_on_the_first_cpu_of_those_that_are_pinned_one_to_one() -> None:
    nothing = (Work("nothing", "Identity", 0, 0),)

    first_big, first_little = (
        latency_s(on(BIG_LITTLE, RuntimeOptions(threads=2, affinity=cpus), nothing)) for cpus in ((2, 0), (0, 2))
    )

    assert first_big == pytest.approx(4e-6)
    assert first_little == pytest.approx(8e-6)


def test_threads_that_do_not_spin_must_be_woken_and_take_less_power_while_they_wait() -> None:
    board = replace(BIG_LITTLE, wake_s=5e-3, asleep_share=0.1, trip_c=200.0)
    spinning, sleeping = (on(board, replace(PINNED_EACH, spinning=spins)) for spins in (None, False))

    assert latency_s(sleeping) == pytest.approx(latency_s(spinning) + 5e-3)
    # The big cores wait for the little one three quarters of the time.
    assert power_w(spinning) == pytest.approx(2 * 3.0 + 0.25, rel=1e-3)
    assert power_w(sleeping) < 0.5 * power_w(spinning)
    assert latency_s(replace(sleeping, options=RuntimeOptions(spinning=False))) == pytest.approx(600e6 / 16e9 + 4e-6)


def test_a_core_that_waits_for_memory_takes_its_share_of_power() -> None:
    board = replace(BOARD, noise=0.0, stalled_share=0.3, trip_c=200.0, operator_overhead_s=0.0)

    assert power_w(on(board, RuntimeOptions(), (COPY,))) == pytest.approx(0.6, rel=1e-3)
    assert power_w(on(board, RuntimeOptions(), (CONV,))) == pytest.approx(2.0, rel=1e-3)


def test_threads_that_the_kernel_places_on_unlike_cores_wander_and_pinned_ones_do_not() -> None:
    board = replace(BIG_LITTLE, migration=0.5)

    def computing_s(options: RuntimeOptions) -> float:
        return latency_s(on(board, options)) - 4e-6

    assert computing_s(RuntimeOptions(threads=2)) == pytest.approx(1.5 * 600e6 / 32e9)
    assert computing_s(RuntimeOptions(threads=2, affinity=(2, 3))) == pytest.approx(600e6 / 32e9)
    assert computing_s(PINNED_EACH) == pytest.approx(600e6 / 12e9)
    assert latency_s(on(replace(BOARD, noise=0.0, migration=0.5), RuntimeOptions())) == pytest.approx(0.1 + 4e-6)


def test_spinning_threads_without_a_core_of_their_own_collide() -> None:
    board = replace(BIG_LITTLE, collision=2.0)
    crowded = RuntimeOptions(threads=3, affinity=(2, 3))

    assert latency_s(on(board, crowded)) == pytest.approx(600e6 / 32e9 * (1 + 2.0 * 0.5) + 4e-6)
    assert latency_s(on(board, replace(crowded, spinning=False))) == pytest.approx(600e6 / 32e9 + 4e-6)


def test_parts_may_go_by_the_speed_of_the_cores() -> None:
    fair = replace(BIG_LITTLE, balance=1.0)

    assert latency_s(on(fair, PINNED_EACH)) == pytest.approx(600e6 / (2 * 16e9 + 4e9) + 4e-6)
