"""What a model's inputs will be: shapes that were asked for, values of the user's own, and what is assumed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeprof.errors import InputError
from edgeprof.models.arrays import UNNAMED
from edgeprof.models.inputs import plan_inputs
from latency_models.graph import DeclaredInput, ShapeError


def declared(name: str, dtype: str | None, *dims: int | str | None) -> DeclaredInput:
    return DeclaredInput(name=name, dtype=dtype, dims=dims)


IMAGE = [declared("x", "float32", "N", 3, None, None)]
SPEECH = [
    declared("input", "float32", "batch", None),
    declared("state", "float32", 2, "batch", 128),
    declared("sr", "int64"),
]


def speech(**changes: Any) -> dict[str, Any]:
    values = {"input": np.zeros((1, 576), "f4"), "state": np.zeros((2, 1, 128), "f4"), "sr": np.array(16000)}
    return {**values, **changes}


def test_dimensions_without_a_size_are_said_aloud_with_what_to_type() -> None:
    plan = plan_inputs(IMAGE)

    assert plan.shapes == {"x": (1, 3, 1, 1)}
    (said,) = plan.assumptions
    assert "'x' is Nx3x?x? in the file" in said
    assert "were set to 1" in said
    assert said.endswith("--shape x=1,3,1,1")


def test_a_shape_that_was_given_leaves_nothing_to_assume() -> None:
    plan = plan_inputs(IMAGE, {"x": (1, 3, 224, 224)})

    assert (plan.shapes, plan.assumptions) == ({"x": (1, 3, 224, 224)}, ())


def test_values_decide_the_shapes() -> None:
    plan = plan_inputs(SPEECH, values=speech())

    assert plan.shapes == plan.given == {"input": (1, 576), "state": (2, 1, 128), "sr": ()}
    assert plan.assumptions == ()
    assert [(item.name, item.dtype, len(data)) for item, data in plan.files] == [
        ("input", "float32", 4 * 576),
        ("state", "float32", 4 * 256),
        ("sr", "int64", 8),
    ]


def test_byte_order_and_memory_order_are_made_the_usual_ones() -> None:
    array = np.arange(6, dtype="f4").reshape(2, 3)
    wanted = [declared("x", "float32", 2, 3)]

    files = [
        plan_inputs(wanted, values={"x": made}).files
        for made in (array, array.astype(">f4"), np.asfortranarray(array), np.repeat(array, 2, axis=1)[:, ::2])
    ]

    assert files[0][0][1] == array.tobytes()
    assert all(other == files[0] for other in files)


@pytest.mark.parametrize("name", ["arr_0", UNNAMED, "image"])
def test_one_array_fills_the_only_input_whatever_its_name_and_that_is_said(name: str) -> None:
    plan = plan_inputs(IMAGE, values={name: np.zeros((1, 3, 2, 2), "f4")})

    assert [item.name for item, _ in plan.files] == ["x"]
    assert plan.notes == (() if name == UNNAMED else (f"the array {name!r} was taken for the model's only input, 'x'",))


def test_values_that_are_not_finite_are_noted_and_kept() -> None:
    plan = plan_inputs(IMAGE, values={"x": np.array([[[[1.0]], [[np.nan]], [[np.inf]]]], "f4")})

    assert plan.notes == ("input 'x': 2 of its 3 values are NaN or infinite",)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"input": np.zeros((1, 576), "f4")}, "no values for the input 'state', 'sr'.*state float32 2xbatchx128"),
        (speech(extra=np.zeros(1)), "values for 'extra', but the model has no such input.*sr int64 scalar"),
        ({UNNAMED: np.zeros((1, 576), "f4")}, "one array without a name cannot fill 3 inputs"),
        (speech(input=np.zeros((1, 576))), "'input' takes float32, but its values are float64"),
        (speech(sr=np.array("16k")), "'sr' takes int64"),
        (speech(input=np.zeros((1, 0), "f4")), "its array is empty"),
    ],
)
def test_values_that_do_not_fit_are_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        plan_inputs(SPEECH, values=values)

    assert caught.value.advice


def test_a_wrong_type_is_not_converted_but_told_how_to_convert() -> None:
    with pytest.raises(InputError) as caught:
        plan_inputs([declared("x", "int8", 4)], values={"x": np.zeros(4, "f4")})

    assert "array.astype('int8')" in caught.value.advice
    assert "scale" in caught.value.advice


def test_text_cannot_be_given() -> None:
    with pytest.raises(InputError, match="takes string, which no array can fill"):
        plan_inputs([declared("x", "string", 4)], values={"x": np.zeros(4, "f4")})


@pytest.mark.parametrize(
    ("shapes", "batch"), [({"x": (1, 3, 4, 4)}, None), (None, 2)], ids=["another shape", "another batch"]
)
def test_values_and_options_that_contradict_each_other_are_refused(shapes: Any, batch: int | None) -> None:
    with pytest.raises(InputError, match="was to be") as caught:
        plan_inputs(IMAGE, shapes, batch, {"x": np.zeros((1, 3, 8, 8), "f4")})

    assert "the values decide the shape" in caught.value.advice


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ({"y": (1, 3, 8, 8)}, "no such input; its inputs: x"),
        ({"x": (1, 3, 8)}, "has 4 dimensions, but the shape given has 3"),
        ({"x": (1, 4, 8, 8)}, "dimension 1 is fixed at 3 and cannot be 4"),
        ({"x": (1, 3, 0, 8)}, "dimension 2 cannot be 0"),
    ],
)
def test_shapes_that_the_file_does_not_allow_are_refused(shapes: dict[str, tuple[int, ...]], says: str) -> None:
    with pytest.raises(ShapeError, match=says):
        plan_inputs(IMAGE, shapes)


def test_one_symbol_is_one_size() -> None:
    shapes = {"input": (2, 576), "state": (2, 3, 128)}

    with pytest.raises(ShapeError, match=r"\(batch\) cannot be both 2 and 3"):
        plan_inputs(SPEECH, shapes)


def test_a_batch_reaches_every_dimension_of_its_symbol() -> None:
    assert plan_inputs(SPEECH, batch=4).shapes["state"] == (2, 4, 128)


def test_an_input_without_a_declared_rank_takes_the_one_that_is_given() -> None:
    anything = [DeclaredInput(name="x", dtype="float32", dims=None)]

    assert plan_inputs(anything, {"x": (2, 5)}).shapes == {"x": (2, 5)}
    assert plan_inputs(anything, {"x": (2, 5)}).assumptions == ()
    assert "not even a rank" in plan_inputs(anything).assumptions[0]
