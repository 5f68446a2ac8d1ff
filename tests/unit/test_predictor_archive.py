"""A predictor as a file: read back as it was, and refused when it is not what was written."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

import latency_models
from latency_models.archive import ArchiveError, OtherVersion, save
from latency_models.making_kernels import Kernels
from latency_models.predictor import Predictor
from tests.unit.kernel_makers import TARGET, conv, conv_samples, net, nets, strange

RECORDED = Path(__file__).parents[1] / "recorded" / "predictors"


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.fit(TARGET, conv_samples(120), nets(8))


@pytest.fixture
def path(predictor: Predictor, tmp_path: Path) -> Path:
    found = tmp_path / "toy.predictor"
    save(predictor, found, {"who": "a test"})
    return found


def asked(predictor: Predictor) -> object:
    kernels = (*net(5), conv(99, 7, 9), strange())
    return predictor.estimate(Kernels(kernels, tuple((str(k),) for k in range(len(kernels)))))


def test_what_was_written_reads_back_and_answers_the_same(predictor: Predictor, path: Path) -> None:
    again = Predictor.load(path)

    assert asked(again) == asked(predictor)
    assert again.target == predictor.target
    assert again.metrics == predictor.metrics
    assert again.provenance == {"who": "a test"}
    assert again.patterns == predictor.patterns
    assert again.times.typical == predictor.times.typical
    assert again.times.typical["Conv"] > 0


def test_the_same_predictor_is_the_same_file(predictor: Predictor, path: Path, tmp_path: Path) -> None:
    save(predictor, tmp_path / "again.predictor", {"who": "a test"})

    assert (tmp_path / "again.predictor").read_bytes() == path.read_bytes()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["again.predictor", "toy.predictor"]


@pytest.mark.parametrize("recorded", sorted(RECORDED.glob("*.predictor")), ids=lambda one: one.name)
def test_files_of_earlier_versions_stay_readable(recorded: Path) -> None:
    old = Predictor.load(recorded)

    kernels = net(5)
    estimate = old.estimate(Kernels(kernels, tuple((str(k),) for k in range(len(kernels)))))
    assert estimate.latency_s == pytest.approx(float(str(old.provenance["net_5_s"])), rel=1e-6)


def rewritten(path: Path, change: dict[str, bytes]) -> Path:
    """The archive with some parts replaced."""
    with zipfile.ZipFile(path) as archive:
        parts = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**parts, **change}.items():
            archive.writestr(name, data)
    return path


def manifest(path: Path) -> dict[str, object]:
    with zipfile.ZipFile(path) as archive:
        found: dict[str, object] = json.loads(archive.read("manifest.json"))
    return found


def test_a_newer_file_is_refused_with_what_to_do(path: Path) -> None:
    changed = json.dumps({**manifest(path), "schema": 2}).encode()

    with pytest.raises(ArchiveError, match="has schema 2, this edgeprof reads 1 to 1: install a newer edgeprof"):
        latency_models.load(rewritten(path, {"manifest.json": changed}))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"schema": "1"}, ArchiveError, "is damaged: its schema is '1'"),
        ({"kind": "of another kind"}, OtherVersion, "is of kind 'of another kind'.*install a newer edgeprof"),
        ({"features": ["one"]}, ArchiveError, r"\.predictor: it was trained on other features.*train it again"),
    ],
)
def test_what_this_version_does_not_know_is_told_from_damage(
    path: Path, change: dict[str, object], error: type[ArchiveError], message: str
) -> None:
    changed = json.dumps({**manifest(path), **change}).encode()

    with pytest.raises(error, match=message):
        latency_models.load(rewritten(path, {"manifest.json": changed}))


def test_a_part_that_was_changed_is_noticed(path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"trees/0\.txt is not what was written"):
        latency_models.load(rewritten(path, {"trees/0.txt": b"tree\n"}))


def test_a_part_that_was_added_is_noticed(path: Path) -> None:
    with pytest.raises(ArchiveError, match="parts are missing or were added"):
        latency_models.load(rewritten(path, {"payload.pkl": pickle.dumps({})}))


def test_arrays_with_pickled_objects_are_not_read(path: Path) -> None:
    import hashlib
    import io

    packed = io.BytesIO()
    np.savez(packed, table=np.array([{"a": 1}], dtype=object))
    facts = manifest(path)
    parts = dict(facts["parts"])  # type: ignore[call-overload]
    parts["arrays.npz"] = hashlib.sha256(packed.getvalue()).hexdigest()
    changed = json.dumps({**facts, "parts": parts}).encode()

    with pytest.raises(ArchiveError, match="is damaged"):
        latency_models.load(rewritten(path, {"arrays.npz": packed.getvalue(), "manifest.json": changed}))


@pytest.mark.parametrize("size", [0, 10, 1000, -20])
def test_a_file_that_was_cut_off_is_refused(path: Path, size: int) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:size])

    with pytest.raises(ArchiveError, match=r"toy\.predictor"):
        Predictor.load(path)


def test_damage_anywhere_is_refused_and_never_read_as_something_else(path: Path, predictor: Predictor) -> None:
    data = bytearray(path.read_bytes())
    random = np.random.default_rng(0)
    for _ in range(60):
        place = int(random.integers(0, len(data)))
        damaged = bytearray(data)
        damaged[place] ^= 0xFF
        path.write_bytes(bytes(damaged))
        try:
            again = Predictor.load(path)
        except ArchiveError:
            continue
        assert asked(again) == asked(predictor)  # a byte that nothing depends on, such as a date in the directory


def test_another_file_is_no_predictor(tmp_path: Path) -> None:
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("manifest.json", "{}")

    with pytest.raises(ArchiveError, match="is no predictor"):
        latency_models.load(other)
    with pytest.raises(OSError, match="No such file"):
        latency_models.load(tmp_path / "nowhere.predictor")


def test_nothing_half_written_is_left_where_it_cannot_be_written(predictor: Predictor, tmp_path: Path) -> None:
    folder = tmp_path / "full"
    folder.mkdir()
    target = folder / "toy.predictor"
    target.mkdir()  # a folder cannot be replaced by a file

    with pytest.raises(OSError, match=r"toy\.predictor"):
        predictor.save(target)

    assert [one.name for one in folder.iterdir()] == ["toy.predictor"]
