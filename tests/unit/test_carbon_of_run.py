"""From a stored run to grams: what a meter saw, what is modelled, and how both are told."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from device_agents.wire import SIMULATED, MeterInfo, RuntimeOptions
from edgeprof.carbon import Case, carbon_of, state
from edgeprof.carbon.embodied import lower_bound
from edgeprof.carbon.intensity import of_zone
from edgeprof.carbon.sci import ACTIVE, RESERVED
from edgeprof.carbon.statement import Statement
from edgeprof.carbon.supply import supply
from edgeprof.carbon.usage import ModelledPower, Usage, at_boundary, measured_usage, modelled_usage
from edgeprof.energy import Interval, ModelEnergy
from edgeprof.errors import UsageError
from edgeprof.reports.carbon import mass, render_carbon, render_devices, render_zones, to_document
from edgeprof.run import Run
from edgeprof.statistics import summarise
from tests.unit.carbon_cases import make_case
from tests.unit.run_factory import make_run


def about(value: float, error: float) -> Interval:
    return Interval(value=value, low=value - error, high=value + error)


def make_energy(boundary: str = "dc-input") -> ModelEnergy:
    meter = MeterInfo("hwmon:ina226", "ina226", "power", boundary, ("power1",), not_covered=("the display",))
    return ModelEnergy(
        meter=meter, gross_j=about(0.2, 0.01), net_j=about(0.12, 0.006), power_w=about(5.0, 0.1),
        idle_w=about(3.0, 0.05), latency_s=about(0.03, 1e-4), windows=(), notes=("few windows",),
    )  # fmt: skip


def text_of(*statements: Statement) -> str:
    console = Console(width=250, record=True, file=io.StringIO())
    console.print(render_carbon(statements))
    return console.export_text()


def case_with(run: Run, usage: Usage) -> Case:
    return Case(usage=usage, supply=supply(usage.boundary), intensity=of_zone("FR"),
                embodied=lower_bound(usage.memory_bytes), rate_hz=10.0)  # fmt: skip


def test_what_a_meter_saw_is_measured_with_its_interval_and_its_boundary() -> None:
    run = make_run("r1")

    usage = measured_usage(run, make_energy())

    assert (usage.net.value, usage.net.kind, usage.net.shape) == (0.12, "measured", "normal")
    assert (usage.net.low, usage.net.high) == pytest.approx((0.114, 0.126))
    assert (usage.boundary, usage.is_measured) == ("dc-input", True)
    assert "hwmon:ina226" in usage.net.source
    assert "not in the energy: the display" in usage.notes
    assert "few windows" in usage.notes


def test_the_duration_is_that_of_the_latency_pass_and_not_of_the_one_under_sampling() -> None:
    run = make_run("r1")

    usage = measured_usage(run, make_energy())

    summary = summarise(run.profile)
    assert usage.latency.value == summary.median_s
    assert summary.median_low_s is not None
    assert summary.median_low_s < usage.latency.low < usage.latency.value  # 90 %, not 95 %


def test_a_simulated_meter_is_never_called_measured() -> None:
    run = make_run("r1")
    simulated = replace(run, profile=replace(run.profile, origin=SIMULATED))

    found = state(case_with(simulated, measured_usage(simulated, make_energy())))

    assert not found.is_measured
    assert "measured" not in {one.kind for one in found.inputs}
    assert any("simulated" in note and "no statement about a real device" in note for note in found.notes)


def test_without_a_meter_energy_is_modelled_from_the_board_in_a_wide_range_and_says_so() -> None:
    run = make_run("r1")
    power = ModelledPower(
        active_w=Interval(value=6.0, low=4.0, high=9.0), idle_w=Interval(value=3.0, low=2.0, high=4.0),
        sources=("a data sheet", "assumed: four cores"),
    )  # fmt: skip

    found = state(case_with(run, modelled_usage(run, power)))

    latency_s = summarise(run.profile).median_s
    net = next(one for one in found.inputs if one.name == "energy above rest")
    assert net.value == pytest.approx(3.0 * latency_s)
    assert net.kind == "modelled"
    assert (net.low, net.high) == pytest.approx((2.0 * latency_s, 5.0 * latency_s))
    assert net.source == "a data sheet; assumed: four cores"
    assert not found.is_measured
    assert "MODELLED" in found.energy_method
    spread = found.allocation(RESERVED).energy_j
    assert spread.high / spread.low > 1.3


def test_with_several_streams_an_inference_has_the_device_from_end_to_end() -> None:
    run = make_run("r1")
    options = RuntimeOptions(streams=4)
    streamed = replace(run, profile=replace(run.profile, job=replace(run.profile.job, options=options)))

    usage = measured_usage(streamed, make_energy())

    assert usage.latency.value == pytest.approx(summarise(run.profile).median_s / 4)
    assert usage.latency.note is not None
    assert "4 streams" in usage.latency.note


def test_the_user_may_say_where_a_sensor_sits_that_cannot_tell_but_not_against_the_meter() -> None:
    run = make_run("r1")
    unstated = measured_usage(run, make_energy("unstated"))

    assert at_boundary(unstated, "wall").boundary == "wall"
    assert any("given by the user" in note for note in at_boundary(unstated, "wall").notes)
    with pytest.raises(UsageError, match="at the battery boundary, not at wall"):
        at_boundary(measured_usage(run, make_energy("battery")), "wall")
    with pytest.raises(UsageError, match="no boundary 'roof'"):
        at_boundary(unstated, "roof")


def test_a_report_has_every_input_with_its_source_and_year_the_method_and_whose_figures_they_are() -> None:
    run = make_run("r1")
    found = state(case_with(run, measured_usage(run, make_energy())))

    text = text_of(found)

    for one in found.inputs:
        assert one.name in text
        assert one.kind in text
        assert (one.year or "-") in text
    for said in (
        "ISO/IEC 21031", "1 inference of", "dc-input", "Our World in Data; Ember; Energy Institute", "CC BY 4.0",
        "active", "reserved", "marginal (no SCI)", "LOWER BOUND", "at least CO2e", "per 1,000", "per year at 10/s",
        "location-based, average, generation, life-cycle",
    ):  # fmt: skip
        assert said in text, said
    assert "kg" not in text.replace("g/kWh", "")


def test_the_document_has_everything_that_the_text_has() -> None:
    found = state(make_case(rate_hz=1.0))

    document = json.loads(to_document([found]))

    (one,) = document["statements"]
    assert {kind["mode"] for kind in one["allocations"]} == {"active", "reserved", "marginal"}
    assert {"kind", "source", "year", "low", "high", "unit"} <= one["inputs"][0].keys()
    assert one["allocations"][0]["total_g"].keys() == {"nominal", "median", "low", "high", "confidence"}
    assert one["seed"] == 0


@pytest.mark.parametrize(
    ("grams", "text"),
    [
        (17.6e-6, "18 µg"), (95.2e-6, "95 µg"), (1.23e-9, "0.0012 µg"), (999e-6, "1.0 mg"), (0.5, "500 mg"),
        (28.5, "28 g"), (12_345.0, "12,000 g"), (0.0, "0 µg"), (9.96e-6, "10 µg"), (99.6e-6, "100 µg"),
    ],
)  # fmt: skip
def test_masses_have_two_digits_and_are_never_in_kilograms(grams: float, text: str) -> None:
    assert mass(grams) == text


def test_the_lists_of_zones_and_devices_have_everything_and_whose_it_is() -> None:
    console = Console(width=250, record=True, file=io.StringIO())
    console.print(render_zones())
    console.print(render_devices())

    text = console.export_text()
    for said in (
        "FRA",
        "US-CA",
        "Our World in Data",
        "EPA eGRID2023",
        "Google Pixel 7",
        "not told apart",
        "[0.5x, 2x]",
    ):
        assert said in text, said


def test_the_same_run_and_seed_give_the_same_grams(monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run("r1")

    one, again = (carbon_of(run, zone="FR", rate="10/s", embodied="10 kg", seed=5) for _ in range(2))

    assert one == again
    assert one.allocation(ACTIVE).total_g != carbon_of(run, zone="DE", rate="10/s", seed=5).allocation(ACTIVE).total_g


def test_making_the_device_is_given_once() -> None:
    with pytest.raises(UsageError, match="given twice"):
        carbon_of(make_run("r1"), embodied="10 kg", device="Pixel 7")
