"""Train: measure step after step, fit now and then, choose next what is known worst; go on after a kill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace

from device_agents import wire
from edgeprof.errors import JobRefused, ModelError, UsageError
from edgeprof.profiling import OnProgress, OpenDevice
from edgeprof.run import Run
from edgeprof.spooled import AWAY, Patience, usual_patience
from edgeprof.store import Store
from edgeprof.training.fitting import fit
from edgeprof.training.measuring import NET, Bench
from edgeprof.training.nets import family_at
from edgeprof.training.observed import target_of
from edgeprof.training.plan import CANDIDATES, Plan, next_step, step_at
from edgeprof.training.sampling import choose_probe
from latency_models.building import BuildError
from latency_models.observations import Target
from latency_models.predictor import Predictor

__all__ = ["Event", "Trained", "Training", "spent_s"]

# The first fit comes after so many models, each next one after so many times as many: fitting must not eat the budget.
FIRST_FIT, NEXT_FIT = 48, 1.5
# So many refusals in a row are no longer those of single operators.
MOST_REFUSALS = 12


@dataclass(frozen=True)
class Event:
    """Something that happened: `what` is "measured", "refused", "fitted", "lost" or "reconnected".

    `done` models were measured, which took `spent_s` of the budget. `predictor` is the one that was fitted.
    """

    what: str
    done: int
    spent_s: float
    text: str = ""
    predictor: Predictor | None = None


@dataclass(frozen=True)
class Trained:
    """How a training ended: by "budget", "target", "steps" (as many as were asked for) or "lost"."""

    predictor: Predictor
    ended_by: str
    refused: dict[str, int] = field(default_factory=dict)
    lost: str | None = None


def spent_s(runs: Sequence[Run]) -> float:
    """The time that measuring took, over all sittings."""
    return sum(run.stages_s.get("profile", 0.0) for run in runs)


_Conditions = tuple[str, wire.RuntimeOptions, int]


@dataclass
class Training:
    """One training of a device: the store has what was measured in sittings before.

    `extra` are the user's own runs. `on_event` hears what happens; `patience` is for a device that is lost.
    """

    opened: OpenDevice
    store: Store
    plan: Plan
    extra: Sequence[Run] = ()
    on_event: Callable[[Event], None] | None = None
    on_progress: OnProgress | None = None
    patience: Patience = field(init=False)
    _lost: str = ""
    _runs: list[Run] = field(default_factory=list)
    _refused: Counter[str] = field(default_factory=Counter)
    _consecutive: int = 0
    _n_fitted: int = 0

    def __post_init__(self) -> None:
        self.patience = usual_patience(self._on_lost)

    def run(self, most_steps: int | None = None) -> Trained:
        """Measure until the budget is spent, the target is reached, or `most_steps` more steps are done.

        Raises:
            UsageError: the store has a training of something else.
            MeasurementError: nothing that was measured can be used.
            JobRefused: the device refuses everything.
            LinkError, AgentError: the device is lost before anything was measured.
        """
        self._runs = [one for one in self.store.read(self.store.list()) if isinstance(one, Run)]
        self._require_same()
        number = next_step(self._runs)
        last = None if most_steps is None else number + most_steps
        predictor: Predictor | None = None
        next_fit = FIRST_FIT
        if len(self._runs) >= FIRST_FIT:
            predictor, next_fit = self._fitted(), int(len(self._runs) * NEXT_FIT)
        ended_by, lost = "budget", None
        while spent_s(self._runs) < self.plan.budget_s:
            if last is not None and number >= last:
                ended_by = "steps"
                break
            try:
                self._measure(number, predictor)
            except AWAY as error:
                if not self._runs:
                    raise
                ended_by, lost = "lost", str(error)
                break
            number += 1
            if len(self._runs) >= next_fit:
                predictor, next_fit = self._fitted(), int(len(self._runs) * NEXT_FIT)
                if self._is_good_enough(predictor):
                    ended_by = "target"
                    break
        if predictor is None or self._n_fitted != len(self._runs):
            predictor = self._fitted()
        return Trained(predictor, ended_by, dict(self._refused), lost)

    # --- one step ---

    def _measure(self, number: int, predictor: Predictor | None) -> None:
        if not self._runs:
            self._measure_once(number, predictor)
            return
        self._lost = ""
        self.patience.persist(self.opened, lambda: self._measure_once(number, predictor))
        if self._lost:
            self._tell("reconnected", f"{self.opened.device.name} answers again")

    def _on_lost(self, why: str) -> None:
        self._lost = why
        self._tell("lost", why)

    def _measure_once(self, number: int, predictor: Predictor | None) -> None:
        step = step_at(number)
        bench = Bench(
            self.opened,
            self.plan.runtime,
            self.plan.seed,
            self.plan.options,
            self.plan.energy,
            self.on_progress,
        )
        try:
            if step.kind == NET:
                family = family_at(step.turn, bench.format, step.precision)
                run = bench.net(number * CANDIDATES, family, step.precision)
            else:
                chosen = choose_probe(step, self.plan.seed, bench.format, predictor, self.plan.wanted)
                run = bench.probe(chosen, step.precision)
        except JobRefused as refusal:
            self._refuse(refusal)
            return
        except (BuildError, ModelError) as error:
            self._refused[str(error)] += 1
            self._tell("refused", str(error))
            return
        self._consecutive = 0
        self._require_same_target(run)
        self.store.add(run)
        self._runs.append(run)
        self._tell("measured", run.profile.job.model.name)

    def _refuse(self, refusal: JobRefused) -> None:
        """One operator that a runtime lacks is noted; a device that refuses everything is no device to train on."""
        self._consecutive += 1
        if refusal.kind in ("leased", "runtime-missing") or self._consecutive >= MOST_REFUSALS:
            raise refusal
        self._refused[str(refusal)] += 1
        self._tell("refused", str(refusal))

    # --- fitting ---

    def _fitted(self) -> Predictor:
        predictor = fit(self._runs, self.plan.seed, self.extra)
        self._n_fitted = len(self._runs)
        provenance = {**predictor.provenance, "budget_s": self.plan.budget_s, "spent_s": spent_s(self._runs)}
        predictor = replace(predictor, provenance=provenance)
        self._tell("fitted", "", predictor)
        return predictor

    def _is_good_enough(self, predictor: Predictor) -> bool:
        error = predictor.metrics.get("nets/mape")
        return self.plan.target_error is not None and error is not None and error <= self.plan.target_error

    def _require_same(self) -> None:
        """A store goes on only with what it began with.

        Raises:
            UsageError: it has another runtime, options or seed.
        """
        if not self._runs:
            return
        job = self._runs[0].profile.job
        before, now = (job.runtime, job.options, job.seed), (self.plan.runtime, self.plan.options, self.plan.seed)
        if before != now:
            raise UsageError(
                f"{self.store.place} has a training with {_words(before, now)}, and not with {_words(now, before)}",
                "give it another --name, or the same options as before",
            )

    def _require_same_target(self, run: Run) -> None:
        """What was measured after an update of the runtime, or on another board, is not mixed with what was before.

        Raises:
            UsageError: the device is no longer what the store's runs were measured on.
        """
        if not self._runs:
            return
        before, now = target_of(self._runs[0]), target_of(run)
        of_both = [(one.name, getattr(before, one.name), getattr(now, one.name)) for one in fields(Target)]
        changed = [
            f"its {name.replace('_', ' ')} was {old!r} and is {new!r}"
            for name, old, new in of_both
            if name != "device" and old != new
        ]
        if changed:
            raise UsageError(
                f"{run.device} is not what {self.store.place} was measured on: {', '.join(changed)}",
                "train what it is now under another --name",
            )

    def _tell(self, what: str, text: str, predictor: Predictor | None = None) -> None:
        if self.on_event is not None:
            self.on_event(Event(what, len(self._runs), spent_s(self._runs), text, predictor))


def _words(one: _Conditions, other: _Conditions) -> str:
    """Runtime, options and seed, as far as they differ from the other's."""
    (runtime, options, seed), (other_runtime, others, other_seed) = one, other
    changed = {
        "runtime": (runtime, other_runtime),
        **{field.name: (getattr(options, field.name), getattr(others, field.name)) for field in fields(options)},
        "seed": (seed, other_seed),
    }
    return ", ".join(f"{name} {mine}" for name, (mine, its) in changed.items() if mine != its)
