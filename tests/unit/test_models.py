"""Model files: what is read, and what is said about files that are no models."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from device_agents.wire import FileRef
from edgeprof.errors import ModelError
from edgeprof.models import read_model, work
from edgeprof.models.example import write_example
from latency_models import onnx_graph
from tests.unit import onnx_maker
from tests.unit.test_graph import find


def test_one_file_has_its_own_hash_as_digest(tmp_path: Path) -> None:
    path = onnx_maker.save(onnx_maker.residual_block(), tmp_path / "block.onnx")

    model = read_model(path)

    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert (model.format, model.name, model.digest) == ("onnx", "block.onnx", expected)
    assert model.ref().files == (FileRef("block.onnx", expected, path.stat().st_size),)
    assert model.graph.shape("x") == (1, 8, 16, 16)


def test_external_data_travels_under_its_relative_name(tmp_path: Path) -> None:
    path = onnx_maker.two_layers(tmp_path / "two.onnx")

    model = read_model(path)

    assert [ref.name for ref in model.ref().files] == ["two.onnx", "weights/data.bin"]
    assert [local for _, local in model.files] == [path, tmp_path / "weights" / "data.bin"]
    lines = sorted(f"{ref.sha256}  {ref.name}\n" for ref in model.ref().files)
    assert model.digest == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_changed_external_data_changes_the_digest(tmp_path: Path) -> None:
    path = onnx_maker.two_layers(tmp_path / "two.onnx")
    before = read_model(path).digest
    data = tmp_path / "weights" / "data.bin"

    data.write_bytes(data.read_bytes()[:-1] + b"\x01")

    assert read_model(path).digest != before


def test_missing_external_data_is_named_with_the_place_where_it_belongs(tmp_path: Path) -> None:
    path = onnx_maker.two_layers(tmp_path / "two.onnx")
    missing = tmp_path / "weights" / "data.bin"
    missing.unlink()

    with pytest.raises(ModelError, match=r"external data file 'weights/data.bin' is missing; tensor 'w'") as caught:
        read_model(path)

    assert str(missing) in caught.value.advice


@pytest.mark.parametrize("location", ["../data.bin", "/etc/passwd", "C:\\data.bin", ""])
def test_external_data_outside_the_model_s_folder_is_refused(tmp_path: Path, location: str) -> None:
    path = onnx_maker.two_layers(tmp_path / "two.onnx")
    changed = onnx.load(path, load_external_data=False)
    changed.graph.initializer[0].external_data[0].value = location
    path.write_bytes(changed.SerializeToString())

    with pytest.raises(ModelError, match="outside the model's folder"):
        read_model(path)


def test_a_file_that_is_not_there_is_answered_with_the_models_that_are(tmp_path: Path) -> None:
    onnx_maker.save(onnx_maker.residual_block(), tmp_path / "block.onnx")

    with pytest.raises(ModelError, match="there is no file") as caught:
        read_model(tmp_path / "blok.onnx")

    assert "block.onnx" in caught.value.advice


def test_only_files_that_may_be_models_are_offered_instead(tmp_path: Path) -> None:
    onnx_maker.save(onnx_maker.residual_block(), tmp_path / "block.onnx")
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "other.tflite").symlink_to("gone.tflite")
    os.mkfifo(tmp_path / "pipe.tflite")

    with pytest.raises(ModelError, match="there is no file") as caught:
        read_model(tmp_path / "blok.onnx")

    assert caught.value.advice == f"in {tmp_path} there are: block.onnx"


def test_a_link_that_leads_nowhere_is_called_one_and_not_offered_instead_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.symlink_to("gone.onnx")

    with pytest.raises(ModelError, match=r"model\.onnx is a link to gone\.onnx, which is missing") as caught:
        read_model(path)

    assert caught.value.advice == "check the path"


@pytest.mark.timeout(20)
def test_a_pipe_is_refused_without_waiting_for_somebody_to_write_to_it(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    os.mkfifo(path)

    with pytest.raises(ModelError, match="is a pipe or a device"):
        read_model(path)


def test_a_device_is_not_a_model() -> None:
    with pytest.raises(ModelError, match="/dev/zero is a pipe or a device"):
        read_model(Path("/dev/zero"))


def test_a_file_whose_name_is_no_text_must_be_renamed(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"b\xff.onnx")
    onnx_maker.save(onnx_maker.residual_block(), path)

    with pytest.raises(ModelError, match=r"b\\udcff\.onnx: the file's name is not valid UTF-8") as caught:
        read_model(path)

    assert caught.value.advice == "rename the file"
    assert str(caught.value).isascii()


def test_a_damaged_tflite_file_is_told_once_and_in_words(tmp_path: Path) -> None:
    path = tmp_path / "trunc.tflite"
    path.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(30))

    with pytest.raises(ModelError) as caught:
        read_model(path)

    assert str(caught.value) == f"{path} is damaged or cut off: its 38 bytes point to places outside of them"


def test_the_example_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "example.onnx"
    write_example(path)
    (tmp_path / "folder.onnx").mkdir()

    with pytest.raises(OSError, match="Is a directory") as caught:
        write_example(tmp_path / "folder.onnx")

    assert caught.value.filename == str(tmp_path / "folder.onnx")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["example.onnx", "folder.onnx"]
    assert read_model(path).format == "onnx"


def test_a_missing_directory_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        read_model(tmp_path / "nowhere" / "block.onnx")

    assert "no directory" in caught.value.advice


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html>\n<html>Not found", "is a text file, not a model; it begins with '<!DOCTYPE html>'"),
        ("Modell f\u00fcr sp\u00e4ter".encode(), "is a text file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "is a Git LFS pointer"),
        (b"PK\x03\x04" + bytes(40), "is an archive"),
        (bytes(range(256)) * 8, "neither a TFLite nor a readable ONNX model"),
        (bytes(64), "neither a TFLite nor a readable ONNX model"),
        (b"\x1c\x00\x00\x00TFL3", "is damaged"),
    ],
)
@pytest.mark.parametrize("name", ["model.onnx", "model.tflite"])
def test_what_is_not_a_model_is_called_what_it_is(tmp_path: Path, name: str, content: bytes, complaint: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(ModelError, match=complaint) as caught:
        read_model(path)

    assert str(path) in str(caught.value)
    assert caught.value.advice


def test_a_directory_is_not_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a directory"):
        read_model(tmp_path)


def test_a_file_that_the_system_cannot_open_says_why(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.symlink_to(path)

    with pytest.raises(ModelError, match=r"cannot be read: Too many levels of symbolic links"):
        read_model(path)


@pytest.mark.parametrize("share", [0.001, 0.3, 0.9, 0.999])
def test_a_truncated_onnx_file_is_refused(models_dir: Path, tmp_path: Path, share: float) -> None:
    data = find(models_dir, "nmp.onnx").read_bytes()
    path = tmp_path / "cut.onnx"
    path.write_bytes(data[: int(len(data) * share)])

    with pytest.raises(ModelError, match="neither a TFLite nor a readable ONNX model"):
        read_model(path)


def test_flipped_bytes_in_an_onnx_file_give_a_model_or_a_model_error(models_dir: Path, tmp_path: Path) -> None:
    data = find(models_dir, "silero_vad_16k_op15.onnx").read_bytes()
    rng = np.random.default_rng(11)
    path = tmp_path / "flipped.onnx"
    outcomes = set()

    for _ in range(40):
        damaged = bytearray(data)
        for position in rng.integers(len(data) - 20_000, len(data), 3):
            damaged[position] = int(rng.integers(256))
        path.write_bytes(damaged)
        try:
            outcomes.add(read_model(path).format)
        except ModelError:
            outcomes.add("refused")

    assert outcomes == {"onnx", "refused"}


def test_content_decides_about_the_format_and_not_the_name(models_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(find(models_dir, "okay_nabu.tflite").read_bytes())

    assert read_model(path).format == "tflite"


def test_shapes_that_do_not_fit_are_the_model_s_error(models_dir: Path) -> None:
    with pytest.raises(ModelError, match=r"has 4 dimensions, but the shape given has 3") as caught:
        read_model(find(models_dir, "face_landmark.tflite"), {"input_1": (1, 192, 192)})

    assert "--shape NAME=1,3,224,224" in caught.value.advice


def test_a_batch_sets_dynamic_first_dimensions(models_dir: Path) -> None:
    dynamic = read_model(find(models_dir, "nmp.onnx"), batch=2)

    assert dynamic.graph.shape("serving_default_input_2:0") == (2, 43844, 1)


def test_a_batch_for_a_model_without_a_dynamic_first_dimension_is_refused_with_what_that_is(models_dir: Path) -> None:
    with pytest.raises(ModelError, match=r"the batch cannot be 2: .*input_1 1x192x192x3"):
        read_model(find(models_dir, "face_landmark.tflite"), batch=2)


def test_work_for_simulation_has_every_operator_that_runs(models_dir: Path) -> None:
    graph = read_model(find(models_dir, "face_detection_short_range.tflite")).graph

    listed = work(graph)

    assert len(listed) == 164 - 74
    assert sum(operator.macs for operator in listed) == sum(operator.macs or 0 for operator in graph.operators)
    assert len({operator.name for operator in listed}) == len(listed)


def test_work_takes_the_heavier_branch_of_an_if(models_dir: Path) -> None:
    path = find(models_dir, "silero_vad_16k_op15.onnx")
    graph = onnx_graph.read(path, {"input": (1, 576), "state": (2, 1, 128)})

    names = {operator.name for operator in work(graph)}

    branches = {name.split("/model/decoder/If_1/")[1].split("/")[0] for name in names if "/decoder/If_1/" in name}
    assert len(branches) == 1
