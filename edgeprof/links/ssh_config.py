"""From a device's address to the hops that lead there, as ~/.ssh/config says.

Paramiko parses the format; what it lacks is added here: Include, overrides from the address, chains of jumps.
"""

from __future__ import annotations

import getpass
import glob
import os
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

import paramiko

from edgeprof.errors import LinkError
from edgeprof.fleet import Device

__all__ = ["Hop", "hops_to"]

DEFAULT_PORT = 22
USER_CONFIG = "~/.ssh/config"
SYSTEM_CONFIG = "/etc/ssh/ssh_config"
USER_KNOWN_HOSTS = "~/.ssh/known_hosts ~/.ssh/known_hosts2"
SYSTEM_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2"
DEFAULT_IDENTITIES = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")
MAX_DEPTH = 16  # as OpenSSH: of Includes within each other, and of jumps
JUMP = re.compile(r"(?:ssh://)?(?:(?P<user>[^@]+)@)?(?P<host>\[[^\]]+\]|[^:@]+)(?::(?P<port>\d+))?")


@dataclass(frozen=True, kw_only=True)
class Hop:
    """One SSH connection on the way: a jump host, or at last the device itself.

    `identities` are private key files to offer; `identities_are_defaults` tells that nobody named them.
    `proxy_command` is a program that carries this hop's bytes, in place of a TCP connection.
    """

    host: str
    port: int
    user: str
    known_as: str
    identities: tuple[Path, ...] = ()
    identities_are_defaults: bool = False
    identities_only: bool = False
    known_hosts: tuple[Path, ...] = ()
    proxy_command: str | None = None

    @property
    def place(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class _Wish:
    """A host as somebody named it, before the configuration is asked."""

    host: str
    user: str | None = None
    port: int | None = None
    identities: tuple[str, ...] = field(default=())


def hops_to(device: Device, config_path: Path | None = None) -> tuple[Hop, ...]:
    """Every hop from here to the device, the device last.

    Without `config_path` the user's and the system's configuration are read; with it, only that file (as `ssh -F`).

    Raises:
        LinkError: the configuration cannot be read, or its jumps make no sense.
    """
    text = _text(config_path)
    identities = (device.identity,) if device.identity else ()
    return _expand(_Wish(device.host or "", device.user, device.port, identities), text, device.name, 0)


def _expand(wish: _Wish, text: str, name: str, depth: int) -> tuple[Hop, ...]:
    if depth > MAX_DEPTH:
        raise LinkError(f"{name}: more than {MAX_DEPTH} jumps: ProxyJump leads in a circle", "mend ~/.ssh/config")
    options = _options(wish, text, name)
    jumps = options.get("proxyjump", "none")
    hop = _hop(wish, options, name, has_jump=jumps.lower() != "none")
    if jumps.lower() == "none":
        return (hop,)
    # Only the first of several jumps follows its own configuration's jumps; the others are reached through it.
    first, *others = (_jump(spec.strip(), name) for spec in jumps.split(","))
    between = tuple(_hop(one, _options(one, text, name), name, has_jump=True) for one in others)
    return (*_expand(first, text, name, depth + 1), *between, hop)


def _jump(spec: str, name: str) -> _Wish:
    found = JUMP.fullmatch(spec)
    if found is None:
        raise LinkError(f"{name}: ProxyJump {spec!r} is not of the form user@host:port", "mend ~/.ssh/config")
    return _Wish(found["host"].strip("[]"), found["user"], int(found["port"]) if found["port"] else None)


def _options(wish: _Wish, text: str, name: str) -> dict[str, str]:
    # OpenSSH takes the first value it meets for a key, so what the address says goes on top.
    head = "".join(f"{key} {value}\n" for key, value in (("User", wish.user), ("Port", wish.port)) if value)
    try:
        config = paramiko.SSHConfig.from_text(head + text)
        return dict(config.lookup(wish.host))
    except (paramiko.SSHException, KeyError, ValueError) as error:
        raise LinkError(f"{name}: the SSH configuration cannot be understood: {error}", "mend ~/.ssh/config") from error


def _hop(wish: _Wish, options: dict[str, str], name: str, *, has_jump: bool) -> Hop:
    host = options["hostname"]
    try:
        port = int(options.get("port", DEFAULT_PORT))
    except ValueError as error:
        raise LinkError(f"{name}: Port {options['port']!r} is not a number", "mend ~/.ssh/config") from error
    named = (*wish.identities, *_listed(options.get("identityfile")))
    alias = options.get("hostkeyalias")
    return Hop(
        host=host,
        port=port,
        user=options.get("user") or getpass.getuser(),
        known_as=(alias or (host if port == DEFAULT_PORT else f"[{host}]:{port}")).lower(),
        identities=tuple(Path(one).expanduser() for one in named or DEFAULT_IDENTITIES if one.lower() != "none"),
        identities_are_defaults=not named,
        identities_only=options.get("identitiesonly", "no").lower() == "yes",
        known_hosts=(
            *_paths(options.get("userknownhostsfile", USER_KNOWN_HOSTS)),
            *_paths(options.get("globalknownhostsfile", SYSTEM_KNOWN_HOSTS)),
        ),
        proxy_command=None if has_jump else options.get("proxycommand"),
    )


def _listed(value: str | list[str] | None) -> tuple[str, ...]:
    """IdentityFile may stand several times: paramiko gives a list for it, against its own type hints."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def _paths(value: str) -> tuple[Path, ...]:
    return tuple(Path(one).expanduser() for one in shlex.split(value) if one.lower() != "none")


def _text(config_path: Path | None) -> str:
    if config_path is not None:
        return _with_includes(config_path, config_path.parent, 0)
    user = Path(USER_CONFIG).expanduser()
    system = Path(SYSTEM_CONFIG)
    parts = [_with_includes(path, path.parent, 0) for path in (user, system) if path.exists()]
    return "\nHost *\n".join(parts)


def _with_includes(path: Path, folder: Path, depth: int) -> str:
    """The file's text with every Include replaced by what it names; the block that was open is opened again after."""
    if depth > MAX_DEPTH:
        raise LinkError(f"{path}: Includes lead in a circle", "mend it")
    try:
        rows = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LinkError(f"{path}: cannot be read: {error}", "mend its permissions") from error
    block = "Host *"
    text: list[str] = []
    for row in rows:
        keyword = re.split(r"[\s=]", row.strip(), maxsplit=1)[0].lower()
        if keyword in ("host", "match"):
            block = row
        if keyword != "include":
            text.append(row)
            continue
        for pattern in shlex.split(row.strip()[len("include") :].lstrip(" \t=")):
            # Relative names are relative to the folder of the configuration (ssh_config(5), Include).
            for name in sorted(glob.glob(str(folder / os.path.expanduser(pattern)))):  # noqa: PTH111, PTH207
                text += [_with_includes(Path(name), folder, depth + 1), block]
    return "\n".join(text) + "\n"
