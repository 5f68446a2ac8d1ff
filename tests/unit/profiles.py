"""Profiles of seeded numbers in known states, for tests of what the numbers are taken to mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from device_agents.wire import (
    MEASURED,
    Clocks,
    Conditions,
    FileRef,
    GateOutcome,
    Job,
    MachineInfo,
    ModelRef,
    Profile,
    Round,
    Schedule,
)
from edgeprof.run import Run

DIGEST = "d" * 64
LATENCY_S = 0.010
GAP_S = 1.0
N_CPUS = 4
TOP_HZ, LOW_HZ = 1.8e9, 1.0e9

# Changes to the conditions of round k: (k, whether it is the look after the round) -> fields of Conditions.
Change = Callable[[int, bool], dict[str, Any]]

CLOCKS = Clocks("0 1 2 3", "performance", TOP_HZ, 6e8, TOP_HZ, TOP_HZ)


def no_change(_k: int, _is_after: bool) -> dict[str, Any]:
    return {}


def latencies(
    seed: int = 0,
    *,
    n_rounds: int = 5,
    n_runs: int = 40,
    noise: float = 0.005,
    round_noise: float = 0.002,
    correlation: float = 0.0,
    middle_s: float = LATENCY_S,
    trend: Sequence[float] = (),
) -> list[list[float]]:
    """Latencies around `middle_s`: autocorrelated noise within rounds, noise between them, a factor for each."""
    rng = np.random.default_rng(seed)
    white = rng.standard_normal((n_rounds, n_runs))
    within = white.copy()
    for run in range(1, n_runs):
        within[:, run] = correlation * within[:, run - 1] + np.sqrt(1 - correlation**2) * white[:, run]
    shift = round_noise * rng.standard_normal((n_rounds, 1))
    factors = np.asarray(trend or [1.0] * n_rounds)[:, None]
    values: list[list[float]] = (middle_s * factors * np.exp(noise * within + shift)).tolist()
    return values


def look(at_s: float, process_s: float, changes: dict[str, Any]) -> Conditions:
    """A quiet board at rest whose conditions can all be read."""
    plain = Conditions(
        at_s=at_s,
        clocks=(CLOCKS,),
        temperatures_c={"cpu-thermal": 41.0},
        throttled=0,
        load_1min=0.1,
        busy_s=process_s,
        steal_s=0.0,
        total_s=N_CPUS * at_s,
        process_s=process_s,
        pressure_s={"cpu": 0.0},
        memory_available_bytes=3_000_000_000,
        power_source="mains",
    )
    return replace(plain, **changes)


def make_profile(rounds: Sequence[Sequence[float]] | None = None, change: Change = no_change, **fields: Any) -> Profile:
    """A profile with these latencies; `change` alters conditions, `fields` replaces fields of the profile."""
    samples = latencies() if rounds is None else rounds
    made, at_s, own_s = [], 100.0, 5.0
    for k, round_samples in enumerate(samples):
        lasted = float(np.nansum(np.abs(round_samples)))
        before = look(at_s, own_s, change(k, False))
        at_s, own_s = at_s + lasted, own_s + lasted
        after = look(at_s, own_s, change(k, True))
        made.append(Round(tuple(round_samples), before, after, GateOutcome(True, 0.1)))
        at_s += GAP_S
    model = ModelRef("net.onnx", "onnx", DIGEST, (FileRef("net.onnx", DIGEST, 1000),))
    plain = Profile(
        job=Job(model=model, runtime="onnxruntime", schedule=Schedule(rounds=len(samples), min_runs=20)),
        origin=MEASURED,
        agent_digest="a" * 64,
        python="3.11.7",
        machine=MachineInfo(
            "Raspberry Pi 5 Model B", "aarch64", "6.6.31", "glibc 2.36", "Cortex-A76", N_CPUS, 8 * 10**9
        ),
        runtime_version="1.31.1",
        in_force={"threads": "1"},
        started_at_s=1_767_225_600.0,
        import_s=0.2,
        load_s=0.01,
        initialise_s=0.03,
        first_inference_s=0.02,
        warmup_s=(0.012, 0.010, 0.010),
        warmup_is_flat=True,
        rounds=tuple(made),
        inputs=(),
        outputs=(),
        input_digest="b" * 64,
        output_digest="c" * 64,
        outputs_are_finite=True,
        outputs_repeat=True,
        memory_before_bytes=None,
        memory_peak_bytes=None,
    )
    return replace(plain, **fields)


def with_gate(profile: Profile, *, passed: bool, reasons: tuple[str, ...] = ()) -> Profile:
    """The same profile, whose last round began like this."""
    last = replace(profile.rounds[-1], gate=GateOutcome(passed, 60.0, reasons))
    return replace(profile, rounds=(*profile.rounds[:-1], last))


def make_run(profile: Profile, **fields: Any) -> Run:
    plain = Run(id="20260101-000000-0a0b", created_at_s=0.0, device="pi5", edgeprof_version="0.1.0", profile=profile)
    return replace(plain, **fields)
