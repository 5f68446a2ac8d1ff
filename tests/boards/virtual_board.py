"""A virtual board: a whole arm64 machine with its own kernel under qemu, behind a real sshd. To boot takes no root.

Its power meter, battery, clocks and temperature are true kernel files of real drivers, set from here. How fast it is
says nothing: every instruction is emulated.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from edgeprof.fleet import Device
from edgeprof.links.ssh import SshLink
from tests.integration.command_line import CommandLine
from tests.integration.sshd import free_port, keygen
from tests.lab import arm64

HERE = Path(__file__).parent
# Of the machines that image.sh makes an initramfs for.
VIRT, RASPI3B = "virt", "raspi3b"
BOOT_S = 180.0
PACKAGES_MISSING = 4
PROGRAMS = (
    "qemu-system-aarch64",
    "aarch64-linux-gnu-gcc",
    "cpio",
    "fdtput",
    "flock",
    "make",
    "setpriv",
    "ssh",
    "ssh-keygen",
)
SBIN_PROGRAMS = ("mke2fs", "modprobe", "depmod")
KBUILD = Path("/usr/lib/linux-kbuild-6.1")
PYTHON = "/usr/bin/python3"
PLAYER, PLAYED = "/run/registers.py", "/run/played"
COOL_C, HOT_C = 45.0, 92.0
# The highest clock of vboard.c.
FULL_KHZ = 1_800_000
CLOCKS = "/sys/devices/system/cpu/cpufreq"
BATTERY = "/sys/module/test_power/parameters"
THERMAL = "/sys/module/vboard/parameters"


class NoBoard(Exception):
    """What a board is made of cannot be had; the message says what."""


def why_not() -> str | None:
    """Why no virtual board can be had here, or None."""
    reason = arm64.why_not()
    if reason:
        return f"no virtual board: {reason}"
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    missing = [name for name in (*PROGRAMS, *SBIN_PROGRAMS) if shutil.which(name, path=path) is None]
    if not KBUILD.is_dir():
        missing.append(KBUILD.name)
    if missing:
        return f"no virtual board: {', '.join(missing)} missing: run tools/boards.sh as root"
    return None


def image() -> Path:
    """The folder that boards boot from: from the cache, or made, which takes a minute and 215 MB from Debian.

    Raises:
        NoBoard: Debian's packages cannot be had.
    """
    try:
        rootfs = arm64.rootfs()
    except arm64.NoPackages as error:
        raise NoBoard("no virtual board: Debian's packages cannot be had") from error
    return _made("image.sh", _made("kernel.sh"), rootfs)


def _made(script: str, *arguments: Path) -> Path:
    command = ["sh", str(HERE / script), *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == PACKAGES_MISSING:
        raise NoBoard("no virtual board: Debian's packages cannot be had")
    done.check_returncode()
    return Path(done.stdout.strip())


@dataclass(frozen=True)
class Pattern:
    """The truth: `watts[k]` was shown from `at_s[k]` on the board's clock until the next."""

    at_s: tuple[float, ...]
    watts: tuple[float, ...]

    def integral_j(self, start_s: float, end_s: float) -> float:
        """Joules between two moments, both after the first write."""
        ends = (*self.at_s[1:], float("inf"))
        shown = zip(self.at_s, ends, self.watts, strict=True)
        return sum(watts * max(0.0, min(end, end_s) - max(begin, start_s)) for begin, end, watts in shown)

    def mean_w(self, start_s: float, end_s: float) -> float:
        return self.integral_j(start_s, end_s) / (end_s - start_s)


class VirtualBoard:
    """A context manager; entering boots it, from a disk that is clean each time, and leaving ends it.

    `folder` holds its keys, and `serial.log`: all that its kernel said. The agent logs in as the ordinary user pi.
    With `keeps_disk` it has a disk of its own, which `cut_power` leaves as it is.
    """

    user = "pi"

    def __init__(self, folder: Path, image: Path, *, machine: str = VIRT, keeps_disk: bool = False) -> None:
        self.folder = folder
        self.machine = machine
        self._own_disk = folder / "disk.img" if keeps_disk else None
        self.port = free_port()
        self.serial = folder / "serial.log"
        self.ssh_config = folder / "ssh_config"
        self._image = image
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        self._make_keys()
        if self._own_disk is not None:
            copy = ["cp", "--sparse=always", str(self._image / "disk.img"), str(self._own_disk)]
            subprocess.run(copy, check=True)
        try:
            self._boot()
            self._connect()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._own_disk is not None:
            self._own_disk.unlink(missing_ok=True)

    def cut_power(self) -> None:
        """Off, this instant, and on again: what had not reached its disk is lost."""
        self.stop()
        (self.folder / "control").unlink(missing_ok=True)
        self._boot()
        self._connect()

    def stop(self) -> None:
        """Off, this instant."""
        for process in (self._process, self._connection):
            if process is not None:
                process.kill()
                process.wait()
        self._process = self._connection = None

    # --- to reach it ---

    @property
    def address(self) -> str:
        return f"ssh://{self.user}@127.0.0.1:{self.port}"

    def device(self, name: str = "board") -> Device:
        return Device(name=name, address=self.address, python=arm64.PYTHON, origin="emulated", connect_timeout_s=BOOT_S)

    def link(self) -> SshLink:
        return SshLink(self.device(), config_path=self.ssh_config, own_known_hosts=self.folder / "own_known_hosts")

    def add_to(self, edgeprof: CommandLine, name: str = "board") -> None:
        """Make it known to a command line."""
        client = self.folder / "client"
        (client / ".ssh").mkdir(parents=True, exist_ok=True)
        (client / ".ssh" / "config").write_text(self.ssh_config.read_text())
        edgeprof.environment.update({"HOME": str(client), "SSH_AUTH_SOCK": ""})
        done = edgeprof.run("devices", "add", name, self.address, "--python", arm64.PYTHON)
        if done.returncode:
            raise RuntimeError(done.stderr)

    def shell(self, script: str, *, text: str | None = None, timeout_s: float = 90.0) -> str:
        """What root's shell on the board prints; `text` is its standard input.

        Raises:
            RuntimeError: it ended with another status than 0; the message is what it complained of.
        """
        command = [*self._root(), script]
        done = subprocess.run(command, input=text or "", capture_output=True, text=True, check=False, timeout=timeout_s)
        if done.returncode:
            raise RuntimeError(f"{script!r} on the board: {done.stderr.strip()}")
        return done.stdout

    def read(self, path: str) -> str:
        return self.shell(f"cat {path}").strip()

    # --- what happens to it ---

    def restore(self) -> None:
        """On its battery, cool, at a fixed clock, and the meter plugged."""
        self.set_battery(voltage_uv=3_850_000, current_ua=-410_000, status="discharging", charger=False)
        self.set_temperature(COOL_C)
        self.set_governor("performance")
        if not self.has_meter():
            self.plug_meter()
        self.until(f"! grep -vqx {FULL_KHZ} {CLOCKS}/policy*/scaling_max_freq", "the clocks are free again")

    def until(self, test: str, what: str, within_s: float = 30.0) -> None:
        """Wait until a shell's test on the board is true.

        Raises:
            RuntimeError: it is not in time; the message says what was waited for.
        """
        tries = f"i=0; until {test}; do i=$((i+1)); [ $i -lt {within_s * 5:.0f} ] || exit 1; sleep 0.2; done"
        try:
            self.shell(tries)
        except RuntimeError as error:
            raise RuntimeError(f"not within {within_s:.0f} s: {what}") from error

    def set_battery(
        self,
        *,
        voltage_uv: int | None = None,
        current_ua: int | None = None,
        status: str | None = None,
        charger: bool | None = None,
    ) -> None:
        """The values of test_battery and test_ac, as they are to be read; what is None stays as it is."""
        asked = {
            "battery_voltage": voltage_uv,
            "battery_current": current_ua,
            "battery_status": status,
            "ac_online": None if charger is None else "on" if charger else "off",
            "usb_online": None if charger is None else "off",
        }
        self.shell("\n".join(f"echo {value} >{BATTERY}/{name}" for name, value in asked.items() if value is not None))

    def set_temperature(self, celsius: float) -> None:
        """Of the zone cpu-thermal: above 80 its clocks are throttled, within some seconds."""
        self.shell(f"echo {celsius * 1000:.0f} >{THERMAL}/temp_mc")

    def set_governor(self, name: str) -> None:
        self.shell(f"for policy in {CLOCKS}/policy*; do echo {name} >$policy/scaling_governor; done")

    def play(self, *options: str) -> None:
        """Let the ina226 show a pattern until the next one, or until `hush`: options of registers.py."""
        self.hush()
        program = (HERE / "registers.py").read_text()
        command = f"setsid {PYTHON} {PLAYER} {self.meter_bus()} {' '.join(options)} >{PLAYED} 2>&1 </dev/null &"
        self.shell(
            f"cat >{PLAYER}; {command} echo $! >{PLAYER}.pid\nuntil [ -s {PLAYED} ]; do sleep 0.1; done", text=program
        )

    def hush(self) -> None:
        """End the pattern; the registers stay as they are."""
        self.shell(f"[ ! -e {PLAYER}.pid ] || kill $(cat {PLAYER}.pid); rm -f {PLAYED} {PLAYER}.pid")

    def played(self) -> Pattern:
        """What the registers have said since `play`."""
        lines = [line.split() for line in self.shell(f"cat {PLAYED}").splitlines()]
        return Pattern(tuple(float(at) for at, _ in lines), tuple(float(watts) for _, watts in lines))

    def unplug_meter(self) -> None:
        """As a HAT that is pulled off: the files of its hwmon chip are gone."""
        self.shell(f"echo 0x40 >/sys/bus/i2c/devices/i2c-{self.meter_bus()}/delete_device")

    def has_meter(self) -> bool:
        return "ina226" in self.shell("cat /sys/class/hwmon/hwmon*/name")

    def plug_meter(self) -> None:
        self.shell(f"echo ina226 0x40 >/sys/bus/i2c/devices/i2c-{self.meter_bus()}/new_device")

    def meter_bus(self) -> int:
        names = self.shell("grep -l 'SMBus stub' /sys/bus/i2c/devices/i2c-*/name")
        return int(names.split("/i2c-")[1].split("/")[0])

    # --- within ---

    def _make_keys(self) -> None:
        """They go into a second archive behind the initramfs: the disk is everybody's, and knows no key."""
        root = self.folder / "root"
        ssh = root / "ssh"
        ssh.mkdir(parents=True)
        host_key, client_key = ssh / "host_key", self.folder / "client_key"
        keygen(host_key)
        keygen(client_key)
        (ssh / "authorized_keys").write_text(_public(client_key) + "\n")
        (ssh / "sshd_config").write_text(
            "HostKey /run/ssh/host_key\nAuthorizedKeysFile /run/ssh/authorized_keys\nPidFile none\nUsePAM no\n"
            "UseDNS no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPrintLastLog no\nPrintMotd no\n"
            "PermitRootLogin yes\nStrictModes no\nSubsystem sftp internal-sftp\n"
        )
        known_hosts = self.folder / "known_hosts"
        known_hosts.write_text(f"[127.0.0.1]:{self.port} {_public(host_key)}\n")
        self.ssh_config.write_text(
            f"Host *\n  IdentityFile {client_key}\n  IdentitiesOnly yes\n  UserKnownHostsFile {known_hosts}\n"
            "  GlobalKnownHostsFile none\n  ConnectTimeout 60\n"
        )
        packed = subprocess.run(
            ["cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet"],
            input="\n".join(str(path.relative_to(root)) for path in (ssh, *sorted(ssh.iterdir()))).encode(),
            cwd=root,
            stdout=subprocess.PIPE,
            check=True,
        )
        initramfs = self._image / f"{self.machine}.cpio"
        (self.folder / "initramfs").write_bytes(initramfs.read_bytes() + packed.stdout)

    def _root(self) -> list[str]:
        """ssh as root, over the connection that `_connect` keeps: a new one takes an emulated second."""
        options = ("-F", str(self.ssh_config), "-S", str(self.folder / "control"), "-p", str(self.port))
        return ["ssh", *options, "root@127.0.0.1"]

    def _connect(self) -> None:
        with (self.folder / "ssh.log").open("wb") as log:
            command = [*self._root()[:-1], "-M", "-N", "root@127.0.0.1"]
            self._connection = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + BOOT_S
        while not (self.folder / "control").exists():
            if self._connection.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"no ssh to the board: {(self.folder / 'ssh.log').read_text(errors='replace')}")
            time.sleep(0.1)

    def _boot(self) -> None:
        # With us gone, however we went, the kernel ends it.
        command = ["setpriv", "--pdeathsig", "KILL", *self._qemu()]
        with (self.folder / "qemu.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + BOOT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                said = (self.folder / "qemu.log").read_text(errors="replace")
                serial = self.serial.read_text(errors="replace") if self.serial.exists() else ""
                raise RuntimeError(f"the board did not boot within {BOOT_S:.0f} s: {said}\n{serial[-4000:]}")
            time.sleep(0.2)

    def _answers(self) -> bool:
        """qemu itself accepts connections from the beginning: only the banner is the board's."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as sock:
                sock.settimeout(10)
                return sock.recv(4) == b"SSH-"
        except OSError:
            return False

    def _qemu(self) -> list[str]:
        disk = f"file={self._image / 'disk.img'},format=raw,snapshot=on"
        if self._own_disk is not None:
            disk = f"file={self._own_disk},format=raw"
        network = f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:22"
        command = ["qemu-system-aarch64", "-accel", "tcg,thread=multi", "-display", "none", "-no-reboot"]
        command += ["-monitor", "none", "-serial", f"file:{self.serial}", "-netdev", network]
        command += ["-kernel", str(self._image / "vmlinuz"), "-initrd", str(self.folder / "initramfs")]
        command += ["-dtb", str(self._image / f"{self.machine}.dtb")]
        if self.machine == RASPI3B:
            command += ["-M", "raspi3b", "-drive", f"{disk},if=sd", "-device", "usb-net,netdev=net"]
            boot = "earlycon=pl011,0x3f201000 console=ttyAMA0,115200 rw dwc_otg.fiq_fsm_enable=0"
        else:
            # What image.sh dumped the device tree of.
            command += ["-M", "virt,gic-version=2", "-cpu", "cortex-a72", "-smp", "4", "-m", "1024", "-nodefaults"]
            command += ["-drive", f"{disk},if=none,id=disk", "-device", "virtio-blk-device,drive=disk"]
            command += ["-device", "virtio-net-device,netdev=net", "-device", "virtio-rng-device"]
            boot = "console=ttyAMA0 quiet"
        return [*command, "-append", f"{boot} panic=-1"]


def _public(key: Path) -> str:
    return " ".join(key.with_suffix(".pub").read_text().split()[:2])
