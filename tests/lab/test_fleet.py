"""The fleet itself: every fault does what its name says, and nothing stays behind."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.test_agent import until
from tests.integration.test_docs import PYTHON, typed_lines
from tests.lab import arm64, fleet
from tests.lab.device import FleetDevice
from tests.lab.fleet import MIB, PREFIX, Fleet
from tests.lab.limits import LimitsV2

pytestmark = [pytest.mark.ssh, pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
DISK_BYTES = 64 * MIB
SOON_S = 30.0
# Prints seconds to connect, or why not.
CONNECT = """
import socket, sys, time
began = time.monotonic()
try:
    socket.create_connection((sys.argv[1], 22), timeout=float(sys.argv[2])).close()
    print(time.monotonic() - began)
except OSError as error:
    print(type(error).__name__)
"""
OWNER = """
import time
from tests.lab.fleet import Fleet
with Fleet(2) as fleet:
    fleet[0].freeze()
    print(fleet[0].pid, fleet[1].pid, fleet.namespaces.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def three() -> Iterator[Fleet]:
    reason = fleet.why_not()
    if reason:
        pytest.skip(reason)
    try:
        arm64.rootfs()
    except arm64.NoPackages as error:
        pytest.skip(str(error))
    with Fleet(3, disk_bytes=DISK_BYTES, seed=7) as made:
        yield made


@pytest.fixture
def board(three: Fleet) -> Iterator[FleetDevice]:
    """The first device, as good as new before and after."""
    yield three[0]
    three[0].wire.heal()
    three[0].thaw()
    three[0].limits.memory(None)
    three[0].limits.cpu(None)
    three[0].power_cut()
    three[0].power_on()


def connect(made: Fleet, device: FleetDevice, timeout_s: float = SOON_S) -> str:
    return made.run([sys.executable, "-I", "-c", CONNECT, device.ip, str(timeout_s)]).stdout.strip()


@contextmanager
def session(made: Fleet, device: FleetDevice, script: str) -> Iterator[subprocess.Popen[str]]:
    """An ssh that has said its first line, "up", and is killed in the end: nobody waits for a frozen device."""
    command = [*made.prefix, "ssh", "-F", str(made.ssh_config), device.name, f"echo up; {script}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **made.environment}) as ssh:
        try:
            assert ssh.stdout is not None
            assert ssh.stdout.readline() == "up\n"
            yield ssh
        finally:
            ssh.kill()


def test_each_device_is_one_of_its_own(three: Fleet) -> None:
    said = [device.ssh("hostname; uname -m; id -un; cat /proc/sys/kernel/random/boot_id") for device in three]

    lines = [done.stdout.split() for done in said]
    assert [line[:3] for line in lines] == [[f"dev{number}", "aarch64", "pi"] for number in (1, 2, 3)]
    assert len({line[3] for line in lines}) == 3
    assert {device.shell("ls /mnt") for device in three} == {""}


def test_edgeprof_reaches_a_device_and_knows_that_it_is_emulated(three: Fleet, tmp_path: Path) -> None:
    edgeprof = three.command_line(tmp_path)

    done = edgeprof.run("devices", "doctor", "dev2")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "emulated" in edgeprof.run("devices", "show", "dev2").stdout


def test_the_controller_reaches_nothing_else(three: Fleet) -> None:
    assert three.run(["ip", "route", "get", "192.0.2.1"]).returncode != 0
    assert three[0].ssh("cat < /dev/tcp/198.18.2.2/22").returncode != 0


def test_a_slow_wire_is_slow(three: Fleet, board: FleetDevice) -> None:
    board.wire.set(delay_s=0.1, jitter_s=0.05)

    # There and back again.
    assert float(connect(three, board)) >= 0.2


def test_a_narrow_wire_takes_its_time(three: Fleet, board: FleetDevice) -> None:
    board.wire.set(rate_bytes_s=200_000)

    began = time.monotonic()
    done = board.ssh("head -c 400000 /dev/zero | wc -c; head -c 400000 /dev/zero")

    assert done.stdout.startswith("400000\n")
    assert time.monotonic() - began >= 1.5


def test_a_wire_that_loses_everything_is_as_good_as_cut(three: Fleet, board: FleetDevice) -> None:
    board.wire.set(loss=1.0)
    assert connect(three, board, 0.5) == "TimeoutError"

    board.wire.set(loss=0.3)
    assert float(connect(three, board, 60.0)) >= 0


def test_a_partition_keeps_one_device_away_until_it_heals(three: Fleet, board: FleetDevice) -> None:
    board.wire.cut()

    assert connect(three, board, 0.5) == "TimeoutError"
    assert float(connect(three, three[1])) >= 0

    board.wire.heal()
    assert float(connect(three, board)) >= 0


def test_a_middlebox_resets_connections_while_it_is_told_to(three: Fleet, board: FleetDevice) -> None:
    board.reset(on=True)
    assert connect(three, board) == "ConnectionRefusedError"

    board.reset(on=False)
    assert float(connect(three, board)) >= 0


def test_a_disk_is_full_when_its_size_is_reached(board: FleetDevice) -> None:
    done = board.ssh(f"head -c {2 * DISK_BYTES} /dev/zero > big")

    assert done.returncode != 0
    assert "No space left on device" in done.stderr
    assert 0 < (board.root / "home/pi/big").stat().st_size <= DISK_BYTES

    board.power_cut()
    board.power_on(keep_disk=True)
    assert board.ssh("rm big && echo more > small && cat small").stdout == "more\n"


def test_memory_has_an_end(board: FleetDevice) -> None:
    board.limits.memory(160 * MIB)

    done = board.ssh(f"{arm64.PYTHON} -c 'b = bytearray({400 * MIB}); print(len(b))'")

    assert done.returncode != 0
    assert done.stdout == ""
    assert board.limits.oom_kills() > 0
    assert board.ssh("echo alive").stdout == "alive\n"


def test_a_slow_processor_gets_what_it_is_given(board: FleetDevice) -> None:
    busy = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; cat /proc/self/stat > /dev/null; times"
    board.limits.cpu(0.2)

    began = time.monotonic()
    used = board.ssh(busy).stdout.split()[0]

    minutes, seconds = used.rstrip("s").split("m")
    assert time.monotonic() - began > 2 * (60 * int(minutes) + float(seconds))


def test_a_frozen_device_answers_when_it_thaws(three: Fleet, board: FleetDevice) -> None:
    with session(three, board, "sleep 0.5; echo done") as ssh:
        board.freeze()
        with pytest.raises(subprocess.TimeoutExpired):
            ssh.wait(1.5)
        # The kernel still opens connections, and a shell of ours still looks inside.
        assert float(connect(three, board)) >= 0
        assert "echo up" in board.shell("ps -eo args")

        board.thaw()
        assert ssh.communicate(timeout=30)[0] == "done\n"


def test_killed_sessions_leave_behind_what_they_started(three: Fleet, board: FleetDevice) -> None:
    with session(three, board, "sleep 300") as ssh:
        board.kill_sessions()

        assert ssh.wait(30) == 255
    assert any("sleep 300" in words for words in board.processes().values())
    assert board.ssh("echo back").stdout == "back\n"


@pytest.mark.parametrize("keep_disk", [True, False])
def test_after_a_power_cut_only_a_kept_disk_remembers(
    keep_disk: bool, three: Fleet, board: FleetDevice, tmp_path: Path
) -> None:
    board.ssh("echo kept > file; echo lost > /tmp/file; nohup sleep 300 > /dev/null 2>&1 &")
    before, boot_id = board.pid, board.shell("cat /proc/sys/kernel/random/boot_id")

    board.power_cut()
    assert not Path(f"/proc/{before}").exists()
    assert connect(three, board, 1.0) in ("OSError", "TimeoutError", "ConnectionRefusedError")

    board.power_on(keep_disk=keep_disk)
    assert board.ssh("cat file").stdout == ("kept\n" if keep_disk else "")
    assert board.ssh("ls /tmp").stdout == ""
    assert board.processes() == {}
    assert board.shell("cat /proc/sys/kernel/random/boot_id") != boot_id


def test_version_2_of_control_groups_freezes_too(three: Fleet, tmp_path: Path) -> None:
    """Memory and processor time of version 2 need a host that has given these controllers to it."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    root = next((Path(words[1]) for words in mounts if words[2] == "cgroup2"), None)
    if root is None:
        pytest.skip("no control groups of version 2 here")
    limits = LimitsV2(root, f"{three.folder.name}-v2")
    with subprocess.Popen(["sleep", "300"]) as process:
        limits.joins[0].write_text(str(process.pid))
        events = root / f"{three.folder.name}-v2" / "cgroup.events"

        limits.freeze()
        assert "frozen 1" in events.read_text()

        limits.thaw()
        until(lambda: "frozen 0" in events.read_text(), "it is thawed")
        process.kill()
    limits.remove()


def test_what_the_page_about_the_lab_says_can_be_typed(three: Fleet, tmp_path: Path) -> None:
    page = ROOT / "docs" / "how-to" / "lab.md"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, **three.environment, "EDGEPROF_HOME": str(tmp_path), "PATH": path}
    shutil.copy(three.fleet_toml, tmp_path)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    typed = [[*three.prefix, *shlex.split(line)] for line in typed_lines(page)]
    (script,) = PYTHON.findall(page.read_text())
    assert len(typed) > 3

    for command, folder in (*((line, tmp_path) for line in typed), ([sys.executable, "-c", script], ROOT)):
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=250
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def test_nothing_is_left_when_a_fleet_ends(three: Fleet) -> None:
    before = left_behind(os.getpid())
    with Fleet(1) as ended:
        pids = [ended[0].pid, ended.namespaces.pid, ended[0].wire.pid]
        assert left_behind(os.getpid()) > before

    assert left_behind(os.getpid()) == before
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_nothing_is_left_of_a_fleet_whose_owner_was_killed_once_the_next_one_starts(three: Fleet) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], cwd=ROOT, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pids = owner.stdout.readline().split()
        assert left_behind(owner.pid)
        owner.send_signal(signal.SIGKILL)
    # The kernel kills all of it, but for what version 1 of control groups holds frozen.
    until(lambda: not Path(f"/proc/{pids[1]}").exists(), "the device that is not frozen is gone")

    Fleet.clean()

    assert left_behind(owner.pid) == set()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "every process is gone")


def left_behind(owner: int) -> set[str]:
    """What fleets of that process have by a name: control groups, folders and mounts on this side."""
    name = f"{PREFIX}-{owner}-"
    groups = {str(path) for path in Path("/sys/fs/cgroup").glob(f"**/{name}*") if path.is_dir()}
    folders = {str(path) for path in Path(tempfile.gettempdir()).glob(f"{name}*")}
    mounts = {line for line in Path("/proc/self/mounts").read_text().splitlines() if name in line}
    return groups | folders | mounts
