"""Files of arrays: what is in them, and what is refused because it is no such file, damaged or hostile."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgeprof.errors import InputError
from edgeprof.models import arrays
from edgeprof.models.arrays import UNNAMED, read_arrays


def test_an_npz_gives_its_arrays_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, a=np.arange(6.0).reshape(2, 3), b=np.array(16000), c=np.array([True]))

    found = read_arrays(path)

    assert {name: array.tolist() for name, array in found.items()} == {
        "a": [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]],
        "b": 16000,
        "c": [True],
    }


def test_an_npy_gives_one_array_without_a_name(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.asfortranarray(np.arange(6).reshape(2, 3)))

    assert read_arrays(path)[UNNAMED].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_compressed_npz_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, a=np.zeros(1000))

    assert read_arrays(path)["a"].shape == (1000,)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"these are my notes", "neither an .npz nor an .npy"),
        (pickle.dumps([1, 2]), "pickled Python objects, which are never loaded"),
        (b"PK\x03\x04 and then nothing that makes sense", "damaged or incomplete"),
        (b"\x93NUMPY\x01\x00", "not an array of numpy, or damaged"),
        (b"\x93NUMPY\x09\x00", "not an array of numpy, or damaged"),
    ],
)
def test_what_is_no_file_of_arrays_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(content)

    with pytest.raises(InputError, match=says) as caught:
        read_arrays(path)

    assert "x.npz" in str(caught.value)
    assert caught.value.advice


def test_pickled_objects_in_an_array_are_never_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    path = tmp_path / "x.npz"
    np.savez(path, a=np.array([Bomb()], dtype=object))

    with pytest.raises(InputError, match="array 'a' holds Python objects"):
        read_arrays(path)

    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
@pytest.mark.parametrize("suffix", ["npz", "npy"])
def test_a_file_that_is_cut_off_is_told(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"x.{suffix}"
    if suffix == "npz":
        np.savez(path, a=np.random.default_rng(0).random(1000))
    else:
        np.save(path, np.random.default_rng(0).random(1000))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    with pytest.raises(InputError, match=r"cut off|incomplete|damaged"):
        read_arrays(path)


def test_a_header_that_claims_more_than_there_is_allocates_nothing(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    path = tmp_path / "x.npy"
    path.write_bytes(header.getvalue() + bytes(64))

    with pytest.raises(InputError, match="is cut off"):
        read_arrays(path)


def test_a_file_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "MOST_BYTES", 10_000)
    path = tmp_path / "x.npz"
    np.savez_compressed(path, a=np.zeros(100_000))

    with pytest.raises(InputError, match="more than the 10000 that edgeprof takes"):
        read_arrays(path)


def test_an_archive_of_other_files_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "not an array")

    with pytest.raises(InputError, match=r"holds 'notes.txt', which is not an array"):
        read_arrays(path)


@pytest.mark.parametrize("what", ["missing", "folder", "pipe"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, what: str) -> None:
    path = tmp_path / "x"
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)

    with pytest.raises(InputError, match=r"cannot be read|is not a file"):
        read_arrays(path)
