"""Caps of clocks on a board's real cpufreq: in force while a job runs, gone after it, whatever was killed or cut."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from device_agents import wire
from edgeprof.errors import JobRefused
from edgeprof.profiling import OpenDevice, Settings
from edgeprof.verdict import judge
from tests.boards.measuring import MODELS, QUICK, WAKE_WORD, agent_on, small_model
from tests.boards.virtual_board import CLOCKS, COOL_C, FULL_KHZ, VirtualBoard
from tests.integration.command_line import CommandLine

pytestmark = [pytest.mark.ssh, pytest.mark.slow, pytest.mark.timeout(600)]

RECORDS = "/home/pi/.cache/edgeprof/clocks"
LIMITS = f"{CLOCKS}/policy*/scaling_max_freq"
COOLERS = "/sys/class/thermal/cooling_device*/cur_state"
BIG_LIMIT = f"{CLOCKS}/policy0/scaling_max_freq"
# Between two steps of vboard.c: the lower one comes of it.
CAPS = (wire.ClockCap("policy0", 1.2e9),)
CAP_KHZ = 1_000_000
SETTINGS = Settings(
    runtime="litert", schedule=QUICK, gate=wire.Gate(timeout_s=0.0), check_outputs=False, clock_caps=CAPS
)
# The governor of the board's zone goes by one step each time it finds it hotter than before beyond the trip, or cooler
# below it. The hottest is below the critical trip.
HOTTER_C = (84.0, 88.0, 92.0, 96.0, 100.0, 104.0)
COOLER_C = (78.0, 74.0, 70.0, 66.0, 62.0, 58.0, 54.0, 50.0, COOL_C)
# A job that outlasts every test.
LONG = ("--runtime", "litert", "--rounds", "50", "--min-time", "20", "--gate-timeout", "0", "--no-check-outputs")


@pytest.fixture(scope="module")
def machine(board_image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualBoard]:
    with VirtualBoard(tmp_path_factory.mktemp("clocks") / "board", board_image, keeps_disk=True) as board:
        yield board


@pytest.fixture
def board(machine: VirtualBoard) -> Iterator[VirtualBoard]:
    """Its ordinary user may cap its clocks, as docs/how-to/clocks.md says; and nothing is left of it afterwards."""
    machine.restore()
    machine.shell(f"chown pi {LIMITS}")
    yield machine
    nothing_left(machine)


def nothing_left(board: VirtualBoard) -> None:
    free = f"! grep -vqx {FULL_KHZ} {LIMITS}"
    no_record = f'[ -z "$(ls -A {RECORDS} 2>/dev/null)" ]'
    try:
        board.until(
            f"{free} && {no_record} && {_no_process('guard')}", "limits as they were, no record, no guard", 10.0
        )
    except RuntimeError as error:
        state = board.shell(f"cat {LIMITS} {COOLERS}; ls -A {RECORDS}; {_processes('guard')}; true")
        raise AssertionError(f"{error}: {state.split()}") from error


def pids(board: VirtualBoard, role: str) -> list[int]:
    """Processes of the agent's archive that play a part: serve, worker, keep or guard."""
    return [int(pid) for pid in board.shell(f"{_processes(role)} | cut -d/ -f3").split()]


def _processes(role: str) -> str:
    # Whole arguments, by a pattern that is not itself what it looks for.
    return f"grep -lazx '[{role[0]}]{role[1:]}' /proc/[0-9]*/cmdline 2>/dev/null"


def _no_process(role: str) -> str:
    return f"! {_processes(role)}"


def pass_through(board: VirtualBoard, temperatures_c: tuple[float, ...]) -> None:
    """Each for so long that the zone is asked for it."""
    for celsius in temperatures_c:
        board.set_temperature(celsius)
        board.shell("sleep 1.5")


def kill(board: VirtualBoard, *victims: int) -> None:
    board.shell(f"kill -KILL {' '.join(map(str, victims))}")


@contextmanager
def profiling(board: VirtualBoard, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A real `edgeprof profile` over SSH that has capped the big clusters' clock, and measures."""
    edgeprof = CommandLine(folder)
    board.add_to(edgeprof)
    model = next(MODELS.rglob(WAKE_WORD))
    cap = ("--clock-cap", "policy0=1.2GHz")
    process = edgeprof.start("profile", model, "-d", "board", *LONG, *cap, "--no-store")
    try:
        board.until(f"grep -qx {CAP_KHZ} {BIG_LIMIT}", "the clock is capped", within_s=90.0)
        board.until(_processes("worker"), "a worker measures", within_s=60.0)
        yield process
    finally:
        process.kill()
        process.communicate()


def test_an_account_without_permission_is_refused_and_nothing_is_changed(machine: VirtualBoard) -> None:
    machine.restore()
    machine.shell(f"chown root {LIMITS}")
    with OpenDevice(machine.device(), link=machine.link()) as opened:
        topology = opened.any_agent().topology()
        with pytest.raises(JobRefused, match="the account pi may not cap the clock of policy0") as refused:
            opened.profile(small_model(), SETTINGS)

    assert refused.value.kind == "no-permission"
    assert f"sudo chown pi {BIG_LIMIT}" in refused.value.advice
    assert [policy.settable for policy in topology.policies] == [False, False]
    assert topology.policies[0].not_settable == f"{BIG_LIMIT}: Permission denied"
    nothing_left(machine)


def test_the_clusters_of_the_board_are_told(board: VirtualBoard) -> None:
    board.shell("echo 0 >/sys/devices/system/cpu/cpu3/online")
    with agent_on(board) as agent:
        topology = agent.topology()
    board.shell("echo 1 >/sys/devices/system/cpu/cpu3/online")

    assert [cpu.capacity for cpu in topology.cpus] == [1024, 1024, 446, 446]
    assert [(cpu.online, cpu.usable) for cpu in topology.cpus] == [(True, True)] * 3 + [(False, False)]
    assert {cpu.midr for cpu in topology.cpus[:3]} == {0x410FD083}  # qemu's cortex-a72, r0p3, on all of them
    assert [(policy.name, policy.cpus) for policy in topology.policies] == [("policy0", (0, 1)), ("policy2", (2, 3))]
    assert topology.policies[0].clocks_hz == (600e6, 1e9, 1.5e9, 1.8e9)
    assert all(policy.settable for policy in topology.policies)


def test_a_cap_is_in_force_while_a_job_runs_and_gone_after_it(board: VirtualBoard) -> None:
    seen: list[tuple[str, ...]] = []

    def look(progress: wire.Progress) -> None:
        if progress.stage == "rounds":
            seen.append((*board.shell(f"cat {LIMITS}").split(), str(len(board.shell(f"ls {RECORDS}").split()))))

    with OpenDevice(board.device(), link=board.link()) as opened:
        run = opened.profile(small_model(), SETTINGS, look)
        left = board.shell(f"cat {LIMITS}").split()
    profile = run.profile
    verdict = judge(profile)

    assert set(seen) == {(str(CAP_KHZ), str(FULL_KHZ), "1")}
    assert left == [str(FULL_KHZ)] * 2  # at once, not some time later
    assert profile.in_force["clock_caps"] == "policy0: 1000 MHz"
    for measured in profile.rounds:
        big, little = measured.before.clocks
        assert (big.max_hz, big.current_hz, little.max_hz) == (1e9, 1e9, 1.8e9)
        faster = {state: s for state, s in measured.after.clocks[0].time_in_state_s.items() if float(state) > 1e9}
        assert faster == {state: big.time_in_state_s[state] for state in faster}
    assert "throttled" not in {reason.level for reason in verdict.reasons}
    assert "CPUs 0 1: the clock was limited to 1000 MHz of 1800 MHz as the job asked (--clock-cap)" in verdict.notes


def test_heat_below_a_cap_does_not_keep_the_cap(board: VirtualBoard) -> None:
    """While it is hot the kernel shows its own limit in the place of ours; when it has cooled ours must be gone."""

    def heat(progress: wire.Progress) -> None:
        if progress.stage != "rounds" or progress.done != 1:
            return
        pass_through(board, HOTTER_C)
        board.until(f"grep -qx 600000 {BIG_LIMIT}", "heat has lowered the clock below the cap")

    long = dataclasses.replace(SETTINGS, schedule=wire.Schedule(rounds=5, min_s=8.0, max_s=8.0))
    try:
        with OpenDevice(board.device(), link=board.link()) as opened:
            profile = opened.profile(small_model(), long, heat).profile
            with pytest.raises(JobRefused, match="heat holds the clock of policy0 down") as refused:
                opened.profile(small_model(), SETTINGS)
    finally:
        pass_through(board, COOLER_C)

    assert (profile.rounds[0].before.clocks[0].max_hz, profile.rounds[-1].after.clocks[0].max_hz) == (1e9, 600e6)
    assert judge(profile).level == "throttled"
    assert refused.value.kind == "clock-not-set"


def test_a_killed_controller_leaves_no_cap(board: VirtualBoard, tmp_path: Path) -> None:
    with profiling(board, tmp_path) as controller:
        controller.kill()
        nothing_left(board)


def test_a_killed_agent_leaves_no_cap(board: VirtualBoard, tmp_path: Path) -> None:
    with profiling(board, tmp_path) as controller:
        kill(board, *pids(board, "serve"))
        nothing_left(board)
        _, told = controller.communicate()

    assert "the agent is gone" in told


def test_an_agent_killed_with_its_guard_is_made_up_for_by_the_next(board: VirtualBoard, tmp_path: Path) -> None:
    with profiling(board, tmp_path):
        kill(board, *pids(board, "guard"), *pids(board, "serve"))
        board.until(_no_process("worker"), "all of them are gone")
        left = board.read(BIG_LIMIT)
        with agent_on(board):
            restored = board.read(BIG_LIMIT)

    assert (left, restored) == (str(CAP_KHZ), str(FULL_KHZ))


def test_a_killed_keeper_leaves_no_cap(board: VirtualBoard) -> None:
    model = small_model()
    long = wire.Schedule(rounds=50, min_s=20.0)
    gate = wire.Gate(timeout_s=0.0)
    job = wire.Job(model=model.ref(), runtime="litert", schedule=long, gate=gate, clock_caps=CAPS)
    with agent_on(board) as agent:
        agent.push(model.to_send())
        agent.submit("one", job)
        board.until(f"grep -qx {CAP_KHZ} {BIG_LIMIT}", "the clock is capped", within_s=60.0)
        kill(board, *pids(board, "keep"))
        nothing_left(board)
        agent.discard("one")


def test_after_a_power_cut_the_clocks_are_free_and_the_next_agent_clears_up(
    board: VirtualBoard, tmp_path: Path
) -> None:
    with profiling(board, tmp_path):
        written = board.shell(f"ls {RECORDS}").split()
        board.cut_power()
    limits, kept = board.shell(f"cat {LIMITS}").split(), board.shell(f"ls {RECORDS}").split()
    with agent_on(board) as agent:
        told = [policy.max_hz for policy in agent.topology().policies]

    assert limits == [str(FULL_KHZ)] * 2
    assert (len(written), kept) == (1, written)  # it was on the disk before the clock was touched
    assert told == [1.8e9, 1.8e9]
