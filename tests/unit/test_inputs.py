"""Inputs from a seed, with the standard library alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agents import inputs
from device_agents.wire import TensorInfo

DTYPES = sorted(inputs.SIZES)


@given(st.sampled_from(DTYPES), st.lists(st.integers(0, 7), max_size=4), st.integers(0, 2**31))
def test_data_fills_the_tensor_exactly_and_repeats_for_a_seed(dtype: str, shape: list[int], seed: int) -> None:
    tensor = TensorInfo("x", dtype, tuple(shape))

    (data,) = inputs.make([tensor], seed)

    assert np.frombuffer(data, dtype).size == np.prod(shape, dtype=int)
    assert inputs.make([tensor], seed) == (data,)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_spread_over_minus_one_to_one(dtype: str) -> None:
    values = np.frombuffer(inputs.make([TensorInfo("x", dtype, (100, 100))], 1)[0], dtype).astype(float)

    assert values.min() < -0.99
    assert values.max() > 0.98
    assert abs(values.mean()) < 0.05


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32", "bool"])
def test_wide_integers_are_zero_or_one_so_that_they_are_valid_as_indices(dtype: str) -> None:
    values = np.frombuffer(inputs.make([TensorInfo("x", dtype, (1000,))], 1)[0], dtype)

    assert set(values.tolist()) == {0, 1}


def test_quantised_data_takes_its_whole_range() -> None:
    values = np.frombuffer(inputs.make([TensorInfo("x", "int8", (10_000,))], 1)[0], "int8")

    assert (values.min(), values.max()) == (-128, 127)


def test_a_large_tensor_is_made_of_repeated_blocks() -> None:
    data = inputs.make([TensorInfo("x", "float32", (3 * inputs.BLOCK + 5,))], 1)[0]

    assert len(data) == 4 * (3 * inputs.BLOCK + 5)
    assert data[: 4 * inputs.BLOCK] == data[4 * inputs.BLOCK : 8 * inputs.BLOCK]


def test_two_inputs_of_one_model_differ() -> None:
    tensor = TensorInfo("x", "float32", (10,))

    first, second = inputs.make([tensor, tensor], 0)

    assert first != second


@pytest.mark.parametrize(("dtype", "value"), [("float16", "nan"), ("float32", "inf"), ("float64", "-inf")])
def test_a_value_that_is_not_finite_is_found(dtype: str, value: str) -> None:
    data = np.array([0.0, float(value), 1.0], dtype).tobytes()

    assert not inputs.is_finite(dtype, data)
    assert inputs.is_finite(dtype, np.array([0.0, 1.0], dtype).tobytes())


def test_a_string_tensor_has_no_such_data() -> None:
    with pytest.raises(KeyError):
        inputs.make([TensorInfo("x", "string", (1,))], 0)
