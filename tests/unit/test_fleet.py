"""fleet.toml: what is read, what is refused, and that editing keeps what people wrote."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprof.deadlines import Deadlines
from edgeprof.errors import FleetError
from edgeprof.fleet import ORIGINS, RUNTIMES, Device, Fleet

KITCHEN = """\
# Our shelf
[devices.pi5]
address = "ssh://pi@raspberrypi.local"   # under the window
pythons = { tflite = "/home/pi/tflite/bin/python" }
groups = ["kitchen", "arm"]

[devices.nano]
address = "ssh://nano:2222"
groups = ["arm"]

[devices.virtual]
address = "sim:example"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.toml"
    path.write_text(KITCHEN)
    return path


def test_a_missing_file_is_a_fleet_of_this_machine_alone(tmp_path: Path) -> None:
    fleet = Fleet.read(tmp_path / "fleet.toml")

    assert [device.name for device in fleet.devices] == ["local"]
    assert fleet.device("local").scheme == "local"
    assert fleet.device("local").python == sys.executable
    assert list(tmp_path.iterdir()) == []


def test_devices_are_read_as_written(path: Path) -> None:
    pi5 = Fleet.read(path).device("pi5")

    assert (pi5.scheme, pi5.user, pi5.host, pi5.port, pi5.board) == ("ssh", "pi", "raspberrypi.local", None, None)
    assert pi5.python == "python3"
    assert pi5.pythons == {"tflite": "/home/pi/tflite/bin/python"}


def test_a_simulated_device_names_its_board_and_runs_with_our_python(path: Path) -> None:
    virtual = Fleet.read(path).device("virtual")

    assert (virtual.scheme, virtual.board, virtual.host) == ("sim", "example", None)
    assert virtual.python == sys.executable


def test_the_device_local_may_be_described_in_the_file(path: Path) -> None:
    path.write_text('[devices.local]\naddress = "local:"\npython = "/opt/python"\n')

    assert Fleet.read(path).device("local").python == "/opt/python"


@pytest.mark.parametrize(
    ("address", "user", "host", "port"),
    [
        ("ssh://pi5", None, "pi5", None),
        ("ssh://Pi5/", None, "Pi5", None),
        ("ssh://pi@10.0.0.7:2222", "pi", "10.0.0.7", 2222),
        ("ssh://pi@[fe80::1%eth0]:22", "pi", "fe80::1%eth0", 22),
        ("ssh://EXAMPLE\\pi@host", "EXAMPLE\\pi", "host", None),
    ],
)
def test_an_ssh_address_is_taken_apart(address: str, user: str | None, host: str, port: int | None) -> None:
    device = Device(name="d", address=address)

    assert (device.user, device.host, device.port) == (user, host, port)


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("pi@raspberrypi.local", "does not begin with ssh://"),
        ("raspberrypi.local", "does not begin with ssh://"),
        ("http://pi5", "does not begin with ssh://"),
        ("ssh://", "the host is missing"),
        ("ssh://pi@", "the host is missing"),
        ("ssh://pi:secret@pi5", "passwords are never kept"),
        ("ssh://pi5:0", "no port between"),
        ("ssh://pi5:70000", "no port between"),
        ("ssh://pi5:x", "no port between"),
        ("ssh://pi5/home", "not of the form"),
        ("ssh://-oProxyCommand=evil", "cannot be a host's name"),
        ("ssh://-l@pi5", "cannot be a user's name"),
        ("ssh://pi5;reboot", "cannot be a host's name"),
        ("ssh://$(reboot)@pi5", "cannot be a user's name"),
        ("local:x", "nothing may follow"),
        ("sim:", "must name a board"),
    ],
)
def test_a_senseless_address_is_refused_with_file_and_device(path: Path, address: str, problem: str) -> None:
    path.write_text(f'[devices.pi5]\naddress = "{address}"\n')

    with pytest.raises(FleetError, match=problem) as caught:
        Fleet.read(path)

    assert str(path) in str(caught.value)
    assert "devices.pi5" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told", "advice"),
    [
        ('[devices.pi5]\nadress = "ssh://pi5"\n', "devices.pi5: unknown key 'adress'", "did you mean address?"),
        ('[devices.pi5]\nname = "x"\n', "devices.pi5: unknown key 'name'", "keys are address"),
        ("[device.pi5]\n", "unknown key 'device'", "did you mean devices?"),
        ("[devices.pi5]\ngroups = [1]\n", "devices.pi5: Expected `str`, got `int` - at `groups[0]`", ""),
        ("[devices.pi5]\nconnect_timeout_s = 0\n", "devices.pi5: Expected `float` > 0.0", ""),
        (
            "[devices.pi5]\ndeadlines = { silence = 3 }\n",
            "devices.pi5: deadlines: unknown key 'silence'",
            "did you mean silence_s?",
        ),
        ("[devices.pi5]\ndeadlines = 3\n", "devices.pi5: Expected `object`, got `int` - at `deadlines`", ""),
        ("[devices.pi5]\ndeadlines = { silence_s = 0 }\n", "Expected `float` > 0.0 - at `deadlines.silence_s`", ""),
        ("[devices.pi5]\ndeadlines = { silence_s = -inf }\n", "Expected `float` > 0.0 - at `deadlines.silence_s`", ""),
        ("[devices.pi5]\ndeadlines = { silence_s = inf }\n", "Expected `float` <= 1000000.0 - at `deadlines.sil", ""),
        ("[devices.pi5]\ndeadlines = { silence_s = nan }\n", "at `deadlines.silence_s`", ""),
        ("devices = 3\n", "devices: expected tables", ""),
        ("[devices]\npi5 = 3\n", "devices.pi5: expected a table", ""),
        ('[devices."a b"]\n', "'a b' cannot be a device's name", ""),
        ("[devices.pi5\n", "not valid TOML", "docs/how-to/devices.md"),
        (
            '[devices.pi5]\npythons = { tflit = "/x" }\n',
            "devices.pi5: pythons: unknown runtime 'tflit'",
            "did you mean tflite? runtimes are onnxruntime, litert, tflite",
        ),
        ('[devices.pi5]\norigin = "measured"\n', "devices.pi5: origin 'measured'", 'only be "emulated"'),
        ('[devices.local]\naddress = "ssh://pi5"\n', "devices.local: address 'ssh://pi5'", "another name"),
        ('[devices.local]\naddress = "sim:example"\n', "devices.local: address 'sim:example'", "another name"),
    ],
)
def test_a_slip_is_told_with_file_and_key(path: Path, text: str, told: str, advice: str) -> None:
    path.write_text(text)

    with pytest.raises(FleetError) as caught:
        Fleet.read(path)

    assert str(caught.value).startswith(str(path))
    assert told in str(caught.value)
    assert advice in caught.value.advice


def test_a_file_in_another_encoding_is_told(path: Path) -> None:
    path.write_bytes(b"# caf\xe9\n")

    with pytest.raises(FleetError, match="cannot be read"):
        Fleet.read(path)


def test_an_unknown_device_brings_up_those_that_look_alike(path: Path) -> None:
    with pytest.raises(FleetError, match="no device named 'pi4'") as caught:
        Fleet.read(path).device("pi4")

    assert caught.value.advice == "did you mean pi5?"


def test_an_unknown_device_that_looks_like_none_can_be_added(path: Path) -> None:
    with pytest.raises(FleetError) as caught:
        Fleet.read(path).device("orangutan")

    assert "edgeprof devices add orangutan" in caught.value.advice


def test_a_group_has_its_devices_in_order(path: Path) -> None:
    fleet = Fleet.read(path)

    assert [device.name for device in fleet.group("arm")] == ["pi5", "nano"]
    with pytest.raises(FleetError, match="group 'kichen'") as caught:
        fleet.group("kichen")
    assert caught.value.advice == "did you mean kitchen?"


def test_adding_keeps_comments_and_every_other_line(path: Path) -> None:
    device = Device(name="pixel", address="ssh://u0@phone:8022", groups=["arm"], pythons={"litert": "/p/python"})

    fleet = Fleet.read(path).add(device)

    assert path.read_text().startswith(KITCHEN)
    assert fleet.device("pixel") == device == Fleet.read(path).device("pixel")


def test_changing_a_device_keeps_the_comment_beside_its_other_keys(path: Path) -> None:
    changed = Device(name="pi5", address="ssh://pi@raspberrypi.local", python="/usr/bin/python3.11")

    Fleet.read(path).add(changed)

    assert "# under the window" in path.read_text()
    assert Fleet.read(path).device("pi5").python == "/usr/bin/python3.11"
    assert Fleet.read(path).device("pi5").groups == ["kitchen", "arm"]


def test_removing_takes_only_that_device(path: Path) -> None:
    fleet = Fleet.read(path).remove("nano")

    assert [device.name for device in fleet.devices] == ["local", "pi5", "virtual"]
    assert path.read_text().startswith("# Our shelf")
    with pytest.raises(FleetError, match="no device named 'nano'"):
        fleet.remove("nano")


def test_the_built_in_device_cannot_be_removed(path: Path) -> None:
    with pytest.raises(FleetError, match="built in"):
        Fleet.read(path).remove("local")


def test_a_new_file_is_for_its_owner_alone_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "new" / "fleet.toml"

    Fleet.read(path).add(Device(name="virtual", address="sim:example"))

    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert list(path.parent.iterdir()) == [path]
    assert sys.executable not in path.read_text()


def test_an_existing_file_keeps_its_mode_and_a_link_stays_a_link(path: Path, tmp_path: Path) -> None:
    path.chmod(0o644)
    link = tmp_path / "link.toml"
    link.symlink_to(path)

    Fleet.read(link).add(Device(name="x", address="ssh://x"))

    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o644
    assert Fleet.read(path).device("x").host == "x"


def test_a_senseless_device_is_not_written(path: Path) -> None:
    with pytest.raises(FleetError, match="passwords are never kept"):
        Fleet.read(path).add(Device(name="x", address="ssh://pi:secret@x"))

    assert path.read_text() == KITCHEN


def test_devices_written_as_one_inline_table_can_be_edited(path: Path) -> None:
    path.write_text('devices = { a = { address = "ssh://a" } }\n')

    fleet = Fleet.read(path).add(Device(name="b", address="ssh://b"))

    assert [device.name for device in Fleet.read(path).devices] == ["local", "a", "b"]
    assert fleet.device("b").host == "b"


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@given(
    device=st.builds(
        Device,
        name=NAMES.filter(lambda name: name != "local"),
        address=NAMES.map(lambda name: f"ssh://{name}"),
        python=TEXTS,
        pythons=st.dictionaries(st.sampled_from(RUNTIMES), TEXTS, max_size=2),
        groups=st.lists(TEXTS, max_size=2),
        connect_timeout_s=st.none() | st.floats(min_value=0.1, max_value=1e6),
        deadlines=st.builds(Deadlines, silence_s=st.floats(min_value=0.1, max_value=1e6)),
        origin=st.none() | st.sampled_from(ORIGINS),
        identity=st.none() | TEXTS,
    )
)
def test_what_was_added_is_read_back_equal(tmp_path_factory: pytest.TempPathFactory, device: Device) -> None:
    path = tmp_path_factory.mktemp("fleet") / "fleet.toml"
    path.write_text(KITCHEN.replace("[devices.pi5]", "[devices.a-name-too-long-to-be-drawn]"))

    Fleet.read(path).add(device)

    assert Fleet.read(path).device(device.name) == device


def test_deadlines_are_read_and_the_others_keep_their_values(path: Path) -> None:
    path.write_text("[devices.pi5]\ndeadlines = { connect_s = 5, silence_s = 1.5 }\n")

    device = Fleet.read(path).device("pi5")

    assert device.deadlines == Deadlines(connect_s=5.0, silence_s=1.5)
    assert device.connect_s == 5.0


def test_the_older_name_of_the_connect_deadline_goes_first(path: Path) -> None:
    path.write_text("[devices.pi5]\nconnect_timeout_s = 3\ndeadlines = { connect_s = 5 }\n")

    assert Fleet.read(path).device("pi5").connect_s == 3.0


def test_an_agent_is_asked_several_times_before_it_is_given_up() -> None:
    assert Deadlines().beat_s == 5.0
    assert Deadlines(silence_s=3.0).beat_s == 1.0
