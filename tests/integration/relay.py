"""A TCP relay on loopback that delays, slows, stalls, refuses, resets and garbles: a bad network without privilege.

Faults are those of a byte stream: no packet is lost, and a stalled peer still acknowledges. For packets see tests/lab.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

CHUNK_BYTES = 64 * 1024
STEP_S = 0.01
# Closing with SO_LINGER on and a time of 0 sends RST in place of FIN (socket(7)).
RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Trip:
    """Something that happens once, when so many bytes of one connection have gone towards the target, or `back`.

    The bytes up to there have arrived. `stall` stalls the whole relay, `corrupt` turns the next byte into another.
    """

    after_bytes: int
    fault: Literal["reset", "close", "stall", "corrupt"]
    back: bool = False


class Relay:
    """A context manager; connect to `port` in place of the target's.

    `delay_s` holds every chunk back and `rate_bytes_s` keeps it to that, `stalled` keeps everything until it is False
    again, `refusing` resets whoever connects, `garbage` is all that whoever connects gets to read. `trip` is taken
    back once it has happened. A target that is not there resets whoever connects, too. `carried_back_bytes` counts
    what came from the target on all connections.
    """

    def __init__(self, target_port: int) -> None:
        self.delay_s = 0.0
        self.rate_bytes_s: float | None = None
        self.stalled = False
        self.refusing = False
        self.garbage: bytes | None = None
        self.trip: Trip | None = None
        self.carried_back_bytes = 0
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
            self._answer(client)

    def _answer(self, client: socket.socket) -> None:
        if self.garbage is not None:
            with contextlib.suppress(OSError):
                client.sendall(self.garbage)
            client.close()
            return
        if self.refusing:
            _reset(client)
            return
        try:
            target = socket.create_connection(("127.0.0.1", self._target_port))
        except ConnectionRefusedError:
            _reset(client)
            return
        self._pairs.append((client, target))
        self._run(self._carry, client, target)

    def _carry(self, client: socket.socket, target: socket.socket) -> None:
        try:
            self._carry_until_the_end(client, target)
        except (OSError, ValueError):
            _reset(client, target)  # one end went in the middle of it: the other must learn of that

    def _carry_until_the_end(self, client: socket.socket, target: socket.socket) -> None:
        carried_bytes = {client: 0, target: 0}
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, target)
            selector.register(target, selectors.EVENT_READ, client)
            while not self._closing.is_set():
                if self.stalled:
                    time.sleep(STEP_S)
                    continue
                for key, _ in selector.select(STEP_S):
                    source, sink = key.fileobj, key.data
                    assert isinstance(source, socket.socket)
                    trip = self._trip_of(source is target)
                    room_bytes = trip.after_bytes - carried_bytes[source] if trip else CHUNK_BYTES
                    if trip and room_bytes <= 0:
                        self.trip = None
                        if not self._happens(trip, source, sink):
                            return
                        break
                    data = source.recv(min(self._chunk_bytes(), room_bytes))
                    if not data:
                        _close(client, target)
                        return
                    self._closing.wait(self.delay_s + (len(data) / self.rate_bytes_s if self.rate_bytes_s else 0.0))
                    sink.sendall(data)
                    carried_bytes[source] += len(data)
                    self.carried_back_bytes += len(data) if source is target else 0

    def _trip_of(self, back: bool) -> Trip | None:
        return self.trip if self.trip is not None and self.trip.back == back else None

    def _chunk_bytes(self) -> int:
        """Small ones on a slow line: they wait for their whole time before they go."""
        return CHUNK_BYTES if self.rate_bytes_s is None else max(1, int(self.rate_bytes_s * STEP_S))

    def _happens(self, trip: Trip, source: socket.socket, sink: socket.socket) -> bool:
        """Whether the connection goes on after it."""
        if trip.fault == "stall":
            self.stalled = True
        elif trip.fault == "corrupt":
            sink.sendall(bytes([source.recv(1)[0] ^ 0xFF]))
        elif trip.fault == "close":
            _close(source, sink)
        else:
            _reset(source, sink)
        return trip.fault in ("stall", "corrupt")


def _close(*sockets: socket.socket) -> None:
    for sock in sockets:
        sock.shutdown(socket.SHUT_RDWR)


def _reset(*sockets: socket.socket) -> None:
    for sock in sockets:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        sock.close()
