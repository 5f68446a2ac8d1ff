"""Put the user's public key onto a device by one login with a password, so that no password is needed again."""

from __future__ import annotations

import base64
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import msgspec
import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgeprof.errors import AuthenticationFailed, LinkError, TransferError
from edgeprof.fleet import Device
from edgeprof.links.ssh import SshLink
from edgeprof.links.ssh_config import hops_to
from edgeprof.links.ssh_keys import Password, usable_keys
from edgeprof.links.ssh_session import BROKEN

__all__ = ["PublicKey", "choose_key", "install_key"]

# Relative names begin at the login folder, which SFTP servers set to the user's home.
FOLDER = ".ssh"
FILE = ".ssh/authorized_keys"
OTHERS_MAY_WRITE = 0o022  # sshd ignores such files (StrictModes)


@dataclass(frozen=True, kw_only=True)
class PublicKey:
    """A public key and where its private half is; `identity` is set if a device must name it to have it used."""

    line: str
    source: str
    identity: Path | None = None


def choose_key(device: Device, new_identity: Path, *, config_path: Path | None = None) -> PublicKey:
    """The first key that a login would offer anyway; without any, our own, made now if it is not there yet.

    Raises:
        LinkError: our own key cannot be made or read.
    """
    hop = hops_to(device, config_path)[-1]
    for source, kind, blob in usable_keys(hop, device.connect_s):
        return PublicKey(line=f"{kind} {base64.b64encode(blob).decode()}", source=source)
    try:
        if not new_identity.exists():
            _make_key(new_identity)
        key = paramiko.PKey.from_path(new_identity)
    except (OSError, ValueError, TypeError, paramiko.SSHException) as error:
        raise LinkError(f"{new_identity}: edgeprof's own key cannot be used: {error}", "move it away") from error
    return PublicKey(line=f"{key.get_name()} {key.get_base64()}", source=str(new_identity), identity=new_identity)


def install_key(
    device: Device,
    password: str,
    key: PublicKey,
    *,
    config_path: Path | None = None,
    own_known_hosts: Path | None = None,
) -> Device:
    """Let `key` in on the device and prove it by logging in; the device as the fleet should keep it.

    Raises:
        AuthenticationFailed: the password is wrong, or the device does not heed the installed key.
        TransferError: the device's list of keys cannot be written.
        LinkError: the device cannot be reached, or is not trusted yet.
    """
    credentials = Password(hops_to(device, config_path)[-1], password)
    link = SshLink(device, config_path=config_path, own_known_hosts=own_known_hosts, credentials=credentials)
    try:
        with link:
            _add_line(link.sftp(), key.line, device.name)
    except AuthenticationFailed as error:
        raise AuthenticationFailed(
            str(error), f"check user and password, or add this line to ~/{FILE} there by other means: {key.line}"
        ) from error
    if key.identity is not None:
        device = msgspec.structs.replace(device, identity=str(key.identity))
    try:
        with SshLink(device, config_path=config_path, own_known_hosts=own_known_hosts):
            return device
    except AuthenticationFailed as error:
        raise AuthenticationFailed(
            f"the key is in ~/{FILE} now, but is not heeded: {error}",
            "see the device's sshd log: others may write the home folder, or AuthorizedKeysFile is elsewhere",
        ) from error


def _add_line(files: paramiko.SFTPClient, line: str, name: str) -> None:
    try:
        if not _mend_mode(files, FOLDER):
            files.mkdir(FOLDER, 0o700)
        is_new = not _mend_mode(files, FILE)
        with files.open(FILE, "a+b") as file:
            if is_new:
                file.chmod(0o600)
            file.seek(0)
            text = b"" if is_new else file.read()
            if line.split()[1].encode() in text:
                return
            gap = b"\n" if text and not text.endswith(b"\n") else b""
            file.write(gap + f"{line} edgeprof\n".encode())
    except BROKEN as error:
        raise TransferError(f"{name}: ~/{FILE} cannot be written: {error}", "is its disk full or read-only?") from error


def _mend_mode(files: paramiko.SFTPClient, path: str) -> bool:
    """Whether it exists; if so, others lose the right to write it."""
    try:
        mode = stat.S_IMODE(files.stat(path).st_mode or 0)
    except FileNotFoundError:
        return False
    if mode & OTHERS_MAY_WRITE:
        files.chmod(path, mode & ~OTHERS_MAY_WRITE)
    return True


def _make_key(path: Path) -> None:
    private = Ed25519PrivateKey.generate()
    text = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(text)
