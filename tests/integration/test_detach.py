"""Jobs that a device does alone over a real sshd: handed over and left, collected by this host or another."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from edgeprof.models.example import write_example
from edgeprof.store import Store
from tests.integration.command_line import CommandLine
from tests.integration.sshd import Sshd
from tests.integration.test_campaign import QUICK, wait_for

pytestmark = [pytest.mark.ssh, pytest.mark.slow]


def host(folder: Path, sshd: Sshd) -> CommandLine:
    """A host of its own, with its store and its fleet.toml, that knows the device."""
    folder.mkdir()
    write_example(folder / "a.onnx")
    typed = CommandLine(folder, sshd.client_environment())
    added = typed.run("devices", "add", "board", sshd.address, "--python", sys.executable)
    assert added.returncode == 0, added.stderr
    return typed


def tickets(sshd: Sshd) -> list[Path]:
    return list((sshd.home / ".cache" / "edgeprof" / "spool" / "machine" / "tickets").glob("*"))


def runs_of(typed: CommandLine) -> list[str]:
    with Store(typed.folder / "edgeprof" / "store.sqlite") as store:
        return [row.id for row in store.list()]


def test_a_detached_profile_is_collected_by_the_host_that_asked(tmp_path: Path, sshd: Sshd) -> None:
    typed = host(tmp_path / "one", sshd)

    left = typed.run("profile", "a.onnx", "-d", "board", "--operators", *QUICK, "--detach")
    assert left.returncode == 0, left.stderr
    assert "edgeprof campaign resume c" in left.stderr
    wait_for(lambda: any((ticket / "done").exists() for ticket in tickets(sshd)))
    done = typed.run("campaign", "resume")

    assert done.returncode == 0, done.stderr
    (run_id,) = runs_of(typed)
    with Store(typed.folder / "edgeprof" / "store.sqlite") as store:
        run = store.get(run_id)
    assert run.structure is not None
    assert run.structure.n_failures == 0
    assert run.output_check is not None
    assert not tickets(sshd)


def test_another_host_collects_what_it_did_not_ask_for(tmp_path: Path, sshd: Sshd) -> None:
    one, other = host(tmp_path / "one", sshd), host(tmp_path / "other", sshd)
    one.run("profile", "a.onnx", "-d", "board", "--operators", *QUICK, "--detach")
    wait_for(lambda: any((ticket / "done").exists() for ticket in tickets(sshd)))

    ours = one.run("runs", "collect", "-d", "board")
    without = other.run("runs", "collect", "-d", "board")
    first = other.run("runs", "collect", "-d", "board", "--model", "a.onnx")
    again = other.run("runs", "collect", "-d", "board", "--model", "a.onnx", "--discard")
    empty = other.run("runs", "collect", "-d", "board")

    assert "edgeprof campaign resume c" in ours.stdout
    assert without.returncode == 1
    assert "add --model FILE" in without.stderr
    assert first.returncode == 0, first.stderr
    assert "was there already" in again.stdout
    assert empty.stdout == "board: nothing waits there\n"
    (run_id,) = runs_of(other)
    with Store(other.folder / "edgeprof" / "store.sqlite") as store:
        structure = store.get(run_id).structure
    assert structure is not None
    assert structure.n_failures == 0
    assert not tickets(sshd)


@pytest.mark.parametrize(
    ("option", "said"),
    [(("--json", "-"), "--json"), (("--no-store",), "--no-store"), (("--require", "trusted"), "--require")],
)
def test_what_needs_the_result_at_once_is_refused(
    tmp_path: Path, sshd: Sshd, option: tuple[str, ...], said: str
) -> None:
    done = host(tmp_path / "one", sshd).run("profile", "a.onnx", "-d", "board", "--detach", *option)

    assert done.returncode == 2
    assert f"--detach and {said} exclude each other" in done.stderr


def test_whoever_finds_a_device_held_is_told_by_whom_and_may_wait(tmp_path: Path, sshd: Sshd) -> None:
    one, other = host(tmp_path / "one", sshd), host(tmp_path / "other", sshd)
    # Long enough for two more hosts to come, however busy this machine is.
    rounds = ("--rounds", "2", "--min-runs", "1", "--min-time", "12", "--max-time", "15", "--gate-timeout", "0")
    one.run("profile", "a.onnx", "-d", "board", *rounds, "--detach")

    refused = other.run("profile", "a.onnx", "-d", "board", *QUICK)
    waited = other.run("profile", "a.onnx", "-d", "board", *QUICK, "--wait", "100")

    assert refused.returncode == 1
    assert "@" in refused.stderr
    assert "campaign c" in refused.stderr
    assert "devices unlock" in refused.stderr
    assert waited.returncode == 0, waited.stderr
    assert "edgeprof: waiting: board: " in waited.stderr


def test_the_link_is_closed_while_a_job_takes_every_cpu(tmp_path: Path, sshd: Sshd) -> None:
    typed = host(tmp_path / "one", sshd)
    threads = str(os.cpu_count())
    rounds = ("--rounds", "2", "--min-runs", "1", "--min-time", "6", "--gate-timeout", "0")

    profile = typed.start("profile", "a.onnx", "-d", "board", "--threads", threads, *rounds)
    wait_for(lambda: any((ticket / "running").exists() for ticket in tickets(sshd)) and not sshd.connections())
    out, err = profile.communicate(timeout=120)

    assert profile.returncode == 0, err
    assert "kept as run" in out
    assert not tickets(sshd)
