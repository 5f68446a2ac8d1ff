"""Reach a device over SSH: files by SFTP, programs by exec, hosts checked strictly.

Three facts shape this file (facts about paramiko 5 and OpenSSH 9, each seen in a test): keepalive does not notice a
dead peer, so every wait has its own deadline; an upload to a full disk fails with a bare "Failure" and leaves what
it wrote; paramiko waits without end for the answer to an exec request, so a timer cuts the connection there.
"""

from __future__ import annotations

import contextlib
import io
import secrets
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Self

import paramiko

from edgeprof import places
from edgeprof.errors import LinkError, TransferError
from edgeprof.fleet import Device
from edgeprof.links.host_keys import KnownHosts
from edgeprof.links.ssh_config import hops_to
from edgeprof.links.ssh_keys import Credentials, Keys
from edgeprof.links.ssh_process import SshProcess
from edgeprof.links.ssh_session import Session, connect, cut_after
from edgeprof.links.streams import Deadline

__all__ = ["SshLink"]

# SFTP servers take writes of 32 KiB at most (draft-ietf-secsh-filexfer-02, section 3).
CHUNK_BYTES = 32 * 1024
# A transfer that overran its time still needs a moment to say so before the connection is cut.
GRACE_S = 2.0


class SshLink:
    """A device behind sshd. Entering connects; `credentials` default to keys, as ssh would use them."""

    def __init__(
        self,
        device: Device,
        *,
        config_path: Path | None = None,
        own_known_hosts: Path | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        self._device = device
        self._config_path = config_path
        self._own_known_hosts = own_known_hosts or places.known_hosts_file()
        self._credentials = credentials or Keys()
        self._session: Session | None = None
        self._files: paramiko.SFTPClient | None = None

    def __enter__(self) -> Self:
        hops = hops_to(self._device, self._config_path)
        known = KnownHosts(self._own_known_hosts, dict.fromkeys(path for hop in hops for path in hop.known_hosts))
        self._session = connect(self._device, hops, known, self._credentials)
        return self

    def __exit__(self, *exc: object) -> None:
        self._files = None
        if self._session is not None:
            self._session.close()
            self._session = None

    def start(self, argv: list[str]) -> SshProcess:
        timeout_s = self._device.connect_timeout_s
        try:
            with cut_after(self._transport, timeout_s + GRACE_S):
                channel = self._transport.open_session(timeout=timeout_s)
                # sshd hands one string to the login shell: quoted, so that the shell finds nothing to interpret.
                channel.exec_command(shlex.join(argv))
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise LinkError(
                f"{self._device.name}: {argv[0]!r} could not be started: {_said(error)}",
                "the connection broke or the device hangs; try again, then look at the device",
            ) from error
        return SshProcess(channel, f"{self._device.name}: {argv[0]}")

    def put(self, source: Path | bytes, target: str, timeout_s: float) -> None:
        deadline = Deadline(timeout_s)
        part = f"{target}.{secrets.token_hex(4)}.part"
        with _opened(source) as reader, cut_after(self._transport, timeout_s + GRACE_S):
            files = self.sftp()
            try:
                _upload(files, reader, part, deadline)
                _rename(files, part, target)
            except (paramiko.SSHException, paramiko.SFTPError, EOFError, OSError) as error:
                failure = self._transfer_error(target, error)
                self._discard(part)
                raise failure from error
            except BaseException:
                self._discard(part)
                raise

    def sftp(self) -> paramiko.SFTPClient:
        """The file transfer session, opened when first asked for.

        Raises:
            LinkError: the device offers none, or its shell's start-up files get in its way.
        """
        if self._files is None:
            self._files = self._open_sftp()
        return self._files

    def _open_sftp(self) -> paramiko.SFTPClient:
        name, timeout_s = self._device.name, self._device.connect_timeout_s
        try:
            with cut_after(self._transport, timeout_s + GRACE_S):
                channel = self._transport.open_session(timeout=timeout_s)
                channel.settimeout(timeout_s)
                channel.invoke_subsystem("sftp")
                return paramiko.SFTPClient(channel)
        except paramiko.SFTPError as error:
            raise LinkError(
                f"{name}: file transfer got text in place of data ({error}): a start-up file of the login shell prints",
                'make it silent for programs: put `[ -z "$PS1" ] && return` on top of the device\'s ~/.bashrc',
            ) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            reason = "it does not offer SFTP, or a start-up file of the login shell ends the session"
            raise LinkError(
                f"{name}: file transfer cannot begin: {reason if self._transport.is_active() else _said(error)}",
                f"try `sftp` by hand; install openssh-sftp-server on {name} or mend its ~/.bashrc",
            ) from error

    @property
    def _transport(self) -> paramiko.Transport:
        if self._session is None:
            raise LinkError(f"{self._device.name}: the link is not open", "use it as a context manager")
        return self._session.transport

    def _transfer_error(self, target: str, error: Exception) -> TransferError:
        where = f"{self._device.name}: {target} could not be written"
        if not self._transport.is_active() or isinstance(error, EOFError | paramiko.SSHException):
            return TransferError(f"{where}: the connection was lost: {_said(error)}", "check the network, try again")
        if isinstance(error, TimeoutError):
            return TransferError(f"{where}: {_said(error)}", "the network is slow or the device hangs; try again")
        if isinstance(error, OSError) and error.errno is None and str(error) == "Failure":
            # SFTP version 3 has no code for a full disk; OpenSSH answers ENOSPC and EFBIG with this one word.
            return TransferError(f"{where}: the disk is probably full", f"free some space on {self._device.name}")
        return TransferError(f"{where}: {_said(error)}", "check that the folder exists and belongs to the user")

    def _discard(self, part: str) -> None:
        """Remove what a failed upload left, over a fresh connection if this one is gone."""
        # A session that timed out in the middle of an answer has lost its place in the stream.
        self._files = None
        gone = (LinkError, paramiko.SSHException, EOFError, OSError)
        with contextlib.suppress(*gone):
            if self._transport.is_active():
                self.sftp().remove(part)
                return
        # A connection that was just reset may still call itself active: whatever went wrong, a fresh one is tried.
        with (
            contextlib.suppress(*gone),
            SshLink(
                self._device,
                config_path=self._config_path,
                own_known_hosts=self._own_known_hosts,
                credentials=self._credentials,
            ) as fresh,
        ):
            fresh.sftp().remove(part)


def _upload(files: paramiko.SFTPClient, reader: IO[bytes], part: str, deadline: Deadline) -> None:
    channel = files.get_channel()
    if channel is None:
        raise EOFError("file transfer has ended")
    size_bytes = 0
    channel.settimeout(max(deadline.left_s(), 0.1))
    with files.open(part, "wxb") as writer:
        chunk = reader.read(CHUNK_BYTES)
        while chunk:
            deadline.check("the transfer")
            channel.settimeout(max(deadline.left_s(), 0.1))
            following = reader.read(CHUNK_BYTES)
            # Pipelined, a chunk does not wait for the answer to the one before. The last one waits for all answers,
            # because closing would drop those that came too late, and with them the reason of a failure.
            writer.set_pipelined(bool(following))
            writer.write(chunk)
            size_bytes += len(chunk)
            chunk = following
    arrived = files.stat(part).st_size
    if arrived != size_bytes:
        raise OSError(f"{arrived} of {size_bytes} bytes arrived")


def _rename(files: paramiko.SFTPClient, part: str, target: str) -> None:
    try:
        files.posix_rename(part, target)
    except OSError as error:
        if "unsupported" not in str(error).lower():
            raise
        # Only OpenSSH's extension replaces a file in one step; plain rename refuses if the target exists.
        with contextlib.suppress(FileNotFoundError):
            files.remove(target)
        files.rename(part, target)


@contextlib.contextmanager
def _opened(source: Path | bytes) -> Iterator[IO[bytes]]:
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    try:
        file = source.open("rb")
    except OSError as error:
        raise TransferError(f"{source} cannot be read: {error.strerror}", "check the path") from error
    with file:
        yield file


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
