"""What nets are trained and judged on: images or sound in folders, arrays, and small sets that come with packages.

Three parts that have nothing in common: nets learn from the first, the search chooses by the second, and the third is
looked at when all is decided. A part that is not given is dealt from what is, by class, with a seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeprof.errors import UsageError
from edgeprof.search.npz import read_npz

__all__ = ["DIGITS", "Dataset", "Part", "read_data", "split"]

Array = NDArray[np.float32]
Labels = NDArray[np.int64]
DIGITS = "digits"
# Of the samples whose parts are not given.
VALID_SHARE, TEST_SHARE = 0.2, 0.2
PARTS = ("train", "valid", "test")
FEWEST = 2


@dataclass(frozen=True)
class Part:
    """Samples and their classes: images (n, channels, height, width), or tokens (n, length, width), and (n,)."""

    x: Array
    y: Labels

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Dataset:
    """Three parts, scaled so that every channel of the first has mean 0 and deviation 1.

    `words` say, step by step, what is done to a sample before a net sees it.
    """

    name: str
    train: Part
    valid: Part
    test: Part
    classes: tuple[str, ...]
    words: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample, in torch's order."""
        return self.train.x.shape[1:]

    @property
    def n_classes(self) -> int:
        return len(self.classes)


def read_data(source: str, *, kind: str = "images", side: int | None = None, seed: int = 0) -> Dataset:
    """Read a data set.

    Args:
        source: "digits" (scikit-learn's), an .npz file with `x` and `y` or with `x_train`, `y_train` and the like, a
            .ts file of the UCR and UEA archives (NAME_TRAIN.ts beside NAME_TEST.ts), or a folder with a folder of files
            for each class.
        kind: what is in such a folder: "images" or "sound" (16-bit wav of about a second).
        side: of images in folders, which are made so large.
        seed: of the split, where it is not given.

    Raises:
        UsageError: there is none, or nothing can be learned from it.
    """
    if source == DIGITS:
        return _digits(seed)
    path = Path(source).expanduser()
    if path.suffix == ".ts":
        from edgeprof.search.learning.series import of_series

        words = "take a series of each channel, with zeros behind it where it is shorter than the longest, as one row"
        return _complete(path.stem.removesuffix("_TRAIN"), *of_series(path), words, seed)
    if path.suffix == ".npz":
        return _of_npz(path, seed)
    if path.is_dir():
        from edgeprof.search.learning.folders import of_folder, preparation

        return _complete(path.name, *of_folder(path, kind, side), preparation(kind, side), seed)
    raise UsageError(
        f"there is no data {source!r}", "name digits, an .npz or .ts file, or a folder with a folder for each class"
    )


def _digits(seed: int) -> Dataset:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UsageError(
            "digits come with scikit-learn, which is not there", "pip install 'edgeprof[search]'"
        ) from error
    found = load_digits()
    x = found.images.astype(np.float32)[:, None]
    words = "take the 8 x 8 numbers of scikit-learn's digits as they are, 0 to 16"
    return _complete(DIGITS, {"": (x, found.target.astype(np.int64))}, tuple(map(str, range(10))), words, seed)


def _of_npz(path: Path, seed: int) -> Dataset:
    try:
        arrays = read_npz(path)
    except ValueError as error:
        raise UsageError(f"{path}: cannot be read: {error}", "make it with numpy.savez(file, x=..., y=...)") from error
    given: dict[str, tuple[Array, Labels]] = {}
    for part in ("", *PARTS):
        end = f"_{part}" if part else ""
        if f"x{end}" in arrays and f"y{end}" in arrays:
            given[part] = (_channels_first(arrays[f"x{end}"].astype(np.float32)), arrays[f"y{end}"])
    if not given:
        raise UsageError(
            f"{path} has {', '.join(sorted(arrays)) or 'nothing'}, and neither x and y nor x_train and y_train",
            "make it with numpy.savez(file, x=..., y=...)",
        )
    classes = sorted({str(one) for _, y in given.values() for one in np.asarray(y).ravel()}, key=_by_number)
    number = {name: k for k, name in enumerate(classes)}
    numbered = {
        part: (x, np.array([number[str(one)] for one in np.asarray(y).ravel()], dtype=np.int64))
        for part, (x, y) in given.items()
    }
    words = "take the numbers as they are in the file, channels first"
    return _complete(path.stem, numbered, tuple(classes), words, seed)


def _channels_first(x: Array) -> Array:
    """Images are often kept with channels last."""
    is_last = x.ndim == 4 and x.shape[-1] in (1, 3, 4) and x.shape[1] not in (1, 3, 4)
    return x.transpose(0, 3, 1, 2) if is_last else x


def _by_number(name: str) -> tuple[int, float, str]:
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name


def _complete(
    name: str, given: Mapping[str, tuple[Array, Labels]], classes: tuple[str, ...], words: str, seed: int
) -> Dataset:
    """Deal the parts that are missing, check all of it, and scale it."""
    parts = {part: Part(*_checked(name, x, y)) for part, (x, y) in given.items()}
    if "" in parts:
        rest, test = split(parts.pop(""), TEST_SHARE, seed)
        parts = {"train": rest, "test": test, **parts}
    if "train" not in parts:
        raise UsageError(f"{name} has no part to learn from", "give it one named train, or all of it without names")
    if "test" not in parts:
        parts["train"], parts["test"] = split(parts["train"], TEST_SHARE, seed)
    if "valid" not in parts:
        parts["train"], parts["valid"] = split(parts["train"], VALID_SHARE / (1 - TEST_SHARE), seed + 1)
    shapes = {part.x.shape[1:] for part in parts.values()}
    if len(shapes) > 1:
        raise UsageError(f"{name} has samples of different shapes: {sorted(shapes)}", "make them alike")
    if len(classes) < FEWEST or any(not len(part) for part in parts.values()):
        raise UsageError(f"{name} has {len(classes)} classes and a part without samples", "give at least two classes")
    return _scaled(Dataset(name, parts["train"], parts["valid"], parts["test"], classes, (words,)))


def _checked(name: str, x: Array, y: Labels) -> tuple[Array, Labels]:
    if len(x) != len(y):
        raise UsageError(f"{name} has {len(x)} samples and {len(y)} classes of samples", "give one for each")
    if x.ndim == 2:
        x = x[:, :, None, None].transpose(0, 2, 3, 1)  # one channel, one row
    elif x.ndim not in (3, 4):
        raise UsageError(f"{name} has samples of {x.ndim - 1} dimensions", "give 1, 2 (tokens) or 3 (images)")
    if not np.isfinite(x).all():
        raise UsageError(f"{name} has samples that are not finite numbers", "mend or leave out these samples")
    return np.ascontiguousarray(x, dtype=np.float32), y


def split(part: Part, share: float, seed: int) -> tuple[Part, Part]:
    """Two parts, the second with this share of every class, at least one of each that has two."""
    rng = np.random.default_rng(seed)
    taken = np.zeros(len(part), dtype=np.bool_)
    for label in np.unique(part.y):
        places = rng.permutation(np.flatnonzero(part.y == label))
        n_taken = max(1, round(share * len(places))) if len(places) > 1 else 0
        taken[places[:n_taken]] = True
    return Part(part.x[~taken], part.y[~taken]), Part(part.x[taken], part.y[taken])


def _scaled(data: Dataset) -> Dataset:
    axes = (0, 2, 3) if data.train.x.ndim == 4 else (0, 1)
    mean = data.train.x.mean(axis=axes, keepdims=True)
    sd = np.maximum(data.train.x.std(axis=axes, keepdims=True), 1e-6)
    scaled: Callable[[Part], Part] = lambda part: replace(part, x=((part.x - mean) / sd).astype(np.float32))  # noqa: E731
    how = f"subtract {_listed(mean)} and divide by {_listed(sd)}, by channel"
    words = (*data.words, how)
    return replace(data, train=scaled(data.train), valid=scaled(data.valid), test=scaled(data.test), words=words)


def _listed(values: Array) -> str:
    return "[" + ", ".join(f"{value:.6g}" for value in values.ravel()) + "]"
