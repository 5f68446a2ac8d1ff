"""A PostgreSQL server of the tests' own: in a folder, on a Unix socket and a loopback port, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

# Debian keeps a server's programs out of PATH, by version.
DEBIAN = Path("/usr/lib/postgresql")
START_S = 60.0
PASSWORD = "open sesame @/:"
# initdb refuses root and users that have no name.
USER = "nobody"


def why_not() -> str | None:
    """Why there can be no server here; None if there can."""
    if _program("initdb") is None:
        return "no PostgreSQL on this machine (package postgresql)"
    return None


def _program(name: str) -> str | None:
    versions = sorted(DEBIAN.glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    return shutil.which(name, path=os.pathsep.join([*map(str, versions), os.environ.get("PATH", "")]))


class PostgresServer:
    """A context manager; `admin` is the superuser. Every connection needs a password, as on a server of a team."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="edgeprof-pg-"))
        self._frozen: list[int] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._user: dict[str, Any] = (
            {"user": USER, "group": pwd.getpwnam(USER).pw_gid, "extra_groups": []} if os.getuid() == 0 else {}
        )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]

    def __enter__(self) -> Self:
        try:
            secret = self._folder / "password"
            secret.write_text(PASSWORD)
            if self._user:
                for path in (self._folder, secret):
                    shutil.chown(path, USER)
            options = ("--auth=scram-sha-256", "--username=admin", "--encoding=UTF8", "--locale=C", "--no-sync")
            self._run("initdb", f"--pwfile={secret}", *options, "-D", self._data)
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def start(self) -> None:
        program = _program("postgres")
        assert program is not None
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self._folder),
            "fsync": "off",
            # A client that never says who it is keeps the server from stopping for as long.
            "authentication_timeout": "2s",
            "shared_buffers": "16MB",
        }
        arguments = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        log = (self._folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [program, "-D", self._data, *arguments], stdout=log, stderr=log, cwd=self._folder, **self._user
            )
        deadline_s = time.monotonic() + START_S
        ready = [str(_program("pg_isready")), "-q", "-h", "127.0.0.1", "-p", str(self.port), "-t", "5"]
        while subprocess.run(ready, check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError((self._folder / "log").read_text())
            time.sleep(0.05)

    def stop(self) -> None:
        """At once, as after a power cut; what was committed is there after `start`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.send_signal(signal.SIGCONT)
            self._process.wait(timeout=START_S)
            self._process = None

    def freeze(self) -> None:
        """Stop every process of the server where it is; connections stay open and nobody answers."""
        assert self._process is not None
        pid = self._process.pid
        self._frozen = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
        for one in self._frozen:
            os.kill(one, signal.SIGSTOP)

    def thaw(self) -> None:
        # The server's own process last: the others are its children, and it lets none of them go before.
        while self._frozen:
            os.kill(self._frozen.pop(), signal.SIGCONT)

    def url(self, database: str, user: str = "admin", *, port: int | None = None) -> str:
        """Of a user that has PASSWORD, over TCP."""
        quoted = PASSWORD.replace(" ", "%20").replace("@", "%40").replace("/", "%2F").replace(":", "%3A")
        return f"postgresql://{user}:{quoted}@127.0.0.1:{port or self.port}/{database}"

    def unix_url(self, database: str) -> str:
        """Over the Unix socket, without a password."""
        return f"postgresql://admin@/{database}?host={self._folder}&port={self.port}"

    def sql(self, script: str, database: str = "postgres") -> str:
        """What psql prints; its commands such as \\connect work too."""
        words = [str(_program("psql")), "-X", "-At", "-v", "ON_ERROR_STOP=1", "-h", str(self._folder)]
        done = subprocess.run(
            [*words, "-p", str(self.port), "-U", "admin", "-d", database, "-q"],
            input=script,
            env={**os.environ, "PGPASSWORD": PASSWORD},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def new_database(self, *, options: str = "") -> str:
        """Its name."""
        name = f"d{time.monotonic_ns()}"
        self.sql(f"CREATE DATABASE {name} {options}")
        return name

    def _run(self, program: str, *arguments: str) -> None:
        found = _program(program)
        assert found is not None
        done = subprocess.run(
            [found, *arguments], cwd=self._folder, capture_output=True, text=True, check=False, **self._user
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr}")
