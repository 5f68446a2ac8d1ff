from __future__ import annotations

import csv
import io
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from benchmarks.attribution import operators, run_of
from device_agents import wire
from edgeprof.reports.csv import operators_csv
from edgeprof.reports.document import from_document, to_document
from edgeprof.reports.html import html_fragment
from edgeprof.reports.joules import energy_lines, joules
from edgeprof.reports.quantities import energy, energy_interval, power_interval
from edgeprof.reports.text import render_run
from edgeprof.run import Run
from tests.unit.test_reports import printed


@cache
def measured() -> Run:
    """A run of a simulated board with a sensor, its operators in loops and all."""
    return run_of(10.0, operators(np.random.default_rng(3))[:4], 42)


def test_the_page_says_joules_with_interval_boundary_and_origin() -> None:
    text = " ".join(printed(render_run(measured())).split())

    assert "per inference, rest included, at the boundary 'module' (hwmon:simulated, SIMULATED)" in text
    assert "90% interval" in text
    assert "taken while the meter was asked: not for comparing" in text
    assert "of the whole" in text


def test_every_operator_has_its_joules_in_the_table_and_in_html() -> None:
    run = measured()
    found = joules(run)

    one = found.of_kernel(0)

    assert one is not None
    assert one.in_model_j is not None
    assert energy(one.in_model_j.value) in printed(render_run(run))
    assert energy(one.in_model_j.value) in html_fragment(run)


def test_the_csv_has_joules_with_their_interval() -> None:
    rows = list(csv.DictReader(io.StringIO(operators_csv([measured()]))))

    assert len(rows) == 4
    assert all(float(row["energy_low_j"]) < float(row["energy_j"]) < float(row["energy_high_j"]) for row in rows)


def test_the_document_has_the_numbers_and_reads_back_as_the_run() -> None:
    document = to_document(measured())

    assert document["energy"]["net_j"]["low"] < document["energy"]["net_j"]["value"]
    assert len(document["operator_energies"]["operators"]) == 4
    assert from_document(document) == measured()


def test_a_run_without_energy_says_nothing_of_it() -> None:
    run = measured()
    plain = replace(run, profile=replace(run.profile, energy=None, energy_missing="not asked for (--energy)"))

    assert list(energy_lines(plain, joules(plain))) == []
    assert to_document(plain)["energy_missing"] == "not asked for (--energy)"


def test_energy_that_was_asked_for_and_failed_has_its_reason() -> None:
    run = measured()
    failed = replace(run, profile=replace(run.profile, energy=None, energy_missing="this device has no power meter"))

    assert "none: this device has no power meter" in printed(render_run(failed))
    assert "this device has no power meter" in html_fragment(failed)


def test_a_trace_that_was_not_attached_is_named() -> None:
    run = measured()
    assert run.profile.energy is not None
    waiting = replace(run, profile=replace(run.profile, energy=replace(run.profile.energy, trace=None)))

    assert "the meter's trace has not been attached" in printed(render_run(waiting))


def test_without_loops_the_model_has_energy_and_the_operators_a_reason() -> None:
    run = replace(measured(), loops=None, loops_missing="not measured: --energy-budget 0")

    text = printed(render_run(run))

    assert "per inference, rest included" in text
    assert "no energy: not measured: --energy-budget 0" in text


def test_windows_that_do_not_count_are_told() -> None:
    run = measured()
    recorded = run.profile.energy
    assert recorded is not None
    hot = replace(recorded.windows[1].after, throttled=0b100)
    windows = (recorded.windows[0], replace(recorded.windows[1], after=hot), *recorded.windows[2:])
    run = replace(run, profile=replace(run.profile, energy=replace(recorded, windows=windows)))

    text = printed(render_run(run))

    assert "window 1 of 7 left out" in text
    assert "throttled" in text


@pytest.mark.parametrize(
    ("joules_", "text"),
    [
        (None, "-"),
        (0.0, "0.00 mJ"),
        (1.2345e-6, "1.23 µJ"),
        (0.9999, "1.00 J"),
        (5.0e-10, "0.500 nJ"),
        (2500.0, "2.50 kJ"),
    ],
)
def test_joules_have_a_unit_that_fits(joules_: float | None, text: str) -> None:
    assert energy(joules_) == text


def test_intervals_of_joules_and_watts_stop_at_the_first_uncertain_digit() -> None:
    assert energy_interval(0.00123456, 0.00122, 0.00125) == ("1.23 mJ", "1.22 to 1.25 mJ")
    assert power_interval(2.34567, 2.3, 2.4) == ("2.35 W", "2.30 to 2.40 W")


def test_the_kinds_of_window_are_those_of_the_wire() -> None:
    recorded = measured().profile.energy

    assert recorded is not None
    assert {window.kind for window in recorded.windows} == {wire.IDLE, wire.BUSY}
