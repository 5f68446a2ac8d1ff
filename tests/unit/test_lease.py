"""The lease file: who has it is decided by the kernel's lock, whatever anybody writes there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_agents import lease
from device_agents.wire import Claim

ANA, BOB = Claim("ana", "a nightly run", "s1", 600.0), Claim("bob", "a look", "s2", 600.0)
# A holder in a process of its own: says when it has the lease, then waits to be killed.
HOLD = (
    "import sys; from device_agents import lease; from device_agents.wire import Claim\n"
    "held = lease.acquire(sys.argv[1], Claim('ana', 'a nightly run', 's1', float(sys.argv[2])))\n"
    "print(held.record.number, flush=True); sys.stdin.read()\n"
)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "edgeprof.lease")


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def hold(path: str, valid_s: float, processes: list[subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", HOLD, path, str(valid_s)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    processes.append(process)
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def test_a_second_session_is_told_who_has_it_and_a_released_lease_is_free(path: str) -> None:
    held = lease.acquire(path, ANA)

    with pytest.raises(
        lease.LeaseError, match=r"ana has the device for a nightly run since .* for \d+ s more"
    ) as caught:
        lease.acquire(path, BOB)
    held.release()
    second = lease.acquire(path, BOB)

    assert caught.value.kind == "leased"
    assert second.record.number == held.record.number + 1
    second.release()
    assert lease.holder(path) is None


def test_a_killed_holder_has_nothing(path: str, processes: list[subprocess.Popen[bytes]]) -> None:
    process = hold(path, 600.0, processes)
    described = lease.holder(path)
    process.kill()
    process.wait()

    assert described is not None
    assert (described.owner, described.pid, described.is_expired) == ("ana", process.pid, False)
    assert lease.holder(path) is None


def test_a_frozen_holder_whose_time_is_over_is_killed_by_the_taker(
    path: str, processes: list[subprocess.Popen[bytes]]
) -> None:
    process = hold(path, 0.0, processes)
    os.kill(process.pid, signal.SIGSTOP)

    taken = lease.acquire(path, BOB)

    assert process.wait() == -signal.SIGKILL
    assert taken.is_mine()
    taken.release()


def test_a_holder_that_cannot_be_killed_loses_the_file_and_is_told(path: str) -> None:
    stale = lease.acquire(path, Claim("ana", "a nightly run", "s1", 0.0))  # this process: it does not kill itself

    taken = lease.acquire(path, BOB)

    assert not stale.is_mine()
    assert taken.is_mine()
    assert taken.record.number > stale.record.number
    stale.release()
    assert taken.is_mine()
    taken.release()


@pytest.mark.parametrize("garbage", [b"", b"\xff\x00", b"[" * 3000, b'{"owner": 3}', b"1e999", b"{}" * 2000])
def test_garbage_neither_frees_the_device_nor_costs_a_result(path: str, garbage: bytes) -> None:
    held = lease.acquire(path, ANA)
    Path(path).write_bytes(garbage)

    described = lease.holder(path)
    with pytest.raises(lease.LeaseError, match="somebody has the device"):
        lease.acquire(path, BOB)

    assert described is not None
    assert described.expires_in_s is None
    assert held.is_mine()
    held.release()
    lease.acquire(path, BOB).release()


def test_a_forged_record_kills_nobody(path: str, processes: list[subprocess.Popen[bytes]]) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    processes.append(bystander)
    held = lease.acquire(path, ANA)
    record = json.loads(Path(path).read_bytes())
    forged = {**record, "pid": bystander.pid, "pid_started": lease._started(bystander.pid)}
    Path(path).write_text(json.dumps(forged))

    lease.unlock(path)

    assert bystander.poll() is None
    assert not held.is_mine()
    held.release()


def test_control_characters_of_a_record_reach_no_terminal(path: str) -> None:
    held = lease.acquire(path, Claim("ana\x1b[2J" + "x" * 500, "a\nb", "s", 600.0))

    described = lease.holder(path)

    assert described is not None
    assert described.owner.startswith("ana?[2Jx")
    assert len(described.owner) == 100
    assert described.purpose == "a?b"
    held.release()


@pytest.mark.parametrize("kind", ["symlink", "hardlink", "fifo", "folder"])
def test_what_is_no_plain_file_is_refused(path: str, tmp_path: Path, kind: str) -> None:
    (tmp_path / "precious").write_text("keep me")
    make = {
        "symlink": lambda: os.symlink(tmp_path / "precious", path),
        "hardlink": lambda: os.link(tmp_path / "precious", path),
        "fifo": lambda: os.mkfifo(path),
        "folder": lambda: os.mkdir(path),
    }
    make[kind]()

    with pytest.raises(lease.LeaseError, match=r"edgeprof\.lease") as caught:
        lease.acquire(path, ANA)

    assert caught.value.kind == "device-error"
    assert (tmp_path / "precious").read_text() == "keep me"


def test_every_account_may_take_the_file(path: str) -> None:
    old = os.umask(0o077)
    try:
        lease.acquire(path, ANA).release()
    finally:
        os.umask(old)

    assert Path(path).stat().st_mode & 0o777 == 0o666
