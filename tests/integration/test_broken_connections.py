"""A connection that is gone while paramiko still believes in it: for a moment every word to the device fails."""

from __future__ import annotations

import socket
import sys

import pytest

from edgeprof.errors import LinkError, TransferError
from edgeprof.links.ssh import SshLink
from tests.faults.scene import wait_until
from tests.integration.sshd import Sshd

pytestmark = pytest.mark.ssh

SOON_S = 20.0
LINE_BYTES = 1 << 21
# More than the tenth of its window (2 MiB) after which paramiko tells the device what it has taken.
MANY_BYTES = 1_000_000


def break_unseen(link: SshLink, sshd: Sshd) -> None:
    """Nothing can be sent any more; a server that stands still does not answer that, so the session looks open."""
    sshd.freeze_connections()
    sock = link._opened.transport.sock
    assert isinstance(sock, socket.socket)
    sock.shutdown(socket.SHUT_WR)
    assert link.is_alive


def test_programs_can_still_be_closed(sshd: Sshd) -> None:
    with sshd.link() as link:
        process = link.start(["cat"])
        break_unseen(link, sshd)

        process.close_input()
        process.close()

        with pytest.raises(LinkError):
            process.write(b"anybody there?\n", SOON_S)


def test_a_reader_is_told(sshd: Sshd) -> None:
    with sshd.link() as link:
        process = link.start([sys.executable, "-c", f"print('x' * {MANY_BYTES}, flush=True); input()"])
        channel = process._channel
        wait_until(lambda: len(channel.in_buffer) >= MANY_BYTES, "what was printed never arrived")
        break_unseen(link, sshd)

        with pytest.raises(LinkError, match="the connection was lost"):
            process.read_line(SOON_S, LINE_BYTES)


def test_an_upload_fails_in_words(sshd: Sshd) -> None:
    with sshd.link() as link:
        link.put(b"first", str(sshd.home / "first"), SOON_S)
        break_unseen(link, sshd)

        with pytest.raises(TransferError, match="the connection was lost"):
            link.put(bytes(10_000), str(sshd.home / "second"), SOON_S)
        sshd.thaw_connections()

    assert [path.name for path in sshd.home.iterdir()] == ["first"]
