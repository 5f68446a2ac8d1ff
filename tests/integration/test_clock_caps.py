"""Caps of clocks by the real agent and keeper on this machine, whose kernel may manage no clocks at all.

What they do to clocks is shown on a folder (tests/unit/test_clock_caps.py) and on a real cpufreq (tests/boards).
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_agents import wire
from edgeprof.agent import Agent, new_claim
from edgeprof.errors import JobRefused
from edgeprof.links.local import LocalLink
from edgeprof.models import read_model
from edgeprof.models.example import write_example
from edgeprof.models.simulated import board_to_simulate
from tests.integration.test_agent import processes, simulated_job, until

NOWHERE = (wire.ClockCap("policy4000", 1e9),)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The device's cache; when a test is over, nothing may run there and no record may be left."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cache = tmp_path / "cache" / "edgeprof"
    yield cache
    until(lambda: not processes(cache), "every process on the device is gone")
    assert not list(cache.glob("clocks/*"))


@pytest.fixture
def agent() -> Iterator[Agent]:
    with LocalLink() as link, Agent(link, sys.executable, name="here", claim=new_claim("a test", 600.0)) as agent:
        yield agent


def real_job(agent: Agent, folder: Path) -> wire.Job:
    write_example(folder / "example.onnx")
    model = read_model(folder / "example.onnx")
    agent.push(model.to_send())
    gate = wire.Gate(timeout_s=0.0)
    schedule = wire.Schedule(rounds=1, min_runs=1, min_s=0.0)
    return wire.Job(model.ref(), "onnxruntime", gate=gate, schedule=schedule, clock_caps=NOWHERE)


def leave_record(cache: Path) -> None:
    """What an agent that was killed with its guard has left, in a boot that is over."""
    folder = cache / "clocks"
    folder.mkdir(parents=True)
    change = '{"policy": "policy0", "before_khz": 1800000, "limit_khz": 1000000, "found_khz": 1000000}'
    (folder / "0123456789abcdef").write_text('{"boot_id": "long ago", "changes": [' + change + "]}")


def test_a_clock_that_is_not_there_is_refused_and_the_agent_lives_on(agent: Agent, tmp_path: Path) -> None:
    job = real_job(agent, tmp_path)

    with pytest.raises(JobRefused, match="there is no clock policy 'policy4000' on this device") as refused:
        agent.profile(job)

    assert refused.value.kind == "bad-option"
    assert refused.value.advice
    assert agent.lease() is None
    profile = agent.profile(dataclasses.replace(job, clock_caps=()))
    assert "clock_caps" not in profile.in_force


def test_the_keeper_refuses_it_too(agent: Agent, tmp_path: Path) -> None:
    job = real_job(agent, tmp_path)
    agent.submit("one", job)

    with pytest.raises(JobRefused, match="there is no clock policy 'policy4000'") as refused:
        agent.follow("one", job)
    agent.discard("one")

    assert refused.value.kind == "bad-option"


def test_outputs_are_not_timed_and_need_no_clock(agent: Agent, tmp_path: Path) -> None:
    outputs = agent.outputs(real_job(agent, tmp_path))

    assert all(values.data for values in outputs.values)


def test_a_simulated_board_caps_its_own_clock_and_this_machines_is_left_alone(agent: Agent) -> None:
    free = agent.profile(simulated_job())
    topology = agent.topology(board_to_simulate("example"))
    slowest_hz = topology.policies[0].clocks_hz[0]
    capped = agent.profile(simulated_job(clock_caps=(wire.ClockCap(topology.policies[0].name, slowest_hz),)))

    assert min(capped.rounds[0].latencies_s) > max(free.rounds[0].latencies_s)
    assert capped.rounds[0].before.clocks[0].current_hz == slowest_hz


def test_an_agent_clears_up_what_another_boot_has_left(cache: Path) -> None:
    leave_record(cache)

    with LocalLink() as link, Agent(link, sys.executable, name="here"):
        left = list(cache.glob("clocks/*"))

    assert left == []


def test_the_cpus_of_this_machine_are_told(agent: Agent) -> None:
    topology = agent.topology()

    assert {cpu.number for cpu in topology.cpus if cpu.usable} == os.sched_getaffinity(0)
    assert len(topology.cpus) >= agent.hello.machine.n_cpus
