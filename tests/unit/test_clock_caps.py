"""Caps of clocks on a folder as /sys, with real guards: whatever ends, and however, the limits are as they were."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from device_agents.clock_caps import CappedClocks, ClockError
from device_agents.clock_record import Change, keep, put_back_leftovers
from device_agents.lease import acquire, holder
from device_agents.wire import Claim, ClockCap
from tests.cpufreq_folder import COOLER, CPUS, CpufreqFolder, LateMachine
from tests.moved_machine import MovedMachine

REPOSITORY = Path(__file__).parents[2]
# The guard of the packed agent, but for the folder that it takes for the device's files.
GUARD = """
import sys
from pathlib import Path
sys.path.insert(0, {repository!r})
from device_agents import clock_guard
from tests.moved_machine import MovedMachine
sys.exit(clock_guard.main(MovedMachine(Path({root!r}))))
"""
# An agent that has capped a clock, and then waits to be killed.
HOLDER = """
import os, sys
from pathlib import Path
from device_agents.clock_caps import CappedClocks
from device_agents.lease import acquire
from device_agents.wire import Claim, ClockCap
from tests.moved_machine import MovedMachine
root, guard, lease, patience_s = sys.argv[1:]
held = acquire(lease, Claim("ana", "a run", "s1", 600.0))
clocks = CappedClocks(MovedMachine(Path(root)), (sys.executable, guard), held.descriptor, float(patience_s))
clocks.apply((ClockCap("policy0", 1e9),))
print(clocks._guard.pid, flush=True)
sys.stdin.read()
"""
SOON_S = 20.0
FULL_KHZ, CAP_KHZ = 1_800_000, 1_000_000


@pytest.fixture(autouse=True)
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where what was changed is written down; when a test is over nothing may be left there."""
    monkeypatch.setenv("EDGEPROF_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "clocks"
    yield folder
    assert not list(folder.iterdir()) if folder.is_dir() else True


@pytest.fixture
def folder(tmp_path: Path) -> CpufreqFolder:
    return CpufreqFolder(tmp_path / "root")


@pytest.fixture
def guard(tmp_path: Path, folder: CpufreqFolder) -> str:
    path = tmp_path / "guard.py"
    path.write_text(GUARD.format(repository=str(REPOSITORY), root=str(folder.root)))
    return str(path)


@pytest.fixture
def clocks(folder: CpufreqFolder, guard: str) -> Iterator[CappedClocks]:
    made = CappedClocks(folder.machine, (sys.executable, guard), None, 60.0)
    yield made
    made.close()


class Holder:
    """A process that has capped policy0 at 1 GHz, and its guard's pid."""

    def __init__(self, folder: CpufreqFolder, guard: str, patience_s: float = 600.0) -> None:
        self.lease = str(folder.root / "edgeprof.lease")
        command = [sys.executable, "-c", HOLDER, str(folder.root), guard, self.lease, str(patience_s)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY)
        assert self.process.stdout is not None
        self.guard_pid = int(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def kill_guard(self) -> None:
        os.kill(self.guard_pid, signal.SIGKILL)
        until(lambda: is_gone(self.guard_pid), "the guard is dead")


@pytest.fixture
def holding(folder: CpufreqFolder, guard: str) -> Iterator[Holder]:
    made = Holder(folder, guard)
    assert folder.limit_khz() == CAP_KHZ
    yield made
    made.kill()


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for something that must come; generous, because machines are busy."""
    end = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < end, f"not within {SOON_S} s: {what}"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


# --- a job that ends as it should ----------------------------------------------------------------------------------


def test_a_cap_is_in_force_until_it_is_closed(folder: CpufreqFolder, clocks: CappedClocks, records: Path) -> None:
    clocks.apply((ClockCap("policy0", 1e9), ClockCap("policy2", 600e6)))
    capped = folder.limit_khz("policy0"), folder.limit_khz("policy2")
    written = [json.loads(path.read_text()) for path in records.iterdir()]
    changed = clocks.what_changed()
    clocks.close()

    assert capped == (CAP_KHZ, 600_000)
    assert clocks.in_force == "policy0: 1000 MHz, policy2: 600 MHz"
    assert [change["before_khz"] for change in written[0]["changes"]] == [FULL_KHZ, FULL_KHZ]
    assert changed is None
    assert (folder.limit_khz("policy0"), folder.limit_khz("policy2")) == (FULL_KHZ, FULL_KHZ)
    assert clocks.notes == []


def test_a_cap_between_two_steps_comes_to_the_lower_one(folder: CpufreqFolder, clocks: CappedClocks) -> None:
    clocks.apply((ClockCap("policy0", 1.2e9),))

    assert folder.limit_khz() == CAP_KHZ
    assert clocks.in_force == "policy0: 1000 MHz"


def test_a_driver_that_lists_no_steps_gets_what_was_asked_for(folder: CpufreqFolder, clocks: CappedClocks) -> None:
    folder.remove(f"{CPUS}/cpufreq/policy0/scaling_available_frequencies")

    clocks.apply((ClockCap("policy0", 1.2e9),))

    assert folder.limit_khz() == 1_200_000


def test_a_limit_that_is_lower_already_is_never_raised(
    folder: CpufreqFolder, clocks: CappedClocks, records: Path
) -> None:
    folder.set_limit(600_000)

    clocks.apply((ClockCap("policy0", 1.5e9),))

    assert (folder.limit_khz(), clocks.in_force) == (600_000, "policy0: 600 MHz")
    assert not records.exists()  # nothing was changed: there is nothing to put back


def test_what_others_set_meanwhile_is_told_and_left(folder: CpufreqFolder, clocks: CappedClocks) -> None:
    clocks.apply((ClockCap("policy0", 1e9),))
    folder.set_limit(1_500_000)
    changed = clocks.what_changed()
    clocks.close()

    assert changed == "the limit of policy0 was set from 1000 MHz to 1500 MHz during the job"
    assert folder.limit_khz() == 1_500_000
    assert clocks.notes == [
        "somebody else set the limit of policy0 to 1500 MHz meanwhile, from our 1000 MHz: it was left so (before, it "
        "was 1800 MHz)"
    ]


def test_a_limit_that_heat_lowered_below_the_cap_is_still_ours(folder: CpufreqFolder, clocks: CappedClocks) -> None:
    clocks.apply((ClockCap("policy0", 1e9),))
    folder.put(f"{COOLER}/cur_state", "3")
    folder.set_limit(600_000)
    changed = clocks.what_changed()
    clocks.close()

    assert changed is None
    assert folder.limit_khz() == FULL_KHZ


def test_a_kernel_that_takes_its_time_is_waited_for(folder: CpufreqFolder, guard: str) -> None:
    machine = LateMachine(folder.root)
    clocks = CappedClocks(machine, (sys.executable, guard), None, 60.0)

    clocks.apply((ClockCap("policy0", 1e9),))
    capped, waited_s = folder.limit_khz(), machine.clock_s
    clocks.close()

    assert (capped, clocks.in_force) == (CAP_KHZ, "policy0: 1000 MHz")
    assert waited_s == pytest.approx(0.1)
    assert folder.limit_khz() == FULL_KHZ


def test_a_driver_that_does_not_take_a_cap_is_given_up(folder: CpufreqFolder, guard: str) -> None:
    class Stubborn(MovedMachine):
        def write(self, path: str, text: str) -> None:
            """Accepts everything, and does nothing."""

        def sleep(self, seconds: float) -> None:
            """Nothing comes of waiting, either."""

    clocks = CappedClocks(Stubborn(folder.root), (sys.executable, guard), None, 60.0)

    with pytest.raises(ClockError, match="to be capped at 1000 MHz, but its limit is 1800 MHz after that") as caught:
        clocks.apply((ClockCap("policy0", 1e9),))
    clocks.close()

    assert caught.value.kind == "clock-not-set"
    assert (folder.limit_khz(), clocks.notes) == (FULL_KHZ, [])


# --- what is refused, with nothing changed -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caps", "message"),
    [
        ((ClockCap("policy7", 1e9),), r"no clock policy 'policy7'"),
        ((ClockCap("../policy0", 1e9),), r"no clock policy"),
        ((ClockCap("policy0", 1e9), ClockCap("policy0", 6e8)), r"two caps are given for the clock of policy0"),
        ((ClockCap("policy0", 2e9),), r"at 2000 MHz: it goes no higher than 1800 MHz"),
        ((ClockCap("policy0", 5e8),), r"at 500 MHz: it goes no lower than 600 MHz"),
        ((ClockCap("policy0", 0.0),), r"cannot be capped at 0 Hz"),
        ((ClockCap("policy0", float("nan")),), r"cannot be capped at nan Hz"),
        ((ClockCap("policy2", 1e9), ClockCap("policy0", 5e8)), r"policy0 cannot be capped at 500 MHz"),
    ],
)
def test_a_cap_that_makes_no_sense_is_refused(
    folder: CpufreqFolder, clocks: CappedClocks, caps: Sequence[ClockCap], message: str
) -> None:
    with pytest.raises(ClockError, match=message) as caught:
        clocks.apply(caps)

    assert caught.value.kind == "bad-option"
    assert (folder.limit_khz("policy0"), folder.limit_khz("policy2")) == (FULL_KHZ, FULL_KHZ)


def test_a_device_without_policies_says_so(tmp_path: Path, clocks: CappedClocks) -> None:
    for name in ("policy0", "policy2"):
        os.rename(f"{tmp_path}/root{CPUS}/cpufreq/{name}", f"{tmp_path}/{name}")

    with pytest.raises(ClockError, match="no clock policy 'policy0'") as caught:
        clocks.apply((ClockCap("policy0", 1e9),))

    assert "does not manage the clocks" in caught.value.advice


def test_a_minimum_above_the_cap_is_not_changed_too(folder: CpufreqFolder, clocks: CappedClocks) -> None:
    folder.put(f"{CPUS}/cpufreq/policy0/scaling_min_freq", "1500000")

    with pytest.raises(ClockError, match="held at 1500 MHz or more") as caught:
        clocks.apply((ClockCap("policy0", 1e9),))

    assert caught.value.kind == "clock-not-set"
    assert "scaling_min_freq first" in caught.value.advice
    assert folder.limit_khz() == FULL_KHZ


@pytest.mark.parametrize("hot_khz", [1_500_000, 600_000])  # above the cap, and below it
def test_a_limit_that_heat_has_lowered_cannot_be_put_back_and_is_left(
    folder: CpufreqFolder, clocks: CappedClocks, hot_khz: int
) -> None:
    folder.put(f"{COOLER}/cur_state", "1")
    folder.set_limit(hot_khz)

    with pytest.raises(ClockError, match=r"heat holds the clock of policy0 down to (1500|600) MHz") as caught:
        clocks.apply((ClockCap("policy0", 1e9),))

    assert caught.value.kind == "clock-not-set"
    assert folder.limit_khz() == hot_khz


def test_without_a_guard_nothing_is_changed(folder: CpufreqFolder, tmp_path: Path) -> None:
    (tmp_path / "no_guard.py").write_text("raise SystemExit(1)")
    clocks = CappedClocks(folder.machine, (sys.executable, str(tmp_path / "no_guard.py")), None, 60.0)

    with pytest.raises(ClockError, match="could not be started") as caught:
        clocks.apply((ClockCap("policy0", 1e9),))
    clocks.close()

    assert caught.value.kind == "clock-not-set"
    assert folder.limit_khz() == FULL_KHZ


def test_a_record_that_cannot_be_kept_is_an_error_before_anything_is_changed(
    folder: CpufreqFolder, clocks: CappedClocks, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")

    with pytest.raises(ClockError, match="nothing was changed") as caught:
        clocks.apply((ClockCap("policy0", 1e9),))

    assert caught.value.kind == "clock-not-set"
    assert folder.limit_khz() == FULL_KHZ


# --- a job that is cut off -----------------------------------------------------------------------------------------


def test_a_killed_agent_leaves_its_guard_which_puts_the_clock_back(
    folder: CpufreqFolder, holding: Holder, records: Path
) -> None:
    holding.kill()

    until(lambda: is_gone(holding.guard_pid), "the guard has done its work")
    assert folder.limit_khz() == FULL_KHZ
    assert not list(records.iterdir())


def test_nobody_gets_the_device_before_the_clock_is_back(folder: CpufreqFolder, holding: Holder) -> None:
    os.kill(holding.guard_pid, signal.SIGSTOP)
    holding.kill()
    still_held = holder(holding.lease)
    os.kill(holding.guard_pid, signal.SIGCONT)

    until(lambda: holder(holding.lease) is None, "the lease is free")
    assert still_held is not None
    assert folder.limit_khz() == FULL_KHZ
    acquire(holding.lease, Claim("bob", "a look", "s2", 600.0)).release()


def test_a_guard_that_is_asked_to_end_puts_the_clock_back_first(folder: CpufreqFolder, holding: Holder) -> None:
    for number in (signal.SIGHUP, signal.SIGINT):
        os.kill(holding.guard_pid, number)
    os.kill(holding.guard_pid, signal.SIGTERM)

    until(lambda: is_gone(holding.guard_pid), "the guard has ended")
    assert folder.limit_khz() == FULL_KHZ
    holding.kill()


def test_a_guard_without_a_word_puts_the_clock_back_when_the_job_must_be_over(
    folder: CpufreqFolder, guard: str, records: Path
) -> None:
    frozen = Holder(folder, guard, patience_s=0.2)
    os.kill(frozen.process.pid, signal.SIGSTOP)

    until(lambda: is_gone(frozen.guard_pid), "the guard has ended")

    assert folder.limit_khz() == FULL_KHZ
    assert not list(records.iterdir())
    frozen.kill()


def test_a_killed_guard_is_made_up_for_by_its_agent(folder: CpufreqFolder, clocks: CappedClocks) -> None:
    clocks.apply((ClockCap("policy0", 1e9),))
    guard = clocks._guard
    assert guard is not None
    guard.kill()
    guard.wait()
    still = folder.limit_khz()
    clocks.close()

    assert still == CAP_KHZ
    assert folder.limit_khz() == FULL_KHZ


def test_whoever_starts_next_puts_back_what_agent_and_guard_were_killed_over(
    folder: CpufreqFolder, holding: Holder, records: Path
) -> None:
    holding.kill_guard()
    while_it_lives = put_back_leftovers(folder.machine), folder.limit_khz()
    holding.kill()
    left = folder.limit_khz()

    notes = put_back_leftovers(folder.machine)

    assert while_it_lives == ([], CAP_KHZ)  # the agent still measures
    assert left == CAP_KHZ
    assert (notes, folder.limit_khz()) == ([], FULL_KHZ)
    assert not list(records.iterdir())


def test_the_next_job_starts_from_what_was_before_the_last(
    folder: CpufreqFolder, holding: Holder, clocks: CappedClocks
) -> None:
    holding.kill_guard()
    holding.kill()

    clocks.apply((ClockCap("policy0", 600e6),))
    capped = folder.limit_khz()
    clocks.close()

    assert capped == 600_000
    assert folder.limit_khz() == FULL_KHZ


def test_after_a_restart_there_is_nothing_to_put_back(folder: CpufreqFolder, records: Path) -> None:
    keep((Change("policy0", FULL_KHZ, CAP_KHZ, CAP_KHZ),)).close()
    (record,) = records.iterdir()
    record.write_text(json.dumps({**json.loads(record.read_text()), "boot_id": "that of the boot before"}))
    folder.set_limit(CAP_KHZ)  # as this boot has it, whoever set that

    notes = put_back_leftovers(folder.machine)

    assert (notes, folder.limit_khz()) == ([], CAP_KHZ)
    assert not list(records.iterdir())


def test_an_agent_killed_between_writing_and_looking_is_made_up_for(folder: CpufreqFolder) -> None:
    keep((Change("policy0", FULL_KHZ, CAP_KHZ), Change("policy2", FULL_KHZ, CAP_KHZ))).close()
    folder.set_limit(1_100_000)  # what a driver made of the cap

    notes = put_back_leftovers(folder.machine)

    assert (notes, folder.limit_khz("policy0"), folder.limit_khz("policy2")) == ([], FULL_KHZ, FULL_KHZ)


def test_a_cap_that_is_still_on_its_way_is_put_back_too(folder: CpufreqFolder) -> None:
    machine = LateMachine(folder.root)
    keep((Change("policy0", FULL_KHZ, CAP_KHZ),)).close()
    machine.write(f"{CPUS}/cpufreq/policy0/scaling_max_freq", str(CAP_KHZ))  # then the agent and its guard were killed

    notes = put_back_leftovers(machine)
    machine.sleep(1.0)

    assert (notes, folder.limit_khz()) == ([], FULL_KHZ)


def test_a_limit_that_cannot_be_put_back_is_tried_again(folder: CpufreqFolder, records: Path) -> None:
    keep((Change("policy0", FULL_KHZ, CAP_KHZ, CAP_KHZ),)).close()
    limit = f"{CPUS}/cpufreq/policy0/scaling_max_freq"
    folder.put(limit, "unknown")  # as a driver says that has failed

    (note,) = put_back_leftovers(folder.machine)
    left = list(records.iterdir())
    folder.set_limit(CAP_KHZ)

    assert "the limit of policy0 could not be set back to 1800 MHz" in note
    assert len(left) == 1
    assert (put_back_leftovers(folder.machine), folder.limit_khz()) == ([], FULL_KHZ)


def test_a_driver_that_has_gone_took_its_limit_along(folder: CpufreqFolder, records: Path) -> None:
    keep((Change("policy9", FULL_KHZ, CAP_KHZ, CAP_KHZ),)).close()

    assert put_back_leftovers(folder.machine) == []
    assert not list(records.iterdir())


def test_garbage_among_the_records_is_removed(folder: CpufreqFolder, records: Path) -> None:
    records.mkdir(parents=True)
    (records / ".new-0123").write_text("")
    (records / "0123").write_text('{"boot_id": 5}')

    assert put_back_leftovers(folder.machine) == []
    assert folder.limit_khz() == FULL_KHZ
