"""One bounded HTTP request for JSON: it ends in time however the peer dribbles, and reads no more than it may."""

from __future__ import annotations

import http.client
import io
import json
import socket
import time
from typing import Any, cast

from edgeprof.errors import MeterError

__all__ = ["get_json"]

MAX_BYTES = 65536


def get_json(place: str, path: str, within_s: float, port: int = 80) -> Any:
    """What a GET of http://PLACE/PATH answers; `place` may hold a port.

    Raises:
        MeterError: no answer in time, another status than 200, too long, or no JSON.
    """
    until_s = time.monotonic() + within_s
    host, port = _split(place, port)
    try:
        with socket.create_connection((host, port), within_s) as connection:
            request = f"GET {path} HTTP/1.1\r\nHost: {place}\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
            connection.sendall(request.encode("ascii"))
            status, body = _answer(connection, until_s)
    except TimeoutError as error:
        raise MeterError(f"{place}: no whole answer within {within_s:g} s", "is it on, and in this network?") from error
    except OSError as error:
        raise MeterError(f"{place}: {error.strerror or error}", "is it on, and in this network?") from error
    except http.client.HTTPException as error:
        raise MeterError(f"{place}: does not speak HTTP: {error!r}"[:200], "check the address") from error
    if status == http.client.UNAUTHORIZED:
        raise MeterError(
            f"{place}: asks for a password", "switch that off in its settings: edgeprof keeps no passwords"
        )
    if status != http.client.OK:
        raise MeterError(f"{place}{path}: HTTP status {status}", "check the address, and the kind of plug")
    if len(body) > MAX_BYTES:
        raise MeterError(f"{place}{path}: answers more than {MAX_BYTES} bytes", "check the address")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MeterError(f"{place}{path}: the answer is no JSON", "check the address, and the kind of plug") from error


class _Until(io.RawIOBase):
    """What a socket receives, until a moment: a timeout of each read alone lets a dribbling peer go on for ever."""

    def __init__(self, connection: socket.socket, until_s: float) -> None:
        self._connection = connection
        self._until_s = until_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left_s = self._until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._connection.settimeout(left_s)
        return self._connection.recv_into(buffer)


class _Received:
    """What http.client needs of a socket to read a response from it."""

    def __init__(self, stream: io.RawIOBase) -> None:
        self._stream = stream

    def makefile(self, *_: object, **__: object) -> io.BufferedReader:
        return io.BufferedReader(self._stream)


def _answer(connection: socket.socket, until_s: float) -> tuple[int, bytes]:
    received = _Received(_Until(connection, until_s))
    response = http.client.HTTPResponse(cast(socket.socket, received), method="GET")
    try:
        response.begin()
        return response.status, response.read(MAX_BYTES + 1)
    finally:
        response.close()


def _split(place: str, port: int) -> tuple[str, int]:
    host, colon, given = place.rpartition(":")
    if colon and given.isdecimal() and not place.endswith("]"):
        return host.strip("[]"), int(given)
    return place.strip("[]"), port
