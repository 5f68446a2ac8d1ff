"""A stand-in for adb's server and the phones behind it, for adb's own client to talk to.

It speaks the client's protocol (packages/modules/adb: OVERVIEW.TXT, SERVICES.TXT, SYNC.TXT, shell_protocol.h) on a
loopback port, and executes what a phone is asked to on this machine: paths that begin with /data, /sys or /proc mean a
folder of the test's. Nothing of Android is in it: no bionic, no SELinux, no USB.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import socketserver
import struct
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

# A client of another version would kill the server to start its own.
VERSION = "0029"
FEATURES = "shell_v2,cmd"
STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)
PHONE_PATH = re.compile(r"(?<![\w./-])/(?=(?:data|sys|proc)/)")


@dataclass
class StandInPhone:
    """`root` holds its /data, /sys and /proc, and `bin` with the programs that it answers by."""

    serial: str
    root: Path
    state: str = "device"
    asked: list[str] = field(default_factory=list)
    shells: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def unplug(self) -> None:
        """End every shell that is open, as a pulled cable does."""
        for shell in self.shells:
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)

    def here(self, text: str) -> str:
        return PHONE_PATH.sub(f"{self.root}/", text)

    def environment(self) -> dict[str, str]:
        return {"PATH": f"{self.root}/bin:/usr/bin:/bin", "HOME": str(self.root), "PHONE_ROOT": str(self.root)}


class AdbServer:
    """A context manager; `environment` is what adb's client needs to find it."""

    def __init__(self, *phones: StandInPhone) -> None:
        self.phones = {phone.serial: phone for phone in phones}
        self._server = _Server(("127.0.0.1", 0), _Client)
        self._server.phones = self.phones
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def environment(self) -> Mapping[str, str]:
        return {"ADB_SERVER_SOCKET": f"tcp:127.0.0.1:{self._server.server_address[1]}"}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    phones: dict[str, StandInPhone]


class _Client(socketserver.BaseRequestHandler):
    """One connection: questions to the server, or a phone and then one service of it."""

    request: socket.socket
    server: _Server

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(ConnectionError):
            phone: StandInPhone | None = None
            while True:
                asked = self._take(int(self._take(4), 16)).decode()
                if phone is not None:
                    self._serve(phone, asked)
                    return
                if asked.startswith(("host:transport", "host:tport")):
                    phone = self._transport(asked)
                    if phone is None:
                        return
                else:
                    self._host(asked)
                    return

    # --- the server ---

    def _host(self, asked: str) -> None:
        listed = "".join(f"{phone.serial}\t{phone.state}\n" for phone in self.server.phones.values())
        answers = {"host:version": VERSION, "host:devices": listed, "host:host-features": FEATURES}
        if asked.startswith("host-serial:") and self._problem(asked.split(":", 2)[1]):
            self._fail(self._problem(asked.split(":", 2)[1]) or "")
        elif asked in answers or asked.endswith(":features"):
            answer = answers.get(asked, FEATURES)
            self.request.sendall(f"OKAY{len(answer):04x}{answer}".encode())
        else:
            self._fail(f"the stand-in does not know {asked}")

    def _transport(self, asked: str) -> StandInPhone | None:
        serial = asked.split(":serial:")[1] if ":serial:" in asked else asked.split(":")[-1]
        if serial in ("any", "host:transport-any"):
            if len(self.server.phones) != 1:
                self._fail("more than one device/emulator" if self.server.phones else "no devices/emulators found")
                return None
            serial = next(iter(self.server.phones))
        problem = self._problem(serial)
        if problem is not None:
            self._fail(problem)
            return None
        self.request.sendall(b"OKAY" + (struct.pack("<Q", 1) if asked.startswith("host:tport") else b""))
        return self.server.phones[serial]

    def _problem(self, serial: str) -> str | None:
        phone = self.server.phones.get(serial)
        if phone is None:
            return f"device '{serial}' not found"
        return None if phone.state == "device" else f"device {phone.state}"

    # --- a phone ---

    def _serve(self, phone: StandInPhone, asked: str) -> None:
        phone.asked.append(asked)
        if asked.startswith("shell,v2"):
            self.request.sendall(b"OKAY")
            self._shell(phone, asked.partition(":")[2])
        elif asked.startswith("sync:"):
            self.request.sendall(b"OKAY")
            self._sync(phone)
        else:
            self._fail(f"the stand-in does not know {asked}")

    def _shell(self, phone: StandInPhone, command: str) -> None:
        """Lines that come on standard input mean the phone's paths, too."""
        shell = subprocess.Popen(
            ["sh", "-c", phone.here(command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=phone.environment(),
            cwd=phone.root,
            start_new_session=True,
        )
        phone.shells.append(shell)
        assert shell.stdout
        assert shell.stderr
        lock = threading.Lock()
        readers = [
            threading.Thread(target=self._forward, args=(pipe, kind, lock))
            for pipe, kind in ((shell.stdout.fileno(), STDOUT), (shell.stderr.fileno(), STDERR))
        ]
        for reader in readers:
            reader.start()
        typist = threading.Thread(target=self._type, args=(phone, shell), daemon=True)
        typist.start()
        for reader in readers:
            reader.join()
        with suppress(OSError):
            self._packet(EXIT, bytes([shell.wait() & 0xFF]), lock)
            self.request.shutdown(socket.SHUT_RDWR)
        typist.join()
        for pipe in (shell.stdout, shell.stderr):
            pipe.close()

    def _forward(self, descriptor: int, kind: int, lock: threading.Lock) -> None:
        with suppress(OSError):
            while data := os.read(descriptor, 65536):
                self._packet(kind, data, lock)

    def _packet(self, kind: int, data: bytes, lock: threading.Lock) -> None:
        with lock:
            self.request.sendall(struct.pack("<BI", kind, len(data)) + data)

    def _type(self, phone: StandInPhone, shell: subprocess.Popen[bytes]) -> None:
        """A client that has gone takes its shell along, but not what that started: so it is with adbd."""
        assert shell.stdin
        try:
            while True:
                kind, size = struct.unpack("<BI", self._take(5))
                data = self._take(size)
                if kind == CLOSE_STDIN:
                    break
                shell.stdin.write(phone.here(data.decode()).encode())
                shell.stdin.flush()
        except OSError:
            shell.kill()
        finally:
            with suppress(OSError):
                shell.stdin.close()

    def _sync(self, phone: StandInPhone) -> None:
        """Push alone: STAT, SEND with DATA and DONE, QUIT."""
        while True:
            kind, size = struct.unpack("<4sI", self._take(8))
            if kind == b"QUIT":
                return
            named = self._take(size).decode()
            if kind == b"STAT":
                self.request.sendall(struct.pack("<4sIII", b"STAT", *self._stat(Path(phone.here(named)))))
            elif kind == b"SEND":
                self._receive(Path(phone.here(named.rpartition(",")[0])))
            else:
                raise ConnectionError(f"the stand-in does not know {kind!r}")

    def _stat(self, path: Path) -> tuple[int, int, int]:
        try:
            found = path.stat()
        except OSError:
            return 0, 0, 0
        return found.st_mode, found.st_size, int(found.st_mtime)

    def _receive(self, path: Path) -> None:
        with path.open("wb") as file:
            while True:
                kind, size = struct.unpack("<4sI", self._take(8))
                if kind == b"DONE":
                    break
                file.write(self._take(size))
        self.request.sendall(struct.pack("<4sI", b"OKAY", 0))

    # --- bytes ---

    def _fail(self, message: str) -> None:
        self.request.sendall(f"FAIL{len(message):04x}{message}".encode())

    def _take(self, n: int) -> bytes:
        data = b""
        while len(data) < n:
            more = self.request.recv(n - len(data))
            if not more:
                raise ConnectionError("the client has gone")
            data += more
        return data
