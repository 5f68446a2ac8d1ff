"""Samples: read from files and folders as the model takes them, refused in words where they do not fit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprof.errors import InputError
from edgeprof.optimize.samples import read_samples, split
from latency_models.graph import DeclaredInput

DECLARED = (DeclaredInput(name="image", dtype="float32", dims=(1, 3, 4, 4)),)
SHAPES = {"image": (1, 3, 4, 4)}


def _write(path: Path, n: int = 40, **more: Any) -> Path:
    rng = np.random.default_rng(0)
    arrays = {"image": rng.normal(size=(n, 3, 4, 4)).astype(np.float32), "labels": np.arange(n) % 7, **more}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def test_a_file_is_read_with_its_labels_and_the_batch_that_it_leaves_out(tmp_path: Path) -> None:
    samples = read_samples(_write(tmp_path / "data.npz"), DECLARED, SHAPES)

    assert len(samples) == 40
    assert samples.one(3)["image"].shape == (1, 3, 4, 4)
    assert samples.labels is not None
    assert samples.labels.tolist() == [k % 7 for k in range(40)]


def test_a_folder_of_classes_gives_labels_in_the_order_of_their_names(tmp_path: Path) -> None:
    for k, name in enumerate(("cat", "ant", "bee")):
        (tmp_path / name).mkdir()
        for j in range(2):
            np.save(tmp_path / name / f"{j}.npy", np.full((3, 4, 4), k, np.float32))

    samples = read_samples(tmp_path, DECLARED, SHAPES)

    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert samples.values["image"][:, 0, 0, 0, 0].tolist() == [1, 1, 2, 2, 0, 0]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image": np.zeros((40, 3, 5, 4), np.float32)}, r"takes \[1, 3, 4, 4\] in a run.*\[40, 3, 5, 4\]"),
        ({"image": np.zeros((40, 3, 4, 4), np.uint8)}, "takes float32, and its values are uint8"),
        ({"labels": np.arange(39)}, "not the same number of samples: 40 of image, 39 of labels"),
        ({"labels": np.linspace(0, 1, 40)}, "labels are whole numbers"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_samples(_write(tmp_path / "data.npz", **changed), DECLARED, SHAPES)

    assert re.search(
        message.replace("samples: 40", "samples of everything: 40"), f"{caught.value}; {caught.value.advice}"
    )


def test_what_calibrates_never_judges_and_too_few_are_refused(tmp_path: Path) -> None:
    samples = read_samples(_write(tmp_path / "data.npz", n=100, labels=np.arange(100)), DECLARED, SHAPES)

    calibration, judged = split(samples, seed=0)

    assert calibration.labels is not None
    assert judged.labels is not None
    assert len(calibration) == 25
    assert sorted([*calibration.labels, *judged.labels]) == list(range(100))
    with pytest.raises(
        InputError, match=r"of its 27 samples 19 are left to judge by \(8 are for calibrating\), and 20 are needed"
    ):
        split(samples.take(range(27)), seed=0)
