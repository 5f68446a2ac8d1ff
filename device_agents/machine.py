"""The agent's only door to the operating system: files, programs, clock, sleep.

Recorded machines in tests, simulated boards and injected clocks all enter here.
"""

import contextlib
import errno
import fcntl
import os
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from typing import Callable, FrozenSet, Iterator, List, Optional, Sequence, Tuple

from device_agents.wire import ClockReading, MachineInfo

# Files under /proc and /sys are small; a bound keeps a surprising one from filling the memory of a small board.
MAX_READ_BYTES = 1024 * 1024
# Set by the host's link (edgeprof/links/adb.py), inherited by every process of the agent: they all speak of one phone.
SERIAL = "EDGEPROF_ADB_SERIAL"
# A sysfs attribute is one page.
READ_AGAIN_BYTES = 4096


class OpenFile:
    """A small file of the kernel's that is read again and again, or spoken to by ioctl.

    sysfs shows its file anew to every read at offset 0 (kernel: filesystems/sysfs): cheaper than opening it again.
    """

    def __init__(self, path: str, writable: bool = False) -> None:
        self._descriptor = os.open(path, os.O_RDWR if writable else os.O_RDONLY)

    def read(self) -> str:
        """Its text as it is now.

        Raises:
            OSError: it has gone, or the sensor behind it does not answer.
        """
        return os.pread(self._descriptor, READ_AGAIN_BYTES, 0).decode("utf-8", "replace")

    def ioctl(self, request: int, data: bytearray) -> None:
        """Have the driver read and change `data`.

        Raises:
            OSError: the driver refuses.
        """
        fcntl.ioctl(self._descriptor, request, data, True)

    def close(self) -> None:
        os.close(self._descriptor)


class FileReadAnew(OpenFile):
    """A file that is read through its machine each time: nothing is kept open, and no driver is reached."""

    def __init__(self, machine: "Machine", path: str) -> None:
        self._machine = machine
        self._path = path
        machine.read(path)

    def read(self) -> str:
        return self._machine.read(self._path)

    def ioctl(self, request: int, data: bytearray) -> None:
        raise OSError(errno.ENOTSUP, "no driver is reached from here", self._path)

    def close(self) -> None:
        """Nothing is held."""


class Ticker:
    """How often something is called; `period_s` may be changed, and holds from the next call on."""

    def __init__(self, period_s: float) -> None:
        self.period_s = period_s


class Machine:
    """The real operating system."""

    origin = "measured"
    # Programs that did not answer in time: nobody waits for them a second time.
    _mute: FrozenSet[str] = frozenset()

    def now(self) -> float:
        """Seconds of the clock that latencies are taken with; its zero means nothing."""
        return time.perf_counter()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def clocks(self) -> ClockReading:
        """One instant on all clocks."""
        return ClockReading(self.now(), time.clock_gettime(time.CLOCK_BOOTTIME), time.time())

    @contextlib.contextmanager
    def every(self, period_s: float, call: Callable[[], None]) -> Iterator[Ticker]:
        """Have `call` called again and again, beside whatever else goes on, from now until the context ends.

        What comes too late is left out and not made up for. `call` must not raise.
        """
        ticker, over = Ticker(period_s), threading.Event()

        def tick() -> None:
            due_s = self.now()
            while True:
                call()
                due_s = max(due_s + ticker.period_s, self.now())
                if over.wait(max(0.0, due_s - self.now())):
                    return

        thread = threading.Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield ticker
        finally:
            over.set()
            thread.join()

    def open(self, path: str, writable: bool = False) -> OpenFile:
        """Keep a small file open, to be read again and again.

        Raises:
            OSError: it is not there, or may not be opened.
        """
        return OpenFile(path, writable)

    def read(self, path: str) -> str:
        """The text of a small file.

        Raises:
            OSError: it is not there, or may not be read.
        """
        with open(path, "rb") as file:
            return file.read(MAX_READ_BYTES).decode("utf-8", "replace")

    def write(self, path: str, text: str) -> None:
        """Have a file of the kernel's say something else, in one write.

        Raises:
            OSError: it is not there, may not be written, or its driver refuses.
        """
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)

    def why_not_writable(self, path: str) -> Optional[OSError]:
        """What the kernel says to opening a file for writing, which changes nothing; None if it lets us.

        Not access(2): to root that allows what a read-only mode of sysfs forbids (kernfs_fop_open).
        """
        try:
            os.close(os.open(path, os.O_WRONLY))
        except OSError as error:
            return error
        return None

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
        # Most boards are asked for programs that they do not have: to fork a large process only to find that is dear.
        if shutil.which(argv[0]) is None:
            raise FileNotFoundError(errno.ENOENT, "there is no such program", argv[0])
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

    def ask(self, argv: Sequence[str], timeout_s: float) -> Optional[str]:
        """What a program prints; None if it is not there, fails, or once did not answer in time."""
        if argv[0] in self._mute:
            return None
        try:
            code, answer = self.run(argv, timeout_s)
        except TimeoutError:
            self._mute = self._mute | {argv[0]}
            return None
        except OSError:
            return None
        return answer if code == 0 else None

    def run_tool(self, argv: Sequence[str], timeout_s: float) -> Tuple[int, str]:
        """Run a program that takes its time; (exit code, all that it printed, errors included, cut where it is long).

        Raises:
            OSError: it is not there, or was killed because it did not end in time.
        """
        program = subprocess.Popen(
            list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        if program.stdout is None:
            raise OSError(f"{argv[0]} has no pipe")
        try:
            with program.stdout:
                printed = _read_until_end(program.stdout.fileno(), time.monotonic() + timeout_s)
            if printed is None:
                raise TimeoutError(f"{argv[0]} did not end within {timeout_s:g} s")
            return program.wait(), printed.decode("utf-8", "replace")
        finally:
            program.kill()
            program.wait()

    @contextlib.contextmanager
    def workplace(self, path: str) -> Iterator[Tuple[str, str]]:
        """A folder in which this machine's programs may write, and `path` under the name by which they can read it."""
        with tempfile.TemporaryDirectory(prefix="edgeprof-") as folder:
            yield folder, path

    def process_s(self) -> Optional[float]:
        """CPU time of this process and of programs that it has run; None where what is measured runs elsewhere."""
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + children.ru_utime + children.ru_stime

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
            cpu=None if is_hosts else cpu_name(cpuinfo),
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


def _read_until_end(descriptor: int, until_s: float) -> Optional[bytes]:
    """The first `MAX_READ_BYTES` of a stream; None if it did not end before `until_s` (time.monotonic)."""
    kept = bytearray()
    while True:
        if not select.select([descriptor], [], [], max(0.0, until_s - time.monotonic()))[0]:
            return None
        data = os.read(descriptor, 65536)
        if not data:
            return bytes(kept)
        kept += data[: MAX_READ_BYTES - len(kept)]


def phone_serial() -> Optional[str]:
    """The phone that this agent speaks for; None on a device of its own."""
    return os.environ.get(SERIAL) or None


def this_machine() -> Machine:
    """The phone behind adb where this agent speaks for one, else the machine it runs on."""
    serial = phone_serial()
    if serial is None:
        return Machine()
    from device_agents.phone import AdbMachine

    return AdbMachine(serial)


def python_version() -> str:
    """The version of the Python that runs this, such as 3.11.2."""
    return ".".join(map(str, sys.version_info[:3]))


def _libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or "not glibc"
    except (OSError, ValueError):
        return "not glibc"


def cpu_name(cpuinfo: str) -> Optional[str]:
    """The CPU by /proc/cpuinfo: x86 has "model name"; arm64 has implementer and part numbers, several on big.LITTLE."""
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
