"""Open SSH sessions hop by hop: reach, check the host's key, log in. Every wait has an end."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import Self

import paramiko

from edgeprof.errors import AuthenticationFailed, LinkError
from edgeprof.fleet import Device
from edgeprof.links.host_keys import HostKey, KnownHosts
from edgeprof.links.ssh_config import Hop
from edgeprof.links.ssh_keys import Credentials
from edgeprof.links.tcp import open_socket

__all__ = ["BROKEN", "Cut", "Session", "connect", "first_untrusted"]

LOG = "edgeprof.links.paramiko"
# What paramiko raises, from whatever it is asked to do, once the connection is gone: also from closing a channel and
# from receiving, which tell the other side of it.
BROKEN = (paramiko.SSHException, EOFError, OSError)
FAST_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")


class Session:
    """A chain of SSH sessions, each carried by the one before it; `transport` is the last."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._name = device.name
        self._timeout_s = device.connect_s
        self._silence_s = device.deadlines.silence_s
        self._transports: list[paramiko.Transport] = []
        self._proxies: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def transport(self) -> paramiko.Transport:
        return self._transports[-1]

    def reach(self, hop: Hop, key_types: Sequence[str]) -> HostKey:
        """Speak with the next hop until it has proven a host key, which nobody has judged yet.

        Raises:
            LinkError: it cannot be reached, or does not speak SSH.
        """
        transport = paramiko.Transport(self._open_socket(hop))
        self._transports.append(transport)
        _keep_quiet(transport)
        transport.auth_timeout = transport.channel_timeout = self._timeout_s
        # start_client has the say about how long; the thread behind it must not give up at the same moment.
        transport.banner_timeout = transport.handshake_timeout = 2 * self._timeout_s
        _prefer(transport, key_types)
        _prefer_fast_ciphers(transport)
        try:
            transport.start_client(timeout=self._timeout_s)
            key = transport.get_remote_server_key()
        except BROKEN as error:
            raise self._no_ssh(hop, error) from error
        return HostKey(host=hop.known_as, type=key.get_name(), blob=key.asbytes())

    def log_in(self, hop: Hop, credentials: Credentials, *, is_device: bool) -> None:
        """Log in to the hop reached last, which is the device itself or a jump host.

        Raises:
            AuthenticationFailed: it is the right host, but it does not let us in.
            LinkError: the connection broke, or the host stopped answering.
        """
        try:
            tried = credentials.log_in(self.transport, hop)
        except BROKEN as error:
            raise LinkError(
                f"{self._name}: {hop.place} went away while {hop.user} was logging in: {_said(error)}",
                "see the device's sshd log; does that user exist there, and may it log in?",
            ) from error
        if tried is not None:
            raise AuthenticationFailed(
                f"{self._name}: {hop.place} does not let {hop.user} in; {tried}",
                f"give it your key: edgeprof devices add {self._name} {self._device.address} --install-key"
                if is_device
                else f"give this jump host your key: ssh-copy-id -p {hop.port} {hop.user}@{hop.host}",
            )

    def cut_after(self, timeout_s: float) -> Cut:
        """Cuts the whole chain unless the block has ended by then."""
        return Cut(self._cut, timeout_s)

    def close(self) -> None:
        self._cut()
        for transport in self._transports:
            transport.join(timeout=1.0)
        for proxy in self._proxies:
            _end(proxy)
        self._proxies.clear()

    def _cut(self) -> None:
        # From the outside in: an inner session says goodbye through the outer one, where it may wait for ever.
        for transport in self._transports:
            with contextlib.suppress(*BROKEN):
                transport.close()
            # close() does nothing for a session that already died, yet its socket is still open.
            with contextlib.suppress(*BROKEN):
                transport.sock.close()

    def _open_socket(self, hop: Hop) -> socket.socket | paramiko.Channel:
        if self._transports:
            return self._through_last(hop)
        if hop.proxy_command is not None:
            return self._through_program(hop.proxy_command)
        try:
            return open_socket(hop.host, hop.port, self._timeout_s, self._silence_s)
        except (OSError, UnicodeError) as error:
            raise self._unreachable(hop, error) from error

    def _through_last(self, hop: Hop) -> paramiko.Channel:
        try:
            return self.transport.open_channel(
                "direct-tcpip", (hop.host, hop.port), ("127.0.0.1", 0), timeout=self._timeout_s
            )
        except BROKEN as error:
            raise LinkError(
                f"{self._name}: the jump host does not lead to {hop.place}: {_said(error)}",
                "is the device on, and does the jump host allow forwarding (AllowTcpForwarding)?",
            ) from error

    def _through_program(self, command: str) -> socket.socket:
        # One socket for both directions: paramiko's own ProxyCommand spins for ever once the program has ended.
        ours, theirs = socket.socketpair()
        try:
            # The user wrote this line for a shell (ssh_config(5), ProxyCommand); host and user were checked on reading.
            proxy = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise LinkError(f"{self._name}: ProxyCommand cannot be started: {error}", "mend ~/.ssh/config") from error
        finally:
            theirs.close()
        self._proxies.append(proxy)
        return ours

    def _unreachable(self, hop: Hop, error: Exception) -> LinkError:
        if isinstance(error, socket.gaierror | UnicodeError):
            return LinkError(
                f"{self._name}: no address is known for the host {hop.host!r}: {_said(error)}",
                "check the name, or use the IP address",
            )
        if isinstance(error, TimeoutError):
            return self._silent(hop)
        if isinstance(error, ConnectionRefusedError):
            return LinkError(
                f"{self._name}: {hop.place} refuses connections", "is sshd running there, and is the port right?"
            )
        if isinstance(error, ConnectionResetError):
            return self._hung_up(hop, error)
        return LinkError(f"{self._name}: {hop.place} cannot be reached: {_said(error)}", "check the network")

    def _silent(self, hop: Hop) -> LinkError:
        return LinkError(
            f"{self._name}: no answer from {hop.place} within {self._timeout_s:g} s",
            "is it on and in this network? a slow one may need deadlines = { connect_s = ... } in fleet.toml",
        )

    def _no_ssh(self, hop: Hop, error: Exception) -> LinkError:
        if self.transport.is_active():
            return self._silent(hop)  # start_client returns without a word when its time is over
        if hop.proxy_command is not None:
            return LinkError(
                f"{self._name}: no SSH server answers through ProxyCommand {hop.proxy_command!r}: {_said(error)}",
                "run that command by hand; it must print a line beginning with SSH-2.0",
            )
        return self._hung_up(hop, error)

    def _hung_up(self, hop: Hop, error: Exception) -> LinkError:
        return LinkError(
            f"{self._name}: {hop.place} answers, but not as an SSH server: {_said(error)}",
            "is the port right? sshd also hangs up like this when too many connections wait for a login",
        )


def connect(device: Device, hops: Sequence[Hop], known: KnownHosts, credentials: Credentials) -> Session:
    """Log in to every hop in turn, each only after its host key was found to be trusted.

    Raises:
        LinkError: or one of its kinds, naming the hop.
    """
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(Session(device))
        for hop in hops:
            known.check(session.reach(hop, known.types(hop.known_as)), device.name)
            session.log_in(hop, credentials, is_device=hop is hops[-1])
        stack.pop_all()
        return session


def first_untrusted(
    device: Device, hops: Sequence[Hop], known: KnownHosts, credentials: Credentials
) -> tuple[HostKey, bool]:
    """The first key on the way that nobody has trusted yet, and False; or the device's own key, and True.

    Raises:
        LinkError: a hop cannot be reached, or shows another key than the trusted one.
    """
    with Session(device) as session:
        for hop in hops:
            key = session.reach(hop, known.types(hop.known_as))
            if not known.is_trusted(key):
                return key, False
            if hop is not hops[-1]:
                session.log_in(hop, credentials, is_device=False)
        return key, True


class Cut:
    """Cuts the connection if the block takes longer: where paramiko itself would wait for ever, this wakes it."""

    def __init__(self, close: Callable[[], None], timeout_s: float) -> None:
        self.fired = False
        self._close = close
        self._end_s = time.monotonic() + timeout_s
        self._is_done = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        with self._changed:
            self._is_done = True
            self._changed.notify()
        self._thread.join()

    def postpone(self, timeout_s: float) -> None:
        """Count from now: what the block waits for is under way."""
        with self._changed:
            self._end_s = time.monotonic() + timeout_s
            self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while not self._is_done and (left_s := self._end_s - time.monotonic()) > 0:
                self._changed.wait(left_s)
            self.fired = not self._is_done
        if self.fired:
            self._close()


def _prefer(transport: paramiko.Transport, key_types: Sequence[str]) -> None:
    """Ask for the key types on file first; an RSA key is used through newer signature algorithms (RFC 8332)."""
    wanted = []
    for one in key_types:
        wanted += ["rsa-sha2-512", "rsa-sha2-256"] if one == "ssh-rsa" else [one]
    options = transport.get_security_options()
    offered = list(options.key_types)
    first = [one for one in wanted if one in offered]
    options.key_types = tuple(first + [one for one in offered if one not in first])


def _prefer_fast_ciphers(transport: paramiko.Transport) -> None:
    """Ask for AES-GCM first: no second pass over the data for a MAC (decision 7). Others remain to choose from."""
    options = transport.get_security_options()
    offered = list(options.ciphers)
    first = [one for one in FAST_CIPHERS if one in offered]
    options.ciphers = tuple(first + [one for one in offered if one not in first])


def _keep_quiet(transport: paramiko.Transport) -> None:
    # Paramiko logs tracebacks of errors that it also raises; without a handler Python would print them.
    logger = logging.getLogger(LOG)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    transport.set_log_channel(LOG)


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def _end(proxy: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            if proxy.poll() is None:
                proxy.send_signal(number)
            proxy.wait(timeout=1.0)
            return
