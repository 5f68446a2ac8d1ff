"""The agent's only door to the operating system: files, programs, clock, sleep.

Recorded machines in tests, simulated boards and injected clocks all enter here.
"""

import os
import subprocess
import sys
import time
from typing import List, Optional, Sequence, Tuple

from device_agents.wire import MachineInfo

# Files under /proc and /sys are small; a bound keeps a surprising one from filling the memory of a small board.
MAX_READ_BYTES = 1024 * 1024


class Machine:
    """The real operating system."""

    origin = "measured"

    def now(self) -> float:
        """Seconds of the clock that latencies are taken with; its zero means nothing."""
        return time.perf_counter()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def read(self, path: str) -> str:
        """The text of a small file.

        Raises:
            OSError: it is not there, or may not be read.
        """
        with open(path, "rb") as file:
            return file.read(MAX_READ_BYTES).decode("utf-8", "replace")

    def list(self, path: str) -> List[str]:
        """Sorted names in a folder; empty if there is no such folder."""
        try:
            return sorted(os.listdir(path))
        except OSError:
            return []

    def run(self, argv: Sequence[str], timeout_s: float = 5.0) -> Tuple[int, str]:
        """Run a program without a shell; (exit code, standard output).

        Raises:
            OSError: it is not installed, or did not end in time.
        """
        try:
            done = subprocess.run(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"{argv[0]} did not end within {timeout_s} s") from error
        return done.returncode, done.stdout[:MAX_READ_BYTES].decode("utf-8", "replace")

    def describe(self) -> MachineInfo:
        """What this machine says it is."""
        cpuinfo = self._read_or_none("/proc/cpuinfo") or ""
        model = self._read_or_none("/proc/device-tree/model") or self._read_or_none("/sys/class/dmi/id/product_name")
        model = model.strip("\x00\n ") if model else None
        system = os.uname()
        emulator = _emulator(model or "", system.machine, cpuinfo, self.program() or "")
        # Under qemu-user the file may be the host's: its CPU is not the device's.
        is_hosts = emulator == "qemu-user" and "vendor_id" in cpuinfo
        return MachineInfo(
            model=model or None,
            architecture=system.machine,
            kernel=system.release,
            libc=_libc(),
            cpu=None if is_hosts else _cpu_name(cpuinfo),
            n_cpus=os.cpu_count() or 1,
            memory_bytes=self._memory_bytes(),
            emulator=emulator,
        )

    def program(self) -> Optional[str]:
        """The program that the kernel runs for us: an emulator, if our instructions are emulated; None if not told.

        qemu-user itself answers /proc/self/exe and /proc/PID/exe, with the emulated program, but leaves the thread's
        link alone (linux-user/syscall.c, is_proc_myself).
        """
        try:
            return os.readlink("/proc/thread-self/exe")
        except OSError:
            return None

    def _read_or_none(self, path: str) -> Optional[str]:
        try:
            return self.read(path)
        except OSError:
            return None

    def _memory_bytes(self) -> Optional[int]:
        for line in (self._read_or_none("/proc/meminfo") or "").splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) * 1024
        return None


def python_version() -> str:
    """The version of the Python that runs this, such as 3.11.2."""
    return ".".join(map(str, sys.version_info[:3]))


def _libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or "not glibc"
    except (OSError, ValueError):
        return "not glibc"


def _cpu_name(cpuinfo: str) -> Optional[str]:
    """x86 has "model name"; arm64 has implementer and part numbers, several on big.LITTLE."""
    fields = [line.split(":", 1) for line in cpuinfo.splitlines() if ":" in line]
    values = [(key.strip(), value.strip()) for key, value in fields]
    for key, value in values:
        if key in ("model name", "Model"):
            return value
    parts = sorted({value for key, value in values if key == "CPU part"})
    return "ARM part " + ", ".join(parts) if parts else None


def _emulator(model: str, architecture: str, cpuinfo: str, program: str) -> Optional[str]:
    """What gives an emulated device away: QEMU's own board names, its programs, or an ARM that sees an x86 cpuinfo."""
    if "qemu" in model.lower() or "dummy-virt" in model:
        return "qemu-system"
    if os.path.basename(program).startswith("qemu-"):
        return "qemu-user"
    if architecture.startswith(("aarch64", "arm")) and ("GenuineIntel" in cpuinfo or "AuthenticAMD" in cpuinfo):
        return "qemu-user"
    return None
