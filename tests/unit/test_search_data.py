"""Data of a user's: arrays, images, sound; what is wrong with it is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from edgeprof.errors import UsageError
from edgeprof.search.learning.data import Part, read_data, split
from edgeprof.search.learning.folders import log_mel


def test_arrays_without_parts_are_dealt_by_class(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "own.npz", x=rng.normal(size=(100, 8, 8, 3)), y=np.repeat(["cat", "dog"], 50))

    data = read_data(str(tmp_path / "own.npz"), seed=4)

    assert data.classes == ("cat", "dog")
    assert data.shape == (3, 8, 8), "channels last become first"
    assert [len(part) for part in (data.train, data.valid, data.test)] == [60, 20, 20]
    assert abs(float(data.train.x.std()) - 1.0) < 0.02


def test_parts_that_are_given_stay_as_they_are(tmp_path: Path) -> None:
    x, y = np.arange(40, dtype=np.float32).reshape(40, 1), np.tile([0, 1], 20)
    np.savez(tmp_path / "own.npz", x_train=x[:30], y_train=y[:30], x_test=x[30:], y_test=y[30:])

    data = read_data(str(tmp_path / "own.npz"))

    assert len(data.test) == 10
    assert len(data.train) + len(data.valid) == 30
    assert data.shape == (1, 1, 1)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros(3)}, "neither x and y"),
        ({"x": np.zeros((4, 2)), "y": np.zeros(3)}, "4 samples and 3 classes"),
        ({"x": np.zeros((4, 2)), "y": np.zeros(4)}, "1 classes"),
        ({"x": np.full((8, 2), np.nan), "y": np.tile([0, 1], 4)}, "not finite"),
        ({"x": np.zeros((8, 2, 2, 2, 2, 2)), "y": np.tile([0, 1], 4)}, "of 5 dimensions"),
    ],
)
def test_arrays_that_cannot_be_learned_from_are_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    np.savez(tmp_path / "own.npz", **arrays)  # type: ignore[arg-type]

    with pytest.raises(UsageError, match=message):
        read_data(str(tmp_path / "own.npz"))


def test_what_is_no_data_is_said(tmp_path: Path) -> None:
    (tmp_path / "own.npz").write_bytes(b"no zip")
    with pytest.raises(UsageError, match="cannot be read"):
        read_data(str(tmp_path / "own.npz"))
    with pytest.raises(UsageError, match="there is no data 'nowhere'"):
        read_data("nowhere")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "alone").mkdir()
    with pytest.raises(UsageError, match="has 1 folders of classes"):
        read_data(str(tmp_path / "one"))


def test_images_in_folders_by_class_and_by_part(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for part in ("train", "test"):
        for name, shade in (("dark", 20), ("light", 230)):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(10):
                picture = image.fromarray(np.full((9, 12, 3), shade + number, np.uint8))
                picture.save(tmp_path / part / name / f"{number}.png")

    data = read_data(str(tmp_path), side=8)

    assert data.shape == (3, 8, 8)
    assert len(data.test) == 20
    assert data.classes == ("dark", "light")
    assert data.test.x[data.test.y == 1].mean() > data.test.x[data.test.y == 0].mean()
    (tmp_path / "train" / "dark" / "broken.png").write_bytes(b"\x89PNG but no more")
    with pytest.raises(UsageError, match=r"broken\.png is no image that can be read"):
        read_data(str(tmp_path), side=8)


def test_sound_in_folders_becomes_bands_over_time(tmp_path: Path) -> None:
    rate = 8000
    for name, hertz in (("low", 300), ("high", 3000)):
        (tmp_path / name).mkdir()
        for number in range(6):
            seconds = np.arange(rate // (1 + number % 2)) / rate
            samples = (10000 * np.sin(2 * np.pi * (hertz + 10 * number) * seconds)).astype(np.int16)
            wavfile.write(tmp_path / name / f"{number}.wav", rate, samples)

    data = read_data(str(tmp_path), kind="sound")

    assert data.shape == (40, 1, 98), "40 bands, height 1, windows every 10 ms; shorter ones are as long as the longest"
    (tmp_path / "low" / "bad.wav").write_bytes(b"RIFF")
    with pytest.raises(UsageError, match=r"bad\.wav is no wav file"):
        read_data(str(tmp_path), kind="sound")


def test_the_loudest_band_is_where_the_tone_is() -> None:
    rate = 16000
    loudest = [
        int(log_mel(np.sin(2 * np.pi * hertz * np.arange(rate) / rate), rate).mean(axis=(1, 2)).argmax())
        for hertz in (200, 1000, 5000)
    ]

    assert loudest == sorted(loudest)
    # 2595 log10(1 + 1000 / 700) mel of 2840 in all are the 14th of 40 bands.
    assert abs(loudest[1] - 13) <= 1


def test_a_split_takes_of_every_class_and_loses_nothing() -> None:
    y = np.array([0] * 10 + [1] * 3 + [2], dtype=np.int64)
    part = Part(np.arange(14, dtype=np.float32)[:, None, None], y)

    rest, taken = split(part, 0.2, seed=1)

    assert sorted(np.concatenate([rest.x, taken.x]).ravel()) == list(range(14))
    assert list(np.bincount(taken.y, minlength=3)) == [2, 1, 0], "the only one of its class stays to be learned from"
    assert (split(part, 0.2, seed=1)[1].x == taken.x).all()


def test_series_of_the_archives_are_images_of_height_one(tmp_path: Path) -> None:
    """Channels apart by colons, series of different lengths, the class at the end."""
    (tmp_path / "Toy_TRAIN.ts").write_text(
        "# words\n@problemName Toy\n@data\n" + "".join(f"1,2,{k}:4,5,6:{k % 2}\n1,2:3,4:{k % 2}\n" for k in range(10))
    )
    (tmp_path / "Toy_TEST.ts").write_text("@data\n1,2,3,4:5,6,7,8:0\n1,2,3,4:5,6,7,8:1\n")

    data = read_data(str(tmp_path / "Toy_TRAIN.ts"))

    assert data.name == "Toy"
    assert data.shape == (2, 1, 4), "as long as the longest of all files"
    assert len(data.test) == 2
    assert data.classes == ("0", "1")
    for text, message in (
        ("@data\n1,2:x,4:0\n", "line 2: could not convert"), ("@data\n1,2:1\n1,2:3,4:0\n", "line 3: 2 channels"),
        ("@data\n", "has no samples"),
    ):  # fmt: skip
        (tmp_path / "Bad.ts").write_text(text)
        with pytest.raises(UsageError, match=message):
            read_data(str(tmp_path / "Bad.ts"))
