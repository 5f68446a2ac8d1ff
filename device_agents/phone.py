"""A phone that is reached by adb: this agent runs on the host, and its door to the operating system leads there.

The phone needs no Python, and nothing stays on it. All is asked of one shell that is kept open: a start of adb's client
for each of the hundred files that tell of a phone's state would take seconds.
"""

import contextlib
import errno
import os
import secrets
import select
import shlex
import subprocess
import time
import weakref
from typing import Iterator, List, Optional, Sequence, Tuple

from device_agents.machine import MAX_READ_BYTES, FileReadAnew, Machine, OpenFile, cpu_name
from device_agents.wire import ClockReading, MachineInfo

# The one folder of a phone that adb's user may write to and run programs from.
FOLDER = "/data/local/tmp"
# A phone answers in milliseconds, unless it is asleep or its cable is out.
ANSWER_S = 20.0
PUSH_BYTES_PER_S = 500e3
ERRORS = {
    "No such file": errno.ENOENT,
    "not found": errno.ENOENT,
    "Permission denied": errno.EACCES,
    "Is a directory": errno.EISDIR,
}


class AdbShell:
    """One shell on the phone, to which commands are written one after the other; ended by `close`.

    Needs a phone of Android 7 or newer: before that adb's shell had no exit codes.
    """

    def __init__(self, serial: str) -> None:
        self._mark = f"edgeprof-{secrets.token_hex(8)}"
        self._client = subprocess.Popen(
            ["adb", "-s", serial, "shell", "-T", "sh"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )

    def run(self, command: str, timeout_s: float) -> Tuple[int, str]:
        """Exit code and output of a line that the shell interprets; `partial` of a TimeoutError is what came so far.

        Raises:
            OSError: the phone has gone, or does not answer in time.
        """
        client = self._client
        if client.stdin is None or client.stdout is None:
            raise OSError("adb has no pipes")
        with contextlib.suppress(BrokenPipeError):
            client.stdin.write(f"{{ {command}\n}} </dev/null; code=$?; echo; echo {self._mark} $code\n".encode())
        end, held, until_s = f"\n{self._mark} ".encode(), bytearray(), time.monotonic() + timeout_s
        while True:
            found = held.rfind(end)
            if found >= 0 and held.endswith(b"\n"):
                return int(held[found + len(end) :]), held[:found].decode("utf-8", "replace")
            if not select.select([client.stdout], [], [], max(0.0, until_s - time.monotonic()))[0]:
                raise Unanswered(f"the phone did not answer within {timeout_s:g} s", held.decode("utf-8", "replace"))
            data = os.read(client.stdout.fileno(), 65536)
            if not data:
                raise OSError(f"the phone has gone: {self._last_words()}")
            held += data
            if len(held) > 2 * MAX_READ_BYTES:  # what stands before is of no use to anybody, its end is
                del held[MAX_READ_BYTES : len(held) - MAX_READ_BYTES // 2]

    def _last_words(self) -> str:
        _, errors = self._client.communicate()
        said = errors.decode("utf-8", "replace").strip().splitlines()
        return said[-1] if said else f"adb ended with code {self._client.returncode}"

    def close(self) -> None:
        """End adb's client; the shell on the phone ends with it."""
        self._client.kill()
        self._client.communicate()


class Unanswered(TimeoutError):
    """No end of the output came in time; `partial` is what had come."""

    def __init__(self, message: str, partial: str) -> None:
        super().__init__(message)
        self.partial = partial


class AdbMachine(Machine):
    """A phone as adb's shell sees it. The clock is the host's."""

    def __init__(self, serial: str) -> None:
        self._serial = serial
        self._shell: Optional[AdbShell] = None

    def clocks(self) -> ClockReading:
        """The host's monotonic and wall clock, the phone's own since boot: what its counters are told with."""
        return ClockReading(self.now(), float(self.read("/proc/uptime").split()[0]), time.time())

    def open(self, path: str, writable: bool = False) -> OpenFile:
        if writable:
            raise PermissionError(errno.EACCES, "nothing is changed over adb", path)
        return FileReadAnew(self, path)

    def read(self, path: str) -> str:
        code, text = self._sh(f"cat {shlex.quote(path)} 2>&1", ANSWER_S)
        if code:
            raise _error(text, path)
        return text

    def write(self, path: str, text: str) -> None:
        raise PermissionError(errno.EACCES, "nothing is changed over adb", path)

    def why_not_writable(self, path: str) -> Optional[OSError]:
        return PermissionError(errno.EACCES, "nothing is changed over adb", path)

    def list(self, path: str) -> List[str]:
        code, text = self._sh(f"ls -1 {shlex.quote(path)} 2>/dev/null", ANSWER_S)
        return sorted(text.splitlines()) if code == 0 else []

    def run(self, argv: Sequence[str], timeout_s: float = 5.0) -> Tuple[int, str]:
        return self._program(argv, "2>/dev/null", timeout_s)

    def run_tool(self, argv: Sequence[str], timeout_s: float) -> Tuple[int, str]:
        return self._program(argv, "2>&1", timeout_s)

    def _program(self, argv: Sequence[str], errors: str, timeout_s: float) -> Tuple[int, str]:
        """Have the shell say the program's number first: on a phone nothing else would end what does not end."""
        words = " ".join(shlex.quote(word) for word in argv)
        try:
            code, text = self._sh(f"sh -c 'echo $$; exec \"$@\"' sh {words} {errors}", timeout_s)
        except Unanswered as error:
            number = error.partial.split("\n", 1)[0].strip()
            if number.isdigit():
                with contextlib.suppress(OSError):
                    self._sh(f"kill -9 {number}", ANSWER_S)
            raise TimeoutError(f"{argv[0]} did not end within {timeout_s:g} s on the phone") from error
        if code in (126, 127):
            kind = FileNotFoundError if code == 127 else PermissionError
            raise kind(errno.ENOENT if code == 127 else errno.EACCES, "the phone's shell cannot run it", argv[0])
        return code, text.partition("\n")[2]

    def _sh(self, command: str, timeout_s: float) -> Tuple[int, str]:
        if self._shell is None:
            self._shell = AdbShell(self._serial)
            weakref.finalize(self, self._shell.close)
        try:
            return self._shell.run(command, timeout_s)
        except OSError:
            self._shell.close()
            self._shell = None
            raise

    @contextlib.contextmanager
    def workplace(self, path: str) -> Iterator[Tuple[str, str]]:
        folder = f"{FOLDER}/edgeprof-{secrets.token_hex(8)}"
        code, text = self._sh(f"mkdir {shlex.quote(folder)} 2>&1", ANSWER_S)
        if code:
            raise _error(text, folder)
        try:
            target = f"{folder}/{os.path.basename(path)}"
            self._push(path, target)
            yield folder, target
        finally:
            with contextlib.suppress(OSError):
                self._sh(f"rm -rf {shlex.quote(folder)}", ANSWER_S)

    def _push(self, path: str, target: str) -> None:
        within_s = ANSWER_S + os.path.getsize(path) / PUSH_BYTES_PER_S
        try:
            done = subprocess.run(
                ["adb", "-s", self._serial, "push", path, target],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=within_s,
            )
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"adb push took longer than {within_s:.0f} s") from error
        if done.returncode:
            said = done.stdout.decode("utf-8", "replace").strip().splitlines()
            raise OSError(f"adb push: {said[-1] if said else done.returncode}")

    def process_s(self) -> Optional[float]:
        return None

    def describe(self) -> MachineInfo:
        """What the phone says it is."""
        try:
            cpuinfo, meminfo = self.read("/proc/cpuinfo"), self.read("/proc/meminfo")
        except OSError:
            cpuinfo, meminfo = "", ""
        total = [line.split()[1] for line in meminfo.splitlines() if line.startswith("MemTotal:")]
        name = " ".join(self._property(key) or "" for key in ("ro.product.manufacturer", "ro.product.model")).strip()
        return MachineInfo(
            model=name or None,
            architecture=self._said("uname", "-m") or "unknown",
            kernel=self._said("uname", "-r") or "unknown",
            libc=f"bionic of Android {self._property('ro.build.version.release') or 'of unknown version'}",
            cpu=cpu_name(cpuinfo),
            n_cpus=int(self._said("nproc") or 0) or 1,
            memory_bytes=int(total[0]) * 1024 if total else None,
            emulator="android emulator" if self._property("ro.kernel.qemu") == "1" else None,
        )

    def _property(self, key: str) -> Optional[str]:
        return self._said("getprop", key)

    def _said(self, *argv: str) -> Optional[str]:
        return (self.ask(argv, ANSWER_S) or "").strip() or None

    def program(self) -> Optional[str]:
        return None


def _error(text: str, path: str) -> OSError:
    """What a command of the phone's complained of, as the kernel would have told it here."""
    number = next((number for words, number in ERRORS.items() if words in text), errno.EIO)
    return OSError(number, text.strip().splitlines()[-1] if text.strip() else "no answer", path)
