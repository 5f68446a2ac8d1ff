"""What every runtime needs to know about tensors: element types, concrete input shapes, the size of raw data."""

import math
import shlex
from typing import Dict, List, Optional, Sequence, Tuple, Union

from device_agents.runtimes import RuntimeRefusal
from device_agents.wire import RuntimeOptions, TensorInfo

# A dimension as a model declares it: fixed, named (equal names are equal sizes) or open.
Dim = Union[int, str, None]

ITEM_BYTES: Dict[str, int] = {
    "bool": 1,
    "float16": 2,
    "float32": 4,
    "float64": 8,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "uint8": 1,
    "uint16": 2,
    "uint32": 4,
    "uint64": 8,
}


def size_bytes(tensor: TensorInfo) -> int:
    return ITEM_BYTES[tensor.dtype] * math.prod(tensor.shape)


def require_supported(tensors: Sequence[TensorInfo]) -> None:
    """Refuse inputs that raw bytes cannot fill.

    Raises:
        RuntimeRefusal: unsupported-model.
    """
    for tensor in tensors:
        if tensor.dtype not in ITEM_BYTES:
            raise RuntimeRefusal(
                "unsupported-model",
                f"input {tensor.name!r} has elements of type {tensor.dtype}, which cannot be made from a seed",
                "move what reads such data (text, for instance) out of the model; profiling needs numbers",
            )


def require_sizes(tensors: Sequence[TensorInfo], data: Sequence[bytes]) -> None:
    """Refuse data that does not fill the inputs exactly: the rest would be whatever was in memory.

    Raises:
        RuntimeRefusal: bad-input.
    """
    if len(data) != len(tensors):
        raise RuntimeRefusal("bad-input", f"the model has {len(tensors)} inputs, but data came for {len(data)}")
    for tensor, block in zip(tensors, data):
        if len(block) != size_bytes(tensor):
            raise RuntimeRefusal(
                "bad-input",
                f"input {tensor.name!r} ({tensor.dtype}, {text(tensor.shape)}) takes {size_bytes(tensor)} bytes, "
                f"but {len(block)} came",
            )


def text(shape: Sequence[Dim]) -> str:
    return "x".join("?" if dim is None else str(dim) for dim in shape) or "scalar"


def concrete_shapes(
    declared: Sequence[Tuple[str, Sequence[Dim]]], options: RuntimeOptions
) -> Tuple[Tuple[Tuple[int, ...], ...], List[str]]:
    """The shape of every input under these options, and a note for each dimension that was set to 1 for want of one.

    Raises:
        RuntimeRefusal: bad-option; a shape or a batch that the model does not allow.
    """
    sizes: Dict[str, int] = {}
    _require_known_names([name for name, _ in declared], options)
    for name, dims in declared:
        if name in options.shapes:
            _bind(name, dims, options.shapes[name], sizes)
    if options.batch is not None:
        _bind_batch(declared, options, sizes)
    shapes, notes = [], []
    for name, dims in declared:
        wanted = options.shapes.get(name)
        shape, open_dims = (tuple(wanted), []) if wanted is not None else _fill(dims, options.batch, sizes)
        shapes.append(shape)
        if open_dims:
            option = shape_option(name, shape)
            notes.append(
                f"input {name!r} is {text(dims)} in the file: dynamic dimensions without a given size "
                f"({', '.join(open_dims)}) were set to 1; to set them: {option}"
            )
    return tuple(shapes), notes


def shape_option(name: str, shape: Sequence[int]) -> str:
    """What to type to give an input this shape, or another."""
    return "--shape " + shlex.quote(f"{name}={','.join(map(str, shape))}")


def _require_known_names(names: Sequence[str], options: RuntimeOptions) -> None:
    for name in options.shapes:
        if name not in names:
            raise RuntimeRefusal(
                "bad-option",
                f"a shape is given for {name!r}, but the model has no such input",
                "its inputs: " + ", ".join(names),
            )


def _bind(name: str, dims: Sequence[Dim], wanted: Sequence[int], sizes: Dict[str, int]) -> None:
    advice = f"the file declares {text(dims)}"
    if len(wanted) != len(dims):
        raise RuntimeRefusal(
            "bad-option", f"input {name!r} has {len(dims)} dimensions, but the shape given has {len(wanted)}", advice
        )
    for k, (dim, size) in enumerate(zip(dims, wanted)):
        if size < 1:
            raise RuntimeRefusal("bad-option", f"input {name!r}: dimension {k} cannot be {size}", advice)
        if isinstance(dim, int) and dim != size:
            raise RuntimeRefusal(
                "bad-option", f"input {name!r}: dimension {k} is fixed at {dim} and cannot be {size}", advice
            )
        if isinstance(dim, str) and sizes.setdefault(dim, size) != size:
            raise RuntimeRefusal(
                "bad-option", f"input {name!r}: dimension {k} ({dim}) cannot be both {sizes[dim]} and {size}", advice
            )


def _bind_batch(declared: Sequence[Tuple[str, Sequence[Dim]]], options: RuntimeOptions, sizes: Dict[str, int]) -> None:
    batch = options.batch
    if batch is None or batch < 1:
        raise RuntimeRefusal("bad-option", f"the batch cannot be {batch}", "give a whole number of at least 1")
    firsts = [dims[0] for _, dims in declared if len(dims) > 0]
    if all(isinstance(first, int) for first in firsts) and any(first != batch for first in firsts):
        raise RuntimeRefusal(
            "bad-option",
            f"the batch cannot be {batch}: no input of this model has a dynamic first dimension",
            "export the model with a dynamic batch; its inputs: "
            + ", ".join(f"{name} {text(dims)}" for name, dims in declared),
        )
    for first in firsts:
        if isinstance(first, str) and sizes.setdefault(first, batch) != batch:
            raise RuntimeRefusal(
                "bad-option", f"dimension {first} cannot be both {sizes[first]} (a given shape) and {batch} (the batch)"
            )


def _fill(dims: Sequence[Dim], batch: Optional[int], sizes: Dict[str, int]) -> Tuple[Tuple[int, ...], List[str]]:
    shape: List[int] = []
    open_dims: List[str] = []
    for k, dim in enumerate(dims):
        if isinstance(dim, int):
            shape.append(dim)
        elif isinstance(dim, str) and dim in sizes:
            shape.append(sizes[dim])
        elif dim is None and k == 0 and batch is not None:
            shape.append(batch)
        else:
            shape.append(1)
            open_dims.append(str(k) if dim is None else f"{k}: {dim}")
    return tuple(shape), open_dims
