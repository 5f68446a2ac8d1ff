"""`make arm64`: profile a real model per runtime, operator by operator, on an emulated arm64 device that goes again."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.integration.command_line import EDGEPROF, CommandLine
from tests.lab import arm64

MODELS = Path(__file__).parents[2] / ".cache" / "models"
JOBS = (
    ("silero_vad_16k_op15.onnx", "onnxruntime", "--shape", "input=1,576", "--shape", "state=2,1,128"),
    ("face_detection_short_range.tflite", "litert"),
    ("face_detection_short_range.tflite", "tflite"),
)
# Enough to see every operator; a latency under qemu says nothing, however often it is taken.
SHORT = ("--rounds", "3", "--min-runs", "3", "--min-time", "0.1", "--gate-timeout", "0", "--operator-runs", "3")


def main() -> int:
    """The worst exit code of all jobs."""
    reason = arm64.why_not()
    if reason:
        sys.exit(reason)
    rootfs = arm64.rootfs()
    worst = 0
    with tempfile.TemporaryDirectory(prefix="edgeprof-arm64-") as name:
        edgeprof = CommandLine(Path(name))
        with arm64.Arm64Device(Path(name) / "device", rootfs) as device:
            device.add_to(edgeprof)
            environment = {**os.environ, **edgeprof.environment, "EDGEPROF_HOME": str(Path(name) / "edgeprof")}
            for model, runtime, *options in JOBS:
                path = str(next(MODELS.rglob(model)))
                command = [str(EDGEPROF), "profile", path, "--runtime", runtime, *options, *SHORT]
                asked = ("-d", "arm64", "--operators", "--no-store")
                done = subprocess.run([*command, *asked], env=environment, check=False)
                worst = max(worst, done.returncode)
    return worst


if __name__ == "__main__":
    sys.exit(main())
