"""What a model's inputs will be: every shape, the user's own values, and what had to be assumed.

Shapes follow the rule that the agent follows too (`device_agents.runtimes.tensors`), so that what a device would refuse
is refused here, before anything is sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from device_agents.runtimes import RuntimeRefusal
from device_agents.runtimes.tensors import ITEM_BYTES, concrete_shapes, shape_option, text
from device_agents.wire import FileRef, InputFile, RuntimeOptions
from edgeprof.errors import InputError
from edgeprof.models.arrays import UNNAMED, Array
from latency_models.graph import DeclaredInput, ShapeError

__all__ = ["InputPlan", "plan_inputs"]


@dataclass(frozen=True, kw_only=True)
class InputPlan:
    """Every input of a model, as it will be run.

    `shapes` has every input; `given` only those that the user fixed by a shape or by values. `files` are the user's own
    values, raw, little-endian, in C order; empty where they are made from a seed. `assumptions` says which dimensions
    were set to 1 for want of a size, and what to type to set them; `notes` what is worth knowing of the values.
    """

    shapes: Mapping[str, tuple[int, ...]]
    given: Mapping[str, tuple[int, ...]]
    files: tuple[tuple[InputFile, bytes], ...] = ()
    assumptions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def plan_inputs(
    declared: Sequence[DeclaredInput],
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    batch: int | None = None,
    values: Mapping[str, Array] | None = None,
) -> InputPlan:
    """Fit what was asked for to what the file declares.

    Args:
        declared: the model's inputs.
        shapes: the shape of inputs by name.
        batch: the first dimension of every input whose first dimension is dynamic.
        values: an array for every input by name; for a model with one input, one array of any name.

    Raises:
        ShapeError: a shape or a batch that the model does not allow.
        InputError: values are missing, too many, of another type, empty, or of another shape than was asked for.
    """
    notes: list[str] = []
    arrays = _by_input(declared, values, notes) if values is not None else {}
    given = dict(shapes or {})
    for item in declared:
        if item.name in arrays:
            _require_type(item, arrays[item.name])
            _require_agreement(item, arrays[item.name].shape, given, batch)
            given[item.name] = arrays[item.name].shape
            notes += _not_finite(item.name, arrays[item.name])
    options = RuntimeOptions(batch=batch, shapes=given)
    try:
        concrete, assumptions = concrete_shapes(_with_rank(declared, given), options)
    except RuntimeRefusal as refusal:
        raise ShapeError(f"{refusal}; {refusal.advice}" if refusal.advice else str(refusal)) from refusal
    return InputPlan(
        shapes={item.name: shape for item, shape in zip(declared, concrete, strict=True)},
        given=given,
        files=tuple(_file(k, item, arrays[item.name]) for k, item in enumerate(declared) if item.name in arrays),
        assumptions=(*assumptions, *(_unknown_rank(item) for item in declared if _is_left_open(item, given))),
        notes=tuple(notes),
    )


def _with_rank(
    declared: Sequence[DeclaredInput], given: Mapping[str, tuple[int, ...]]
) -> list[tuple[str, tuple[int | str | None, ...]]]:
    """Inputs whose rank the file leaves open take the rank that was asked for."""
    return [
        (item.name, (None,) * len(given.get(item.name, ())) if item.dims is None else item.dims) for item in declared
    ]


def _is_left_open(item: DeclaredInput, given: Mapping[str, tuple[int, ...]]) -> bool:
    return item.dims is None and item.dtype is not None and item.name not in given


def _unknown_rank(item: DeclaredInput) -> str:
    option = shape_option(item.name, (1, 3, 224, 224))
    return (
        f"input {item.name!r} has no shape in the file, not even a rank: it was taken for a scalar; to set it: {option}"
    )


# --- values --------------------------------------------------------------------------------------------------------


def _by_input(declared: Sequence[DeclaredInput], values: Mapping[str, Array], notes: list[str]) -> dict[str, Array]:
    names = [item.name for item in declared]
    if len(names) == 1 and len(values) == 1 and names[0] not in values:
        ((name, array),) = values.items()
        if name != UNNAMED:
            notes.append(f"the array {name!r} was taken for the model's only input, {names[0]!r}")
        return {names[0]: array}
    wanted = "; the model's inputs: " + (", ".join(map(_described, declared)) or "none")
    if UNNAMED in values:
        raise InputError(f"one array without a name cannot fill {len(names)} inputs{wanted}", "save them by name: .npz")
    unknown = [name for name in values if name not in names]
    if unknown:
        message = f"there are values for {_listed(unknown)}, but the model has no such input{wanted}"
        raise InputError(
            message, "name the arrays as the model names its inputs: numpy.savez('inputs.npz', NAME=array)"
        )
    missing = [name for name in names if name not in values]
    if missing:
        message = f"there are no values for the input {_listed(missing)}{wanted}"
        raise InputError(message, "give an array for every input of the model")
    return dict(values)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def _described(item: DeclaredInput) -> str:
    return f"{item.name} {item.dtype} {'of any shape' if item.dims is None else text(item.dims)}"


def _require_type(item: DeclaredInput, array: Array) -> None:
    if item.dtype not in ITEM_BYTES:
        raise InputError(
            f"input {item.name!r} takes {item.dtype}, which no array can fill",
            "move what reads such data out of the model; profiling needs numbers",
        )
    if array.dtype.name != item.dtype:
        advice = f"nothing is converted silently; convert it: array.astype('{item.dtype}')"
        if item.dtype in ("int8", "uint8", "int16"):
            advice += ", after dividing by the scale and adding the zero point if the model is quantised"
        raise InputError(f"input {item.name!r} takes {item.dtype}, but its values are {array.dtype.name}", advice)
    if array.size == 0:
        message = f"input {item.name!r}: its array is empty, of the shape {list(array.shape)}"
        raise InputError(message, "give at least one value along every dimension")


def _require_agreement(
    item: DeclaredInput, shape: tuple[int, ...], given: Mapping[str, tuple[int, ...]], batch: int | None
) -> None:
    advice = "the values decide the shape: leave --shape and --batch out"
    if given.get(item.name, shape) != shape:
        asked = list(given[item.name])
        raise InputError(f"input {item.name!r} was to be {asked}, but its values are {list(shape)}", advice)
    is_dynamic = bool(item.dims) and not isinstance((item.dims or (0,))[0], int)
    if batch is not None and is_dynamic and shape and shape[0] != batch:
        raise InputError(f"the batch was to be {batch}, but input {item.name!r} has values for {shape[0]}", advice)


def _not_finite(name: str, array: Array) -> list[str]:
    if array.dtype.kind != "f":
        return []
    n = int(array.size - np.count_nonzero(np.isfinite(array)))
    return [f"input {name!r}: {n} of its {array.size} values are NaN or infinite"] if n else []


def _file(k: int, item: DeclaredInput, array: Array) -> tuple[InputFile, bytes]:
    data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes(order="C")
    ref = FileRef(f"{k}.raw", hashlib.sha256(data).hexdigest(), len(data))
    return InputFile(item.name, array.dtype.name, array.shape, ref), data
