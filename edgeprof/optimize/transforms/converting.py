"""ONNX to TFLite by onnx2tf, where that is installed: it brings gigabytes of TensorFlow and is never required."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from edgeprof.optimize.apart import CannotMake

__all__ = ["CONVERTER", "to_tflite"]

CONVERTER = "EDGEPROF_ONNX2TF"
LAST_WORDS = 300


def to_tflite(source: str, target: str) -> str:
    """Convert, in float32; the converter's version. Channels come last in what is made, also those of inputs.

    The program is `onnx2tf` of the path, or what the variable EDGEPROF_ONNX2TF names: an environment of its own is
    best, TensorFlow's pins go with few others.

    Raises:
        CannotMake: there is no converter, or it fails.
    """
    import numpy as np

    program = os.environ.get(CONVERTER) or shutil.which("onnx2tf") or _beside_python()
    if program is None:
        raise CannotMake(f"onnx2tf is not installed (its path can be given in {CONVERTER})")
    folder = Path.cwd() / "converted"
    # Without this file it wants to fetch one; what is in it does not matter where nothing is calibrated.
    sample = np.zeros((20, 128, 128, 3), np.float32)
    np.save(Path.cwd() / "calibration_image_sample_data_20x128x128x3_float32.npy", sample)
    done = subprocess.run(
        [program, "-i", source, "-o", str(folder), "-n"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    made = next(iter(sorted(folder.glob("*_float32.tflite"))), None)
    if done.returncode != 0 or made is None:
        words = (done.stderr or done.stdout).strip()[-LAST_WORDS:]
        raise CannotMake(f"onnx2tf fails on it: {' '.join(words.split())}")
    shutil.copyfile(made, target)
    version = subprocess.run([program, "-V"], capture_output=True, text=True, check=False)
    return version.stdout.strip() or "unknown"


def _beside_python() -> str | None:
    path = Path(sys.executable).with_name("onnx2tf")
    return str(path) if path.exists() else None
