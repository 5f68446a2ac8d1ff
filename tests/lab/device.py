"""One device of a fleet: its wire, its power switch, its limits, and everything that can happen to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edgeprof.fleet import Device
from tests.integration.sshd import descendants, keygen
from tests.lab import arm64
from tests.lab.limits import Limits
from tests.lab.wire import Wire

if TYPE_CHECKING:
    from tests.lab.fleet import Fleet

HERE = Path(__file__).parent
START_S = 60.0


class FleetDevice:
    """`fleet[0]` is dev1. Made and ended by its fleet."""

    def __init__(self, fleet: Fleet, number: int, *, disk_bytes: int, cpu: str, limits: Limits) -> None:
        self.number = number
        self.name = f"dev{number}"
        self.ip = f"198.18.{number}.2"
        self.address = f"ssh://pi@{self.ip}"
        self.folder = fleet.folder / self.name
        self.limits = limits
        self.wire = Wire(fleet.namespaces.prefix(), number, seed=fleet.seed + number)
        self._fleet = fleet
        self._disk_bytes = disk_bytes
        self._cpu = cpu
        self._process: subprocess.Popen[bytes] | None = None
        self._make_folder()

    @property
    def host_key(self) -> Path:
        return self.folder / "ssh" / "host_key"

    @property
    def known_hosts_line(self) -> str:
        return f"{self.ip} {_public(self.host_key)}"

    @property
    def pid(self) -> int:
        """The device's first process, in the host's numbers."""
        return int((self.folder / "pid").read_text())

    @property
    def root(self) -> Path:
        """The device's files, to be looked at and changed from here while the power is on."""
        return Path(f"/proc/{self.pid}/root")

    def device(self) -> Device:
        """As fleet.toml has it."""
        return Device(
            name=self.name,
            address=self.address,
            python=arm64.PYTHON,
            pythons={"tflite": arm64.TFLITE_PYTHON},
            origin="emulated",
            connect_timeout_s=self._fleet.connect_timeout_s,
        )

    def power_on(self, *, keep_disk: bool = False) -> None:
        """Boot; with an empty disk, or with what was on it when the power was cut.

        Raises:
            RuntimeError: it is on already, or its sshd does not listen within a minute; the message is its log.
        """
        if self._process is not None:
            raise RuntimeError(f"{self.name} is on already: cut its power first")
        disk = self.folder / "disk"
        if not keep_disk:
            if self._has_disk():
                self._fleet.namespaces.run(["umount", str(disk)])
            options = f"size={self._disk_bytes},mode=755"
            self._fleet.namespaces.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)])
        self._boot()

    def power_cut(self) -> None:
        """Off, this instant. What was written stays on the disk, as if it had all been synced."""
        if self._process is None:
            return
        # A frozen process of version 1 does not even die.
        self.limits.thaw()
        if self._process.poll() is None:
            _kill(self.pid)
        self._process.wait(timeout=START_S)
        self._process = None

    def freeze(self) -> None:
        """Nothing runs there any more, but the kernel still answers for it: connections open and then are silent."""
        self.limits.freeze()

    def thaw(self) -> None:
        self.limits.thaw()

    def kill_sessions(self) -> None:
        """Kill every sshd that serves a connection; what it had started goes on without it."""
        for pid in descendants(self.pid, "sshd"):
            _kill(pid)

    def reset(self, *, on: bool) -> None:
        """While on, answer everything that goes to the device with RST, as a broken middlebox does."""
        verb = "add" if on else "delete"
        self._fleet.namespaces.run(["nft", verb, "element", "ip", "lab", "refused", f"{{ {self.ip} }}"])

    def shell(self, script: str) -> str:
        """What a root shell in the device prints; not over its wire, not frozen and not limited.

        Raises:
            subprocess.CalledProcessError: it ended with another status than 0.
        """
        kinds = ("--user", "--mount", "--pid", "--net", "--uts", "--ipc")
        command = ["nsenter", f"--target={self.pid}", *kinds, "/bin/sh", "-c", script]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "QEMU_CPU": self._cpu}
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout

    def ssh(self, command: str, *, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run it there as a user of ssh would."""
        return self._fleet.run(["ssh", "-F", str(self._fleet.ssh_config), self.name, command], timeout_s=timeout_s)

    def session(self, command: str) -> subprocess.Popen[str]:
        """The same, begun: to be waited for, or killed."""
        return self._fleet.start(["ssh", "-F", str(self._fleet.ssh_config), self.name, command])

    def processes(self) -> dict[int, str]:
        """Command lines of all that runs there beside sshd, by process number on the host."""
        found = {}
        for pid in descendants(self.pid, ""):
            words = _read(f"/proc/{pid}/cmdline").replace("\0", " ").strip()
            if words and "sshd" not in _read(f"/proc/{pid}/comm"):
                found[pid] = words
        return found

    def _make_folder(self) -> None:
        ssh, cpus = self.folder / "ssh", self.folder / "sys" / "devices" / "system" / "cpu"
        for folder in (ssh, cpus, self.folder / "disk"):
            folder.mkdir(parents=True)
        keygen(self.host_key)
        (ssh / "authorized_keys").write_text(_public(self._fleet.client_key) + "\n")
        (ssh / "sshd_config").write_text(
            "HostKey /run/ssh/host_key\nAuthorizedKeysFile /run/ssh/authorized_keys\nPidFile none\nUsePAM no\n"
            "UseDNS no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPrintLastLog no\n"
            # sshd drops the environment.
            f"Subsystem sftp internal-sftp\nSetEnv QEMU_CPU={self._cpu}\n"
        )
        arm64.list_cpus(cpus)

    def _has_disk(self) -> bool:
        return f" {self.folder / 'disk'} " in Path(f"/proc/{self._fleet.namespaces.pid}/mountinfo").read_text()

    def _boot(self) -> None:
        log = self.folder / "log"
        asked = [
            f"--rootfs={self._fleet.rootfs}",
            f"--folder={self.folder}",
            f"--name={self.name}",
            f"--cpu={self._cpu}",
        ]
        joins = [f"--join={path}" for path in self.limits.joins]
        unshare = ["unshare", "--mount", "--pid", "--uts", "--ipc", "--fork"]
        boot = [sys.executable, "-I", str(HERE / "boot.py"), *asked, *joins]
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [*self._fleet.namespaces.prefix(net_of=self.wire.pid), *unshare, *boot],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        end = time.monotonic() + START_S
        while "Server listening" not in _read(log):
            if self._process.poll() is not None or time.monotonic() > end:
                self.power_cut()
                raise RuntimeError(f"{self.name} did not start: {_read(log)}")
            time.sleep(0.02)


def _read(path: Path | str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _public(key: Path) -> str:
    return " ".join(key.with_suffix(".pub").read_text().split()[:2])


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
