"""Series of several channels in .ts files, as the UCR and UEA archives and aeon keep them.

After @data each line is a sample: its channels, apart by colons, each a list of numbers, and its class at the end.
Dau et al., The UCR time series archive, 2019; Bagnall et al., The UEA multivariate archive, 2018.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeprof.errors import UsageError

__all__ = ["of_series"]

Array = NDArray[np.float32]
Labels = NDArray[np.int64]
TRAIN, TEST = "_TRAIN", "_TEST"
MOST_BYTES = 1024**3


def of_series(path: Path) -> tuple[dict[str, tuple[Array, Labels]], tuple[str, ...]]:
    """The parts and the classes: (n, channels, 1, longest), with zeros behind shorter series, and (n,).

    Of NAME_TRAIN.ts the file NAME_TEST.ts beside it is the part that is never seen; another file is all there is.

    Raises:
        UsageError: a file cannot be read, or is none.
    """
    files = {"": path}
    if path.stem.endswith(TRAIN):
        test = path.with_name(path.name.replace(f"{TRAIN}.ts", f"{TEST}.ts"))
        files = {"train": path, **({"test": test} if test.exists() else {})}
    read = {part: _samples(file) for part, file in files.items()}
    everything = [sample for samples in read.values() for sample in samples]
    length = max(channel.shape[-1] for channels, _ in everything for channel in channels)
    classes = sorted({label for _, label in everything})
    found = {}
    for part, samples in read.items():
        x = np.stack([np.stack([_as_long(channel, length) for channel in channels]) for channels, _ in samples])
        found[part] = (x[:, :, None], np.array([classes.index(label) for _, label in samples], dtype=np.int64))
    return found, tuple(classes)


def _as_long(channel: Array, length: int) -> Array:
    return np.pad(channel, (0, length - len(channel)))


def _samples(path: Path) -> list[tuple[list[Array], str]]:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UsageError(f"{path} is larger than {MOST_BYTES} bytes", "split it")
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}", "name a .ts file") from error
    found, n_channels = [], None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith(("#", "@")):
            continue
        *channels, label = line.split(":")
        try:
            sample = [np.array(channel.split(","), dtype=np.float32) for channel in channels]
        except ValueError as error:
            raise UsageError(f"{path}, line {number}: {error}", "mend the line, or take it out") from error
        if not sample or (n_channels is not None and len(sample) != n_channels):
            raise UsageError(f"{path}, line {number}: {len(sample)} channels", "every line has as many, and its class")
        n_channels = len(sample)
        found.append((sample, label.strip()))
    if not found:
        raise UsageError(f"{path} has no samples", "name a .ts file with lines after @data")
    return found
