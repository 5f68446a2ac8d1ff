"""Runs made of seeded numbers, for tests of what happens to a run once it exists."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from device_agents.wire import (
    MEASURED,
    Clocks,
    Conditions,
    FileRef,
    GateOutcome,
    Job,
    Kernel,
    MachineInfo,
    ModelRef,
    OperatorPass,
    Profile,
    Round,
    TensorInfo,
)
from edgeprof.run import Operator, Run

DIGEST = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
CREATED_AT_S = 1_767_225_600.0
RESOLUTION_S = 1e-6

# name, type, origin, nodes, shapes in and out, macs, moved bytes, typical time
LAYERS: tuple[tuple[str, str, str, tuple[str, ...], tuple[int, ...], tuple[int, ...], int, int, float], ...] = (
    (
        "stem_fused",
        "FusedConv",
        "fused",
        ("stem", "stem/relu"),
        (1, 3, 96, 96),
        (1, 16, 48, 48),
        995_328,
        258_048,
        4e-4,
    ),
    ("reorder_0", "ReorderOutput", "layout", (), (1, 16, 48, 48), (1, 16, 48, 48), 0, 294_912, 3e-5),
    ("block/conv", "Conv", "node", ("block/conv",), (1, 16, 48, 48), (1, 32, 24, 24), 2_654_208, 221_184, 9e-4),
    ("pool", "MaxPool", "node", ("pool",), (1, 32, 24, 24), (1, 32, 12, 12), 0, 92_160, 5e-6),
    ("odd", "Mystery", "unmapped", (), (1, 32, 12, 12), (1, 4608), 0, 36_864, 6e-5),
    ("head", "Gemm", "node", ("head",), (1, 4608), (1, 10), 46_080, 202_792, 1e-4),
)


def make_conditions(at_s: float, *, temperature_c: float = 41.0, busy_s: float = 0.0) -> Conditions:
    """A quiet board whose governor, clock and temperature can be read."""
    clocks = Clocks("0-3", "performance", 1.8e9, 6e8, 1.8e9, 1.8e9, {"600000000": 1.0, "1800000000": 100.0 + at_s})
    return Conditions(
        at_s=at_s,
        clocks=(clocks,),
        temperatures_c={"cpu-thermal": temperature_c},
        throttled=0,
        load_1min=0.1,
        busy_s=busy_s,
        steal_s=0.0,
        total_s=4 * at_s,
        process_s=busy_s,
        pressure_s={"cpu": 0.0, "memory": 0.0, "io": 0.0},
        memory_available_bytes=3_000_000_000,
        power_source="mains",
    )


def make_round(rng: random.Random, k: int, n_runs: int, typical_s: float) -> Round:
    latencies_s = tuple(typical_s * rng.lognormvariate(0.0, 0.004) for _ in range(n_runs))
    start_s = 10.0 * k
    end_s = start_s + sum(latencies_s)
    return Round(
        latencies_s=latencies_s,
        before=make_conditions(start_s, busy_s=float(k)),
        after=make_conditions(end_s, busy_s=k + sum(latencies_s), temperature_c=42.0),
        gate=GateOutcome(True, 0.3),
    )


def make_operators(rng: random.Random, n_runs: int) -> tuple[OperatorPass, tuple[Operator, ...]]:
    """The operator pass of a small network, and what its kernels mean."""
    kernels, operators = [], []
    for k, (name, kind, origin, nodes, before, after, macs, moved_bytes, typical_s) in enumerate(LAYERS):
        times_s = tuple(
            round(typical_s * rng.lognormvariate(0.0, 0.02) / RESOLUTION_S) * RESOLUTION_S for _ in range(n_runs)
        )
        kernels.append(Kernel(name, kind, "kernel", times_s, input_shapes=(before,), output_shapes=(after,)))
        known = origin != "unmapped"
        operators.append(
            Operator(
                kernel=k,
                origin=origin,
                nodes=nodes,
                node_types=("Conv", "Relu") if kind == "FusedConv" else tuple(kind for _ in nodes),
                input_shapes=(before,),
                output_shapes=(after,),
                macs=macs if known else None,
                moved_bytes=moved_bytes if known else None,
            )
        )
    sums_s = [sum(kernel.times_s[run] for kernel in kernels) for run in range(n_runs)]
    recorded = OperatorPass("onnxruntime profiler", tuple(1.04 * s for s in sums_s), tuple(kernels), RESOLUTION_S)
    return recorded, tuple(operators)


def make_profile(
    seed: int = 0, *, n_rounds: int = 5, n_runs: int = 40, with_operators: bool = True, **changes: Any
) -> Profile:
    """A steady profile of about 1.5 ms; `changes` replaces fields."""
    rng = random.Random(seed)
    rounds = tuple(make_round(rng, k, n_runs, 1.5e-3) for k in range(n_rounds))
    model = ModelRef("net.onnx", "onnx", DIGEST, (FileRef("net.onnx", DIGEST, 1_234_567),))
    profile = Profile(
        job=Job(model=model, runtime="onnxruntime", operators=with_operators, seed=seed),
        origin=MEASURED,
        agent_digest="a" * 64,
        python="3.11.7",
        machine=MachineInfo(
            "Raspberry Pi 5 Model B Rev 1.0", "aarch64", "6.6.31", "glibc 2.36", "Cortex-A76", 4, 8 * 10**9
        ),
        runtime_version="1.31.1",
        in_force={"providers": "CPUExecutionProvider", "threads": "1", "optimization": "all"},
        started_at_s=CREATED_AT_S,
        import_s=0.21,
        load_s=0.0,
        initialise_s=0.034,
        first_inference_s=0.0042,
        warmup_s=(0.0042, 0.0017, 0.00151, 0.0015),
        warmup_is_flat=True,
        rounds=rounds,
        inputs=(TensorInfo("x", "float32", (1, 3, 96, 96)),),
        outputs=(TensorInfo("y", "float32", (1, 10)),),
        input_digest="b" * 64,
        output_digest="c" * 64,
        outputs_are_finite=True,
        outputs_repeat=True,
        memory_before_bytes=31_000_000,
        memory_peak_bytes=72_500_000,
        operators=make_operators(rng, 30)[0] if with_operators else None,
        operators_missing=None if with_operators else "not asked for (--operators)",
        stages_s={"gate": 0.3, "rounds": 5.1},
    )
    return replace(profile, **changes)


def make_run(
    run_id: str = "20260101-000000-0a0b",
    *,
    seed: int = 0,
    created_at_s: float = CREATED_AT_S,
    device: str = "pi5",
    with_operators: bool = True,
    **changes: Any,
) -> Run:
    """A run of `make_profile`; `changes` replaces fields of the profile."""
    profile = make_profile(seed, with_operators=with_operators, **changes)
    operators = make_operators(random.Random(seed), 1)[1] if with_operators else ()
    return Run(
        id=run_id,
        created_at_s=created_at_s,
        device=device,
        edgeprof_version="0.1.0",
        profile=profile,
        operators=operators,
        notes=("1 kernel has no node in the file: odd",) if with_operators else (),
    )
