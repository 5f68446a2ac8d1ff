"""Which host keys are trusted: known_hosts files in OpenSSH's format, read strictly, and our own one written.

The format is described in sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT". Paramiko's reader knows neither wildcards nor
markers and stops at a line it cannot decode, so this is our own.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgeprof.errors import ChangedHostKey, LinkError, UnknownHostKey

__all__ = ["HostKey", "KnownHosts", "fingerprint"]

REVOKED = "@revoked"


@dataclass(frozen=True, kw_only=True)
class HostKey:
    """A key as a host shows it. `host` is the name it is filed under in known_hosts."""

    host: str
    type: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.blob)


@dataclass(frozen=True, kw_only=True)
class _Line:
    marker: str
    patterns: tuple[str, ...]
    type: str
    blob: bytes
    file: Path
    number: int


class KnownHosts:
    """Several known_hosts files read as one. Only `own` is ever written."""

    def __init__(self, own: Path, others: Iterable[Path] = ()) -> None:
        self.own = own
        self._lines = [line for path in (*others, own) for line in _read(path)]

    def types(self, host: str) -> tuple[str, ...]:
        """Key types on file for `host`: those to ask it for first, lest it shows one that nobody ever saw."""
        return tuple(dict.fromkeys(line.type for line in self._about(host) if line.marker != REVOKED))

    def is_trusted(self, key: HostKey) -> bool:
        """Whether this very key is on file for its host.

        Raises:
            ChangedHostKey: another one is, or this one was revoked.
        """
        lines = self._about(key.host)
        if any(line.marker == REVOKED and line.blob == key.blob for line in lines):
            raise ChangedHostKey(
                f"{key.host} shows the key {key.fingerprint}, which your known_hosts marks as revoked",
                "do not connect; ask whoever runs that host",
            )
        trusted = [line for line in lines if line.marker != REVOKED]
        if any(line.blob == key.blob for line in trusted):
            return True
        if trusted:
            raise _changed(key, trusted)
        return False

    def check(self, key: HostKey, device: str) -> None:
        """Pass only a key that is on file.

        Raises:
            UnknownHostKey: nothing is on file for this host.
            ChangedHostKey: another key is.
        """
        if not self.is_trusted(key):
            raise UnknownHostKey(
                f"{device}: the host {key.host} is not trusted yet; its {key.type} key is {key.fingerprint}",
                f"compare it with what the device itself shows, then: edgeprof devices trust {device}",
                key.fingerprint,
            )

    def trust(self, key: HostKey) -> None:
        """Write the key into our own file."""
        line = f"{key.host} {key.type} {base64.b64encode(key.blob).decode()}\n"
        try:
            self.own.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # One short write in append mode: two of us at once cannot tear each other's line.
            descriptor = os.open(self.own, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "a", encoding="ascii") as file:
                file.write(line)
        except OSError as error:
            raise LinkError(f"{self.own}: the key cannot be kept: {error}", "mend the folder's permissions") from error
        self._lines = [*self._lines, *_read(self.own)]

    def _about(self, host: str) -> list[_Line]:
        return [line for line in self._lines if _matches(host.lower(), line.patterns)]


def fingerprint(blob: bytes) -> str:
    """As OpenSSH shows it: SHA256, base64 without padding."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def _changed(key: HostKey, trusted: list[_Line]) -> ChangedHostKey:
    old = next((line for line in trusted if line.type == key.type), trusted[0])
    return ChangedHostKey(
        f"{key.host} shows another {key.type} key than the one you trust: now {key.fingerprint}, "
        f"trusted {old.type} {fingerprint(old.blob)} ({old.file}, line {old.number}). "
        "Either the device was installed anew, or somebody is in between",
        f"if you know why, delete line {old.number} of {old.file}, then trust the device anew",
    )


def _read(path: Path) -> list[_Line]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise LinkError(f"{path}: cannot be read: {error}", "mend its permissions") from error
    return [line for number, row in enumerate(text.splitlines(), 1) if (line := _parse(row, path, number))]


def _parse(row: str, path: Path, number: int) -> _Line | None:
    """One line, or None where it is a comment, damaged, or about certificates, which paramiko cannot check."""
    fields = row.split()
    marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
    if len(fields) < 3 or fields[0].startswith("#") or marker not in ("", REVOKED):
        return None
    try:
        blob = base64.b64decode(fields[2], validate=True)
    except binascii.Error:
        return None
    return _Line(
        marker=marker, patterns=tuple(fields[0].split(",")), type=fields[1], blob=blob, file=path, number=number
    )


def _matches(host: str, patterns: tuple[str, ...]) -> bool:
    """OpenSSH's pattern list: any may match, and a negated one that matches rules the whole line out."""
    plain = [pattern for pattern in patterns if not pattern.startswith("!")]
    negated = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    return any(_matches_one(host, one) for one in plain) and not any(_matches_one(host, one) for one in negated)


def _matches_one(host: str, pattern: str) -> bool:
    if pattern.startswith("|1|"):
        return _matches_hashed(host, pattern)
    # OpenSSH has only * and ?; the brackets of [host]:port are meant literally.
    return fnmatch.fnmatchcase(host, pattern.lower().replace("[", "[[]"))


def _matches_hashed(host: str, pattern: str) -> bool:
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in pattern.split("|")[2:4])
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(hmac.new(salt, host.encode(), hashlib.sha1).digest(), digest)
