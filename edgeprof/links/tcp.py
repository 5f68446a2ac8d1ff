"""Open a TCP connection within a time that holds for all of it, and have the kernel end it once the peer is gone."""

from __future__ import annotations

import contextlib
import queue
import socket
import sys
import threading
from typing import Any

from edgeprof.links.streams import Deadline

__all__ = ["open_socket"]

KEEPALIVE_PROBES = 3
# Our own deadlines come first, because they know what they were waiting for.
LATER_S = 5.0


def open_socket(host: str, port: int, timeout_s: float, silence_s: float) -> socket.socket:
    """A connection to the first of the host's addresses that takes one.

    Raises:
        OSError: what the last address said; gaierror if the name is unknown, TimeoutError after `timeout_s`.
        UnicodeError: the name cannot be looked up at all.
    """
    deadline = Deadline(timeout_s)
    addresses = _look_up(host, port, timeout_s)
    failure: OSError = TimeoutError(f"{host}: no address answered")
    for index, (family, kind, protocol, _, address) in enumerate(addresses):
        if deadline.left_s() <= 0:
            break
        sock = socket.socket(family, kind, protocol)
        try:
            # An address that swallows everything leaves the others their share of the time.
            sock.settimeout(deadline.left_s() / (len(addresses) - index))
            sock.connect(address)
            _tune(sock, silence_s)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure


def _look_up(host: str, port: int, timeout_s: float) -> list[Any]:
    """Addresses of a host. The resolver has time limits of its own, of up to minutes, so a thread waits for it."""
    found: queue.SimpleQueue[list[Any] | Exception] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            found.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found.put(error)

    threading.Thread(target=look_up, daemon=True).start()
    try:
        answer = found.get(timeout=timeout_s)
    except queue.Empty:
        raise socket.gaierror(socket.EAI_AGAIN, f"no answer to the question for it within {timeout_s:g} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _tune(sock: socket.socket, silence_s: float) -> None:
    """Small requests go at once; a peer that acknowledges nothing is given up by the kernel soon after `silence_s`.

    The agent's own heartbeat is the first to notice. This is for what has none, such as a session that only idles,
    and frees the socket (tcp(7): TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_USER_TIMEOUT).
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if sys.platform != "linux":
        return
    limit_s = silence_s + LATER_S
    interval_s = min(32767, max(1, round(limit_s / (KEEPALIVE_PROBES + 1))))  # the kernel takes 1 to 32767
    options = (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, interval_s),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval_s),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, min(round(1000 * limit_s), 2**31 - 1)),
    )
    for level, option, value in options:
        # A container's kernel may know less (gVisor); nothing depends on this second net.
        with contextlib.suppress(OSError):
            sock.setsockopt(level, option, value)
