"""A TCP relay on loopback that delays, stalls, refuses and resets: a bad network without any privilege.

Faults are those of a byte stream: nothing is lost, and a stalled peer still acknowledges.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

CHUNK_BYTES = 64 * 1024
STEP_S = 0.01
# Closing with SO_LINGER on and a time of 0 sends RST in place of FIN (socket(7)).
RESET = struct.pack("ii", 1, 0)


class Relay:
    """A context manager; connect to `port` in place of the target's.

    `delay_s` holds every chunk back, `stalled` keeps everything until it is False again, `refusing` resets whoever
    connects. `reset_after_bytes` resets a connection once so much went towards the target, `stall_after_bytes` stalls.
    """

    def __init__(self, target_port: int) -> None:
        self.delay_s = 0.0
        self.stalled = False
        self.refusing = False
        self.reset_after_bytes: int | None = None
        self.stall_after_bytes: int | None = None
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self._closing = threading.Event()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join()
        for pair in self._pairs:
            for sock in pair:
                sock.close()
        self._listener.close()

    def reset(self) -> None:
        """Cut every connection there is, with RST."""
        for pair in self._pairs:
            _reset(*pair)
        self._pairs.clear()

    def _run(self, function: Callable[..., None], *args: socket.socket) -> None:
        thread = threading.Thread(target=function, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        self._listener.settimeout(STEP_S)
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            if self.refusing:
                _reset(client)
                continue
            pair = (client, socket.create_connection(("127.0.0.1", self._target_port)))
            self._pairs.append(pair)
            self._run(self._carry, *pair)

    def _carry(self, client: socket.socket, target: socket.socket) -> None:
        sent_bytes = 0
        with contextlib.suppress(OSError, ValueError), selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, target)
            selector.register(target, selectors.EVENT_READ, client)
            while not self._closing.is_set():
                if self.stalled:
                    time.sleep(STEP_S)
                    continue
                for key, _ in selector.select(STEP_S):
                    source, sink = key.fileobj, key.data
                    assert isinstance(source, socket.socket)
                    data = source.recv(CHUNK_BYTES)
                    time.sleep(self.delay_s)
                    if not data:
                        client.shutdown(socket.SHUT_RDWR)
                        target.shutdown(socket.SHUT_RDWR)
                        return
                    sink.sendall(data)
                    sent_bytes += len(data) if source is client else 0
                if self.stall_after_bytes is not None and sent_bytes > self.stall_after_bytes:
                    self.stall_after_bytes, self.stalled = None, True
                if self.reset_after_bytes is not None and sent_bytes > self.reset_after_bytes:
                    self.reset_after_bytes = None
                    _reset(client, target)
                    return


def _reset(*sockets: socket.socket) -> None:
    for sock in sockets:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        sock.close()
