"""From a bare device that has no network to its first profile, and back to how it was found.

The device is emulated (Debian 12 for arm64 under qemu-user, without a runtime, without venv or ensurepip); its times
prove plumbing, never performance.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.command_line import CommandLine
from tests.lab import arm64
from tests.lab.arm64 import Arm64Device

pytestmark = [pytest.mark.ssh, pytest.mark.slow, pytest.mark.timeout(1200)]

QUICK = ("--rounds", "1", "--min-runs", "1", "--min-time", "0", "--gate-timeout", "0", "--operator-runs", "1")
# Everything on the device's own file system and in the user's home, but for the times of folders, which any removal
# changes; what is not a file of the disk (proc, sys, dev) is left out.
SNAPSHOT = (
    "find", "/", "{home}", "-xdev", "(", "-type", "d", "-printf", "%p d %m %U\\n", ")",
    "-o", "-printf", "%p %y %m %U %s %T@ %l\\n",
)  # fmt: skip
REACH_OUT = (
    "import socket\ntry: socket.create_connection(('192.0.2.1', 80), 2)\nexcept OSError as e: print('reached', e)"
)


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arm64Device]:
    reason = arm64.why_not()
    if reason:
        pytest.skip(reason)
    try:
        rootfs = arm64.rootfs("bare")
    except arm64.NoPackages as error:
        pytest.skip(str(error))
    with Arm64Device(tmp_path_factory.mktemp("bare") / "device", rootfs, only_link=True) as device:
        yield device


def said(device: Arm64Device, *argv: str) -> list[str]:
    """What a program prints over there."""
    with device.link(device.device()) as link:
        process = link.start(list(argv))
        try:
            return [line.decode() for line in iter(lambda: process.read_line(120.0, 1_000_000), None)]
        finally:
            process.close()


def snapshot(device: Arm64Device) -> list[str]:
    return sorted(said(device, *(part.format(home=device.home) for part in SNAPSHOT)))


def test_a_device_without_network_is_set_up_profiled_and_left_as_it_was_found(
    device: Arm64Device, tmp_path: Path, models_dir: Path
) -> None:
    edgeprof = CommandLine(tmp_path, device.client_environment())
    (device.home / "notes.txt").write_text("the owner's\n")
    # Before the snapshot: here the user owns the system too, and Python's first start completes its caches there.
    assert "unreachable" in "".join(said(device, "python3", "-c", REACH_OUT))
    before = snapshot(device)
    assert len(before) > 1000

    added = edgeprof.run("devices", "add", "pi5", device.address)
    assert added.returncode == 0, added.stderr
    known = device.known_hosts.read_text()
    device.known_hosts.write_text("")
    trusted = edgeprof.run("devices", "trust", "pi5", "--fingerprint", device.fingerprint)
    device.known_hosts.write_text(known)
    assert trusted.returncode == 0, trusted.stderr

    done = edgeprof.run("devices", "setup", "pi5", "--runtime", "onnxruntime,tflite")

    assert done.returncode == 0, done.stderr
    assert "aarch64, glibc 2.36" in done.stdout
    assert done.stdout.count("is ready: a tiny model gave the right answer") == 2
    for runtime, pattern in (("onnxruntime", "silero_vad_16k_op15.onnx"), ("tflite", "okay_nabu.tflite")):
        model = next(models_dir.rglob(pattern))
        shapes = ("--shape", "input=1,576", "--shape", "state=2,1,128") if runtime == "onnxruntime" else ()
        command = ("profile", model, "-d", "pi5", "--runtime", runtime, "--operators", "--json", "-", *shapes, *QUICK)
        profiled = edgeprof.run(*command)
        assert profiled.returncode == 0, profiled.stderr
        document = json.loads(profiled.stdout)
        assert document["origin"] == "emulated"
        assert document["raw"]["profile"]["machine"]["architecture"] == "aarch64"
        assert len(document["operators"]) > 10

    cleaned = edgeprof.run("devices", "clean", "pi5")

    assert cleaned.returncode == 0, cleaned.stderr
    assert snapshot(device) == before
    assert "pythons" not in (tmp_path / "edgeprof" / "fleet.toml").read_text()
