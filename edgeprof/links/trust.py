"""First contact: fetch the host keys on the way to a device, so that a person can decide about them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeprof import places
from edgeprof.fleet import Device
from edgeprof.links.host_keys import HostKey, KnownHosts
from edgeprof.links.ssh_config import Hop, hops_to
from edgeprof.links.ssh_keys import Keys
from edgeprof.links.ssh_session import first_untrusted

__all__ = ["FirstContact", "Offered"]


@dataclass(frozen=True, kw_only=True)
class Offered:
    """A host key as it was shown, and whether it is trusted already."""

    key: HostKey
    is_trusted: bool


class FirstContact:
    """The way to a device before all of it is trusted. A jump host's key comes before the device's own."""

    def __init__(self, device: Device, *, config_path: Path | None = None, own_known_hosts: Path | None = None) -> None:
        self._device = device
        self.hops: tuple[Hop, ...] = hops_to(device, config_path)
        others = dict.fromkeys(path for hop in self.hops for path in hop.known_hosts)
        self._known = KnownHosts(own_known_hosts or places.known_hosts_file(), others)

    def is_on_file(self, hop: Hop) -> bool:
        """Whether any key is on file for that hop; nothing is connected."""
        return bool(self._known.types(hop.known_as))

    def ask(self) -> Offered:
        """The first key that is not trusted yet, or, where all are, the device's own.

        Raises:
            ChangedHostKey: a hop shows another key than the trusted one.
            LinkError: a hop cannot be reached.
        """
        key, is_trusted = first_untrusted(self._device, self.hops, self._known, Keys())
        return Offered(key=key, is_trusted=is_trusted)

    def trust(self, key: HostKey) -> None:
        """Keep that key in edgeprof's own file."""
        self._known.trust(key)
