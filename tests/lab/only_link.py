"""The one wire of a device without network: a port of this machine is carried to one in the device's network namespace.

The wire is a socket in a folder, which both sides see. As a program (`only_link.py SOCKET`) this is the device's end,
which runs in its namespace: a connection begins with the port that is meant, in two bytes.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

CHUNK_BYTES = 64 * 1024
PORT_BYTES = 2


class OnlyLink:
    """This machine's end: whoever connects to `port` is carried to the same port over there."""

    def __init__(self, port: int, wire: Path) -> None:
        self._port = port
        self._wire = wire
        self._listener: socket.socket | None = None

    def start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self._port))
        threading.Thread(target=_serve, args=(self._listener, self._carry), daemon=True).start()

    def stop(self) -> None:
        if self._listener is not None:
            # Closing alone would not wake the thread that waits in accept.
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def _carry(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as wire:
            wire.connect(str(self._wire))
            wire.sendall(self._port.to_bytes(PORT_BYTES, "big"))
            _both_ways(client, wire)


def _receive(wire: socket.socket) -> None:
    with wire:
        port = int.from_bytes(wire.recv(PORT_BYTES, socket.MSG_WAITALL), "big")
        with socket.create_connection(("127.0.0.1", port)) as server:
            _both_ways(wire, server)


def _serve(listener: socket.socket, carry: Callable[[socket.socket], None]) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_quietly, args=(carry, connection), daemon=True).start()


def _quietly(carry: Callable[[socket.socket], None], connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # a peer that is gone is what its own end notices
        carry(connection)


def _both_ways(one: socket.socket, other: socket.socket) -> None:
    back = threading.Thread(target=_copy, args=(other, one), daemon=True)
    back.start()
    _copy(one, other)
    back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(CHUNK_BYTES):
            target.sendall(chunk)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    with socket.socket(socket.AF_UNIX) as listener:
        Path(sys.argv[1]).unlink(missing_ok=True)
        listener.bind(sys.argv[1])
        listener.listen()
        _serve(listener, _receive)
