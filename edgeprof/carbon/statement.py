"""Grams of CO2e per inference of a run, in each way of sharing the device out, with everything that went into them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeprof.carbon.embodied import EMBODIED, LIFETIME, Embodied
from edgeprof.carbon.inputs import USER, Input
from edgeprof.carbon.intensity import INTENSITY, Intensity
from edgeprof.carbon.monte_carlo import Number, Numbers, Spread, draw, nominal, spread, variance_shares
from edgeprof.carbon.quantity import YEAR_S
from edgeprof.carbon.sci import ACTIVE, MARGINAL, METHOD, MODES, RESERVED, embodied_g, energy_j, operational_g
from edgeprof.carbon.supply import INSIDE, Supply
from edgeprof.carbon.usage import IDLE, LATENCY, NET, Usage
from edgeprof.errors import UsageError

__all__ = ["Allocation", "Case", "Statement", "state"]

RATE = "rate"
RATE_SOURCE = "given by the user"


@dataclass(frozen=True, kw_only=True)
class Case:
    """Everything that a figure is computed from. Without a rate the device works back to back."""

    usage: Usage
    supply: Supply
    intensity: Intensity
    embodied: Embodied
    rate_hz: float | None = None

    @property
    def inputs(self) -> tuple[Input, ...]:
        """Every input, each once."""
        rate = () if self.rate_hz is None else (Input.exactly(RATE, self.rate_hz, "1/s", USER, RATE_SOURCE),)
        return (*self.usage.inputs, *self.supply.factors, self.intensity.input, *self.embodied.inputs, *rate)

    def require_possible(self) -> None:
        """Refuse a rate that this device cannot keep.

        Raises:
            UsageError: it is more than one inference after the other.
        """
        most_hz = 1.0 / self.usage.latency.value
        if self.rate_hz is not None and self.rate_hz > most_hz:
            raise UsageError(
                f"{self.rate_hz:.3g} inferences a second are more than {self.usage.subject} can do: {most_hz:.3g}",
                f"give --rate {most_hz:.2g}/s or less, or leave it out for back to back",
            )

    # --- what one inference is: pure functions of the inputs' numbers, for one value of each or for all draws ---

    def reserved_s(self, mode: str, numbers: Numbers) -> Number:
        """The time of the device that one inference pays for."""
        if mode == MARGINAL:
            return 0.0
        is_dedicated = mode == RESERVED and self.rate_hz is not None
        return 1.0 / numbers[RATE] if is_dedicated else numbers[LATENCY]

    def energy_j(self, mode: str, numbers: Numbers) -> Number:
        """Joules at the socket."""
        at_sensor = energy_j(numbers[NET], numbers[IDLE], self.reserved_s(mode, numbers))
        for factor in self.supply.factors:
            at_sensor = at_sensor / numbers[factor.name]
        return at_sensor

    def operational_g(self, mode: str, numbers: Numbers) -> Number:
        return operational_g(self.energy_j(mode, numbers), numbers[INTENSITY])

    def embodied_g(self, mode: str, numbers: Numbers) -> Number:
        lifetime_s = numbers[LIFETIME] * YEAR_S
        return embodied_g(numbers[EMBODIED], self.reserved_s(mode, numbers), lifetime_s)

    def total_g(self, mode: str, numbers: Numbers) -> Number:
        return self.operational_g(mode, numbers) + self.embodied_g(mode, numbers)


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """One inference in one way of sharing the device out, at the socket. `variance_shares` are of `total_g`.

    `per_year_g` is at the case's rate; None without one, as nobody knows how many there will be.
    """

    mode: str
    meaning: str
    is_sci: bool
    reserved_s: float
    energy_j: Spread
    operational_g: Spread
    embodied_g: Spread
    total_g: Spread
    per_1000_g: Spread
    per_year_g: Spread | None
    variance_shares: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A carbon figure as it may be published: what of, by which method, within which boundary, from which inputs."""

    run: str
    functional_unit: str
    method: str
    software_boundary: str
    sensor_boundary: str
    energy_method: str
    origin: str
    is_measured: bool
    is_lower_bound: bool
    intensity_kind: str
    rate_hz: float | None
    seed: int
    allocations: tuple[Allocation, ...]
    inputs: tuple[Input, ...]
    notes: tuple[str, ...]
    attributions: tuple[str, ...]

    def allocation(self, mode: str) -> Allocation:
        """That of one mode."""
        return next(one for one in self.allocations if one.mode == mode)


def state(case: Case, *, seed: int = 0) -> Statement:
    """Compute a case; the same case and seed give the same statement.

    Raises:
        UsageError: the device cannot keep the rate.
    """
    case.require_possible()
    values = nominal(case.inputs)
    draws = draw(case.inputs, seed=seed)
    usage = case.usage
    return Statement(
        run=usage.run_id,
        functional_unit=f"1 inference of {usage.subject}",
        method=METHOD,
        software_boundary="the device while it runs the model, its power supply, and its making; no network, no server",
        sensor_boundary=case.supply.boundary,
        energy_method=usage.method,
        origin=usage.origin,
        is_measured=usage.is_measured,
        is_lower_bound=case.embodied.is_bound or case.supply.boundary in INSIDE,
        intensity_kind=case.intensity.kind,
        rate_hz=case.rate_hz,
        seed=seed,
        allocations=tuple(_allocation(case, mode, values, draws) for mode in (ACTIVE, RESERVED, MARGINAL)),
        inputs=case.inputs,
        notes=tuple(dict.fromkeys(_notes(case))),
        attributions=(case.intensity.attribution,) if case.intensity.attribution else (),
    )


def _allocation(case: Case, mode: str, values: Numbers, draws: Numbers) -> Allocation:
    def total(numbers: Numbers) -> Number:
        return case.total_g(mode, numbers) if mode != MARGINAL else case.operational_g(mode, numbers)

    found = spread(total, values, draws)
    return Allocation(
        mode=mode,
        meaning=MODES[mode],
        is_sci=mode != MARGINAL,
        reserved_s=float(case.reserved_s(mode, values)),
        energy_j=spread(lambda numbers: case.energy_j(mode, numbers), values, draws),
        operational_g=spread(lambda numbers: case.operational_g(mode, numbers), values, draws),
        embodied_g=spread(lambda numbers: case.embodied_g(mode, numbers), values, draws),
        total_g=found,
        per_1000_g=found.times(1000.0),
        per_year_g=None if case.rate_hz is None else found.times(case.rate_hz * YEAR_S),
        variance_shares=variance_shares(total, values, draws),
    )


def _notes(case: Case) -> Sequence[str]:
    notes = [*case.usage.notes, *case.supply.notes]
    if case.usage.origin != "measured":
        notes.append(f"the run is {case.usage.origin}: these grams are no statement about a real device")
    notes += [f"{one.name}: {one.note}" for one in case.inputs if one.note]
    if case.rate_hz is None:
        notes.append("no --rate: the device is taken to work back to back, where active and reserved are the same")
    notes.append("in active mode the embodied part grows with latency: a faster model looks greener by that alone")
    return notes
