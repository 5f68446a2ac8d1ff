"""Run model files on samples, on this machine, each in a process of its own: a crash is a result and not the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgeprof.errors import EdgeprofError
from edgeprof.fleet import Device
from edgeprof.models.arrays import Array
from edgeprof.optimize.samples import Samples
from edgeprof.provision import python_for

__all__ = ["Inference", "InferenceFailed", "ended"]

CHILD = Path(__file__).with_name("inference_child.py")
# The first line of its order is enough of a reason; a stack of native frames helps nobody here.
LAST_WORDS = 500


class InferenceFailed(EdgeprofError):
    """A model does not run on this machine, or crashes here: a result like any other."""


@dataclass
class Inference:
    """Runs models with one runtime of this machine. `deadline_s` is for a whole set of samples."""

    runtime: str
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    deadline_s: float = 1800.0

    def outputs(self, model: Path, samples: Samples) -> dict[str, Array]:
        """Of each output an array (n, ...), in the model's order.

        Raises:
            InferenceFailed: it does not load, does not run, crashes, or takes too long; the message says which.
        """
        python = python_for(Device(name="this machine", python=sys.executable), self.runtime)
        with tempfile.TemporaryDirectory(prefix="edgeprof-inference-") as folder:
            place = Path(folder)
            arrays = {f"input{k}": array for k, array in enumerate(samples.values.values())}
            np.savez(place / "inputs.npz", **arrays)  # type: ignore[arg-type]
            order = {
                "runtime": self.runtime,
                "model": str(model.resolve()),
                "names": list(samples.values),
                "inputs": str(place / "inputs.npz"),
                "outputs": str(place / "outputs.npz"),
                "threads": self.threads,
            }
            (place / "order.json").write_text(json.dumps(order))
            self._run([python, str(CHILD), str(place / "order.json")], model.name, folder)
            with np.load(place / "outputs.npz", allow_pickle=False) as found:
                return {str(name): found[f"output{k}"] for k, name in enumerate(found["names"])}

    def _run(self, argv: list[str], name: str, folder: str) -> None:
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=self.deadline_s,
                check=False,
                cwd=folder,
                env={**os.environ, "XDG_CACHE_HOME": folder},
            )
        except subprocess.TimeoutExpired as error:
            raise InferenceFailed(f"{name} took longer than {self.deadline_s:.0f} s", "give fewer samples") from error
        if done.returncode != 0:
            raise InferenceFailed(f"{name}: {ended(done.returncode, done.stderr)}")


def ended(code: int, errors: bytes) -> str:
    """In words, how a process ended that should not have."""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"the runtime crashed with {name}"
    lines = errors.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:LAST_WORDS] if lines else f"it ended with code {code}"
