"""Statistics against independent opinions: scipy, MLPerf's recorded results, laws, and simulated truth."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from device_agents.wire import Kernel, OperatorPass
from edgeprof.errors import MeasurementError
from edgeprof.operators import operator_rows, operator_totals
from edgeprof.run import Operator
from edgeprof.statistics import early_stopping_estimate, median_error, student_t, summarise
from tests.unit.profiles import LATENCY_S, latencies, make_profile, make_run

seconds = st.floats(1e-6, 10.0)
rounds_of_samples = st.lists(st.lists(seconds, min_size=1, max_size=12), min_size=1, max_size=7)


def test_a_steady_profile_is_summarised_in_plain_numbers() -> None:
    profile = make_profile([[1.0, 2.0, 3.0], [4.0, 5.0], [6.0, 100.0]])

    summary = summarise(profile)

    assert (summary.n_runs, summary.n_rounds, summary.n_discarded) == (7, 3, 0)
    assert (summary.median_s, summary.min_s, summary.max_s) == (4.0, 1.0, 100.0)
    assert summary.mean_s == pytest.approx(121 / 7)
    assert summary.mad_s == 2.0
    assert summary.relative_spread == pytest.approx(1.4826 * 2 / 4)
    assert summary.round_medians_s == (2.0, 4.5, 53.0)
    assert (summary.first_inference_s, summary.load_s, summary.initialise_s) == (0.02, 0.01, 0.03)


@given(rounds_of_samples)
@settings(max_examples=40, deadline=None)
def test_the_interval_contains_the_median(samples: list[list[float]]) -> None:
    summary = summarise(make_profile(samples))

    assert summary.median_s == pytest.approx(float(np.median(np.concatenate(samples))))
    if summary.median_low_s is not None and summary.median_high_s is not None:
        assert summary.median_low_s <= summary.median_s <= summary.median_high_s


@given(rounds_of_samples, st.sampled_from([0.25, 2.0, 1024.0]))
@settings(max_examples=40, deadline=None)
def test_scaled_samples_scale_the_results(samples: list[list[float]], factor: float) -> None:
    plain = summarise(make_profile(samples))
    scaled = summarise(make_profile([[factor * s for s in r] for r in samples]))

    for name in ("median_s", "mean_s", "min_s", "max_s", "mad_s", "median_low_s", "median_high_s"):
        before, after = getattr(plain, name), getattr(scaled, name)
        assert after == (None if before is None else pytest.approx(factor * before, rel=1e-6))
    assert scaled.relative_spread == pytest.approx(plain.relative_spread)


@given(rounds_of_samples, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_rounds_does_not_move_the_median(samples: list[list[float]], random: object) -> None:
    shuffled = list(samples)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert summarise(make_profile(shuffled)).median_s == summarise(make_profile(samples)).median_s


def test_the_same_seed_gives_the_same_interval_and_another_seed_nearly_the_same() -> None:
    profile = make_profile(latencies(3))

    first, again, other = summarise(profile), summarise(profile), summarise(profile, seed=9)

    assert first == again
    assert first.relative_half_width == pytest.approx(other.relative_half_width, rel=0.15)
    assert first.median_low_s != other.median_low_s


def test_constant_samples_have_an_interval_of_no_width() -> None:
    summary = summarise(make_profile([[0.01] * 20] * 5))

    assert summary.median_low_s == summary.median_s == summary.median_high_s == 0.01
    assert summary.relative_spread == 0


def test_one_round_is_cut_into_blocks_and_the_summary_says_so() -> None:
    summary = summarise(make_profile(latencies(n_rounds=1, n_runs=100)))

    assert summary.error_unit == "block of runs"
    assert summary.relative_half_width is not None
    assert 0 < summary.relative_half_width < 0.01


def test_three_runs_have_no_interval_and_a_reason() -> None:
    summary = summarise(make_profile([[1.0, 1.1, 1.2]]))

    assert summary.median_low_s is None
    assert summary.relative_half_width is None
    assert summary.interval_missing == "an interval needs at least 4 runs, there are 3"


def test_impossible_samples_are_left_out_and_counted() -> None:
    summary = summarise(make_profile([[0.01, -1.0, 0.01], [0.0, math.nan, 0.01]]))

    assert (summary.n_runs, summary.n_discarded) == (3, 3)
    assert summary.min_s == 0.01


def test_a_profile_without_samples_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(MeasurementError, match=r"net\.onnx.*no usable latency") as caught:
        summarise(make_profile([[]]))

    assert "again" in caught.value.advice


@pytest.mark.parametrize(
    ("n_rounds", "n_runs", "round_noise", "correlation"),
    [(5, 20, 0.0, 0.6), (5, 60, 0.01, 0.6), (5, 60, 0.03, 0.0), (3, 40, 0.01, 0.3), (10, 20, 0.02, 0.6)],
)
def test_the_95_percent_interval_contains_the_truth_about_95_times_in_100(
    n_rounds: int, n_runs: int, round_noise: float, correlation: float
) -> None:
    trials, hits = 200, 0

    for seed in range(trials):
        samples = latencies(
            seed, n_rounds=n_rounds, n_runs=n_runs, noise=0.05, round_noise=round_noise, correlation=correlation
        )
        summary = summarise(make_profile(samples), seed=seed)
        assert summary.median_low_s is not None
        assert summary.median_high_s is not None
        hits += summary.median_low_s <= LATENCY_S <= summary.median_high_s

    assert 0.88 <= hits / trials <= 0.99


def test_one_round_in_blocks_still_covers_correlated_noise() -> None:
    trials, hits = 200, 0

    for seed in range(trials):
        samples = latencies(seed, n_rounds=1, n_runs=200, noise=0.05, round_noise=0.0, correlation=0.6)
        summary = summarise(make_profile(samples), seed=seed)
        assert summary.median_low_s is not None
        assert summary.median_high_s is not None
        hits += summary.median_low_s <= LATENCY_S <= summary.median_high_s

    assert 0.88 <= hits / trials <= 0.99


def test_resampled_medians_equal_those_of_really_repeated_rounds() -> None:
    samples = [np.asarray(r) for r in latencies(1, n_rounds=4, n_runs=9)]
    weights = np.random.default_rng(5).multinomial(4, [0.25] * 4, size=2000)
    medians = [np.median(np.repeat(np.concatenate(samples), np.repeat(w, 9))) for w in weights]

    error = median_error(samples, seed=5)

    assert error is not None
    assert error.log_error == pytest.approx(np.log(medians).std(ddof=1) * math.sqrt(4 / 3))


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 9, 30, 200])
@pytest.mark.parametrize("confidence", [0.6, 0.95, 0.99])
def test_student_quantiles_agree_with_scipy(degrees: int, confidence: float) -> None:
    assert student_t(confidence, degrees) == pytest.approx(stats.t.ppf((1 + confidence) / 2, degrees), rel=1e-9)


# "Would discard N highest latency queries", from loadgen summaries published with MLPerf submissions.
@pytest.mark.parametrize(("n", "discarded"), [(64, 0), (2048, 172), (2116, 178), (2145, 181), (7469, 685)])
def test_p90_discards_as_many_runs_as_mlperf_loadgen(n: int, discarded: int) -> None:
    samples = np.arange(n, dtype=np.float64)

    assert early_stopping_estimate(samples, 0.90) == n - 1 - discarded


def test_percentiles_that_the_count_does_not_carry_are_missing_with_a_reason() -> None:
    few = summarise(make_profile([[0.01] * 63]))
    enough = summarise(make_profile([[0.01] * 64]))
    many = summarise(make_profile([[0.01] * 662]))

    assert few.p90_s is None
    assert few.p90_missing == "p90 needs at least 64 runs, there are 63"
    assert enough.p90_s == 0.01
    assert enough.p99_missing == "p99 needs at least 662 runs, there are 64"
    assert many.p99_s == 0.01
    assert many.p99_missing is None


def test_the_p90_estimate_is_rarely_below_the_true_percentile() -> None:
    rng = np.random.default_rng(0)

    too_low = sum(early_stopping_estimate(rng.random(200), 0.90) < 0.90 for _ in range(1000))  # type: ignore[operator]

    assert too_low <= 20


RECORDED = OperatorPass(
    method="test",
    latencies_s=(0.0120, 0.0122, 0.0124),
    kernels=(
        Kernel("conv_fused", "FusedConv", "kernel", (0.0080, 0.0081, 0.0082)),
        Kernel("reorder", "Reorder", "kernel", (0.0020, 0.0020, 0.0020), input_shapes=((1, 8),)),
        Kernel("tiny", "Relu", "kernel", (5e-6, 5e-6, 6e-6)),
    ),
    resolution_s=1e-6,
)
EXPLAINED = (
    Operator(
        kernel=0, origin="fused", nodes=("conv", "relu"), node_types=("Conv", "Relu"), macs=81_000, moved_bytes=8100
    ),
    Operator(kernel=1, origin="layout"),
)


def test_the_operator_table_explains_every_kernel_and_shows_the_unexplained_as_unmapped() -> None:
    run = make_run(make_profile(operators=RECORDED), operators=EXPLAINED)

    conv, reorder, tiny = operator_rows(run)

    assert (conv.name, conv.type, conv.kernel, conv.origin) == ("conv + relu", "Conv + Relu", "conv_fused", "fused")
    assert conv.median_s == 0.0081
    assert conv.share == pytest.approx(0.0081 / 0.010105)
    assert conv.intensity == 10
    assert conv.macs_per_s == pytest.approx(1e7)
    assert (reorder.name, reorder.origin, reorder.input_shapes, reorder.macs) == ("reorder", "layout", ((1, 8),), None)
    assert (tiny.origin, tiny.intensity, tiny.macs_per_s) == ("unmapped", None, None)
    assert sum(row.share or 0 for row in (conv, reorder, tiny)) == pytest.approx(1)


def test_only_times_under_ten_clock_steps_are_marked_unreliable() -> None:
    rows = operator_rows(make_run(make_profile(operators=RECORDED)))

    assert [row.below_resolution for row in rows] == [False, False, True]


def test_totals_show_overhead_and_what_no_kernel_explains() -> None:
    run = make_run(make_profile([[0.01] * 20] * 5, operators=RECORDED), operators=EXPLAINED)

    totals = operator_totals(run)

    assert totals is not None
    assert totals.sum_s == pytest.approx(0.010105)
    assert totals.profiled_median_s == 0.0122
    assert totals.overhead == pytest.approx(0.22)
    assert totals.remainder_s == pytest.approx(0.0122 - 0.010105)
    assert (totals.n_kernels, totals.n_unmapped) == (3, 1)
    assert totals.unmapped_share == pytest.approx(5e-6 / 0.010105)
    assert totals.note is None


def test_what_rounding_leaves_unexplained_is_nothing() -> None:
    parts_s = (0.1, 0.2, 0.7)
    kernels = tuple(Kernel(str(k), "X", "kernel", (part_s,) * 5) for k, part_s in enumerate(parts_s))
    recorded = OperatorPass("profiler", (sum(reversed(parts_s)),) * 5, kernels, 1e-6)

    totals = operator_totals(make_run(make_profile(operators=recorded)))

    assert totals is not None
    assert totals.profiled_median_s != totals.sum_s
    assert (totals.remainder_s, totals.remainder_share) == (0.0, 0.0)


def test_an_interval_wider_than_the_median_is_not_useful() -> None:
    steady, wild = (summarise(make_profile([[s] * 20 for s in middles])) for middles in ((1.0, 1.1, 1.2), (1, 50, 900)))

    assert steady.is_interval_useful
    assert not wild.is_interval_useful
    assert not replace(steady, median_low_s=None).is_interval_useful


def test_kernels_timed_in_different_numbers_of_runs_are_summed_with_a_note() -> None:
    ragged = replace(RECORDED, kernels=(*RECORDED.kernels[:2], Kernel("never", "X", "kernel", ())))
    run = make_run(make_profile(operators=ragged))

    totals, rows = operator_totals(run), operator_rows(run)

    assert totals is not None
    assert totals.sum_s == pytest.approx(0.0101)
    assert totals.note is not None
    assert (rows[2].median_s, rows[2].share, rows[2].spread, rows[2].below_resolution) == (None, None, None, False)


def test_without_an_operator_pass_there_is_no_table_and_no_total() -> None:
    run = make_run(make_profile())

    assert operator_rows(run) == []
    assert operator_totals(run) is None
