"""The CPUs of a device, read from a folder with its files."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from device_agents import topology
from tests.cpufreq_folder import BIG_MIDR, CPUS, LITTLE_MIDR, CpufreqFolder
from tests.recorded_machine import RecordedMachine

LIMIT = f"{CPUS}/cpufreq/policy0/scaling_max_freq"
# Says, as an account without any privilege, why a limit may not be set.
AS_NOBODY = (
    "import os, sys; from pathlib import Path; from device_agents import topology\n"
    "from tests.moved_machine import MovedMachine\n"
    "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
    "policies = topology.read_policies(MovedMachine(Path(sys.argv[1])))\n"
    "print([(policy.name, policy.settable, policy.not_settable) for policy in policies])"
)


@pytest.fixture
def folder(tmp_path: Path) -> CpufreqFolder:
    return CpufreqFolder(tmp_path / "root")


def test_clusters_have_capacity_part_clocks_and_limits(folder: CpufreqFolder) -> None:
    found = topology.read(folder.machine)

    assert [cpu.number for cpu in found.cpus] == [0, 1, 2, 3]
    assert [cpu.capacity for cpu in found.cpus] == [1024, 1024, 446, 446]
    assert [cpu.midr for cpu in found.cpus] == [BIG_MIDR, BIG_MIDR, LITTLE_MIDR, LITTLE_MIDR]
    assert [cpu.policy for cpu in found.cpus] == ["policy0", "policy0", "policy2", "policy2"]
    assert all(cpu.online and cpu.usable for cpu in found.cpus)
    big, little = found.policies
    assert (big.name, big.cpus, little.name, little.cpus) == ("policy0", (0, 1), "policy2", (2, 3))
    assert big.clocks_hz == (600e6, 1e9, 1.5e9, 1.8e9)
    assert (big.min_hz, big.max_hz, big.hardware_max_hz, big.governor) == (600e6, 1.8e9, 1.8e9, "performance")
    assert (big.settable, big.not_settable) == (True, None)
    assert (found.cpuset, found.unreadable) == ("/", {})


def test_a_cpu_that_is_off_or_outside_the_cpuset_may_not_be_used(folder: CpufreqFolder) -> None:
    folder.put(f"{CPUS}/online", "0,2-3")
    folder.put("/proc/self/status", "Cpus_allowed_list:\t0-2")
    folder.put("/proc/self/cpuset", "/top-app")

    found = topology.read(folder.machine)

    assert [(cpu.online, cpu.usable) for cpu in found.cpus] == [
        (True, True),
        (False, False),
        (True, True),
        (True, False),
    ]
    assert found.cpuset == "/top-app"


def test_cpus_that_are_only_possible_are_none_of_the_devices(folder: CpufreqFolder) -> None:
    folder.put(f"{CPUS}/possible", "0-239")

    assert len(topology.read(folder.machine).cpus) == 4


def test_a_part_is_told_by_cpuinfo_where_there_is_no_register_file(folder: CpufreqFolder) -> None:
    for cpu in range(4):
        folder.remove(f"{CPUS}/cpu{cpu}/regs/identification/midr_el1")
    block = "processor\t: {}\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {}\n"
    little = block.format(2, "0xd03") + "CPU revision\t: 4\n"
    folder.put("/proc/cpuinfo", block.format(0, "0xd08") + "CPU revision\t: 3\n\n" + little)

    found = topology.read(folder.machine)

    assert [cpu.midr for cpu in found.cpus] == [BIG_MIDR, None, LITTLE_MIDR, None]


def test_a_driver_without_a_limit_is_not_settable_and_says_so(folder: CpufreqFolder) -> None:
    folder.remove(LIMIT)

    big, little = topology.read_policies(folder.machine)

    assert (big.settable, big.not_settable, big.max_hz) == (False, "its driver has no scaling_max_freq", None)
    assert little.settable


def test_a_file_without_a_list_of_cpus_is_told_and_guessed_at_by_nobody(folder: CpufreqFolder) -> None:
    for name in ("online", "present"):
        folder.put(f"{CPUS}/{name}", "0-99999")
    folder.put(f"{CPUS}/possible", "many")
    folder.put("/proc/stat", "cpu  1 2 3\ncpu0 1 2 3\ncpu3 1 2 3\nctxt 5")
    folder.put(f"{CPUS}/cpufreq/policy0/related_cpus", "none")

    found = topology.read(folder.machine)

    assert [cpu.number for cpu in found.cpus] == [0, 3]
    assert found.policies[0].cpus == (0,)
    assert "many" in found.unreadable["possible CPUs"]
    assert "more CPUs than a kernel can" in found.unreadable["online CPUs"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become an account without privileges")
def test_an_account_without_permission_is_told_so() -> None:
    with tempfile.TemporaryDirectory() as root:  # pytest's own folder is root's alone
        Path(root).chmod(0o755)
        folder = CpufreqFolder(Path(root))
        Path(f"{root}{LIMIT}").chmod(0o644)
        command = [sys.executable, "-c", AS_NOBODY, str(folder.root)]
        said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]).stdout

    assert f"('policy0', False, '{LIMIT}: Permission denied')" in said


def test_a_machine_without_cpufreq_says_what_is_missing() -> None:
    found = topology.read(RecordedMachine("vm-x86"))

    assert found.policies == ()
    assert found.cpus
    assert all(cpu.capacity is None for cpu in found.cpus)
    assert {"clocks", "capacity"} <= set(found.unreadable)
