"""`make arm64` and `make lab`: edgeprof on emulated arm64 devices. `shell` keeps a fleet to play with."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.integration.command_line import EDGEPROF, CommandLine
from tests.lab import arm64, fleet
from tests.lab.demonstration import demonstrate
from tests.lab.fleet import Fleet

MODELS = Path(__file__).parents[2] / ".cache" / "models"
FACES = "face_detection_short_range.tflite"
JOBS = (
    ("silero_vad_16k_op15.onnx", "onnxruntime", "--shape", "input=1,576", "--shape", "state=2,1,128"),
    (FACES, "litert"),
    (FACES, "tflite"),
)
# Enough to see every operator; a latency under qemu says nothing, however often it is taken.
SHORT = ("--rounds", "3", "--min-runs", "3", "--min-time", "0.1", "--gate-timeout", "0")


def main() -> int:
    """The worst exit code of what was run."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("arm64", help="profile a model per runtime, operator by operator, on one device; needs no root")
    for name, text in (
        ("fleet", "a campaign over N devices, two of which fail on purpose and are mended"),
        ("shell", "bring up N devices and open a shell in their controller; they go when it ends"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("n", type=int, metavar="N", choices=range(1, fleet.MAX_DEVICES + 1))
    asked = parser.parse_args()

    reason = arm64.why_not() if asked.command == "arm64" else fleet.why_not()
    if reason:
        sys.exit(reason)
    if asked.command == "arm64":
        return one_device()
    with Fleet(asked.n) as made:
        introduce(made)
        return demonstrate(made) if asked.command == "fleet" else shell(made)


def one_device() -> int:
    rootfs = arm64.rootfs()
    worst = 0
    with tempfile.TemporaryDirectory(prefix="edgeprof-arm64-") as name:
        edgeprof = CommandLine(Path(name))
        with arm64.Arm64Device(Path(name) / "device", rootfs) as device:
            device.add_to(edgeprof)
            environment = {**os.environ, **edgeprof.environment, "EDGEPROF_HOME": str(Path(name) / "edgeprof")}
            for model, runtime, *options in JOBS:
                command = [str(EDGEPROF), "profile", _model(model), "--runtime", runtime, *options, *SHORT]
                asked = ("--operator-runs", "3", "-d", "arm64", "--operators", "--no-store")
                done = subprocess.run([*command, *asked], env=environment, check=False)
                worst = max(worst, done.returncode)
    return worst


def introduce(made: Fleet) -> None:
    """Print where the devices are and how to reach them from another terminal."""
    variables = [f"{name}={value}" for name, value in made.environment.items()]
    for device in made:
        sys.stdout.write(f"{device.name}  {device.address}\n")
    sys.stdout.write(
        f"fleet.toml   {made.fleet_toml}\n"
        f"ssh          ssh -F {made.ssh_config} {made[0].name}\n"
        f"from outside {' '.join([*made.prefix, 'env', *variables])} COMMAND\n"
    )
    sys.stdout.flush()


def shell(made: Fleet) -> int:
    """A shell in the controller; without a terminal, a fleet that stays until Ctrl-C or SIGTERM."""
    if sys.stdin.isatty():
        return _in_controller(made, [os.environ.get("SHELL", "/bin/sh")])
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    sys.stdout.write("up until interrupted\n")
    sys.stdout.flush()
    signal.sigwait(ends)
    return 0


def _in_controller(made: Fleet, command: list[str]) -> int:
    path = f"{EDGEPROF.parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, **made.environment, "PATH": path}
    return subprocess.run([*made.prefix, *command], env=environment, check=False).returncode


def _model(name: str) -> str:
    return str(next(MODELS.rglob(name)))


if __name__ == "__main__":
    sys.exit(main())
