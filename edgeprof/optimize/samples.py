"""The user's data: values of a model's inputs, many of each, and labels where there are some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprof.errors import InputError
from edgeprof.models.arrays import UNNAMED, Array, read_arrays
from latency_models.graph import DeclaredInput

__all__ = ["LABELS", "Samples", "read_samples", "split"]

# Under one of these names an array of the file has the right answers, unless the model has an input of that name.
LABELS = ("labels", "label", "y")
SUFFIXES = (".npz", ".npy")
# Ranges of activations from fewer samples than this are chance; more than the most change them little and cost memory.
LEAST_CALIBRATION, MOST_CALIBRATION = 8, 256
LEAST_EVALUATION = 20
CALIBRATION_SHARE = 0.25
HOW = (
    "save them with numpy.savez('data.npz', INPUT=array of (samples, ...), labels=array of (samples,)), "
    "or one .npz or .npy file for each sample in a folder, in a subfolder for each class"
)


@dataclass(frozen=True, kw_only=True)
class Samples:
    """`values` has for each input an array (n, *shape that the model takes); `labels` are (n,), None without any."""

    values: Mapping[str, Array]
    labels: NDArray[np.int64] | None
    source: str

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    def take(self, which: Sequence[int] | NDArray[np.int64]) -> Samples:
        """Those of these numbers, in their order."""
        index = np.asarray(which, dtype=np.int64)
        return Samples(
            values={name: array[index] for name, array in self.values.items()},
            labels=None if self.labels is None else self.labels[index],
            source=self.source,
        )

    def one(self, k: int) -> dict[str, Array]:
        """The inputs of one run."""
        return {name: array[k] for name, array in self.values.items()}


def read_samples(path: Path, declared: Sequence[DeclaredInput], shapes: Mapping[str, tuple[int, ...]]) -> Samples:
    """The samples of an .npz or .npy file, or of a folder of such files, one for each sample.

    Args:
        path: the file, or the folder; of subfolders each is a class, and their order that of the labels.
        declared: the model's inputs.
        shapes: what each of them takes in one run; a leading 1 is that of a batch, which the file may leave out.

    Raises:
        InputError: they cannot be read, are of another type or shape, or do not belong together.
    """
    arrays = _of_folder(path) if path.is_dir() else read_arrays(path)
    labels = _labels(path, arrays, {item.name for item in declared})
    if UNNAMED in arrays and len(declared) == 1:
        arrays = {declared[0].name: arrays[UNNAMED]}
    elif len(arrays) == 1 and len(declared) == 1:
        arrays = {declared[0].name: next(iter(arrays.values()))}
    missing = [item.name for item in declared if item.name not in arrays]
    if missing:
        raise InputError(f"{path} has no values for the input {missing[0]!r}; it has {', '.join(arrays)}", HOW)
    values = {item.name: _fitted(path, item, arrays[item.name], shapes[item.name]) for item in declared}
    lengths = {name: len(array) for name, array in values.items()}
    if labels is not None:
        lengths["labels"] = len(labels)
    if len(set(lengths.values())) != 1:
        found = ", ".join(f"{n} of {name}" for name, n in lengths.items())
        raise InputError(f"{path} has not the same number of samples of everything: {found}", HOW)
    return Samples(values=values, labels=labels, source=str(path))


def _labels(path: Path, arrays: dict[str, Array], inputs: set[str]) -> NDArray[np.int64] | None:
    """Taken out of the arrays."""
    name = next((name for name in LABELS if name in arrays and name not in inputs), None)
    if name is None:
        return None
    found = np.asarray(arrays.pop(name))
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer):
        raise InputError(
            f"{path}: {name!r} has the type {found.dtype} and the shape {list(found.shape)}", "labels are whole numbers"
        )
    return found.astype(np.int64)


def _fitted(path: Path, item: DeclaredInput, array: Array, shape: tuple[int, ...]) -> Array:
    """(n, *shape), of the type that the model takes."""
    of_one = array.shape[1:]
    if array.ndim and of_one != shape and shape[:1] == (1,) and of_one == shape[1:]:
        array = array[:, None]
    elif array.ndim == 0 or of_one != shape:
        wanted = f"[samples, {', '.join(map(str, shape[1:] if shape[:1] == (1,) else shape))}]"
        raise InputError(
            f"{path}: the input {item.name!r} takes {list(shape)} in a run, "
            f"and its values have the shape {list(array.shape)}",
            f"give an array of the shape {wanted}",
        )
    wanted_type: np.dtype[Any] = np.dtype(item.dtype)
    if array.dtype == wanted_type:
        return array
    # Numbers that come out as they were, or floats of another width; an image in uint8 is no float image.
    if np.issubdtype(array.dtype, np.floating) and np.issubdtype(wanted_type, np.floating):
        return array.astype(wanted_type)
    if np.issubdtype(array.dtype, np.integer) and np.issubdtype(wanted_type, np.integer):
        info = np.iinfo(wanted_type)
        if not array.size or (array.min() >= info.min and array.max() <= info.max):
            return array.astype(wanted_type)
    raise InputError(
        f"{path}: the input {item.name!r} takes {item.dtype}, and its values are {array.dtype}",
        f"convert them as the model's own preprocessing does: array.astype({item.dtype!r}), scaled as in training",
    )


def _of_folder(path: Path) -> dict[str, Array]:
    """One sample a file; all must have the same names and shapes."""
    classes = sorted(one for one in path.iterdir() if one.is_dir())
    files = [(None, one) for one in sorted(path.iterdir()) if one.suffix in SUFFIXES]
    if classes and not files:
        labelled = [(k, one) for k, folder in enumerate(classes) for one in sorted(folder.iterdir())]
        return _stacked(path, [(k, one) for k, one in labelled if one.suffix in SUFFIXES])
    return _stacked(path, files)


def _stacked(path: Path, files: Sequence[tuple[int | None, Path]]) -> dict[str, Array]:
    if not files:
        raise InputError(f"{path} has no .npz or .npy files in it", HOW)
    found = [read_arrays(file) for _, file in files]
    for (_, file), arrays in zip(files, found, strict=True):
        for name, array in found[0].items():
            if name not in arrays or arrays[name].shape != array.shape:
                raise InputError(f"{file} has not the names and shapes of {files[0][1].name}", HOW)
    stacked: dict[str, Array] = {name: np.stack([one[name] for one in found]) for name in found[0]}
    if files[0][0] is not None:
        stacked["labels"] = np.array([k for k, _ in files], dtype=np.int64)
    return stacked


def split(samples: Samples, seed: int) -> tuple[Samples, Samples]:
    """What to calibrate with, and what to judge by: never the same samples.

    Raises:
        InputError: there are too few for both.
    """
    n = len(samples)
    n_calibration = min(MOST_CALIBRATION, max(LEAST_CALIBRATION, round(n * CALIBRATION_SHARE)))
    require_enough(samples, n - n_calibration, LEAST_EVALUATION, f"to judge by ({n_calibration} are for calibrating)")
    order = np.random.default_rng(seed).permutation(n)
    return samples.take(order[:n_calibration]), samples.take(order[n_calibration:])


def require_enough(samples: Samples, n: int, least: int, what: str) -> None:
    """Refuse to say anything of so few samples.

    Raises:
        InputError: there are fewer than `least`.
    """
    if n < least:
        raise InputError(
            f"{samples.source}: of its {len(samples)} samples {max(0, n)} are left {what}, and {least} are needed",
            "give more samples",
        )
