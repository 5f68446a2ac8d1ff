"""Where a device falls silent, the wait has an end and the message names the place; an upload goes on afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import paramiko
import pytest

from device_agents import wire
from edgeprof.agent import Agent
from edgeprof.deadlines import Deadlines
from edgeprof.errors import AgentLost, LinkError, TransferError
from edgeprof.fleet import Device
from edgeprof.links.local import LocalLink
from edgeprof.links.ssh import SshLink
from edgeprof.links.ssh_config import Hop
from edgeprof.links.ssh_keys import Keys
from edgeprof.links.tcp import open_socket
from tests.integration.relay import Relay, Trip
from tests.integration.sshd import Sshd
from tests.integration.test_ssh import jump_config

pytestmark = pytest.mark.ssh

SOON_S = 20.0
LINE_BYTES = 1 << 16
SHORT = Deadlines(connect_s=1.0, start_s=1.0, answer_s=5.0, silence_s=1.0)
SIZE_BYTES = 20_000_000
SOME_BYTES = 3_000_000


@pytest.fixture(autouse=True)
def no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """No wait here may be of the kind that takes minutes; generous, for busy machines."""
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < 60.0


@pytest.fixture
def device(sshd: Sshd, relay: Relay) -> Device:
    """Behind the relay, with deadlines of a second."""
    return Device(name="board", address=f"ssh://127.0.0.1:{relay.port}", deadlines=SHORT)


class StallThenLogIn(Keys):
    """Lets the network fall silent just before the login."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def log_in(self, transport: paramiko.Transport, hop: Hop) -> str | None:
        self._relay.stalled = True
        return super().log_in(transport, hop)


def uploads(sshd: Sshd) -> list[Path]:
    return sorted((sshd.home / ".cache" / "edgeprof" / "uploads").iterdir())


def held(sshd: Sshd, ref: wire.FileRef) -> bytes:
    return (sshd.home / ".cache" / "edgeprof" / "models" / ref.sha256).read_bytes()


def part(sshd: Sshd, ref: wire.FileRef, data: bytes) -> None:
    folder = sshd.home / ".cache" / "edgeprof" / "uploads"
    folder.mkdir(parents=True)
    (folder / ref.sha256).write_bytes(data)


@pytest.fixture
def model() -> tuple[wire.FileRef, bytes]:
    data = os.urandom(SIZE_BYTES)
    return wire.FileRef("model.onnx", hashlib.sha256(data).hexdigest(), len(data)), data


# --- before anything works ---


def test_a_host_that_answers_no_connection_is_given_up() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        # A full queue: the kernel drops whatever comes next, as a host does that is not there.
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        try:
            with pytest.raises(TimeoutError):
                open_socket("127.0.0.1", listener.getsockname()[1], 0.5, 1.0)
        finally:
            for one in waiting:
                one.close()


@pytest.mark.parametrize("after_bytes", [None, 500], ids=["banner", "key exchange"])
def test_silence_before_the_host_has_proven_its_key(
    sshd: Sshd, relay: Relay, device: Device, after_bytes: int | None
) -> None:
    relay.stalled = after_bytes is None
    relay.trip = None if after_bytes is None else Trip(after_bytes, "stall")

    with pytest.raises(LinkError, match=r"no answer from 127.0.0.1:\d+ within 1 s"):
        sshd.link(device).__enter__()


def test_silence_during_the_login_is_not_taken_for_a_refusal(sshd: Sshd, relay: Relay, device: Device) -> None:
    link = SshLink(
        device, config_path=sshd.ssh_config, own_known_hosts=sshd.folder / "own", credentials=StallThenLogIn(relay)
    )

    with pytest.raises(LinkError, match=r"went away while .* was logging in: no answer within 1 s"):
        link.__enter__()


def test_an_ssh_agent_that_never_answers_is_left_out(
    sshd: Sshd, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX) as frozen:
        frozen.bind(str(tmp_path / "agent"))
        frozen.listen()
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))

        with sshd.link(device) as link:
            link.put(b"data", str(sshd.home / "file"), SOON_S)

    assert (sshd.home / "file").read_bytes() == b"data"


def test_the_kernel_gives_a_dead_peer_up_as_well(sshd: Sshd) -> None:
    sock = open_socket("127.0.0.1", sshd.port, 5.0, 7.0)

    with sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 12_000
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 3


def test_an_idle_link_whose_packets_vanish_is_ended_by_the_kernel(tmp_path: Path) -> None:
    if os.getuid() != 0 or not (shutil.which("nft") and shutil.which("unshare")):
        pytest.skip("needs root, unshare and nft: drops packets in a network namespace of its own")
    command = ["unshare", "--net", sys.executable, "-m", "tests.integration.unplugged", str(tmp_path / "sshd"), "2"]

    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"was_alive": True, "is_alive": False}


# --- once it is connected ---


def test_silence_while_a_program_is_started(sshd: Sshd, relay: Relay, device: Device) -> None:
    with sshd.link(device) as link:
        relay.stalled = True

        with pytest.raises(LinkError, match="'true' could not be started: no answer within 1 s"):
            link.start(["true"])


def test_silence_while_file_transfer_begins(sshd: Sshd, relay: Relay, device: Device) -> None:
    with sshd.link(device) as link:
        relay.stalled = True

        with pytest.raises(LinkError, match="file transfer cannot begin: no answer within 1 s"):
            link.put(b"data", str(sshd.home / "file"), SOON_S)


def test_silence_in_the_middle_of_a_line(sshd: Sshd, relay: Relay, device: Device) -> None:
    with sshd.link(device) as link:
        process = link.start([sys.executable, "-c", "import sys; print('half', end='', flush=True); sys.stdin.read()"])
        with pytest.raises(TimeoutError):
            process.read_line(0.5, LINE_BYTES)
        relay.stalled = True

        with pytest.raises(TimeoutError):
            process.read_line(0.5, LINE_BYTES)
        process.close()


def test_writing_and_closing_have_an_end_on_a_silent_link(sshd: Sshd, relay: Relay, device: Device) -> None:
    with sshd.link(device) as link:
        process = link.start(["cat"])
        relay.stalled = True

        with pytest.raises(LinkError):
            process.write(bytes(SIZE_BYTES), 1.0)
        process.close_input()
        process.close()


def test_a_python_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    mute = tmp_path / "mute"
    mute.write_text("#!/bin/sh\nexec sleep 60\n")
    mute.chmod(0o755)

    with LocalLink() as link, pytest.raises(AgentLost, match="said nothing within 1 s"):
        Agent(link, str(mute), deadlines=SHORT).__enter__()


def test_silence_of_the_link_loses_the_agent_within_the_deadline(sshd: Sshd, relay: Relay, device: Device) -> None:
    roomy = msgspec.structs.replace(SHORT, start_s=SOON_S)
    with sshd.link(device) as link, Agent(link, sys.executable, name="board", deadlines=roomy) as agent:
        relay.stalled = True

        with pytest.raises(AgentLost, match="board: no answer from the agent for"):
            agent.conditions()


# --- uploads ---


def test_an_upload_without_progress_fails_and_says_how_far_it_came(sshd: Sshd, relay: Relay, device: Device) -> None:
    with sshd.link(device) as link:
        relay.trip = Trip(SOME_BYTES, "stall")

        with pytest.raises(TransferError, match="silent for 1 s in the upload") as caught:
            link.put(bytes(SIZE_BYTES), str(sshd.home / "file"), 600.0, resume=True)

    assert f"of {SIZE_BYTES} bytes had arrived" in str(caught.value)
    assert 0 < (sshd.home / "file").stat().st_size < SIZE_BYTES


def test_a_server_that_hangs_in_an_upload_is_noticed_and_nothing_is_left(sshd: Sshd, device: Device) -> None:
    frozen = False

    def freeze(arrived_bytes: int, total_bytes: int) -> None:
        nonlocal frozen
        if not frozen:
            frozen = True
            sshd.freeze_connections()

    with sshd.link(device) as link:
        with pytest.raises(TransferError, match="silent for 1 s in the upload"):
            link.put(bytes(10 * SIZE_BYTES), str(sshd.home / "file"), 600.0, on_progress=freeze)
        sshd.thaw_connections()

    assert frozen
    assert list(sshd.home.iterdir()) == []


@pytest.mark.parametrize("hops", [1, 2], ids=["direct", "through a jump host"])
@pytest.mark.timeout(60)
def test_a_full_socket_to_a_silent_host_ends_as_well(make_sshd: Callable[..., Sshd], hops: int) -> None:
    # Where the socket is full before the channel's window is, paramiko waits inside the sending of a packet.
    board = make_sshd()
    gate = make_sshd() if hops == 2 else board
    with Relay(gate.port) as relay:
        relay._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        gate.trust_port(relay.port)
        config = jump_config(gate, board) if hops == 2 else f"Host board\n  HostName 127.0.0.1\n{board.user_config()}"
        board.ssh_config.write_text(config.replace(f"Port {gate.port}", f"Port {relay.port}"))
        target = Device(name="board", address="ssh://board" + (f":{relay.port}" if hops == 1 else ""), deadlines=SHORT)
        with board.link(target) as link:
            process = link.start(["cat"])
            assert link._session is not None
            outer = link._session._transports[0].sock
            assert isinstance(outer, socket.socket)
            outer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
            relay.trip = Trip(SOME_BYTES, "stall")

            with pytest.raises(TransferError, match="silent for 1 s in the upload"):
                link.put(bytes(SIZE_BYTES), str(board.home / "file"), 600.0, resume=True)
            process.close()


def test_a_silence_shorter_than_the_deadline_only_takes_longer(sshd: Sshd, relay: Relay, device: Device) -> None:
    patient = msgspec.structs.replace(device, deadlines=Deadlines(silence_s=SOON_S))
    data = os.urandom(SIZE_BYTES)
    with sshd.link(patient) as link:
        relay.trip = Trip(SOME_BYTES, "stall")
        resume = threading.Timer(0.5, setattr, (relay, "stalled", False))
        resume.start()

        link.put(data, str(sshd.home / "file"), 600.0)
        resume.join()

    assert (sshd.home / "file").read_bytes() == data


def test_an_interrupted_push_goes_on_where_it_stopped(
    sshd: Sshd, relay: Relay, device: Device, model: tuple[wire.FileRef, bytes]
) -> None:
    ref, data = model
    roomy = Deadlines(silence_s=SOON_S)
    with sshd.link(device) as link, Agent(link, sys.executable, deadlines=roomy) as agent:
        relay.trip = Trip(SOME_BYTES, "reset")
        with pytest.raises(TransferError, match=rf"the connection was lost: .*; \d+ of {SIZE_BYTES} bytes had arrived"):
            agent.push([model])
    assert [path.name for path in uploads(sshd)] == [ref.sha256]

    told: list[wire.Progress] = []
    with sshd.link(device) as link, Agent(link, sys.executable, deadlines=roomy) as agent:
        sent_bytes = agent.push([model], told.append)
        again_bytes = agent.push([model])

    assert 0 < sent_bytes < SIZE_BYTES
    assert again_bytes == 0
    assert held(sshd, ref) == data
    assert uploads(sshd) == []
    assert told[-1] == wire.Progress("upload", SIZE_BYTES, SIZE_BYTES)
    assert [one.done for one in told] == sorted(one.done for one in told)


def test_the_agent_hears_from_its_host_while_a_long_upload_runs(
    sshd: Sshd, relay: Relay, device: Device, model: tuple[wire.FileRef, bytes]
) -> None:
    # An agent that hears nothing for two minutes leaves; over a slow link an upload takes longer.
    relay.delay_s = 0.002
    with (
        sshd.link(device) as link,
        Agent(link, sys.executable, deadlines=Deadlines(heartbeat_s=0.1, silence_s=SOON_S)) as agent,
    ):
        agent.push([model])
        requests = agent._next_id

        assert requests > 2 + 1  # what is missing, to adopt it, and pings between
        assert agent.conditions() is not None  # the late answers to the pings are dropped


def test_what_is_there_but_wrong_is_sent_anew(sshd: Sshd, device: Device, model: tuple[wire.FileRef, bytes]) -> None:
    ref, data = model
    part(sshd, ref, bytes(SOME_BYTES))

    with sshd.link(device) as link, Agent(link, sys.executable) as agent:
        sent_bytes = agent.push([model])

    assert sent_bytes == SIZE_BYTES - SOME_BYTES + SIZE_BYTES
    assert held(sshd, ref) == data
    assert uploads(sshd) == []


@pytest.mark.parametrize(("there_bytes", "sent_bytes"), [(SIZE_BYTES, 0), (SIZE_BYTES + 1, SIZE_BYTES)])
def test_a_whole_upload_is_only_adopted_and_a_longer_one_begun_anew(
    sshd: Sshd, device: Device, model: tuple[wire.FileRef, bytes], there_bytes: int, sent_bytes: int
) -> None:
    ref, data = model
    part(sshd, ref, (data + b"x")[:there_bytes])

    with sshd.link(device) as link, Agent(link, sys.executable) as agent:
        assert agent.push([model]) == sent_bytes

    assert held(sshd, ref) == data


def test_uploads_that_nobody_went_on_with_are_removed_after_a_day(sshd: Sshd, device: Device) -> None:
    old, new = (wire.FileRef("x", letter * 64, 9) for letter in "ab")
    part(sshd, old, b"half")
    (uploads(sshd)[0].parent / new.sha256).write_bytes(b"half")
    long_ago = time.time() - 25 * 3600
    os.utime(uploads(sshd)[0], (long_ago, long_ago))

    with sshd.link(device) as link, Agent(link, sys.executable) as agent:
        assert agent.missing([new]).partial_bytes == 4

    assert [path.name for path in uploads(sshd)] == [new.sha256]
