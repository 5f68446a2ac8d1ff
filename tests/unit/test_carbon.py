"""Grams of CO2e: the formula, ways of sharing out, ranges, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from edgeprof.carbon.break_even import break_even
from edgeprof.carbon.embodied import lower_bound, of_device, of_user
from edgeprof.carbon.inputs import KINDS, MEASURED, NORMAL, TRIANGULAR, Input, sample
from edgeprof.carbon.monte_carlo import draw, nominal, spread
from edgeprof.carbon.quantity import YEAR_S, parse_range, parse_rate
from edgeprof.carbon.sci import ACTIVE, MARGINAL, RESERVED, embodied_g, operational_g
from edgeprof.carbon.statement import state
from edgeprof.carbon.supply import PSU, psu_efficiency, supply
from edgeprof.errors import CarbonError, UsageError
from tests.unit.carbon_cases import make_case

MICRO = 1e-6


# --- worked examples -----------------------------------------------------------------------------------------------


def test_the_example_of_the_standard_gives_28_grams() -> None:
    grams = embodied_g(1_000_000.0, 3600.0, 4 * YEAR_S)

    assert grams == pytest.approx(28.5, abs=0.05)  # 1000 kg, 4 years, 1 hour reserved: printed there as 28 g


def test_a_tenth_of_a_joule_on_a_board_of_10_kg_gives_17_6_micrograms_active_and_95_reserved() -> None:
    found = state(make_case(rate_hz=1.0))

    active, reserved = found.allocation(ACTIVE), found.allocation(RESERVED)
    assert active.operational_g.nominal == pytest.approx(16.0 * MICRO)
    assert active.embodied_g.nominal == pytest.approx(1.584 * MICRO, rel=1e-3)
    assert active.total_g.nominal == pytest.approx(17.6 * MICRO, rel=2e-3)
    assert reserved.embodied_g.nominal == pytest.approx(79.2 * MICRO, rel=1e-3)
    assert reserved.total_g.nominal == pytest.approx(95.2 * MICRO, rel=1e-3)


def test_100_millijoules_at_475_grams_are_13_micrograms() -> None:
    assert operational_g(0.1, 475.0) == pytest.approx(1.3e-5, rel=0.02)


@pytest.mark.parametrize(
    ("rated_w", "is_low_voltage", "expected"),
    [(5.0, True, 0.736), (10.0, True, 0.787), (15.0, True, 0.814), (27.0, True, 0.846), (15.0, False, 0.841)],
)
def test_the_floor_of_a_power_supply_is_the_eus(rated_w: float, is_low_voltage: bool, expected: float) -> None:
    assert psu_efficiency(rated_w, is_low_voltage=is_low_voltage) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize("rated_w", [1.0, 0.0, 50.0])
def test_a_power_supply_outside_the_formula_is_refused(rated_w: float) -> None:
    with pytest.raises(UsageError, match="from 1 to 49 W"):
        psu_efficiency(rated_w)


# --- ways of sharing out -------------------------------------------------------------------------------------------


def test_rest_is_shared_out_by_mode() -> None:
    found = state(make_case(net_j=0.1, idle_w=2.0, latency_s=0.05, rate_hz=4.0))

    assert found.allocation(ACTIVE).energy_j.nominal == pytest.approx(0.1 + 2.0 * 0.05)
    assert found.allocation(RESERVED).energy_j.nominal == pytest.approx(0.1 + 2.0 * 0.25)
    assert found.allocation(MARGINAL).energy_j.nominal == pytest.approx(0.1)
    assert found.allocation(MARGINAL).embodied_g.nominal == 0.0
    assert not found.allocation(MARGINAL).is_sci


def test_without_a_rate_active_and_reserved_are_the_same_and_no_year_is_counted() -> None:
    found = state(make_case(idle_w=2.0))

    assert found.allocation(ACTIVE).total_g == found.allocation(RESERVED).total_g
    assert found.allocation(ACTIVE).per_year_g is None
    assert any("back to back" in note for note in found.notes)


def test_a_year_at_a_rate_is_that_many_inferences() -> None:
    one = state(make_case(rate_hz=10.0)).allocation(RESERVED)

    assert one.per_year_g is not None
    assert one.per_year_g.nominal == pytest.approx(one.total_g.nominal * 10.0 * YEAR_S)
    assert one.per_1000_g.median == pytest.approx(one.total_g.median * 1000)


def test_a_rate_that_the_device_cannot_keep_is_refused() -> None:
    with pytest.raises(UsageError, match=r"more than m\.onnx on r1 can do: 50"):
        state(make_case(latency_s=0.020, rate_hz=51.0))


# --- ranges --------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_statement_and_another_one_another() -> None:
    case = make_case(is_exact=False, intensity="40-70 g/kWh")

    assert state(case, seed=3) == state(case, seed=3)
    assert state(case, seed=3) != state(case, seed=4)


def test_draws_of_an_input_do_not_change_when_another_is_beside_it() -> None:
    a, b = of_user("10 kg", "3-6 y").inputs

    assert np.array_equal(draw([a], seed=1)[a.name], draw([b, a], seed=1)[a.name])


def test_a_triangular_range_of_half_to_twice_is_what_scipy_draws() -> None:
    (total, _) = of_user("10 kg", "4 y").inputs
    draws = draw([total], seed=0)

    found = spread(lambda numbers: numbers[total.name], nominal([total]), draws)

    exact = stats.triang((10 - 5) / 15, loc=5000.0, scale=15000.0)
    assert found.nominal == 10_000.0
    for mine, theirs in ((found.low, 0.05), (found.median, 0.5), (found.high, 0.95)):
        assert mine == pytest.approx(exact.ppf(theirs), rel=0.02)


def test_a_measured_interval_holds_90_per_cent_of_its_draws_and_never_goes_below_nothing() -> None:
    one = Input(name="e", value=1.0, unit="J", kind=MEASURED, source="s", low=0.2, high=3.0, shape=NORMAL)

    drawn = sample(one, np.random.default_rng(0), 200_000)

    assert np.mean((drawn >= one.low) & (drawn <= one.high)) == pytest.approx(0.9, abs=0.005)
    assert drawn.min() >= 0.0


def test_shares_of_the_variance_say_which_input_matters() -> None:
    shares = state(make_case(is_exact=False, rate_hz=1.0)).allocation(RESERVED).variance_shares

    assert sum(shares.values()) == pytest.approx(1.0)
    assert max(shares, key=lambda name: shares[name]) == "embodied emissions"


def test_an_exact_case_has_no_range() -> None:
    one = state(make_case()).allocation(ACTIVE)

    assert one.total_g.low == pytest.approx(one.total_g.high)
    assert one.variance_shares == {}


def test_every_input_has_a_kind_a_source_and_a_unit() -> None:
    for one in state(make_case(rate_hz=1.0, boundary="battery")).inputs:
        assert one.kind in KINDS
        assert one.source
        assert one.unit
        assert one.low <= one.value <= one.high


# --- supply --------------------------------------------------------------------------------------------------------


def test_nothing_is_corrected_at_the_wall_and_more_the_further_from_it() -> None:
    energies = [
        state(make_case(boundary=boundary)).allocation(ACTIVE).energy_j.nominal
        for boundary in ("wall", "dc-input", "battery")
    ]

    assert energies[0] == pytest.approx(0.12)
    assert energies[1] == pytest.approx(0.12 / psu_efficiency(15.0))
    assert energies[2] == pytest.approx(0.12 / psu_efficiency(15.0) / 0.9)


@pytest.mark.parametrize("boundary", ["core", "soc-rails", "module"])
def test_a_sensor_inside_the_board_says_what_it_does_not_see(boundary: str) -> None:
    found = supply(boundary)

    assert [one.name for one in found.factors] == [PSU]
    assert "lower bound" in found.notes[0]


def test_an_unstated_boundary_is_a_range_from_the_wall_to_behind_a_battery() -> None:
    (one,) = supply("unstated").factors

    assert one.high == 1.0
    assert one.low < 0.814 * 0.9
    assert one.kind == "default"


def test_what_the_user_knows_of_the_supply_goes_before_what_is_assumed() -> None:
    factors = supply("battery", efficiency=0.9, round_trip=0.85).factors

    assert [(one.value, one.kind, one.low == one.high) for one in factors] == [
        (0.9, "user", True),
        (0.85, "user", True),
    ]
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        supply("dc-input", efficiency=85.0)


def test_an_option_that_does_not_apply_to_the_sensors_place_is_not_used_and_said() -> None:
    wall, dc = supply("wall", psu_w=27.0), supply("dc-input", round_trip=0.8)

    assert (wall.factors, len(dc.factors)) == ((), 1)
    assert "not used" in wall.notes[0]
    assert "not used" in dc.notes[0]


@given(
    net_j=st.floats(1e-6, 10.0), idle_w=st.floats(0.0, 20.0), latency_s=st.floats(1e-4, 1.0), share=st.floats(0.01, 1.0)
)
def test_who_reserves_more_never_emits_less(net_j: float, idle_w: float, latency_s: float, share: float) -> None:
    case = make_case(net_j=net_j, idle_w=idle_w, latency_s=latency_s, rate_hz=share / latency_s)
    numbers = nominal(case.inputs)

    marginal, active, reserved = (case.operational_g(mode, numbers) for mode in (MARGINAL, ACTIVE, RESERVED))

    assert 0 < marginal <= active <= reserved * (1 + 1e-12)
    assert case.embodied_g(ACTIVE, numbers) <= case.embodied_g(RESERVED, numbers) * (1 + 1e-12)


# --- embodied ------------------------------------------------------------------------------------------------------


def test_a_published_device_is_found_by_a_part_of_its_name_and_has_a_range_of_half_to_twice() -> None:
    found = of_device("pixel 7")

    assert found.total.value == 61_600.0
    assert (found.total.low, found.total.high, found.total.shape) == (30_800.0, 123_200.0, TRIANGULAR)
    assert (found.lifetime.value, found.total.kind) == (3.0, "data sheet")
    assert found.total.year == "2022"


def test_a_name_that_means_several_devices_or_none_is_refused_with_names() -> None:
    with pytest.raises(CarbonError, match="Google Pixel 6, Google Pixel 7, Google Pixel Watch"):
        of_device("pixel")
    with pytest.raises(CarbonError) as refused:
        of_device("Fairfone 3")
    assert "Fairphone 3" in refused.value.advice


def test_a_total_that_does_not_tell_making_from_use_is_no_embodied_figure() -> None:
    with pytest.raises(CarbonError, match="only the total over its life"):
        of_device("Fairphone 2")


def test_an_unknown_device_gets_a_lower_bound_that_is_called_so() -> None:
    found = lower_bound(8_000_000_000)

    assert found.is_bound
    assert found.total.value == pytest.approx(2 * 150 + 8 * 48)
    assert (found.total.kind, found.total.note is not None and "LOWER BOUND" in found.total.note) == ("modelled", True)
    assert found.lifetime.kind == "default"
    assert "memory is not known" in lower_bound(None).total.source


# --- what people type ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rate_hz"), [("10/s", 10.0), ("10", 10.0), ("30 /min", 0.5), ("86400/day", 1.0), ("36 per hour", 0.01)]
)
def test_a_rate_is_read(text: str, rate_hz: float) -> None:
    assert parse_rate(text) == pytest.approx(rate_hz)


@pytest.mark.parametrize("text", ["", "ten", "0/s", "-1/s", "10/fortnight", "1e999/s", "nan"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_rate(text)


def test_a_quantity_is_read_with_its_unit_and_its_range() -> None:
    units = {"g": 1.0, "kg": 1000.0}

    assert parse_range("10 kg", "mass", units, "10 kg") == (10_000.0, 10_000.0, False)
    assert parse_range("8-12kg", "mass", units, "10 kg") == (8000.0, 12_000.0, True)
    for wrong in ("10", "10 lb", "0 kg", "12-8 kg", "-3 kg", "", "1e400 kg", "kg"):
        with pytest.raises(UsageError):
            parse_range(wrong, "mass", units, "10 kg")


# --- keep the old device, or buy a new one? ------------------------------------------------------------------------


def test_a_new_device_pays_back_after_its_making_over_what_it_saves_in_a_year() -> None:
    old = make_case(net_j=0.12, idle_w=3.0, rate_hz=10.0, run_id="old")
    new = make_case(net_j=0.06, idle_w=1.0, rate_hz=10.0, run_id="new")

    found = break_even(old, new)

    saved_g = ((0.12 - 0.06) * 10 + 2.0) * YEAR_S / 3.6e6 * 480
    assert found.years == pytest.approx(10_000 / saved_g)
    assert found.low_years == pytest.approx(found.years)
    assert (found.never, found.within_lifetime) == (0.0, 1.0)
    assert "pays back its making after" in found.words


def test_a_new_device_that_saves_nothing_never_pays_back() -> None:
    old = make_case(net_j=0.06, rate_hz=10.0)
    new = make_case(net_j=0.12, rate_hz=10.0)

    found = break_even(old, new)

    assert (found.years, found.low_years, found.high_years, found.never) == (None, None, None, 1.0)
    assert found.words.startswith("never")


def test_what_the_old_device_emitted_when_it_was_made_does_not_count() -> None:
    new = make_case(net_j=0.06, rate_hz=10.0)
    light = break_even(make_case(rate_hz=10.0, embodied="1 kg"), new)
    heavy = break_even(make_case(rate_hz=10.0, embodied="900 kg"), new)

    assert light.years == heavy.years


def test_both_devices_hang_on_the_same_grid_so_its_range_does_not_blur_who_saves() -> None:
    old = make_case(net_j=0.12, rate_hz=10.0, intensity="100-900 g/kWh")
    new = make_case(net_j=0.11, rate_hz=10.0, intensity="100-900 g/kWh")

    assert break_even(old, new).never == 0.0


def test_energies_of_different_boundaries_or_of_different_kinds_are_not_compared() -> None:
    old = make_case(rate_hz=10.0, boundary="battery")

    with pytest.raises(CarbonError, match=r"battery boundary, .* wall boundary"):
        break_even(old, make_case(rate_hz=10.0, boundary="wall"))
    with pytest.raises(CarbonError, match="not comparable"):
        break_even(old, make_case(rate_hz=10.0, boundary="battery", is_measured=False))


def test_paying_back_needs_a_rate() -> None:
    with pytest.raises(UsageError, match="how much there is to do"):
        break_even(make_case(), make_case())
