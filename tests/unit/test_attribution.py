"""Joules of operators from loops, on a simulated board whose truth is known: what adds up, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from benchmarks.attribution import operators, run_of
from device_agents.wire import EnergyPass, Work
from edgeprof.energy import OperatorEnergies, attribute, model_energy
from edgeprof.energy.intervals import error_of
from edgeprof.errors import MeasurementError
from edgeprof.run import OperatorLoop, Run
from tests.unit.energy_cases import Truth, simulated

# Of the generator that makes the benchmark's models, but none of the seeds that it ships with.
WORK: tuple[Work, ...] = operators(np.random.default_rng(20_261))[:6]


@cache
def measured() -> Run:
    return run_of(10.0, WORK, 77)


def with_loops(run: Run, *changed: OperatorLoop, **changes: object) -> Run:
    """The run with its first loops replaced."""
    assert run.loops is not None
    kept = run.loops.operators[len(changed) :]
    return replace(run, loops=replace(run.loops, operators=(*changed, *kept), **changes))  # type: ignore[arg-type]


def first_loop(run: Run) -> tuple[OperatorLoop, EnergyPass]:
    assert run.loops is not None
    loop = run.loops.operators[0]
    assert loop.energy is not None
    return loop, loop.energy


def sum_in_model(found: OperatorEnergies) -> float:
    return sum(one.in_model_j.value for one in found.operators if one.in_model_j is not None)


def test_operators_alone_are_found_to_a_few_percent() -> None:
    found = attribute(measured())

    for work, one in zip(WORK, found.operators, strict=True):
        assert work.active_w is not None
        assert work.time_s is not None
        assert one.isolated_j is not None
        truth_j = work.active_w * work.time_s
        assert one.isolated_j.value == pytest.approx(truth_j, rel=0.03)
        assert one.isolated_j.low < one.isolated_j.value < one.isolated_j.high


def test_operators_and_overhead_add_up_to_the_whole_model() -> None:
    found = attribute(measured())
    recorded = measured().profile.energy
    assert recorded is not None
    assert found.overhead_j is not None

    whole_j = model_energy(recorded).net_j.value

    assert sum_in_model(found) + found.overhead_j.value == pytest.approx(whole_j)


def test_closure_and_residual_say_what_was_missing_before() -> None:
    found = attribute(measured())
    recorded = measured().profile.energy
    assert recorded is not None
    assert found.closure is not None
    assert found.residual_j is not None
    whole_j = model_energy(recorded).net_j.value
    hidden = [(w.active_w or 0) * (w.time_s or 0) for w in WORK]
    alone_over_in_model = sum(hidden) / sum(j * w.in_model_power for j, w in zip(hidden, WORK, strict=True))

    assert found.residual_j == pytest.approx(whole_j * (1 - found.closure.value))
    assert found.closure.low <= alone_over_in_model <= found.closure.high


def test_an_operator_in_the_model_is_no_surer_than_alone() -> None:
    for one in attribute(measured()).operators:
        assert one.isolated_j is not None
        assert one.in_model_j is not None
        alone, inside = (error_of(found) / found.value for found in (one.isolated_j, one.in_model_j))
        assert inside >= alone


def test_kernels_that_are_the_same_operator_share_its_loop_by_their_times() -> None:
    run = run_of(10.0, (WORK[0], WORK[1], WORK[0]), 5)
    assert run.loops is not None
    one, other, _ = run.loops.operators
    shared = replace(run, loops=replace(run.loops, operators=(replace(one, kernels=(0, 2)), other)))

    first, _, third = attribute(shared).operators

    assert first.isolated_j is not None
    assert third.isolated_j is not None
    assert first.isolated_j.value == pytest.approx(third.isolated_j.value, rel=0.02)
    apart, together = attribute(run).closure, attribute(shared).closure
    assert apart is not None
    assert together is not None
    assert error_of(together) > error_of(apart)


def test_an_operator_without_a_loop_has_the_reason_and_the_others_are_not_made_to_fill_its_place() -> None:
    run = measured()
    assert run.loops is not None
    longest = max(range(len(WORK)), key=lambda k: WORK[k].time_s or 0)
    loops = [
        replace(one, energy=None, missing="it cannot be cut out") if longest in one.kernels else one
        for one in run.loops.operators
    ]

    found = attribute(replace(run, loops=replace(run.loops, operators=tuple(loops))))

    assert found.operators[longest].isolated_j is None
    assert found.operators[longest].missing == "it cannot be cut out"
    assert all(one.in_model_j is None for one in found.operators)
    assert any("need not add up" in note for note in found.notes)


def test_an_operator_that_the_loops_leave_out_altogether_is_said_to_be_so() -> None:
    run = measured()
    assert run.loops is not None

    found = attribute(replace(run, loops=replace(run.loops, operators=run.loops.operators[1:])))

    assert found.operators[0].missing == "it was not measured in a loop"


def test_an_operator_that_the_meter_cannot_tell_from_an_empty_model_has_no_number() -> None:
    loop, energy = first_loop(measured())
    assert energy.trace is not None
    hidden = simulated(Truth(busy_w=3.01, latency_s=1e-4), 6, energy.trace.meter)

    found = attribute(with_loops(measured(), replace(loop, energy=hidden)))

    assert found.operators[0].isolated_j is None
    assert "cannot be told from that of calling the runtime" in str(found.operators[0].missing)


def test_an_operator_as_short_as_the_call_of_the_runtime_has_no_number() -> None:
    run = measured()
    assert run.loops is not None
    loop, _ = first_loop(run)

    found = attribute(with_loops(run, replace(loop, energy=run.loops.empty)))

    assert "its time cannot be told" in str(found.operators[0].missing)


def test_a_loop_of_which_too_few_windows_count_has_the_reasons() -> None:
    loop, energy = first_loop(measured())
    windows = tuple(replace(one, after=replace(one.after, throttled=4)) for one in energy.windows)

    found = attribute(with_loops(measured(), replace(loop, energy=replace(energy, windows=windows))))

    assert "throttled" in str(found.operators[0].missing)


@pytest.mark.parametrize("change", [{"boundary": "wall"}, {"name": "hwmon:other"}])
def test_loops_of_another_meter_or_boundary_are_refused(change: dict[str, str]) -> None:
    loop, energy = first_loop(measured())
    assert energy.trace is not None
    other = replace(energy, trace=replace(energy.trace, meter=replace(energy.trace.meter, **change)))  # type: ignore[arg-type]

    with pytest.raises(MeasurementError, match="do not add up"):
        attribute(with_loops(measured(), replace(loop, energy=other)))
    with pytest.raises(MeasurementError, match="do not add up"):
        attribute(with_loops(measured(), empty=other))


def test_without_an_empty_model_there_is_nothing_to_subtract() -> None:
    with pytest.raises(MeasurementError, match="what calling the runtime costs is not known: no time was left"):
        attribute(with_loops(measured(), empty=None, empty_missing="no time was left"))


def test_most_intervals_of_operators_hold_the_truth() -> None:
    """The benchmark says how many; this only keeps it from becoming a promise that nobody looks at."""
    holds = []
    for trial in range(2):
        work = operators(np.random.default_rng((99, trial)))
        for one, found in zip(work, attribute(run_of(10.0, work, 5000 * (trial + 1))).operators, strict=True):
            assert found.isolated_j is not None
            truth_j = (one.active_w or math.nan) * (one.time_s or math.nan)
            holds.append(found.isolated_j.low <= truth_j <= found.isolated_j.high)

    assert 0.75 <= np.mean(holds) <= 1.0
