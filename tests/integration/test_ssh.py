"""SshLink against a real sshd on loopback: logins, keys, jumps, bad networks, bad start-up files, full disks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeprof.errors import AuthenticationFailed, ChangedHostKey, LinkError, TransferError, UnknownHostKey
from edgeprof.fleet import Device
from edgeprof.links.ssh import SshLink
from tests.integration.relay import Relay, Trip
from tests.integration.sshd import Sshd, free_port, keygen

pytestmark = pytest.mark.ssh

SOON_S = 20.0
LINE_BYTES = 1 << 16
NETWORK_TIMEOUT_S = 0.5


def says(link: SshLink, *argv: str) -> str:
    process = link.start(list(argv))
    try:
        lines = []
        while (line := process.read_line(SOON_S, LINE_BYTES)) is not None:
            lines.append(line.decode())
        return "".join(lines)
    finally:
        process.close()


def failure(link: SshLink) -> LinkError:
    with pytest.raises(LinkError) as caught, link:
        pass
    return caught.value


@pytest.fixture(autouse=True)
def no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


# --- who is let in, and by whom ---


def test_a_trusted_host_lets_the_user_in(sshd: Sshd) -> None:
    with sshd.link() as link:
        assert says(link, "echo", "hello") == "hello\n"


def test_an_unknown_key_is_refused_with_its_fingerprint_and_the_command_to_trust_it(sshd: Sshd) -> None:
    sshd.known_hosts.write_text("")

    error = failure(sshd.link())

    assert isinstance(error, UnknownHostKey)
    assert sshd.fingerprint in str(error)
    assert error.fingerprint == sshd.fingerprint
    assert "edgeprof devices trust board" in error.advice


def test_a_changed_key_is_refused_with_both_fingerprints(sshd: Sshd) -> None:
    old = sshd.fingerprint
    new = sshd.new_host_key()

    error = failure(sshd.link())

    assert isinstance(error, ChangedHostKey)
    assert old in str(error)
    assert new in str(error)
    assert f"{sshd.known_hosts}, line 1" in str(error)


def test_a_key_in_our_own_file_is_trusted_as_well(sshd: Sshd) -> None:
    (sshd.folder / "own_known_hosts").write_text(sshd.known_hosts.read_text())
    sshd.known_hosts.unlink()

    with sshd.link() as link:
        assert says(link, "echo", "hello") == "hello\n"


def test_of_several_host_keys_the_known_one_is_asked_for(make_sshd: Callable[..., Sshd], tmp_path: Path) -> None:
    second = tmp_path / "second_host_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", str(second)], check=True)
    sshd = make_sshd(options=(f"HostKey {second}",))
    rsa = " ".join(second.with_suffix(".pub").read_text().split()[:2])
    sshd.known_hosts.write_text(f"[127.0.0.1]:{sshd.port} {rsa}\n")

    with sshd.link() as link:
        assert says(link, "echo", "hello") == "hello\n"


def test_a_wrong_key_is_told_with_user_and_what_was_tried(sshd: Sshd, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    keygen(stranger)
    sshd.ssh_config.write_text(sshd.user_config().replace(str(sshd.client_key), str(stranger)))

    error = failure(sshd.link())

    assert isinstance(error, AuthenticationFailed)
    assert f"does not let {sshd.user} in" in str(error)
    assert f"{stranger} (refused)" in str(error)
    assert error.advice.endswith(f"edgeprof devices add board ssh://127.0.0.1:{sshd.port} --install-key")


def test_a_key_with_a_passphrase_and_a_missing_one_are_told(sshd: Sshd, tmp_path: Path) -> None:
    locked, missing = tmp_path / "locked", tmp_path / "missing"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(locked)], check=True)
    config = sshd.user_config().replace(str(sshd.client_key), f"{locked}\n  IdentityFile {missing}")
    sshd.ssh_config.write_text(config)

    error = failure(sshd.link())

    assert f"{locked} (needs a passphrase; unlock it with: ssh-add {locked})" in str(error)
    assert f"{missing} (cannot be read: No such file or directory)" in str(error)


def test_an_agent_s_key_is_used(sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    socket = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL) as agent:
        try:
            monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
            end = time.monotonic() + SOON_S
            while not socket.exists() and time.monotonic() < end:
                time.sleep(0.02)
            subprocess.run(["ssh-add", "-q", str(sshd.client_key)], check=True, capture_output=True)
            sshd.client_key.unlink()

            with sshd.link() as link:
                said = says(link, "echo", "hello")
        finally:
            agent.terminate()

    assert said == "hello\n"


def test_the_device_s_own_identity_is_offered(sshd: Sshd, tmp_path: Path) -> None:
    sshd.ssh_config.write_text(f"Host *\n  User {sshd.user}\n  UserKnownHostsFile {sshd.known_hosts}\n")
    device = Device(name="board", address=f"ssh://127.0.0.1:{sshd.port}", identity=str(sshd.client_key))

    with sshd.link(device) as link:
        assert says(link, "echo", "hello") == "hello\n"


def test_a_server_that_takes_no_keys_is_told(make_sshd: Callable[..., Sshd]) -> None:
    sshd = make_sshd(options=("PubkeyAuthentication no", "PasswordAuthentication yes"))

    error = failure(sshd.link())

    assert isinstance(error, AuthenticationFailed)
    assert "takes no keys, only" in str(error)


# --- the way there ---


def test_a_closed_port_is_told_at_once(sshd: Sshd) -> None:
    port = free_port()

    error = failure(sshd.link(sshd.device(port=port)))

    assert str(error) == f"board: 127.0.0.1:{port} refuses connections"


def test_an_unknown_host_is_told(sshd: Sshd) -> None:
    error = failure(sshd.link(Device(name="board", address="ssh://no-such-host.invalid")))

    assert "no address is known for the host 'no-such-host.invalid'" in str(error)


def test_a_silent_host_is_told_with_the_timeout(sshd: Sshd, relay: Relay) -> None:
    relay.stalled = True

    error = failure(sshd.link(sshd.device(port=relay.port, timeout_s=NETWORK_TIMEOUT_S)))

    assert str(error) == f"board: no answer from 127.0.0.1:{relay.port} within 0.5 s"


def test_a_host_that_hangs_up_is_told(sshd: Sshd, relay: Relay) -> None:
    relay.refusing = True

    error = failure(sshd.link(sshd.device(port=relay.port)))

    assert f"127.0.0.1:{relay.port} answers, but not as an SSH server" in str(error)


def test_a_slow_network_only_takes_longer(sshd: Sshd, relay: Relay) -> None:
    relay.delay_s = 0.02

    with sshd.link(sshd.device(port=relay.port)) as link:
        link.put(b"data", str(sshd.home / "file"), SOON_S)
        assert says(link, "cat", str(sshd.home / "file")) == "data"


def test_a_jump_host_leads_to_the_device(make_sshd: Callable[..., Sshd]) -> None:
    gate, board = make_sshd(), make_sshd()
    board.ssh_config.write_text(jump_config(gate, board))

    with board.link(Device(name="board", address="ssh://board")) as link:
        assert says(link, "echo", "hello") == "hello\n"
        assert gate.connections()


def test_two_jump_hosts_lead_to_the_device(make_sshd: Callable[..., Sshd]) -> None:
    first, second, board = make_sshd(), make_sshd(), make_sshd()
    config = jump_config(second, board)
    board.ssh_config.write_text(
        f"Host gate\n  ProxyJump outer\nHost outer\n  HostName 127.0.0.1\n  Port {first.port}\n"
        f"  IdentityFile {first.client_key}\n  UserKnownHostsFile {first.known_hosts}\n{config}"
    )

    with board.link(Device(name="board", address="ssh://board")) as link:
        assert says(link, "echo", "hello") == "hello\n"


def test_a_jump_host_s_key_is_checked_too(make_sshd: Callable[..., Sshd]) -> None:
    gate, board = make_sshd(), make_sshd()
    gate.known_hosts.write_text("")
    board.ssh_config.write_text(jump_config(gate, board))

    error = failure(board.link(Device(name="board", address="ssh://board")))

    assert isinstance(error, UnknownHostKey)
    assert error.fingerprint == gate.fingerprint


def test_a_jump_host_that_does_not_let_the_user_in_is_named(make_sshd: Callable[..., Sshd]) -> None:
    gate, board = make_sshd(), make_sshd()
    board.ssh_config.write_text(jump_config(gate, board).replace(str(gate.client_key), str(board.client_key)))

    error = failure(board.link(Device(name="board", address="ssh://board")))

    assert isinstance(error, AuthenticationFailed)
    assert f"127.0.0.1:{gate.port} does not let {gate.user} in" in str(error)
    assert f"ssh-copy-id -p {gate.port}" in error.advice


def test_a_device_that_the_jump_host_cannot_reach_is_told(make_sshd: Callable[..., Sshd]) -> None:
    gate, board = make_sshd(), make_sshd()
    board.ssh_config.write_text(jump_config(gate, board))
    board.stop()

    error = failure(board.link(Device(name="board", address="ssh://board")))

    assert f"the jump host does not lead to 127.0.0.1:{board.port}" in str(error)


def jump_config(gate: Sshd, board: Sshd) -> str:
    return "".join(
        f"Host {name}\n  HostName 127.0.0.1\n  Port {one.port}\n  User {one.user}\n  IdentityFile {one.client_key}\n"
        f"  IdentitiesOnly yes\n  UserKnownHostsFile {one.known_hosts}\n  GlobalKnownHostsFile none\n{more}"
        for name, one, more in (("gate", gate, ""), ("board", board, "  ProxyJump gate\n"))
    )


PIPE = (
    "import os, socket, sys, threading\n"
    "s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
    "def pump(read, write):\n"
    "    while data := read(65536): write(data)\n"
    "    os._exit(0)\n"
    "threading.Thread(target=pump, args=(lambda n: os.read(0, n), s.sendall)).start()\n"
    "pump(s.recv, lambda d: os.write(1, d))\n"
)


def test_a_proxy_command_carries_the_connection_and_is_ended(sshd: Sshd, tmp_path: Path) -> None:
    program = tmp_path / "pipe.py"
    program.write_text(f"import os\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n{PIPE}")
    sshd.ssh_config.write_text(f"{sshd.user_config()}  ProxyCommand {sys.executable} {program} %p\n")

    with sshd.link() as link:
        said = says(link, "echo", "hello")

    assert said == "hello\n"
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()


def test_a_proxy_command_that_fails_is_told(sshd: Sshd) -> None:
    sshd.ssh_config.write_text(f"{sshd.user_config()}  ProxyCommand false\n")

    error = failure(sshd.link())

    assert "no SSH server answers through ProxyCommand 'false'" in str(error)


# --- while a program runs ---


def test_a_lost_connection_is_an_error_and_not_the_end_of_output(sshd: Sshd) -> None:
    with sshd.link() as link:
        process = link.start([sys.executable, "-c", "import sys; print('here', flush=True); sys.stdin.read()"])
        assert process.read_line(SOON_S, LINE_BYTES) == b"here\n"

        sshd.cut_connections()

        with pytest.raises(LinkError, match="the connection was lost"):
            process.read_line(SOON_S, LINE_BYTES)
        assert process.wait(SOON_S) is None
        process.close()


def test_a_reset_connection_is_told_to_whoever_starts_a_program_next(sshd: Sshd, relay: Relay) -> None:
    with sshd.link(sshd.device(port=relay.port)) as link:
        relay.reset()

        with pytest.raises(LinkError, match="could not be started"):
            link.start(["true"])


def test_a_network_that_falls_silent_ends_every_wait(sshd: Sshd, relay: Relay) -> None:
    with sshd.link(sshd.device(port=relay.port, timeout_s=NETWORK_TIMEOUT_S)) as link:
        process = link.start(["cat"])
        relay.stalled = True

        with pytest.raises(TimeoutError):
            process.read_line(0.2, LINE_BYTES)
        with pytest.raises(LinkError, match="could not be started"):
            link.start(["true"])
        process.close()
        relay.stalled = False


def test_a_device_that_hangs_goes_on_where_it_was(sshd: Sshd) -> None:
    with sshd.link() as link:
        process = link.start(["cat"])
        process.write(b"first\n", SOON_S)
        assert process.read_line(SOON_S, LINE_BYTES) == b"first\n"
        sshd.freeze_connections()
        process.write(b"hello\n", SOON_S)
        with pytest.raises(TimeoutError):
            process.read_line(0.3, LINE_BYTES)

        sshd.thaw_connections()

        assert process.read_line(SOON_S, LINE_BYTES) == b"hello\n"
        process.close()


def test_leaving_ends_every_connection(sshd: Sshd) -> None:
    with sshd.link() as link:
        says(link, "true")
        assert sshd.connections()

    end = time.monotonic() + SOON_S
    while sshd.connections() and time.monotonic() < end:
        time.sleep(0.02)
    assert not sshd.connections()


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        ((), "aes128-gcm@openssh.com"),
        (("Ciphers aes256-gcm@openssh.com,aes256-ctr",), "aes256-gcm@openssh.com"),
        (("Ciphers chacha20-poly1305@openssh.com,aes256-ctr",), "aes256-ctr"),
    ],
)
def test_a_fast_cipher_is_taken_where_there_is_one(
    make_sshd: Callable[..., Sshd], offered: tuple[str, ...], taken: str
) -> None:
    sshd = make_sshd(options=offered)

    with sshd.link() as link:
        link.put(bytes(1_000_000), str(sshd.home / "file"), SOON_S)
        assert link.cipher == taken

    assert (sshd.home / "file").stat().st_size == 1_000_000


# --- start-up files of the login shell ---


@pytest.mark.parametrize("text", ["echo Welcome to the shelf", "false; exit 3"])
def test_start_up_files_do_not_disturb_built_in_file_transfer(sshd: Sshd, text: str) -> None:
    sshd.start_up_file(f"{text}\n")

    with sshd.link() as link:
        link.put(b"data", str(sshd.home / "file"), SOON_S)

    assert (sshd.home / "file").read_bytes() == b"data"


def test_a_start_up_file_that_prints_comes_before_the_program_s_output(sshd: Sshd) -> None:
    sshd.start_up_file("echo Welcome to the shelf\n")

    with sshd.link() as link:
        assert says(link, "echo", "hello") == "Welcome to the shelf\nhello\n"


def test_a_start_up_file_that_prints_into_file_transfer_is_explained(make_sshd: Callable[..., Sshd]) -> None:
    sshd = make_sshd(external_sftp=True)
    sshd.start_up_file("echo Welcome to the shelf\n")

    with sshd.link() as link, pytest.raises(LinkError, match="a start-up file of the login shell prints") as caught:
        link.put(b"data", str(sshd.home / "file"), SOON_S)

    assert ".bashrc" in caught.value.advice
    assert not (sshd.home / "file").exists()


def test_a_start_up_file_that_exits_is_explained(make_sshd: Callable[..., Sshd]) -> None:
    sshd = make_sshd(external_sftp=True)
    sshd.start_up_file("exit 3\n")

    with sshd.link() as link:
        process = link.start(["echo", "hello"])
        assert process.read_line(SOON_S, LINE_BYTES) is None
        assert process.wait(SOON_S) == 3
        process.close()
        with pytest.raises(LinkError, match="file transfer cannot begin"):
            link.put(b"data", str(sshd.home / "file"), SOON_S)


def test_a_device_without_file_transfer_is_told(make_sshd: Callable[..., Sshd]) -> None:
    sshd = make_sshd(force_command="/bin/true")

    with sshd.link() as link, pytest.raises(LinkError, match="file transfer cannot begin"):
        link.put(b"data", str(sshd.home / "file"), SOON_S)


# --- transfers that fail ---


def test_a_file_too_large_for_the_device_is_told_and_leaves_nothing(make_sshd: Callable[..., Sshd]) -> None:
    # A limit on the size of files needs no privilege; with its signal ignored it shows as EFBIG.
    sshd = make_sshd(external_sftp=True, force_command="trap '' XFSZ; ulimit -f 100; exec /usr/lib/openssh/sftp-server")

    with sshd.link() as link, pytest.raises(TransferError, match="the disk is probably full") as caught:
        link.put(bytes(2_000_000), str(sshd.home / "file"), SOON_S)

    assert "free some space" in caught.value.advice
    assert list(sshd.home.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.getuid() != 0:
        pytest.skip("needs root: mounts a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"needs root that may mount: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_told_and_leaves_nothing(sshd: Sshd, small_disk: Path) -> None:
    with sshd.link() as link:
        with pytest.raises(TransferError, match="the disk is probably full"):
            link.put(bytes(3_000_000), str(small_disk / "file"), SOON_S)
        link.put(b"small", str(small_disk / "file"), SOON_S)

    assert [path.name for path in small_disk.iterdir()] == ["file"]


def test_a_reset_during_a_transfer_leaves_nothing(sshd: Sshd, relay: Relay) -> None:
    with sshd.link(sshd.device(port=relay.port)) as link:
        relay.trip = Trip(1_000_000, "reset")

        with pytest.raises(TransferError, match="the connection was lost"):
            link.put(bytes(20_000_000), str(sshd.home / "file"), SOON_S)

    assert list(sshd.home.iterdir()) == []


def test_a_transfer_that_stalls_has_an_end(sshd: Sshd, relay: Relay) -> None:
    with sshd.link(sshd.device(port=relay.port, timeout_s=NETWORK_TIMEOUT_S)) as link:
        link.put(b"first", str(sshd.home / "first"), SOON_S)
        relay.stalled = True

        with pytest.raises(TransferError):
            link.put(bytes(20_000_000), str(sshd.home / "file"), NETWORK_TIMEOUT_S)
        relay.stalled = False

    assert not (sshd.home / "file").exists()


def test_a_folder_that_may_not_be_written_is_told(sshd: Sshd) -> None:
    with sshd.link() as link, pytest.raises(TransferError, match="/proc/file could not be written"):
        link.put(b"data", "/proc/file", SOON_S)
