"""An emulated arm64 device: Debian's userland under qemu-user with every runtime, behind a real sshd. Needs no root.

Its latencies prove plumbing, never performance: qemu is some hundred times slower than a real board.
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from edgeprof.fleet import Device
from tests.integration.command_line import CommandLine
from tests.integration.sshd import Sshd
from tests.lab.only_link import OnlyLink

HERE = Path(__file__).parent
# The host's: programs under qemu-user may ask for any of them.
N_CPUS = os.cpu_count() or 1
# As a Raspberry Pi 4 has it.
CPUINFO = "".join(
    f"processor\t: {cpu}\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU implementer\t: 0x41\n"
    "CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n"
    for cpu in range(N_CPUS)
)
# Virtual environments of rootfs.sh: every runtime, and the one that lives alone.
PYTHON, TFLITE_PYTHON = "/opt/edgeprof/bin/python", "/opt/tflite/bin/python"
# What rootfs.sh ends with then.
PACKAGES_MISSING = 4
# In a network of its own a device has a loopback interface and nothing else; a program there takes what comes in.
ONLY_LINK = HERE / "only_link.py"
ONLY_LOOPBACK = 'ip link set lo up && { "$0" "$1" "$2" & } && shift 2 && exec "$@"'
NAMESPACES = ("unshare", "--user", "--map-root-user", "--mount", "--pid", "--uts", "--ipc", "--fork")


def why_not() -> str | None:
    """Why no such device can be had here, or None."""
    system = platform.freedesktop_os_release()
    if (system.get("ID"), system.get("VERSION_ID")) != ("debian", "12"):
        # Its packages are fetched as the host's are, and tflite-runtime 2.14 needs this one's Python 3.11.
        return f"no emulated arm64 device: it is made of Debian 12, and this is {system.get('PRETTY_NAME')}"
    needed = ("qemu-aarch64-static", "mmdebstrap", "arch-test", "unshare", "ssh-keygen", "ip")
    missing = [name for name in needed if shutil.which(name) is None]
    if missing:
        return f"no emulated arm64 device: {', '.join(missing)} missing: run tools/arm64.sh"
    tried = subprocess.run([*NAMESPACES, "true"], capture_output=True, text=True, check=False)
    return f"no emulated arm64 device: no namespaces of our own: {tried.stderr.strip()}" if tried.returncode else None


def rootfs(content: str = "full") -> Path:
    """The file system of the device: from the cache, or built, which takes half a minute and the network.

    "bare" is Debian with Python and without any runtime.

    Raises:
        NoPackages: Debian's packages cannot be had.
    """
    done = subprocess.run(["sh", str(HERE / "rootfs.sh"), content], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == PACKAGES_MISSING:
        raise NoPackages("no emulated arm64 device: Debian's packages cannot be had")
    done.check_returncode()
    return Path(done.stdout.strip())


def list_cpus(folder: Path) -> None:
    """Fill a device's /sys/devices/system/cpu: without these files XNNPACK is silently left out."""
    for name in ("possible", "present", "online"):
        (folder / name).write_text(f"0-{N_CPUS - 1}\n")


class NoPackages(Exception):
    """There is no network, or no mirror in the host's apt sources."""


class Arm64Device(Sshd):
    """A context manager; its sshd is the first process of the device, and killing it cuts the power.

    `looks_real` hides the host's /proc/cpuinfo, which gives the emulation away, behind a real board's. Without
    `lists_cpus` the device has no /sys/devices/system/cpu, as in some containers. With `only_link` it has no network:
    what is connected to its port here is carried to its sshd through a socket in `folder` (only_link.py).
    """

    def __init__(
        self,
        folder: Path,
        rootfs: Path,
        *,
        cpu: str = "cortex-a72",
        looks_real: bool = False,
        lists_cpus: bool = True,
        only_link: bool = False,
    ) -> None:
        script = ("sh", str(HERE / "device.sh"), str(rootfs), str(folder), cpu)
        # sshd drops the environment, and takes the first SetEnv only.
        options = (f"SetEnv HOME={folder / 'home'} QEMU_CPU={cpu} EDGEPROF_LEASE={folder / 'home'}",)
        # What goes wrong before sshd runs belongs in the log that a failed start shows.
        to_log = ("sh", "-c", 'exec "$@" 2>>"$0"', str(folder / "sshd.log"))
        wired = (sys.executable, str(ONLY_LINK), str(folder / "link"))
        apart = ("--net", "sh", "-c", ONLY_LOOPBACK, *wired) if only_link else ()
        super().__init__(folder, user="pi", options=options, prefix=(*to_log, *NAMESPACES, *apart, *script))
        self._only_link = OnlyLink(self.port, folder / "link") if only_link else None
        self._looks_real = looks_real
        self._lists_cpus = lists_cpus

    def start(self) -> None:
        cpus = self.folder / "sys" / "devices" / "system" / "cpu"
        cpus.mkdir(parents=True, exist_ok=True)
        if self._lists_cpus:
            list_cpus(cpus)
        if self._looks_real:
            (self.folder / "cpuinfo").write_text(CPUINFO)
        # Of the latest start alone: it is waited for in there.
        self.log.write_text("")
        super().start()
        if self._only_link is not None:
            self._only_link.start()

    def stop(self) -> None:
        if self._process is None:
            return
        if self._only_link is not None:
            self._only_link.stop()
        # unshare's only child is the first process of the device, with which all others go.
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        super().stop()

    def add_to(self, edgeprof: CommandLine, name: str = "arm64") -> None:
        """Make it known to a command line, with the Python of every runtime."""
        edgeprof.environment.update(self.client_environment())
        pythons = ("--python", PYTHON, "--runtime-python", f"tflite={TFLITE_PYTHON}")
        done = edgeprof.run("devices", "add", name, self.address, *pythons)
        if done.returncode:
            raise RuntimeError(done.stderr)

    def device(self, *, port: int | None = None, timeout_s: float = 20.0, name: str = "arm64") -> Device:
        return Device(
            name=name,
            address=f"ssh://{self.user}@127.0.0.1:{port or self.port}",
            python=PYTHON,
            pythons={"tflite": TFLITE_PYTHON},
            connect_timeout_s=timeout_s,
        )
