"""The namespaces that a fleet lives in: they, and every process in them, go when the process that made them dies.

Their first process is `cat`, reading a pipe that we alone write to. However we end, the pipe ends with us, `cat` ends
with the pipe, and the kernel kills the rest of a PID namespace with its first process. Nothing has a name outside.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

KINDS = ("user", "pid", "net", "mount")
START_S = 10.0
QEMU = "/usr/bin/qemu-aarch64-static"
# binfmt_misc's format (Documentation/admin-guide/binfmt-misc.rst): 64-bit little-endian ELF of machine 183, AArch64.
# F: the interpreter is opened now, so it need not be in the devices' file systems.
ARM64_PROGRAMS = (
    rb":qemu-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    rb":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:" + QEMU.encode() + b":F"
)


class Namespaces:
    """A context manager around user, PID, network and mount namespaces.

    The user namespace maps every user to itself. It is there for its own register of foreign programs (Linux 6.7), so
    that the host's is left alone.
    """

    def __init__(self) -> None:
        self._first: subprocess.Popen[bytes] | None = None
        self.pid = 0

    def __enter__(self) -> Self:
        unshare = ("unshare", *(f"--{kind}" for kind in KINDS), "--fork", "cat")
        # A session of its own, or Ctrl-C on our terminal would go to it too.
        self._first = subprocess.Popen(
            unshare, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
        try:
            self.pid = self._first_process(self._first)
            for name in ("uid_map", "gid_map"):
                Path(f"/proc/{self.pid}/{name}").write_text(f"0 0 {2**32 - 1}\n")
            self.run(["ip", "link", "set", "lo", "up"])
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._first is not None
        assert self._first.stdin is not None
        assert self._first.stderr is not None
        self._first.stdin.close()
        self._first.wait(timeout=START_S)
        self._first.stderr.close()

    def prefix(self, kinds: Iterable[str] = KINDS, *, net_of: int | None = None) -> list[str]:
        """What to put before a command line so that it runs in here; in another process's network if that is given."""
        entering = ["nsenter", f"--target={self.pid}", *(f"--{kind}" for kind in kinds if kind != "net")]
        if net_of is not None:
            return [*entering, f"--net=/proc/{net_of}/ns/net"]
        return [*entering, *(["--net"] if "net" in kinds else [])]

    def run(self, command: list[str]) -> None:
        """Run a short program in here.

        Raises:
            RuntimeError: it failed; the message is what it said.
        """
        done = subprocess.run([*self.prefix(), *command], capture_output=True, text=True, check=False, timeout=30)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")

    def run_arm64(self, rootfs: Path) -> None:
        """See to it that programs for arm64 run in here.

        Raises:
            RuntimeError: they do not, and this kernel lets no namespace have a register of its own.
        """
        asked = [*self.prefix(), "chroot", str(rootfs), "/bin/true"]
        if subprocess.run(asked, capture_output=True, check=False).returncode == 0:
            return
        register = Path("/proc/sys/fs/binfmt_misc")
        self.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(register)])
        Path(f"/proc/{self.pid}/root{register}/register").write_bytes(ARM64_PROGRAMS)
        self.run(asked[len(self.prefix()) :])

    def _first_process(self, unshare: subprocess.Popen[bytes]) -> int:
        end = time.monotonic() + START_S
        children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children")
        while time.monotonic() < end and unshare.poll() is None:
            found = children.read_text().split()
            if found:
                return int(found[0])
            time.sleep(0.005)
        assert unshare.stderr is not None
        os.set_blocking(unshare.stderr.fileno(), False)
        raise RuntimeError(f"no namespaces: {(unshare.stderr.read() or b'').decode().strip()}")
