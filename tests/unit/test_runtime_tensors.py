from __future__ import annotations

import pytest

from device_agents.runtimes import RuntimeRefusal
from device_agents.runtimes.tensors import Dim, concrete_shapes, require_supported
from device_agents.wire import RuntimeOptions, TensorInfo

SILERO: list[tuple[str, tuple[Dim, ...]]] = [
    ("input", ("batch", "sequence")),
    ("state", (2, "batch", 128)),
    ("sr", ()),
]


def test_an_open_dimension_becomes_1_and_that_is_said() -> None:
    shapes, notes = concrete_shapes(SILERO, RuntimeOptions())

    assert shapes == ((1, 1), (2, 1, 128), ())
    assert len(notes) == 2
    assert "'input' is batchxsequence" in notes[0]
    assert "0: batch, 1: sequence" in notes[0]


def test_a_named_dimension_has_one_size_in_all_inputs() -> None:
    shapes, notes = concrete_shapes(SILERO, RuntimeOptions(shapes={"input": (4, 576)}))

    assert shapes == ((4, 576), (2, 4, 128), ())
    assert notes == []


def test_the_batch_replaces_dynamic_first_dimensions_only() -> None:
    shapes, _ = concrete_shapes([("x", (None, 3)), ("y", (7, None))], RuntimeOptions(batch=4))

    assert shapes == ((4, 3), (7, 1))


def test_a_batch_that_a_fixed_model_already_has_is_accepted() -> None:
    shapes, _ = concrete_shapes([("x", (1, 3))], RuntimeOptions(batch=1))

    assert shapes == ((1, 3),)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (RuntimeOptions(shapes={"nope": (1,)}), "no such input"),
        (RuntimeOptions(shapes={"input": (1,)}), "2 dimensions"),
        (RuntimeOptions(shapes={"input": (1, 0)}), "cannot be 0"),
        (RuntimeOptions(shapes={"state": (3, 1, 128)}), "fixed at 2"),
        (RuntimeOptions(shapes={"input": (1, 576), "state": (2, 4, 128)}), "both 1 and 4"),
        (RuntimeOptions(batch=2, shapes={"input": (1, 576)}), "cannot be both"),
        (RuntimeOptions(batch=0), "cannot be 0"),
    ],
)
def test_a_shape_the_model_does_not_allow_is_refused(options: RuntimeOptions, words: str) -> None:
    with pytest.raises(RuntimeRefusal, match=words) as refused:
        concrete_shapes(SILERO, options)

    assert refused.value.kind == "bad-option"


def test_a_batch_for_a_model_of_fixed_shape_is_refused_not_ignored() -> None:
    with pytest.raises(RuntimeRefusal, match="no input of this model has a dynamic first dimension") as refused:
        concrete_shapes([("x", (1, 3))], RuntimeOptions(batch=4))

    assert "x 1x3" in refused.value.advice


def test_text_inputs_are_refused() -> None:
    with pytest.raises(RuntimeRefusal, match="string") as refused:
        require_supported([TensorInfo("words", "string", (1,))])

    assert refused.value.kind == "unsupported-model"
