"""Everything off a device again, and what is not removed unasked."""

from __future__ import annotations

import fcntl
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgeprof.errors import AgentError
from edgeprof.fleet import Device, Fleet
from edgeprof.links.local import LocalLink
from edgeprof.setting_up import Cleaned, clean
from edgeprof.setting_up.there import There
from tests.integration.command_line import CommandLine


@dataclass(frozen=True)
class Here:
    """This machine as the device, with a home of the test: what is cleaned there is cleaned by the same program."""

    folder: Path
    device: Device
    fleet: Fleet

    def prepare(self) -> None:
        with LocalLink() as link:
            There(link, self.device).prepare()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    home = tmp_path / "home"
    home.mkdir()
    for name in ("XDG_CACHE_HOME", "EDGEPROF_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("EDGEPROF_LEASE", str(home))
    yield Here(home, Device(name="local", python=sys.executable), Fleet.read(tmp_path / "fleet.toml"))
    shutil.rmtree(home)


def cleaned(here: Here, **options: bool) -> Cleaned:
    with LocalLink() as link:
        return clean(here.fleet, here.device, link, **options)


def test_a_device_that_has_nothing_of_ours_is_left_alone(here: Here) -> None:
    (here.folder / ".cache").mkdir()

    assert cleaned(here).bytes == 0
    assert list(here.folder.iterdir()) == [here.folder / ".cache"]


@pytest.mark.parametrize("was_there", [True, False])
def test_a_folder_that_was_there_before_stays_even_if_it_is_empty(here: Here, was_there: bool) -> None:
    if was_there:
        (here.folder / ".cache").mkdir()
    here.prepare()

    cleaned(here)

    assert (here.folder / ".cache").exists() is was_there


def test_others_things_in_a_folder_that_we_made_stay(here: Here) -> None:
    here.prepare()
    (here.folder / ".cache" / "theirs").write_text("kept")

    cleaned(here)

    assert [path.name for path in (here.folder / ".cache").iterdir()] == ["theirs"]


def test_a_device_that_somebody_has_is_not_cleaned(here: Here) -> None:
    ours = here.folder / ".cache" / "edgeprof"
    ours.mkdir(parents=True)
    lease = here.folder / "edgeprof.lease"
    lease.write_text(json.dumps({"owner": "ann@desk"}))
    with lease.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        with pytest.raises(AgentError, match="ann@desk has the device"):
            cleaned(here, force=True)
    assert ours.exists()

    cleaned(here)

    assert not lease.exists()
    assert not ours.exists()


def test_results_that_nobody_has_fetched_are_not_thrown_away_unasked(here: Here) -> None:
    ticket = here.folder / ".cache" / "edgeprof" / "spool" / "machine" / "tickets" / "t1"
    ticket.mkdir(parents=True)

    with pytest.raises(AgentError, match="1 jobs or results are waiting") as refused:
        cleaned(here)
    assert "runs collect" in refused.value.advice
    assert cleaned(here, dry_run=True, force=True).tickets == 1
    assert ticket.exists()

    cleaned(here, force=True)

    assert not ticket.exists()


def test_clocks_that_are_not_put_back_yet_keep_their_record(here: Here) -> None:
    record = here.folder / ".cache" / "edgeprof" / "clocks" / "abc"
    record.parent.mkdir(parents=True)
    record.write_text("{}")

    with pytest.raises(AgentError, match="record of clocks"):
        cleaned(here, force=True)

    assert record.exists()


def test_a_simulated_device_has_nothing_to_clean_of_its_own(tmp_path: Path) -> None:
    edgeprof = CommandLine(tmp_path)
    edgeprof.run("devices", "add", "toy", "sim:pi-4")

    done = edgeprof.run("devices", "clean", "toy")

    assert done.returncode == 2
    assert "devices clean local" in done.stderr


def test_a_phone_behind_adb_keeps_nothing_of_ours_between_jobs(tmp_path: Path) -> None:
    edgeprof = CommandLine(tmp_path)
    assert edgeprof.run("devices", "add", "phone", "adb:R58", "--benchmark-model", "/data/local/tmp/b").returncode == 0

    done = edgeprof.run("devices", "clean", "phone")

    assert done.returncode == 2
    assert "keeps nothing on the phone" in done.stderr
    assert "devices clean local" in done.stderr
