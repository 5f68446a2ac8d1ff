"""Kernels and a made-up device that takes a known time for each: for tests of predictors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from latency_models.features import form
from latency_models.kernels import KernelSpec, Operand
from latency_models.observations import KernelSample, NetSample, Target

__all__ = ["TARGET", "conv", "conv_samples", "net", "nets", "relu", "seconds", "strange", "timed"]

TARGET = Target(
    device="toy", machine="Toy", architecture="toy64", runtime="toyrt", runtime_version="1.0", origin="measured"
)
RATE, BANDWIDTH, OWN_S = 20e9, 8e9, 2e-6


def conv(side: int, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, activation: bool = True) -> KernelSpec:
    result = -(-side // stride)
    return KernelSpec(
        format="onnx",
        type="Conv",
        attributes={"strides": [stride, stride], "group": 1, "dilations": [1, 1], "kernel_shape": [kernel, kernel]},
        inputs=(
            Operand(dtype="float32", shape=(1, inputs, side, side)),
            Operand(dtype="float32", shape=(outputs, inputs, kernel, kernel), is_constant=True),
        ),
        outputs=(Operand(dtype="float32", shape=(1, outputs, result, result)),),
        fused=("Relu",) if activation else (),
        macs=result * result * inputs * outputs * kernel * kernel,
    )


def relu(side: int, channels: int) -> KernelSpec:
    shape = (1, channels, side, side)
    one = Operand(dtype="float32", shape=shape)
    return KernelSpec(format="onnx", type="Relu", inputs=(one,), outputs=(one,), macs=0)


def strange(elements: int = 10_000) -> KernelSpec:
    """A kernel of a domain of somebody's own."""
    one = Operand(dtype="float32", shape=(1, elements))
    return KernelSpec(format="onnx", type="Whirl", domain="com.example", inputs=(one,), outputs=(one,))


def seconds(kernel: KernelSpec) -> float:
    """What the made-up device takes: a roofline, with a step where channels do not fill a vector of 16."""
    one = form(kernel)
    channels = kernel.outputs[0].shape[1]
    fill = channels / (16 * -(-channels // 16))
    return OWN_S + one.macs / (RATE * fill) + one.moved_bytes / BANDWIDTH


def conv_samples(n: int = 300, seed: int = 0, noise: float = 0.01) -> list[KernelSample]:
    random = np.random.default_rng(seed)
    samples = []
    for k in range(n):
        side = int(random.integers(4, 64))
        spec = (
            conv(side, int(random.integers(3, 128)), int(random.integers(4, 160)), int(random.choice([1, 3, 5])))
            if k % 3
            else relu(side, int(random.integers(3, 256)))
        )
        time_s = seconds(spec) * float(np.exp(random.normal(0.0, noise)))
        nodes = (spec.type, *spec.fused)
        samples.append(
            KernelSample(kernel=spec, time_s=time_s, n_runs=30, spread=0.02, source=f"model {k // 5}", nodes=nodes)
        )
    return samples


def net(seed: int) -> tuple[KernelSpec, ...]:
    random = np.random.default_rng(seed)
    side, channels, kernels = 64, 3, []
    for _ in range(int(random.integers(4, 12))):
        outputs = int(random.integers(8, 128))
        kernels.append(
            conv(side, channels, outputs, int(random.choice([1, 3])), int(random.choice([1, 2])) if side > 8 else 1)
        )
        side, channels = kernels[-1].outputs[0].shape[2], outputs
        kernels.append(relu(side, channels))
    return tuple(kernels)


def timed(one: NetSample, factor: float) -> NetSample:
    """A net whose kernels were timed in it, where each takes `factor` times as long as alone."""
    samples = tuple(
        KernelSample(
            kernel=kernel, time_s=factor * seconds(kernel), n_runs=15, spread=0.02, source=one.source,
            nodes=(kernel.type, *kernel.fused), group=one.family,
        )
        for kernel in one.kernels
    )  # fmt: skip
    return replace(one, timed=samples, latency_s=sum(sample.time_s for sample in samples))


def nets(n: int = 24, seed: int = 100, slower: float = 1.1) -> list[NetSample]:
    """Nets in which everything takes `slower` times as long, and a run 20 us for itself."""
    made = []
    for k in range(n):
        kernels = net(seed + k)
        total = slower * sum(seconds(kernel) for kernel in kernels) + 2e-5
        made.append(
            NetSample(
                name=f"net {k}", family=f"family {k % 4}", source=f"net {k}", kernels=kernels, latency_s=total,
                energy_j=2.0 * total, peak_memory_bytes=5_000_000 + 40_000 * len(kernels),
            )
        )  # fmt: skip
    return made
