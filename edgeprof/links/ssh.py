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
from edgeprof.links import OnSent
from edgeprof.links.host_keys import KnownHosts
from edgeprof.links.sftp_upload import Upload, size_of
from edgeprof.links.ssh_config import hops_to
from edgeprof.links.ssh_keys import Credentials, Keys
from edgeprof.links.ssh_process import SshProcess
from edgeprof.links.ssh_session import BROKEN, Session, connect
from edgeprof.links.streams import Deadline

__all__ = ["SshLink"]

# Whatever overran its time still needs a moment to say so before the connection is cut.
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

    @property
    def is_alive(self) -> bool:
        """Whether the connection was not seen to end; on Linux a peer that is gone shows soon after `silence_s`."""
        return self._transport.is_active()

    @property
    def cipher(self) -> str:
        """The cipher that was agreed upon, by its name in SSH."""
        return str(self._transport.local_cipher)

    def start(self, argv: list[str]) -> SshProcess:
        timeout_s = self._device.connect_s
        deadline = Deadline(timeout_s)
        try:
            with self._opened.cut_after(timeout_s + GRACE_S):
                channel = self._transport.open_session(timeout=timeout_s)
                # sshd hands one string to the login shell: quoted, so that the shell finds nothing to interpret.
                channel.exec_command(shlex.join(argv))
        except BROKEN as error:
            raise LinkError(
                f"{self._device.name}: {argv[0]!r} could not be started: {_why(error, deadline)}",
                "the connection broke or the device hangs; try again, then look at the device",
            ) from error
        return SshProcess(channel, f"{self._device.name}: {argv[0]}", self._opened.cut_after)

    def put(
        self,
        source: Path | bytes,
        target: str,
        timeout_s: float,
        *,
        resume: bool = False,
        on_progress: OnSent | None = None,
    ) -> int:
        """As every link's; also fails once nothing has arrived for the device's `silence_s`."""
        path = target if resume else f"{target}.{secrets.token_hex(4)}.part"
        with _opened(source) as reader:
            upload = self._upload(size_of(reader), timeout_s, on_progress)
            try:
                with upload.cut:
                    upload.write(reader, path)
                    if not resume:
                        _rename(upload.files, path, target)
            except BaseException as error:
                failure = self._transfer_error(target, error, upload)
                self._end_sftp()
                if not resume:
                    self._discard(path)
                if failure is None:
                    raise
                raise failure from error
        return upload.size_bytes - upload.began_at

    def _upload(self, size_bytes: int, timeout_s: float, on_progress: OnSent | None) -> Upload:
        files = self.sftp()
        channel = files.get_channel()
        if channel is None or channel.closed:
            self._end_sftp()
            raise TransferError(f"{self._device.name}: the file transfer session has ended", "try again")
        return Upload(
            files=files,
            channel=channel,
            cut=self._opened.cut_after(timeout_s + GRACE_S),
            deadline=Deadline(timeout_s),
            silence_s=self._device.deadlines.silence_s,
            size_bytes=size_bytes,
            on_progress=on_progress,
        )

    def sftp(self) -> paramiko.SFTPClient:
        """The file transfer session, opened when first asked for.

        Raises:
            LinkError: the device offers none, or its shell's start-up files get in its way.
        """
        if self._files is None:
            self._files = self._open_sftp()
        return self._files

    def _open_sftp(self) -> paramiko.SFTPClient:
        name, timeout_s = self._device.name, self._device.connect_s
        deadline = Deadline(timeout_s)
        try:
            with self._opened.cut_after(timeout_s + GRACE_S):
                channel = self._transport.open_session(timeout=timeout_s)
                channel.settimeout(timeout_s)
                channel.invoke_subsystem("sftp")
                return paramiko.SFTPClient(channel)
        except paramiko.SFTPError as error:
            raise LinkError(
                f"{name}: file transfer got text in place of data ({error}): a start-up file of the login shell prints",
                'make it silent for programs: put `[ -z "$PS1" ] && return` on top of the device\'s ~/.bashrc',
            ) from error
        except BROKEN as error:
            if deadline.left_s() <= 0 or not self._transport.is_active():
                why = _why(error, deadline)
            else:
                why = "it does not offer SFTP, or a start-up file of the login shell ends the session"
            raise LinkError(
                f"{name}: file transfer cannot begin: {why}",
                f"try `sftp` by hand; install openssh-sftp-server on {name} or mend its ~/.bashrc",
            ) from error

    @property
    def _transport(self) -> paramiko.Transport:
        return self._opened.transport

    @property
    def _opened(self) -> Session:
        if self._session is None:
            raise LinkError(f"{self._device.name}: the link is not open", "use it as a context manager")
        return self._session

    def _transfer_error(self, target: str, error: BaseException, upload: Upload) -> TransferError | None:
        """What went wrong, in words; None for what has nothing to do with the transfer."""
        if not isinstance(error, (*BROKEN, paramiko.SFTPError)):
            return None
        where = f"{self._device.name}: {target} could not be written"
        arrived = f"{upload.confirmed_bytes} of {upload.size_bytes} bytes had arrived"
        if upload.deadline.left_s() <= 0:
            why = f"the transfer took longer than {upload.deadline.timeout_s:g} s; {arrived}"
            return TransferError(f"{where}: {why}", "the network is slow or the device hangs; try again")
        if upload.cut.fired or isinstance(error, TimeoutError):
            why = f"the link was silent for {upload.silence_s:g} s in the upload; {arrived}"
            return TransferError(f"{where}: {why}", "check the network and the device, then try again")
        if not self._transport.is_active() or isinstance(error, EOFError | paramiko.SSHException):
            why = f"the connection was lost: {_said(error)}; {arrived}"
            return TransferError(f"{where}: {why}", "check the network, then try again")
        if isinstance(error, OSError) and error.errno is None and str(error) == "Failure":
            # SFTP version 3 has no code for a full disk; OpenSSH answers ENOSPC and EFBIG with this one word.
            return TransferError(f"{where}: the disk is probably full", f"free some space on {self._device.name}")
        return TransferError(f"{where}: {_said(error)}", "check that the folder exists and belongs to the user")

    def _end_sftp(self) -> None:
        """A session that failed in the middle of an answer has lost its place in the stream: the next is a new one."""
        channel = self._files.get_channel() if self._files is not None else None
        self._files = None
        if channel is not None:
            with contextlib.suppress(*BROKEN), self._opened.cut_after(GRACE_S):
                channel.close()

    def _discard(self, part: str) -> None:
        """Remove what a failed upload left, over a fresh connection if this one is gone."""
        gone = (LinkError, *BROKEN)
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


def _why(error: Exception, deadline: Deadline) -> str:
    return f"no answer within {deadline.timeout_s:g} s" if deadline.left_s() <= 0 else _said(error)


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
