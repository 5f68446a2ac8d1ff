"""What timing adds to kernels: told by those that do next to nothing, and taken off. Runs are made of a known truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from device_agents.profile import OperatorPass
from device_agents.wire import Job, Kernel, ModelRef
from edgeprof.run import Described, Run
from edgeprof.training.observed import kernel_samples
from edgeprof.training.timing import Timing
from latency_models.kernels import KernelSpec, Operand
from tests.unit.run_factory import make_profile, make_run

FIXED_S, EACH_S = 4e-6, 1.2e-6
N_RUNS = 12


def kernel(n_inputs: int, side: int) -> KernelSpec:
    """It reads so many square tensors and writes one."""
    one = Operand(dtype="float32", shape=(1, side, side))
    return KernelSpec(format="onnx", type="Sum", inputs=(one,) * n_inputs, outputs=(one,), macs=0)


def recorded(name: str, own: list[tuple[KernelSpec, float]], runtime: str = "onnxruntime", slower: float = 1.0) -> Run:
    """A run of kernels that took this long themselves, with what timing added where the machine was so much slower."""
    random = np.random.default_rng(len(name))
    kernels = []
    for spec, own_s in own:
        added_s = slower * (FIXED_S + EACH_S * (len(spec.inputs) + 1))
        times_s = (own_s + added_s) * random.uniform(1.0, 1.02, N_RUNS)
        kernels.append(Kernel("k", spec.type, "kernel", tuple(times_s.tolist())))
    operators = OperatorPass("profiler", (1e-3,) * N_RUNS, tuple(kernels), 1e-6)
    described = tuple(Described(kernels=(k,), kernel=spec) for k, (spec, _) in enumerate(own))
    model = ModelRef(f"{name}.onnx", "onnx", name * 64, ())
    profile = make_profile(job=Job(model=model, runtime=runtime, operators=True), operators=operators)
    return replace(make_run(name), profile=profile, described=described)


def small(slower: float = 1.0, name: str = "a", runtime: str = "onnxruntime") -> Run:
    """Kernels of 2 to 5 tensors that do nothing, and one that works for a millisecond."""
    own = [(kernel(1 + k % 4, 2), 0.0) for k in range(100)] + [(kernel(2, 500), 1e-3)]
    return recorded(name, own, runtime, slower)


def test_what_timing_takes_is_told_by_kernels_that_do_nothing() -> None:
    timing = Timing.of([small()])

    assert timing.fixed_s == pytest.approx(FIXED_S, rel=0.05)
    assert timing.each_s == pytest.approx(EACH_S, rel=0.05)


def test_a_kernel_is_learned_without_what_timing_it_took() -> None:
    run = small()

    samples = kernel_samples(run, timing=Timing.of([run]))

    assert samples[-1].time_s == pytest.approx(1e-3, rel=0.02)
    assert all(0 < one.time_s < 0.2 * (FIXED_S + 2 * EACH_S) for one in samples[:-1])


def test_a_slower_moment_is_told_by_the_run_itself() -> None:
    usual, slow = [small(name=name) for name in "ab"], small(3.0, "c")

    timing = Timing.of([*usual, slow])

    assert timing.factors["c"] == pytest.approx(3.0 * timing.factors["a"], rel=0.05)
    assert kernel_samples(slow, timing=timing)[-1].time_s == pytest.approx(1e-3, rel=0.02)


def test_several_kernels_of_the_same_nodes_were_timed_several_times() -> None:
    run = small()
    last = run.described[-1]
    both = replace(run, described=(*run.described[:-1], replace(last, kernels=(99, 100))))

    whole = kernel_samples(both, timing=Timing.of([run]))[-1]

    assert whole.time_s == pytest.approx(1e-3, rel=0.02)


def test_profilers_that_only_look_at_the_clock_add_nothing() -> None:
    run = small(runtime="litert")

    timing = Timing.of([run])

    assert timing == Timing()
    assert kernel_samples(run, timing=timing) == kernel_samples(run)


def test_a_few_small_kernels_tell_nothing() -> None:
    assert Timing.of([recorded("a", [(kernel(1 + k % 4, 2), 0.0) for k in range(12)])]) == Timing()


def test_kernels_that_work_are_not_taken_for_idle_ones() -> None:
    assert Timing.of([recorded("a", [(kernel(1 + k % 4, 200), 5e-5) for k in range(200)])]) == Timing()
