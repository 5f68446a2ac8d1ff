"""A recipe as a tuning would write it, for tests of what happens to one."""

from __future__ import annotations

from typing import Any

import msgspec

from edgeprof.tuning.recipe import (
    Cap,
    Chosen,
    DeviceFacts,
    Interval,
    Measured,
    ModelFacts,
    Recipe,
    RecipeSettings,
    Tried,
)

LATENCY = Interval(value=0.010, low=0.0098, high=0.0103)
ENERGY = Interval(value=0.020, low=0.019, high=0.021)
PLAIN = Chosen(
    settings=RecipeSettings(runtime="onnxruntime", runtime_version="1.31.1", threads=2, affinity=(0, 1)),
    measured=Measured(origin="measured", latency_s=LATENCY, runs=("20260101-000000-0a0b",)),
)
CAPPED = Chosen(
    settings=RecipeSettings(
        runtime="onnxruntime",
        runtime_version="1.31.1",
        threads=4,
        affinity=(4, 5, 6, 7),
        spinning=False,
        clock_caps=(Cap(policy="policy4", max_hz=1.2e9, before_hz=2.4e9),),
    ),
    measured=Measured(origin="measured", latency_s=LATENCY, energy_j=ENERGY),
    needs=("root",),
)


def make_recipe(**changes: Any) -> Recipe:
    """For a Raspberry Pi 5 as `profiles.make_profile` has it; `changes` replace fields."""
    plain = Recipe(
        schema=1,
        edgeprof_version="0.1.0",
        made_at="2026-01-01T00:00:00Z",
        objective="energy",
        conclusion="it takes half of the default's energy",
        model=ModelFacts(name="net.onnx", format="onnx", digest="d" * 64),
        device=DeviceFacts(
            name="pi5", architecture="aarch64", kernel="6.6.31", n_cpus=4, model="Raspberry Pi 5 Model B"
        ),
        best=PLAIN,
        default=PLAIN,
        tried=Tried(configurations=100, measured=15, jobs=20),
    )
    return msgspec.structs.replace(plain, **changes)
