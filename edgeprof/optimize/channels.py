"""Samples for a file that a converter made: its inputs have other names, and images their channels last."""

from __future__ import annotations

from pathlib import Path

from edgeprof.errors import InputError
from edgeprof.models import read_model
from edgeprof.models.arrays import Array
from edgeprof.optimize.samples import Samples

__all__ = ["as_taken"]


def as_taken(samples: Samples, path: Path) -> Samples:
    """The same samples under the names and in the order of dimensions that the file at `path` takes.

    Raises:
        ModelError: the file cannot be read.
        InputError: it takes something else.
    """
    model = read_model(path)
    if len(model.graph.declared) != len(samples.values):
        raise InputError(f"{path.name} has {len(model.graph.declared)} inputs, the original {len(samples.values)}")
    pairs = zip(model.graph.declared, samples.values.values(), strict=True)
    values = {item.name: _turned(path, item.name, array, model.inputs.shapes[item.name]) for item, array in pairs}
    return Samples(values=values, labels=samples.labels, source=samples.source)


def _turned(path: Path, name: str, array: Array, shape: tuple[int, ...]) -> Array:
    """(n, *shape); of an image whose sides are as long as it has channels, the first reading that fits is taken."""
    if array.shape[1:] == shape:
        return array
    turned = array.transpose(0, 1, *range(3, array.ndim), 2) if array.ndim > 3 else array
    if turned.shape[1:] != shape:
        raise InputError(f"{path.name} takes {list(shape)} for {name!r}, the original {list(array.shape[1:])}")
    return turned
