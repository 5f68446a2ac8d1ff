"""The real agent, through the local link: what it answers, and that nothing of it is left behind."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from device_agents import wire
from edgeprof.agent import Agent, new_claim
from edgeprof.deadlines import Deadlines
from edgeprof.errors import AgentLost, JobRefused, LinkError, NoPython, NoSpace
from edgeprof.fleet import Device
from edgeprof.launch import PROBE
from edgeprof.links.local import LocalLink
from edgeprof.models.example import write_example
from edgeprof.models.simulated import board_to_simulate
from edgeprof.packing import pack_agent
from edgeprof.profiling import OpenDevice, Settings

SOON_S = 20.0


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The device's cache, in a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "edgeprof"


@pytest.fixture
def agent() -> Iterator[Agent]:
    with LocalLink() as link, Agent(link, sys.executable, name="here") as agent:
        yield agent


def processes(folder: Path) -> list[int]:
    """Every process that runs an agent kept somewhere below a folder, workers included."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
                is_zombie = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
            except OSError:
                continue
            is_ours = os.fsencode(folder) in command and b".pyz" in command
            found += [int(entry.name)] if is_ours and not is_zombie else []
    return found


def workers(folder: Path) -> list[int]:
    return [pid for pid in processes(folder) if Path(f"/proc/{pid}/cmdline").read_bytes().endswith(b"\0worker\0")]


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for something that must come; its deadline is generous because machines are busy."""
    end = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < end, f"not within {SOON_S} s: {what}"
        time.sleep(0.05)


def simulated_job(**changes: object) -> wire.Job:
    job = wire.Job(
        model=wire.ModelRef("toy", "onnx", "0" * 64, ()),
        runtime="simulated",
        operators=True,
        board=board_to_simulate("example"),
        work=(wire.Work("conv", "Conv", 10_000_000, 1_000_000), wire.Work("relu", "Relu", 0, 2_000_000)),
    )
    return dataclasses.replace(job, **changes)  # type: ignore[arg-type]


def long_job(agent: Agent, models_dir: Path) -> wire.Job:
    """A real job that takes minutes, its model on the device."""
    from edgeprof.models import read_model

    model = read_model(next(models_dir.rglob("nmp.onnx")))
    agent.push(model.files)
    schedule = wire.Schedule(rounds=5, min_s=60.0, max_s=60.0)
    return wire.Job(model=model.ref(), runtime="onnxruntime", schedule=schedule, gate=wire.Gate(timeout_s=0.0))


def test_hello_describes_agent_machine_and_runtimes(agent: Agent, cache: Path) -> None:
    hello = agent.hello

    assert hello.agent_digest == pack_agent().digest
    assert hello.machine.n_cpus >= 1
    assert {r.name for r in hello.runtimes} == {"onnxruntime", "litert", "tflite", "benchmark_model", "simulated"}
    assert hello.cache_dir == str(cache)


def test_many_hosts_may_come_for_the_first_time_at_once(cache: Path) -> None:
    waiting = "import sys; sys.stdin.read(1)\n" + PROBE
    for _ in range(2):
        shutil.rmtree(cache, ignore_errors=True)
        probes = [
            subprocess.Popen(
                [sys.executable, "-c", waiting, "0" * 64], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(8)
        ]
        time.sleep(0.5)  # all of them wait at the same line then
        for probe in probes:
            assert probe.stdin is not None
            probe.stdin.write("g")
            probe.stdin.flush()

        said = [probe.communicate()[0] for probe in probes]

        assert all('"error": null' in one for one in said), said


def test_a_runtime_keeps_nothing_of_its_own_on_the_device(tmp_path: Path, cache: Path) -> None:
    """ONNX Runtime 1.32 writes a database of events and an id below the user's cache."""
    from edgeprof.models import read_model

    write_example(tmp_path / "example.onnx")
    settings = Settings(schedule=wire.Schedule(rounds=1, min_runs=1, min_s=0.0), gate=wire.Gate(timeout_s=0.0))
    with OpenDevice(Device(name="here", python=sys.executable)) as opened:
        opened.profile(read_model(tmp_path / "example.onnx"), settings)

    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["edgeprof"]
    assert not [path for path in (cache / "jobs").iterdir()]


def test_the_agent_is_kept_under_its_digest_and_pushed_once(cache: Path) -> None:
    with LocalLink() as link:
        with Agent(link, sys.executable) as first:
            pass
        with Agent(link, sys.executable) as second:
            pass

    assert "push agent" in first.stages_s
    assert "push agent" not in second.stages_s
    assert [p.name for p in (cache / "agents").iterdir()] == [f"{pack_agent().digest}.pyz"]


def test_a_damaged_agent_on_the_device_is_replaced(cache: Path) -> None:
    path = cache / "agents" / f"{pack_agent().digest}.pyz"
    with LocalLink() as link:
        with Agent(link, sys.executable):
            pass
        path.write_bytes(path.read_bytes()[:-100])
        with Agent(link, sys.executable) as agent:
            assert "push agent" in agent.stages_s

    assert path.read_bytes() == pack_agent().data


def test_a_simulated_job_gives_a_profile_of_simulated_origin(agent: Agent) -> None:
    profile = agent.profile(simulated_job())

    assert profile.origin == wire.SIMULATED
    assert len(profile.rounds) == 5
    assert profile.operators is not None
    assert [k.name for k in profile.operators.kernels] == ["conv", "relu"]


def energy_job(board: str) -> wire.Job:
    """Two windows, at a board's sensor; in the board's own time."""
    plan = wire.EnergyPlan(windows=2, window_s=2.0, idle_s=1.0, max_window_s=2.0, observer_windows=0)
    return simulated_job(board=board_to_simulate(board), energy=plan)


def test_energy_is_measured_alone_or_as_the_last_pass_of_a_profile(agent: Agent) -> None:
    alone = agent.energy(energy_job("pi-5"))
    profile = agent.profile(energy_job("pi-5"))

    assert alone.origin == wire.SIMULATED
    assert profile.energy == alone.energy  # a session of its own, on a board of its own: the same seed, the same trace
    assert profile.energy_missing is None
    assert [window.kind for window in alone.energy.windows] == ["idle", "busy", "idle", "busy", "idle"]
    assert alone.energy.trace is not None
    assert alone.energy.trace.meter.boundary == wire.SOC_RAILS
    assert "energy pass" in profile.stages_s


def test_a_board_without_a_meter_keeps_its_latency_and_says_why_there_is_no_energy(agent: Agent) -> None:
    profile = agent.profile(energy_job("pi-4"))

    assert profile.rounds
    assert profile.energy is None
    assert "no power meter" in (profile.energy_missing or "")
    with pytest.raises(JobRefused) as refusal:
        agent.energy(energy_job("pi-4"))
    assert refusal.value.kind == "no-meter"


def test_meters_are_listed_and_clocks_are_told(agent: Agent) -> None:
    first, second = agent.clocks(), agent.clocks()

    assert all(meter.boundary in wire.BOUNDARIES for meter in agent.meters())
    assert first.at_s < second.at_s
    assert first.boot_s is not None
    assert first.wall_s is not None


def test_garbage_is_refused_and_the_agent_lives_on(agent: Agent) -> None:
    process = agent._running()
    for garbage in (b"\n", b"{}\n", b"\xff\x00\n", b'{"id": 1, "request": "profile", "body": {}}\n'):
        process.write(garbage, 5.0)
        assert b'"refused"' in (process.read_line(SOON_S, 10_000) or b"")

    assert agent.conditions().total_s is not None


def test_an_endless_line_ends_the_agent(agent: Agent, cache: Path) -> None:
    with pytest.raises(LinkError):
        agent._running().write(b"x" * 2 * wire.MAX_REQUEST_BYTES, 20.0)

    until(lambda: not processes(cache), "the agent ended")


def test_an_unknown_runtime_is_refused_by_name(agent: Agent) -> None:
    with pytest.raises(JobRefused, match="unknown runtime 'abacus'") as caught:
        agent.profile(simulated_job(runtime="abacus"))

    assert caught.value.kind == "runtime-missing"
    assert agent.profile(simulated_job(operators=False)).operators is None


def test_a_killed_worker_is_an_answer_and_the_next_job_runs(agent: Agent, models_dir: Path, cache: Path) -> None:
    job = long_job(agent, models_dir)

    def kill() -> None:
        until(lambda: workers(cache), "a worker runs")
        os.kill(workers(cache)[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(JobRefused, match="killed") as caught:
        agent.profile(job)
    killer.join()

    assert caught.value.kind == "killed"
    assert agent.profile(simulated_job()).origin == wire.SIMULATED
    assert list((cache / "jobs").iterdir()) == []


def test_a_job_beyond_its_deadline_is_ended_for_sure(agent: Agent, models_dir: Path, cache: Path) -> None:
    job = dataclasses.replace(long_job(agent, models_dir), deadline_s=1.0)

    with pytest.raises(JobRefused, match="took longer than 1 s") as caught:
        agent.profile(job)

    assert caught.value.kind == "deadline"
    assert workers(cache) == []
    assert list((cache / "jobs").iterdir()) == []


def test_a_host_that_leaves_in_mid_job_leaves_no_process_and_no_file(models_dir: Path, cache: Path) -> None:
    with LocalLink() as link, Agent(link, sys.executable) as agent:
        agent._send("profile", wire.Measure(long_job(agent, models_dir), new_claim("a test", 600.0)))
        until(lambda: workers(cache), "a worker runs")

    until(lambda: not processes(cache), "agent and worker are gone")
    assert list((cache / "jobs").iterdir()) == []


def test_a_worker_does_not_outlive_a_killed_agent(models_dir: Path, cache: Path) -> None:
    with LocalLink() as link, Agent(link, sys.executable) as agent:
        agent._send("profile", wire.Measure(long_job(agent, models_dir), new_claim("a test", 600.0)))
        until(lambda: workers(cache), "a worker runs")
        (pid,) = set(processes(cache)) - set(workers(cache))

        os.kill(pid, signal.SIGKILL)

        until(lambda: not workers(cache), "the worker is gone")
        with pytest.raises(AgentLost, match="the agent is gone"):
            agent.conditions()


def test_a_frozen_agent_is_noticed_by_its_silence(cache: Path) -> None:
    deadlines = Deadlines(heartbeat_s=0.1, silence_s=1.0)
    with LocalLink() as link, Agent(link, sys.executable, name="pi5", deadlines=deadlines) as agent:
        (pid,) = processes(cache)
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(AgentLost, match="pi5: no answer"):
                agent.conditions()
        finally:
            os.kill(pid, signal.SIGCONT)


def test_pings_are_answered_while_a_job_runs(models_dir: Path) -> None:
    deadlines = Deadlines(heartbeat_s=0.05, silence_s=10.0)
    with LocalLink() as link, Agent(link, sys.executable, deadlines=deadlines) as agent:
        job = dataclasses.replace(long_job(agent, models_dir), deadline_s=12.0)

        with pytest.raises(JobRefused, match="took longer"):
            agent.profile(job)  # longer than the silence that would be taken for death


def test_native_noise_on_standard_output_does_not_reach_the_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, threading, time\n"
        "def shout():\n"
        "    while True:\n"
        "        time.sleep(0.02)\n"
        "        os.write(1, b'noise from native code\\n')\n"
        "os.write(1, b'Welcome to this board\\n')\n"
        "import sys\n"
        "if not sys.argv[0] == '-c': threading.Thread(target=shout, daemon=True).start()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    with LocalLink() as link, Agent(link, sys.executable) as agent:
        assert agent.profile(simulated_job()).origin == wire.SIMULATED


def test_a_model_that_changed_on_the_device_s_disk_gives_no_number_and_is_sent_anew(
    agent: Agent, cache: Path, models_dir: Path
) -> None:
    quick = wire.Schedule(rounds=1, min_runs=1, min_s=0.0, max_s=0.1)
    job = dataclasses.replace(long_job(agent, models_dir), schedule=quick)
    (file,) = job.model.files
    path = cache / "models" / file.sha256
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    with pytest.raises(JobRefused) as caught:
        agent.profile(job)

    assert caught.value.kind == "corrupt-model"
    assert agent.missing([file]).missing == (file.sha256,)
    long_job(agent, models_dir)
    assert agent.profile(job).job == job


def test_a_corrupt_upload_is_refused_and_removed(agent: Agent) -> None:
    ref = wire.FileRef("model.onnx", "a" * 64, 4)
    wanted = agent.missing([ref])
    upload = f"{wanted.upload_dir}/half"
    Path(upload).write_bytes(b"oops")

    with pytest.raises(JobRefused, match=r"model.onnx: arrived with SHA-256 .*, expected a{64}") as caught:
        agent._ask("adopt", wire.Adopt(upload, ref), "adopted")

    assert caught.value.kind == "corrupt-upload"
    assert not Path(upload).exists()


@pytest.mark.parametrize("name", ["../escape.onnx", "/etc/passwd", ".."])
def test_a_file_name_that_leaves_the_models_folder_is_refused(agent: Agent, name: str, models_dir: Path) -> None:
    from edgeprof.models import read_model

    model = read_model(next(models_dir.rglob("silero_vad_16k_op15.onnx")), shapes={"input": (1, 576)})
    agent.push(model.files)
    ref = dataclasses.replace(model.ref(), files=(dataclasses.replace(model.ref().files[0], name=name),))

    with pytest.raises(JobRefused, match="outside the model's folder"):
        agent.profile(wire.Job(model=ref, runtime="onnxruntime"))


def test_an_upload_outside_the_upload_folder_is_refused_and_left_alone(agent: Agent, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep me")

    with pytest.raises(JobRefused, match="is not an upload"):
        agent._ask("adopt", wire.Adopt(str(precious), wire.FileRef("x", "a" * 64, 7)), "adopted")

    assert precious.read_text() == "keep me"


def test_a_device_without_python_is_told_apart() -> None:
    with LocalLink() as link, pytest.raises(Exception, match="python-that-is-not-there"):
        Agent(link, "python-that-is-not-there").__enter__()


def old_python(version: str) -> str:
    """A Python of this version, or skip; looked for on the PATH and where pyenv keeps them."""
    pyenv = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python"))
    for candidate in [shutil.which(f"python{version}"), *map(str, pyenv)]:
        if candidate and subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0:
            return candidate
    pytest.skip(f"no Python {version} on this machine")


def test_python_3_8_is_refused_with_its_version() -> None:
    with LocalLink() as link, pytest.raises(NoPython, match=r"is Python 3\.8\.\d+, the agent needs 3\.9"):
        Agent(link, old_python("3.8")).__enter__()


def test_the_agent_runs_on_python_3_9() -> None:
    with LocalLink() as link, Agent(link, old_python("3.9")) as agent:
        profile = agent.profile(simulated_job())

    assert profile.python.startswith("3.9.")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB, mounted as the device's cache."""
    target = tmp_path / "cache"
    target.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(target)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a small file system")
    yield target
    subprocess.run(["umount", "-l", str(target)], check=True)


def test_a_full_disk_is_named_before_anything_is_sent(small_disk: Path, models_dir: Path) -> None:
    from edgeprof.models import read_model

    model = read_model(next(models_dir.rglob("face_landmark.tflite")))
    with (
        LocalLink() as link,
        Agent(link, sys.executable, name="pi5") as agent,
        pytest.raises(NoSpace, match=r"pi5: the model needs \d+ bytes, \d+ are free"),
    ):
        agent.push(model.files)

    assert list((small_disk / "edgeprof" / "uploads").iterdir()) == []


def test_models_unused_for_longest_make_room_for_new_ones(small_disk: Path) -> None:
    with LocalLink() as link, Agent(link, sys.executable) as agent:
        models = small_disk / "edgeprof" / "models"
        agent.missing([])
        (models / ("b" * 64)).write_bytes(b"x" * 120_000)

        wanted = agent.missing([wire.FileRef("new", "c" * 64, 130_000)])

        assert wanted.free_bytes >= 130_000
        assert list(models.iterdir()) == []


def test_a_disk_too_full_for_the_agent_is_an_error_that_says_so(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(b"x" * 250_000)

    with LocalLink() as link, pytest.raises(NoSpace, match="free in"):
        Agent(link, sys.executable).__enter__()


def test_an_agent_that_has_left_is_started_again_for_the_next_model() -> None:
    with OpenDevice(Device(name="here", python=sys.executable)) as device:
        first = device.agent("simulated")
        first.close()

        second = device.agent("simulated")

        assert second is not first
        assert second.profile(simulated_job()).origin == wire.SIMULATED


def test_scratch_folders_of_dead_agents_are_removed_by_the_next_one(cache: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = cache / "jobs" / f"{dead.pid}-left"
    ours = cache / "jobs" / f"{os.getpid()}-ours"
    for folder in (left, ours):
        folder.mkdir(parents=True)

    with LocalLink() as link, Agent(link, sys.executable):
        assert not left.exists()
        assert ours.exists()


def test_an_unexpected_failure_is_a_refusal_and_the_agent_lives_on(agent: Agent, cache: Path) -> None:
    (cache / "models").parent.mkdir(exist_ok=True)
    (cache / "models").write_text("a file where a folder must be")

    with pytest.raises(JobRefused):
        agent.missing([wire.FileRef("x", "a" * 64, 1)])

    assert agent.is_alive()
