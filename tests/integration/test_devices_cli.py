"""`edgeprof devices` as a person or a script uses it, against a real sshd and on a real pseudo-terminal."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from device_agents.machine import Machine
from device_agents.power import discover
from edgeprof.cli import main
from edgeprof.fleet import Fleet
from tests.integration.ordinary_user import PASSWORD, USER, USER_ID, sshd_of_ordinary_user
from tests.integration.sshd import Sshd, keygen
from tests.integration.terminal import Terminal

WRONG = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


class CommandLine:
    """Runs `edgeprof devices ...` in this process, without a terminal; homes of its own."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home = home
        self.edgeprof_home = home / "edgeprof"
        self.code: int | str | None = None
        self.out = ""
        self.err = ""
        self._capsys = capsys

    def __call__(self, *arguments: str) -> str:
        with pytest.raises(SystemExit) as caught:
            main(["devices", *arguments])
        self.code = caught.value.code
        self.out, self.err = self._capsys.readouterr()
        return self.out

    def terminal(self, *arguments: str) -> Terminal:
        return Terminal("devices", *arguments, environment=os.environ)

    @property
    def fleet(self) -> Fleet:
        return Fleet.read(self.edgeprof_home / "fleet.toml")

    @property
    def trusted(self) -> str:
        file = self.edgeprof_home / "known_hosts"
        return file.read_text() if file.exists() else ""


@pytest.fixture
def edgeprof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    home = tmp_path / "user"
    (home / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("EDGEPROF_HOME", str(home / "edgeprof"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return CommandLine(home, capsys)


# --- the fleet ---


def test_a_device_is_added_listed_shown_and_removed(edgeprof: CommandLine) -> None:
    edgeprof("add", "pi5", "ssh://pi@raspberrypi.local:2222", "--group", "kitchen", "--python", "/usr/bin/python3.11")
    assert edgeprof.code == 0
    assert "edgeprof devices trust pi5" in edgeprof.out

    assert edgeprof("list", "--offline").splitlines()[2].split() == [
        "pi5",
        "ssh://pi@raspberrypi.local:2222",
        "kitchen",
    ]
    shown = edgeprof("show", "pi5")
    assert "pi@raspberrypi.local:2222 (no key on file)" in shown
    assert "/usr/bin/python3.11" in shown

    edgeprof("remove", "pi5")
    assert edgeprof.code == 0
    assert [device.name for device in edgeprof.fleet.devices] == ["local"]


def test_machines_get_json(edgeprof: CommandLine) -> None:
    edgeprof("add", "pi5", "ssh://pi@raspberrypi.local")

    listed: list[dict[str, Any]] = json.loads(edgeprof("list", "--offline", "--json"))
    shown: dict[str, Any] = json.loads(edgeprof("show", "pi5", "--json"))

    assert [device["name"] for device in listed] == ["local", "pi5"]
    assert shown["scheme"] == "ssh"
    assert shown["deadlines"]["silence_s"] == 30.0
    assert shown["hops"] == [{"user": "pi", "host": "raspberrypi.local", "port": 22, "key_on_file": False}]


def test_adding_again_changes_what_was_given_and_keeps_the_rest(edgeprof: CommandLine) -> None:
    edgeprof("add", "pi5", "ssh://pi5", "--group", "kitchen", "--runtime-python", "tflite=/t/python")

    edgeprof("add", "pi5", "ssh://pi5", "--python", "/p", "--runtime-python", "litert=/l/python")

    device = edgeprof.fleet.device("pi5")
    assert (device.python, device.groups) == ("/p", ["kitchen"])
    assert device.pythons == {"tflite": "/t/python", "litert": "/l/python"}


def test_a_name_that_is_taken_by_another_address_is_not_overwritten(edgeprof: CommandLine) -> None:
    edgeprof("add", "pi5", "ssh://one")

    edgeprof("add", "pi5", "ssh://two")

    assert edgeprof.code == 2
    assert "edgeprof devices remove pi5" in edgeprof.err
    assert edgeprof.fleet.device("pi5").host == "one"


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["add", "pi5", "pi@raspberrypi.local"], 1, "ssh://user@host"),
        (["add", "pi5", "ssh://pi:secret@raspberrypi.local"], 1, "passwords are never kept"),
        (["add", "pi5", "ssh://pi5", "--runtime-python", "tflite"], 2, "RUNTIME=PATH"),
        (["add", "pi5", "local:", "--install-key"], 2, "not reached over SSH"),
        (["add", "pi5", "ssh://pi5", "--runtime-python", "tflit=/t/python"], 1, "did you mean tflite?"),
        (["add", "pi5", "sim:nope"], 1, "no board 'nope'"),
        (["add", "local", "ssh://pi5"], 1, "the name 'local' is this machine's"),
        (["show", "pi6"], 1, "no device named 'pi6'"),
        (["remove", "local"], 1, "built in"),
        (["trust", "local"], 2, "nothing to trust"),
    ],
)
def test_a_senseless_request_is_told_and_changes_nothing(
    edgeprof: CommandLine, arguments: list[str], code: int, told: str
) -> None:
    edgeprof(*arguments)

    assert edgeprof.code == code
    assert told in edgeprof.err
    assert "Traceback" not in edgeprof.err
    assert not edgeprof.edgeprof_home.exists()


def test_the_doctor_finds_a_board_that_nobody_knows(edgeprof: CommandLine) -> None:
    edgeprof.edgeprof_home.mkdir()
    (edgeprof.edgeprof_home / "fleet.toml").write_text('[devices.toy]\naddress = "sim:exmple"\n')

    edgeprof("doctor", "toy", "--json")

    assert edgeprof.code == 1
    (finding,) = json.loads(edgeprof.out)["findings"]
    assert (finding["level"], finding["what"]) == ("problem", "no board 'exmple'; did you mean example?")


def test_the_power_meters_of_a_device_are_shown_and_what_their_numbers_mean(edgeprof: CommandLine) -> None:
    edgeprof("add", "virtual", "sim:pi-5")

    assert "hwmon:simulated: boundary soc-rails, W in steps of 0.005 W" in edgeprof("show", "virtual", "--meters")
    (meter,) = json.loads(edgeprof("show", "virtual", "--meters", "--json"))["meters"]
    assert (meter["boundary"], meter["kind"], meter["unusable"]) == ("soc-rails", "power", None)
    assert "power meter hwmon:simulated: boundary soc-rails" in edgeprof("doctor", "virtual")
    assert edgeprof.code == 0


def test_without_being_asked_for_meters_nothing_is_connected(edgeprof: CommandLine) -> None:
    edgeprof("add", "pi5", "ssh://pi@nowhere.invalid")

    assert "meters" not in json.loads(edgeprof("show", "pi5", "--json"))
    assert edgeprof.code == 0


def test_a_real_agent_says_which_meters_this_machine_has(edgeprof: CommandLine) -> None:
    shown = json.loads(edgeprof("show", "local", "--meters", "--json"))

    # Mostly none: few virtual machines have a meter.
    assert [meter["name"] for meter in shown["meters"]] == [info.name for info in discover(Machine())]


def test_the_clusters_of_a_device_are_shown_and_whether_their_clocks_may_be_capped(edgeprof: CommandLine) -> None:
    edgeprof("add", "virtual", "sim:phone-sdm845")

    shown = edgeprof("show", "virtual", "--clusters")
    found = json.loads(edgeprof("show", "virtual", "--clusters", "--json"))["topology"]["clusters"]

    assert [cluster["cpus"] for cluster in found] == [cluster["usable"] for cluster in found]
    assert sorted(cpu for cluster in found for cpu in cluster["cpus"]) == list(range(8))
    for cluster in found:
        first, last = cluster["cpus"][0], cluster["cpus"][-1]
        slowest, fastest = (cluster["policy"]["clocks_hz"][k] / 1e6 for k in (0, -1))
        assert f"CPUs {first}-{last}, " in shown
        assert f"policy{first} at {slowest:.0f} to {fastest:.0f} MHz in " in shown
        assert cluster["policy"]["settable"]
    assert shown.count("may be capped") == len(found) == 2


def test_the_clusters_of_this_machine_are_all_of_its_cpus(edgeprof: CommandLine) -> None:
    found = json.loads(edgeprof("show", "local", "--clusters", "--json"))["topology"]["clusters"]

    assert {cpu for cluster in found for cpu in cluster["usable"]} == os.sched_getaffinity(0)


@pytest.mark.parametrize("command", [[], ["add"], ["list"], ["unlock"], ["show"], ["trust"], ["remove"]])
def test_every_command_has_help_with_an_example(edgeprof: CommandLine, command: list[str]) -> None:
    assert f"edgeprof devices {' '.join(command)}".strip() in edgeprof(*command, "--help")
    assert edgeprof.code == 0
    assert "Example" in edgeprof.out


# --- trust ---


def added(edgeprof: CommandLine, sshd: Sshd) -> None:
    edgeprof("add", "board", f"ssh://{sshd.user}@127.0.0.1:{sshd.port}")
    assert edgeprof.code == 0


@pytest.mark.ssh
def test_the_right_fingerprint_is_trusted_without_a_terminal(edgeprof: CommandLine, sshd: Sshd) -> None:
    added(edgeprof, sshd)

    edgeprof("trust", "board", "--fingerprint", sshd.fingerprint)

    assert edgeprof.code == 0
    assert sshd.fingerprint in edgeprof.out
    assert edgeprof.trusted.startswith(f"[127.0.0.1]:{sshd.port} ssh-ed25519 ")
    assert "(key on file)" in edgeprof("show", "board")


@pytest.mark.ssh
def test_a_wrong_fingerprint_is_not_trusted(edgeprof: CommandLine, sshd: Sshd) -> None:
    added(edgeprof, sshd)

    edgeprof("trust", "board", "--fingerprint", WRONG)

    assert edgeprof.code == 1
    assert sshd.fingerprint in edgeprof.err
    assert edgeprof.trusted == ""


@pytest.mark.ssh
def test_a_wrong_fingerprint_is_told_even_of_a_trusted_host(edgeprof: CommandLine, sshd: Sshd) -> None:
    added(edgeprof, sshd)
    edgeprof("trust", "board", "--yes")
    assert edgeprof.code == 0

    edgeprof("trust", "board", "--fingerprint", WRONG)

    assert edgeprof.code == 1


@pytest.mark.ssh
def test_without_a_terminal_nobody_is_asked_and_nothing_trusted(edgeprof: CommandLine, sshd: Sshd) -> None:
    added(edgeprof, sshd)

    edgeprof("trust", "board")

    assert edgeprof.code == 2
    assert f"edgeprof devices trust board --fingerprint {sshd.fingerprint}" in edgeprof.err
    assert edgeprof.trusted == ""


@pytest.mark.ssh
@pytest.mark.parametrize("answer", ["yes", "the fingerprint"])
def test_a_person_who_agrees_trusts(edgeprof: CommandLine, sshd: Sshd, answer: str) -> None:
    added(edgeprof, sshd)

    with edgeprof.terminal("trust", "board") as terminal:
        terminal.answer("Are they the same?", sshd.fingerprint if answer == "the fingerprint" else answer)
        code = terminal.leave()

    assert code == 0
    assert sshd.fingerprint in terminal.screen
    assert f"[127.0.0.1]:{sshd.port}" in edgeprof.trusted


@pytest.mark.ssh
@pytest.mark.parametrize("answer", ["no", WRONG])
def test_a_person_who_does_not_agree_trusts_nothing(edgeprof: CommandLine, sshd: Sshd, answer: str) -> None:
    added(edgeprof, sshd)

    with edgeprof.terminal("trust", "board") as terminal:
        terminal.answer("Are they the same?", answer)
        code = terminal.leave()

    assert code == 1
    assert "was not trusted" in terminal.screen
    assert edgeprof.trusted == ""


@pytest.mark.ssh
def test_a_changed_key_is_not_trusted_anew_without_deleting_the_old_one(edgeprof: CommandLine, sshd: Sshd) -> None:
    added(edgeprof, sshd)
    edgeprof("trust", "board", "--yes")
    before = edgeprof.trusted
    sshd.new_host_key()

    edgeprof("trust", "board", "--yes")

    assert edgeprof.code == 1
    assert f"delete line 1 of {edgeprof.edgeprof_home / 'known_hosts'}" in edgeprof.err
    assert edgeprof.trusted == before


@pytest.mark.ssh
def test_a_jump_host_is_trusted_before_the_device(edgeprof: CommandLine, make_sshd: Callable[..., Sshd]) -> None:
    gate, board = make_sshd(), make_sshd()
    (edgeprof.home / ".ssh" / "config").write_text(
        f"Host gate\n  HostName 127.0.0.1\n  Port {gate.port}\n  IdentityFile {gate.client_key}\n"
        f"Host board\n  HostName 127.0.0.1\n  Port {board.port}\n  ProxyJump gate\n"
    )
    edgeprof("add", "board", "ssh://board")

    edgeprof("trust", "board", "--fingerprint", board.fingerprint, "--fingerprint", gate.fingerprint)

    assert edgeprof.code == 0
    assert [line.split()[0] for line in edgeprof.trusted.splitlines()] == [
        f"[127.0.0.1]:{gate.port}",
        f"[127.0.0.1]:{board.port}",
    ]


# --- a key instead of a password ---


@pytest.fixture
def password_sshd() -> Iterator[Sshd]:
    options = ("PasswordAuthentication yes", "AuthorizedKeysFile .ssh/authorized_keys", "StrictModes yes")
    with sshd_of_ordinary_user(options) as sshd:
        yield sshd


def install(edgeprof: CommandLine, sshd: Sshd, password: str = PASSWORD) -> tuple[int, str]:
    address = f"ssh://{USER}@127.0.0.1:{sshd.port}"
    with edgeprof.terminal("add", "board", address, "--install-key") as terminal:
        terminal.answer("Are they the same?", "yes")
        terminal.answer(f"password of {USER} on 127.0.0.1", password)
        return terminal.leave(), terminal.screen


@pytest.mark.ssh
def test_a_password_typed_once_lets_a_new_key_in(edgeprof: CommandLine, password_sshd: Sshd) -> None:
    code, screen = install(edgeprof, password_sshd)

    assert code == 0, screen
    identity = edgeprof.edgeprof_home / "id_ed25519"
    authorized = password_sshd.home / ".ssh" / "authorized_keys"
    assert edgeprof.fleet.device("board").identity == str(identity)
    assert identity.stat().st_mode & 0o777 == 0o600
    assert authorized.stat().st_mode & 0o777 == 0o600
    assert authorized.parent.stat().st_mode & 0o777 == 0o700
    assert authorized.stat().st_uid == USER_ID


@pytest.mark.ssh
def test_the_password_is_kept_nowhere(edgeprof: CommandLine, password_sshd: Sshd) -> None:
    _, screen = install(edgeprof, password_sshd)

    assert PASSWORD not in screen
    for path in edgeprof.home.rglob("*"):
        assert path.is_dir() or PASSWORD not in path.read_text()


@pytest.mark.ssh
def test_an_existing_key_is_preferred_and_added_after_those_that_are_there(
    edgeprof: CommandLine, password_sshd: Sshd
) -> None:
    keygen(edgeprof.home / ".ssh" / "id_ed25519")
    mine = (edgeprof.home / ".ssh" / "id_ed25519.pub").read_text().split()[1]
    folder = password_sshd.home / ".ssh"
    folder.mkdir()
    folder.chmod(0o777)  # what StrictModes of sshd refuses
    (folder / "authorized_keys").write_text("ssh-ed25519 somebody-else")
    for path in (folder, folder / "authorized_keys"):
        os.chown(path, USER_ID, USER_ID)

    code, screen = install(edgeprof, password_sshd)

    assert code == 0, screen
    assert edgeprof.fleet.device("board").identity is None
    assert not (edgeprof.edgeprof_home / "id_ed25519").exists()
    lines = (folder / "authorized_keys").read_text().splitlines()
    assert lines == ["ssh-ed25519 somebody-else", f"ssh-ed25519 {mine} edgeprof"]


@pytest.mark.ssh
def test_a_key_that_is_let_in_already_needs_no_password(edgeprof: CommandLine, password_sshd: Sshd) -> None:
    install(edgeprof, password_sshd)

    with edgeprof.terminal("add", "board", f"ssh://{USER}@127.0.0.1:{password_sshd.port}", "--install-key") as terminal:
        code = terminal.leave()

    assert code == 0
    assert "a key of yours is let in already" in terminal.screen
    assert len((password_sshd.home / ".ssh" / "authorized_keys").read_text().splitlines()) == 1


@pytest.mark.ssh
def test_a_wrong_password_is_told_and_no_device_added(edgeprof: CommandLine, password_sshd: Sshd) -> None:
    code, screen = install(edgeprof, password_sshd, "close sesame")

    assert code == 1
    assert f"does not let {USER} in; tried the password" in screen
    assert "Traceback" not in screen
    assert not (password_sshd.home / ".ssh").exists()
    assert [device.name for device in edgeprof.fleet.devices] == ["local"]


@pytest.mark.ssh
def test_a_password_is_never_asked_for_without_a_terminal(edgeprof: CommandLine, sshd: Sshd) -> None:
    edgeprof("add", "board", f"ssh://127.0.0.1:{sshd.port}", "--install-key")

    assert edgeprof.code == 2
    assert "on a terminal only" in edgeprof.err
    assert edgeprof.trusted == ""
    assert not (edgeprof.edgeprof_home / "fleet.toml").exists()
