"""The agent as a user without any privilege, over a real login."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_agents import wire
from edgeprof.agent import Agent
from tests.integration.ordinary_user import USER_ID, sshd_of_ordinary_user
from tests.integration.sshd import Sshd
from tests.integration.test_agent import processes, simulated_job, until

pytestmark = pytest.mark.ssh

# The tests' own Python may lie in a home that is closed to others; this one every Debian has.
SYSTEM_PYTHON = "/usr/bin/python3"


@pytest.fixture
def sshd() -> Iterator[Sshd]:
    if not Path(SYSTEM_PYTHON).exists():
        pytest.skip(f"needs root and {SYSTEM_PYTHON}")
    with sshd_of_ordinary_user() as sshd:
        yield sshd


def test_an_ordinary_user_profiles_and_only_his_own_cache_is_written(sshd: Sshd) -> None:
    with sshd.link() as link, Agent(link, SYSTEM_PYTHON) as agent:
        assert agent.hello.user_id == USER_ID

        profile = agent.profile(simulated_job())
        conditions = agent.conditions()

    assert profile.origin == wire.SIMULATED
    assert conditions.total_s is not None
    # The lease lies in his home because the test's sshd says so; elsewhere all accounts share one.
    assert {path.name for path in sshd.home.iterdir()} == {".cache", "edgeprof.lease"}
    assert {path.stat().st_uid for path in sshd.home.rglob("*")} == {USER_ID}
    cache = sshd.home / ".cache" / "edgeprof"
    assert all(path.stat().st_mode & 0o077 == 0 for path in cache.iterdir() if path.is_dir())


def test_nothing_of_an_ordinary_user_runs_on_after_the_link_was_cut(sshd: Sshd) -> None:
    with sshd.link() as link, Agent(link, SYSTEM_PYTHON):
        assert processes(sshd.home)

        sshd.cut_connections()

        until(lambda: not processes(sshd.home), "the agent has left")


def test_other_users_cannot_read_what_is_uploaded(sshd: Sshd) -> None:
    with sshd.link() as link, Agent(link, SYSTEM_PYTHON) as agent:
        upload = agent.missing([wire.FileRef("x", "a" * 64, 1)]).upload_dir

        assert os.stat(upload).st_mode & 0o077 == 0
