"""The gate: what a candidate must show before it is measured. It loads, runs, gives numbers, and loses no more than
it may.

Decided on this machine with the same runtime; on the device one sample is checked again (edgeprof/reference.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from edgeprof.errors import InputError, ModelError
from edgeprof.models.arrays import Array
from edgeprof.optimize.candidate import LOSSY, Candidate
from edgeprof.optimize.channels import as_taken
from edgeprof.optimize.inference import Inference, InferenceFailed
from edgeprof.optimize.metrics import Loss, Metric, MetricError
from edgeprof.optimize.samples import Samples

__all__ = ["RUNTIME_OF", "Decision", "Gate", "largest_error"]

# Of the largest output: what summing in another order costs in float32, with a margin, and what no one would notice.
LOSSLESS_ERROR = 1e-3
RUNTIME_OF = {"onnx": "onnxruntime", "tflite": "litert"}


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether a candidate goes on to the device; `reason` says why not. `error` is the largest of the peak output."""

    accepted: bool
    reason: str = ""
    loss: Loss | None = None
    error: float | None = None


@dataclass
class Gate:
    """Holds candidates against the original on samples that no calibration saw.

    `budget` is the share of the metric that may be lost, 0.005 for 0.5 %. Use `prepare` once before `decide`. A
    candidate of another format than the original is run by that format's own runtime.
    """

    inference: Inference
    samples: Samples
    metric: Metric
    budget: float
    _expected: Mapping[str, Array] = field(default_factory=dict)
    _format: str = ""

    def prepare(self, original: Candidate) -> float:
        """Run the original; its own score.

        Raises:
            InferenceFailed: it does not run here, or what it gives is of no use to compare with.
            MetricError: its outputs cannot be scored.
        """
        self._format = original.format
        self._expected = self.inference.outputs(original.path, self.samples)
        useless = _useless(self._expected)
        if useless:
            raise InferenceFailed(
                f"the original itself {useless} on {self.samples.source}",
                "is this data preprocessed as the model needs it?",
            )
        return self.metric.loss(self._expected, self._expected, self.samples.labels).score

    def decide(self, candidate: Candidate) -> Decision:
        """Run a candidate, and say whether it may take the original's place."""
        try:
            found = self._named(self._run(candidate))
        except (InferenceFailed, ModelError, InputError) as error:
            return Decision(accepted=False, reason=str(error))
        useless = _useless(found)
        if useless:
            return Decision(accepted=False, reason=f"it {useless}")
        differing = next((name for name in found if found[name].shape != self._expected[name].shape), None)
        if differing is not None:
            return Decision(
                accepted=False,
                reason=f"output {differing!r} has the shape {list(found[differing].shape[1:])}, "
                f"the original's {list(self._expected[differing].shape[1:])}",
            )
        error_of_peak = max(largest_error(found[name], self._expected[name]) for name in found)
        try:
            loss = self.metric.loss(found, self._expected, self.samples.labels)
        except MetricError as error:
            return Decision(accepted=False, reason=str(error), error=error_of_peak)
        return Decision(
            accepted=not (reason := self._objection(candidate, loss, error_of_peak)),
            reason=reason,
            loss=loss,
            error=error_of_peak,
        )

    def _run(self, candidate: Candidate) -> Mapping[str, Array]:
        if candidate.format == self._format:
            return self.inference.outputs(candidate.path, self.samples)
        other = replace(self.inference, runtime=RUNTIME_OF[candidate.format])
        return other.outputs(candidate.path, as_taken(self.samples, candidate.path))

    def _objection(self, candidate: Candidate, loss: Loss, error: float) -> str:
        if candidate.kind != LOSSY:
            if error > LOSSLESS_ERROR:
                return (
                    f"it is no lossless change: outputs differ by {error:.1e} of the largest (limit {LOSSLESS_ERROR:g})"
                )
            return f"it loses {loss.observed:.2%} of {self.metric.name}" if loss.observed > 0 else ""
        if loss.observed > self.budget:
            return f"it loses {loss.observed:.2%} of {self.metric.name} (budget {self.budget:.2%})"
        if loss.bound > self.budget:
            return (
                f"it loses {loss.observed:.2%} of {self.metric.name} here, and may lose {loss.bound:.2%} on other "
                f"samples (budget {self.budget:.2%}; more samples narrow that)"
            )
        return ""

    def _named(self, found: Mapping[str, Array]) -> dict[str, Array]:
        """Under the original's names: converters rename outputs and keep their order."""
        if len(found) != len(self._expected):
            raise InferenceFailed(f"it has {len(found)} outputs, the original {len(self._expected)}")
        return dict(zip(self._expected, found.values(), strict=True))


def _useless(outputs: Mapping[str, Array]) -> str:
    """What is wrong with outputs that compare with nothing."""
    for name, array in outputs.items():
        if np.issubdtype(array.dtype, np.floating):
            bad = int((~np.isfinite(array)).sum())
            if bad:
                return f"gives NaN or infinity in {bad} of {array.size} values of output {name!r}"
    if all(not np.any(array) for array in outputs.values()):
        return "gives nothing but zeros"
    return ""


def largest_error(found: Array, expected: Array) -> float:
    """The largest difference, as a share of the largest value expected; of unequal zeros, infinity."""
    a, b = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    if not b.size:
        return 0.0
    off, peak = float(np.abs(a - b).max()), float(np.abs(b).max())
    return off / peak if peak else (0.0 if off == 0 else float("inf"))
