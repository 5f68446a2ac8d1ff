"""A real OpenSSH sshd on loopback, as root or as an ordinary user, that touches nobody's home.

An ordinary user's sshd lets in only that same user. Root's wants /run/sshd, and a login is one process instead of
two (monitor and connection).
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from edgeprof.fleet import Device
from edgeprof.links.ssh import SshLink

SSHD = "/usr/sbin/sshd"
SFTP_SERVER = "/usr/lib/openssh/sftp-server"
START_S = 10.0


def why_not() -> str | None:
    """Why no sshd can be started here, or None."""
    missing = [name for name in (SSHD, "ssh-keygen") if shutil.which(name) is None]
    return f"OpenSSH's server is not installed ({', '.join(missing)} missing)" if missing else None


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def keygen(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)], check=True)


class Sshd:
    """A context manager; `folder` holds everything: keys, configuration, log, and `home`, where logins find themselves.

    `external_sftp` runs the SFTP server through the login shell, as Debian does, so that start-up files interfere.
    `prefix` is put before sshd's command line (for a mount namespace), `options` are lines for sshd_config.
    """

    def __init__(
        self,
        folder: Path,
        *,
        external_sftp: bool = False,
        force_command: str | None = None,
        options: tuple[str, ...] = (),
        prefix: tuple[str, ...] = (),
        user: str | None = None,
    ) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.port = free_port()
        self.user = user or getpass.getuser()
        self.log = folder / "sshd.log"
        self.host_key = folder / "host_key"
        self.client_key = folder / "client_key"
        self.known_hosts = folder / "known_hosts"
        self.ssh_config = folder / "ssh_config"
        self._external_sftp = external_sftp
        self._force_command = force_command
        self._options = options
        self._prefix = prefix
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.home.mkdir(parents=True)
        keygen(self.host_key)
        keygen(self.client_key)
        (self.folder / "authorized_keys").write_text(self._public(self.client_key) + "\n")
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {self._public(self.host_key)}\n")
        self.ssh_config.write_text(self.user_config())
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        config = self.folder / "sshd_config"
        config.write_text(self._config())
        argv = [*self._prefix, SSHD, "-D", "-f", str(config), "-E", str(self.log)]
        self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
        end = time.monotonic() + START_S
        while "Server listening" not in self._log_text():
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise RuntimeError(f"sshd did not start: {self._log_text()}")
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process is None:
            return
        # Connections outlive the listener: end them first, or they would stay behind.
        for pid in [*self.connections(), self._process.pid]:
            _kill(pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def new_host_key(self) -> str:
        """Come back with another host key, as a device does that was installed anew; its fingerprint."""
        self.stop()
        self.host_key.unlink()
        self.host_key.with_suffix(".pub").unlink()
        keygen(self.host_key)
        self.log.unlink()
        self.start()
        return self.fingerprint

    @property
    def fingerprint(self) -> str:
        """As ssh-keygen prints it."""
        shown = subprocess.run(
            ["ssh-keygen", "-l", "-f", str(self.host_key)], check=True, capture_output=True, text=True
        ).stdout
        return shown.split()[1]

    def user_config(self) -> str:
        """What a user's ~/.ssh/config would say to reach this sshd."""
        return (
            f"Host *\n  User {self.user}\n  IdentityFile {self.client_key}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {self.known_hosts}\n  GlobalKnownHostsFile none\n"
        )

    @property
    def address(self) -> str:
        """As a person would type it."""
        return f"ssh://{self.user}@127.0.0.1:{self.port}"

    def client_environment(self) -> dict[str, str]:
        """Variables under which the command line finds this sshd's keys in a home of its own."""
        client = self.folder / "client"
        (client / ".ssh").mkdir(parents=True, exist_ok=True)
        (client / ".ssh" / "config").write_text(self.user_config())
        return {"HOME": str(client), "SSH_AUTH_SOCK": ""}

    def device(self, *, port: int | None = None, timeout_s: float = 5.0, name: str = "board") -> Device:
        return Device(name=name, address=f"ssh://127.0.0.1:{port or self.port}", connect_timeout_s=timeout_s)

    def link(self, device: Device | None = None) -> SshLink:
        return SshLink(
            device or self.device(), config_path=self.ssh_config, own_known_hosts=self.folder / "own_known_hosts"
        )

    def trust_port(self, port: int) -> None:
        """Let the host key be known under the port of a relay, too."""
        with self.known_hosts.open("a") as file:
            file.write(f"[127.0.0.1]:{port} {self._public(self.host_key)}\n")

    def start_up_file(self, text: str) -> None:
        """Bash reads ~/.bashrc for every command that sshd runs, although nobody sits there."""
        (self.home / ".bashrc").write_text(text)

    def connections(self) -> list[int]:
        """Processes that serve a connection; the innermost comes first."""
        if self._process is None:
            return []
        return list(reversed(descendants(self._process.pid, "sshd")))

    def cut_connections(self) -> None:
        for pid in self.connections():
            _kill(pid, signal.SIGKILL)

    def freeze_connections(self) -> None:
        """A program that was started a moment ago may still bear sshd's name: let it say something first."""
        for pid in self.connections():
            _kill(pid, signal.SIGSTOP)

    def thaw_connections(self) -> None:
        for pid in self.connections():
            _kill(pid, signal.SIGCONT)

    def _config(self) -> str:
        # sshd takes the first value it meets for a key, so a test's own options go on top.
        lines = [
            *self._options,
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {self.host_key}",
            "PidFile none",
            f"AuthorizedKeysFile {self.folder / 'authorized_keys'}",
            "StrictModes no",
            "UsePAM no",
            "UseDNS no",
            "PrintMotd no",
            "PrintLastLog no",
            "PermitRootLogin yes",
            # A lease of its own: other tests on this machine have another device.
            f"SetEnv HOME={self.home} EDGEPROF_LEASE={self.home}",
            f"Subsystem sftp {SFTP_SERVER if self._external_sftp else 'internal-sftp'}",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
        ]
        if self._force_command:
            lines.append(f"ForceCommand {self._force_command}")
        return "\n".join(lines) + "\n"

    def _public(self, key: Path) -> str:
        return " ".join(key.with_suffix(".pub").read_text().split()[:2])

    def _log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def _kill(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def descendants(pid: int, name: str) -> list[int]:
    """Children whose program's name begins so, and their children of whom that is true, outermost first."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        program, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
        if int(rest[1]) == pid and program.startswith(name):
            child = int(stat.parent.name)
            found += [child, *descendants(child, name)]
    return found
