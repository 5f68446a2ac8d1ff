"""Profiles made for the sake of their operators, as fast as can be, and the inputs they were made with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from device_agents import inputs, wire
from edgeprof.profiling import Settings
from edgeprof.run import Run

ONCE = Settings(
    schedule=wire.Schedule(rounds=1, min_runs=1, min_s=0.0, operator_runs=3),
    gate=wire.Gate(timeout_s=0.0, window_s=0.0),
    operators=True,
    check_outputs=False,
)


def feeds(run: Run) -> dict[str, NDArray[np.generic]]:
    """The seeded inputs of a run, by name."""
    tensors = run.profile.inputs
    made = inputs.make(tensors, run.profile.job.seed)
    return {t.name: np.frombuffer(data, t.dtype).reshape(t.shape) for t, data in zip(tensors, made, strict=True)}
