"""known_hosts, against files that OpenSSH's own ssh-keygen wrote."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from edgeprof.errors import ChangedHostKey, UnknownHostKey
from edgeprof.links.host_keys import HostKey, KnownHosts

# Made for this test by `ssh-keygen -t ed25519`; fingerprint by `ssh-keygen -l`, hashed line by `ssh-keygen -H`.
BASE64 = "AAAAC3NzaC1lZDI1NTE5AAAAIDQCNp4k1pt/U7oNu69X71XkQ3ZW4w1gsi1tQ1gRSrSV"
BLOB = base64.b64decode(BASE64)
FINGERPRINT = "SHA256:pYkaM1vF36J7NnQbXWMxz2+dW8ZUY8IaJd96jDlNFzo"
HASHED = f"|1|KfD12FcesRWg0gRgWEkZ7aSoJCo=|ayggjQGuK04sJ8bN/8f6c2ZWSEM= ssh-ed25519 {BASE64}"


def key(host: str, blob: bytes = BLOB, type: str = "ssh-ed25519") -> HostKey:
    return HostKey(host=host, type=type, blob=blob)


def known(tmp_path: Path, *lines: str) -> KnownHosts:
    file = tmp_path / "known_hosts"
    file.write_text("".join(f"{line}\n" for line in lines))
    return KnownHosts(tmp_path / "own", [file])


def test_the_fingerprint_is_openssh_s() -> None:
    assert key("pi5").fingerprint == FINGERPRINT


@pytest.mark.parametrize(
    ("names", "host", "trusted"),
    [
        ("pi5", "pi5", True),
        ("PI5", "pi5", True),
        ("pi4,pi5", "pi5", True),
        ("pi4", "pi5", False),
        ("[pi5]:2222", "[pi5]:2222", True),
        ("pi5", "[pi5]:2222", False),
        ("*.lab", "pi5.lab", True),
        ("pi?", "pi5", True),
        ("*.lab,!bad.lab", "bad.lab", False),
        ("*.lab,!bad.lab", "good.lab", True),
        ("[pi5]:*", "[pi5]:2222", True),
    ],
)
def test_a_line_counts_for_the_hosts_it_names(tmp_path: Path, names: str, host: str, trusted: bool) -> None:
    hosts = known(tmp_path, f"{names} ssh-ed25519 {BASE64} a comment")

    assert hosts.is_trusted(key(host)) is trusted


def test_a_hashed_name_is_recognized(tmp_path: Path) -> None:
    hosts = known(tmp_path, HASHED)

    assert hosts.is_trusted(key("pi5.local"))
    assert not hosts.is_trusted(key("pi6.local"))


def test_damaged_lines_comments_and_certificate_authorities_are_passed_over(tmp_path: Path) -> None:
    hosts = known(
        tmp_path, "# pi5", "", "pi5", "pi5 ssh-ed25519 !!!", "|1|x pi5 y", f"@cert-authority * ssh-ed25519 {BASE64}"
    )

    assert not hosts.is_trusted(key("pi5"))


def test_an_unknown_key_is_an_error_that_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(UnknownHostKey, match="is not trusted yet") as caught:
        known(tmp_path).check(key("pi5"), "kitchen")

    assert FINGERPRINT in str(caught.value)
    assert "edgeprof devices trust kitchen" in caught.value.advice
    assert caught.value.fingerprint == FINGERPRINT


def test_a_changed_key_is_told_with_both_fingerprints_and_the_old_one_s_place(tmp_path: Path) -> None:
    hosts = known(tmp_path, "# first line", f"pi5 ssh-ed25519 {BASE64}")
    other = key("pi5", b"another key")

    with pytest.raises(ChangedHostKey) as caught:
        hosts.check(other, "kitchen")

    assert FINGERPRINT in str(caught.value)
    assert other.fingerprint in str(caught.value)
    assert f"{tmp_path / 'known_hosts'}, line 2" in str(caught.value)


def test_a_key_of_another_type_does_not_count_as_unknown(tmp_path: Path) -> None:
    hosts = known(tmp_path, f"pi5 ssh-ed25519 {BASE64}")

    with pytest.raises(ChangedHostKey):
        hosts.is_trusted(key("pi5", b"another key", "ssh-rsa"))
    assert hosts.types("pi5") == ("ssh-ed25519",)


def test_a_revoked_key_is_refused_although_another_line_trusts_it(tmp_path: Path) -> None:
    hosts = known(tmp_path, f"pi5 ssh-ed25519 {BASE64}", f"@revoked * ssh-ed25519 {BASE64}")

    with pytest.raises(ChangedHostKey, match="revoked"):
        hosts.is_trusted(key("pi5"))


def test_trusting_writes_only_our_own_file(tmp_path: Path) -> None:
    hosts = known(tmp_path)

    hosts.trust(key("[pi5]:2222"))

    assert hosts.is_trusted(key("[pi5]:2222"))
    assert (tmp_path / "own").read_text() == f"[pi5]:2222 ssh-ed25519 {BASE64}\n"
    assert (tmp_path / "own").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "known_hosts").read_text() == ""
    assert KnownHosts(tmp_path / "own").is_trusted(key("[pi5]:2222"))
