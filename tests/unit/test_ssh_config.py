"""From ~/.ssh/config to hops."""

from __future__ import annotations

import getpass
from pathlib import Path

import pytest

from edgeprof.errors import LinkError
from edgeprof.fleet import Device
from edgeprof.links.ssh_config import Hop, hops_to


def hops(tmp_path: Path, text: str, address: str = "ssh://pi5", identity: str | None = None) -> tuple[Hop, ...]:
    path = tmp_path / "config"
    path.write_text(text)
    return hops_to(Device(name="kitchen", address=address, identity=identity), path)


def test_without_any_configuration_the_address_alone_counts(tmp_path: Path) -> None:
    (hop,) = hops(tmp_path, "")

    assert (hop.user, hop.host, hop.port, hop.known_as) == (getpass.getuser(), "pi5", 22, "pi5")
    assert hop.identities_are_defaults
    assert not hop.identities_only
    assert Path("~/.ssh/known_hosts").expanduser() in hop.known_hosts


def test_the_configuration_fills_in_what_the_address_leaves_open(tmp_path: Path) -> None:
    text = """
    Host pi5
      HostName 10.0.0.7
      User pi
      Port 2222
      IdentityFile /keys/%h
      IdentityFile ~/second
      IdentitiesOnly yes
      UserKnownHostsFile /known/one /known/two
      GlobalKnownHostsFile none
    """

    (hop,) = hops(tmp_path, text)

    assert (hop.user, hop.host, hop.port, hop.known_as) == ("pi", "10.0.0.7", 2222, "[10.0.0.7]:2222")
    assert hop.identities == (Path("/keys/10.0.0.7"), Path("~/second").expanduser())
    assert hop.identities_only
    assert hop.known_hosts == (Path("/known/one"), Path("/known/two"))


def test_the_address_and_the_device_s_identity_come_first(tmp_path: Path) -> None:
    text = "Host *\n  User pi\n  Port 2222\n  IdentityFile /keys/config\n"

    (hop,) = hops(tmp_path, text, "ssh://root@pi5:2200", "/keys/device")

    assert (hop.user, hop.port) == ("root", 2200)
    assert hop.identities == (Path("/keys/device"), Path("/keys/config"))


def test_a_host_key_alias_is_looked_up_as_it_is(tmp_path: Path) -> None:
    (hop,) = hops(tmp_path, "Host *\n  Port 2222\n  HostKeyAlias Shelf\n")

    assert hop.known_as == "shelf"


def test_jumps_are_followed_in_order_each_with_its_own_configuration(tmp_path: Path) -> None:
    text = """
    Host pi5
      ProxyJump gate,ann@second:2022
      User pi
    Host gate
      HostName gate.example
      ProxyJump outer
    Host second
      User nobody
      ProxyJump never
    """

    found = hops(tmp_path, text)

    assert [hop.place for hop in found] == ["outer:22", "gate.example:22", "second:2022", "pi5:22"]
    assert [hop.user for hop in found[2:]] == ["ann", "pi"]


def test_proxy_jump_none_switches_jumps_off(tmp_path: Path) -> None:
    assert len(hops(tmp_path, "Host pi5\n  ProxyJump none\nHost *\n  ProxyJump gate\n")) == 1


def test_a_circle_of_jumps_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="circle"):
        hops(tmp_path, "Host *\n  ProxyJump gate\n")


def test_a_proxy_command_gets_host_and_port_filled_in(tmp_path: Path) -> None:
    (hop,) = hops(tmp_path, "Host pi5\n  ProxyCommand nc -x proxy %h %p\n", "ssh://pi5:2200")

    assert hop.proxy_command == "nc -x proxy pi5 2200"


def test_includes_are_read_and_do_not_change_the_block_around_them(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "one").write_text("Host other\n  Port 9\n")
    (tmp_path / "conf.d" / "two").write_text("Host pi5\n  Port 2200\n")

    (hop,) = hops(tmp_path, "Include conf.d/*\nUser everybody\nHost pi5\n  HostName ten\n")

    assert (hop.user, hop.host, hop.port) == ("everybody", "ten", 2200)


def test_includes_in_a_circle_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="circle"):
        hops(tmp_path, "Include config\n")


@pytest.mark.parametrize("text", ["Host *\n  Port many\n", "Host pi5\n  ProxyJump a:b:c\n", "@@@\n"])
def test_a_configuration_that_makes_no_sense_is_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(LinkError, match="kitchen") as caught:
        hops(tmp_path, text)

    assert "config" in caught.value.advice


def test_a_named_configuration_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="cannot be read"):
        hops_to(Device(name="kitchen", address="ssh://pi5"), tmp_path / "nowhere")
