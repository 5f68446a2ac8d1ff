"""Two outputs compared: what counts as equal, as rounding, and as another answer."""

from __future__ import annotations

import base64
import math
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from rich.console import Console

from device_agents import outputs as sending
from device_agents.inputs import SIZES
from device_agents.wire import OutputValues, RuntimeOptions, TensorInfo
from edgeprof.outputs import compare_arrays, compare_outputs, disagreements, unpack
from edgeprof.reports.agreement import agreement
from edgeprof.reports.text import render_run
from edgeprof.run import OutputCheck, OutputDifference, Run
from tests.unit.run_factory import make_run

NAN, INF = math.nan, math.inf


def compare(found: ArrayLike, expected: ArrayLike, dtype: str = "float32") -> OutputDifference:
    a, b = np.asarray(found, dtype).ravel(), np.asarray(expected, dtype).ravel()
    return compare_arrays(TensorInfo("y", dtype, (a.size,)), a, b)


def check(*outputs: OutputDifference, version: str = "1.31.1") -> OutputCheck:
    return OutputCheck(
        runtime="onnxruntime",
        runtime_version=version,
        python="3.11.7",
        architecture="x86_64",
        options=RuntimeOptions(optimization="none"),
        in_force={},
        outputs=outputs,
    )


def run_with(*outputs: OutputDifference, version: str = "1.31.1") -> Run:
    return replace(make_run(), output_check=check(*outputs, version=version))


def sent(tensor: TensorInfo, values: ArrayLike) -> OutputValues:
    (packed,) = sending.pack([tensor], [np.asarray(values, tensor.dtype).tobytes()])
    return packed


# --- figures -------------------------------------------------------------------------------------------------------


def test_equal_values_have_no_error_and_point_the_same_way() -> None:
    found = compare([1.0, -2.0, 3.0], [1.0, -2.0, 3.0])

    assert (found.n_unequal, found.max_error, found.peak) == (0, 0.0, 3.0)
    assert found.cosine == pytest.approx(1.0)


def test_the_error_is_absolute_and_told_relative_to_the_references_peak() -> None:
    found = compare([1.0, -2.5], [1.0, -2.0], "float64")

    assert (found.max_error, found.max_error_of_peak, found.n_unequal) == (0.5, 0.25, 1)
    assert found.cosine == pytest.approx(6 / math.sqrt(7.25 * 5))


def test_nan_and_infinity_at_the_same_places_are_equal() -> None:
    found = compare([NAN, INF, -INF, 1.0], [NAN, INF, -INF, 1.0])

    assert (found.n_unequal, found.n_not_finite, found.max_error) == (0, 0, 0.0)


def test_nan_and_infinity_on_one_side_are_counted_and_left_out_of_the_figures() -> None:
    found = compare([NAN, INF, 1.0, -INF], [1.0, -INF, 1.0, NAN])

    assert (found.n_unequal, found.n_not_finite, found.max_error) == (3, 3, 0.0)
    assert "3 of 4 values are NaN or infinite on one side only" in disagreements(check(found))[0]


def test_where_nothing_is_finite_there_are_no_figures_but_a_reason() -> None:
    found = compare([NAN, NAN], [NAN, NAN])

    assert (found.max_error, found.peak, found.cosine) == (None, None, None)
    assert found.cosine_missing == "no value is finite on both sides"
    assert disagreements(check(found)) == ()


@pytest.mark.parametrize(
    ("a", "b", "says", "agrees"),
    [
        ([0.0, 0.0], [0.0, 0.0], "the device's and the reference's values are all zero", True),
        ([0.0, 0.0], [0.0, 1.0], "the device's values are all zero", False),
        ([0.0, 1e-9], [0.0, 0.0], "the reference's values are all zero", False),
    ],
)
def test_zeros_have_no_cosine_and_the_reason_says_whose(
    a: list[float], b: list[float], says: str, agrees: bool
) -> None:
    found = compare(a, b)

    assert found.cosine is None
    assert says in (found.cosine_missing or "")
    assert (disagreements(check(found)) == ()) is agrees


def test_an_empty_output_is_missing_with_a_reason() -> None:
    found = compare([], [])

    assert "empty" in (found.missing or "")
    assert found.max_error is None


def test_values_near_the_ends_of_float64_do_not_overflow() -> None:
    found = compare([1.7e308, 1.0], [-1.7e308, 1.0], "float64")

    assert found.max_error == np.finfo(np.float64).max
    assert found.cosine == pytest.approx(-1.0)
    assert compare([1e-320, 0.0], [1e-320, 0.0], "float64").cosine == pytest.approx(1.0)


def test_wide_integers_are_compared_beyond_what_float64_tells_apart() -> None:
    found = compare([2**62 + 1, -(2**63)], [2**62, 2**63 - 1], "int64")

    assert found.n_unequal == 2
    assert found.max_error == float(2**64 - 1)
    assert compare([2**62 + 1], [2**62], "int64").max_error == 1.0


@given(st.lists(st.floats(width=32), min_size=1, max_size=20), st.lists(st.floats(width=32), min_size=1, max_size=20))
def test_any_two_outputs_give_figures_that_json_can_carry(a: list[float], b: list[float]) -> None:
    found = compare(a, b)

    for figure in (found.cosine, found.max_error, found.max_error_of_peak, found.peak):
        assert figure is None or math.isfinite(figure)
    assert (found.missing is None) == (len(a) == len(b))


# --- verdict -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "found", "expected", "says"),
    [
        ("float32", [1.0, 2.0], [1.000001, 2.0], None),
        ("float32", [1.0, -2.0], [-1.0, 2.0], "cosine similarity -1.0000 (limit 0.99)"),
        ("float32", [100.0, 100.0, 88.0], [100.0, 100.0, 100.0], "max error 12.0% of the largest value (limit 10%)"),
        ("int8", [0, 1, -1], [1, 1, -1], None),
        ("int8", [100, -100], [-100, 100], "cosine similarity"),
        ("uint8", [128, 130], [128, 128], None),
        ("int64", [3], [4], "1 of 1 values differ; such values (int64) are exact"),
        ("bool", [True, False], [True, True], "1 of 2 values differ; such values (bool) are exact"),
    ],
)
def test_rounding_agrees_and_another_answer_does_not(
    dtype: str, found: list[float], expected: list[float], says: str | None
) -> None:
    doubts = disagreements(check(compare(found, expected, dtype)))

    assert bool(doubts) == (says is not None)
    assert says is None or any(says in doubt for doubt in doubts)


# --- on the way ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", sorted(SIZES))
def test_values_of_every_type_arrive_as_they_were(dtype: str) -> None:
    values = np.array([0, 1, 1, 0], dtype)

    assert unpack(sent(TensorInfo("y", dtype, (4,)), values), dtype).tolist() == values.tolist()


def test_brain_floats_arrive_too() -> None:
    raw = (np.array([1.5, -2.0], np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
    (packed,) = sending.pack([TensorInfo("y", "bfloat16", (2,))], [raw])

    assert unpack(packed, "bfloat16").tolist() == [1.5, -2.0]


def test_of_a_large_output_an_even_sample_travels_that_sees_every_coordinate_of_every_box() -> None:
    boxes = np.tile(np.arange(4, dtype=np.float32), 500_000)
    tensor = TensorInfo("boxes", "float32", (1, 500_000, 4))

    packed = sent(tensor, boxes)

    values = unpack(packed, "float32")
    assert packed.step > 1
    assert values.nbytes <= sending.MAX_BYTES
    assert np.bincount(values.astype(int)).tolist() == pytest.approx([values.size / 4] * 4, abs=1)


@given(st.integers(1, 10**7), st.integers(1, 10**6))
def test_a_sample_is_never_too_large_and_its_step_shares_no_divisor(n: int, most: int) -> None:
    step = sending.sampling_step(n, most)

    assert -(-n // step) <= most
    assert math.gcd(step, n) == 1


def test_all_outputs_together_stay_below_the_bound() -> None:
    tensors = [TensorInfo(str(k), "float32", (300_000,)) for k in range(7)]
    noise = np.random.default_rng(0).standard_normal(300_000).astype(np.float32).tobytes()

    packed = sending.pack(tensors, [noise] * 7)

    assert sum(len(zlib.decompress(base64.b64decode(p.data or ""))) for p in packed) <= sending.MAX_BYTES


def test_text_is_not_sent_and_the_comparison_says_so() -> None:
    tensor = TensorInfo("label", "string", (1,))
    packed = sending.pack([tensor], [b"['cat']"])

    (found,) = compare_outputs([tensor], packed, [tensor], packed)

    assert found.missing == "string has no raw values to compare"
    assert agreement(run_with(found)).agrees is None


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (TensorInfo("y", "float64", (2,)), "its elements are float32, the reference's float64"),
        (TensorInfo("y", "float32", (3,)), "its shape is [2], the reference's [3]"),
    ],
)
def test_outputs_of_another_kind_are_missing_with_the_reason(other: TensorInfo, says: str) -> None:
    tensor = TensorInfo("y", "float32", (2,))

    (found,) = compare_outputs([tensor], [sent(tensor, [1, 2])], [other], [sent(other, [1] * other.shape[0])])

    assert found.missing == says


def test_another_number_of_outputs_is_said() -> None:
    tensor = TensorInfo("y", "float32", (1,))

    (found,) = compare_outputs([tensor], [sent(tensor, [1])], [], [])

    assert found.missing == "the device gave 1 outputs, the reference 0"


@pytest.mark.parametrize("data", ["***", "AAAA", ""])
def test_values_that_are_no_values_are_refused(data: str) -> None:
    with pytest.raises(ValueError, match="not packed values"):
        unpack(OutputValues(data), "float32")


# --- in words ------------------------------------------------------------------------------------------------------


def test_agreement_is_one_sentence_with_the_worst_figures() -> None:
    found = agreement(run_with(compare([0.93, 0.1], [0.93, 0.1 + 2e-6]), compare([1.0], [1.0])))

    assert found.agrees
    assert found.sentence == (
        "agree with onnxruntime 1.31.1 on the host: cosine ≥ 0.99999, max error 2e-06 (of peak 0.93)"
    )


def test_a_cosine_is_rounded_down_and_never_up() -> None:
    assert "cosine ≥ 0.99999," in agreement(run_with(compare([1.0, 0.0], [1.0, 4.4e-3]))).sentence


def test_other_versions_a_sample_and_doubts_are_said() -> None:
    output = replace(compare([1.0, -1.0], [-1.0, 1.0]), n_values=10_000)

    found = agreement(run_with(output, version="1.20.1"))

    assert not found.agrees
    assert "DISAGREE with onnxruntime 1.20.1 on the host (the device has 1.31.1)" in found.sentence
    assert "compared 2 of 10.0 k values" in found.sentence
    assert "output 'y': cosine similarity -1.0000 (limit 0.99)" in found.doubts


def test_the_page_shows_a_disagreement_with_what_to_do() -> None:
    console = Console(width=200, record=True, file=None)
    with console.capture() as captured:
        console.print(render_run(run_with(compare([1.0, -1.0], [-1.0, 1.0]))))

    page = captured.get()
    assert "Outputs           DISAGREE with onnxruntime" in page
    assert "-> profile with plain kernels" in page


def test_without_a_check_the_page_gives_the_reason() -> None:
    assert agreement(replace(make_run(), output_check_missing="no\x1b[31m runtime")).sentence == (
        "not checked: no\N{REPLACEMENT CHARACTER}[31m runtime"
    )
    assert agreement(make_run()).sentence == "not checked: the run is older than this check"
