"""The relay is a test's instrument, so it is tested against a server that sends back what it gets."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from tests.integration.relay import Relay, Trip

SOON_S = 20.0


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        try:
            while data := self.request.recv(65536):
                self.request.sendall(data)
        except ConnectionError:
            return


@pytest.fixture
def relay() -> Iterator[Relay]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        with Relay(server.server_address[1]) as relay:
            yield relay
        server.shutdown()


def connected(relay: Relay) -> socket.socket:
    return socket.create_connection(("127.0.0.1", relay.port), timeout=SOON_S)


def echo(client: socket.socket, data: bytes) -> bytes:
    """What comes back until as much has come as was sent, or the connection ends."""
    client.sendall(data)
    back = b""
    while len(back) < len(data) and (more := client.recv(65536)):
        back += more
    return back


def test_what_goes_in_comes_out(relay: Relay) -> None:
    with connected(relay) as client:
        assert echo(client, b"x" * 100_000) == b"x" * 100_000


def test_delay_and_rate_take_their_time(relay: Relay) -> None:
    with connected(relay) as client:
        relay.delay_s = 0.1
        began = time.monotonic()
        assert echo(client, b"hello") == b"hello"
        assert time.monotonic() - began >= 0.2

        relay.delay_s, relay.rate_bytes_s = 0.0, 50_000.0
        began = time.monotonic()
        assert echo(client, b"x" * 10_000) == b"x" * 10_000
        assert time.monotonic() - began >= 0.2


def test_a_stall_keeps_everything_for_later(relay: Relay) -> None:
    with connected(relay) as client:
        assert echo(client, b"hello") == b"hello"
        relay.stalled = True
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            echo(client, b"later")

        relay.stalled = False
        client.settimeout(SOON_S)
        assert client.recv(100) == b"later"


def test_a_reset_is_one(relay: Relay) -> None:
    with connected(relay) as client:
        assert echo(client, b"hello") == b"hello"
        relay.reset()
        with pytest.raises(ConnectionError):
            echo(client, b"hello")


def test_whoever_connects_is_reset_while_the_relay_refuses(relay: Relay) -> None:
    relay.refusing = True
    assert_reset(relay)

    relay.refusing = False
    with connected(relay) as client:
        assert echo(client, b"hello") == b"hello"


def test_whoever_connects_is_reset_each_time_if_nobody_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with Relay(port) as lonely:
        assert_reset(lonely)
        assert_reset(lonely)


def assert_reset(relay: Relay) -> None:
    """It may come before the connection is seen to be there."""
    with pytest.raises(ConnectionError), connected(relay) as client:
        client.recv(1)


def test_garbage_is_all_there_is_to_read(relay: Relay) -> None:
    relay.garbage = b"\x00\xff" * 10
    with connected(relay) as client:
        assert client.recv(100) == b"\x00\xff" * 10
        assert client.recv(100) == b""


@pytest.mark.parametrize("back", [False, True])
def test_a_trip_happens_once_at_its_byte(back: bool, relay: Relay) -> None:
    relay.trip = Trip(1000, "corrupt", back=back)
    with connected(relay) as client:
        came = echo(client, bytes(3000))
        assert came == bytes(1000) + b"\xff" + bytes(1999)
        assert relay.trip is None
        assert echo(client, bytes(3000)) == bytes(3000)


def test_a_trip_in_the_reply_lets_so_many_bytes_arrive(relay: Relay) -> None:
    relay.trip = Trip(1000, "close", back=True)
    with connected(relay) as client:
        assert echo(client, bytes(3000)) == bytes(1000)

    relay.trip = Trip(1000, "reset", back=True)
    with connected(relay) as client, pytest.raises(ConnectionError):
        echo(client, bytes(3000))


def test_a_trip_may_stall_until_it_is_released(relay: Relay) -> None:
    relay.trip = Trip(1000, "stall")
    with connected(relay) as client:
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            echo(client, bytes(3000))
        assert relay.stalled

        relay.stalled = False
        client.settimeout(SOON_S)
        assert echo(client, b"end")[:1] == b"\x00", "what was held back comes first"
