"""The Unix socket between a keeper and the serving agents: where it lies, and one JSON object per line on it.

Its folder may have a longer path than a socket's name may be (108 bytes): it is reached through a descriptor of it.
"""

import contextlib
import json
import os
import socket
import time
from typing import Any, Dict, Iterator, Optional

from device_agents.decoding import WireError
from device_agents.streams import LineBuffer
from device_agents.wire import MAX_REPLY_BYTES, PROTOCOL

# Keepers of another protocol are not spoken to: they only hold the lease.
NAME = f"keeper-{PROTOCOL}"
BACKLOG = 16


@contextlib.contextmanager
def _reachable(folder: str) -> Iterator[str]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{NAME}"
    finally:
        os.close(descriptor)


def listen(folder: str) -> socket.socket:
    """The keeper's end; what a dead keeper left there is removed, so whoever calls has the keeper's lock.

    Raises:
        OSError: no socket can be made there.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        remove(folder)
        with _reachable(folder) as path:
            listener.bind(path)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def remove(folder: str) -> None:
    """Remove the socket's name."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(folder, NAME))


class Connection:
    """A serving agent's end. Replies come as decoded objects; `descriptor` is readable when some are there."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._lines = LineBuffer(end.fileno(), MAX_REPLY_BYTES)
        self.descriptor = end.fileno()
        self._is_broken = False

    @property
    def is_at_end(self) -> bool:
        """Whether the keeper has left: it said goodbye, or took our visit with it unread."""
        return self._is_broken or self._lines.is_at_end

    def send(self, request: str, body: Dict[str, Any]) -> None:
        """Raises OSError: the keeper is gone, or takes nothing."""
        self._end.sendall(json.dumps({"request": request, "body": body}).encode() + b"\n")

    def read(self) -> "list[Dict[str, Any]]":
        """What has come; call when the descriptor is readable.

        Raises:
            OSError, ValueError, WireError: the keeper is gone, or is none.
        """
        return [json.loads(line) for line in self._lines.read()]

    def answer(self, within_s: float) -> Optional[Dict[str, Any]]:
        """The next reply; None if none comes in time, or the keeper ends."""
        until = time.monotonic() + within_s
        try:
            while not self.is_at_end:
                self._end.settimeout(max(0.001, until - time.monotonic()))
                # Looked at, not taken: the line buffer reads the descriptor itself.
                self._end.recv(1, socket.MSG_PEEK)
                replies = self.read()
                if replies:
                    return replies[0]
        except socket.timeout:  # TimeoutError is another class before Python 3.10
            return None
        except (OSError, ValueError, WireError):
            self._is_broken = True
        return None

    def close(self) -> None:
        self._end.close()


def connect(folder: str, within_s: float) -> Optional[Connection]:
    """A connection to the keeper of this folder; None if there is none alive."""
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    end.settimeout(within_s)
    try:
        with _reachable(folder) as path:
            end.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        end.close()
        return None
    except OSError:
        end.close()
        raise
    return Connection(end)
