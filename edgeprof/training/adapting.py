"""Adapt predictors of other devices to one: measure a few whole nets on it, and blend what the others say of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from device_agents import wire
from edgeprof import __version__
from edgeprof.errors import JobRefused, MeasurementError, ModelError, UsageError
from edgeprof.profiling import OpenDevice
from edgeprof.run import Run
from edgeprof.statistics import summarise
from edgeprof.store import Store
from edgeprof.training.measuring import FORMATS, Bench, model_bytes
from edgeprof.training.nets import draw_net, family_at
from edgeprof.training.observed import MOST_DISTURBED, slowness, target_of
from edgeprof.training.plan import FLOAT, parse_name
from latency_models.adapted import FEWEST, Adapted
from latency_models.building import BuildError
from latency_models.predictor import Predictor
from latency_models.whole_graph import is_enough

__all__ = ["Adaptation", "Adapting", "require_runtime"]

# Nets that are disturbed or refused are replaced by others, up to so many for each that is wanted.
MOST_ATTEMPTS = 3
MOST_REFUSALS = 6


@dataclass(frozen=True)
class Adaptation:
    """What became of it: the predictor, how many nets were disturbed and left out, and whether more would have helped.

    `errors` are those on nets left out after each net but the first ones.
    """

    predictor: Adapted
    n_disturbed: int
    errors: tuple[float, ...]

    @property
    def may_gain(self) -> bool:
        """Whether errors were still falling."""
        return not is_enough(self.errors)


def require_runtime(sources: Sequence[Predictor], wanted: str | None = None) -> str:
    """The runtime that is wanted, or else that of all sources.

    Raises:
        UsageError: they have several, or predict models of a format that the wanted one does not run.
    """
    found = sorted({one.target.runtime for one in sources})
    if wanted is None and len(found) > 1:
        raise UsageError(f"these predictors are for {' and '.join(found)}", "say which is wanted with --runtime")
    runtime = wanted or found[0]
    if runtime not in FORMATS:
        raise UsageError(f"{runtime} is no runtime", f"there are {', '.join(FORMATS)}")
    for source in sources:
        if FORMATS[source.target.runtime] != FORMATS[runtime]:
            raise UsageError(
                f"{source.target.name} predicts {FORMATS[source.target.runtime]} models: {runtime} does not run them",
                "name predictors of the same format",
            )
    return runtime


@dataclass
class Adapting:
    """One adaptation: `store` keeps what was measured, so that one that was interrupted goes on.

    Measures `samples` nets, or fewer when the error on nets left out is below `target_error`.
    """

    opened: OpenDevice
    store: Store
    sources: Sequence[Predictor]
    runtime: str
    options: wire.RuntimeOptions = field(default_factory=wire.RuntimeOptions)
    samples: int = 10
    target_error: float | None = None
    seed: int = 0
    on_net: Callable[[str, float], None] | None = None
    _runs: list[Run] = field(default_factory=list)

    def run(self) -> Adaptation:
        """Measure and fit.

        Raises:
            UsageError: the store has something else.
            MeasurementError: too few nets were not disturbed.
            JobRefused: the device refuses everything.
            LinkError, AgentError: the device is lost; what was measured is kept.
        """
        number, errors, refused = self._next(), list[float](), 0
        while len(self._quiet()) < self.samples and number < MOST_ATTEMPTS * self.samples:
            try:
                self._measure(number)
                refused = 0
            except (BuildError, ModelError):
                pass
            except JobRefused as refusal:
                refused += 1
                if refusal.kind in ("leased", "runtime-missing") or refused >= MOST_REFUSALS:
                    raise
            number += 1
            if len(self._quiet()) > FEWEST:
                errors.append(self._fitted().metrics["nets/mape"])
                if self.target_error is not None and is_enough(errors[-1:], self.target_error):
                    break
        return Adaptation(self._fitted(), len(self._runs) - len(self._quiet()), tuple(errors))

    def _measure(self, number: int) -> None:
        bench = Bench(self.opened, self.runtime, self.seed, self.options)
        run = bench.net(number, family_at(number, bench.format), FLOAT)
        self.store.add(run)
        self._runs.append(run)
        if self.on_net is not None:
            self.on_net(run.profile.job.model.name, summarise(run.profile).median_s)

    def _next(self) -> int:
        """The number of the first net that was not measured yet."""
        self._runs = [one for one in self.store.read(self.store.list()) if isinstance(one, Run)]
        if self._runs:
            job = self._runs[0].profile.job
            if (job.runtime, job.options, job.seed) != (self.runtime, self.options, self.seed):
                raise UsageError(
                    f"{self.store.place} was measured with another runtime, other options or another seed",
                    "give it another --name, or the same options as before",
                )
        found = [parse_name(run.profile.job.model.name) for run in self._runs]
        return 1 + max((one.number for one in found if one is not None), default=-1)

    def _quiet(self) -> list[Run]:
        slower = slowness(self._runs)
        return [run for run in self._runs if slower.get(run.id, 1.0) <= MOST_DISTURBED]

    def _fitted(self) -> Adapted:
        runs = self._quiet()
        if len(runs) < FEWEST:
            raise MeasurementError(
                f"{len(self._runs) - len(runs)} of {len(self._runs)} nets were disturbed or could not be measured",
                "stop what else runs on the device, and adapt again with more --samples",
            )
        models = [self._model_of(run) for run in runs]
        found = Adapted.fit(target_of(runs[0]), self.sources, models, [summarise(run.profile).median_s for run in runs])
        return replace(found, provenance=self._provenance(runs))

    def _model_of(self, run: Run) -> bytes:
        """The net that was measured, drawn anew."""
        parsed = parse_name(run.profile.job.model.name)
        if parsed is None:
            raise UsageError(f"{self.store.place} has a run of {run.profile.job.model.name}", "give another --name")
        graph = draw_net(self.seed, parsed.number, parsed.family, FORMATS[self.runtime], parsed.precision)
        return model_bytes(graph, self.seed)

    def _provenance(self, runs: Sequence[Run]) -> dict[str, object]:
        return {
            "edgeprof_version": __version__,
            "fitted_at_s": time.time(),
            "measured_from_s": min(run.profile.started_at_s for run in runs),
            "measured_until_s": max(run.profile.started_at_s for run in runs),
            "spent_s": sum(run.stages_s.get("profile", 0.0) for run in self._runs),
            "n_models": len(self._runs),
            "n_nets": len(runs),
            "n_disturbed": len(self._runs) - len(runs),
            "seed": self.seed,
            "adapted_from": [
                {"target": one.target.name, "runs_digest": one.provenance.get("runs_digest")} for one in self.sources
            ],
        }
