"""A tuning on a device from its first look to the recipe: `tune_on`. It goes on where an earlier sitting ended."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from device_agents import wire
from edgeprof.errors import JobRefused, TuningError
from edgeprof.spooled import AWAY
from edgeprof.tuning.configuration import Configuration
from edgeprof.tuning.features import features
from edgeprof.tuning.journal import Entry, Header, Journal, journal_of
from edgeprof.tuning.making import recipe_of
from edgeprof.tuning.measuring import QUICK, THOROUGH, BatteryLow, Bench
from edgeprof.tuning.objective import Measured, Objective
from edgeprof.tuning.outcome import Outcome, Seen, judge
from edgeprof.tuning.recipe import Recipe, write_recipe
from edgeprof.tuning.space import Choices, configurations
from edgeprof.tuning.topology_notes import topology_notes
from edgeprof.tuning.tuner import Progress, tune

__all__ = ["Found", "Wish", "tune_on"]

# Where nobody says how many: the share of the configurations that is measured, within bounds.
USUAL_SHARE, FEWEST, MOST = 0.15, 12, 100
# A budget of time: finalists take longer than a quick look.
LONGER = 1.4
# Measurements that are kept for the end, when what is handed over is measured in turns with the default.
KEPT_FOR_PROOF, PROOFS = 6, 2
# How long a device is waited for that somebody else takes between two measurements.
PATIENCE_S = 900.0
# So many failures before anything ran, and it is not the configurations.
GIVE_UP_AFTER = 5


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is asked for. Empty or None leaves it to the device: `runtimes`, `threads`, and how much is measured.

    `jobs` is a number of measurements, `time_s` a time over all sittings. `without_root` leaves out what an app cannot
    do itself, `caps` whether clocks may be capped.
    """

    objective: Objective = field(default_factory=Objective)
    runtimes: tuple[str, ...] = ()
    threads: tuple[int, ...] | None = None
    caps: bool = True
    without_root: bool = False
    providers: tuple[str, ...] = ()
    delegates: tuple[str, ...] = ()
    jobs: int | None = None
    time_s: float | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Found:
    """What came of it. `ended_by` is "done", "time", "lost" (or held by somebody else) or "battery".

    `n_jobs` counts measurements of `n_measured` configurations out of `n_configurations`, `n_before` those of earlier
    sittings.
    """

    outcome: Outcome
    recipe: Recipe
    notes: tuple[str, ...]
    n_configurations: int
    n_measured: int
    n_jobs: int
    n_before: int
    ended_by: str
    why: str

    @property
    def is_finished(self) -> bool:
        return self.ended_by in ("done", "time")


class _Ended(Exception):
    """No more is measured now."""

    def __init__(self, by: str, why: str) -> None:
        super().__init__(why)
        self.by, self.why = by, why


def tune_on(
    bench: Bench,
    wish: Wish,
    recipe: Path,
    *,
    resume: bool = False,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    now: Callable[[], float] = time.monotonic,
) -> Found:
    """Measure until it is known, or a budget is spent, and write the recipe.

    Raises:
        UsageError: the wish makes no sense for this device or model.
        TuningError: nothing ran, the file of an earlier sitting does not fit, or a file cannot be written.
        MeterError: energy is asked for and there is no meter.
        LinkError, AgentError: the device is away, before anything was measured.
    """
    with bench:
        bench.require_charge()
        runtimes = bench.runtimes(wish.runtimes)
        if bench.energy:
            bench.require_meter()
        topology, machine = bench.topology(), bench.machine()
        with_caps = wish.caps and not wish.without_root
        notes = topology_notes(topology, caps=with_caps)
        for note in notes:
            bench.tell(note)
        choices = Choices(
            runtimes=runtimes,
            threads=wish.threads,
            caps=with_caps,
            providers=wish.providers,
            delegates=wish.delegates,
        )
        sitting = _Sitting(bench, wish, configurations(topology, choices), topology, on_progress, now)
        with Journal(journal_of(recipe), _header(bench), resume=resume) as journal:
            by, why = sitting.run(journal)
            outcome = judge(sitting.seen(), sitting.default, wish.objective)
            if outcome is None:
                raise TuningError(*_nothing(sitting.seen(), why))
            made = recipe_of(
                outcome,
                model=bench.model,
                device=bench.device,
                machine=machine,
                topology=topology,
                entries=journal.entries,
                n_configurations=len(sitting.configurations),
                notes=notes,
                are_kept=bench.keep is not None,
            )
            write_recipe(made, recipe)
            if by in ("done", "time"):
                journal.end(why)
            return Found(
                outcome=outcome,
                recipe=made,
                notes=notes,
                n_configurations=len(sitting.configurations),
                n_measured=len(sitting.seen()),
                n_jobs=len(journal.entries),
                n_before=sitting.n_before,
                ended_by=by,
                why=why,
            )


class _Sitting:
    """One process's part of a tuning: asks the journal first, and measures what is not in it."""

    def __init__(
        self,
        bench: Bench,
        wish: Wish,
        configurations: Sequence[Configuration],
        topology: wire.Topology,
        on_progress: Callable[[Progress], None],
        now: Callable[[], float],
    ) -> None:
        self.configurations = configurations
        self.default = configurations[0]
        self.n_before = 0
        self._bench, self._wish, self._topology = bench, wish, topology
        self._on_progress, self._now = on_progress, now
        self._journal: Journal | None = None
        self._asked: Counter[tuple[Configuration, int]] = Counter()
        self._n_asked = 0
        self._is_news = True

    def run(self, journal: Journal) -> tuple[str, str]:
        """Measure; how it ended, and why in words."""
        self._journal, self.n_before = journal, len(journal.entries)
        try:
            jobs = self._jobs(journal)
            kept = min(KEPT_FOR_PROOF, jobs // 5)
            tuned = tune(
                self.configurations,
                features(self.configurations, self._topology),
                self._measure,
                self._wish.objective,
                budget=jobs - kept,
                seed=self._wish.seed,
                on_progress=lambda progress: self._tell(progress, jobs),
            )
            self._prove(jobs)
        except _Ended as ended:
            return ended.by, ended.why
        if len(tuned.measurements) < tuned.budget:
            return "done", tuned.why_stopped
        if self._wish.jobs is None and self._wish.time_s is not None:
            return "time", f"{self._wish.time_s:.0f} s are enough for {jobs} measurements here"
        return "done", f"the budget of {jobs} measurements is spent"

    def seen(self) -> list[Seen]:
        """All that was measured, in the order of the configurations; an earlier sitting may have had others."""
        entries = self._journal.entries if self._journal is not None else []
        by_configuration: dict[Configuration, list[Entry]] = {}
        for entry in entries:
            by_configuration.setdefault(entry.configuration, []).append(entry)
        ordered = [one for one in self.configurations if one in by_configuration]
        return [
            Seen(
                configuration=one,
                levels=tuple(entry.level for entry in by_configuration[one]),
                measured=tuple(entry.measured for entry in by_configuration[one]),
                runs=tuple(entry.run for entry in by_configuration[one] if entry.run is not None),
            )
            for one in ordered
        ]

    def _jobs(self, journal: Journal) -> int:
        """How many measurements: as asked, or as fit into the time, or what is usual for so many configurations."""
        n, wish = len(self.configurations), self._wish
        if wish.jobs is not None:
            return wish.jobs
        if wish.time_s is None:
            return min(max(FEWEST, math.ceil(USUAL_SHARE * n)), MOST)
        known = journal.allowed(wish.time_s)
        if known is not None:
            return known
        first = journal.find(self.default, QUICK, 0) or self._new(self.default, QUICK)
        jobs = min(max(2, int(wish.time_s / (LONGER * max(first.took_s, 1e-3)))), 2 * n + KEPT_FOR_PROOF)
        journal.allow(wish.time_s, jobs)
        return jobs

    def _measure(self, configuration: Configuration, level: int) -> Measured:
        if self._journal is None:
            raise TuningError("nothing is measured outside of a sitting", "use tune_on")
        nth = self._asked[configuration, level]
        self._asked[configuration, level] += 1
        self._n_asked += 1
        known = self._journal.find(configuration, level, nth)
        self._is_news = known is None
        return (known or self._new(configuration, level)).measured

    def _new(self, configuration: Configuration, level: int) -> Entry:
        if self._journal is None:
            raise TuningError("nothing is measured outside of a sitting", "use tune_on")
        entries = self._journal.entries
        spent_s = sum(entry.took_s for entry in entries)
        if self._wish.time_s is not None and spent_s >= self._wish.time_s:
            raise _Ended("time", f"the time is spent: {spent_s:.0f} s")
        begin_s = self._now()
        try:
            measured, run = self._bench.measure(configuration, level, len(entries))
        except (*AWAY, JobRefused) as error:
            if not entries:
                raise
            raise _Ended("lost", str(error)) from error
        entry = Entry(
            configuration=configuration,
            level=level,
            measured=measured,
            took_s=self._now() - begin_s,
            run=run.id if run is not None else None,
            runtime_version=run.profile.runtime_version if run is not None else None,
            origin=run.profile.origin if run is not None else None,
        )
        self._journal.add(entry)
        self._bench.wait_s = max(self._bench.wait_s, PATIENCE_S)
        self._give_up_if_hopeless(entries)
        if measured.failure is not None:
            self._bench.tell(f"{configuration.name}: {measured.failure}")
        if run is not None:
            try:
                self._bench.check_after(run)
            except BatteryLow as low:
                raise _Ended("battery", str(low)) from low
        return entry

    def _give_up_if_hopeless(self, entries: Sequence[Entry]) -> None:
        failures = {entry.measured.failure for entry in entries}
        if len(entries) == GIVE_UP_AFTER and len(failures) == 1 and None not in failures:
            raise TuningError(
                f"the first {GIVE_UP_AFTER} configurations all fail for the same reason: {failures.pop()}",
                f"does it run there at all? edgeprof profile {self._bench.model.path} -d {self._bench.device.name}",
            )

    def _prove(self, jobs: int) -> None:
        """Measure in turns, thoroughly: the default, what is handed over, the best without root, the same uncapped."""
        for turn in range(PROOFS):
            outcome = judge(self.seen(), self.default, self._wish.objective)
            if outcome is None:
                return
            wanted = [self.default, outcome.chosen.configuration]
            if outcome.without_root is not None:
                wanted.append(outcome.without_root.configuration)
            if outcome.chosen.configuration.caps:
                wanted.append(dataclasses.replace(outcome.chosen.configuration, caps=()))
            for configuration in dict.fromkeys(wanted):
                if self._n_asked < jobs and self._asked[configuration, THOROUGH] <= turn:
                    self._measure(configuration, THOROUGH)

    def _tell(self, progress: Progress, jobs: int) -> None:
        if self._is_news:
            self._on_progress(dataclasses.replace(progress, budget=jobs))


def _header(bench: Bench) -> Header:
    return Header(
        model=bench.model.digest,
        device=bench.device.name,
        address=bench.device.address,
        energy=bench.energy,
        meter=bench.meter,
        shapes=dict(bench.model.inputs.given),
        batch=bench.base.batch,
    )


def _nothing(seen: Sequence[Seen], why: str) -> tuple[str, str]:
    reasons = "; ".join(dict.fromkeys(one.failure for one in seen if one.failure is not None)) or why
    return f"nothing could be measured: {reasons}", "does it run there at all? edgeprof profile MODEL -d DEVICE"
