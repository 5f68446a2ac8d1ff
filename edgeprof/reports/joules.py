"""What a run says about energy, line by line: for every report that shows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from device_agents.wire import BUSY, MEASURED
from edgeprof.energy import Interval, ModelEnergy, OperatorEnergies, OperatorEnergy, attribute, model_energy
from edgeprof.errors import MeasurementError
from edgeprof.reports.quantities import duration, energy, energy_interval, interval, percent, power_interval
from edgeprof.run import Run

__all__ = ["Joules", "energy_cell", "energy_lines", "joules"]

MOST_REASONS = 4
NOT_ASKED = "not asked for (--energy)"


@dataclass(frozen=True, kw_only=True)
class Joules:
    """The energy of a run and of its operators; what there is not has a reason."""

    model: ModelEnergy | None
    missing: str | None
    operators: OperatorEnergies | None
    operators_missing: str | None

    def of_kernel(self, kernel: int) -> OperatorEnergy | None:
        """What is known of one kernel of the profile."""
        found = self.operators.operators if self.operators is not None else ()
        return next((one for one in found if one.kernel == kernel), None)


@dataclass(frozen=True)
class Line:
    """A label, what stands behind it, and whether it is a doubt."""

    label: str
    text: str
    is_doubt: bool = False


def joules(run: Run) -> Joules:
    """Computed from the raw traces of the run."""
    recorded = run.profile.energy
    if recorded is None:
        reason = run.profile.energy_missing or NOT_ASKED
        return Joules(model=None, missing=reason, operators=None, operators_missing=reason)
    model = missing = operators = operators_missing = None
    try:
        model = model_energy(recorded)
    except MeasurementError as error:
        missing = str(error)
    if run.loops is None:
        operators_missing = run.loops_missing or "no operator was measured in a loop"
    else:
        try:
            operators = attribute(run)
        except MeasurementError as error:
            operators_missing = str(error)
    return Joules(model=model, missing=missing, operators=operators, operators_missing=operators_missing)


def energy_lines(run: Run, found: Joules) -> Iterator[Line]:
    """The whole inference, then how the operators add up. Nothing where energy was not asked for."""
    if found.model is None:
        if found.missing != NOT_ASKED:
            yield Line("Energy", f"none: {found.missing}", is_doubt=True)
        return
    model = found.model
    origin = "" if run.profile.origin == MEASURED else f", {run.profile.origin.upper()}"
    where = f"at the boundary {model.meter.boundary!r} ({model.meter.name}{origin})"
    yield Line("Energy", f"{_in_words(model.gross_j)} per inference, rest included, {where}")
    yield Line("Above rest", f"{_in_words(model.net_j)} per inference")
    running, resting = (power_interval(one.value, one.low, one.high)[0] for one in (model.power_w, model.idle_w))
    yield Line("Power", f"{running} while it runs, {resting} at rest")
    latency = model.latency_s
    took, bounds = interval(latency.value, latency.low, latency.high)
    yield Line("Latency there", f"{took} ({bounds}), taken while the meter was asked: not for comparing")
    yield Line("Energy windows", _windows(model))
    windows = run.profile.energy.windows if run.profile.energy is not None else ()
    busy = [k for k, window in enumerate(windows) if window.kind == BUSY]
    for one in model.discarded:
        number = busy.index(one.window) + 1
        yield Line("", f"window {number} of {len(busy)} left out: {one.reason}", is_doubt=True)
    yield from _observer(model)
    if model.calibration is not None:
        yield Line("Calibration", model.calibration, is_doubt=True)
    if model.meter.not_covered:
        yield Line("Not covered", "; ".join(model.meter.not_covered))
    for note in model.notes:
        yield Line("Beware", note, is_doubt=True)
    yield from _closure(found)


def energy_cell(one: OperatorEnergy | None) -> str:
    """An operator's energy above rest in its model where it is known, with half its interval; else a dash."""
    if one is None or one.isolated_j is None:
        return "-"
    best = one.in_model_j or one.isolated_j
    return f"{energy(best.value)} ±{percent((best.high - best.low) / 2 / best.value)}"


def _in_words(found: Interval) -> str:
    middle, bounds = energy_interval(found.value, found.low, found.high)
    return f"{middle}, {found.confidence:.0%} interval {bounds}"


def _windows(model: ModelEnergy) -> str:
    updates = min((one.n_updates for one in model.windows), default=0)
    seconds = sorted(one.duration_s for one in model.windows)
    spans = f"of {duration(seconds[0])} to {duration(seconds[-1])}" if seconds else ""
    left_out = f"; {len(model.discarded)} left out" if model.discarded else ""
    return f"{len(model.windows)} {spans}, at least {updates} new values of the meter in each{left_out}"


def _observer(model: ModelEnergy) -> Iterator[Line]:
    seen = model.observer
    if seen is None:
        return
    parts = [
        f"{what} x{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"
        for what, one in (("latency", seen.latency_ratio), ("power", seen.power_ratio))
        if one is not None
    ]
    told = ", ".join(parts) or "not known: too few windows"
    yield Line("Asking the meter", f"at {seen.fast_hz:g} Hz against {seen.slow_hz:g} Hz: {told}")


def _closure(found: Joules) -> Iterator[Line]:
    if found.operators is None:
        yield Line("Operators", f"no energy: {found.operators_missing}", is_doubt=True)
        return
    known = [one for one in found.operators.operators if one.isolated_j is not None]
    yield Line("Operators", f"{len(known)} of {len(found.operators.operators)} have an energy of their own")
    reasons = Counter(one.missing for one in found.operators.operators if one.missing is not None)
    for reason, n in reasons.most_common(MOST_REASONS):
        yield Line("", f"{n} have none: {reason}", is_doubt=True)
    if found.operators.overhead_j is not None:
        yield Line("Overhead", f"{_in_words(found.operators.overhead_j)} for a call of the runtime")
    closure, residual = found.operators.closure, found.operators.residual_j
    if closure is not None:
        bounds = f"{percent(closure.low)} to {percent(closure.high)}"
        left = f"; {energy(residual)} unexplained" if residual is not None else ""
        yield Line("Closure", f"loops and overhead add up to {percent(closure.value)} ({bounds}) of the whole{left}")
    for note in found.operators.notes:
        yield Line("Beware", note, is_doubt=True)
