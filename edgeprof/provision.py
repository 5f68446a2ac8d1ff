"""Which Python runs which runtime on a device, and an environment of its own for tflite-runtime on this machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from edgeprof.errors import AgentError
from edgeprof.fleet import Device

__all__ = ["own_environment", "python_for", "set_up_tflite_here"]

# tflite-runtime 2.14 is the last release: its wheels end at Python 3.11 and need numpy below 2, which they do not say.
TFLITE_REQUIREMENTS = ("tflite-runtime==2.14.0", "numpy>=1.23,<2")
TFLITE_NEWEST_PYTHON = (3, 11)


def own_environment(runtime: str) -> Path:
    """Where a runtime that cannot share an environment lives on this machine: inside the running one."""
    return Path(sys.prefix) / "runtimes" / runtime


def python_for(device: Device, runtime: str) -> str:
    """The Python that has this runtime: the one named in fleet.toml, else the device's; here, this very one."""
    if runtime in device.pythons:
        return device.pythons[runtime]
    if device.scheme == "ssh" or device.python not in ("python3", sys.executable):
        return device.python
    own = own_environment(runtime) / "bin" / "python"
    return str(own) if own.exists() else sys.executable


def set_up_tflite_here() -> Path:
    """Make (or complete) the environment of tflite-runtime on this machine; returns its Python.

    Raises:
        AgentError: this Python is too new for tflite-runtime, or its packages cannot be installed.
    """
    if sys.version_info[:2] > TFLITE_NEWEST_PYTHON:
        raise AgentError(
            f"tflite-runtime 2.14 has no wheel for Python {sys.version_info[0]}.{sys.version_info[1]}",
            "use the litert runtime, its successor: pip install 'edgeprof[litert]'",
        )
    folder = own_environment("tflite")
    python = folder / "bin" / "python"
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", *TFLITE_REQUIREMENTS],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            tail = (done.stderr or done.stdout).strip().splitlines()[-3:]
            raise AgentError(f"{' '.join(command)} failed: {' / '.join(tail)}", "is there a network?")
    return python
