"""Batches and streams: throughput, the table of a sweep, and verdicts that are not misled by runs at once."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from device_agents.wire import Profile
from edgeprof.operators import operator_totals
from edgeprof.reports.sweep import render_sweep, sweep
from edgeprof.reports.text import render_run
from edgeprof.run import Run
from edgeprof.throughput import throughput
from edgeprof.verdict import judge
from tests.unit import run_factory
from tests.unit.profiles import latencies, make_profile, make_run


def with_options(profile: Profile, **changes: Any) -> Profile:
    return replace(profile, job=replace(profile.job, options=replace(profile.job.options, **changes)))


def at_once(profile: Profile, streams: int) -> Profile:
    """The same samples as those of several streams: the round took only a part of their sum."""
    rounds = []
    for r in profile.rounds:
        wall_s = sum(r.latencies_s) / streams
        after = replace(r.after, at_s=r.before.at_s + wall_s)
        rounds.append(replace(r, streams=streams, wall_s=wall_s, after=after))
    return replace(with_options(profile, streams=streams), rounds=tuple(rounds))


def run_of(batch: int, middle_s: float) -> Run:
    profile = with_options(make_profile(latencies(batch, middle_s=middle_s)), batch=batch)
    return make_run(profile, id=f"run-{batch}")


def page(thing: Any) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(thing)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_a_sweep_tells_what_a_batch_gains_against_the_smallest() -> None:
    rows = sweep([run_of(4, 0.020), run_of(1, 0.010), run_of(2, 0.012)])

    assert [row.batch for row in rows] == [1, 2, 4]
    assert [row.speedup for row in rows] == pytest.approx([1.0, 2 / 1.2, 4 / 2.0], rel=0.02)
    assert rows[2].latency_per_item_s == pytest.approx(0.005, rel=0.02)
    assert rows[2].items_per_s == pytest.approx(200, rel=0.02)
    assert {row.verdict for row in rows} == {"trusted"}


def test_the_table_of_a_sweep_has_a_line_for_every_batch() -> None:
    text = page(render_sweep([run_of(1, 0.010), run_of(2, 0.012)]))

    assert "Against batch 1" in text
    assert "1.00x" in text
    assert text.count("trusted") == 2


def test_a_sweep_of_several_streams_counts_what_all_of_them_did() -> None:
    runs = [make_run(at_once(run_of(batch, 0.010).profile, 2)) for batch in (1, 2)]

    assert [row.items_per_s for row in sweep(runs)] == pytest.approx([200, 400], rel=0.02)


def test_throughput_has_an_interval_over_rounds() -> None:
    found = throughput(at_once(make_profile(), 4))

    assert found is not None
    assert found.inferences_per_s == pytest.approx(4 / 0.010, rel=0.02)
    assert found.low_per_s is not None
    assert found.high_per_s is not None
    assert found.low_per_s < found.inferences_per_s < found.high_per_s


def test_throughput_of_too_few_rounds_has_no_interval_and_without_wall_time_there_is_none() -> None:
    few = throughput(at_once(make_profile(latencies(n_rounds=2)), 2))

    assert few is not None
    assert few.low_per_s is None
    assert throughput(make_profile()) is None


def test_runs_at_once_that_add_up_to_more_than_the_round_are_no_fault_of_the_clock() -> None:
    profile = at_once(make_profile(latencies(n_runs=160)), 4)

    assert judge(profile).level == "trusted"
    alone = replace(profile, rounds=tuple(replace(r, streams=1) for r in profile.rounds))
    assert judge(alone).level == "invalid"


def test_a_round_of_several_streams_is_short_where_each_has_too_few_runs() -> None:
    profile = at_once(make_profile(latencies(n_runs=40)), 4)

    short = replace(profile, job=replace(profile.job, schedule=replace(profile.job.schedule, min_runs=20)))

    assert any("ended at their limit" in reason.what for reason in judge(short).reasons)


def test_operators_of_one_stream_are_not_compared_with_the_latency_of_several() -> None:
    run = run_factory.make_run()

    totals = operator_totals(replace(run, profile=at_once(run.profile, 2)))

    assert totals is not None
    assert totals.overhead is None
    assert totals.note is not None
    assert "one stream alone" in totals.note


def test_the_page_of_several_streams_shows_their_throughput() -> None:
    text = page(render_run(make_run(at_once(make_profile(), 2))))

    assert "inferences/s of 2 streams at once" in text
