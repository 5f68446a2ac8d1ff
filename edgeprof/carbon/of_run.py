"""From a stored run and a user's options to grams."""

from __future__ import annotations

from device_agents.wire import EnergyPass
from edgeprof.carbon import embodied as embodied_of
from edgeprof.carbon import intensity as intensity_of
from edgeprof.carbon.embodied import Embodied
from edgeprof.carbon.intensity import Intensity
from edgeprof.carbon.providers import PROVIDERS, IntensityProvider
from edgeprof.carbon.quantity import parse_rate
from edgeprof.carbon.statement import Case, Statement, state
from edgeprof.carbon.supply import supply
from edgeprof.carbon.usage import ModelledPower, Usage, at_boundary, measured_usage, modelled_usage
from edgeprof.energy import ModelEnergy, model_energy
from edgeprof.energy.modelled import known_board, modelled_power
from edgeprof.errors import CarbonError, MeasurementError, UsageError
from edgeprof.run import Run
from latency_models import boards

__all__ = ["carbon_of", "case_of", "find_intensity", "metered_energy", "modelled_power_of", "usage_of"]

LOW_VOLTAGE_BELOW_V = 6.0  # EU 2019/1782, Article 2: a low voltage external power supply is below 6 V


def carbon_of(
    run: Run, *, zone: str | None = None, intensity: str | None = None,
    provider: IntensityProvider | str | None = None, rate: str | None = None, embodied: str | None = None,
    lifetime: str | None = None, device: str | None = None, psu_w: float | None = None, psu_v: float = 5.0,
    supply_efficiency: float | None = None, battery_roundtrip: float | None = None, boundary: str | None = None,
    seed: int = 0,
) -> Statement:  # fmt: skip
    """Grams of CO2e per inference of a run; the options are those of `edgeprof carbon`.

    Raises:
        UsageError: an option makes no sense, or options contradict each other.
        CarbonError: an unknown zone or device, a service that does not answer, a run without energy.
    """
    case = case_of(
        run, find_intensity(zone=zone, intensity=intensity, provider=provider), rate=rate, embodied=embodied,
        lifetime=lifetime, device=device, psu_w=psu_w, psu_v=psu_v, supply_efficiency=supply_efficiency,
        battery_roundtrip=battery_roundtrip, boundary=boundary,
    )  # fmt: skip
    return state(case, seed=seed)


def case_of(
    run: Run, grid: Intensity, *, rate: str | None = None, embodied: str | None = None, lifetime: str | None = None,
    device: str | None = None, psu_w: float | None = None, psu_v: float = 5.0,
    supply_efficiency: float | None = None, battery_roundtrip: float | None = None, boundary: str | None = None,
) -> Case:  # fmt: skip
    """Everything that the grams of a run are computed from.

    Raises:
        UsageError: an option makes no sense.
        CarbonError: an unknown device, or a run without energy.
    """
    usage = usage_of(run) if boundary is None else at_boundary(usage_of(run), boundary)
    upstream = supply(
        usage.boundary, psu_w=psu_w, is_low_voltage=psu_v < LOW_VOLTAGE_BELOW_V, efficiency=supply_efficiency,
        round_trip=battery_roundtrip,
    )  # fmt: skip
    made = _embodied(usage, embodied, lifetime, device)
    return Case(
        usage=usage, supply=upstream, intensity=grid, embodied=made, rate_hz=None if rate is None else parse_rate(rate)
    )


def find_intensity(
    *, zone: str | None = None, intensity: str | None = None, provider: IntensityProvider | str | None = None
) -> Intensity:
    """The intensity that one of these names; the world's where none does.

    Raises:
        UsageError: more than one was given, or a provider that there is not.
        CarbonError: there is no such zone, or the service does not answer.
    """
    if sum(given is not None for given in (zone, intensity, provider)) > 1:
        raise UsageError("the grid's intensity was given twice", "give one of --zone, --intensity and --provider")
    if intensity is not None:
        return intensity_of.of_user(intensity)
    if provider is None:
        return intensity_of.of_zone(zone)
    if not isinstance(provider, str):
        return provider.now()
    if provider not in PROVIDERS:
        raise UsageError(f"there is no provider {provider!r}", f"there is {', '.join(PROVIDERS)}")
    return PROVIDERS[provider]().now()


def usage_of(run: Run) -> Usage:
    """What an inference of a run takes: as a meter saw it, else modelled from the board's figures.

    Raises:
        CarbonError: its energy pass gives no number: that is not quietly replaced by a model.
    """
    if run.profile.energy is not None:
        return measured_usage(run, metered_energy(run.id, run.profile.energy))
    return modelled_usage(run, modelled_power_of(run))


def metered_energy(run_id: str, energy: EnergyPass) -> ModelEnergy:
    """The energy of a run that has an energy pass.

    Raises:
        CarbonError: nothing can be said about it, and why.
    """
    try:
        return model_energy(energy)
    except MeasurementError as error:
        raise CarbonError(
            f"run {run_id}: its energy pass gives no number: {error}",
            error.advice or "profile again with --energy, or without it to have energy modelled",
        ) from error


def modelled_power_of(run: Run) -> ModelledPower:
    """What the catalogue says about its board's power, or what is assumed of an unknown one."""
    simulated = run.profile.job.board
    if simulated is None:
        board = known_board(run.profile.machine)
    else:
        board = boards.load(simulated.name) if simulated.name in boards.names() else None
    threads, n_cpus = run.profile.job.options.threads, run.profile.machine.n_cpus
    active_w, idle_w, sources = modelled_power(board, threads, n_cpus)
    return ModelledPower(active_w=active_w, idle_w=idle_w, sources=sources)


def _embodied(usage: Usage, embodied: str | None, lifetime: str | None, device: str | None) -> Embodied:
    if embodied is not None and device is not None:
        raise UsageError("what making the device emitted was given twice", "give one of --embodied and --device")
    if embodied is not None:
        return embodied_of.of_user(embodied, lifetime)
    if device is not None:
        return embodied_of.of_device(device, lifetime)
    return embodied_of.lower_bound(usage.memory_bytes, lifetime)
