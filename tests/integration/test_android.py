"""Phones: adb's own client against a stand-in for its server, and a real sshd in the layout of Termux.

No Android is in it. What executes is this machine, what is printed by "benchmark_model" was measured by nobody.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from device_agents import wire
from device_agents.phone import AdbMachine
from edgeprof.doctor import Finding, examine
from edgeprof.errors import JobRefused, LinkError, UsageError
from edgeprof.fleet import Device
from edgeprof.links.adb import AdbLink
from edgeprof.models import read_model
from edgeprof.profiling import OpenDevice, Settings
from edgeprof.run import Run
from edgeprof.verdict import judge
from tests.android.adb_server import AdbServer, StandInPhone
from tests.android.phone import TOOL, make_phone, write_program, write_tool
from tests.integration.command_line import CommandLine
from tests.integration.ordinary_user import USER_ID, sshd_of_ordinary_user
from tests.integration.sshd import Sshd
from tests.odd_tflite import write_tflite_chain

SCHEDULE = wire.Schedule(rounds=3, min_runs=20, min_s=0.0, max_s=2.0, operator_max_s=3.0)
SETTINGS = Settings(schedule=SCHEDULE, gate=wire.Gate(timeout_s=0.0), operators=True)
N_NODES = 3
SOON_S = 10.0

Serve = Callable[..., AdbServer]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Serve]:
    """Has adb's client find these phones, and no others."""
    if shutil.which("adb") is None:
        pytest.skip("adb's client is not installed (package adb)")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with ExitStack() as stack:

        def start(*phones: StandInPhone) -> AdbServer:
            server = stack.enter_context(AdbServer(*phones))
            for name, value in server.environment.items():
                monkeypatch.setenv(name, value)
            return server

        yield start


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tflite_chain(tmp_path / "chain.tflite", N_NODES)


def phone(address: str = "adb:", **changes: str) -> Device:
    return Device(name="phone", address=address, benchmark_model=changes.get("benchmark_model", TOOL))


def profiled(device: Device, model: Path, settings: Settings = SETTINGS) -> Run:
    with OpenDevice(device) as opened:
        return opened.profile(read_model(model), settings)


def running(words: str) -> list[str]:
    """Command lines of processes that say this, zombies apart."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            lines.append(path.read_bytes().replace(b"\0", b" ").decode())
    return [line for line in lines if words in line and "benchmark_model" in line]


def found(device: Device) -> dict[str, Finding]:
    return {finding.what: finding for finding in examine(device)}


# --- adb ---


@pytest.mark.parametrize(("form", "level"), [("old", "node"), ("new", "delegate")])
def test_a_phone_behind_adb_is_profiled_operator_by_operator(
    serve: Serve, tmp_path: Path, model: Path, form: str, level: str
) -> None:
    root = tmp_path / "phone"
    serve(make_phone(root, form=form))

    run = profiled(phone(), model)

    rounds = run.profile.rounds
    assert [len(one.latencies_s) for one in rounds] == [1] * SCHEDULE.rounds
    assert [one.n_runs for one in rounds] == [SCHEDULE.min_runs] * SCHEDULE.rounds
    assert rounds[0].latencies_s[0] == pytest.approx(2000.25e-6)
    assert rounds[0].told is not None
    assert vars(rounds[0].told) == pytest.approx({"min_s": 1920e-6, "max_s": 2120e-6, "std_s": 40e-6})
    assert run.profile.machine.model == "edgeprof Stand-in"
    assert run.profile.machine.libc == "bionic of Android 14"
    assert run.profile.in_force["samples"].startswith("the mean of each round")
    taken = {"old": "asked for: the program does not tell whether it is active", "new": "active: of the whole graph"}
    assert run.profile.in_force["xnnpack"] == taken[form]
    assert rounds[0].before.power_source == "battery Charging at 80 %, USB online"
    assert rounds[0].before.screen == "on, unlocked"
    assert run.profile.operators is not None
    assert "CSV" in run.profile.operators.method
    assert {kernel.level for kernel in run.profile.operators.kernels} == {level}
    assert [operator.nodes for operator in run.operators] == [("ABS_0",), ("LOGISTIC_1",), ("ABS_2",)]
    assert run.output_check_missing == "benchmark_model does not show what a model computes"
    assert sorted(path.name for path in (root / "data/local/tmp").iterdir()) == [
        "benchmark_model",
        "benchmark_model.py",
    ]


@pytest.mark.parametrize("fault", ["no-csv", "silent-csv"])
def test_a_program_without_the_flag_for_csv_is_read_by_its_table(
    serve: Serve, tmp_path: Path, model: Path, fault: str
) -> None:
    serve(make_phone(tmp_path / "phone", form="old", fault=fault))

    run = profiled(phone(), model)

    assert run.profile.operators is not None
    assert run.profile.operators.method.endswith("text")
    assert len(run.operators) == N_NODES


def test_two_phones_without_a_serial_number_are_both_named(serve: Serve, tmp_path: Path) -> None:
    serve(make_phone(tmp_path / "a", "AAA111"), make_phone(tmp_path / "b", "BBB222"))

    with pytest.raises(LinkError, match=r"several phones are on adb: AAA111 \(device\), BBB222 \(device\)") as caught:
        AdbLink(phone()).__enter__()

    assert 'address = "adb:AAA111"' in caught.value.advice


def test_of_two_phones_the_one_in_the_address_is_asked(serve: Serve, tmp_path: Path) -> None:
    first, second = make_phone(tmp_path / "a", "AAA111"), make_phone(tmp_path / "b", "BBB222", level=33)
    serve(first, second)

    with OpenDevice(phone("adb:BBB222")) as opened:
        conditions = opened.any_agent().conditions()

    assert conditions.power_source == "battery Charging at 33 %, USB online"
    assert first.asked == []


@pytest.mark.parametrize(
    ("state", "advice"),
    [("unauthorized", "allow USB debugging"), ("offline", "plug it in again"), ("recovery", "usual")],
)
def test_a_phone_that_adb_may_not_use_is_refused_with_what_to_do(
    serve: Serve, tmp_path: Path, state: str, advice: str
) -> None:
    serve(make_phone(tmp_path / "phone", state=state))

    with pytest.raises(LinkError, match=f"adb says that the phone STANDIN0001 is {state}") as caught:
        AdbLink(phone()).__enter__()

    assert advice in caught.value.advice


def test_without_a_phone_the_error_says_what_adb_lists(serve: Serve, tmp_path: Path) -> None:
    serve(make_phone(tmp_path / "phone"))

    with pytest.raises(LinkError, match=r"no phone XYZ on adb; adb lists: STANDIN0001 \(device\)"):
        AdbLink(phone("adb:XYZ")).__enter__()


def test_without_adb_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(LinkError, match="adb is not installed") as caught:
        AdbLink(phone()).__enter__()

    assert "apt-get install adb" in caught.value.advice


def test_a_locked_phone_and_a_battery_at_3_percent_are_said(serve: Serve, tmp_path: Path, model: Path) -> None:
    serve(make_phone(tmp_path / "phone", level=3, status=3, usb=False, wakefulness="Dozing", locked=True))

    run = profiled(phone(), model)
    notes = " / ".join(judge(run.profile).notes)
    findings = found(phone())

    assert "the phone's screen is off, locked" in notes
    assert "the battery is discharging and at 3%" in notes
    assert any(what.startswith("the phone's screen is off, locked") for what in findings)
    assert any(what.startswith("the battery is discharging and at 3%") for what in findings)


def test_doctor_finds_a_program_that_is_not_there(serve: Serve, tmp_path: Path) -> None:
    serve(make_phone(tmp_path / "phone"))

    findings = found(phone(benchmark_model="/data/local/tmp/elsewhere"))

    what = "benchmark_model: /data/local/tmp/elsewhere is not there, or may not be run"
    assert findings[what].level == "problem"
    assert "chmod +x" in findings[what].advice


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        ("garbage", "unknown-output", "cannot read the line 'Inference timings in seconds: 0.1 0.2'"),
        ("broken", "model-invalid", "Failed to load model"),
    ],
)
def test_a_program_that_does_not_do_it_is_refused_with_its_words(
    serve: Serve, tmp_path: Path, model: Path, fault: str, kind: str, said: str
) -> None:
    serve(make_phone(tmp_path / "phone", fault=fault))

    with pytest.raises(JobRefused) as caught:
        profiled(phone(), model)

    assert caught.value.kind == kind
    assert said in str(caught.value)


def test_a_missing_program_is_refused_with_how_to_name_it(serve: Serve, tmp_path: Path, model: Path) -> None:
    serve(make_phone(tmp_path / "phone"))

    with pytest.raises(JobRefused, match="/data/local/tmp/elsewhere cannot be run on the device") as caught:
        profiled(phone(benchmark_model="/data/local/tmp/elsewhere"), model)

    assert "--benchmark-model PATH" in caught.value.advice


def test_what_a_phone_behind_adb_cannot_run_is_refused_before_it_is_asked(
    serve: Serve, tmp_path: Path, model: Path
) -> None:
    serve(make_phone(tmp_path / "phone"))

    with pytest.raises(UsageError, match="reached by adb, which runs no litert"):
        profiled(phone(), model, Settings(runtime="litert"))
    with pytest.raises(UsageError, match="where benchmark_model is on the device is not known"):
        profiled(Device(name="phone", address="adb:"), model)


def test_the_agent_itself_runs_nothing_on_the_host_in_place_of_the_phone(
    serve: Serve, tmp_path: Path, model: Path
) -> None:
    serve(make_phone(tmp_path / "phone"))

    with OpenDevice(phone()) as opened:
        agent = opened.any_agent()
        job = opened.job("litert", read_model(model), SETTINGS)
        with pytest.raises(JobRefused, match="litert does not run on a phone behind adb"):
            agent.profile(job)


def test_a_program_that_never_ends_is_killed_on_the_phone(serve: Serve, tmp_path: Path) -> None:
    stand_in = make_phone(tmp_path / "phone", fault="hang")
    serve(stand_in)
    machine = AdbMachine(stand_in.serial)
    argv = [TOOL, "--graph=none", "--num_runs=1", "--min_secs=0", "--max_secs=1"]

    with pytest.raises(TimeoutError, match="did not end within 2 s on the phone"):
        machine.run_tool(argv, 2)

    # What was killed may take a moment to be gone.
    until_s = time.monotonic() + SOON_S
    while running(str(tmp_path)) and time.monotonic() < until_s:
        time.sleep(0.02)
    assert not running(str(tmp_path))


def test_a_phone_that_is_unplugged_is_told_as_that(serve: Serve, tmp_path: Path) -> None:
    stand_in = make_phone(tmp_path / "phone")
    serve(stand_in)
    machine = AdbMachine(stand_in.serial)
    machine.read("/proc/stat")
    stand_in.state = "offline"
    stand_in.unplug()

    with pytest.raises(OSError, match="the phone has gone"):
        machine.read("/proc/stat")
    with pytest.raises(OSError, match="device offline"):
        machine.read("/proc/stat")


def test_files_of_a_phone_fail_as_files_do(serve: Serve, tmp_path: Path) -> None:
    stand_in = make_phone(tmp_path / "phone")
    serve(stand_in)
    machine = AdbMachine(stand_in.serial)

    with pytest.raises(FileNotFoundError):
        machine.read("/proc/none")
    with pytest.raises(IsADirectoryError):
        machine.read("/proc/self")
    with pytest.raises(FileNotFoundError):
        machine.run(["no-such-program"])
    with pytest.raises(PermissionError):
        machine.write("/proc/stat", "")
    assert machine.list("/proc/none") == []
    assert machine.run(["echo", "it's", "a $HOME"]) == (0, "it's a $HOME\n")


# --- Termux ---


@pytest.fixture
def termux() -> Iterator[Path]:
    """The folders of Termux, of an ordinary user: a simulation of the layout, and of nothing else."""
    if os.getuid() != 0:
        pytest.skip("needs root: a user with a password, in a mount namespace")
    base = Path(tempfile.mkdtemp(prefix="edgeprof-"))
    files = base / "data/data/com.termux/files"
    for name in ("home", "usr/bin", "usr/tmp"):
        (files / name).mkdir(parents=True)
    battery = {"plugged": "UNPLUGGED", "status": "DISCHARGING", "percentage": 3, "voltage": 3700, "current": -300000}
    write_program(files / "usr/bin/termux-battery-status", f"echo '{json.dumps(battery)}'")
    write_tool(files / "usr/bin/benchmark_model", "new")
    for path in (base, *base.rglob("*")):
        os.chmod(path, 0o755)
        os.chown(path, USER_ID, USER_ID)
    yield files
    shutil.rmtree(base)


@pytest.fixture
def termux_sshd(termux: Path) -> Iterator[Sshd]:
    """Lets an ordinary user in, with Termux' variables; what Android denies to apps is hidden from that user."""
    prefix = termux / "usr"
    environment = (
        f"SetEnv HOME={termux / 'home'} PREFIX={prefix} TMPDIR={prefix / 'tmp'} "
        f"PATH={prefix / 'bin'}:/usr/bin:/bin EDGEPROF_LEASE={termux / 'home'}"
    )
    with sshd_of_ordinary_user((environment,), hidden=("/sys/devices/system/cpu", "/sys/class")) as sshd:
        yield sshd


def termux_device(sshd: Sshd, termux: Path) -> Device:
    return Device(name="termux", address=sshd.address, benchmark_model=str(termux / "usr/bin/benchmark_model"))


@pytest.mark.ssh
def test_benchmark_model_runs_over_ssh_in_the_layout_of_termux(termux: Path, termux_sshd: Sshd, model: Path) -> None:
    device = termux_device(termux_sshd, termux)
    settings = replace(SETTINGS, runtime="benchmark_model")

    with OpenDevice(device, link=termux_sshd.link(device)) as opened:
        run = opened.profile(read_model(model), settings)
        hello = opened.any_agent().hello

    look = run.profile.rounds[0].before
    assert hello.user_id == USER_ID
    assert hello.cache_dir.startswith(str(termux / "home"))
    assert look.power_source == "battery Discharging at 3 %"
    assert look.allowed_cpus is not None
    assert {"governor", "clock", "temperature"} <= look.unreadable.keys()
    assert len(run.operators) == N_NODES
    assert any("the battery is discharging and at 3%" in note for note in judge(run.profile).notes)
    assert list((termux / "usr/tmp").iterdir()) == []


@pytest.mark.ssh
def test_doctor_says_what_termux_may_not_see(termux: Path, termux_sshd: Sshd, tmp_path: Path) -> None:
    device = termux_device(termux_sshd, termux)
    edgeprof = CommandLine(tmp_path, termux_sshd.client_environment())
    edgeprof.run("devices", "add", "termux", device.address, "--benchmark-model", device.benchmark_model or "")

    done = edgeprof.run("devices", "doctor", "termux")

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"benchmark_model: {device.benchmark_model}" in done.stdout
    assert "the battery is discharging and at 3%: below 15% phones save power" in done.stdout
    assert "power: battery Discharging at 3 %" in done.stdout
    assert "governor cannot be read" in done.stdout
