"""Where a kernel stands in a model: what it reads is warm, cold, or from outside; what it writes may leave."""

from __future__ import annotations

import math

import pytest

from latency_models.kernels import KernelSpec, Operand
from latency_models.surroundings import Context, places_of


def tensor(n: int, constant: bool = False) -> Operand:
    """4n bytes."""
    return Operand(dtype="float32", shape=(1, n), is_constant=constant)


def kernel(reads: list[Operand], writes: int) -> KernelSpec:
    return KernelSpec(format="onnx", type="Any", inputs=tuple(reads), outputs=(tensor(writes),))


def test_what_the_kernel_before_wrote_is_warm_and_what_is_older_is_not() -> None:
    chain = [
        kernel([tensor(10)], 20),
        kernel([tensor(20)], 30),
        kernel([tensor(30)], 40),
        kernel([tensor(20)], 50),  # written by the first, read last by the second
    ]

    found = places_of(chain)

    assert [one.idle_bytes for one in found[:3]] == [0.0, 0.0, 0.0]
    assert found[3].idle_bytes == pytest.approx(4 * (30 + 40))
    assert [one.entering for one in found] == [1.0, 0.0, 0.0, 0.0]


def test_two_tensors_of_one_shape_are_two() -> None:
    twins = [kernel([tensor(5)], 8), kernel([tensor(6)], 8), kernel([tensor(8), tensor(8)], 9)]

    found = places_of(twins)[2]

    # One was written just before, the other before the second kernel moved 14 elements.
    assert found.idle_bytes == pytest.approx(math.expm1((0.0 + math.log1p(4 * 14)) / 2))
    assert found.entering == 0.0


def test_what_nobody_reads_leaves_and_what_nobody_wrote_enters_by_their_sizes() -> None:
    model = [kernel([tensor(10)], 20), kernel([tensor(20), tensor(60), tensor(7, constant=True)], 30)]

    first, last = places_of(model)

    assert (first.leaving, last.leaving) == (0.0, 1.0)
    assert last.entering == pytest.approx(0.75)


def test_a_part_reads_what_the_part_before_wrote_and_is_read_by_the_next() -> None:
    (alone,), (in_net,) = places_of([kernel([tensor(10)], 20)]), places_of([kernel([tensor(10)], 20)], is_part=True)

    assert (alone.entering, alone.leaving) == (1.0, 1.0)
    assert (in_net.entering, in_net.leaving, in_net.idle_bytes) == (0.0, 0.0, 0.0)


def test_a_model_without_kernels_or_bytes_has_no_places_that_make_no_sense() -> None:
    assert places_of([]) == []
    (empty,) = places_of([KernelSpec(format="onnx", type="Any", inputs=(None,), outputs=(tensor(0),))])
    assert (empty.idle_bytes, empty.entering, empty.leaving) == (0.0, 0.0, 0.0)
    assert Context.of([]) == Context(0.0, 0.0)
    assert Context.of([kernel([tensor(10), tensor(5, constant=True)], 20)]) == Context(4 * 35, 4 * 5)
