"""What is known about energy after a run, computed from its raw traces whenever it is shown and never stored."""

from __future__ import annotations

from dataclasses import dataclass

from device_agents.wire import MeterInfo

__all__ = [
    "Discarded",
    "Interval",
    "ModelEnergy",
    "ObserverEffect",
    "OperatorEnergies",
    "OperatorEnergy",
    "WindowEnergy",
]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A number and where it may lie with the `confidence` of its context; `low` <= `value` <= `high`."""

    value: float
    low: float
    high: float
    confidence: float = 0.9


@dataclass(frozen=True, kw_only=True)
class Discarded:
    """A window that does not count: its index in `EnergyPass.windows`, and why."""

    window: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class WindowEnergy:
    """One busy window: all that the meter saw of it, and what is left without the rest around it.

    `idle_w` is the power at rest, interpolated from the idle windows before and after to the middle of this one.
    `n_updates` counts new values of the sensor, not reads. The errors are standard uncertainties: from its noise, and
    `step_error_w` from its step, by which every window may be wrong in the same direction.
    """

    window: int
    duration_s: float
    n_runs: int
    n_updates: int
    power_w: float
    idle_w: float
    power_error_w: float = 0.0
    idle_error_w: float = 0.0
    step_error_w: float = 0.0

    @property
    def gross_j(self) -> float:
        """Joules per inference, rest included."""
        return self.power_w * self.duration_s / self.n_runs

    @property
    def net_j(self) -> float:
        """Joules per inference above rest."""
        return (self.power_w - self.idle_w) * self.duration_s / self.n_runs


@dataclass(frozen=True, kw_only=True)
class ObserverEffect:
    """What asking the meter does: latency, and power above rest, when asked `fast_hz` times a second over `slow_hz`.

    Ratios with intervals; None where too few windows count.
    """

    fast_hz: float
    slow_hz: float
    latency_ratio: Interval | None
    power_ratio: Interval | None


@dataclass(frozen=True, kw_only=True)
class ModelEnergy:
    """The energy of one inference at the boundary of one meter. Medians over the windows that count.

    `latency_s` was taken while the meter was asked and is no substitute for the profile's own. `notes` are doubts and
    assumptions in words. `calibration` says what had to be corrected in the meter's values (sign, unit), None: nothing.
    """

    meter: MeterInfo
    gross_j: Interval
    net_j: Interval
    power_w: Interval
    idle_w: Interval
    latency_s: Interval
    windows: tuple[WindowEnergy, ...]
    discarded: tuple[Discarded, ...] = ()
    observer: ObserverEffect | None = None
    calibration: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class OperatorEnergy:
    """Net energy of one kernel of the profile, per inference.

    `isolated_j` comes from its loop alone, scaled to the time it takes in the model; `in_model_j` is that, scaled so
    that all operators add up to the whole model. None with the reason in `missing`.
    """

    kernel: int
    isolated_j: Interval | None
    in_model_j: Interval | None
    missing: str | None = None


@dataclass(frozen=True, kw_only=True)
class OperatorEnergies:
    """All operators of a run. `closure` is their isolated sum with overhead over the whole model's net energy."""

    operators: tuple[OperatorEnergy, ...]
    overhead_j: Interval | None
    closure: Interval | None
    residual_j: float | None
    notes: tuple[str, ...] = ()
