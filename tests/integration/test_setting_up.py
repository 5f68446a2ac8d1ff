"""Runtimes onto a device and off it again, over a real sshd. Faults are played with a wheel made on the spot."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from device_agents.wire import Progress
from edgeprof.errors import AgentError, EdgeprofError, NoPython, NoSpace, TransferError
from edgeprof.fleet import Device, Fleet
from edgeprof.links import Link
from edgeprof.setting_up import Setting
from tests.integration.command_line import CommandLine
from tests.integration.ordinary_user import sshd_of_ordinary_user
from tests.integration.sshd import Sshd
from tests.integration.stand_in_python import ODD_USER_LANDS, stand_in
from tests.integration.test_agent import old_python

pytestmark = pytest.mark.ssh

PAYLOAD = os.urandom(300_000)  # more than one write to the disk, and it does not shrink


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all pip knows, with a wheel by the name of onnxruntime that cannot be imported."""
    folder = tmp_path / "index"
    folder.mkdir()
    make_wheel(folder / "onnxruntime-9.9-py3-none-any.whl")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def make_wheel(path: Path, extra: dict[str, bytes] | None = None) -> None:
    """The least that pip takes for a wheel (PyPA: binary distribution format)."""
    name, version, *_ = path.stem.split("-")
    info = f"{name}-{version}.dist-info"
    content = {
        f"{name}/__init__.py": b"raise ImportError('made for a test')\n",
        f"{name}/payload.bin": PAYLOAD,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
        **(extra or {}),
    }
    with zipfile.ZipFile(path, "w") as file:
        for member, data in content.items():
            file.writestr(member, data)


class Bench:
    """A device behind sshd, set up in this process."""

    def __init__(self, sshd: Sshd, folder: Path, python: str = sys.executable) -> None:
        self.sshd = sshd
        self.folder = folder
        self.runtimes = sshd.home / ".cache" / "edgeprof" / "runtimes"
        self.device = Device(name="board", address=sshd.address, python=python)
        self.fleet = Fleet.read(folder / "fleet.toml").add(self.device)

    def setting(self, link: Link) -> Setting:
        return Setting(self.fleet, self.device, link, self.folder / "wheels")

    def install(self, link: Link, on_progress: Callable[[Progress], None] | None = None) -> None:
        setting = self.setting(link)
        setting.install(setting.plan("onnxruntime"), on_progress)

    def environments(self) -> list[Path]:
        return list(self.runtimes.iterdir()) if self.runtimes.exists() else []


@pytest.fixture
def bench(sshd: Sshd, tmp_path: Path, index: Path) -> Bench:
    return Bench(sshd, tmp_path)


def is_whole(environment: Path) -> bool:
    (payload,) = environment.glob("lib/python3*/site-packages/onnxruntime/payload.bin")
    return payload.read_bytes() == PAYLOAD


class Garbling:
    """A link on which every file's first byte becomes another, `times` times."""

    def __init__(self, link: Link, times: int) -> None:
        self._link = link
        self.times = times

    def put(self, source: Path | bytes, target: str, timeout_s: float, **options: Any) -> int:
        data = source if isinstance(source, bytes) else source.read_bytes()
        if self.times:
            self.times -= 1
            data = bytes([data[0] ^ 1]) + data[1:]
        return self._link.put(data, target, timeout_s, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)


# --- the ordinary way ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_runtimes_are_brought_tried_named_left_alone_the_second_time_and_removed(sshd: Sshd, tmp_path: Path) -> None:
    edgeprof = CommandLine(tmp_path, sshd.client_environment())
    (sshd.home / "notes.txt").write_text("the owner's\n")
    runtimes = sshd.home / ".cache" / "edgeprof" / "runtimes"
    for name in ("tflite-2.13-replaced", "tflite-2.12-somebody-s"):
        (runtimes / name / "bin").mkdir(parents=True)
    (runtimes.parent / "made-parent").touch()
    old = f"tflite={runtimes / 'tflite-2.13-replaced' / 'bin' / 'python'}"
    edgeprof.run("devices", "add", "board", sshd.address, "--python", sys.executable, "--runtime-python", old)

    first = edgeprof.run("devices", "setup", "board", "--runtime", "litert,tflite")

    assert first.returncode == 0, first.stderr
    assert first.stdout.count("is ready: a tiny model gave the right answer") == 2
    pythons = Fleet.read(tmp_path / "edgeprof" / "fleet.toml").device("board").pythons
    assert pythons.keys() == {"litert", "tflite"}
    assert all(Path(python).is_relative_to(sshd.home) and Path(python).exists() for python in pythons.values())
    assert list((runtimes.parent / "uploads").iterdir()) == []
    assert not (runtimes / "tflite-2.13-replaced").exists()
    assert (runtimes / "tflite-2.12-somebody-s").exists()

    again = edgeprof.run("devices", "setup", "board", "--runtime", "litert", "--runtime", "tflite")

    assert again.returncode == 0, again.stderr
    assert again.stdout.count("its environment is there already") == 2
    assert Fleet.read(tmp_path / "edgeprof" / "fleet.toml").device("board").pythons == pythons

    Path(pythons["tflite"]).unlink()
    doctor = edgeprof.run("devices", "doctor", "board")

    assert "make it anew: edgeprof devices setup board --runtime" in doctor.stdout + doctor.stderr

    shutil.rmtree(next(Path(pythons["litert"]).parents[1].glob("lib/*/site-packages/ai_edge_litert")))
    mended = edgeprof.run("devices", "setup", "board", "--runtime", "litert,tflite")

    assert mended.returncode == 0, mended.stderr
    assert mended.stdout.count("is ready: a tiny model gave the right answer") == 2

    cleaned = edgeprof.run("devices", "clean", "board")

    assert cleaned.returncode == 0, cleaned.stderr
    assert [path.name for path in sshd.home.iterdir()] == ["notes.txt"]
    assert Fleet.read(tmp_path / "edgeprof" / "fleet.toml").device("board").pythons == {}


def test_a_dry_run_tells_sizes_and_changes_nothing_there(sshd: Sshd, tmp_path: Path, index: Path) -> None:
    edgeprof = CommandLine(tmp_path, sshd.client_environment())
    edgeprof.run("devices", "add", "board", sshd.address, "--python", sys.executable)

    done = edgeprof.run("devices", "setup", "board", "--runtime", "onnxruntime", "--dry-run")

    assert done.returncode == 0, done.stderr
    assert "onnxruntime 9.9 would take 1 wheels, 0.3 MB to send" in done.stdout
    assert "onnxruntime-9.9-py3-none-any.whl" in done.stdout
    assert list(sshd.home.iterdir()) == []


def test_what_the_tiny_model_does_not_run_on_is_told_and_removed(sshd: Sshd, tmp_path: Path, index: Path) -> None:
    edgeprof = CommandLine(tmp_path, sshd.client_environment())
    edgeprof.run("devices", "add", "board", sshd.address, "--python", sys.executable)

    done = edgeprof.run("devices", "setup", "board", "--runtime", "onnxruntime")

    assert done.returncode == 1
    assert "made for a test" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((sshd.home / ".cache" / "edgeprof" / "runtimes").iterdir()) == []
    assert Fleet.read(tmp_path / "edgeprof" / "fleet.toml").device("board").pythons == {}


def test_one_runtime_that_cannot_be_had_does_not_stop_the_others(sshd: Sshd, tmp_path: Path, index: Path) -> None:
    edgeprof = CommandLine(tmp_path, sshd.client_environment())
    edgeprof.run("devices", "add", "board", sshd.address, "--python", sys.executable)

    done = edgeprof.run("devices", "setup", "board", "--runtime", "litert,onnxruntime", "--dry-run")

    assert done.returncode == 3
    assert "no wheel of ai-edge-litert" in done.stderr
    assert "onnxruntime 9.9 would take" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("board", "--runtime", "tensorrt"), "runtimes are onnxruntime, litert, tflite"),
        (("board", "--runtime", ","), "no runtime is named"),
        (("toy", "--runtime", "litert"), "simulates a board"),
        (("local", "--runtime", "litert"), "pip install 'edgeprof[litert]'"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: tuple[str, ...], words: str, sshd: Sshd, tmp_path: Path) -> None:
    edgeprof = CommandLine(tmp_path, sshd.client_environment())
    edgeprof.run("devices", "add", "board", sshd.address)
    edgeprof.run("devices", "add", "toy", "sim:pi-4")

    done = edgeprof.run("devices", "setup", *arguments)

    assert done.returncode == 2
    assert words in done.stderr


# --- what goes wrong on the way ------------------------------------------------------------------------------------


def test_a_wheel_that_arrived_corrupt_is_sent_again(bench: Bench) -> None:
    with bench.sshd.link(bench.device) as link:
        bench.install(Garbling(link, times=1))

    (environment,) = bench.environments()
    assert is_whole(environment)


def test_a_wheel_that_arrives_corrupt_twice_is_an_error_and_leaves_nothing(bench: Bench) -> None:
    with (
        bench.sshd.link(bench.device) as link,
        pytest.raises(TransferError, match=r"arrived corrupt, twice: onnxruntime-9.9-py3-none-any.whl"),
    ):
        bench.install(Garbling(link, times=2))

    assert bench.environments() == []
    assert list((bench.runtimes.parent / "uploads").iterdir()) == []


def test_a_set_up_that_was_cut_off_is_taken_up_where_it_stopped(bench: Bench) -> None:
    def cut(_: Progress) -> None:
        bench.sshd.cut_connections()

    with bench.sshd.link(bench.device) as link, pytest.raises(EdgeprofError):
        bench.install(link, cut)
    assert bench.environments() == []

    with bench.sshd.link(bench.device) as link:
        bench.install(link)

    (environment,) = bench.environments()
    assert is_whole(environment)


def test_half_an_environment_is_never_used_and_is_removed(bench: Bench) -> None:
    half = bench.runtimes / ".new-99999999-x"
    (half / "bin").mkdir(parents=True)
    with bench.sshd.link(bench.device) as link:
        setting = bench.setting(link)
        step = setting.plan("onnxruntime")
        # What a power cut may leave of an upload: the beginning of something else.
        uploads = bench.runtimes.parent / "uploads"
        uploads.mkdir()
        (uploads / step.wheels[0].sha256).write_bytes(b"x" * 1000)

        assert not step.is_there
        setting.install(step)

    (environment,) = bench.environments()
    assert environment.name == step.name
    assert is_whole(environment)


def test_a_file_too_large_for_the_disk_is_told_as_a_full_disk_and_leaves_no_environment(
    sshd: Sshd, tmp_path: Path, index: Path
) -> None:
    # The limit on the size of a file stands for a full disk; the upload itself goes through sshd, which has none.
    small = tmp_path / "small-python"
    small.write_text(f'#!/bin/sh\nulimit -f 200\nexec {sys.executable} "$@"\n')
    small.chmod(0o755)
    bench = Bench(sshd, tmp_path, str(small))

    with sshd.link(bench.device) as link, pytest.raises(NoSpace, match="File too large"):
        bench.install(link)

    assert bench.environments() == []


def test_a_disk_with_too_little_room_is_told_before_anything_is_sent(sshd: Sshd, tmp_path: Path, index: Path) -> None:
    with zipfile.ZipFile(index / "onnxruntime-9.9-py3-none-any.whl", "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("onnxruntime/zeros.bin", bytes(50_000_000))
    bench = Bench(sshd, tmp_path, stand_in(tmp_path, {**ODD_USER_LANDS["armv7l"], "free_bytes": 60_000_000}))

    with sshd.link(bench.device) as link, pytest.raises(NoSpace, match=r"needs 81 MB .* 60 MB are free"):
        bench.install(link)

    assert list(sshd.home.iterdir()) == []


def test_a_read_only_home_is_told_before_anything_is_tried(tmp_path: Path, make_sshd: Callable[..., Sshd]) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root: a home that is mounted read-only")
    read_only = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    prefix = ("unshare", "--mount", "--propagation", "private", "sh", "-c", read_only, str(tmp_path / "sshd0" / "home"))
    sshd = make_sshd(prefix=prefix)
    bench = Bench(sshd, tmp_path)

    with sshd.link(bench.device) as link, pytest.raises(AgentError, match="mounted read-only") as refused:
        bench.setting(link)

    assert "remount,rw" in refused.value.advice


def test_a_home_that_the_user_may_not_write_is_told(tmp_path: Path) -> None:
    with sshd_of_ordinary_user() as sshd:
        sshd.home.chmod(0o500)
        bench = Bench(sshd, tmp_path, "/usr/bin/python3")

        with sshd.link(bench.device) as link, pytest.raises(AgentError, match="this user may not write in"):
            bench.setting(link)


def test_a_device_without_python_is_told(sshd: Sshd, tmp_path: Path) -> None:
    bench = Bench(sshd, tmp_path, "/nowhere/python3")

    with sshd.link(bench.device) as link, pytest.raises(NoPython, match="no Python under the name"):
        bench.setting(link)


def test_a_python_that_is_too_old_is_told(sshd: Sshd, tmp_path: Path) -> None:
    bench = Bench(sshd, tmp_path, old_python("3.8"))

    with sshd.link(bench.device) as link, pytest.raises(NoPython, match=r"is Python 3.8"):
        bench.setting(link)


@pytest.mark.parametrize(
    ("user_land", "runtime", "says", "way_out"),
    [
        ("musl", "litert", "no wheel of ai-edge-litert for Python 3.11.2, aarch64, musl 1.2", "glibc (Debian"),
        ("armv7l", "tflite", "no wheel of tflite-runtime==2.14.0 for Python 3.11.2, armv7l", "64-bit image"),
        ("32 bits on 64", "litert", "32-bit user land on a 64-bit kernel, aarch64", "the kernel is 64-bit already"),
        ("too new", "tflite", "for Python 3.99.0", "take litert, its successor"),
    ],
)
def test_what_no_wheel_fits_is_said_with_the_nearest_way_out(
    user_land: str, runtime: str, says: str, way_out: str, sshd: Sshd, tmp_path: Path, index: Path
) -> None:
    edgeprof = CommandLine(tmp_path, sshd.client_environment())
    python = stand_in(tmp_path, ODD_USER_LANDS[user_land])
    edgeprof.run("devices", "add", "board", sshd.address, "--python", python)

    done = edgeprof.run("devices", "setup", "board", "--runtime", runtime)

    assert done.returncode == 1
    assert says in done.stderr
    assert way_out in done.stderr


def test_a_wheel_that_points_outside_its_environment_is_refused(bench: Bench, index: Path) -> None:
    make_wheel(index / "onnxruntime-9.9-py3-none-any.whl", {"../../../../escaped.py": b""})

    with bench.sshd.link(bench.device) as link, pytest.raises(AgentError, match="points outside the environment"):
        bench.install(link)

    assert bench.environments() == []
    assert list(bench.sshd.home.rglob("escaped.py")) == []


def test_what_a_wheel_needs_on_the_device_alone_is_fetched_too(bench: Bench, index: Path) -> None:
    older = f"3.{sys.version_info.minor - 1}"
    metadata = (
        f"Metadata-Version: 2.1\nName: onnxruntime\nVersion: 9.9\nRequires-Dist: extra; python_version<='{older}'\n"
    )
    make_wheel(index / "onnxruntime-9.9-py3-none-any.whl", {"onnxruntime-9.9.dist-info/METADATA": metadata.encode()})
    make_wheel(index / "extra-1.0-py3-none-any.whl")
    device = Device(
        name="board", address=bench.sshd.address,
        python=stand_in(bench.folder, {**ODD_USER_LANDS["armv7l"], "python": [3, sys.version_info.minor - 1, 0]}),
    )  # fmt: skip

    with bench.sshd.link(device) as link:
        step = Setting(bench.fleet, device, link, bench.folder / "wheels").plan("onnxruntime")

    assert [wheel.name for wheel in step.wheels] == ["onnxruntime", "extra"]


def test_wheels_damaged_on_this_machine_are_fetched_again(bench: Bench) -> None:
    with bench.sshd.link(bench.device) as link:
        setting = bench.setting(link)
        before = setting.plan("onnxruntime").wheels[0]
        before.path.write_bytes(b"damaged")

        after = setting.plan("onnxruntime").wheels[0]

    assert after.sha256 == before.sha256 == hashlib.sha256(after.path.read_bytes()).hexdigest()
