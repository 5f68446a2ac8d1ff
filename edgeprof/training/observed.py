"""From stored runs to what predictors are fitted to; whatever was disturbed is left out, and counted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from device_agents import wire
from edgeprof.energy import model_energy
from edgeprof.errors import MeasurementError
from edgeprof.run import Run
from edgeprof.statistics import summarise
from edgeprof.training.probes import ANCHOR_MACS, ANCHOR_SHAPE
from edgeprof.training.timing import QUARTER, Timing, middle, together
from latency_models.observations import KernelSample, NetSample, Target

__all__ = ["Observed", "anchor_s", "kernel_samples", "net_sample", "observe", "precision_of", "slowness", "target_of"]

# An anchor that took so much longer than the quiet ones says that something else ran, or the clock was lower. Less says
# little: from one model to the next it differs by an eighth where nothing is known to be different.
MOST_DISTURBED = 1.5
# The anchor when nothing disturbs: what is faster than it in one of so many probes.
QUIET_QUANTILE = 0.2
# Runtimes' profilers count microseconds: what is 0 each time takes about this, and nobody knows how much exactly.
CLOCK_S, NOT_SEEN_S = 1e-6, 1e-7
UNKNOWN = Timing()


@dataclass(frozen=True)
class Observed:
    """What a training has measured. `n_disturbed` of `n_models` were left out."""

    kernels: tuple[KernelSample, ...]
    nets: tuple[NetSample, ...]
    n_models: int
    n_disturbed: int
    timing: Timing = field(default_factory=Timing)


def target_of(run: Run) -> Target:
    """What a run was measured on."""
    profile = run.profile
    options = profile.job.options
    return Target(
        device=run.device,
        machine=profile.machine.model or profile.machine.cpu or "unknown",
        architecture=profile.machine.architecture,
        runtime=profile.job.runtime,
        runtime_version=profile.runtime_version,
        threads=options.threads,
        optimization=options.optimization,
        delegate=options.delegate or options.provider or ("xnnpack" if _has_xnnpack(profile) else None),
        origin=profile.origin,
    )


def _has_xnnpack(profile: wire.Profile) -> bool:
    return profile.job.runtime in ("litert", "tflite") and profile.job.options.xnnpack


def kernel_samples(run: Run, family: str = "", timing: Timing = UNKNOWN) -> list[KernelSample]:
    """The kernels of one run that are described, with the middle of what each took.

    Args:
        run: with an operator pass.
        family: of nets that the run is of; "" of a probe.
        timing: what timing adds, which is left out.
    """
    recorded = run.profile.operators
    if recorded is None:
        return []
    found = []
    for one in run.described:
        times = timing.without(run, one, together(run, one))
        # Left out, those that took next to nothing would not be learned, and be taken for what the others took.
        typical = middle(times) or max(float(times.mean()), NOT_SEEN_S)
        spread = float(np.subtract(*np.quantile(times, [1 - QUARTER, QUARTER]))) / 1.35 / typical
        if typical < CLOCK_S / 2:
            spread = 1.0
        found.append(
            KernelSample(
                kernel=one.kernel,
                time_s=typical,
                n_runs=len(times),
                spread=spread,
                source=run.profile.job.model.digest,
                nodes=one.nodes,
                group=family,
            )
        )
    return found


def net_sample(run: Run, family: str, timing: Timing = UNKNOWN) -> NetSample | None:
    """A whole net; None where it has no latency or its kernels are not all described."""
    try:
        latency = summarise(run.profile)
    except MeasurementError:
        return None
    recorded = run.profile.operators
    timed = len(recorded.kernels) if recorded is not None else 0
    if recorded is None or not run.described or sum(len(one.kernels) for one in run.described) < timed:
        return None
    profile = run.profile
    memory = None
    if profile.memory_peak_bytes is not None and profile.memory_before_bytes is not None:
        memory = profile.memory_peak_bytes - profile.memory_before_bytes
    return NetSample(
        name=profile.job.model.name,
        family=family,
        source=profile.job.model.digest,
        kernels=tuple(one.kernel for one in run.described),
        latency_s=latency.median_s,
        timed=tuple(kernel_samples(run, family, timing)),
        spread=latency.relative_spread,
        energy_j=_net_energy_j(run),
        peak_memory_bytes=memory,
    )


def _net_energy_j(run: Run) -> float | None:
    """Joules of an inference above rest, where a meter measured them."""
    if run.profile.energy is None:
        return None
    try:
        return model_energy(run.profile.energy).net_j.value
    except MeasurementError:
        return None


def anchor_s(run: Run) -> float | None:
    """What the anchor took that every probe and net contains: the same work each time."""
    recorded = run.profile.operators
    if recorded is None:
        return None
    for one in run.described:
        first = one.kernel.inputs[0] if one.kernel.inputs else None
        if first is not None and one.kernel.macs == ANCHOR_MACS and sorted(first.shape) == sorted(ANCHOR_SHAPE):
            return middle(together(run, one))
    return None


def observe(probes: Sequence[Run], nets: Sequence[tuple[str, Run]]) -> Observed:
    """Samples of what was not disturbed: of probes their kernels, of whole nets (family and run) the whole.

    What has no anchor in it is not used: nobody knows what ran beside it.
    """
    slower = slowness([*probes, *(run for _, run in nets)])
    quiet = {run for run, factor in slower.items() if factor <= MOST_DISTURBED}
    timing = Timing.of([*probes, *(run for _, run in nets)])
    kernels = [sample for run in probes if run.id in quiet for sample in kernel_samples(run, timing=timing)]
    whole = [net_sample(run, family, timing) for family, run in nets if run.id in quiet]
    samples = tuple(one for one in whole if one is not None)
    n_used = sum(run.id in quiet for run in probes) + len(samples)
    n_models = len(probes) + len(nets)
    return Observed(tuple(kernels), samples, n_models, n_models - n_used, timing)


def slowness(runs: Sequence[Run]) -> dict[str, float]:
    """How much slower each run's anchor was than the quiet ones of its precision, by the run's id."""
    anchors: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for run in runs:
        seconds = anchor_s(run)
        if seconds is not None:
            anchors[precision_of(run)].append((run.id, seconds))
    found = {}
    for members in anchors.values():
        quiet_s = float(np.quantile([seconds for _, seconds in members], QUIET_QUANTILE))
        found.update({run: seconds / quiet_s for run, seconds in members})
    return found


def precision_of(run: Run) -> str:
    """The precision that a probe or a net was drawn in; see `measuring.name_of`."""
    return run.profile.job.model.name.rpartition("-")[0].rpartition("-")[2]
