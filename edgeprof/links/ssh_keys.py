"""The keys to log in with: named ones first, then the agent's, then those under their usual names."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import paramiko

from edgeprof.links.ssh_config import Hop
from edgeprof.links.streams import Deadline

__all__ = ["Credentials", "Keys", "Password", "usable_keys"]


@dataclass(frozen=True)
class Offer:
    """A key that may be offered, and where it is from; without a key, `unusable` says why."""

    source: str
    key: paramiko.PKey | None = None
    unusable: str | None = None


class Keys:
    """Log in with keys. Servers commonly allow six attempts, so what the user named is offered first."""

    def log_in(self, transport: paramiko.Transport, hop: Hop) -> str | None:
        """None after a login; else, in words, what was tried.

        Raises:
            SSHException: the connection broke.
        """
        allowed = _without_any(transport, hop.user)
        if allowed is None:
            return None
        if "publickey" not in allowed:
            return f"it takes no keys, only {', '.join(sorted(allowed))}"
        tried: list[str] = []
        with contextlib.closing(_Agent(transport.auth_timeout)) as agent:
            for offer in _offers(hop, agent):
                if offer.key is None:
                    tried.append(f"{offer.source} ({offer.unusable})")
                    continue
                outcome = _offer(transport, hop.user, offer.key)
                if outcome is None:
                    return None
                tried.append(f"{offer.source} ({outcome})")
                if not transport.is_active():
                    break
        return f"tried {'; '.join(tried)}" if tried else "there is no key to try: no agent, no key file"


@dataclass(frozen=True)
class Password:
    """Log in to the last hop with a password, kept nowhere; hops before it use keys."""

    last: Hop
    password: str

    def __repr__(self) -> str:
        return "Password(...)"

    def log_in(self, transport: paramiko.Transport, hop: Hop) -> str | None:
        if hop != self.last:
            return Keys().log_in(transport, hop)
        deadline = Deadline(transport.auth_timeout)
        try:
            # Servers that know only keyboard-interactive ask the same question there: paramiko falls back to it.
            further = transport.auth_password(hop.user, self.password)
        except paramiko.BadAuthenticationType as error:
            return f"it takes no passwords, only {', '.join(error.allowed_types)}"
        except paramiko.AuthenticationException as error:
            _check_answered(deadline, error)
            return f"tried the password ({error})"
        return f"it also wants {', '.join(further)}" if further else None


Credentials = Keys | Password


def usable_keys(hop: Hop, timeout_s: float) -> Iterator[tuple[str, str, bytes]]:
    """Public keys whose private half is at hand: (source, type, blob). An agent gets `timeout_s` for each answer."""
    with contextlib.closing(_Agent(timeout_s)) as agent:
        for offer in _offers(hop, agent):
            if offer.key is not None:
                yield offer.source, offer.key.get_name(), offer.key.asbytes()


def _without_any(transport: paramiko.Transport, user: str) -> set[str] | None:
    """What the server takes; None if it let us in at once (it knows us by other means, as Tailscale SSH does)."""
    deadline = Deadline(transport.auth_timeout)
    try:
        transport.auth_none(user)
    except paramiko.BadAuthenticationType as error:
        return set(error.allowed_types)
    except paramiko.AuthenticationException as error:
        _check_answered(deadline, error)
        raise
    return None


def _offer(transport: paramiko.Transport, user: str, key: paramiko.PKey) -> str | None:
    deadline = Deadline(transport.auth_timeout)
    try:
        further = transport.auth_publickey(user, key)
    except paramiko.AuthenticationException as error:
        _check_answered(deadline, error)
        return "refused" if transport.is_active() else f"the server hung up: {error}"
    except paramiko.SSHException as error:
        if not transport.is_active():
            raise
        return str(error)  # the agent would not sign, or no signature algorithm in common
    return f"accepted, but it also wants {', '.join(further)}" if further else None


def _check_answered(deadline: Deadline, error: Exception) -> None:
    """Paramiko reports a server that never answered as one that refused."""
    if deadline.left_s() <= 0:
        raise paramiko.SSHException(f"no answer within {deadline.timeout_s:g} s") from error


def _offers(hop: Hop, agent: paramiko.Agent) -> Iterator[Offer]:
    held = {key.asbytes(): key for key in agent.get_keys()}
    files = [path for path in hop.identities if path.exists() or not hop.identities_are_defaults]
    if not hop.identities_are_defaults:
        yield from (_from_file(path, held) for path in files)
    if not hop.identities_only:
        for key in held.values():
            yield Offer(f"the agent's {key.get_name()} {key.comment}".strip(), key)
    if hop.identities_are_defaults:
        yield from (_from_file(path, held) for path in files)


def _from_file(path: Path, held: dict[bytes, paramiko.AgentKey]) -> Offer:
    public = _public_blob(path)
    if public in held:
        return Offer(f"{path} through the agent", held[public])
    try:
        return Offer(str(path), paramiko.PKey.from_path(path))
    except (paramiko.PasswordRequiredException, TypeError):
        # cryptography says TypeError where a passphrase is missing.
        return Offer(str(path), unusable=f"needs a passphrase; unlock it with: ssh-add {path}")
    except OSError as error:
        return Offer(str(path), unusable=f"cannot be read: {error.strerror}")
    except (paramiko.SSHException, ValueError) as error:
        return Offer(str(path), unusable=f"is no private key we can use: {error}")


def _public_blob(path: Path) -> bytes | None:
    """The public half beside a private key, which tells which of the agent's keys it is."""
    with contextlib.suppress(OSError, ValueError):
        return paramiko.pkey.PublicBlob.from_file(str(path.with_name(f"{path.name}.pub"))).key_blob
    return None


class _Agent(paramiko.Agent):
    """The ssh-agent, if there is one that answers in time; paramiko's own waits for it for ever."""

    def __init__(self, timeout_s: float) -> None:
        paramiko.agent.AgentSSH.__init__(self)
        connection = paramiko.agent.get_agent_connection()
        if isinstance(connection, socket.socket):
            connection.settimeout(timeout_s)
        if connection is None:
            return
        try:
            self._connect(connection)  # type: ignore[attr-defined]  # made for subclasses, but the stubs lack it
        except (OSError, paramiko.SSHException):
            self.close()
