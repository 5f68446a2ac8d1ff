"""A fleet of emulated arm64 devices, each with a network, a wire, a disk, limits and a power switch of its own.

Needs root. Everything lives in namespaces that the kernel takes away with this process, however it ends; `Fleet.clean`
removes the two things that have names: control groups and a folder.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from edgeprof.fleet import Fleet as FleetFile
from tests.integration.command_line import CommandLine
from tests.integration.sshd import keygen
from tests.lab import arm64
from tests.lab.device import FleetDevice
from tests.lab.limits import ControlGroups
from tests.lab.namespaces import Namespaces
from tests.lab.wire import Wire

PREFIX = "edgeprof-lab"
# PREFIX, process number of the owner, and when that started: numbers are used again.
NAME = re.compile(PREFIX + r"-(\d+)-(\d+)-")
PROGRAMS = ("nsenter", "unshare", "ip", "nft", "mount", "pivot_root", "ssh")
MAX_DEVICES = 254
MIB = 1024 * 1024


def why_not() -> str | None:
    """Why no fleet can be had here, or None."""
    if os.getuid() != 0:
        return "no fleet of emulated devices: needs root"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"no fleet of emulated devices: {', '.join(missing)} missing: run tools/lab.sh"
    reason = arm64.why_not() or ControlGroups().why_not()
    if not Path("/dev/net/tun").exists():
        reason = reason or "no /dev/net/tun"
    if reason:
        return f"no fleet of emulated devices: {reason}"
    try:
        with Namespaces() as namespaces, ExitStack() as stack:
            wire = Wire(namespaces.prefix(), 1, seed=0)
            stack.callback(wire.close)
            wire.wait_until_up()
            _set_up_resets(namespaces)
    except RuntimeError as error:
        return f"no fleet of emulated devices: {error}"
    return None


class Fleet:
    """A context manager; index it for its devices.

    `disk_bytes` is what a device may write, `memory_bytes` what its processes and its disk may hold together. The
    controller's network reaches the devices and nothing else; programs run there by `run` and `command_line`.

    Raises:
        RuntimeError: something does not start; see `why_not` for what can be known before.
        arm64.NoPackages: the devices' file system cannot be built.
    """

    def __init__(
        self,
        n_devices: int,
        *,
        disk_bytes: int = 256 * MIB,
        memory_bytes: int | None = None,
        cpu: str = "cortex-a72",
        connect_timeout_s: float = 20.0,
        seed: int = 0,
    ) -> None:
        if not 1 <= n_devices <= MAX_DEVICES:
            raise ValueError(f"{n_devices} devices: a fleet has 1 to {MAX_DEVICES}")
        self.seed = seed
        self.connect_timeout_s = connect_timeout_s
        self.namespaces = Namespaces()
        self._n_devices = n_devices
        self._disk_bytes = disk_bytes
        self._memory_bytes = memory_bytes
        self._cpu = cpu
        self._devices: list[FleetDevice] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.clean()
        self.rootfs = arm64.rootfs()
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def __getitem__(self, index: int) -> FleetDevice:
        return self._devices[index]

    def __iter__(self) -> Iterator[FleetDevice]:
        return iter(self._devices)

    def __len__(self) -> int:
        return len(self._devices)

    @property
    def client_key(self) -> Path:
        return self.folder / "client_key"

    @property
    def ssh_config(self) -> Path:
        """As a user's ~/.ssh/config, which it is for programs that run in the controller."""
        return self.folder / "client" / ".ssh" / "config"

    @property
    def fleet_toml(self) -> Path:
        return self.folder / "edgeprof" / "fleet.toml"

    @property
    def environment(self) -> dict[str, str]:
        """Variables under which edgeprof finds the devices and their keys."""
        home = str(self.folder / "client")
        return {"HOME": home, "SSH_AUTH_SOCK": "", "EDGEPROF_HOME": str(self.fleet_toml.parent)}

    @property
    def prefix(self) -> list[str]:
        """What to put before a command line so that it runs in the controller's network, as one process."""
        return ["nsenter", f"--net=/proc/{self.namespaces.pid}/ns/net"]

    def run(self, command: list[str], *, timeout_s: float = 150.0) -> subprocess.CompletedProcess[str]:
        """Run a program in the controller.

        Raises:
            subprocess.TimeoutExpired: it was killed.
        """
        return subprocess.run(
            [*self.prefix, *command],
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )

    def start(self, command: list[str]) -> subprocess.Popen[str]:
        """Start a program in the controller."""
        return subprocess.Popen(
            [*self.prefix, *command],
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def command_line(self, folder: Path) -> CommandLine:
        """edgeprof in the controller, with a store and a fleet.toml of its own in that folder."""
        home = folder / "edgeprof"
        home.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.fleet_toml, home)
        environment = {**self.environment, "EDGEPROF_HOME": str(home)}
        return CommandLine(folder, environment=environment, prefix=tuple(self.prefix))

    @staticmethod
    def clean() -> None:
        """Remove what fleets of dead processes left: control groups (thawed first) and folders."""
        groups = ControlGroups()
        for name in sorted(groups.names(PREFIX)):
            if _is_orphaned(name):
                groups.limits(name).remove()
        for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}-*"):
            if _is_orphaned(folder.name):
                shutil.rmtree(folder)

    def _start(self, stack: ExitStack) -> None:
        owner = f"{PREFIX}-{os.getpid()}-{_started_ticks(os.getpid())}-"
        self.folder = Path(tempfile.mkdtemp(prefix=owner))
        stack.callback(shutil.rmtree, self.folder)
        stack.enter_context(self.namespaces)
        self.namespaces.run_arm64(self.rootfs)
        _set_up_resets(self.namespaces)
        self.ssh_config.parent.mkdir(parents=True)
        keygen(self.client_key)
        groups = ControlGroups()
        for number in range(1, self._n_devices + 1):
            limits = groups.limits(f"{self.folder.name}-dev{number}")
            stack.callback(limits.remove)
            if self._memory_bytes is not None:
                limits.memory(self._memory_bytes)
            device = FleetDevice(self, number, disk_bytes=self._disk_bytes, cpu=self._cpu, limits=limits)
            stack.callback(device.wire.close)
            self._devices.append(device)
        self._write_client_files()
        with ThreadPoolExecutor() as pool:
            for device in self._devices:
                stack.callback(device.power_cut)
            for done in [pool.submit(self._first_power_on, device) for device in self._devices]:
                done.result()

    def _first_power_on(self, device: FleetDevice) -> None:
        device.wire.wait_until_up()
        device.power_on()

    def _write_client_files(self) -> None:
        known_hosts = self.folder / "known_hosts"
        known_hosts.write_text("".join(f"{device.known_hosts_line}\n" for device in self._devices))
        lines = "".join(f"Host {device.name}\n  HostName {device.ip}\n" for device in self._devices)
        self.ssh_config.write_text(
            f"{lines}Host *\n  User pi\n  IdentityFile {self.client_key}\n  IdentitiesOnly yes\n  BatchMode yes\n"
            f"  UserKnownHostsFile {known_hosts}\n  GlobalKnownHostsFile none\n  LogLevel ERROR\n"
        )
        self.fleet_toml.parent.mkdir()
        fleet = FleetFile.read(self.fleet_toml)
        for device in self._devices:
            fleet = fleet.add(device.device())


def _set_up_resets(namespaces: Namespaces) -> None:
    """In the controller, which may send no packet to an address of the set `refused`: it gets RST for an answer."""
    for command in (
        "add table ip lab",
        "add set ip lab refused { type ipv4_addr; }",
        "add chain ip lab out { type filter hook output priority 0; }",
        "add rule ip lab out ip daddr @refused meta l4proto tcp reject with tcp reset",
    ):
        namespaces.run(["nft", command])


def _is_orphaned(name: str) -> bool:
    found = NAME.match(name)
    return found is not None and _started_ticks(int(found[1])) != int(found[2])


def _started_ticks(pid: int) -> int | None:
    """When that process started, in clock ticks since boot (proc(5)); None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat[stat.rindex(")") + 2 :].split()[19])
