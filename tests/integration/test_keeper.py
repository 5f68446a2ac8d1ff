"""Jobs that outlive their link, and who has the device: over a real sshd, with every process killed that can be."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_agents import wire
from edgeprof.agent import Agent, new_claim
from edgeprof.deadlines import Deadlines
from edgeprof.errors import AgentLost, JobRefused, LinkError, ProtocolError
from tests.integration.command_line import CommandLine
from tests.integration.relay import Relay
from tests.integration.sshd import Sshd, free_port
from tests.integration.test_agent import energy_job, long_job, processes, simulated_job, until, workers

pytestmark = pytest.mark.ssh


@pytest.fixture(autouse=True)
def cache(sshd: Sshd) -> Iterator[Path]:
    """The device's cache; when a test is over, nothing may run there."""
    cache = sshd.home / ".cache" / "edgeprof"
    yield cache
    until(lambda: not processes(cache), "every process on the device is gone")


@contextlib.contextmanager
def agent_of(sshd: Sshd, claim: wire.Claim | None = None, slot: str = "") -> Iterator[Agent]:
    with (
        sshd.link() as link,
        Agent(link, sys.executable, name="pi5", slot=slot, claim=claim or new_claim("a test", 600.0)) as agent,
    ):
        yield agent


def keepers(cache: Path) -> list[int]:
    return [pid for pid in processes(cache) if b"\0keep\0" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def spooled(cache: Path) -> list[str]:
    folder = cache / "spool" / "machine" / "tickets"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def state(agent: Agent, ticket: str) -> str | None:
    return next((t.state for t in agent.tickets().tickets if t.ticket == ticket), None)


def test_a_job_is_measured_by_the_keeper_and_collected(sshd: Sshd, cache: Path) -> None:
    with agent_of(sshd) as agent:
        submitted = agent.submit("one", simulated_job(), "first")
        profile = agent.follow("one", simulated_job())
        again = agent.follow("one", simulated_job())
        listed = agent.tickets()
        agent.discard("one")
        left = agent.tickets()

    assert submitted.state in (wire.WAITING, wire.RUNNING)
    assert profile == again
    assert [(t.ticket, t.state, t.label) for t in listed.tickets] == [("one", wire.DONE, "first")]
    assert left.tickets == ()
    assert left.lease is None
    assert spooled(cache) == []


def test_the_keeper_measures_energy_too(sshd: Sshd, cache: Path) -> None:
    job = energy_job("pi-5")
    with agent_of(sshd) as agent:
        agent.submit("one", job)
        profile = agent.follow("one", job)
        agent.discard("one")

    assert profile.energy is not None
    assert [window.kind for window in profile.energy.windows] == ["idle", "busy", "idle", "busy", "idle"]


def test_a_result_is_collected_by_another_agent_after_the_link_was_cut(
    sshd: Sshd, cache: Path, models_dir: Path
) -> None:
    job = dataclasses.replace(
        simulated_job(), schedule=wire.Schedule(rounds=2, min_s=0.2, max_s=0.5), gate=wire.Gate(timeout_s=0.0)
    )
    claim = new_claim("a test", 600.0)
    with agent_of(sshd, claim) as agent:
        agent.submit("one", job)
        sshd.cut_connections()
        with pytest.raises((AgentLost, LinkError)):
            agent.follow("one", job)

    with agent_of(sshd, claim) as agent:
        profile = agent.follow("one", job)
        agent.discard("one")

    assert profile.job == job
    assert spooled(cache) == []


def test_a_killed_keeper_leaves_an_interrupted_ticket_and_a_free_device(
    sshd: Sshd, cache: Path, models_dir: Path
) -> None:
    with agent_of(sshd) as agent:
        job = long_job(agent, models_dir)
        agent.submit("one", job)
        until(lambda: workers(cache), "a worker runs")

        os.kill(keepers(cache)[0], signal.SIGKILL)

        with pytest.raises(JobRefused) as caught:
            agent.follow("one", job)
        until(lambda: not workers(cache), "the worker is gone")
        assert caught.value.kind == "interrupted"
        assert state(agent, "one") == wire.INTERRUPTED
        assert agent.lease() is None
        agent.discard("one")

    assert spooled(cache) == []
    assert list((cache / "jobs").iterdir()) == []


def test_scratch_that_could_not_be_removed_in_time_goes_with_whoever_made_it(
    sshd: Sshd, cache: Path, models_dir: Path
) -> None:
    with agent_of(sshd) as agent:
        job = long_job(agent, models_dir)
        agent.submit("one", job)
        until(lambda: workers(cache), "a worker runs")
        makers = set(processes(cache)) - set(workers(cache))
        for pid in makers:
            (cache / "jobs" / f"{pid}-left").mkdir()
        agent.discard("one")

    until(lambda: not processes(cache), "every process on the device is gone")
    assert len(makers) == 2, "an agent that serves, and a keeper"
    assert list((cache / "jobs").iterdir()) == []


def test_two_sessions_and_unlock(sshd: Sshd, cache: Path, models_dir: Path) -> None:
    with agent_of(sshd, wire.Claim("ana@lab", "nightly", "s1", 600.0)) as ana, agent_of(sshd) as bob:
        job = long_job(ana, models_dir)
        ana.submit("one", job)
        ana.submit("two", job)

        with pytest.raises(
            JobRefused, match=r"pi5: ana@lab has the device for nightly since .* for \d+ s more"
        ) as caught:
            bob.submit("three", job)
        assert caught.value.kind == "leased"
        assert caught.value.advice.endswith("edgeprof devices unlock pi5")
        with pytest.raises(JobRefused, match="ana@lab"):
            bob.profile(simulated_job())

        thrown_out = bob.unlock()

        assert thrown_out is not None
        assert (thrown_out.owner, thrown_out.purpose) == ("ana@lab", "nightly")
        until(lambda: not workers(cache), "nothing measures")
        assert bob.lease() is None
        assert bob.unlock() is None
        assert {t.state for t in bob.tickets().tickets} == {wire.INTERRUPTED}
        assert bob.profile(simulated_job()).origin == wire.SIMULATED
        for ticket in ("one", "two"):
            bob.discard(ticket)

    assert spooled(cache) == []


def test_a_long_result_on_a_slow_link_is_a_sign_of_life(sshd: Sshd, cache: Path) -> None:
    short = Deadlines(heartbeat_s=0.1, silence_s=3.0)
    # Many kernels: SSH shows nothing of a packet (32 kB) before all of it has come.
    job = simulated_job(work=simulated_job().work * 300)
    with Relay(sshd.port) as relay:
        sshd.trust_port(relay.port)
        with (
            sshd.link(sshd.device(port=relay.port)) as link,
            Agent(link, sys.executable, name="pi5", deadlines=short) as agent,
        ):
            agent.submit("one", job)
            at_once = agent.follow("one", job)
            # The whole of it takes twice as long as the agent may be silent.
            relay.rate_bytes_s = len(json.dumps(dataclasses.asdict(at_once))) / (2 * short.silence_s)
            slowly = agent.follow("one", job)
            relay.rate_bytes_s = None
            agent.discard("one")

    assert slowly == at_once


def test_a_frozen_keeper_is_told_from_a_job_that_takes_long(sshd: Sshd, cache: Path, models_dir: Path) -> None:
    short = Deadlines(heartbeat_s=0.2, silence_s=2.0)
    with sshd.link() as link, Agent(link, sys.executable, name="pi5", deadlines=short) as agent:
        job = long_job(agent, models_dir)
        agent.submit("one", job)
        until(lambda: workers(cache), "a worker runs")
        os.kill(keepers(cache)[0], signal.SIGSTOP)

        with pytest.raises(JobRefused) as caught:
            agent.follow("one", job)

        assert caught.value.kind == "keeper-silent"
        assert "devices unlock pi5" in caught.value.advice
        agent.unlock()
        until(lambda: not workers(cache), "the worker went with its keeper")
        agent.discard("one")


def test_a_frozen_keeper_loses_the_device_when_its_lease_is_over(sshd: Sshd, cache: Path, models_dir: Path) -> None:
    with agent_of(sshd, wire.Claim("ana@lab", "nightly", "s1", 3.0)) as ana, agent_of(sshd) as bob:
        ana.submit("one", long_job(ana, models_dir))
        until(lambda: workers(cache), "a worker runs")
        (keeper,) = keepers(cache)
        os.kill(keeper, signal.SIGSTOP)
        until(lambda: (lease := bob.lease()) is not None and lease.is_expired, "the lease is over")

        assert bob.profile(simulated_job()).origin == wire.SIMULATED

        assert not keepers(cache)
        assert state(bob, "one") == wire.INTERRUPTED
        bob.discard("one")


def test_a_lease_that_ends_before_the_job_ends_the_job(sshd: Sshd, cache: Path, models_dir: Path) -> None:
    with agent_of(sshd, wire.Claim("ana@lab", "nightly", "s1", 1.0)) as agent:
        job = long_job(agent, models_dir)
        agent.submit("one", job)
        with pytest.raises(JobRefused) as caught:
            agent.follow("one", job)
        agent.discard("one")

    assert caught.value.kind == "lease-expired"


def test_the_result_of_another_job_is_refused(sshd: Sshd) -> None:
    with agent_of(sshd) as agent:
        agent.submit("one", simulated_job())
        with pytest.raises(ProtocolError, match="another job"):
            agent.follow("one", simulated_job(seed=7))
        agent.discard("one")


def test_a_killed_serving_agent_costs_nothing(sshd: Sshd, cache: Path, models_dir: Path) -> None:
    claim = new_claim("a test", 600.0)
    with agent_of(sshd, claim) as agent:
        job = long_job(agent, models_dir)
        agent.submit("one", job)
        until(lambda: workers(cache), "a worker runs")
        (serving,) = set(processes(cache)) - set(workers(cache)) - set(keepers(cache))

        os.kill(serving, signal.SIGKILL)

        with pytest.raises((AgentLost, LinkError)):
            agent.follow("one", job)
    with agent_of(sshd, claim) as agent:
        assert state(agent, "one") == wire.RUNNING
        agent.discard("one")
        until(lambda: not workers(cache), "the worker is gone")

    assert spooled(cache) == []


def test_pings_are_answered_while_a_ticket_is_followed(sshd: Sshd, models_dir: Path) -> None:
    deadlines = Deadlines(heartbeat_s=0.05, silence_s=10.0)
    with sshd.link() as link, Agent(link, sys.executable, deadlines=deadlines) as agent:
        job = dataclasses.replace(long_job(agent, models_dir), deadline_s=12.0)
        agent.submit("one", job)

        with pytest.raises(JobRefused, match="took longer"):
            agent.follow("one", job)  # longer than the silence that would be taken for death
        agent.discard("one")


def test_a_damaged_result_is_refused_and_can_be_discarded(sshd: Sshd, cache: Path) -> None:
    with agent_of(sshd) as agent:
        agent.submit("one", simulated_job())
        agent.follow("one", simulated_job())
        outcome = cache / "spool" / "machine" / "tickets" / "one" / "done"
        outcome.write_bytes(outcome.read_bytes()[:-7])
        (cache / "spool" / "machine" / "tickets" / "one" / "order").write_text("garbage")

        with pytest.raises(JobRefused) as caught:
            agent.follow("one", simulated_job())
        assert state(agent, "one") == wire.DONE
        agent.discard("one")

    assert caught.value.kind == "corrupt-result"
    assert spooled(cache) == []


def test_what_is_no_ticket_is_refused(sshd: Sshd) -> None:
    with agent_of(sshd) as agent:
        for ticket in ("../x", ".hidden", "", "a/b", "x" * 121):
            with pytest.raises(JobRefused, match="cannot be a ticket"):
                agent.submit(ticket, simulated_job())
        with pytest.raises(JobRefused) as caught:
            agent.follow("unknown", simulated_job())

    assert caught.value.kind == "no-such-ticket"


def test_release_ends_a_keeper_that_lingers_and_slots_are_devices_of_their_own(sshd: Sshd, cache: Path) -> None:
    with agent_of(sshd) as agent, agent_of(sshd, slot="board") as board:
        for one in (agent, board):
            one.submit("one", simulated_job(), linger_s=300.0)
            one.follow("one", simulated_job())
            assert one.lease() is not None
        assert len(keepers(cache)) == 2

        for one in (agent, board):
            one.release()
            one.discard("one")

        until(lambda: not keepers(cache), "the keepers left")
        assert agent.lease() is None


def test_the_command_line_tells_who_has_a_device_and_throws_them_out(
    sshd: Sshd, cache: Path, models_dir: Path, tmp_path: Path
) -> None:
    edgeprof = CommandLine(tmp_path, sshd.client_environment())
    edgeprof.run("devices", "add", "pi5", sshd.address, "--python", sys.executable)
    edgeprof.run("devices", "add", "gone", f"ssh://127.0.0.1:{free_port()}")
    with agent_of(sshd, wire.Claim("ana@lab", "nightly", "s1", 600.0)) as ana:
        ana.submit("one", long_job(ana, models_dir))
        until(lambda: workers(cache), "a worker runs")

        listed = {one["name"]: one for one in json.loads(edgeprof.run("devices", "list", "--json").stdout)}
        shown = edgeprof.run("devices", "list").stdout
        unlocked = edgeprof.run("devices", "unlock", "pi5")
        again = edgeprof.run("devices", "unlock", "pi5")
        until(lambda: not workers(cache), "nothing measures")
        ana.discard("one")

    assert listed["pi5"]["lease"]["owner"] == "ana@lab"
    assert listed["local"]["lease"] is None
    assert listed["gone"]["lease"] is None
    assert "refuses connections" in listed["gone"]["unreachable"]
    assert "ana@lab for nightly" in shown
    assert unlocked.stdout.startswith("pi5: thrown out: ana@lab for nightly")
    assert (again.returncode, again.stdout) == (0, "pi5: nobody had it\n")


def test_a_full_disk_is_told_at_submit_and_nothing_of_the_job_stays(sshd: Sshd, cache: Path) -> None:
    with agent_of(sshd) as agent, small_disk(cache / "spool"):
        with pytest.raises(JobRefused, match="No space left") as caught:
            agent.submit("one", simulated_job())

        assert caught.value.kind == "no-space"
        assert agent.tickets() == wire.Tickets((), None, agent.hello.boot_id)
        assert spooled(cache) == []


def test_a_restart_of_the_device_is_named(sshd: Sshd, cache: Path, models_dir: Path) -> None:
    with agent_of(sshd) as agent:
        job = long_job(agent, models_dir)
        agent.submit("one", job)
        until(lambda: workers(cache), "a worker runs")
        os.kill(keepers(cache)[0], signal.SIGKILL)
        order = cache / "spool" / "machine" / "tickets" / "one" / "order"
        order.write_text(order.read_text().replace(agent.hello.boot_id or "?", "of another boot"))

        with pytest.raises(JobRefused, match="it restarted"):
            agent.follow("one", job)
        (ticket,) = agent.tickets().tickets
        assert ticket.boot_id != agent.tickets().boot_id
        assert agent.submit("one", job).state == wire.INTERRUPTED
        agent.discard("one")


def test_garbage_in_the_spool_is_neither_believed_nor_in_the_way(sshd: Sshd, cache: Path) -> None:
    tickets = cache / "spool" / "machine" / "tickets"
    (tickets / "odd").mkdir(parents=True)
    (tickets / "odd" / "waiting").write_text("x")
    (tickets / "odd" / "order").write_bytes(b"\xff" * 100)
    (tickets / ".new-left").mkdir()
    (tickets / "a file").write_text("x")
    with agent_of(sshd) as agent:
        agent.submit("one", simulated_job())
        agent.follow("one", simulated_job())

        assert {t.ticket: t.state for t in agent.tickets().tickets} == {"odd": wire.INTERRUPTED, "one": wire.DONE}
        for ticket in ("odd", "one"):
            agent.discard(ticket)

    assert spooled(cache) == ["a file"]


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of 256 kB there: too small for the reserve of an outcome."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs root: a small file system is mounted")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_the_late_result_of_a_keeper_that_lost_the_device_is_thrown_away(
    sshd: Sshd, cache: Path, models_dir: Path
) -> None:
    with agent_of(sshd) as agent:
        job = dataclasses.replace(long_job(agent, models_dir), deadline_s=3.0)
        agent.submit("one", job)
        agent.submit("two", job)
        # As a taker does whom the holder, frozen in the kernel, does not obey.
        lease = sshd.home / "edgeprof.lease"
        lease.with_suffix(".new").write_bytes(lease.read_bytes())
        lease.with_suffix(".new").rename(lease)

        with pytest.raises(JobRefused) as caught:
            agent.follow("one", job)

        assert caught.value.kind == "interrupted"
        assert {t.state for t in agent.tickets().tickets} == {wire.INTERRUPTED}
        for ticket in ("one", "two"):
            agent.discard(ticket)
        assert agent.lease() is None

    assert spooled(cache) == []
