"""From the runs of a training, and the user's own, to a fitted predictor."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace

from edgeprof import __version__
from edgeprof.errors import MeasurementError
from edgeprof.run import Run
from edgeprof.training.measuring import NET, PROBE
from edgeprof.training.observed import Observed, kernel_samples, observe, target_of
from edgeprof.training.plan import parse_name
from edgeprof.verdict import judge
from latency_models.observations import Target
from latency_models.predictor import Predictor

__all__ = ["fit", "observations"]

# A training in which less than this share is quiet tells of the disturbance, and not of the device.
LEAST_QUIET = 0.1


def observations(runs: Sequence[Run]) -> Observed:
    """The samples of a training's runs."""
    ordered = sorted(runs, key=lambda run: (run.profile.started_at_s, run.id))
    named = [(parse_name(run.profile.job.model.name), run) for run in ordered]
    probes = [run for name, run in named if name is not None and name.kind == PROBE]
    return observe(probes, [(name.family, run) for name, run in named if name is not None and name.kind == NET])


def fit(runs: Sequence[Run], seed: int, extra: Sequence[Run] = ()) -> Predictor:
    """A predictor of the device that all runs were measured on.

    Args:
        runs: of a training.
        seed: of the training.
        extra: other runs that may be learned from; left out are those of another target, and those whose verdict
            speaks against them: unlike a training's own, nothing in them tells how slow the device was just then.

    Raises:
        MeasurementError: there are none, or nearly all were disturbed.
    """
    if not runs:
        raise MeasurementError("nothing was measured", "train: edgeprof predictors train -d DEVICE")
    target = target_of(runs[0])
    observed = observations(runs)
    if not observed.kernels or observed.n_models - observed.n_disturbed < LEAST_QUIET * observed.n_models:
        raise MeasurementError(
            f"{observed.n_disturbed} of {observed.n_models} measurements were disturbed and are not used: "
            "the same work took longer beside them than in a quiet moment, or could not be found in them",
            "stop what else runs on the device, cool it, fix its clock, and train again",
        )
    same = [run for run in extra if _is_same(target, target_of(run))]
    learned = [run for run in same if judge(run.profile).is_dependable]
    own = [sample for run in learned for sample in kernel_samples(run, timing=observed.timing)]
    predictor = Predictor.fit(target, [*observed.kernels, *own], observed.nets, seed=seed)
    provenance: dict[str, object] = {
        **_provenance(runs, observed, seed),
        "n_kernels_of_own_runs": len(own),
        "own_runs": [run.id for run in learned],
        "n_own_runs_left_out": len(same) - len(learned),
    }
    return replace(predictor, provenance=provenance)


def _is_same(target: Target, other: Target) -> bool:
    return replace(other, device=target.device) == target


def _provenance(runs: Sequence[Run], observed: Observed, seed: int) -> dict[str, object]:
    digest = hashlib.sha256("\n".join(sorted(run.id for run in runs)).encode()).hexdigest()
    return {
        "edgeprof_version": __version__,
        "fitted_at_s": time.time(),
        "measured_from_s": min(run.profile.started_at_s for run in runs),
        "measured_until_s": max(run.profile.started_at_s for run in runs),
        "runs_digest": digest,
        "n_models": observed.n_models,
        "n_disturbed": observed.n_disturbed,
        "n_kernels": len(observed.kernels),
        "n_nets": len(observed.nets),
        "seed": seed,
    }
